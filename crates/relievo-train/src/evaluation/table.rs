//! What was measured, in words.

use std::fmt::{self, Write as _};

use relievo_model::Loss;

use super::{AngleErrors, Comparison, Evaluation, Scores, Viewpoint};
use crate::metrics::Statistic;

impl fmt::Display for Evaluation {
    /// A table for a person, of at most 80 columns, without a line break at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&table(self))
    }
}

fn table(evaluation: &Evaluation) -> String {
    let images = if evaluation.images == 1 { "image" } else { "images" };
    let mut text = format!("{} {images}: {}\n", evaluation.images, evaluation.source);
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
            "  {:.1} % of its pixels covered by no surface: there, depth is continued",
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
