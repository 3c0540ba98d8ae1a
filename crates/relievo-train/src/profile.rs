//! Where the time of a training step on a GPU goes, operation by operation, and the least it could take.

use std::collections::BTreeMap;
use std::time::Instant;

use relievo_model::{Model, ModelError};
use relievo_tensor::cuda::{self, Cost, Pass, Profiler};
use relievo_tensor::ops::{Activation, ConvParams, cast, conv2d};
use relievo_tensor::{ConvPolicy, DataType, Device, Error, Random, Tensor};
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

/// Takes the times of all operations in `steps` replays of a captured step on `images [B,S,S,3]`, the longest first. The
/// networks run one after the other: side by side, each would seem to take longer. The model learns meanwhile.
///
/// # Errors
/// If the model is not on a GPU, or that fails.
pub fn profile_steps(
    mut model: Model,
    moments: Moments,
    images: &Tensor,
    flip_weight: f32,
    settings: &TrainSettings,
    steps: u64,
) -> Result<(Model, Moments, Vec<OperationTime>), ModelError> {
    let Device::Cuda(ordinal) = model.device() else {
        let detail = "operations are timed on GPUs only".into();
        return Err(Error::Device { device: model.device(), detail }.into());
    };
    model.set_forked_streams(false);
    let profiler = Profiler::new(ordinal)?;
    let mut captured = CapturedStep::new(model, moments, settings, 0, settings.batch_size)?;
    // By operation and pass: calls, cost, and the seconds of each step.
    let mut found: BTreeMap<(&'static str, Pass), (usize, Cost, Vec<f64>)> = BTreeMap::new();
    // The first step is not captured.
    for step in 1..=steps.max(1) + 1 {
        captured.queue(images, flip_weight, step, settings)?;
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
    let (mut model, moments) = captured.into_parts();
    model.set_forked_streams(true);
    Ok((model, moments, times))
}

/// The most that a GPU can do, measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings {
    /// Bytes read and written, in a large copy on the GPU.
    pub bytes_per_second: f64,
    /// Multiplications and additions, in a large product of matrices with factors of the type asked for.
    pub flops_per_second: f64,
}

impl Ceilings {
    /// Measures for about `repetitions` milliseconds on a large GPU. `extent` scales the work: 2048 fills one, a small
    /// one only tries whether it works. `policy` is that of the product.
    ///
    /// # Errors
    /// If the GPU fails or is out of memory.
    pub fn measure(
        ordinal: usize,
        data_type: DataType,
        policy: ConvPolicy,
        extent: usize,
        repetitions: usize,
    ) -> Result<Self, Error> {
        let device = Device::Cuda(ordinal);
        let random = |seed, shape: [usize; 4]| -> Result<Tensor, Error> {
            let random = Random::new(seed, 0);
            let numbers: Vec<f32> = (0..shape.iter().product::<usize>() as u64)
                .map(|at| 2.0 * random.uniform(at) - 1.0)
                .collect();
            cast(&Tensor::new(&numbers, shape)?.to_device(device)?, data_type)
        };
        let x = random(1, [1, 16, extent, extent])?;
        let mut y = x.zeros_like()?;
        let copy = fastest_seconds(ordinal, repetitions, || y.copy_from(&x))?;
        let w = random(2, [extent, 1, 1, extent])?;
        let params = ConvParams { policy, ..ConvParams::new(1, 0, Activation::Identity) };
        let product = fastest_seconds(ordinal, repetitions, || conv2d(&x, &w, None, params).map(|_| ()))?;
        Ok(Self {
            bytes_per_second: (2 * x.numel() * data_type.bytes()) as f64 / copy,
            flops_per_second: 2.0 * (x.numel() * extent) as f64 / product,
        })
    }

    /// The least time that this much work takes, in seconds.
    pub fn floor(&self, cost: Cost) -> f64 {
        (cost.bytes / self.bytes_per_second).max(cost.flops / self.flops_per_second)
    }
}

/// The shortest of three measurements of `work`, in seconds, each of so many repetitions that the host's clock can tell.
fn fastest_seconds(
    ordinal: usize,
    repetitions: usize,
    mut work: impl FnMut() -> Result<(), Error>,
) -> Result<f64, Error> {
    let repetitions = repetitions.max(1);
    let mut best = f64::INFINITY;
    for round in 0..4 {
        cuda::synchronize(ordinal)?;
        let began = Instant::now();
        for _ in 0..repetitions {
            work()?;
        }
        cuda::synchronize(ordinal)?;
        // The first round compiles and measures algorithms.
        if round > 0 {
            best = best.min(began.elapsed().as_secs_f64() / repetitions as f64);
        }
    }
    Ok(best)
}
