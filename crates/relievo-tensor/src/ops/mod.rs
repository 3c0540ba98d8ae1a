//! The operations, one folder each: `mod.rs` states the contract (shapes, gradient, source), `cpu.rs` computes.

mod activation;
pub mod conv2d;
mod group_norm;
mod reshape;
mod sum;
mod vectorised;

pub use activation::{Activation, activate};
pub use conv2d::{Conv2dGeometry, ConvParams, Epilogue, conv_transpose2d, conv2d};
pub use group_norm::group_norm;
pub use reshape::reshape;
pub use sum::{add_into, weighted_sum};
