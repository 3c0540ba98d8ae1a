//! What can go wrong in the engine.

use crate::Device;

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the engine: shapes that do not fit, a tape used in a way it cannot be, a GPU that cannot do it.
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
    /// A device is not there, lacks a library, or failed.
    #[error("{device}: {detail}")]
    Device {
        /// The device.
        device: Device,
        /// What is wrong and what to do.
        detail: String,
    },
    /// A GPU has not enough memory.
    #[error(
        "{device}: out of memory: {}, {} are in use by this program, {} of {} are free",
        needed(*bytes), mebibytes(*held), mebibytes(*free), mebibytes(*total)
    )]
    OutOfMemory {
        /// The device.
        device: Device,
        /// What was asked for, in bytes; 0 where the driver does not say.
        bytes: usize,
        /// What the engine holds already.
        held: usize,
        /// What the driver still has, for any program.
        free: usize,
        /// What there is at all.
        total: usize,
    },
}

/// What was asked for, for a person.
fn needed(bytes: usize) -> String {
    if bytes == 0 { "more is needed".to_owned() } else { format!("{} more are needed", mebibytes(bytes)) }
}

/// A number of bytes for a person.
fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl Error {
    /// A shape error of `operation`.
    pub fn shape(operation: &'static str, detail: impl Into<String>) -> Self {
        Self::Shape { operation, detail: detail.into() }
    }
}
