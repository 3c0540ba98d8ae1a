//! What can go wrong in the engine.

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the engine: shapes that do not fit, or a tape used in a way it cannot be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Inputs whose shapes do not fit the operation.
    #[error("{operation}: {detail}")]
    Shape {
        /// The operation that refused its inputs.
        operation: &'static str,
        /// Which shapes it got and which it needs.
        detail: String,
    },
    /// A tape asked for what it cannot give.
    #[error("tape: {0}")]
    Tape(String),
}

impl Error {
    /// A shape error of `operation`.
    pub fn shape(operation: &'static str, detail: impl Into<String>) -> Self {
        Self::Shape { operation, detail: detail.into() }
    }
}
