//! The fast convolution: implicit matrix products with SIMD chosen at run time, and Winograd where it wins.
//!
//! `simd.rs` has the instruction sets, `kernels.rs` the inner loops on registers, `direct.rs` forward and input
//! gradient of any convolution, with `few_outputs.rs` and `few_pixels.rs` for two kinds of extents, `weights.rs` the
//! weight gradient, `winograd.rs` and `transforms.rs` all three for 3x3 and 5x5, and for 4x4 with a stride of 2. Unsafe code
//! is in the inner loops, which take pointers, and at their call sites. The functions here check the lengths of all slices
//! (`check`, `check_bias`); everything else that the loops rely on follows from [`Conv2dGeometry`], whose fields are private.

mod direct;
mod few_outputs;
mod few_pixels;
#[allow(clippy::needless_range_loop, reason = "several arrays share an index, and constant ranges unroll")]
mod kernels;
pub(crate) mod simd;
#[allow(clippy::needless_range_loop, reason = "as in kernels")]
mod transforms;
mod weights;
mod winograd;

pub(crate) use direct::Shared;
pub use simd::SimdLevel;

use self::kernels::Kernels;
use super::{Conv2dGeometry, Epilogue};
use crate::ops::activation::Activation;

/// `y = epilogue(conv(x, w))`.
pub fn forward(g: &Conv2dGeometry, x: &[f32], w: &[f32], y: &mut [f32], epilogue: Epilogue<'_>) {
    forward_at(SimdLevel::best(), g, x, w, y, epilogue);
}

/// `dx = epilogue(the gradient of sum(conv(x, w) * dy) in x)`: the transposed convolution of dy.
pub fn input_gradient(g: &Conv2dGeometry, dy: &[f32], w: &[f32], dx: &mut [f32], epilogue: Epilogue<'_>) {
    input_gradient_at(SimdLevel::best(), g, dy, w, dx, epilogue);
}

/// `dw` = the gradient of `sum(conv(x, w) * dy)` in w.
pub fn weight_gradient(g: &Conv2dGeometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    weight_gradient_at(SimdLevel::best(), g, x, dy, dw);
}

fn forward_at(
    level: SimdLevel,
    g: &Conv2dGeometry,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let g = &g.as_single_pixels().unwrap_or(*g);
    check(g, x, w, y);
    check_bias(epilogue, g.out_c());
    if winograd::suits(g) {
        winograd::forward(Kernels::for_level(level), g, x, w, y, epilogue);
    } else {
        direct::forward(Kernels::for_level(level), g, x, w, y, epilogue);
    }
    finish(epilogue, y);
}

fn input_gradient_at(
    level: SimdLevel,
    g: &Conv2dGeometry,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    check(g, dx, w, dy);
    check_bias(epilogue, g.in_c());
    // A single pixel has each of a channel's pixels as a channel of its own, so a bias cannot be part of the product.
    if let Some(pixels) = g.as_single_pixels() {
        direct::input_gradient(Kernels::for_level(level), &pixels, dy, w, dx, Epilogue::NONE);
        epilogue.apply(dx, g.in_c());
        return;
    }
    if winograd::suits_input_gradient(g) {
        winograd::input_gradient(Kernels::for_level(level), g, dy, w, dx, epilogue);
    } else {
        direct::input_gradient(Kernels::for_level(level), g, dy, w, dx, epilogue);
    }
    finish(epilogue, dx);
}

/// Applies the activations that the kernels leave out.
fn finish(epilogue: Epilogue<'_>, y: &mut [f32]) {
    if matches!(epilogue.activation, Activation::Tanh | Activation::Softplus) {
        Epilogue { bias: None, ..epilogue }.apply(y, 1);
    }
}

fn weight_gradient_at(level: SimdLevel, g: &Conv2dGeometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let g = &g.as_single_pixels().unwrap_or(*g);
    check(g, x, dw, dy);
    if winograd::suits_weight_gradient(g) {
        winograd::weight_gradient(Kernels::for_level(level), g, x, dy, dw);
    } else {
        weights::weight_gradient(Kernels::for_level(level), g, x, dy, dw);
    }
}

/// The kernels read and write through pointers and rely on these lengths.
fn check(g: &Conv2dGeometry, x: &[f32], w: &[f32], y: &[f32]) {
    assert_eq!([x.len(), w.len(), y.len()], [g.x_elements(), g.w_elements(), g.y_elements()], "{g:?}");
}

/// The kernels load a whole tile of the bias at once.
fn check_bias(epilogue: Epilogue<'_>, channels: usize) {
    if let Some(bias) = epilogue.bias {
        assert_eq!(bias.len(), channels, "the bias has another length than there are channels");
    }
}

#[cfg(test)]
mod tests;
