//! Where the time of a training step on a GPU goes, operation by operation.

use std::collections::BTreeMap;

use relievo_model::{Model, ModelError};
use relievo_tensor::cuda::{Cost, Pass, Profiler, set_lanes};
use relievo_tensor::{Device, Error, Tensor};
use serde::Serialize;

use crate::captured::CapturedStep;
use crate::optimiser::Moments;
use crate::settings::TrainSettings;

/// All calls of an operation in a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OperationTime {
    /// What it is called.
    pub operation: &'static str,
    /// `forward`, `backward` or `update`.
    pub pass: &'static str,
    /// Calls in a step.
    pub calls: usize,
    /// The median over the steps of what they took together, in seconds.
    pub seconds: f64,
    /// What they must read and write at least, in bytes.
    pub bytes: f64,
    /// Their multiplications and additions.
    pub flops: f64,
}

/// Takes the times of all operations in `steps` replays of a captured step on `images [B,S,S,3]`, the longest first.
/// One network after the other, not in lanes: side by side, each would seem to take longer. The model learns meanwhile.
///
/// # Errors
/// If the model is not on a GPU, or that fails.
pub fn profile_steps(
    model: &mut Model,
    moments: &mut Moments,
    images: &Tensor,
    flip_weight: f32,
    settings: &TrainSettings,
    steps: u64,
) -> Result<Vec<OperationTime>, ModelError> {
    let Device::Cuda(ordinal) = model.device() else {
        let detail = "operations are timed on GPUs only".into();
        return Err(Error::Device { device: model.device(), detail }.into());
    };
    /// Opens the lanes again, whatever happens.
    struct OneAfterTheOther;
    impl Drop for OneAfterTheOther {
        fn drop(&mut self) {
            set_lanes(true);
        }
    }
    set_lanes(false);
    let _lanes = OneAfterTheOther;
    let profiler = Profiler::new(ordinal)?;
    let mut captured = CapturedStep::new(model, settings, 0, settings.batch_size)?;
    // By operation and pass: calls, cost, and the seconds of each step.
    let mut found: BTreeMap<(&'static str, Pass), (usize, Cost, Vec<f64>)> = BTreeMap::new();
    // The first step is not captured.
    for step in 1..=steps.max(1) + 1 {
        captured.queue(model, moments, images, flip_weight, step, settings)?;
        if step == 1 {
            continue;
        }
        for (calls, cost, seconds) in found.values_mut() {
            (*calls, *cost) = (0, Cost::default());
            seconds.push(0.0);
        }
        for span in profiler.spans()? {
            let (calls, cost, seconds) =
                found.entry((span.operation, span.pass)).or_insert_with(|| (0, Cost::default(), vec![0.0]));
            *calls += 1;
            cost.bytes += span.cost.bytes;
            cost.flops += span.cost.flops;
            if let Some(last) = seconds.last_mut() {
                *last += span.seconds;
            }
        }
    }
    let mut times: Vec<OperationTime> = (found.into_iter())
        .map(|((operation, pass), (calls, cost, mut seconds))| {
            seconds.sort_by(f64::total_cmp);
            let pass = match pass {
                Pass::Forward => "forward",
                Pass::Backward => "backward",
                Pass::Update => "update",
            };
            let Cost { bytes, flops } = cost;
            OperationTime { operation, pass, calls, seconds: seconds[seconds.len() / 2], bytes, flops }
        })
        .collect();
    times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(times)
}
