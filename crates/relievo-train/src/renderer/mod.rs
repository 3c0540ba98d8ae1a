//! Training and measuring of a learned renderer.
//!
//! A run is as a model's ([`crate::Trainer`]): state n+1 is a function of state n, the settings and the images, so a run
//! that resumes from a checkpoint equals the run that never stopped, bit for bit. Steps, folder, log and checkpoints are the
//! same code; the loop is another, because here nothing is held out, drawn or captured, and batches are made, not loaded.

mod evaluation;
mod examples;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relievo_data::Source;
use relievo_files::{FolderLock, WriteError, write_durable};
use relievo_model::{LearnedRenderer, RENDERER_KEY, Rendered, RendererInputs, RendererSettings};
use relievo_settings::settings;
use relievo_tensor::ops::{absolute_error, reshape, squared_norm, weighted_sum};
use relievo_tensor::{Random, Tape, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::checkpoint::{self, Progress, State};
use crate::folder::RunFolder;
use crate::log::Log;
use crate::optimiser::Moments;
use crate::settings::{SettingsError, TrainSettings};
use crate::step::{adam_step, learning_rate};
use crate::trainer::{LastSaved, Outcome, TrainError};
use examples::{Examples, Views};

pub use evaluation::{RendererEvaluation, RendererScores, RendererTimes, evaluate_renderer, renderer_sheet};
pub use examples::ExamplesError;

/// The stream of the batches of a seed.
const BATCHES: &str = "renderer batches";

settings! {
    /// How a renderer learns.
    pub struct RendererTraining {
        /// Seed of the initial weights and of objects, lights and views of every step
        seed: u64 = 0, kind(Seed);
        /// Synthetic heads to learn from
        heads: u64 = 2_000, in 1..=1_000_000, kind(Data);
        /// Seed of the synthetic heads
        head_seed: u64 = 0, kind(Data);
        /// Optimiser steps; the learning rate falls to 0 over them along half a cosine
        steps: u64 = 8_000, in 1.., kind(Schedule);
        /// Images per optimiser step
        batch_size: usize = 16, in 1..=4096, kind(Data);
        /// Learning rate of Adam
        learning_rate: f64 = 1e-3, in 0.0.., kind(Schedule);
        /// Steps at the start over which the learning rate rises linearly from 0
        warm_up_steps: u64 = 100, kind(Schedule);
        /// Weight of the mask's mean absolute error; that of the image within the mask has weight 1
        mask_weight: f32 = 0.5, in 0.0..=1e6, kind(Objective);
        /// Steps between log lines
        log_steps: u64 = 20, in 1.., kind(Free);
        /// Minutes between checkpoints
        checkpoint_minutes: f64 = 5.0, in 0.01.., kind(Free);
    }
}

/// All settings of a run, as they stand in its `settings.toml`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RendererRun {
    /// What is rendered, and the network.
    pub renderer: RendererSettings,
    /// How it learns.
    pub train: RendererTraining,
}

/// A line of the log.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RendererStep {
    kind: &'static str,
    /// Its number; the first is 1.
    pub step: u64,
    /// The mean absolute error of the image within the mask, in the images' units: white is 1, black -1.
    pub image: f32,
    /// The mean absolute error of the mask.
    pub mask: f32,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Seconds of training so far, over all sessions.
    pub seconds: f64,
}

/// A run, started or resumed.
pub struct RendererTrainer {
    run: RendererRun,
    text: String,
    folder: RunFolder,
    renderer: LearnedRenderer,
    moments: Moments,
    progress: Progress,
    examples: Examples,
    log: Log,
    /// The step after which it was last saved.
    saved: Option<u64>,
    _lock: FolderLock,
}

impl RendererTrainer {
    /// Starts a run in a folder. `source` shows objects from the front, with their truth.
    ///
    /// # Errors
    /// If the settings are invalid, the source cannot be learned from, or the folder cannot be written to.
    pub fn begin(run: RendererRun, source: &dyn Source, folder: RunFolder) -> Result<Self, TrainError> {
        let checked = run.renderer.check().and_then(|()| run.train.check_each());
        checked
            .map_err(|error| SettingsError::Invalid { place: String::new(), reason: error.to_string() })?;
        let renderer = LearnedRenderer::new(run.renderer.clone(), run.train.seed)?;
        let moments = Moments::zeros_for(renderer.parameters());
        let text = toml::to_string(&run)
            .map_err(|error| SettingsError::Invalid { place: String::new(), reason: error.to_string() })?;
        let progress = Progress { images: source.len(), ..Progress::default() };
        Self::assemble(run, text, source, folder, renderer, moments, progress, None)
    }

    /// Resumes the run in a folder, from its newest readable checkpoint, or from the beginning if it has none.
    /// `source` makes the images again from the run's settings.
    ///
    /// # Errors
    /// If none of its checkpoints can be read, or the images are not those of the run.
    pub fn resume<S: Source>(
        folder: RunFolder,
        source: impl FnOnce(&RendererTraining) -> S,
    ) -> Result<Self, TrainError> {
        let mut reasons = Vec::new();
        for step in folder.checkpoints()?.into_iter().rev() {
            match read_checkpoint(folder.checkpoint(step)) {
                Ok((renderer, State { moments, progress, settings })) => {
                    let run = parsed(folder.settings(), &settings)?;
                    let source = source(&run.train);
                    if source.len() != progress.images {
                        return Err(TrainError::OtherImages { then: progress.images, now: source.len() });
                    }
                    let step = Some(step);
                    return Self::assemble(run, settings, &source, folder, renderer, moments, progress, step);
                }
                Err(reason) => reasons.push(reason),
            }
        }
        if !reasons.is_empty() {
            return Err(TrainError::NoCheckpoint { folder: folder.path().to_owned(), reasons });
        }
        let text = relievo_files::read_to_string(&folder.settings()).map_err(SettingsError::from)?;
        let run = parsed(folder.settings(), &text)?;
        let source = source(&run.train);
        Self::begin(run, &source, folder)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a run, put together in one place")]
    fn assemble(
        run: RendererRun,
        text: String,
        source: &dyn Source,
        folder: RunFolder,
        renderer: LearnedRenderer,
        moments: Moments,
        progress: Progress,
        saved: Option<u64>,
    ) -> Result<Self, TrainError> {
        let examples = Examples::of(source, &run.renderer)?;
        let lock = FolderLock::acquire(folder.path())?;
        folder.make_way()?;
        let last = LastSaved(saved.map(|step| folder.checkpoint(step)));
        write_durable(folder.settings(), |out| out.write_all(text.as_bytes()))
            .map_err(|source| TrainError::Write { source, saved: last })?;
        let path = folder.metrics();
        let log = Log::open(&path, &progress).map_err(|source| TrainError::Log { path, source })?;
        Ok(Self { run, text, folder, renderer, moments, progress, examples, log, saved, _lock: lock })
    }

    /// Steps taken so far.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// The settings of the run.
    pub fn settings(&self) -> &RendererRun {
        &self.run
    }

    /// The renderer as it is now.
    pub fn renderer(&self) -> &LearnedRenderer {
        &self.renderer
    }

    /// Trains until the last step, or until `stop` is set; then it saves. `observe` gets every line of the log.
    ///
    /// # Errors
    /// If a loss or gradient is not finite, or something cannot be written.
    pub fn run(
        &mut self,
        observe: &mut dyn FnMut(&RendererStep),
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        let (began, before) = (Instant::now(), self.progress.seconds);
        let mut last_save = began;
        let period = Duration::from_secs_f64((60.0 * self.run.train.checkpoint_minutes).min(1e9));
        while self.progress.step < self.run.train.steps {
            if stop.load(Ordering::Relaxed) {
                self.save()?;
                return Ok(Outcome::Interrupted);
            }
            let mut report = self.take_step()?;
            self.progress.seconds = before + began.elapsed().as_secs_f64();
            report.seconds = self.progress.seconds;
            if report.step.is_multiple_of(self.run.train.log_steps) || report.step == self.run.train.steps {
                let path = self.folder.metrics();
                self.log.append(&report).map_err(|source| TrainError::Log { path, source })?;
                observe(&report);
            }
            if last_save.elapsed() >= period {
                self.save()?;
                last_save = Instant::now();
            }
        }
        self.save()?;
        Ok(Outcome::Finished)
    }

    fn take_step(&mut self) -> Result<RendererStep, TrainError> {
        let step = self.progress.step + 1;
        let RendererRun { renderer: settings, train } = &self.run;
        let views = Views { yaw: 0.0..=settings.yaw_range };
        let random = Random::named(train.seed, BATCHES).fork(step);
        let engine = |error: relievo_tensor::Error| TrainError::Model(error.into());
        let inputs = self.examples.draw(random, train.batch_size, settings, &views).map_err(engine)?;
        let (losses, gradients) =
            losses_and_gradients(&self.renderer, &inputs, train.mask_weight).map_err(engine)?;
        let norm = squared_norm(&gradients).map_err(engine)?;
        let [image, mask] = losses;
        if !(image.is_finite() && mask.is_finite() && norm.is_finite()) {
            let what =
                format!("a loss or gradient is not finite: image {image}, mask {mask}, gradient {norm}");
            let saved = LastSaved(self.saved.map(|step| self.folder.checkpoint(step)));
            return Err(TrainError::NonFinite { step, what, images: Vec::new(), saved });
        }
        let schedule = schedule(train);
        let Moments { exp_avg, exp_avg_sq, .. } = &mut self.moments;
        adam_step(&schedule, step)
            .apply(self.renderer.parameters_mut(), &gradients, exp_avg, exp_avg_sq)
            .map_err(engine)?;
        self.progress.step = step;
        let learning_rate = learning_rate(&schedule, step);
        Ok(RendererStep { kind: "step", step, image, mask, learning_rate, seconds: self.progress.seconds })
    }

    /// Writes a checkpoint and the renderer, unless that has been done after this step.
    fn save(&mut self) -> Result<(), TrainError> {
        let step = self.progress.step;
        if self.saved == Some(step) {
            return Ok(());
        }
        let saved = LastSaved(self.saved.map(|step| self.folder.checkpoint(step)));
        let failed = |source| TrainError::Write { source, saved: saved.clone() };
        let path = self.folder.metrics();
        self.log.sync().map_err(|error| failed(WriteError { path, reason: error.to_string() }))?;
        let notes = Map::from_iter([(RENDERER_KEY.to_owned(), self.renderer.settings_text().into())]);
        let learned = (self.renderer.parameter_infos(), self.renderer.parameters());
        write_durable(self.folder.checkpoint(step), |out| {
            checkpoint::write_state(out, learned, &self.moments, &self.progress, &self.text, notes)
        })
        .map_err(&failed)?;
        self.saved = Some(step);
        let bytes = self.renderer.to_safetensors()?;
        write_durable(self.folder.model(), |out| out.write_all(&bytes)).map_err(&failed)?;
        Ok(self.folder.prune(step, 2, None)?)
    }
}

/// Losses (image, mask) and the gradients of the parameters.
fn losses_and_gradients(
    renderer: &LearnedRenderer,
    inputs: &RendererInputs,
    mask_weight: f32,
) -> Result<([f32; 2], Vec<Tensor>), relievo_tensor::Error> {
    let exact = renderer.settings().render_exactly(inputs)?;
    let tape = Tape::new();
    let parameters: Vec<Tensor> =
        renderer.parameters().iter().map(|parameter| tape.watch(parameter)).collect();
    let learned = renderer.render_with(inputs, &parameters)?;
    let [image, mask] = losses(&learned, &exact)?;
    let total = weighted_sum(&[(1.0, &image), (mask_weight, &mask)])?;
    let mut gradients = tape.backward(&total)?;
    let all = parameters
        .iter()
        .map(|parameter| gradients.take(parameter).map_or_else(|| Ok(Tensor::zeros(parameter.shape())), Ok));
    Ok(([image.item()?, mask.item()?], all.collect::<Result<_, relievo_tensor::Error>>()?))
}

/// The mean absolute errors of the image within the exact mask, and of the mask.
fn losses(learned: &Rendered, exact: &Rendered) -> Result<[Tensor; 2], relievo_tensor::Error> {
    let image = absolute_error(&learned.image, &exact.image, &exact.mask)?;
    let [batch, height, width] = exact.mask.dims("renderer")?;
    let maps = [&learned.mask, &exact.mask].map(|mask| reshape(mask, [batch, height, width, 1]));
    let [found, right] = maps;
    let everywhere = Tensor::full_on(exact.mask.device(), exact.mask.shape(), 1.0)?;
    Ok([image, absolute_error(&found?, &right?, &everywhere)?])
}

/// The rule of steps as the trainer of models has it.
fn schedule(train: &RendererTraining) -> TrainSettings {
    let &RendererTraining { learning_rate, warm_up_steps, steps, .. } = train;
    let decay_steps = steps.saturating_sub(warm_up_steps).max(1);
    TrainSettings { learning_rate, warm_up_steps, decay_steps, weight_decay: 0.0, ..TrainSettings::default() }
}

/// The settings of a run from the text of its file.
fn parsed(path: PathBuf, text: &str) -> Result<RendererRun, SettingsError> {
    toml::from_str(text)
        .map_err(|error| SettingsError::Malformed { path, reason: error.message().to_owned() })
}

fn read_checkpoint(path: PathBuf) -> Result<(LearnedRenderer, State), String> {
    let bytes = relievo_files::read(&path).map_err(|error| error.to_string())?;
    let learned = |origin: &str| LearnedRenderer::from_safetensors(&bytes, origin);
    State::read(&bytes, &path, learned, LearnedRenderer::parameter_infos).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use relievo_synth::Heads;

    use super::*;

    fn run() -> RendererRun {
        let renderer = RendererSettings { width: 4, ..RendererSettings::default() };
        let train = RendererTraining {
            heads: 3,
            steps: 6,
            batch_size: 2,
            warm_up_steps: 0,
            log_steps: 1,
            ..RendererTraining::default()
        };
        RendererRun { renderer, train }
    }

    fn source(train: &RendererTraining) -> Heads {
        Heads::range(train.head_seed, 0, train.heads).frontal()
    }

    fn begin(folder: &std::path::Path, run: RendererRun) -> RendererTrainer {
        let heads = source(&run.train);
        RendererTrainer::begin(run, &heads, RunFolder::create(folder, false).unwrap()).unwrap()
    }

    #[test]
    fn a_resumed_run_equals_one_that_never_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
        let go_on = AtomicBool::new(false);
        assert_eq!(begin(&whole, run()).run(&mut |_| {}, &go_on).unwrap(), Outcome::Finished);

        let mut first = begin(&parts, run());
        let mut seen = 0;
        let outcome = first.run(
            &mut |report| {
                seen = report.step;
                go_on.store(report.step == 3, Ordering::Relaxed);
            },
            &go_on,
        );
        assert_eq!((outcome.unwrap(), seen), (Outcome::Interrupted, 3));
        drop(first);
        go_on.store(false, Ordering::Relaxed);
        let mut second = RendererTrainer::resume(RunFolder::open(&parts).unwrap(), source).unwrap();
        assert_eq!(second.step(), 3);
        second.run(&mut |_| {}, &go_on).unwrap();
        let [a, b] = [&whole, &parts].map(|path| std::fs::read(path.join("model.safetensors")).unwrap());
        assert!(a == b);
        let lines = std::fs::read_to_string(parts.join("metrics.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 6);
        assert!(LearnedRenderer::from_safetensors(&a, "file").is_ok());
    }

    #[test]
    fn steps_lower_the_loss() {
        // The examples of a step are those of its number, so both runs see the same ones, and only one learns from them.
        let mean_error = |learning_rate| {
            let folder = tempfile::tempdir().unwrap();
            let mut run = run();
            (run.train.heads, run.train.steps, run.train.learning_rate) = (1, 80, learning_rate);
            let mut errors = Vec::new();
            begin(folder.path(), run)
                .run(&mut |report| errors.push(report.image), &AtomicBool::new(false))
                .unwrap();
            errors[40..].iter().sum::<f32>() / 40.0
        };
        let [learned, untrained] = [3e-3, 1e-9].map(mean_error);
        // Eighty steps of two images are few: 0.48 and 0.51.
        assert!(learned < 0.97 * untrained, "{learned} {untrained}");
    }

    #[test]
    fn other_settings_and_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut wrong = run();
        wrong.train.steps = 0;
        let heads = source(&wrong.train);
        let error = RendererTrainer::begin(wrong, &heads, RunFolder::create(folder.path(), false).unwrap());
        assert_eq!(error.err().unwrap().to_string(), "steps is 0; it must be at least 1");
        drop(begin(folder.path(), run()));
        let text = std::fs::read_to_string(folder.path().join("settings.toml")).unwrap();
        std::fs::write(folder.path().join("settings.toml"), text.replace("heads =", "hats =")).unwrap();
        let error = RendererTrainer::resume(RunFolder::open(folder.path()).unwrap(), source).err().unwrap();
        assert!(error.to_string().contains("hats"), "{error}");
    }
}
