//! What the log of a run says of its time and of its quality on the way.

use std::io;
use std::path::Path;

use serde_json::Value;

use crate::results::Validated;

/// The course of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Course {
    /// Median milliseconds of a step, without validations and previews; `None` if no step was logged.
    pub milliseconds: Option<f64>,
    /// Errors at each validation.
    pub validations: Vec<Validated>,
}

impl Course {
    /// Reads the log at a path, of steps of `batch` images. Lines that it does not know are passed over.
    pub fn read(path: &Path, batch: usize) -> io::Result<Self> {
        Ok(Self::of(&std::fs::read_to_string(path)?, batch))
    }

    fn of(log: &str, batch: usize) -> Self {
        let lines = || log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let kind = |line: &Value, kind: &str| line["kind"].as_str() == Some(kind);
        let steps = lines().filter(|line| kind(line, "step"));
        let mut rates: Vec<f64> = steps.filter_map(|line| line["images-per-second"].as_f64()).collect();
        rates.sort_by(f64::total_cmp);
        let median = rates.get(rates.len() / 2).filter(|rate| **rate > 0.0);
        let validated = |line: Value| {
            let model = &line["visible"]["model"];
            let mean = |of: &str| model[of]["mean"].as_f64();
            Some(Validated {
                step: line["step"].as_u64()?,
                side: mean("depth-error")?,
                mad: mean("normal-error")?,
            })
        };
        let mut validations: Vec<Validated> =
            lines().filter(|line| kind(line, "validation")).filter_map(validated).collect();
        // A run that was interrupted may have validated the same step twice.
        validations.sort_by_key(|at| at.step);
        validations.dedup_by_key(|at| at.step);
        Self { milliseconds: median.map(|rate| 1000.0 * batch as f64 / rate), validations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_time_and_quality() {
        let log = r#"{"kind":"step","step":1,"images-per-second":100.0}
{"kind":"step","step":2,"images-per-second":40.0}
{"kind":"step","step":3,"images-per-second":50.0}
{"kind":"validation","step":3,"visible":{"model":{"depth-error":{"mean":0.02},"normal-error":{"mean":21.5}}}}
{"kind":"validation","step":3,"visible":{"model":{"depth-error":{"mean":0.02},"normal-error":{"mean":21.5}}}}
{"kind":"validation","step":2}
{"kind":"something"}
half a li"#;
        let course = Course::of(log, 16);
        assert_eq!(course.milliseconds, Some(320.0));
        assert_eq!(course.validations, [Validated { step: 3, side: 0.02, mad: 21.5 }]);
        assert_eq!(Course::of("", 16), Course { milliseconds: None, validations: Vec::new() });
    }
}
