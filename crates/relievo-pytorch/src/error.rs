//! Errors.

use std::io;
use std::path::PathBuf;

use relievo_model::ModelError;

/// Why a checkpoint cannot be imported; without the file's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be opened.
    #[error("cannot read the checkpoint {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bytes cannot be read, or end early.
    #[error("the checkpoint cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Neither of PyTorch's formats.
    #[error("it is no checkpoint of PyTorch: neither a zip archive with data.pkl nor a stream of pickles")]
    OtherKind,
    /// It names something that is neither a tensor nor plain data. Nothing was run.
    #[error(
        "it names the Python object {0}, which is neither a tensor nor plain data; a checkpoint may name anything that \
         Python can call, so no other names are followed"
    )]
    Refused(String),
    /// Its objects contradict each other.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// Its list of objects is longer than that of any checkpoint.
    #[error("its list of objects is too long")]
    TooManyObjects,
    /// Its numbers would take much more memory than the file has bytes.
    #[error("its tensors have many times as many bytes as the file")]
    Grows,
    /// From a machine with the other order of bytes.
    #[error("it was written on a machine that stores the highest byte of a number first, which is not read")]
    BigEndian,
    /// A network is missing.
    #[error("it has no network {0}, as checkpoints of unsup3d and LeMul do")]
    NoNetwork(&'static str),
    /// A network is not that of the paper, at any width.
    #[error("{network}: {reason}")]
    Network {
        /// The network.
        network: &'static str,
        /// How it differs.
        reason: String,
    },
    /// A weight that is not a number.
    #[error("{value} at place {index}")]
    NonFinite {
        /// What it is.
        value: f32,
        /// Its place in the tensor.
        index: usize,
    },
    /// The settings make no model.
    #[error(transparent)]
    Model(#[from] ModelError),
}
