//! Checkpoints of the PyTorch programs unsup3d (Wu et al. 2020) and LeMul (Ho et al. 2021) as models.
//!
//! A checkpoint is a pickle, and unpickling runs whatever it names. Here nothing is run: [`Import`] reads the pickle with
//! a small interpreter that knows tensors and plain data, and refuses every other name. Memory is bounded by the file's
//! size. Both formats of `torch.save` are read.
//!
//! ```no_run
//! use relievo_pytorch::{Import, ImportSettings};
//!
//! let import = Import::open("checkpoint030.pth".as_ref(), &ImportSettings::default())?;
//! std::fs::write("weights.safetensors", import.to_safetensors()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod error;
mod import;
mod pickle;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::CheckpointError;
pub use import::{Import, ImportSettings, Origin};
