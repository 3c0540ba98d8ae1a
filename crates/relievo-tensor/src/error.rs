//! Errors of the engine.

use crate::Device;

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the engine: shapes that do not fit, a tape used wrongly, a GPU that is missing or fails.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The shapes (or types) of the inputs do not fit the operation.
    #[error("{operation}: {detail}")]
    Shape {
        /// The operation.
        operation: &'static str,
        /// The shapes it got and those it needs.
        detail: String,
    },
    /// A tape was used wrongly: gradients of a tensor that it did not record, or inputs of two tapes.
    #[error("tape: {0}")]
    Tape(String),
    /// A device is missing, lacks a library, or failed.
    #[error("{device}: {detail}")]
    Device {
        /// The device.
        device: Device,
        /// What is wrong and what to do.
        detail: String,
    },
    /// A GPU does not have enough memory.
    #[error(
        "{device}: out of memory: {}, {} are in use by this program, {} of {} are free",
        needed(*bytes), mebibytes(*held), mebibytes(*free), mebibytes(*total)
    )]
    OutOfMemory {
        /// The device.
        device: Device,
        /// The request that failed, in bytes; 0 if it is not known.
        bytes: usize,
        /// Bytes that the engine holds.
        held: usize,
        /// Bytes that are free, for any program.
        free: usize,
        /// Bytes of the GPU.
        total: usize,
    },
}

impl From<relievo_cuda::Error> for Error {
    fn from(error: relievo_cuda::Error) -> Self {
        use relievo_cuda::Error as Gpu;
        match error {
            Gpu::Gpu { ordinal, detail } => Self::Device { device: Device::Cuda(ordinal), detail },
            Gpu::OutOfMemory { ordinal, bytes, held, free, total } => {
                Self::OutOfMemory { device: Device::Cuda(ordinal), bytes, held, free, total }
            }
            Gpu::TooLarge { what, value } => {
                Self::shape(what, format!("{value} is more than a kernel can count"))
            }
        }
    }
}

/// The request in words.
fn needed(bytes: usize) -> String {
    if bytes == 0 { "more is needed".to_owned() } else { format!("{} more are needed", mebibytes(bytes)) }
}

/// Bytes in MiB, rounded up.
fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl Error {
    /// A shape error of `operation`.
    pub fn shape(operation: &'static str, detail: impl Into<String>) -> Self {
        Self::Shape { operation, detail: detail.into() }
    }
}
