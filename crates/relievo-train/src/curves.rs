//! How a run went, drawn from its log: losses, and errors beside the baseline where the true depth is known.

use std::io;
use std::path::Path;

use relievo_export::{Canvas, Chart};
use serde_json::Value;

const WIDTH: usize = 900;
const CHART_HEIGHT: usize = 380;

/// The charts of the log at `metrics`, one below the other: the training loss and the loss held out; then, if the
/// images held out have true depth, SIDE and MAD of the model and of a constant depth, with the prediction in the
/// mask. A log without a validation gives the losses alone. Lines that are no JSON are passed over.
///
/// # Errors
/// If the log cannot be read.
pub fn curves(metrics: &Path) -> io::Result<Canvas> {
    let text = std::fs::read_to_string(metrics)?;
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let points = |kind: &str, path: &str, factor: f64| -> Vec<[f64; 2]> {
        let of_kind = lines.iter().filter(|line| line["kind"] == kind);
        of_kind
            .filter_map(|line| Some([line["step"].as_f64()?, factor * line.pointer(path)?.as_f64()?]))
            .collect()
    };
    let error = |who: &str, what: &str, factor: f64| {
        // Version 0.1 wrote `in-sight`; a run that goes on has lines of both.
        let of = |pixels: &str| points("validation", &format!("/{pixels}/{who}/{what}/mean"), factor);
        [of("in-sight"), of("visible")].concat()
    };
    let mut charts = vec![
        Chart::new("loss", "step", "total")
            .curve("training", points("step", "/total", 1.0))
            .curve("held out", points("validation", "/losses/total", 1.0)),
    ];
    for (title, unit, what, factor) in [
        ("error in depth, held out", "SIDE x 100", "depth-error", 100.0),
        ("error in normals, held out", "MAD in degrees", "normal-error", 1.0),
    ] {
        let model = error("model", what, factor);
        if !model.is_empty() {
            let constant = error("constant-depth", what, factor);
            charts.push(
                Chart::new(title, "step", unit).curve("model", model).curve("constant depth", constant),
            );
        }
    }
    let mut sheet = Canvas::new(WIDTH, charts.len() * CHART_HEIGHT, [255; 3]);
    for (index, chart) in charts.iter().enumerate() {
        sheet.paste(&chart.draw(WIDTH, CHART_HEIGHT), 0, index * CHART_HEIGHT);
    }
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_charts_as_the_log_has_kinds_of_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = folder.path().join("metrics.jsonl");
        assert!(curves(&metrics).is_err());
        let steps = r#"{"kind":"step","step":1,"total":2.0}
            {"kind":"step","step":2,"total":1.5}
        "#;
        std::fs::write(&metrics, steps).unwrap();
        assert_eq!(curves(&metrics).unwrap().height(), CHART_HEIGHT);
        let score = r#"{"depth-error":{"mean":0.02},"normal-error":{"mean":30.0}}"#;
        for pixels in ["in-sight", "visible"] {
            let validation = format!(
                r#"{{"kind":"validation","step":2,"losses":{{"total":1.6}},"{pixels}":{{"model":{score},"constant-depth":{score}}}}}"#
            );
            std::fs::write(&metrics, format!("{steps}{validation}\nnot JSON")).unwrap();
            assert_eq!(curves(&metrics).unwrap().height(), 3 * CHART_HEIGHT);
        }
        let drawn = curves(&metrics).unwrap();
        // Something in colour has been drawn in each.
        for chart in drawn.bytes().chunks(WIDTH * CHART_HEIGHT * 3) {
            assert!(chart.chunks(3).any(|pixel| pixel[2] > pixel[0].saturating_add(60)));
        }
    }
}
