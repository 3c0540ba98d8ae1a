//! The tables of the paper on synthetic heads: what rows they have, how a row is run, and what came out.
//!
//! A row is the recipe of all rows with one point changed ([`Row::change`]). It is trained once for each seed, in the
//! folder of an ordinary run, and measured on heads that no row has learned from:
//!
//! ```text
//! ours/seed-0/        a run, as `relievo train` makes it
//! supervised/seed-0/
//! features.safetensors   self-supervised features, for the row that compares those
//! results.json        what was measured, row by row and seed by seed
//! ```
//!
//! Heads are split by their numbers: the recipe's `synthetic-count` heads but its last `validation` ones are learned
//! from, those are validated on, and the heads that follow are the test. Two tables share the rows they have in common.
//!
//! Source: Wu, Rupprecht and Vedaldi 2020, section 4 (tables 2 to 4). The figures that the paper gives for its own data
//! ([`Row::published`]) are not to be reached with these heads; they stand beside ours because their order should be
//! the same.

mod results;
mod run;

use clap::ValueEnum;
use relievo_model::{LightModel, Supervision};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

pub use results::{HeadCounts, Measured, Results, Spread, Summary};
pub use run::{RESULTS, ReproduceError, Reproduction, Task};

/// A table of the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// Ours, an upper bound with supervision, two baselines that know nothing
    Comparison,
    /// What each part of the method is good for
    Ablation,
    /// Images that are not symmetric, with and without confidence
    Perturbation,
}

impl Table {
    /// Its rows from top to bottom.
    pub fn rows(self) -> &'static [Row] {
        match self {
            Self::Comparison => &[Row::Ours, Row::Supervised, Row::ConstantDepth, Row::MeanDepth],
            Self::Ablation => &[
                Row::Ours,
                Row::NoAlbedoFlip,
                Row::NoDepthFlip,
                Row::ShadingMap,
                Row::NoPerceptualLoss,
                Row::SelfSupervisedFeatures,
                Row::NoConfidence,
            ],
            Self::Perturbation => &[Row::NoConfidence, Row::Ours, Row::PerturbedNoConfidence, Row::Perturbed],
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Comparison => "comparison",
            Self::Ablation => "ablation",
            Self::Perturbation => "perturbation",
        }
    }
}

/// A row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// The recipe as it is
    Ours,
    /// The depth network alone, learning the true depth in the image's own view: an upper bound
    Supervised,
    /// A plane that faces the camera
    ConstantDepth,
    /// The mean true depth of heads that are learned from
    MeanDepth,
    /// The albedo is not mirrored
    NoAlbedoFlip,
    /// The depth is not mirrored
    NoDepthFlip,
    /// Shading by a network of its own instead of by light and normals
    ShadingMap,
    /// Without the perceptual loss
    NoPerceptualLoss,
    /// The perceptual loss compares features that were learned without labels, from the same heads
    SelfSupervisedFeatures,
    /// Without confidence
    NoConfidence,
    /// A patch of colour before one side of each image
    Perturbed,
    /// A patch of colour before one side of each image, without confidence
    PerturbedNoConfidence,
}

/// The paper's figures on its own data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// Mean scale-invariant depth error times 100.
    pub side: f64,
    /// Mean angle deviation in degrees.
    pub mad: f64,
}

impl Row {
    /// Its name in paths, in the results and on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What a table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Supervised => "supervised",
            Self::ConstantDepth => "constant depth",
            Self::MeanDepth => "mean depth",
            Self::NoAlbedoFlip => "no albedo flip",
            Self::NoDepthFlip => "no depth flip",
            Self::ShadingMap => "shading map, no light",
            Self::NoPerceptualLoss => "no perceptual loss",
            Self::SelfSupervisedFeatures => "self-supervised features",
            Self::NoConfidence => "no confidence",
            Self::Perturbed => "perturbed",
            Self::PerturbedNoConfidence => "perturbed, no confidence",
        }
    }

    /// Whether there is something to train; baselines are measured only.
    pub fn learns(self) -> bool {
        !matches!(self, Self::ConstantDepth | Self::MeanDepth)
    }

    /// Changes the point of the recipe that makes the row. Self-supervised features are a file that [`Reproduction`]
    /// makes and names.
    pub fn change(self, settings: &mut Settings) {
        let Settings { model, data, .. } = settings;
        match self {
            Self::Ours | Self::ConstantDepth | Self::MeanDepth | Self::SelfSupervisedFeatures => {}
            Self::Supervised => {
                model.supervision = Supervision::Depth;
                // The upper bound is the L1 loss alone; smoothness is a prior for those who have no truth.
                model.smoothness_weight = 0.0;
            }
            Self::NoAlbedoFlip => model.flip_albedo = false,
            Self::NoDepthFlip => model.flip_depth = false,
            Self::ShadingMap => model.light = LightModel::ShadingMap,
            Self::NoPerceptualLoss => model.perceptual_weight = 0.0,
            Self::NoConfidence => model.confidence = false,
            Self::Perturbed => data.perturbed = true,
            Self::PerturbedNoConfidence => (data.perturbed, model.confidence) = (true, false),
        }
    }

    /// The paper's figures for this row on its own data, a model of scanned faces, where they are at hand.
    pub fn published(self) -> Option<Published> {
        let (side, mad) = match self {
            Self::Ours => (0.793, 16.51),
            Self::Supervised => (0.410, 10.78),
            Self::ConstantDepth => (2.723, 43.34),
            Self::MeanDepth => (1.990, 23.26),
            _ => return None,
        };
        Some(Published { side, mad })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_changes_the_recipe_in_its_own_way_and_makes_sense() {
        let recipe = Settings::default();
        let changed: Vec<Settings> = Row::value_variants()
            .iter()
            .filter(|row| row.learns() && ![Row::Ours, Row::SelfSupervisedFeatures].contains(row))
            .map(|row| {
                let mut settings = recipe.clone();
                row.change(&mut settings);
                settings.check().unwrap();
                settings
            })
            .collect();
        for (number, settings) in changed.iter().enumerate() {
            assert!(*settings != recipe && !changed[..number].contains(settings), "{number}");
        }
    }

    #[test]
    fn every_row_is_in_a_table_and_named_once() {
        let mut names: Vec<String> = Row::value_variants().iter().map(|row| row.name()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Row::value_variants().len());
        for row in Row::value_variants() {
            assert!(Table::value_variants().iter().any(|table| table.rows().contains(row)), "{row:?}");
            // The results name rows as the command line does.
            assert_eq!(serde_json::to_value(row).unwrap(), row.name());
        }
    }
}
