//! `relievo bench`: how fast this machine is. `bench/compare.sh` sets it beside PyTorch.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use rayon::prelude::*;
use relievo_data::{
    CacheBudget, Cached, Image, Loader, LoaderOptions, Rectangle, Source, Training, WithoutTruth,
};
use relievo_detect::Detector;
use relievo_model::{ComputeSettings, Model, ModelSettings, Outputs, Predictor, Supervision};
use relievo_synth::Heads;
use relievo_tensor::cuda::{Ceilings, Cost};
use relievo_tensor::ops::AdamStep;
use relievo_tensor::{DataType, Device, SimdLevel, Tape, Tensor, cuda, pool_statistics};
use relievo_train::Moments;
use relievo_train::{CapturedStep, OperationTime, TrainSettings, profile_steps};
use serde::{Serialize, Serializer};

use crate::console::{Console, counted, three_digits};
use crate::demo::SCENE;
use crate::weights;

/// Repetitions that do not count: they fill caches and the pool of buffers.
const WARM_UP: usize = 2;
/// Fewer say nothing about the spread.
const LEAST_REPETITIONS: usize = 5;

/// Images of a training step.
const STEP: usize = 16;
/// Images that go through the networks together where throughput counts.
const BATCH: usize = 32;
/// Images of a training step on a GPU: the paper's batch.
const GPU_STEP: usize = 64;
/// Images that a GPU reconstructs together.
const GPU_BATCH: usize = 256;
/// Batches queued before the results are waited for: the next one is sent while one is computed.
const GPU_BATCHES: usize = 4;
/// What fills a GPU for the measurement of its best.
const CEILING_EXTENT: usize = 2048;
/// Heads made at a time.
const HEADS: u64 = 64;
/// Images that learning is fed with at a time.
const FED: usize = 64;
/// Heads that are fed from memory: few, since they are rendered first.
const REMEMBERED: u64 = 4 * FED as u64;

/// Measure speed and memory on this machine
///
/// Inference, training steps, finding faces, synthetic heads and how fast learning
/// is fed with images: medians, with the quartiles, of as many repetitions as fit
/// into the time, at least five. The networks are those of the paper for 64x64
/// pixels, or those of --model. Run it on an idle machine.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Seconds for each measurement; 0 only tries everything once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=3600))]
    seconds: u64,
    /// Networks and losses like those of a model, in place of the paper's: a weights
    /// file, the folder of a training run, or faces, faces-synthetic, cats
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Print all numbers as JSON; the table goes to standard error
    #[arg(long)]
    json: bool,
    #[command(flatten, next_help_heading = "Computing")]
    compute: ComputeSettings,
}

/// Everything that was measured.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    program: &'static str,
    version: &'static str,
    /// The GPU measured, and the precision of its networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<String>,
    instructions: String,
    threads: usize,
    parameters: usize,
    /// By key. bench/pytorch uses the same ones.
    #[serde(flatten, serialize_with = "by_key")]
    rows: Vec<Row>,
    /// The training step by operation, on a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<Operations>,
    /// Kernels, copies and fills in a training step, on a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    launches: Option<usize>,
    /// The most memory held at once, in bytes: by the pool of tensors, and by the process (where the system tells).
    pool_peak_bytes: usize,
    resident_peak_bytes: Option<u64>,
}

/// One measurement, in seconds.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    #[serde(skip)]
    key: &'static str,
    #[serde(skip)]
    name: String,
    /// Images in one repetition.
    images: u64,
    /// The median.
    seconds: f64,
    lower_quartile: f64,
    upper_quartile: f64,
    repetitions: usize,
}

/// The training step by operation.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Operations {
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
    fn table(&self) -> String {
        let mut text = format!(
            "the training step by operation, one lane; at its best the GPU moves {:.2} TB/s\n\
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

fn by_key<S: Serializer>(rows: &[Row], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(rows.iter().map(|row| (row.key, row)))
}

const FORWARD: &str = "forward-1";
const NETWORKS: &str = "step-16";

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let clock = Clock { time: Duration::from_secs(options.seconds), console };
    let settings = match &options.model {
        None => ModelSettings::default(),
        Some(path) => weights::load(Some(path))?.model.settings().clone(),
    };
    ensure!(
        settings.supervision == Supervision::None,
        "a model that learned depth from true depth has no other network: there is nothing to measure but its depth"
    );
    if let Device::Cuda(ordinal) = options.compute.device()? {
        let report = clock.gpu(ordinal, &settings, &options.compute)?;
        return print(&report, options.json, console);
    }
    let model = Model::new(settings.clone(), 0)?;
    let mut rows = vec![clock.forward(&settings)?, clock.networks(&settings)?, clock.full_step(&settings)?];
    // Nothing after this needs as much.
    let (pool_peak_bytes, resident_peak_bytes) = (pool_statistics().bytes_peak, resident_peak());
    rows.push(clock.predictions(&model)?);
    rows.extend(clock.faces()?);
    rows.push(clock.heads(settings.image_size as u32)?);
    rows.extend(clock.feed(LoaderOptions::new(FED, settings.image_size as u32))?);
    let report = Report {
        program: "relievo",
        version: env!("CARGO_PKG_VERSION"),
        gpu: None,
        instructions: format!("{:?}", SimdLevel::best()),
        threads: rayon::current_num_threads(),
        parameters: model.parameter_infos().iter().map(|info| info.shape.numel()).sum(),
        rows,
        operations: None,
        launches: None,
        pool_peak_bytes,
        resident_peak_bytes,
    };
    print(&report, options.json, console)
}

fn print(report: &Report, json: bool, console: &Console) -> anyhow::Result<()> {
    if json {
        console.result(serde_json::to_string_pretty(report)?);
        console.note(report.table());
    } else {
        console.result(report.table());
    }
    Ok(())
}

/// Measures.
struct Clock<'a> {
    time: Duration,
    console: &'a Console,
}

impl Clock<'_> {
    /// Repeats `work` on so many `images` until the time is up.
    fn measure(
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

    /// One image through the networks that inference needs.
    fn forward(&self, settings: &ModelSettings) -> anyhow::Result<Row> {
        // Without the perceptual loss no features are loaded; without confidence that network is not run.
        let settings = ModelSettings { confidence: false, perceptual_weight: 0.0, ..settings.clone() };
        let model = Model::new(settings, 0)?;
        let image = noise(1, model.settings().image_size)?;
        self.measure(FORWARD, "1 image: depth, albedo, light, view".into(), 1, || {
            model.outputs(&image, model.parameters())?;
            Ok(())
        })
    }

    /// A step of the five networks alone: no renderer, no losses.
    fn networks(&self, settings: &ModelSettings) -> anyhow::Result<Row> {
        let mut model = Model::new(ModelSettings { perceptual_weight: 0.0, ..settings.clone() }, 0)?;
        let images = noise(STEP, settings.image_size)?;
        let [mut first, mut second] = moments(&model);
        let mut adam = AdamStep { learning_rate: 1e-4, weight_decay: 5e-4, step: 0, ..AdamStep::default() };
        let count = if settings.confidence { 5 } else { 4 };
        self.measure(NETWORKS, format!("{STEP} images: {count} networks, step"), STEP as u64, || {
            let gradients = network_gradients(&model, &images)?;
            adam.step += 1;
            adam.apply(model.parameters_mut(), &gradients, &mut first, &mut second)?;
            Ok(())
        })
    }

    /// A whole training step: networks, renderer, VGG, all losses, Adam.
    fn full_step(&self, settings: &ModelSettings) -> anyhow::Result<Row> {
        let mut model = Model::new(settings.clone(), 0)?;
        let images = head_images(STEP, settings.image_size)?;
        let [mut first, mut second] = moments(&model);
        let mut adam = AdamStep { learning_rate: 1e-4, weight_decay: 5e-4, step: 0, ..AdamStep::default() };
        self.measure("training-16", format!("{STEP} images: full training step"), STEP as u64, || {
            let (_, gradients) = model.loss_and_gradients(&images, settings.flip_weight)?;
            adam.step += 1;
            adam.apply(model.parameters_mut(), &gradients, &mut first, &mut second)?;
            Ok(())
        })
    }

    /// What a GPU does: steps as training takes them, and reconstruction, its results left there and fetched.
    fn gpu(
        &self,
        ordinal: usize,
        settings: &ModelSettings,
        compute: &ComputeSettings,
    ) -> anyhow::Result<Report> {
        let mut model = Model::new(settings.clone(), 0)?;
        let device = compute.place(&mut model)?;
        let train = TrainSettings { batch_size: GPU_STEP, ..TrainSettings::default() };
        let images = head_images(GPU_STEP, settings.image_size)?;
        let mut moments = Moments::zeros(&model);
        moments.to_device(device)?;
        let mut captured = CapturedStep::new(&model, &train, 0, GPU_STEP)?;
        // The first step is not captured yet.
        captured.queue(&mut model, &mut moments, &images, settings.flip_weight, 1, &train)?;
        let mut step = 1;
        let name = format!("{GPU_STEP} images: full training step");
        let mut rows = vec![self.measure("training-64", name, GPU_STEP as u64, || {
            step += 1;
            captured.queue(&mut model, &mut moments, &images, settings.flip_weight, step, &train)?;
            Ok(cuda::synchronize(ordinal)?)
        })?];
        let pool_peak_bytes = cuda::memory_statistics(ordinal)?.bytes_peak;
        let launches = captured.launches();
        drop(captured);
        cuda::set_lanes(false);
        let mut captured = CapturedStep::new(&model, &train, 0, GPU_STEP)?;
        let name = format!("{GPU_STEP} images: the same, one lane");
        rows.push(self.measure("training-64-one-lane", name, GPU_STEP as u64, || {
            step += 1;
            captured.queue(&mut model, &mut moments, &images, settings.flip_weight, step, &train)?;
            Ok(cuda::synchronize(ordinal)?)
        })?);
        cuda::set_lanes(true);
        drop(captured);
        let operations = self.operations(ordinal, &mut model, &mut moments, &images, &train)?;
        let images = head_images(GPU_BATCH, settings.image_size)?;
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
        model: &mut Model,
        moments: &mut Moments,
        images: &Tensor,
        train: &TrainSettings,
    ) -> anyhow::Result<Operations> {
        self.console.note("measuring: the training step by operation");
        let quick = self.time.is_zero();
        let (extent, repetitions) = if quick { (16, 1) } else { (CEILING_EXTENT, 20) };
        let data_type = model.working_parameters()?.first().map_or(DataType::F32, Tensor::data_type);
        let ceilings = Ceilings::measure(ordinal, data_type, extent, repetitions)?;
        let flip_weight = model.settings().flip_weight;
        let steps = if quick { 1 } else { 20 };
        let times = profile_steps(model, moments, images, flip_weight, train, steps)?;
        Ok(Operations::new(ceilings, times))
    }

    /// Reconstruction of many images.
    fn predictions(&self, model: &Model) -> anyhow::Result<Row> {
        let images = head_images(BATCH, model.settings().image_size)?;
        let mut predictor = Predictor::new(model, BATCH)?;
        self.measure("predict-32", format!("{BATCH} images: reconstruction"), BATCH as u64, || {
            predictor.predict(&images)?;
            Ok(())
        })
    }

    /// The faces found in a decoded image: in the scene of the demo, and in it as a photograph of 12 megapixels.
    fn faces(&self) -> anyhow::Result<[Row; 2]> {
        let detector = Detector::new()?;
        let scene = Image::decode(SCENE).map_err(|reason| anyhow!("the scene: {reason}"))?;
        // Upwards the wall goes on, so that the people keep their proportions.
        let whole = Rectangle { left: 0.0, top: -160.0, width: 1280.0, height: 960.0 };
        let large = scene.resampled(whole, 4000, 3000);
        let row = |key, image: &Image| {
            let name = format!("1 image of {}x{}: its faces", image.width, image.height);
            self.measure(key, name, 1, || {
                detector.faces(image)?;
                Ok(())
            })
        };
        Ok([row("faces-1280x800", &scene)?, row("faces-4000x3000", &large)?])
    }

    /// Heads made, with their truth.
    fn heads(&self, size: u32) -> anyhow::Result<Row> {
        let heads = Heads::range(0, 0, u64::MAX);
        let mut next = 0;
        self.measure("synth-64", format!("{HEADS} synthetic heads of {size}x{size}"), HEADS, || {
            (next..next + HEADS).into_par_iter().try_for_each(|index| {
                heads.sample(index, size).map(|sample| drop(std::hint::black_box(sample)))
            })?;
            next += HEADS;
            Ok(())
        })
    }

    /// Batches of heads to learn from, as fast as they come: rendered for each batch, and remembered.
    fn feed(&self, options: LoaderOptions) -> anyhow::Result<Vec<Row>> {
        let threads = counted(options.workers as u64, "thread");
        let heads = |count| Arc::new(WithoutTruth(Heads::range(0, 0, count)));
        let row = |key, name, source: Arc<dyn Source>, first: u64| -> anyhow::Result<Row> {
            let order = Training { mirror: true, ..Training::default() };
            let mut loader = Loader::training(source, options.clone(), order)?;
            let mut take = || -> anyhow::Result<()> {
                loader.next().context("training never ends")??;
                Ok(())
            };
            (0..first).try_for_each(|_| take())?;
            self.measure(key, name, FED as u64, take)
        };
        let name = format!("{FED} heads fed as rendered, {threads}");
        let rendered = row("feed-rendered-64", name, heads(20_000), 0)?;
        let remembered = Arc::new(Cached::new(heads(REMEMBERED), options.size, CacheBudget::new(u64::MAX)));
        let name = format!("{FED} heads fed from memory, {threads}");
        let remembered = row("feed-cached-64", name, remembered, REMEMBERED / FED as u64)?;
        Ok(vec![rendered, remembered])
    }
}

/// Adam's two moments of every parameter, at the start.
fn moments(model: &Model) -> [Vec<Tensor>; 2] {
    [0; 2].map(|_| model.parameters().iter().map(|parameter| Tensor::zeros(parameter.shape())).collect())
}

/// Forward and backward through all networks from the sum of squares of what they say.
fn network_gradients(model: &Model, images: &Tensor) -> anyhow::Result<Vec<Tensor>> {
    let tape = Tape::new();
    let watched: Vec<Tensor> = model.parameters().iter().map(|parameter| tape.watch(parameter)).collect();
    let Outputs { depth, albedo, light, view, confidence, .. } = model.outputs(images, &watched)?;
    let confidence = confidence.into_iter().flat_map(|(pixels, features)| [pixels, features]);
    let outputs: Vec<Tensor> = [depth, albedo, light, view].into_iter().chain(confidence).collect();
    let seeds = outputs.iter().map(|output| {
        let gradient: Vec<f32> = output.data().iter().map(|y| 2.0 * y).collect();
        Ok((output, Tensor::new(&gradient, output.shape())?))
    });
    let mut gradients = tape.backward_from(&seeds.collect::<relievo_tensor::Result<Vec<_>>>()?)?;
    watched.iter().map(|p| gradients.take(p).context("a parameter without a gradient")).collect()
}

/// Images without content.
fn noise(count: usize, size: usize) -> relievo_tensor::Result<Tensor> {
    let random = relievo_tensor::Random::new(0, 0);
    let values: Vec<f32> =
        (0..count * size * size * 3).map(|at| 2.0 * random.uniform(at as u64) - 1.0).collect();
    Tensor::new(&values, [count, size, size, 3])
}

fn head_images(count: usize, size: usize) -> anyhow::Result<Tensor> {
    let heads = Heads::range(0, 0, count as u64);
    let samples =
        (0..count as u64).map(|index| heads.sample(index, size as u32)).collect::<Result<Vec<_>, _>>()?;
    let values: Vec<f32> = samples.iter().flat_map(|sample| sample.image.signed()).collect();
    Ok(Tensor::new(&values, [count, size, size, 3])?)
}

/// The most memory the process ever had, in bytes, where the system tells.
fn resident_peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

impl Report {
    fn table(&self) -> String {
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
