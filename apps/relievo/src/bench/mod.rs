//! `relievo bench`: how fast this machine is. `bench/compare.sh` sets it beside PyTorch.

mod gpu;
mod measure;
mod meshes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use clap::{Args, ValueEnum};
use rayon::prelude::*;
use relievo_data::{
    CacheBudget, Cached, Image, Loader, LoaderOptions, Rectangle, Source, Training, WithoutTruth,
};
use relievo_detect::Detector;
use relievo_model::{
    ComputeSettings, Method, Model, ModelSettings, Objective, Partners, Predictor, Supervision,
};
use relievo_synth::Heads;
use relievo_tensor::ops::AdamStep;
use relievo_tensor::{Device, Random, SimdLevel, Tape, Tensor, pool_statistics};

use self::measure::{Clock, Report, Row, resident_peak};
use crate::console::{Console, counted};
use crate::demo::SCENE;
use crate::weights;

/// Images of a training step.
const STEP: usize = 16;
/// Images that go through the networks together where throughput counts.
const BATCH: usize = 32;
/// Heads made at a time.
const HEADS: u64 = 64;
/// Images that learning is fed with at a time.
const FED: usize = 64;
/// Heads that are fed from memory: few, since they are rendered first.
const REMEMBERED: u64 = 4 * FED as u64;

/// Print how fast this machine computes, and how much memory that takes
///
/// Measures inference, training steps, the search for faces, a mesh rendered with
/// its gradient, the rendering of synthetic heads and the loading of training
/// images: medians and quartiles of as many repetitions as fit into the time, at
/// least five. The networks are those of the paper for 64x64 pixels, or those of
/// --model. Run it on an idle machine.
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
    /// Measure only these parts, on a CPU
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Print all numbers as JSON; the table goes to standard error
    #[arg(long)]
    json: bool,
    #[command(flatten, next_help_heading = "Computing")]
    compute: ComputeSettings,
}

/// Measurements that belong together.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The networks of inference, on one image and on 16
    Inference,
    /// The networks on one image, and training steps
    Networks,
    /// The search for faces
    Faces,
    /// The face detector's network alone, at four sizes
    Detector,
    /// The mesh renderer
    Meshes,
    /// Synthetic heads and the feeding of training
    Data,
}

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
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let mut rows = Vec::new();
    if wanted(Part::Inference) || wanted(Part::Networks) {
        rows.push(clock.forward("forward-1", 1, &settings)?);
    }
    if wanted(Part::Inference) {
        rows.push(clock.forward("forward-16", STEP, &settings)?);
    }
    if wanted(Part::Networks) {
        rows.push(clock.networks(&settings)?);
        rows.extend(clock.full_steps(&settings)?);
    }
    // Nothing after this needs as much.
    let (pool_peak_bytes, resident_peak_bytes) = (pool_statistics().bytes_peak, resident_peak());
    if wanted(Part::Networks) {
        rows.push(clock.predictions(&model)?);
    }
    if wanted(Part::Faces) {
        rows.extend(clock.faces()?);
    }
    if wanted(Part::Detector) {
        rows.extend(clock.detector()?);
    }
    if wanted(Part::Meshes) {
        rows.extend(clock.meshes(Device::Cpu)?);
    }
    if wanted(Part::Data) {
        rows.push(clock.heads(settings.image_size as u32)?);
        rows.extend(clock.feed(LoaderOptions::new(FED, settings.image_size as u32))?);
    }
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

impl Clock<'_> {
    /// Images through the networks that inference needs.
    fn forward(&self, key: &'static str, count: usize, settings: &ModelSettings) -> anyhow::Result<Row> {
        // Without the perceptual loss no features are loaded; without confidence that network is not run.
        let settings = ModelSettings { confidence: false, perceptual_weight: 0.0, ..settings.clone() };
        let model = Model::new(settings, 0)?;
        let images = noise(count, model.settings().image_size)?;
        let name = format!("{}: depth, albedo, light, view", counted(count as u64, "image"));
        self.measure(key, name, count as u64, || {
            model.outputs(&images, model.parameters())?;
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
            // On a thread of the pool, as in training.
            let gradients = rayon::scope(|_| network_gradients(&model, &images))?;
            adam.step += 1;
            adam.apply(model.parameters_mut(), &gradients, &mut first, &mut second)?;
            Ok(())
        })
    }

    /// A whole training step, of single images and of as many in pairs of one head: networks, renderer, VGG, all losses,
    /// Adam.
    fn full_steps(&self, settings: &ModelSettings) -> anyhow::Result<[Row; 2]> {
        let images = head_images(Heads::range(0, 0, STEP as u64), settings.image_size)?;
        let singles = ModelSettings { method: Method::Unsup3d, ..settings.clone() };
        let name = format!("{STEP} images: full training step");
        let of_singles = self.full_step("training-16", name, singles, &images, Partners::Nobody)?;
        let count = STEP / 2;
        let pairs = Heads::range(0, 0, count as u64).images_of_each(2);
        let [images, partners] = halves_of_pairs(&head_images(pairs, settings.image_size)?)?;
        let name = format!("{count} pairs: full step of LeMul");
        let (partners, lemul) = (Partners::Images(&partners), settings.clone().with_lemul());
        Ok([of_singles, self.full_step("training-pairs-8", name, lemul, &images, partners)?])
    }

    fn full_step(
        &self,
        key: &'static str,
        name: String,
        settings: ModelSettings,
        images: &Tensor,
        partners: Partners<'_>,
    ) -> anyhow::Result<Row> {
        let mut model = Model::new(settings, 0)?;
        let objective = Objective::from(model.settings().flip_weight).with_partners(partners);
        let [mut first, mut second] = moments(&model);
        let mut adam = AdamStep { learning_rate: 1e-4, weight_decay: 5e-4, step: 0, ..AdamStep::default() };
        self.measure(key, name, STEP as u64, || {
            let (_, gradients) = model.loss_and_gradients(images, objective)?;
            adam.step += 1;
            adam.apply(model.parameters_mut(), &gradients, &mut first, &mut second)?;
            Ok(())
        })
    }

    /// Reconstruction of many images.
    fn predictions(&self, model: &Model) -> anyhow::Result<Row> {
        let images = head_images(Heads::range(0, 0, BATCH as u64), model.settings().image_size)?;
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

    /// The detector's network alone; `bench/detector` has other programs do the same.
    fn detector(&self) -> anyhow::Result<Vec<Row>> {
        let detector = Detector::new()?;
        let sizes = [
            ("detector-384x256", 384, 256),
            ("detector-1280x800", 1280, 800),
            ("detector-1152x1152", 1152, 1152),
            ("detector-2048x1536", 2048, 1536),
        ];
        let row = |(key, width, height): (&'static str, usize, usize)| {
            let random = Random::new(0, 0);
            let values = (0..width * height * 3).map(|at| 255.0 * random.uniform(at as u64));
            let image = Tensor::new(&values.collect::<Vec<_>>(), [1, height, width, 3])?;
            self.measure(key, format!("1 image of {width}x{height}: the detector"), 1, || {
                detector.network_output(&image)?;
                Ok(())
            })
        };
        sizes.into_iter().map(row).collect()
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
    let outputs = model.outputs(images, &watched)?;
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

fn head_images(heads: Heads, size: usize) -> anyhow::Result<Tensor> {
    let samples =
        (0..heads.len()).map(|index| heads.sample(index, size as u32)).collect::<Result<Vec<_>, _>>()?;
    let values: Vec<f32> = samples.iter().flat_map(|sample| sample.image.signed()).collect();
    Ok(Tensor::new(&values, [samples.len(), size, size, 3])?)
}

/// The first images of pairs that follow one another, and the second ones.
fn halves_of_pairs(images: &Tensor) -> relievo_tensor::Result<[Tensor; 2]> {
    let [count, rows, columns, channels] = images.dims("pairs")?;
    let length = rows * columns * channels;
    let half = |which: usize| {
        let values: Vec<f32> =
            images.data().chunks_exact(length).skip(which).step_by(2).flatten().copied().collect();
        Tensor::new(&values, [count / 2, rows, columns, channels])
    };
    Ok([half(0)?, half(1)?])
}
