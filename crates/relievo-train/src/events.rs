//! The events of a run, for a progress bar, a window, a test.

use std::path::Path;

use relievo_model::Losses;
use serde::Serialize;

use crate::evaluation::Evaluation;

/// Receives the events of a run.
pub trait Observer: Send {
    /// Receives one event. Training waits until this returns.
    fn observe(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>) + Send> Observer for F {
    fn observe(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// An event of a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Training starts, or resumes.
    Started(TrainingStarted<'a>),
    /// An optimiser step was taken.
    Stepped(&'a StepReport),
    /// The model was validated.
    Validated(&'a ValidationReport),
    /// A preview sheet was drawn.
    Previewed(&'a Path),
    /// A checkpoint was saved.
    Saved(&'a Path),
    /// A problem that does not stop training: an image that cannot be read, a checkpoint that could not be saved and will
    /// be tried again, a damaged checkpoint that was skipped.
    Warned(&'a str),
}

/// The size of a run when it starts.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct TrainingStarted<'a> {
    /// Description of the training images.
    pub source: &'a str,
    /// Their number.
    pub images: u64,
    /// Number of images held out.
    pub held_out: u64,
    /// Optimiser steps in an epoch.
    pub steps_per_epoch: u64,
    /// Steps taken by earlier sessions.
    pub step: u64,
    /// The step at which the run ends; `None` if only the clock ends it.
    pub steps: Option<u64>,
}

/// One optimiser step: a line of the log.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", rename = "step")]
pub struct StepReport {
    /// Steps taken, this one included.
    pub step: u64,
    /// The epoch it belongs to; the first is 1.
    pub epoch: u64,
    /// Losses before the step, over the batch.
    #[serde(flatten)]
    pub losses: Losses,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Norm of the gradient of all parameters together, before it was clipped.
    pub gradient_norm: f64,
    /// Images per second in this step.
    pub images_per_second: f64,
    /// Share of the step's time spent waiting for images.
    pub data_wait: f64,
    /// Seconds of training so far, over all sessions.
    pub seconds: f64,
    /// Seconds the run still needs at the rate of this session.
    #[serde(skip)]
    pub seconds_left: f64,
}

/// One validation: a line of the log.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", rename = "validation")]
pub struct ValidationReport {
    /// Steps taken before.
    pub step: u64,
    /// Epochs finished before.
    pub epoch: u64,
    /// Whether the total loss is the lowest so far.
    pub best: bool,
    /// The measurements.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}
