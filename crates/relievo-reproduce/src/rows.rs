//! Tables and their rows: what each changes of the recipe, and the paper's figures for it.

use relievo_model::{LightModel, LossKind, LossList, Supervision};
use relievo_settings::choices;
use relievo_train::{Pairs, Settings};

/// Images of each head of a collection.
const COLLECTION: u64 = 4;

/// The factor on the differences between the sides of asymmetric heads: nobody would call them symmetric, and they do not
/// fold over themselves.
const ASYMMETRY: f32 = 4.0;

choices! {
    /// A table of a paper, or its question on synthetic heads.
    pub enum Table {
        /// Ours, an upper bound with supervision, two baselines without a model
        Comparison,
        /// The method without one part after the other
        Ablation,
        /// Images that are not symmetric, with and without confidence
        Perturbation,
        /// Learning from several images of one head (LeMul), on symmetric heads and on others
        Multi,
        /// Terms that compare the reconstruction with the image, and what they cost
        Losses,
    }
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
            Self::Multi => &[
                Row::Ours,
                Row::LemulMirror,
                Row::LemulCollection,
                Row::Asymmetric,
                Row::AsymmetricLemulMirror,
                Row::AsymmetricLemulCollection,
                Row::Together1,
                Row::Together2,
                Row::Together4,
                Row::Together8,
            ],
            Self::Losses => &[
                Row::Ours,
                Row::NoPerceptualLoss,
                Row::FilterBank,
                Row::FilterBankPhotometric,
                Row::LaplacianPyramid,
                Row::LaplacianPyramidGradients,
                Row::GradientsPhotometric,
                Row::SsimPhotometric,
                Row::MsSsimPhotometric,
                Row::CensusPhotometric,
                Row::FilterBankMsSsim,
                Row::FilterBankCensus,
                Row::Relu12Photometric,
                Row::Relu22Photometric,
            ],
        }
    }
}

choices! {
    /// A row of a table.
    #[derive(Hash)]
    pub enum Row {
        /// The recipe unchanged
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
        /// Shading from a network instead of from light and normals
        ShadingMap,
        /// Without the perceptual loss
        NoPerceptualLoss,
        /// The perceptual loss compares features that were learned without labels, from the same heads
        SelfSupervisedFeatures,
        /// Without confidence
        NoConfidence,
        /// A coloured patch over one side of each image
        Perturbed,
        /// A coloured patch over one side of each image, without confidence
        PerturbedNoConfidence,
        /// LeMul on each image and its mirror image
        LemulMirror,
        /// LeMul on two images of one head
        LemulCollection,
        /// Heads whose sides differ much
        Asymmetric,
        /// Heads whose sides differ much, LeMul on each image and its mirror image
        AsymmetricLemulMirror,
        /// Heads whose sides differ much, LeMul on two images of one head
        AsymmetricLemulCollection,
        /// Several images of each head, each explained by itself with the weights of `ours`
        Together1,
        /// Two images of each head explained by one depth and albedo, with the weights of `ours`
        Together2,
        /// Four images
        Together4,
        /// Eight images
        Together8,
        /// The filter bank alone compares the reconstruction with the image
        FilterBank,
        /// The filter bank beside the photometric loss, without the perceptual one, as in the rows below
        FilterBankPhotometric,
        /// The bands of a Laplacian pyramid alone
        LaplacianPyramid,
        /// The bands of a Laplacian pyramid and differences of neighbours
        LaplacianPyramidGradients,
        /// Differences of neighbours and the photometric loss
        GradientsPhotometric,
        /// Structural similarity and the photometric loss
        SsimPhotometric,
        /// Structural similarity at several scales and the photometric loss
        MsSsimPhotometric,
        /// The census distance and the photometric loss
        CensusPhotometric,
        /// The filter bank and structural similarity at several scales
        FilterBankMsSsim,
        /// The filter bank and the census distance
        FilterBankCensus,
        /// VGG16's features after relu1_2 and the photometric loss
        Relu12Photometric,
        /// VGG16's features after relu2_2 and the photometric loss
        Relu22Photometric,
    }
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
    /// Its title in a table.
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
            Self::LemulMirror => "LeMul, mirror pairs",
            Self::LemulCollection => "LeMul, collections",
            Self::Asymmetric => "asymmetric",
            Self::AsymmetricLemulMirror => "asymmetric, mirror pairs",
            Self::AsymmetricLemulCollection => "asymmetric, collections",
            Self::Together1 => "ours, 1 image fitted",
            Self::Together2 => "ours, 2 images together",
            Self::Together4 => "ours, 4 images together",
            Self::Together8 => "ours, 8 images together",
            Self::FilterBank => "filters",
            Self::FilterBankPhotometric => "filters, photometric",
            Self::LaplacianPyramid => "pyramid",
            Self::LaplacianPyramidGradients => "pyramid, gradients",
            Self::GradientsPhotometric => "gradients, photometric",
            Self::SsimPhotometric => "SSIM, photometric",
            Self::MsSsimPhotometric => "MS-SSIM, photometric",
            Self::CensusPhotometric => "census, photometric",
            Self::FilterBankMsSsim => "filters, MS-SSIM",
            Self::FilterBankCensus => "filters, census",
            Self::Relu12Photometric => "relu1_2, photometric",
            Self::Relu22Photometric => "relu2_2, photometric",
        }
    }

    /// Whether it has weights; baselines have none.
    pub fn learns(self) -> bool {
        !matches!(self, Self::ConstantDepth | Self::MeanDepth)
    }

    /// The row whose weights it has: another one's if it differs in how it is measured only.
    pub fn trained_as(self) -> Self {
        if self.together().is_some() { Self::Ours } else { self }
    }

    /// The terms that stand in the place of the perceptual loss, or of both losses; none in other rows.
    fn terms(self) -> &'static [LossKind] {
        match self {
            Self::FilterBank => &[LossKind::FilterBank],
            Self::FilterBankPhotometric => &[LossKind::FilterBank, LossKind::Photometric],
            Self::LaplacianPyramid => &[LossKind::LaplacianPyramid],
            Self::LaplacianPyramidGradients => &[LossKind::LaplacianPyramid, LossKind::GradientDifference],
            Self::GradientsPhotometric => &[LossKind::GradientDifference, LossKind::Photometric],
            Self::SsimPhotometric => &[LossKind::Ssim, LossKind::Photometric],
            Self::MsSsimPhotometric => &[LossKind::MsSsim, LossKind::Photometric],
            Self::CensusPhotometric => &[LossKind::Census, LossKind::Photometric],
            Self::FilterBankMsSsim => &[LossKind::FilterBank, LossKind::MsSsim],
            Self::FilterBankCensus => &[LossKind::FilterBank, LossKind::Census],
            Self::Relu12Photometric => &[LossKind::VggRelu12, LossKind::Photometric],
            Self::Relu22Photometric => &[LossKind::VggRelu22, LossKind::Photometric],
            _ => &[],
        }
    }

    /// Images of one head that are explained together before they are measured.
    pub(crate) fn together(self) -> Option<usize> {
        match self {
            Self::Together1 => Some(1),
            Self::Together2 => Some(2),
            Self::Together4 => Some(4),
            Self::Together8 => Some(8),
            _ => None,
        }
    }

    /// Changes the setting of the recipe that makes the row. Self-supervised features are a file that
    /// [`Reproduction`](crate::Reproduction) makes and names.
    pub(crate) fn change(self, settings: &mut Settings) {
        if !self.terms().is_empty() {
            return compare_by(settings, self.terms());
        }
        let Settings { model, data, .. } = settings;
        match self {
            Self::Ours
            | Self::ConstantDepth
            | Self::MeanDepth
            | Self::SelfSupervisedFeatures
            | Self::Together1
            | Self::Together2
            | Self::Together4
            | Self::Together8 => {}
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
            Self::Asymmetric => data.asymmetry = ASYMMETRY,
            Self::LemulMirror => learn_from_pairs(settings, Pairs::Mirror),
            Self::LemulCollection => learn_from_pairs(settings, Pairs::Collection),
            Self::AsymmetricLemulMirror => {
                data.asymmetry = ASYMMETRY;
                learn_from_pairs(settings, Pairs::Mirror);
            }
            Self::AsymmetricLemulCollection => {
                data.asymmetry = ASYMMETRY;
                learn_from_pairs(settings, Pairs::Collection);
            }
            // Those with terms, above.
            _ => {}
        }
    }

    /// The paper's figures for this row on its own data, a model of scanned faces, if it gives them.
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

/// Replaces what compares the reconstruction with the image by some terms, each with weight 1.
fn compare_by(settings: &mut Settings, terms: &[LossKind]) {
    let listed = terms.iter().map(|kind| (*kind, 1.0));
    let without = (!terms.contains(&LossKind::Photometric)).then_some((LossKind::Photometric, 0.0));
    settings.model.perceptual_weight = 0.0;
    settings.model.loss = LossList::of(&listed.chain(without).collect::<Vec<_>>());
}

/// Makes the method LeMul, with what belongs to it. A step sees as many images as the recipe's: a pair is two.
fn learn_from_pairs(settings: &mut Settings, pairs: Pairs) {
    let Settings { model, data, train, .. } = settings;
    *model = model.clone().with_lemul();
    data.pairs = pairs;
    if pairs == Pairs::Collection {
        data.synthetic_images = COLLECTION;
    }
    train.batch_size = (train.batch_size / 2).max(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_changes_the_recipe_in_its_own_way_and_makes_sense() {
        let recipe = Settings::default();
        let changed: Vec<Settings> = Row::ALL
            .iter()
            .filter(|row| row.learns() && row.trained_as() == **row)
            .filter(|row| ![Row::Ours, Row::SelfSupervisedFeatures].contains(row))
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
    fn every_row_is_in_a_table() {
        for row in Row::ALL {
            assert!(Table::ALL.iter().any(|table| table.rows().contains(row)), "{row:?}");
        }
    }
}
