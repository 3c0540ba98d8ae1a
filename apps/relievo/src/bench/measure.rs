//! The stopwatch of the benchmark, and its report.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::gpu::Operations;
use crate::console::{Console, counted, three_digits};

/// Repetitions that do not count: they fill caches and the pool of buffers.
const WARM_UP: usize = 2;
/// Fewer say nothing about the spread.
const LEAST_REPETITIONS: usize = 5;

/// Everything that was measured.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub program: &'static str,
    pub version: &'static str,
    /// The GPU measured, and the precision of its networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    pub instructions: String,
    pub threads: usize,
    pub parameters: usize,
    /// By key. bench/pytorch uses the same ones.
    #[serde(flatten, serialize_with = "by_key")]
    pub rows: Vec<Row>,
    /// The training step by operation, on a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Operations>,
    /// Kernels, copies and fills in a training step, on a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launches: Option<usize>,
    /// The most memory held at once, in bytes: by the pool of tensors, and by the process (where the system tells).
    pub pool_peak_bytes: usize,
    pub resident_peak_bytes: Option<u64>,
}

/// One measurement, in seconds.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    #[serde(skip)]
    pub key: &'static str,
    #[serde(skip)]
    pub name: String,
    /// Images in one repetition.
    pub images: u64,
    /// The median.
    pub seconds: f64,
    pub lower_quartile: f64,
    pub upper_quartile: f64,
    pub repetitions: usize,
}

fn by_key<S: Serializer>(rows: &[Row], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(rows.iter().map(|row| (row.key, row)))
}

/// Measures.
pub struct Clock<'a> {
    pub time: Duration,
    pub console: &'a Console,
}

impl Clock<'_> {
    /// Repeats `work` on so many `images` until the time is up.
    pub fn measure(
        &self,
        key: &'static str,
        name: String,
        images: u64,
        mut work: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Row> {
        self.console.note(format_args!("measuring: {name}"));
        let (warm_up, least) = if self.time.is_zero() { (0, 1) } else { (WARM_UP, LEAST_REPETITIONS) };
        for _ in 0..warm_up {
            work()?;
        }
        let mut times = Vec::new();
        let end = Instant::now() + self.time;
        while times.len() < least || Instant::now() < end {
            let began = Instant::now();
            work()?;
            times.push(began.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[(share * (times.len() - 1) as f64).round() as usize];
        let [lower_quartile, seconds, upper_quartile] = [0.25, 0.5, 0.75].map(at);
        Ok(Row { key, name, images, seconds, lower_quartile, upper_quartile, repetitions: times.len() })
    }
}

/// The most memory the process ever had, in bytes, where the system tells.
pub fn resident_peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

impl Report {
    pub fn table(&self) -> String {
        let mut text = format!(
            "relievo {} on {}, {}; {:.1} million parameters\n",
            self.version,
            counted(self.threads as u64, "thread"),
            self.instructions,
            self.parameters as f64 / 1e6
        );
        if let Some(gpu) = &self.gpu {
            let _ = writeln!(text, "{gpu}");
        }
        let _ = write!(text, "\n{:<38}{:>10}{:>14}{:>11}", "", "median", "quartiles", "images/s");
        text.push('\n');
        for row in &self.rows {
            let [lower, median, upper] = [row.lower_quartile, row.seconds, row.upper_quartile]
                .map(|seconds| three_digits(1e3 * seconds));
            let quartiles = format!("{lower}-{upper}");
            let rate = three_digits(row.images as f64 / row.seconds);
            let _ = writeln!(text, "{:<38}{median:>7} ms{quartiles:>14}{rate:>11}", row.name);
        }
        let mebibytes = |bytes: f64| format!("{:.0} MiB", bytes / f64::from(1 << 20));
        let _ = write!(text, "\nmost memory: tensors {}", mebibytes(self.pool_peak_bytes as f64));
        if let Some(bytes) = self.resident_peak_bytes {
            let _ = write!(text, ", process {}", mebibytes(bytes as f64));
        }
        if let Some(launches) = self.launches {
            let _ = write!(text, "\na training step is {launches} launches in a graph");
        }
        if let Some(operations) = &self.operations {
            let _ = write!(text, "\n\n{}", operations.table().trim_end());
        }
        text
    }
}
