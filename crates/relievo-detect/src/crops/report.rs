//! The report of a set and its two images.

use std::path::{Path, PathBuf};

use relievo_data::{Images, LeftOut, Source};
use relievo_export::{Canvas, Chart, Sheet};
use serde::{Deserialize, Serialize};

use super::record::{Plan, Record, Summary, values};
use super::run::CropError;

/// What became of each input: the file's name.
pub const REPORT: &str = "report.json";

/// Crops on the contact sheet.
const SHEET_CROPS: u64 = 96;
const SHEET_COLUMNS: usize = 12;

/// Bars of a histogram.
const BARS: usize = 30;

/// The whole report.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report<'a> {
    pub plan: &'a Plan,
    pub summary: Summary,
    /// What was among the inputs and is none, but for files that are no images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<&'a LeftOut>,
    pub inputs: &'a [Record],
}

/// What is read of a report.
#[derive(Deserialize)]
pub(super) struct Reported {
    pub inputs: Vec<Record>,
}

/// So many of something, by its name in the singular.
fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Crops from all over the set that lies in some shards.
pub(super) fn sheet(shards: &[PathBuf], size: u32, summary: &Summary) -> Result<Canvas, CropError> {
    let set = Images::open(shards)?;
    let shown = summary.crops.min(SHEET_CROPS);
    let title = format!("{} from {}", counted(summary.crops, "face"), counted(summary.inputs, "photograph"));
    let mut sheet = Sheet::new(size.clamp(64, 128) as usize).title(title);
    let tiles: Vec<Canvas> = (0..shown)
        .map(|number| {
            let crop = set.image(number * set.len() / shown)?;
            Ok(Canvas::from_rgb8(&crop.pixels, crop.width as usize))
        })
        .collect::<Result<_, CropError>>()?;
    for row in tiles.chunks(SHEET_COLUMNS) {
        sheet.row("", row.iter().cloned());
    }
    Ok(sheet.draw())
}

/// How large the crops were in the photographs, and how far heads are turned, one below the other.
pub(super) fn histograms(records: &[Record]) -> Canvas {
    let sides = values(records, |face| face.place.crop.side);
    let widest = sides.iter().copied().fold(1.0, f32::max);
    let title = format!("side of {} in the photographs", counted(sides.len() as u64, "crop"));
    let sizes = Chart::new(&title, "pixels", "crops").curve("", outline(&sides, [0.0, widest]));
    let turned = values(records, |face| face.yaw.clamp(-90.0, 90.0));
    let yaws = Chart::new("yaw, from the landmarks", "degrees; positive: to the left of the image", "crops")
        .curve("", outline(&turned, [-90.0, 90.0]));
    let (width, height) = (900, 420);
    let mut canvas = Canvas::new(width, 2 * height, [255; 3]);
    canvas.paste(&sizes.draw(width, height), 0, 0);
    canvas.paste(&yaws.draw(width, height), 0, height);
    canvas
}

/// The outline of a histogram's bars.
fn outline(values: &[f32], [low, high]: [f32; 2]) -> Vec<[f64; 2]> {
    let mut bars = [0.0; BARS];
    for value in values {
        let bar = ((value - low) / (high - low) * BARS as f32).max(0.0) as usize;
        bars[bar.min(BARS - 1)] += 1.0;
    }
    let place = |bar: usize| f64::from(low) + f64::from(high - low) * bar as f64 / BARS as f64;
    let tops = bars.iter().enumerate().flat_map(|(bar, &top)| [[place(bar), top], [place(bar + 1), top]]);
    [[place(0), 0.0]].into_iter().chain(tops).chain([[place(BARS), 0.0]]).collect()
}

/// A JSON file of an earlier call.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, CropError> {
    let text = relievo_files::read_to_string(path)?;
    serde_json::from_str(&text)
        .map_err(|error| CropError::DamagedFile { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_count_what_falls_into_them() {
        let points = outline(&[0.0, 0.1, 29.9, 30.0, 15.0], [0.0, 30.0]);
        assert_eq!(points.len(), 2 * BARS + 2);
        assert_eq!((points[0], points[1], points[2]), ([0.0, 0.0], [0.0, 2.0], [1.0, 2.0]));
        assert_eq!((points[2 * BARS], points[2 * BARS + 1]), ([30.0, 2.0], [30.0, 0.0]));
        assert_eq!(points.iter().map(|point| point[1]).sum::<f64>(), 10.0);
    }
}
