//! The three products of a convolution on the CPU, on slices: for the benchmark `conv`.

use super::cpu;
use super::{Conv2dGeometry, Epilogue};

/// `y = conv(x, w)`.
///
/// # Panics
/// If the slices are not as long as the geometry says; so in all functions below.
pub fn forward(g: &Conv2dGeometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    cpu::forward(g, x, w, y, Epilogue::NONE);
}

/// `dx` = the gradient of `sum(conv(x, w) * dy)` in x.
pub fn input_gradient(g: &Conv2dGeometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    cpu::input_gradient(g, dy, w, dx, Epilogue::NONE);
}

/// `dw` = the gradient of `sum(conv(x, w) * dy)` in w.
pub fn weight_gradient(g: &Conv2dGeometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    cpu::weight_gradient(g, x, dy, dw);
}
