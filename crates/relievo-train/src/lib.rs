//! Optimiser steps, schedule, checkpoints, metrics, logs.
//!
//! [`Settings`] say everything about a run. A [`Trainer`] begins a run in a [`RunFolder`] or goes on with one, and
//! tells an [`Observer`] what happens. [`evaluate`] measures a model on images it did not learn from, and
//! [`reproduce`] does all that for the tables of the paper.

mod captured;
pub mod checkpoint;
mod curves;
mod evaluation;
mod events;
mod features;
mod folder;
mod log;
pub mod metrics;
mod preview;
mod profile;
pub mod reproduce;
mod settings;
mod step;
mod trainer;

pub use captured::{CapturedStep, StepStatus};
pub use evaluation::{
    AngleErrors, Comparison, Evaluation, EvaluationError, EvaluationOptions, Scores, Viewpoint, evaluate,
    mean_depth,
};
pub use events::{Event, Observer, StepReport, TrainingStarted, ValidationReport};
pub use features::FeatureError;
pub use folder::{FolderError, RunFolder};
pub use profile::{OperationTime, profile_steps};
pub use settings::{
    DataSettings, EmbeddedWeights, HeldOut, SYNTHETIC, Settings, SettingsError, TrainSettings,
};
pub use trainer::{LastSaved, Outcome, TrainError, Trainer};

/// A model for tests that is quick to run.
#[cfg(test)]
fn tiny() -> relievo_model::ModelSettings {
    relievo_model::ModelSettings {
        width: 8,
        code: 16,
        encoder_width: 8,
        perceptual_weight: 0.0,
        ..relievo_model::ModelSettings::default()
    }
}
