//! What a GPU does, and where the time of its training step goes.

use std::fmt::Write as _;

use relievo_data::LoaderOptions;
use relievo_model::{ComputeSettings, Model, ModelSettings, Predictor};
use relievo_synth::Heads;
use relievo_tensor::cuda::Cost;
use relievo_tensor::{ConvPolicy, DataType, SimdLevel, Tensor, cuda};
use relievo_train::{CapturedStep, Ceilings, Moments, OperationTime, TrainSettings, profile_steps};
use serde::Serialize;

use super::measure::{Clock, Report, resident_peak};
use super::{FED, head_images};

/// Images of a training step on a GPU: the paper's batch.
const GPU_STEP: usize = 64;
/// Images that a GPU reconstructs together.
const GPU_BATCH: usize = 256;
/// Batches queued before the results are waited for: the next one is sent while one is computed.
const GPU_BATCHES: usize = 4;
/// What fills a GPU for the measurement of its best.
const CEILING_EXTENT: usize = 2048;

/// The training step by operation.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Operations {
    /// Bytes and operations a second of the GPU at its best, measured.
    bytes_per_second: f64,
    flops_per_second: f64,
    times: Vec<OperationTime>,
    #[serde(skip)]
    ceilings: Ceilings,
}

impl Operations {
    fn new(ceilings: Ceilings, times: Vec<OperationTime>) -> Self {
        let Ceilings { bytes_per_second, flops_per_second } = ceilings;
        Self { bytes_per_second, flops_per_second, times, ceilings }
    }

    /// The times, each beside the least possible, longest first.
    pub fn table(&self) -> String {
        let mut text = format!(
            "the training step by operation, one stream; at its best the GPU moves {:.2} TB/s\n\
             and computes {:.0} TFLOP/s\n\n{:<30}{:>7}{:>10}{:>9}{:>10}{:>9}\n",
            self.bytes_per_second / 1e12,
            self.flops_per_second / 1e12,
            "",
            "calls",
            "ms",
            "share",
            "least ms",
            "times"
        );
        let floor = |time: &OperationTime| self.ceilings.floor(Cost { bytes: time.bytes, flops: time.flops });
        let all: f64 = self.times.iter().map(|time| time.seconds).sum();
        let least: f64 = self.times.iter().map(floor).sum();
        let mut line = |name: &str, calls: usize, seconds: f64, least: f64| {
            let [milliseconds, least_milliseconds] = [seconds, least].map(|seconds| 1e3 * seconds);
            let (share, times) = (100.0 * seconds / all, seconds / least);
            let _ = writeln!(
                text,
                "{name:<30}{calls:>7}{milliseconds:>10.3}{share:>7.1} %{least_milliseconds:>10.3}{times:>9.1}"
            );
        };
        for time in &self.times {
            let name = format!("{}, {}", time.operation, time.pass);
            line(&name, time.calls, time.seconds, floor(time));
        }
        line("all", self.times.iter().map(|time| time.calls).sum(), all, least);
        text
    }
}

impl Clock<'_> {
    /// What a GPU does: steps as training takes them, and reconstruction, its results left there and fetched.
    pub fn gpu(
        &self,
        ordinal: usize,
        settings: &ModelSettings,
        compute: &ComputeSettings,
    ) -> anyhow::Result<Report> {
        let mut model = Model::new(settings.clone(), 0)?;
        let device = compute.place(&mut model)?;
        let train = TrainSettings { batch_size: GPU_STEP, ..TrainSettings::default() };
        let images = head_images(Heads::range(0, 0, GPU_STEP as u64), settings.image_size)?;
        let mut moments = Moments::zeros(&model);
        moments.to_device(device)?;
        let mut captured = CapturedStep::new(model, moments, &train, 0, GPU_STEP)?;
        // The first step is not captured yet.
        captured.queue(&images, settings.flip_weight, 1, &train)?;
        let mut step = 1;
        let name = format!("{GPU_STEP} images: full training step");
        let mut rows = vec![self.measure("training-64", name, GPU_STEP as u64, || {
            step += 1;
            captured.queue(&images, settings.flip_weight, step, &train)?;
            Ok(cuda::synchronize(ordinal)?)
        })?];
        let pool_peak_bytes = cuda::memory_statistics(ordinal)?.bytes_peak;
        let launches = captured.launches();
        let (mut model, moments) = captured.into_parts();
        model.set_forked_streams(false);
        let mut captured = CapturedStep::new(model, moments, &train, 0, GPU_STEP)?;
        let name = format!("{GPU_STEP} images: the same, one stream");
        rows.push(self.measure("training-64-one-stream", name, GPU_STEP as u64, || {
            step += 1;
            captured.queue(&images, settings.flip_weight, step, &train)?;
            Ok(cuda::synchronize(ordinal)?)
        })?);
        let (model, moments) = captured.into_parts();
        let policy = compute.conv_policy();
        let (model, operations) = self.operations(ordinal, policy, model, moments, &images, &train)?;
        let images = head_images(Heads::range(0, 0, GPU_BATCH as u64), settings.image_size)?;
        let mut predictor = Predictor::new(&model, GPU_BATCH)?;
        let count = GPU_BATCHES * GPU_BATCH;
        let name = format!("{count} images by {GPU_BATCH}: reconstruction");
        rows.push(self.measure("predict-256", name, count as u64, || {
            for _ in 0..GPU_BATCHES {
                predictor.predict(&images)?;
            }
            Ok(cuda::synchronize(ordinal)?)
        })?);
        let name = format!("{GPU_BATCH} images: the same, fetched");
        rows.push(self.measure("predict-256-fetched", name, GPU_BATCH as u64, || {
            predictor.predict(&images)?.fetch_all()?;
            Ok(())
        })?);
        drop(predictor);
        rows.extend(self.meshes(device)?);
        rows.push(self.heads(settings.image_size as u32)?);
        rows.extend(self.feed(LoaderOptions::beside_gpu(FED, settings.image_size as u32))?);
        Ok(Report {
            program: "relievo",
            version: env!("CARGO_PKG_VERSION"),
            gpu: Some(format!("{}, {:?}", cuda::name(ordinal)?, compute.precision)),
            instructions: format!("{:?}", SimdLevel::best()),
            threads: rayon::current_num_threads(),
            parameters: model.parameter_infos().iter().map(|info| info.shape.numel()).sum(),
            rows,
            operations: Some(operations),
            launches,
            pool_peak_bytes,
            resident_peak_bytes: resident_peak(),
        })
    }

    /// Where the time of a training step goes, beside what it would take at the GPU's best.
    fn operations(
        &self,
        ordinal: usize,
        policy: ConvPolicy,
        model: Model,
        moments: Moments,
        images: &Tensor,
        train: &TrainSettings,
    ) -> anyhow::Result<(Model, Operations)> {
        self.console.note("measuring: the training step by operation");
        let quick = self.time.is_zero();
        let (extent, repetitions) = if quick { (16, 1) } else { (CEILING_EXTENT, 20) };
        let data_type = model.working_parameters()?.first().map_or(DataType::F32, Tensor::data_type);
        let ceilings = Ceilings::measure(ordinal, data_type, policy, extent, repetitions)?;
        let flip_weight = model.settings().flip_weight;
        let steps = if quick { 1 } else { 20 };
        let (model, _, times) = profile_steps(model, moments, images, flip_weight, train, steps)?;
        Ok((model, Operations::new(ceilings, times)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_stand_beside_the_least_they_could_take() {
        let ceilings = Ceilings { bytes_per_second: 3e12, flops_per_second: 6e14 };
        let time = |operation, seconds, bytes, flops| OperationTime {
            operation,
            pass: "backward",
            calls: 2,
            seconds,
            bytes,
            flops,
        };
        // The first is bound by arithmetic, the second by memory.
        let times = vec![time("conv_transpose2d", 3e-3, 3e9, 9e11), time("group_norm", 1e-3, 1.5e9, 0.0)];
        let table = Operations::new(ceilings, times).table();
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        let cells =
            |row: usize| -> Vec<&str> { table.lines().nth(row).unwrap().split_whitespace().collect() };
        assert_eq!(cells(4), ["conv_transpose2d,", "backward", "2", "3.000", "75.0", "%", "1.500", "2.0"]);
        assert_eq!(cells(5)[2..], ["2", "1.000", "25.0", "%", "0.500", "2.0"]);
        assert_eq!(cells(6), ["all", "4", "4.000", "100.0", "%", "2.000", "2.0"]);
    }
}
