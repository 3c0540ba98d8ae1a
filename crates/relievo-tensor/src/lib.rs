//! Tensors, the reverse-mode tape, and one folder per operation.
//!
//! A [`Tensor`] is a shape and a buffer of numbers on a [`Device`], channels last. Operations take tensors and give
//! tensors; when an input descends from a [`Tape`], the operation is recorded there and [`Tape::backward`] finds the
//! gradients. Without a tape nothing is kept. Other crates add operations through the same [`Operation`] trait.
//!
//! Results do not depend on the number of threads: work is split so that no sum depends on the split.

pub mod cuda;
#[doc(hidden)]
pub mod differences;
mod error;
pub mod ops;
mod random;
mod shape;
mod storage;
mod tape;
mod tensor;

pub use error::{Error, Result};
pub use random::Random;
pub use shape::{MAX_RANK, Shape};
pub use storage::{Buffer, PoolStatistics, pool_release, pool_statistics};
pub use tape::{Backward, Context, Gradients, Operation, Tape, apply, apply_one};
pub use tensor::{DataType, Device, Tensor};
