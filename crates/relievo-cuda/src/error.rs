//! What can go wrong on a GPU.

/// The result of a call that needs a GPU.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// An error of a GPU or of its libraries. Exhaustive: `relievo-tensor` turns each into one of its own.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A GPU is missing, lacks a library, was used in a way that it cannot be, or failed.
    #[error("cuda:{ordinal}: {detail}")]
    Gpu {
        /// The GPU's number among those of the machine.
        ordinal: usize,
        /// What is wrong and what to do.
        detail: String,
    },
    /// A GPU has not enough memory.
    #[error("cuda:{ordinal}: out of memory ({bytes} bytes wanted, {held} held, {free} of {total} free)")]
    OutOfMemory {
        /// The GPU's number among those of the machine.
        ordinal: usize,
        /// What was asked for, in bytes; 0 where the driver does not say.
        bytes: usize,
        /// What this program's pool holds already, in bytes.
        held: usize,
        /// What the driver still has for any program, in bytes.
        free: usize,
        /// All memory of the GPU, in bytes.
        total: usize,
    },
    /// More elements or a larger extent than a kernel can count in an `int`.
    #[error("{what}: {value} is more than a kernel can count")]
    TooLarge {
        /// Whose number it is: a kernel, an operation.
        what: &'static str,
        /// The number.
        value: usize,
    },
}

impl Error {
    /// An error of GPU `ordinal`.
    pub(crate) fn gpu(ordinal: usize, detail: impl Into<String>) -> Self {
        Self::Gpu { ordinal, detail: detail.into() }
    }
}
