//! The operations, one folder each: `mod.rs` states the contract (shapes, gradient, source) and computes, or `cpu.rs`
//! beside it does; `cuda.rs` launches the kernels of `kernel.cu`.

mod compared;
mod planes;
mod reduce;
mod vectorised;

use crate::cuda::Kernels;

/// Declares the operations: for each folder, what it exports, and that its kernels exist. `(cpu only)` has none.
///
/// `cargo fmt` does not see modules that a macro declares; `.ci/run` formats every file by name.
macro_rules! operations {
    ($($module:ident $(($cpu:ident $only:ident))?: $($item:ident),*;)+) => {
        $(
            pub(crate) mod $module;
            $(pub use $module::$item;)*
        )+

        /// All files of kernels of this crate: for a test that compiles them.
        #[doc(hidden)]
        pub fn kernels() -> Vec<&'static Kernels> {
            let of_each: &[&[&Kernels]] = &[$(operations!(@kernels $module $($cpu $only)?)),+];
            of_each.concat()
        }
    };
    (@kernels $module:ident) => { &[&$module::KERNELS] };
    (@kernels $module:ident cpu only) => { &[] };
}

operations! {
    activation: Activation, activate;
    adam: AdamStep, DeviceAdam, DeviceAdamState, NonFinite, ema_update, scale_all, squared_norm;
    albedo_loss: albedo_loss;
    average_pool: ;
    cast: cast;
    census_errors: census_errors;
    column_prior: ColumnPrior, column_prior_error;
    concat: ConcatAxis, concat, narrow_batch;
    concat_flipped: concat_flipped, concat_swapped;
    conv2d: Conv2dGeometry, ConvParams, conv_transpose2d, conv2d;
    face_geometry: face_geometry;
    filter_errors: Filter, FilterBank, Separable, filter_errors;
    gaussian_mean: gaussian_mean;
    grid_sample: grid_sample;
    group_norm: group_norm;
    inverted_residual (cpu only): InvertedResidual, InvertedResidualLayers;
    likelihood_loss: absolute_error, perceptual_loss, photometric_loss, squared_error;
    max_pool: max_pool;
    modulate: modulate;
    mul_columns: mul_columns;
    overlap: overlap;
    reshape (cpu only): reshape;
    smoothness: smoothness;
    structure_errors: structure_errors;
    sum: add_into, weighted_sum;
    upsample_conv2d: upsample_conv2d;
    weighted_elements_sum: weighted_elements_sum;
}
