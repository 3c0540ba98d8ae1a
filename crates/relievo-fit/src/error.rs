//! Errors of fitting.

use relievo_tensor::Error;

/// A fit that is impossible or failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// There is nothing to fit to, or it does not belong together.
    #[error("{0}")]
    Input(String),
    /// The loss is not a number any more.
    #[error("the loss of step {0} is not finite; a lower learning rate may help")]
    NotFinite(u64),
    /// The engine's or the renderer's own error.
    #[error(transparent)]
    Engine(#[from] Error),
}
