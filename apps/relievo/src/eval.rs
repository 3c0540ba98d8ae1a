//! `relievo eval`: how good a model is, beside the baselines of the paper.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{bail, ensure};
use clap::Args;
use relievo_data::{Registry, SYNTHETIC, Source, SourceSpec};
use relievo_model::ComputeSettings;
use relievo_synth::{Heads, Variation};
use relievo_train::{EvaluationOptions, evaluate_beside};

use crate::console::Console;
use crate::synth::{MOST, MOST_HEADS, asymmetry};
use crate::{sources, weights};

/// Heads that the mean depth is the mean of: of this seed, which `--seed` does not take.
const MEAN_SEED: u64 = u64::MAX;
const MEAN_HEADS: u64 = 256;

/// The most images of each head.
const MOST_IMAGES: u64 = 64;

/// Print the errors of a model beside those of the baselines of the paper
///
/// On synthetic heads, whose true depth is known, it prints
///   SIDE         scale-invariant depth error: the standard deviation of the
///                logarithm of predicted over true depth
///   MAD          mean angle between predicted and true normals
///   correlation  of predicted with true depth; below 0, the nose is farther
///                than the cheeks
/// for the model, for a constant depth and for the mean depth of other heads:
/// first over the pixels of the head that the model sees too, then over all of
/// them. Errors of the viewpoint follow. Each model has its own frontal pose, so
/// constant differences do not count; a slope below 1 means that turns are found
/// smaller than they are.
///
/// On images whose depth is not known, it prints the losses and the error of the
/// reconstruction.
///
/// Measure on images that the model has not learned from: heads of another seed
/// than that of its training (0 by default), or what its run held out
/// (--held-out).
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Folders of images or .tar files, or the word `synthetic` [default: synthetic]
    #[arg(value_name = "SOURCE")]
    source: Vec<SourceSpec>,
    /// Weights file, folder of a training run, or weights in the program: faces,
    /// faces-synthetic, cats [default: faces]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Number of synthetic heads [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_HEADS))]
    count: Option<u64>,
    /// Seed of the synthetic heads [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..MEAN_SEED))]
    seed: Option<u64>,
    /// Number of the first synthetic head [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=MOST))]
    start: Option<u64>,
    /// Images of each synthetic head, with other expressions, viewpoints and lights [default: that of --together]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=MOST_IMAGES))]
    images: Option<u64>,
    /// Explain so many images of each synthetic head together, by one depth and albedo
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MOST_IMAGES))]
    together: u64,
    /// Factor on the differences between the sides of synthetic heads [default: 1]
    #[arg(long, value_name = "FACTOR", value_parser = asymmetry)]
    asymmetry: Option<f32>,
    /// Measure on the images that the model's run held out. SOURCE must be what the run was given; without it, the sources
    /// of the run are read where they were then
    #[arg(long, conflicts_with_all = ["count", "seed", "start", "images", "together", "asymmetry"])]
    held_out: bool,
    /// Refine the prediction for each image in so many steps before it is measured; losses are always those of the networks'
    /// own prediction
    #[arg(long, value_name = "STEPS", default_value_t = 0, value_parser = clap::value_parser!(u16))]
    refine: u16,
    /// Also write all numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Computing")]
    compute: ComputeSettings,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let weights::Loaded { model, origin, provenance, .. } =
        weights::placed(options.model.as_deref(), &options.compute)?;
    let how = EvaluationOptions {
        losses: true,
        reconstruction: true,
        refine: options.refine.into(),
        together: options.together as usize,
        ..EvaluationOptions::default()
    };
    let source: Arc<dyn Source> = if options.held_out {
        let Some(provenance) = provenance else {
            bail!("{origin} does not say in which run it was trained, so not what that held out");
        };
        provenance.held_out(&options.source, &sources::registry())?
    } else if options.source.is_empty() || options.source == [SourceSpec::registered(SYNTHETIC)] {
        let &Options { count, seed, start, together, .. } = options;
        let images = options.images.unwrap_or(together);
        ensure!(
            images.is_multiple_of(together),
            "--together {together} takes {images} images of each head in groups: give --images a multiple of it"
        );
        let heads = Heads::range(seed.unwrap_or(1), start.unwrap_or(0), count.unwrap_or(512));
        let usual = Variation::default();
        let asymmetry = options.asymmetry.unwrap_or(usual.asymmetry);
        Arc::new(heads.images_of_each(images).varied(Variation { asymmetry, ..usual }))
    } else {
        let of_heads = [options.count, options.seed, options.start, options.images];
        ensure!(
            of_heads.iter().all(Option::is_none) && options.asymmetry.is_none() && options.together == 1,
            "--count, --seed, --start, --images, --together and --asymmetry are for synthetic heads, not for images: leave \
             them out"
        );
        ensure!(
            !options.source.iter().any(SourceSpec::is_registered),
            "images and synthetic heads are measured one after the other: two calls"
        );
        Registry::default().open(&(), &options.source)?
    };
    let evaluation = evaluate_beside(&model, &source, &other_heads(), how)?;
    console.result(&evaluation);
    if let Some(path) = &options.json {
        evaluation.write_json(path)?;
    }
    Ok(())
}

/// What the mean depth is the mean of.
pub fn other_heads() -> Arc<dyn Source> {
    Arc::new(Heads::range(MEAN_SEED, 0, MEAN_HEADS))
}
