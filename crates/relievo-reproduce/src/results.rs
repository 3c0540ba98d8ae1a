//! Measurements, in a file, and their means for a table.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relievo_files::write_durable;
use relievo_train::Scores;
use relievo_train::metrics::Statistic;
use serde::{Deserialize, Serialize};

use crate::error::ReproduceError;
use crate::rows::{Row, Table};

/// The split of the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HeadCounts {
    /// Learned from: the first ones.
    pub training: u64,
    /// Validated on: those after.
    pub validation: u64,
    /// Measured on: those after.
    pub test: u64,
}

/// One row and seed, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measured {
    /// The row.
    pub row: Row,
    /// The seed of the training; a baseline has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Optimiser steps taken; 0 for a baseline.
    pub steps: u64,
    /// Hours of training.
    pub hours: f64,
    /// The device it ran on.
    pub device: String,
    /// The day of the measurement, as year-month-day (UTC).
    pub date: String,
    /// The split.
    pub heads: HeadCounts,
    /// A checksum over all settings that affect the numbers, except the number of steps.
    pub recipe: String,
    /// Errors over the paper's mask: the intersection of the true foreground and the prediction's. A baseline covers the
    /// whole image.
    #[serde(alias = "in-sight")]
    pub visible: Scores,
    /// Errors over the whole true foreground.
    pub whole: Scores,
    /// Mean absolute error of the reconstruction within the predicted mask, over colours from -1 to 1; of a row that
    /// reconstructs images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconstruction: Option<f64>,
    /// Median milliseconds of a step; not of a baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
    /// Errors at each validation on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validations: Vec<Validated>,
}

/// Errors of a model on the way, on the heads that are validated on, by the paper's mask.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Validated {
    /// Steps taken before.
    pub step: u64,
    /// Mean scale-invariant depth error.
    pub side: f64,
    /// Mean angle deviation in degrees.
    pub mad: f64,
}

impl Measured {
    /// Milliseconds of all steps, at the median's rate: what else the machine does has no part in it.
    fn duration(&self) -> Option<f64> {
        Some(self.milliseconds? * self.steps as f64)
    }

    /// SIDE and MAD after so many milliseconds of steps, between validations linear; `None` before the first one.
    fn after(&self, milliseconds: f64) -> Option<[f64; 2]> {
        let step = milliseconds / self.milliseconds?;
        let next = self.validations.partition_point(|at| (at.step as f64) < step);
        let of = |at: &Validated| [at.side, at.mad];
        // The last step may lie a rounding before.
        let (Some(before), Some(after)) = (next.checked_sub(1), self.validations.get(next)) else {
            let last = self.validations.last().filter(|_| next > 0)?;
            return Some(of(last));
        };
        let [before, after] = [&self.validations[before], after];
        let share = (step - before.step as f64) / (after.step - before.step) as f64;
        let [from, to] = [of(before), of(after)];
        Some([0, 1].map(|at| from[at] + share * (to[at] - from[at])))
    }
}

/// All measurements in a folder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Results {
    /// In the order in which they were made.
    pub results: Vec<Measured>,
}

impl Results {
    /// Reads the results; none if there is no such file.
    ///
    /// # Errors
    /// If the file cannot be read or is no such file.
    pub(crate) fn read(path: &Path) -> Result<Self, ReproduceError> {
        let unreadable = |reason: String| ReproduceError::Results { path: path.to_owned(), reason };
        match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(unreadable(error.to_string())),
            Ok(text) => serde_json::from_str(&text).map_err(|error| unreadable(error.to_string())),
        }
    }

    /// Writes them, whole or not at all.
    pub(crate) fn write(&self, path: PathBuf) -> Result<(), ReproduceError> {
        let text = serde_json::to_string_pretty(self).expect("results are plain numbers and names");
        Ok(write_durable(path, |file| writeln!(file, "{text}"))?)
    }

    /// Adds a measurement, in place of an earlier one of that row and seed.
    pub(crate) fn add(&mut self, measured: Measured) {
        self.results.retain(|old| (old.row, old.seed) != (measured.row, measured.seed));
        self.results.push(measured);
    }

    /// The lines of a table: for each row the means over the seeds that share number of steps, recipe and split. A row
    /// that was not measured has no line.
    pub fn summaries(&self, table: Table) -> Vec<Summary> {
        let of_table = self.results.iter().filter(|of| table.rows().contains(&of.row));
        let shortest = of_table.filter_map(Measured::duration).min_by(f64::total_cmp);
        let mut summaries = Vec::new();
        for row in table.rows() {
            let mut rest: Vec<&Measured> = self.results.iter().filter(|of| of.row == *row).collect();
            while let Some(first) = rest.first().copied() {
                let alike = |of: &&Measured| {
                    (of.steps, of.heads, &of.recipe) == (first.steps, first.heads, &first.recipe)
                };
                let (group, others) = rest.into_iter().partition(alike);
                rest = others;
                summaries.push(Summary::from_group(&group, shortest));
            }
        }
        summaries
    }
}

/// A mean over seeds and their deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, estimated from the seeds; `None` of a single one.
    pub deviation: Option<f64>,
}

impl Spread {
    /// The mean and deviation of some numbers; `None` without any.
    fn from_numbers(numbers: &[f64]) -> Option<Self> {
        let Statistic { mean, standard_deviation, images: count } = Statistic::from_numbers(numbers)?;
        let count = count as f64;
        let deviation = (count > 1.0).then(|| standard_deviation * (count / (count - 1.0)).sqrt());
        Some(Self { mean, deviation })
    }
}

/// A line of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The row.
    pub row: Row,
    /// Seeds taken together; 0 for a baseline.
    pub seeds: u64,
    /// Optimiser steps of each.
    pub steps: u64,
    /// Mean hours of training.
    pub hours: f64,
    /// The devices they ran on, each once.
    pub devices: Vec<String>,
    /// The day of the last of them.
    pub date: String,
    /// The split.
    pub heads: HeadCounts,
    /// Scale-invariant depth error by the paper's mask.
    pub side: Option<Spread>,
    /// Mean angle deviation by the paper's mask, in degrees.
    pub mad: Option<Spread>,
    /// Scale-invariant depth error over the whole true foreground.
    pub whole_side: Option<Spread>,
    /// Mean angle deviation over the whole true foreground, in degrees.
    pub whole_mad: Option<Spread>,
    /// Error of the reconstruction.
    pub reconstruction: Option<Spread>,
    /// Milliseconds of a step.
    pub milliseconds: Option<Spread>,
    /// SIDE and MAD on the heads that are validated on, when the row had learned as long as the quickest run of the table
    /// takes for all of its steps.
    pub at_equal_time: [Option<Spread>; 2],
}

impl Summary {
    /// The mean of the measurements of one row; `group` is not empty.
    fn from_group(group: &[&Measured], shortest: Option<f64>) -> Self {
        let first = group[0];
        let spread = |number: &dyn Fn(&Measured) -> Option<Statistic>| {
            let means: Vec<f64> =
                group.iter().filter_map(|of| number(of)).map(|number| number.mean).collect();
            Spread::from_numbers(&means)
        };
        let plain = |number: &dyn Fn(&Measured) -> Option<f64>| {
            Spread::from_numbers(&group.iter().filter_map(|of| number(of)).collect::<Vec<_>>())
        };
        let at_equal_time = [0, 1].map(|of| plain(&|measured| Some(measured.after(shortest?)?[of])));
        let mut devices: Vec<String> = group.iter().map(|of| of.device.clone()).collect();
        devices.sort();
        devices.dedup();
        Self {
            row: first.row,
            seeds: group.iter().filter(|of| of.seed.is_some()).count() as u64,
            steps: first.steps,
            hours: group.iter().map(|of| of.hours).sum::<f64>() / group.len() as f64,
            devices,
            date: group.iter().map(|of| of.date.clone()).max().unwrap_or_default(),
            heads: first.heads,
            side: spread(&|of| of.visible.depth_error),
            mad: spread(&|of| of.visible.normal_error),
            whole_side: spread(&|of| of.whole.depth_error),
            whole_mad: spread(&|of| of.whole.normal_error),
            reconstruction: plain(&|of| of.reconstruction),
            milliseconds: plain(&|of| of.milliseconds),
            at_equal_time,
        }
    }
}

/// Today as year-month-day (UTC).
pub(crate) fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    date(since.as_secs() / (24 * 60 * 60))
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar.
fn date(days: u64) -> String {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970 + 400 * (days / DAYS_OF_400_YEARS);
    let mut days = days % DAYS_OF_400_YEARS;
    let length = |year| if is_leap(year) { 366 } else { 365 };
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for of_month in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < of_month {
            break;
        }
        days -= of_month;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_the_dates_of_the_calendar() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_783, "2026-11-26"),
            (365, "1971-01-01"),
        ] {
            assert_eq!(date(days), expected);
        }
        assert_eq!(date(47_540), "2100-02-28");
        assert_eq!(date(47_541), "2100-03-01");
    }

    fn measured(row: Row, seed: u64, steps: u64, side: f64) -> Measured {
        let statistic = |mean| Some(Statistic { mean, standard_deviation: 0.1, images: 9 });
        let scores = |side| Scores {
            depth_error: statistic(side),
            normal_error: statistic(20.0),
            ..Scores::default()
        };
        Measured {
            row,
            seed: row.learns().then_some(seed),
            steps,
            hours: 1.0,
            device: "cpu".into(),
            date: format!("2026-11-{:02}", 10 + seed),
            heads: HeadCounts { training: 100, validation: 10, test: 9 },
            recipe: "a".into(),
            visible: scores(side),
            whole: scores(2.0 * side),
            reconstruction: None,
            milliseconds: None,
            validations: Vec::new(),
        }
    }

    #[test]
    fn a_line_is_the_mean_over_seeds_of_one_schedule() {
        let mut results = Results::default();
        for (seed, side) in [(0, 0.01), (1, 0.02), (2, 0.03)] {
            results.add(measured(Row::Ours, seed, 100, side));
        }
        results.add(measured(Row::ConstantDepth, 0, 0, 0.05));
        results.add(measured(Row::Supervised, 0, 100, 0.005));
        let lines = results.summaries(Table::Comparison);
        assert_eq!(
            lines.iter().map(|line| line.row).collect::<Vec<_>>(),
            [Row::Ours, Row::Supervised, Row::ConstantDepth]
        );
        let side = lines[0].side.unwrap();
        assert!((side.mean - 0.02).abs() < 1e-12 && (side.deviation.unwrap() - 0.01).abs() < 1e-12);
        assert!((lines[0].whole_side.unwrap().mean - 0.04).abs() < 1e-12);
        assert_eq!((lines[0].seeds, lines[0].date.as_str()), (3, "2026-11-12"));
        assert_eq!((lines[2].seeds, lines[2].side.unwrap().deviation), (0, None));
        // Another schedule is another line, and the same seed again replaces what it was.
        results.add(measured(Row::Ours, 2, 200, 0.01));
        let lines = results.summaries(Table::Ablation);
        assert_eq!(
            lines.iter().map(|line| (line.steps, line.seeds)).collect::<Vec<_>>(),
            [(100, 2), (200, 1)]
        );
    }

    #[test]
    fn quality_is_compared_after_the_time_of_the_quickest() {
        let mut results = Results::default();
        let mut add = |row, milliseconds, validations: &[(u64, f64)]| {
            let validations = validations.iter().map(|&(step, mad)| Validated { step, side: 0.1 * mad, mad });
            let of = measured(row, 0, 100, 0.01);
            let milliseconds = Some(milliseconds);
            results.add(Measured { milliseconds, validations: validations.collect(), ..of });
        };
        add(Row::Ours, 400.0, &[(20, 40.0), (40, 30.0), (100, 20.0)]);
        add(Row::NoPerceptualLoss, 100.0, &[(50, 35.0), (100, 32.0)]);
        add(Row::FilterBank, 2000.0, &[(20, 40.0), (100, 10.0)]);
        let lines = results.summaries(Table::Losses);
        let at = |row: Row| {
            let line = lines.iter().find(|line| line.row == row).unwrap();
            line.at_equal_time.map(|of| of.map(|spread| (spread.mean * 1e3).round() / 1e3))
        };
        // 10 seconds are 25 steps of the first row, all of the second, 5 of the third: before its first validation.
        assert_eq!(at(Row::Ours), [Some(3.75), Some(37.5)]);
        assert_eq!(at(Row::NoPerceptualLoss), [Some(3.2), Some(32.0)]);
        assert_eq!(at(Row::FilterBank), [None, None]);
    }

    #[test]
    fn results_survive_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        assert_eq!(Results::read(&path).unwrap(), Results::default());
        let results = Results { results: vec![measured(Row::NoAlbedoFlip, 0, 3, 0.1)] };
        results.write(path.clone()).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
        fs::write(&path, "{\"results\": [").unwrap();
        let message = Results::read(&path).unwrap_err().to_string();
        assert!(message.contains("results.json") && message.contains("EOF"), "{message}");
    }
}
