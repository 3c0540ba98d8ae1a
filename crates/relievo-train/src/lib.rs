//! Training: optimiser steps, runs with checkpoints and logs, metrics, evaluation.
//!
//! [`Settings`] determine a run. A [`Trainer`] begins a run in a [`RunFolder`] or resumes one, and reports to an
//! [`Observer`]; [`evaluate`] measures a model on images it did not learn from.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::sync::atomic::AtomicBool;
//!
//! use relievo_data::Images;
//! use relievo_train::{Event, RunFolder, Settings, Trainer};
//!
//! let mut settings = Settings::default();
//! settings.train.minutes = 60.0;
//! let images = Arc::new(Images::open(&["faces"])?);
//! let mut trainer = Trainer::begin(settings, images, RunFolder::create("run", false)?)?;
//! let mut report = |event: Event<'_>| {
//!     if let Event::Stepped(report) = event {
//!         println!("step {}, {:.0} images/s", report.step, report.images_per_second);
//!     }
//! };
//! trainer.run(&mut report, &AtomicBool::new(false))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/train.rs` is the loop itself, on one page: read it first.

mod captured;
pub mod checkpoint;
mod curves;
mod evaluation;
mod events;
mod folder;
mod learner;
mod log;
pub mod metrics;
mod optimiser;
mod preview;
mod profile;
mod provenance;
mod renderer;
mod settings;
mod step;
mod teacher;
mod trainer;

pub use captured::{CapturedStep, StepStatus};
pub use evaluation::{
    AngleErrors, Baselines, Comparison, Evaluation, EvaluationError, EvaluationOptions, Scores, Viewpoint,
    baselines, evaluate, evaluate_beside, ground_truth, mean_depth,
};
pub use events::{Event, Observer, StepReport, TrainingStarted, ValidationReport};
pub use folder::{FolderError, RunFolder};
pub use optimiser::Moments;
pub use profile::{Ceilings, OperationTime, profile_steps};
pub use provenance::{HeldOutError, Provenance};
pub use renderer::{
    ExamplesError, RendererEvaluation, RendererRun, RendererScores, RendererStep, RendererTimes,
    RendererTrainer, RendererTraining, evaluate_renderer, renderer_sheet,
};
pub use settings::{
    DataSettings, EmbeddedWeights, GivenSettings, HeldOut, Learn, Pairs, Settings, SettingsError,
    TrainSettings,
};
pub use trainer::{LastSaved, Outcome, TrainError, Trainer};
