//! The fast convolution: implicit matrix products with SIMD chosen at run time, and Winograd where it wins.
//!
//! `simd.rs` has the instruction sets, `kernels.rs` the inner loops on registers, `direct.rs` forward and input
//! gradient of any convolution, `weights.rs` the weight gradient, `winograd.rs` and `transforms.rs` all three for 3x3
//! and 5x5. Unsafe code is in the inner loops, which take pointers, and at the places that call them: what they rely on
//! is checked once at the entry (`check` below) and follows from the geometry.

mod direct;
#[allow(clippy::needless_range_loop, reason = "several arrays share an index, and constant ranges unroll")]
mod kernels;
mod simd;
#[allow(clippy::needless_range_loop, reason = "as in kernels")]
mod transforms;
mod weights;
mod winograd;

pub use simd::Level;

use self::kernels::Kernels;
use super::{Conv2dGeometry, Epilogue};
use crate::ops::activation::Activation;

/// `y = epilogue(conv(x, w))`.
pub fn forward(g: &Conv2dGeometry, x: &[f32], w: &[f32], y: &mut [f32], epilogue: Epilogue<'_>) {
    forward_at(Level::best(), g, x, w, y, epilogue);
}

/// `dx = epilogue(the gradient of sum(conv(x, w) * dy) in x)`: the transposed convolution of dy.
pub fn input_gradient(g: &Conv2dGeometry, dy: &[f32], w: &[f32], dx: &mut [f32], epilogue: Epilogue<'_>) {
    input_gradient_at(Level::best(), g, dy, w, dx, epilogue);
}

/// `dw` = the gradient of `sum(conv(x, w) * dy)` in w.
pub fn weight_gradient(g: &Conv2dGeometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    weight_gradient_at(Level::best(), g, x, dy, dw);
}

fn forward_at(level: Level, g: &Conv2dGeometry, x: &[f32], w: &[f32], y: &mut [f32], epilogue: Epilogue<'_>) {
    let g = &whole_image_as_pixel(g);
    check(g, x, w, y);
    if winograd::suits(g) {
        winograd::forward(Kernels::for_level(level), g, x, (w, false), y, epilogue);
    } else {
        direct::forward(Kernels::for_level(level), g, x, w, y, epilogue);
    }
    finish(epilogue, y);
}

fn input_gradient_at(
    level: Level,
    g: &Conv2dGeometry,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    // A bias or output channel is one of the image's, not of the pixel's: only the plain sum may be re-read so.
    let pixel = whole_image_as_pixel(g);
    check(g, dx, w, dy);
    if pixel != *g {
        direct::input_gradient(Kernels::for_level(level), &pixel, dy, w, dx, Epilogue::NONE);
        epilogue.apply(dx, g.in_c);
        return;
    }
    if g.can_flip() && winograd::suits(&g.flipped()) {
        winograd::forward(Kernels::for_level(level), &g.flipped(), dy, (w, true), dx, epilogue);
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

fn weight_gradient_at(level: Level, g: &Conv2dGeometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let g = &whole_image_as_pixel(g);
    check(g, x, dw, dy);
    if winograd::suits(g) {
        winograd::weight_gradient(Kernels::for_level(level), g, x, dy, dw);
    } else {
        weights::weight_gradient(Kernels::for_level(level), g, x, dy, dw);
    }
}

/// The kernels read and write through pointers; this is what they rely on.
fn check(g: &Conv2dGeometry, x: &[f32], w: &[f32], y: &[f32]) {
    assert_eq!([x.len(), w.len(), y.len()], [g.x_elements(), g.w_elements(), g.y_elements()], "{g:?}");
}

/// A kernel as large as the image makes a product of two matrices: the same as a 1x1 convolution of images of
/// one pixel with all their numbers as channels.
fn whole_image_as_pixel(g: &Conv2dGeometry) -> Conv2dGeometry {
    if g.padding == 0 && [g.in_h, g.in_w] == [g.kernel_h, g.kernel_w] {
        let in_c = g.in_h * g.in_w * g.in_c;
        Conv2dGeometry { in_h: 1, in_w: 1, in_c, kernel_h: 1, kernel_w: 1, stride: 1, ..*g }
    } else {
        *g
    }
}

#[cfg(test)]
mod tests;
