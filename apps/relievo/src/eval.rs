//! `relievo eval`: how good a model is, beside the baselines of the paper.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{bail, ensure};
use clap::Args;
use relievo_data::{LoaderOptions, Registry, SYNTHETIC, Source, SourceSpec};
use relievo_files::write_atomic;
use relievo_model::{ComputeSettings, Loss, Model};
use relievo_synth::Heads;
use relievo_train::metrics::Statistic;
use relievo_train::{
    AngleErrors, Comparison, Evaluation, EvaluationOptions, Scores, Viewpoint, evaluate, mean_depth,
};

use crate::console::{Console, counted};
use crate::synth::{MOST, MOST_HEADS};
use crate::{sources, weights};

/// Heads that the mean depth is the mean of: of this seed, which `--seed` does not take.
const MEAN_SEED: u64 = u64::MAX;
const MEAN_HEADS: u64 = 256;

/// Images that go through the networks together.
const BATCH: usize = 16;

/// Print the errors of a model beside those of the baselines of the paper
///
/// On synthetic heads, whose depth is known: SIDE, the scale-invariant depth
/// error (standard deviation of the logarithm of the depth ratio), MAD, the mean
/// angle between the normals, and the correlation of depth (below 0 the nose is
/// farther than the cheeks); beside them a constant depth and the mean depth of
/// other heads. Over the pixels of the head, less one at its rim, where the
/// model sees it too, and over all of them. Then the errors of the viewpoint: what
/// a model calls frontal is its own choice, so constant differences do not count,
/// and a slope below 1 means that turns are found smaller than they are. On
/// images without known depth: the losses and the error of the reconstruction.
///
/// Take what the model has not learned from: heads of another seed than that of
/// its training (0, if nothing else was said), or what its run held out
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
    /// Measure on what the model's run held out of SOURCE, which must be what the run was given; without SOURCE, of the
    /// folders and files that the run was given, where they were then
    #[arg(long, conflicts_with_all = ["count", "seed", "start"])]
    held_out: bool,
    /// First refine what the networks say of each image in so many steps; the losses stay theirs
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
    let how =
        EvaluationOptions { losses: true, reconstruction: true, refine: options.refine.into(), ..usual() };
    let source: Arc<dyn Source> = if options.held_out {
        let Some(provenance) = provenance else {
            bail!("{origin} does not say in which run it was trained, so not what that held out");
        };
        provenance.held_out(&options.source, &sources::registry())?
    } else if options.source.is_empty() || options.source == [SourceSpec::registered(SYNTHETIC)] {
        let &Options { count, seed, start, .. } = options;
        Arc::new(Heads::range(seed.unwrap_or(1), start.unwrap_or(0), count.unwrap_or(512)))
    } else {
        let of_heads = [options.count, options.seed, options.start].iter().any(Option::is_some);
        ensure!(
            !of_heads,
            "--count, --seed and --start are for synthetic heads, not for images: leave them out"
        );
        ensure!(
            !options.source.iter().any(SourceSpec::is_registered),
            "images and synthetic heads are measured one after the other: two calls"
        );
        Registry::default().open(&(), &options.source)?
    };
    let evaluation = measured(&model, &source, how)?;
    console.result(table(&evaluation));
    if let Some(path) = &options.json {
        write_json(&evaluation, path)?;
    }
    Ok(())
}

pub fn write_json(evaluation: &Evaluation, path: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(evaluation)?;
    write_atomic(path, |file| writeln!(file, "{text}"))?;
    Ok(())
}

/// What is asked for, and where the depth is known the mean depth of other heads beside it.
pub fn measured(
    model: &Model,
    source: &Arc<dyn Source>,
    mut how: EvaluationOptions,
) -> anyhow::Result<Evaluation> {
    let size = model.settings().image_size;
    // Heads come behind images.
    let last = source.len().checked_sub(1).and_then(|last| source.sample(last, size as u32).ok());
    if last.is_some_and(|sample| sample.truth.is_some()) {
        let others: Arc<dyn Source> = Arc::new(Heads::range(MEAN_SEED, 0, MEAN_HEADS));
        how.mean_depth = Some(mean_depth(&others, size, workers())?);
    }
    Ok(evaluate(model, source, &how)?)
}

/// The errors in depth alone.
pub fn usual() -> EvaluationOptions {
    EvaluationOptions::new(BATCH, workers())
}

fn workers() -> usize {
    LoaderOptions::new(BATCH, 1).workers
}

/// What was measured, for a person.
pub fn table(evaluation: &Evaluation) -> String {
    let mut text = format!("{}: {}\n", counted(evaluation.images, "image"), evaluation.source);
    if evaluation.skipped > 0 {
        let _ = writeln!(text, "{} more could not be used", evaluation.skipped);
    }
    if let Some(losses) = &evaluation.losses {
        let _ = writeln!(text, "loss {:.3}", losses.total);
        for group in Loss::GROUPS.iter().filter(|group| group.losses.iter().any(|loss| losses[*loss] != 0.0))
        {
            let values = group.losses.iter().map(|loss| format!("{} {:.3}", loss.name(), losses[*loss]));
            let _ = writeln!(text, "  {}", values.collect::<Vec<_>>().join(", "));
        }
    }
    if let Some(error) = evaluation.reconstruction {
        let _ = writeln!(text, "reconstruction: mean error {error:.3} of colours from -1 to 1");
    }
    for (place, comparison) in
        [("where the model sees the head", &evaluation.visible), ("the whole head", &evaluation.whole)]
    {
        if let Some(comparison) = comparison {
            let _ = write!(text, "\n{}", errors(place, comparison));
        }
    }
    if let Some(share) = evaluation.uncovered.filter(|share| *share > 0.0) {
        let _ = writeln!(
            text,
            "  {:.1} % of its pixels covered by no surface, so taken as far behind",
            100.0 * share
        );
    }
    if let Some(Viewpoint { pitch, yaw, roll }) = evaluation.viewpoint {
        let _ = writeln!(
            text,
            "\n{:<30} {:>14} {:>14} {:>11}",
            "viewpoint, degrees", "error", "true spread", "slope"
        );
        for (name, AngleErrors { error, spread, slope }) in [("yaw", yaw), ("pitch", pitch), ("roll", roll)] {
            let _ = writeln!(text, "  {name:<28} {error:>14.1} {spread:>14.1} {slope:>11.2}");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn errors(place: &str, comparison: &Comparison) -> String {
    let mut text = format!("{place:<30} {:>14} {:>14} {:>11}\n", "SIDE x 100", "MAD, degrees", "correlation");
    let rows = [
        ("  model", Some(&comparison.model)),
        ("  constant depth", Some(&comparison.constant_depth)),
        ("  mean depth of heads", comparison.mean_depth.as_ref()),
    ];
    for (name, scores) in rows {
        let Some(Scores { depth_error, normal_error, correlation, .. }) = scores else { continue };
        let _ = writeln!(
            text,
            "{name:<30} {:>14} {:>14} {:>11}",
            spread(depth_error.as_ref(), 100.0, 2),
            spread(normal_error.as_ref(), 1.0, 1),
            correlation.map_or_else(|| "-".to_owned(), |c| format!("{:.2}", c.mean)),
        );
    }
    if let Some(share) = comparison.model.right_way_round {
        let _ = writeln!(text, "  {:.0} % of the depths the right way round", 100.0 * share);
    }
    text
}

/// Mean and standard deviation over the images.
fn spread(statistic: Option<&Statistic>, unit: f64, digits: usize) -> String {
    statistic.map_or_else(
        || "-".to_owned(),
        |s| format!("{:.digits$} ±{:.digits$}", unit * s.mean, unit * s.standard_deviation),
    )
}
