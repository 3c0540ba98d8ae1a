//! The operations, one folder each: `mod.rs` states the contract (shapes, gradient, source) and computes, or `cpu.rs`
//! beside it does; `cuda.rs` launches the kernels of `kernel.cu`.

mod activation;
mod adam;
mod average_pool;
mod cast;
mod concat_flipped;
pub mod conv2d;
mod depthwise_conv2d;
mod dot;
mod grid_sample;
mod group_norm;
mod likelihood_loss;
mod max_pool;
mod mul_columns;
mod reduce;
mod reshape;
mod smoothness;
mod sum;
mod upsample_conv2d;
mod vectorised;

use crate::cuda::Kernels;

/// All files of kernels of this crate: for a test that compiles them.
#[doc(hidden)]
pub fn kernels() -> Vec<&'static Kernels> {
    vec![
        &activation::KERNELS,
        &adam::KERNELS,
        &average_pool::KERNELS,
        &cast::KERNELS,
        &conv2d::KERNELS,
        &dot::KERNELS,
        &concat_flipped::KERNELS,
        &grid_sample::KERNELS,
        &group_norm::KERNELS,
        &likelihood_loss::KERNELS,
        &max_pool::KERNELS,
        &mul_columns::KERNELS,
        &smoothness::KERNELS,
        &sum::KERNELS,
        &upsample_conv2d::KERNELS,
    ]
}

pub use activation::{Activation, activate};
pub use adam::{AdamStep, DeviceAdam, DeviceAdamState, NonFinite, ema_update, scale_all, squared_norm};
pub use cast::cast;
pub use concat_flipped::concat_flipped;
pub use conv2d::{Conv2dGeometry, ConvParams, Epilogue, conv_transpose2d, conv2d};
pub use depthwise_conv2d::depthwise_conv2d;
pub use dot::dot;
pub use grid_sample::grid_sample;
pub use group_norm::group_norm;
pub use likelihood_loss::{absolute_error, perceptual_loss, photometric_loss, squared_error};
pub use max_pool::max_pool;
pub use mul_columns::mul_columns;
pub use reshape::reshape;
pub use smoothness::smoothness;
pub use sum::{add_into, weighted_sum};
pub use upsample_conv2d::upsample_conv2d;
