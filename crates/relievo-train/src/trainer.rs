//! The training loop.
//!
//! A run is a sequence of states; state n+1 is a function of state n, the settings and the pictures. All that is done
//! between two steps (validating, drawing, saving) leaves no trace in that sequence, so a run that goes on from a
//! checkpoint is the run that never stopped, bit for bit.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relievo_data::{
    Batch, CacheBudget, Cached, LoadError, Loader, LoaderOptions, Position, Source, Split, SplitError,
    Training, WithoutTruth,
};
use relievo_export::{WriteError, write_atomic};
use relievo_model::{DepthTruth, Losses, Model, ModelError, Supervision};
use relievo_nets::{Vgg, VggError};
use relievo_tensor::ops::squared_norm;
use relievo_tensor::{Device, Tensor};

use crate::captured::CapturedStep;
use crate::checkpoint::{self, Best, Checkpoint, Moments, Progress};
use crate::curves::curves;
use crate::evaluation::{EvaluationError, EvaluationOptions, depth_truth, evaluate};
use crate::events::{Beginning, Event, Observer, StepReport, ValidationReport};
use crate::folder::{FolderError, RunFolder};
use crate::log::Log;
use crate::settings::{Settings, SettingsError, TrainSettings};
use crate::step::{self, StepError};

/// Why a run cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Settings that make no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The run's folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The pictures.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The part held out.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Validating.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// A file that cannot be written.
    #[error("{source}; {saved}")]
    Write {
        /// The file and the reason.
        source: WriteError,
        /// What there is to go on from.
        saved: LastSaved,
    },
    /// The log cannot be opened or written.
    #[error("cannot write the log {}: {source}", .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Weights to begin with that cannot be used.
    #[error("cannot begin with the weights in {}: {reason}", .path.display())]
    InitialWeights {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Perceptual features that cannot be used.
    #[error("cannot use the features in {}: {reason}", .path.display())]
    Features {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// None of the run's checkpoints can be read.
    #[error("no checkpoint in {} can be read, so the run cannot go on: {}", .folder.display(), .reasons.join("; "))]
    NoCheckpoint {
        /// The run's folder.
        folder: PathBuf,
        /// Why, one reason for each.
        reasons: Vec<String>,
    },
    /// A setting that cannot change within a run.
    #[error(
        "{key} is {now} but the run was begun with {then}: it cannot change within a run; leave it, or begin a new run"
    )]
    Changed {
        /// The setting.
        key: String,
        /// What it is to be.
        now: String,
        /// What it was.
        then: String,
    },
    /// Other pictures than the run began with.
    #[error(
        "the run was begun with {then} pictures to learn from and now there are {now}, or others: put back the pictures \
         that were there, or begin a new run"
    )]
    OtherPictures {
        /// Number of pictures at the beginning.
        then: u64,
        /// Number of pictures now.
        now: u64,
    },
    /// A GPU's memory is too small for so many pictures at a time.
    #[error("{source}. {}", advice(*.fits, *.micro_batch))]
    OutOfMemory {
        /// What there was no room for.
        source: ModelError,
        /// Pictures that went through the networks together.
        micro_batch: usize,
        /// As many as there is room for, tried out; none if there is not even room for one.
        fits: Option<usize>,
    },
    /// Numbers that are not finite.
    #[error(
        "stopped before step {step}: {what}{}; the model of before is kept: {saved}. A lower learning-rate or a \
         clip-norm (5, say) may help, or fewer pictures of that kind", on_pictures(.pictures)
    )]
    NonFinite {
        /// The step that was not taken.
        step: u64,
        /// What is not finite.
        what: String,
        /// The pictures of the batch; none if it is not about pictures.
        pictures: Vec<String>,
        /// What there is to go on from.
        saved: LastSaved,
    },
}

/// The newest checkpoint of a run, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSaved(pub Option<PathBuf>);

impl std::fmt::Display for LastSaved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(path) => write!(f, "the last good checkpoint is {}", path.display()),
            None => write!(f, "no checkpoint has been saved yet"),
        }
    }
}

fn advice(fits: Option<usize>, micro_batch: usize) -> String {
    match fits {
        Some(fits) => format!(
            "There is room for {fits} pictures at a time, not for {micro_batch}: --micro-batch {fits} learns from the same \
             batches in smaller pieces"
        ),
        None => {
            "There is not even room for one picture at a time: take a smaller --width, or --device cpu".into()
        }
    }
}

fn on_pictures(names: &[String]) -> String {
    const SHOWN: usize = 16;
    let (shown, more) = names.split_at(names.len().min(SHOWN));
    match (shown.join(", "), more.len()) {
        (shown, _) if shown.is_empty() => String::new(),
        (shown, 0) => format!(" on the pictures {shown}"),
        (shown, more) => format!(" on the pictures {shown} and {more} more"),
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps were taken.
    Finished,
    /// The time was up.
    TimeUp,
    /// It was asked to stop; the run can go on.
    Interrupted,
}

/// A run: begun or opened, then [run](Trainer::run).
pub struct Trainer {
    settings: Settings,
    settings_text: String,
    folder: RunFolder,
    model: Model,
    moments: Moments,
    /// The steps, where they are taken on a GPU.
    captured: Option<CapturedStep>,
    progress: Progress,
    pictures: Arc<dyn Source>,
    held_out: Arc<dyn Source>,
    log: Log,
    /// What the newest checkpoint on the disk holds.
    saved: Option<Progress>,
    /// To be told when the run starts.
    warnings: Vec<String>,
}

impl Trainer {
    /// Begins a run in an empty folder.
    ///
    /// # Errors
    /// If the settings make no sense, too few pictures are left to learn from, or the folder cannot be written to.
    pub fn begin(settings: Settings, source: Arc<dyn Source>, folder: RunFolder) -> Result<Self, TrainError> {
        settings.check()?;
        let mut model = Model::new(settings.model.clone(), settings.train.seed)?;
        if let Some(path) = settings.train.initial_weights.clone() {
            let taken = std::fs::read(&path).map_err(|error| error.to_string());
            let taken = taken.and_then(|bytes| model.take_over(&bytes));
            taken.map_err(|reason| TrainError::InitialWeights { path, reason })?;
        }
        let moments = Moments::zeros(&model);
        Self::assemble(settings, source, folder, model, moments, None)
    }

    /// Opens a run to go on with it from its newest checkpoint that can be read; damaged ones are passed over with a
    /// warning. A run that has none yet begins anew. `settings` are those of the run ([`RunFolder::settings`]),
    /// perhaps with other numbers where that makes sense within a run: how long, how often, how fast.
    ///
    /// # Errors
    /// If no checkpoint can be read though there are some, if a setting or the pictures changed that must not, or the
    /// folder cannot be written to.
    pub fn resume(
        settings: Settings,
        source: Arc<dyn Source>,
        folder: RunFolder,
    ) -> Result<Self, TrainError> {
        settings.check()?;
        let mut warnings = Vec::new();
        for step in folder.checkpoints()?.into_iter().rev() {
            match Checkpoint::read(&folder.checkpoint(step)) {
                Ok(Checkpoint { model, moments, progress, settings: then }) => {
                    check_unchanged(&settings, &then)?;
                    let mut trainer =
                        Self::assemble(settings, source, folder, model, moments, Some(progress))?;
                    trainer.warnings.append(&mut warnings);
                    trainer.repair_model();
                    return Ok(trainer);
                }
                Err(error) => warnings.push(error.to_string()),
            }
        }
        if !warnings.is_empty() {
            let folder = folder.path().to_owned();
            return Err(TrainError::NoCheckpoint { folder, reasons: warnings });
        }
        Self::begin(settings, source, folder)
    }

    fn assemble(
        mut settings: Settings,
        source: Arc<dyn Source>,
        folder: RunFolder,
        mut model: Model,
        mut moments: Moments,
        progress: Option<Progress>,
    ) -> Result<Self, TrainError> {
        let Split { train, validation } = Split::new(source, settings.data.holdout())?;
        let budget = CacheBudget::new(settings.data.cache.saturating_mul(1 << 20));
        let cached = |source: Arc<dyn Source>| -> Arc<dyn Source> {
            Arc::new(Cached::new(source, settings.model.image_size as u32, budget.clone()))
        };
        let pictures = match settings.model.supervision {
            Supervision::None => cached(Arc::new(WithoutTruth(train))),
            Supervision::Depth => cached(Arc::new(train)),
        };
        let held_out = cached(Arc::new(validation));
        let batch_size = settings.train.batch_size;
        if pictures.len() < batch_size as u64 {
            return Err(LoadError::TooFew { source_is: pictures.describe(), batch_size }.into());
        }
        let found = (pictures.len(), names_checksum(&*pictures));
        let saved = progress;
        let progress =
            saved.unwrap_or(Progress { pictures: found.0, names_checksum: found.1, ..Progress::default() });
        if (progress.pictures, progress.names_checksum) != found {
            return Err(TrainError::OtherPictures { then: progress.pictures, now: found.0 });
        }
        if let Some(path) = settings.train.perceptual_features.as_deref()
            && settings.model.perceptual_weight > 0.0
            && settings.model.supervision == Supervision::None
        {
            model.set_vgg(read_features(path)?);
        }
        moments.keep_average(&model, settings.train.average_decay > 0.0).map_err(ModelError::from)?;
        let device = settings.compute.place(&mut model)?;
        moments.to_device(device).map_err(ModelError::from)?;
        let captured = match device {
            Device::Cpu => None,
            // One network, and no picture to make of it: steps that the host directs are quick enough.
            Device::Cuda(_) if settings.model.supervision == Supervision::Depth => None,
            Device::Cuda(_) => {
                let train = &settings.train;
                let captured = CapturedStep::new(&model, train, progress.step, train.micro_batch_on(device));
                Some(captured.map_err(|error| advised(error, &model, train))?)
            }
        };
        settings.make_absolute();
        let settings_text = settings.to_toml()?;
        let write = write_atomic(folder.settings(), |out| out.write_all(settings_text.as_bytes()));
        let last = LastSaved(saved.map(|saved| folder.checkpoint(saved.step)));
        write.map_err(|source| TrainError::Write { source, saved: last })?;
        let path = folder.metrics();
        let log = Log::open(&path, &progress).map_err(|source| TrainError::Log { path, source })?;
        let warnings = folder.remove_partial().err().map(|error| error.to_string()).into_iter().collect();
        Ok(Self {
            settings,
            settings_text,
            folder,
            model,
            moments,
            captured,
            progress,
            pictures,
            held_out,
            log,
            saved,
            warnings,
        })
    }

    /// The model as it is.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Adam's state.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// How far the run has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The pictures held out for validation.
    pub fn held_out(&self) -> &Arc<dyn Source> {
        &self.held_out
    }

    /// Trains until the end of the run, or until `stop` is set: then the step in progress is finished and saved.
    ///
    /// # Errors
    /// If a loss or a gradient is not finite, no picture can be read, or the last state cannot be saved. A state that
    /// cannot be saved on the way is a warning, and tried again.
    pub fn run(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome, TrainError> {
        Session::new(self, observer)?.run(stop)
    }

    fn steps_per_epoch(&self) -> u64 {
        self.pictures.len() / self.settings.train.batch_size as u64
    }

    /// The step at which the run ends, if steps or epochs say so.
    fn last_step(&self) -> Option<u64> {
        let train = &self.settings.train;
        match (train.steps, train.epochs) {
            (0, 0) => None,
            (0, epochs) => Some(epochs.saturating_mul(self.steps_per_epoch())),
            (steps, _) => Some(steps),
        }
    }

    /// Whether something that is due every `steps` steps (0: every epoch) is due now.
    fn is_due(&self, steps: u64) -> bool {
        let period = if steps == 0 { self.steps_per_epoch() } else { steps };
        self.progress.step > 0 && self.progress.step.is_multiple_of(period)
    }

    /// Whether the weights to use are those of now: there is no better validation.
    fn is_best(&self) -> bool {
        self.progress.best.is_none_or(|best| best.step == self.progress.step)
    }

    /// Writes the weights to use.
    fn write_model(&mut self) -> Result<(), WriteError> {
        let notes = checkpoint::provenance_notes(&self.progress, &self.settings_text);
        let path = self.folder.model();
        self.looking_at_weights_to_use(|model| {
            write_atomic(path, |out| {
                out.write_all(&model.to_safetensors_with(notes).map_err(io::Error::other)?)
            })
        })
    }

    /// Looks at the model with its weights to use: the running mean of those that learn, if one is kept.
    fn looking_at_weights_to_use<T>(&mut self, look: impl FnOnce(&Model) -> T) -> T {
        let Self { model, moments, .. } = self;
        let has_average = !moments.average.is_empty();
        // What is captured knows the tensors by their memory, which stays where it is.
        if has_average {
            model.parameters_mut().swap_with_slice(&mut moments.average);
        }
        let seen = look(model);
        if has_average {
            model.parameters_mut().swap_with_slice(&mut moments.average);
        }
        seen
    }

    /// The weights to use are written after their checkpoint; if the last session ended in between, they are still to
    /// be written, and no save will do it.
    fn repair_model(&mut self) {
        if self.is_best()
            && let Err(error) = self.write_model()
        {
            self.warnings.push(error.to_string());
        }
    }

    fn last_saved(&self) -> LastSaved {
        LastSaved(self.saved.map(|saved| self.folder.checkpoint(saved.step)))
    }
}

/// From one call of [`Trainer::run`] to its return.
struct Session<'a> {
    trainer: &'a mut Trainer,
    observer: &'a mut dyn Observer,
    loader: Loader,
    began: Instant,
    /// Progress when the session began.
    before: Progress,
    last_save: Instant,
    /// The pictures of the preview sheets, once loaded.
    shown: Option<Tensor>,
    /// What is not yet reported: steps taken since the last report, or only queued on a GPU.
    unreported: Unreported,
}

/// Steps that no report tells of yet.
struct Unreported {
    /// The names of each step's pictures.
    batches: Vec<Vec<String>>,
    /// When the first of them began.
    began: Instant,
    /// How long they waited for pictures.
    waited: Duration,
}

impl Unreported {
    fn from_now() -> Self {
        Self { batches: Vec::new(), began: Instant::now(), waited: Duration::ZERO }
    }
}

impl<'a> Session<'a> {
    fn new(trainer: &'a mut Trainer, observer: &'a mut dyn Observer) -> Result<Self, TrainError> {
        let Settings { data, train, model, .. } = &trainer.settings;
        let options = LoaderOptions {
            workers: trainer.settings.data.workers_beside(trainer.model.device()),
            ..LoaderOptions::new(train.batch_size, model.image_size as u32)
        };
        // The loader carries a number of batches over into epochs.
        let start = Position { epoch: 0, batch: trainer.progress.step };
        let order = Training { seed: train.seed, mirror: data.mirror, jitter: data.jitter_of_crops(), start };
        let loader = Loader::training(Arc::clone(&trainer.pictures), options, order)?;
        let (before, now) = (trainer.progress, Instant::now());
        Ok(Self {
            trainer,
            observer,
            loader,
            began: now,
            before,
            last_save: now,
            shown: None,
            unreported: Unreported::from_now(),
        })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<Outcome, TrainError> {
        self.observer.observe(Event::Began(Beginning {
            source: &self.trainer.pictures.describe(),
            pictures: self.trainer.pictures.len(),
            held_out: self.trainer.held_out.len(),
            steps_per_epoch: self.trainer.steps_per_epoch(),
            step: self.trainer.progress.step,
            steps: self.trainer.last_step(),
        }));
        for warning in std::mem::take(&mut self.trainer.warnings) {
            self.warn(&warning);
        }
        loop {
            if stop.load(Ordering::Relaxed) {
                self.save()?;
                return Ok(Outcome::Interrupted);
            }
            let end = self.end();
            self.validate_and_draw(end.is_some())?;
            if let Some(outcome) = end {
                self.save()?;
                return Ok(outcome);
            }
            if self.is_time_to_save() {
                self.try_to_save()?;
            }
            self.step()?;
        }
    }

    /// Seconds of training over all sessions.
    fn seconds(&self) -> f64 {
        self.before.seconds + self.began.elapsed().as_secs_f64()
    }

    fn end(&self) -> Option<Outcome> {
        let minutes = self.trainer.settings.train.minutes;
        if self.trainer.last_step().is_some_and(|last| self.trainer.progress.step >= last) {
            Some(Outcome::Finished)
        } else if minutes > 0.0 && self.seconds() >= minutes * 60.0 {
            Some(Outcome::TimeUp)
        } else {
            None
        }
    }

    fn warn(&mut self, warning: &str) {
        self.observer.observe(Event::Warned(warning));
    }

    /// One step, from the next batch to its line in the log. On a GPU the step is only queued, and a line tells of the
    /// last one of several.
    fn step(&mut self) -> Result<(), TrainError> {
        if self.unreported.batches.is_empty() {
            self.unreported = Unreported::from_now();
        }
        let waited = self.loader.statistics().waited;
        let Some(batch) = self.loader.next() else { unreachable!("training batches never end") };
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                // A disk that went away takes the pictures with it, not what was learned.
                self.try_to_save()?;
                return Err(error.into());
            }
        };
        self.unreported.waited += self.loader.statistics().waited - waited;
        for skipped in self.loader.newly_skipped() {
            self.warn(&format!("skipped {skipped}"));
        }
        let epoch = self.trainer.progress.step / self.trainer.steps_per_epoch();
        let Trainer { model, moments, captured, settings, progress, .. } = &mut *self.trainer;
        let (train, step) = (&settings.train, progress.step + 1);
        let flip_weight = if epoch < train.full_flip_epochs { 1.0 } else { settings.model.flip_weight };
        let is_logged = step.is_multiple_of(train.log_steps_on(model.device()));
        let truth = match settings.model.supervision {
            Supervision::None => None,
            Supervision::Depth => Some(depth_truth(&batch, settings.model.image_size)?),
        };
        let target = truth.as_ref().map_or(step::Target::Pictures(flip_weight), step::Target::Depth);
        let Batch { images, names, .. } = batch;
        self.unreported.batches.push(names);
        match captured {
            Some(captured) => {
                captured
                    .queue(model, moments, &images, flip_weight, step, train)
                    .map_err(|error| advised(error, model, train))?;
                progress.step = step;
                if is_logged { self.catch_up() } else { Ok(()) }
            }
            None => match step::take(model, moments, &images, target, step, train) {
                Ok(step::Step { losses, gradient_norm }) => {
                    progress.step = step;
                    self.report(losses, gradient_norm, is_logged);
                    Ok(())
                }
                Err(StepError::Model(error)) => Err(advised(error, model, train)),
                Err(StepError::NonFinite(what)) => Err(self.stopped_before(step, what)),
            },
        }
    }

    /// Waits for what is queued on a GPU and reports it. Before anybody looks at the model.
    fn catch_up(&mut self) -> Result<(), TrainError> {
        let Trainer { model, captured, progress, .. } = &mut *self.trainer;
        let Some(captured) = captured.as_ref().filter(|_| !self.unreported.batches.is_empty()) else {
            return Ok(());
        };
        let look = captured.look(model)?;
        if let Some(what) = look.stopped {
            // The steps queued after it changed nothing.
            let queued = progress.step;
            progress.step = look.step;
            self.unreported
                .batches
                .truncate(self.unreported.batches.len().saturating_sub((queued - look.step) as usize - 1));
            return Err(self.stopped_before(look.step + 1, what));
        }
        self.report(look.losses, look.gradient_norm, true);
        Ok(())
    }

    /// The end of a run before step number `step`, on the newest pictures there are names of.
    fn stopped_before(&mut self, step: u64, what: String) -> TrainError {
        let pictures = self.unreported.batches.pop().unwrap_or_default();
        TrainError::NonFinite { step, what, pictures, saved: self.trainer.last_saved() }
    }

    /// Tells of the steps since the last report.
    fn report(&mut self, losses: Losses, gradient_norm: f64, is_logged: bool) {
        let Unreported { batches, began, waited } =
            std::mem::replace(&mut self.unreported, Unreported::from_now());
        let (trainer, step) = (&self.trainer, self.trainer.progress.step);
        let duration = began.elapsed().max(Duration::from_micros(1)).as_secs_f64();
        let report = StepReport {
            step,
            epoch: (step - 1) / trainer.steps_per_epoch() + 1,
            losses,
            learning_rate: step::learning_rate(&trainer.settings.train, step),
            gradient_norm,
            pictures_per_second: batches.iter().map(Vec::len).sum::<usize>() as f64 / duration,
            data_wait: waited.as_secs_f64() / duration,
            seconds: self.seconds(),
            seconds_left: self.seconds_left(),
        };
        if is_logged {
            self.log(&report);
        }
        self.observer.observe(Event::Stepped(&report));
    }

    fn seconds_left(&self) -> f64 {
        let (trainer, elapsed) = (&self.trainer, self.began.elapsed().as_secs_f64());
        let rate = elapsed / (trainer.progress.step - self.before.step).max(1) as f64;
        let by_steps =
            trainer.last_step().map(|last| last.saturating_sub(trainer.progress.step) as f64 * rate);
        let minutes = trainer.settings.train.minutes;
        let by_clock = (minutes > 0.0).then(|| minutes * 60.0 - self.seconds());
        [by_steps, by_clock].into_iter().flatten().fold(f64::INFINITY, f64::min).max(0.0)
    }

    fn log(&mut self, line: &impl serde::Serialize) {
        if let Err(error) = self.trainer.log.append(line) {
            let path = self.trainer.folder.metrics();
            self.warn(&format!(
                "cannot write to {}: {error}; trying again with the next line",
                path.display()
            ));
        }
    }

    /// What is due after the last step and has not been done, by this session or an earlier one.
    fn validate_and_draw(&mut self, is_last: bool) -> Result<(), TrainError> {
        let (train, progress) = (&self.trainer.settings.train, self.trainer.progress);
        let validates = is_last || self.trainer.is_due(train.validate_steps);
        let draws = train.preview_pictures > 0 && (is_last || self.trainer.is_due(train.preview_steps));
        if draws || validates {
            self.catch_up()?;
        }
        if draws && progress.previewed < progress.step {
            self.draw()?;
        }
        if validates && progress.validated < progress.step && !self.trainer.held_out.is_empty() {
            self.validate()?;
        }
        Ok(())
    }

    fn validate(&mut self) -> Result<(), TrainError> {
        let trainer = &mut *self.trainer;
        let train = &trainer.settings.train;
        let batch_size = train.micro_batch_on(trainer.model.device());
        let workers = trainer.settings.data.workers_beside(trainer.model.device());
        let options = EvaluationOptions { losses: true, ..EvaluationOptions::new(batch_size, workers) };
        let step = trainer.progress.step;
        trainer.progress.validated = step;
        let held_out = Arc::clone(&trainer.held_out);
        let evaluation = trainer.looking_at_weights_to_use(|model| evaluate(model, &held_out, &options));
        let evaluation = match evaluation {
            Err(EvaluationError::Load(error)) => {
                self.warn(&format!("cannot validate: {error}"));
                return Ok(());
            }
            Err(EvaluationError::Model(error)) => {
                return Err(advised(error, &trainer.model, &trainer.settings.train));
            }
            evaluation => evaluation?,
        };
        let loss = evaluation.losses.map_or(f32::NAN, |losses| losses.total);
        if !loss.is_finite() {
            let what = format!("the total loss is {loss}");
            let (pictures, saved) = (vec!["held out for validation".into()], trainer.last_saved());
            return Err(TrainError::NonFinite { step: step + 1, what, pictures, saved });
        }
        let before = trainer.progress;
        let best = before.best.is_none_or(|best| loss < best.loss);
        if best {
            trainer.progress.best = Some(Best { step, loss });
        }
        let epoch = step / trainer.steps_per_epoch();
        let report = ValidationReport { step, epoch, best, evaluation };
        self.log(&report);
        let (log, drawn) = (self.trainer.folder.metrics(), self.trainer.folder.curves());
        match curves(&log).map(|curves| curves.write_png(&drawn)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.warn(&error.to_string()),
            Err(error) => self.warn(&format!("cannot draw {}: {error}", log.display())),
        }
        self.observer.observe(Event::Validated(&report));
        if best && !self.try_to_save()? {
            // The best that cannot be saved is not the best there is.
            self.trainer.progress.best = before.best;
        }
        Ok(())
    }

    fn draw(&mut self) -> Result<(), TrainError> {
        if self.shown.is_none() {
            let trainer = &self.trainer;
            let source = if trainer.held_out.is_empty() { &trainer.pictures } else { &trainer.held_out };
            let options = LoaderOptions {
                workers: 1,
                ahead: 1,
                ..LoaderOptions::new(
                    trainer.settings.train.preview_pictures,
                    trainer.settings.model.image_size as u32,
                )
            };
            match Loader::evaluation(Arc::clone(source), options)?.next() {
                Some(Ok(batch)) => self.shown = Some(batch.images),
                Some(Err(error)) => self.warn(&format!("cannot draw a preview: {error}")),
                None => {}
            }
        }
        let trainer = &mut *self.trainer;
        let Some(pictures) = &self.shown else { return Ok(()) };
        let step = trainer.progress.step;
        let name = if trainer.settings.train.preview_steps == 0 {
            format!("epoch-{:03}", step.div_ceil(trainer.steps_per_epoch()))
        } else {
            format!("step-{step:07}")
        };
        trainer.progress.previewed = step;
        let path = trainer.folder.preview(&name);
        let title = format!("step {step}");
        let sheet =
            trainer.looking_at_weights_to_use(|model| crate::preview::sheet(model, pictures, &title))?;
        match sheet.write_png(&path) {
            Ok(()) => self.observer.observe(Event::Previewed(&path)),
            Err(error) => self.warn(&error.to_string()),
        }
        Ok(())
    }

    fn is_time_to_save(&self) -> bool {
        let train = &self.trainer.settings.train;
        let by_clock = train.checkpoint_minutes > 0.0
            && self.last_save.elapsed().as_secs_f64() >= train.checkpoint_minutes * 60.0;
        by_clock || (train.checkpoint_steps > 0 && self.trainer.is_due(train.checkpoint_steps))
    }

    /// Saves; a disk that is full is a warning. Whether it was saved.
    fn try_to_save(&mut self) -> Result<bool, TrainError> {
        match self.save() {
            Err(error @ TrainError::Write { .. }) => {
                self.warn(&format!("{error}; training goes on and will try again"));
                self.last_save = Instant::now();
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    /// Saves the state, unless it is saved already, and deletes checkpoints that are no longer kept.
    fn save(&mut self) -> Result<(), TrainError> {
        self.catch_up()?;
        let seconds = self.seconds();
        let trainer = &mut *self.trainer;
        let step = trainer.progress.step;
        if trainer.saved.is_some_and(|saved| Progress { seconds: saved.seconds, ..trainer.progress } == saved)
        {
            return Ok(());
        }
        trainer.progress.seconds = seconds;
        let saved = trainer.last_saved();
        let failed = |source| TrainError::Write { source, saved: saved.clone() };
        if !squared_norm(trainer.model.parameters()).map_err(ModelError::from)?.is_finite() {
            let what = "a parameter is not finite after the last step".to_owned();
            return Err(TrainError::NonFinite { step: step + 1, what, pictures: Vec::new(), saved });
        }
        // The checkpoint counts on the lines before it.
        if let Err(error) = trainer.log.sync() {
            let path = trainer.folder.metrics();
            return Err(failed(WriteError { path, reason: error.to_string() }));
        }
        let path = trainer.folder.checkpoint(step);
        write_atomic(&path, |out| {
            checkpoint::write(
                out,
                &trainer.model,
                &trainer.moments,
                &trainer.progress,
                &trainer.settings_text,
            )
        })
        .map_err(failed)?;
        trainer.saved = Some(trainer.progress);
        if trainer.is_best() {
            trainer.write_model().map_err(failed)?;
        }
        let best = trainer.progress.best.map(|best| best.step);
        let pruned = trainer.folder.prune(step, trainer.settings.train.keep, best);
        self.last_save = Instant::now();
        if let Err(error) = pruned {
            self.warn(&error.to_string());
        }
        self.observer.observe(Event::Saved(&path));
        Ok(())
    }
}

/// The features of a file.
fn read_features(path: &Path) -> Result<Vgg, TrainError> {
    let unusable = |reason: String| TrainError::Features { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    Vgg::from_safetensors(&bytes).map_err(|VggError::Damaged(reason)| unusable(reason))
}

/// With the micro-batch for which the memory would do, if the error is that it does not.
fn advised(error: ModelError, model: &Model, settings: &TrainSettings) -> TrainError {
    if !error.is_out_of_memory() {
        return error.into();
    }
    let (size, micro_batch) = (model.settings().image_size, settings.micro_batch_on(model.device()));
    let fits = ModelError::largest_that_fits(micro_batch, |count| {
        let pictures = Tensor::full_on(model.device(), [count, size, size, 3], 0.0)?;
        let map = Tensor::full_on(model.device(), [count, size, size], 1.0)?;
        let truth = DepthTruth { depth: map.clone(), mask: map };
        let target = match model.settings().supervision {
            Supervision::None => step::Target::Pictures(1.0),
            Supervision::Depth => step::Target::Depth(&truth),
        };
        // The gradients of one piece of the batch are kept while those of the next are found.
        let _kept = step::differentiate(model, &pictures, target)?;
        step::differentiate(model, &pictures, target).map(|_| ())
    });
    TrainError::OutOfMemory { source: error, micro_batch, fits }
}

/// A checksum over the names of the pictures, in their order.
fn names_checksum(pictures: &dyn Source) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for index in 0..pictures.len() {
        hasher.update(pictures.name(index).as_bytes());
        hasher.update(&[0]);
    }
    hasher.finalize()
}

/// Refuses settings that would make another run of this one.
fn check_unchanged(now: &Settings, then: &str) -> Result<(), TrainError> {
    let now = now.to_toml()?;
    let unreadable = |error: toml::de::Error| SettingsError::Senseless {
        place: "the settings in the checkpoint: ".into(),
        reason: error.message().to_owned(),
    };
    let [now, then]: [toml::Table; 2] = [now.parse().map_err(unreadable)?, then.parse().map_err(unreadable)?];
    let value =
        |table: &toml::Table, section: &str, key: &str| table.get(section).and_then(|s| s.get(key)).cloned();
    let model = then.get("model").and_then(toml::Value::as_table);
    let of_model = model.into_iter().flat_map(toml::Table::keys).map(|key| ("model", key.as_str()));
    let others = [
        ("data", "synthetic-seed"),
        ("data", "synthetic-count"),
        ("data", "perturbed"),
        ("data", "held-out"),
        ("data", "validation"),
        ("data", "mirror"),
        ("data", "jitter"),
        ("data", "roll"),
        ("train", "seed"),
        ("train", "batch-size"),
    ];
    for (section, key) in of_model.chain(others) {
        if let (Some(now), Some(then)) = (value(&now, section, key), value(&then, section, key))
            && now != then
        {
            let (now, then) = (now.to_string(), then.to_string());
            return Err(TrainError::Changed { key: key.to_owned(), now, then });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
