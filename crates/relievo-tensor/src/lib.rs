//! Tensors, the reverse-mode tape, and one folder per operation.
//!
//! A [`Tensor`] is a shape and a buffer of numbers on a [`Device`], channels last. Operations ([`ops`]) take tensors and
//! return tensors. If an input was computed from a tensor that a [`Tape`] watches, the operation is recorded there, and
//! [`Tape::backward`] computes the gradients. Without a tape nothing is kept. Other crates define operations of their own
//! through the same [`Operation`] trait.
//!
//! ```rust
//! use relievo_tensor::ops::{Activation, ConvParams, conv2d};
//! use relievo_tensor::{Tape, Tensor};
//!
//! let tape = Tape::new();
//! let x = Tensor::full([1, 4, 4, 3], 0.5); // [batch, height, width, channels]
//! let w = tape.watch(&Tensor::full([8, 3, 3, 3], 0.1)); // [out, height, width, in]
//! let params = ConvParams::new(1, 1, Activation::Relu);
//! let y = conv2d(&x, &w, None, params)?;
//! assert_eq!(y.shape(), [1, 4, 4, 8].into());
//!
//! let gradients = tape.backward(&y)?; // of the sum of y
//! assert_eq!(gradients.get(&w).map(Tensor::shape), Some(w.shape()));
//! # Ok::<(), relievo_tensor::Error>(())
//! ```
//!
//! Results do not depend on the number of threads: work is split so that no sum depends on the split.

pub mod cuda;
mod error;
pub mod ops;
mod random;
pub mod safetensors;
mod shape;
mod storage;
mod tape;
mod tensor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transfer;

pub use error::{Error, Result};
pub use ops::conv2d::cpu::SimdLevel;
pub use random::Random;
pub use relievo_cuda::{ConvPolicy, DataType};
pub use shape::Shape;
pub use storage::{Buffer, PoolStatistics, pool_release, pool_statistics};
pub use tape::{Backward, Context, Gradients, Operation, Tape, apply, apply_one};
pub use tensor::{Device, Tensor};
