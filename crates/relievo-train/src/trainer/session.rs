//! One session of a run: steps, and what is done between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relievo_data::{Batch, Loader, LoaderOptions, Position, Training};
use relievo_export::{WriteError, write_durable};
use relievo_model::{Losses, ModelError, Supervision};
use relievo_tensor::Tensor;
use relievo_tensor::ops::squared_norm;

use super::{Outcome, TrainError, Trainer, advised};
use crate::checkpoint::{self, Best, Progress};
use crate::curves::curves;
use crate::evaluation::{EvaluationError, EvaluationOptions, depth_truth, evaluate};
use crate::events::{Event, Observer, StepReport, TrainingStarted, ValidationReport};
use crate::settings::Settings;
use crate::step::{self, StepError};

/// From one call of [`Trainer::run`] to its return.
pub(super) struct Session<'a> {
    trainer: &'a mut Trainer,
    observer: &'a mut dyn Observer,
    loader: Loader,
    began: Instant,
    /// Progress when the session began.
    before: Progress,
    last_save: Instant,
    /// The images of the preview sheets, once loaded.
    shown: Option<Tensor>,
    /// What is not yet reported: steps taken since the last report, or only queued on a GPU.
    unreported: Unreported,
}

/// Steps that no report tells of yet.
struct Unreported {
    /// The names of each step's images.
    batches: Vec<Vec<String>>,
    /// When the first of them began.
    began: Instant,
    /// How long they waited for images.
    waited: Duration,
}

impl Unreported {
    fn from_now() -> Self {
        Self { batches: Vec::new(), began: Instant::now(), waited: Duration::ZERO }
    }
}

impl<'a> Session<'a> {
    pub fn new(trainer: &'a mut Trainer, observer: &'a mut dyn Observer) -> Result<Self, TrainError> {
        let Settings { data, train, model, .. } = &trainer.settings;
        let options = LoaderOptions {
            workers: trainer.settings.data.workers_beside(trainer.model.device()),
            ..LoaderOptions::new(train.batch_size, model.image_size as u32)
        };
        // The loader carries a number of batches over into epochs.
        let start = Position { epoch: 0, batch: trainer.progress.step };
        let order = Training { seed: train.seed, mirror: data.mirror, jitter: data.jitter_of_crops(), start };
        let loader = Loader::training(Arc::clone(&trainer.images), options, order)?;
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

    pub fn run(mut self, stop: &AtomicBool) -> Result<Outcome, TrainError> {
        self.observer.observe(Event::Started(TrainingStarted {
            source: &self.trainer.images.describe(),
            images: self.trainer.images.len(),
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
        let waited = self.loader.waited();
        let Some(batch) = self.loader.next() else { unreachable!("training batches never end") };
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                // A disk that went away takes the images with it, not what was learned.
                self.try_to_save()?;
                return Err(error.into());
            }
        };
        self.unreported.waited += self.loader.waited() - waited;
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
        let target = truth.as_ref().map_or(step::Target::Images(flip_weight), step::Target::Depth);
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

    /// The end of a run before step number `step`, on the newest images there are names of.
    fn stopped_before(&mut self, step: u64, what: String) -> TrainError {
        let images = self.unreported.batches.pop().unwrap_or_default();
        TrainError::NonFinite { step, what, images, saved: self.trainer.last_saved() }
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
            images_per_second: batches.iter().map(Vec::len).sum::<usize>() as f64 / duration,
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
        let draws = train.preview_images > 0 && (is_last || self.trainer.is_due(train.preview_steps));
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
            let (images, saved) = (vec!["held out for validation".into()], trainer.last_saved());
            return Err(TrainError::NonFinite { step: step + 1, what, images, saved });
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
            let source = if trainer.held_out.is_empty() { &trainer.images } else { &trainer.held_out };
            let options = LoaderOptions {
                workers: 1,
                ahead: 1,
                ..LoaderOptions::new(
                    trainer.settings.train.preview_images,
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
        let Some(images) = &self.shown else { return Ok(()) };
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
            trainer.looking_at_weights_to_use(|model| crate::preview::sheet(model, images, &title))?;
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
            return Err(TrainError::NonFinite { step: step + 1, what, images: Vec::new(), saved });
        }
        // The checkpoint counts on the lines before it.
        if let Err(error) = trainer.log.sync() {
            let path = trainer.folder.metrics();
            return Err(failed(WriteError { path, reason: error.to_string() }));
        }
        let path = trainer.folder.checkpoint(step);
        write_durable(&path, |out| {
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
