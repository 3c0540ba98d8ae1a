//! One session of a run: its steps, one after the other, and their reports.

mod between;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relievo_data::{Loader, LoaderOptions, Position, Training};
use relievo_model::{Losses, Objective, Partners};
use relievo_tensor::Tensor;

use super::{Outcome, TrainError, Trainer, advised};
use crate::checkpoint::Progress;
use crate::evaluation::ground_truth;
use crate::events::{Event, Observer, StepReport, TrainingStarted};
use crate::learner::Learner;
use crate::settings::{Learn, Pairs, Settings};
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
    /// Steps not yet reported: taken since the last report, or only queued on a GPU.
    unreported: Unreported,
}

/// Steps not yet reported.
struct Unreported {
    /// The names of each step's images.
    batches: Vec<Vec<String>>,
    /// When the first of them began.
    began: Instant,
    /// Time spent waiting for their images.
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
            workers: trainer.settings.data.workers_beside(trainer.model().device()),
            pairs: data.pairs == Pairs::Collection,
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

    /// One step, from the next batch to its line in the log. On a GPU the step is only queued, and a line covers
    /// several.
    fn step(&mut self) -> Result<(), TrainError> {
        if self.unreported.batches.is_empty() {
            self.unreported = Unreported::from_now();
        }
        let waited = self.loader.waited();
        let Some(batch) = self.loader.next() else { unreachable!("training batches never end") };
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                // If the disk with the images is gone, the training so far need not be.
                self.try_to_save()?;
                return Err(error.into());
            }
        };
        self.unreported.waited += self.loader.waited() - waited;
        for skipped in self.loader.newly_skipped() {
            self.warn(&format!("skipped {skipped}"));
        }
        let epoch = self.trainer.progress.step / self.trainer.steps_per_epoch();
        let Trainer { learner, settings, progress, .. } = &mut *self.trainer;
        let (train, step) = (&settings.train, progress.step + 1);
        let flip_weight = if epoch < train.full_flip_epochs { 1.0 } else { settings.model.flip_weight };
        let is_logged = step.is_multiple_of(train.log_steps_on(learner.model().device()));
        let truth = ground_truth(&batch, &settings.model)?;
        let perceptual_factor = step::perceptual_factor(train, step);
        let partners = match train.learn {
            Learn::All | Learn::Decomposition => Partners::of(batch.partners.as_ref()),
            Learn::Texture => Partners::Nobody,
        };
        let objective = Objective { flip_weight, perceptual_factor, truth: truth.as_ref(), partners };
        let (images, names) = (&batch.images, batch.names);
        self.unreported.batches.push(names);
        match learner {
            Learner::Captured(captured) => {
                captured
                    .queue(images, objective, step, train)
                    .map_err(|error| advised(error, captured.model(), train))?;
                progress.step = step;
                if is_logged { self.catch_up() } else { Ok(()) }
            }
            Learner::Host { model, moments } => {
                match step::take(model, moments, images, objective, step, train) {
                    Ok(step::Step { losses, gradient_norm }) => {
                        progress.step = step;
                        self.report(losses, gradient_norm, is_logged);
                        Ok(())
                    }
                    Err(StepError::Model(error)) => Err(advised(error, model, train)),
                    Err(StepError::NonFinite(what)) => Err(self.stopped_before(step, what)),
                }
            }
        }
    }

    /// Waits for the steps queued on a GPU and reports them. Must be called before the model is read.
    fn catch_up(&mut self) -> Result<(), TrainError> {
        let Trainer { learner, progress, .. } = &mut *self.trainer;
        let Learner::Captured(captured) = learner else { return Ok(()) };
        if self.unreported.batches.is_empty() {
            return Ok(());
        }
        let Some(look) = captured.look()? else { return Ok(()) };
        if let Some(what) = look.stopped {
            // Steps queued after it changed nothing.
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

    /// The error that ends a run before step number `step`, with the names of the newest batch.
    fn stopped_before(&mut self, step: u64, what: String) -> TrainError {
        let images = self.unreported.batches.pop().unwrap_or_default();
        TrainError::NonFinite { step, what, images, saved: self.trainer.last_saved() }
    }

    /// Reports the steps since the last report.
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
}
