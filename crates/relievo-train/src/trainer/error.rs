//! Errors of a run. They carry data; advice for users belongs to the front end.

use std::fmt;
use std::io;
use std::path::PathBuf;

use relievo_data::{LoadError, SplitError};
use relievo_files::{FolderLocked, WriteError};
use relievo_model::ModelError;

use crate::evaluation::EvaluationError;
use crate::folder::FolderError;
use crate::renderer::ExamplesError;
use crate::settings::SettingsError;

/// The reason why a run cannot start or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Invalid settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The run's folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Another program is using it.
    #[error(transparent)]
    FolderLocked(#[from] FolderLocked),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The images.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The part held out.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// What a renderer is to learn from.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// Validating.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// A checkpoint or the weights cannot be written.
    #[error("{source}; {saved}")]
    Write {
        /// The file and the reason.
        source: WriteError,
        /// The newest checkpoint.
        saved: LastSaved,
    },
    /// The log cannot be opened or written.
    #[error("cannot write the log {}: {source}", .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Initial weights that cannot be used.
    #[error("cannot begin with the weights in {}: {reason}", .path.display())]
    InitialWeights {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A learned renderer that cannot be used.
    #[error("cannot render with {}: {reason}", .path.display())]
    RendererWeights {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A teacher that cannot be used.
    #[error("cannot learn from the teacher {}: {reason}", .path.display())]
    Teacher {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Perceptual features that cannot be used.
    #[error("cannot use the features in {}: {reason}", .path.display())]
    Features {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A bank of filters that cannot be used.
    #[error("cannot use the filters in {}: {reason}", .path.display())]
    Filters {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// None of the run's checkpoints can be read.
    #[error("no checkpoint in {} can be read, so the run cannot go on: {}", .folder.display(), .reasons.join("; "))]
    NoCheckpoint {
        /// The run's folder.
        folder: PathBuf,
        /// The reasons, one for each checkpoint.
        reasons: Vec<String>,
    },
    /// The run wrote weights, but its checkpoints are gone.
    #[error(
        "there is no checkpoint in {} to go on from, though something was learned there ({})", .folder.display(),
        .model.display()
    )]
    CheckpointsGone {
        /// The run's folder.
        folder: PathBuf,
        /// The weights in it, with which a new run may begin.
        model: PathBuf,
    },
    /// A setting that cannot change within a run.
    #[error("{key} is {now} but the run was begun with {then}: it cannot change within a run")]
    Changed {
        /// The setting.
        key: String,
        /// Its new value.
        now: String,
        /// Its value when the run began.
        then: String,
    },
    /// Other images than the run began with.
    #[error("the run was begun with {then} images to learn from and now there are {now}, or others")]
    OtherImages {
        /// Number of images at the beginning.
        then: u64,
        /// Number of images now.
        now: u64,
    },
    /// A GPU's memory is too small for so many images at a time.
    #[error("{source}. {}", room(*.fits, *.micro_batch))]
    OutOfMemory {
        /// The allocation that failed.
        source: ModelError,
        /// Images that went through the networks together.
        micro_batch: usize,
        /// The largest number for which there is room, tried out; none if one image is too many.
        fits: Option<usize>,
    },
    /// Numbers that are not finite.
    #[error(
        "stopped before step {step}: {what}{}; the model of before is kept: {saved}", on_images(.images)
    )]
    NonFinite {
        /// The step that was not taken.
        step: u64,
        /// The loss, gradient or parameter.
        what: String,
        /// The images of the batch; empty if no batch is to blame.
        images: Vec<String>,
        /// The newest checkpoint.
        saved: LastSaved,
    },
}

/// The newest checkpoint of a run; its `Display` is a clause of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSaved(pub Option<PathBuf>);

impl fmt::Display for LastSaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => write!(f, "the last good checkpoint is {}", path.display()),
            None => write!(f, "no checkpoint has been saved yet"),
        }
    }
}

fn room(fits: Option<usize>, micro_batch: usize) -> String {
    match fits {
        Some(fits) => format!("There is room for {fits} images at a time, not for {micro_batch}"),
        None => "There is not even room for one image at a time".into(),
    }
}

fn on_images(names: &[String]) -> String {
    const SHOWN: usize = 16;
    let (shown, more) = names.split_at(names.len().min(SHOWN));
    match (shown.join(", "), more.len()) {
        (shown, _) if shown.is_empty() => String::new(),
        (shown, 0) => format!(" on the images {shown}"),
        (shown, more) => format!(" on the images {shown} and {more} more"),
    }
}
