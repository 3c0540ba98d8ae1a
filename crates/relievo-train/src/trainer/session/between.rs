//! Work between two steps: validating, drawing, saving. It does not affect the steps that follow.

use std::sync::Arc;
use std::time::Instant;

use relievo_data::{Loader, LoaderOptions};
use relievo_files::{WriteError, write_durable};
use relievo_model::ModelError;
use relievo_tensor::ops::squared_norm;

use super::Session;
use crate::checkpoint::{self, Best, Progress};
use crate::curves::curves;
use crate::evaluation::{EvaluationError, EvaluationOptions, evaluate};
use crate::events::{Event, ValidationReport};
use crate::settings::Pairs;
use crate::trainer::{TrainError, advised};

impl Session<'_> {
    /// Validates and draws if that is due after the last step and has not been done, by this session or an earlier one.
    pub(super) fn validate_and_draw(&mut self, is_last: bool) -> Result<(), TrainError> {
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
        let batch_size = train.micro_batch_on(trainer.model().device());
        let workers = trainer.settings.data.workers_beside(trainer.model().device());
        let pairs = trainer.settings.data.pairs == Pairs::Collection;
        let options =
            EvaluationOptions { losses: true, pairs, ..EvaluationOptions::new(batch_size, workers) };
        let step = trainer.progress.step;
        trainer.progress.validated = step;
        let held_out = Arc::clone(&trainer.held_out);
        let evaluation = trainer.learner.with_weights_to_use(|model| evaluate(model, &held_out, &options));
        let evaluation = match evaluation {
            Err(EvaluationError::Load(error)) => {
                self.warn(&format!("cannot validate: {error}"));
                return Ok(());
            }
            Err(EvaluationError::Model(error)) => {
                return Err(advised(error, trainer.model(), &trainer.settings.train));
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
            // A best state that cannot be saved does not count.
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
            trainer.learner.with_weights_to_use(|model| crate::preview::sheet(model, images, &title))?;
        match sheet.write_png(&path) {
            Ok(()) => self.observer.observe(Event::Previewed(&path)),
            Err(error) => self.warn(&error.to_string()),
        }
        Ok(())
    }

    pub(super) fn is_time_to_save(&self) -> bool {
        let train = &self.trainer.settings.train;
        let by_clock = train.checkpoint_minutes > 0.0
            && self.last_save.elapsed().as_secs_f64() >= train.checkpoint_minutes * 60.0;
        by_clock || (train.checkpoint_steps > 0 && self.trainer.is_due(train.checkpoint_steps))
    }

    /// Saves and returns whether that succeeded; a full disk is only a warning.
    pub(super) fn try_to_save(&mut self) -> Result<bool, TrainError> {
        match self.save() {
            Err(error @ TrainError::Write { .. }) => {
                self.warn(&format!("{error}; training goes on and will try again"));
                self.last_save = Instant::now();
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    /// Saves the state, unless it has been saved, and deletes checkpoints that are no longer kept.
    pub(super) fn save(&mut self) -> Result<(), TrainError> {
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
        if !squared_norm(trainer.model().parameters()).map_err(ModelError::from)?.is_finite() {
            let what = "a parameter is not finite after the last step".to_owned();
            return Err(TrainError::NonFinite { step: step + 1, what, images: Vec::new(), saved });
        }
        // A resumed run relies on the lines up to its checkpoint.
        if let Err(error) = trainer.log.sync() {
            let path = trainer.folder.metrics();
            return Err(failed(WriteError { path, reason: error.to_string() }));
        }
        let path = trainer.folder.checkpoint(step);
        write_durable(&path, |out| {
            checkpoint::write(
                out,
                trainer.model(),
                trainer.moments(),
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
