//! What can go wrong with a table.

use std::path::PathBuf;

use relievo_data::{LoadError, SplitError};
use relievo_files::{Unreadable, WriteError};
use relievo_model::{ModelError, WeightsError};
use relievo_nets::VggError;
use relievo_train::{EvaluationError, FolderError, SettingsError, TrainError};

use crate::rows::Row;

/// What a recipe must not say, or must, to be the recipe of every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Other images than heads.
    #[error("its source must be synthetic: only there the true depth is known")]
    Source,
    /// Heads are perturbed.
    #[error("it must not be perturbed: some rows are")]
    Perturbed,
    /// Another method, several images of a head, or other asymmetry.
    #[error(
        "its method must be unsup3d, and pairs, synthetic-images and asymmetry must be left out: some rows set them"
    )]
    Pairs,
    /// Heads are not split by their numbers.
    #[error("held-out must be last, so that heads are split by their numbers")]
    HeldOut,
    /// Nothing is left of them.
    #[error("validation leaves no heads or photographs to learn from")]
    NoHeads,
    /// The clock would end rows at different steps.
    #[error("minutes must be 0: every row takes the same number of steps")]
    Minutes,
    /// Features of the recipe's own.
    #[error("perceptual-features must be left out: one row has features of its own")]
    Features,
    /// Points of faces.
    #[error("landmark-weight must be left out: tables compare what needs no labels")]
    Landmarks,
    /// Terms of the recipe's own.
    #[error("loss must be left out: some rows have terms of their own")]
    Loss,
    /// Weights to begin with.
    #[error("initial-weights must be left out: every row begins at random")]
    InitialWeights,
    /// Nothing to do.
    #[error("it takes no steps")]
    NoSteps,
}

/// Why a table cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReproduceError {
    /// A recipe that cannot be every row's.
    #[error("the recipe of a table: {0}")]
    Recipe(#[from] RecipeError),
    /// A row that would be the recipe itself under another name.
    #[error("the row {} changes nothing of this recipe, so it would be ours once more", .0.name())]
    Nothing(Row),
    /// Settings that make no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A run's folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A row was begun with other settings.
    #[error(
        "{} was begun with the {key} {then} and now it is {now}: rows of a table must be alike", .folder.display()
    )]
    OtherRecipe {
        /// The run's folder.
        folder: PathBuf,
        /// The setting.
        key: String,
        /// Its value now.
        now: String,
        /// Its value when the row was begun.
        then: String,
    },
    /// A row has gone further than it is asked to.
    #[error("{} has taken {taken} steps and {asked} are asked for", .folder.display())]
    Further {
        /// The run's folder.
        folder: PathBuf,
        /// Steps taken.
        taken: u64,
        /// Steps asked for.
        asked: u64,
    },
    /// Self-supervised features that were learned otherwise.
    #[error("the features in {} were learned with other settings", .0.display())]
    OtherFeatures(PathBuf),
    /// Self-supervised features cannot be learned.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// Heads to learn features from.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The weights of a run.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file that cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Measuring.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Earlier results that cannot be read.
    #[error("cannot read the results in {}: {reason}", .path.display())]
    Results {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Results that cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why features cannot be learned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// The images.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The embedded features, which say how large the new ones are to be.
    #[error(transparent)]
    Vgg(#[from] VggError),
    /// The engine refused an operation.
    #[error(transparent)]
    Engine(#[from] relievo_tensor::Error),
    /// The device.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Nothing was learned.
    #[error("the features came to nothing after {step} steps (loss {loss}): another seed may do better")]
    Nothing {
        /// Steps taken.
        step: u64,
        /// The last loss.
        loss: f32,
    },
}
