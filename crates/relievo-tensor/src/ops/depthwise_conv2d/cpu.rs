//! One task is a row of the result; loops run over channels, a block of them at a time in registers.

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::activation::Activation;
use crate::ops::conv2d::Conv2dGeometry;
use crate::ops::vectorised::vectorised;

/// Channels whose sums stay in registers together: two vectors of AVX-512, four of AVX2.
const BLOCK: usize = 32;

/// `y = activation(depthwise convolution of x with w, plus bias)`.
pub fn forward(
    g: &Conv2dGeometry,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    y: &mut [f32],
) {
    y.par_chunks_mut(g.out_w() * g.out_c()).enumerate().for_each(|(line, y)| {
        let x = &x[line / g.out_h() * g.in_h() * g.in_w() * g.in_c()..][..g.in_h() * g.in_w() * g.in_c()];
        match bias {
            None => y.fill(0.0),
            Some(bias) => y.chunks_exact_mut(g.out_c()).for_each(|y| y.copy_from_slice(bias)),
        }
        correlate_row(g, x, w, line % g.out_h(), y);
        activation.apply(y);
    });
}

/// The taps along one axis that do not lie in the padding of output `out`.
#[inline(always)]
fn inside(out: usize, stride: usize, padding: usize, kernel: usize, extent: usize) -> Range<usize> {
    let first = padding.saturating_sub(out * stride).min(kernel);
    let end = (extent + padding).saturating_sub(out * stride).min(kernel);
    first..end.max(first)
}

/// `sum += x * w` for one block of channels.
#[inline(always)]
fn add_product<const N: usize>(sum: &mut [f32; N], x: &[f32], w: &[f32]) {
    for ((sum, x), w) in sum.iter_mut().zip(&x[..N]).zip(&w[..N]) {
        *sum += x * w;
    }
}

/// Adds to `y`, `N` channels of one pixel, the products of the taps `rows` x `columns`.
#[inline(always)]
fn correlate_block<const N: usize>(
    [x, w]: [&[f32]; 2],
    [x_row, w_row, channels]: [usize; 3],
    rows: usize,
    columns: usize,
    y: &mut [f32],
) {
    let mut sum = [0.0; N];
    sum.copy_from_slice(&y[..N]);
    for row in 0..rows {
        for column in 0..columns {
            add_product(
                &mut sum,
                &x[row * x_row + column * channels..],
                &w[row * w_row + column * channels..],
            );
        }
    }
    y[..N].copy_from_slice(&sum);
}

vectorised! {
    /// Adds to row `row` of an image's result the products with all taps.
    fn correlate_row(g: &Conv2dGeometry, x: &[f32], w: &[f32], row: usize, y: &mut [f32]) {
        let channels = g.in_c();
        let strides = [g.in_w() * channels, g.kernel_w() * channels, channels];
        let rows = inside(row, g.stride(), g.padding(), g.kernel_h(), g.in_h());
        for (column, y) in y.chunks_exact_mut(channels).enumerate() {
            let columns = inside(column, g.stride(), g.padding(), g.kernel_w(), g.in_w());
            if rows.is_empty() || columns.is_empty() {
                continue;
            }
            let v = row * g.stride() + rows.start - g.padding();
            let u = column * g.stride() + columns.start - g.padding();
            let x = &x[(v * g.in_w() + u) * channels..];
            let w = &w[(rows.start * g.kernel_w() + columns.start) * channels..];
            let mut channel = 0;
            while channel + BLOCK <= channels {
                let from = [&x[channel..], &w[channel..]];
                correlate_block::<BLOCK>(from, strides, rows.len(), columns.len(), &mut y[channel..]);
                channel += BLOCK;
            }
            while channel + 8 <= channels {
                let from = [&x[channel..], &w[channel..]];
                correlate_block::<8>(from, strides, rows.len(), columns.len(), &mut y[channel..]);
                channel += 8;
            }
            while channel < channels {
                let from = [&x[channel..], &w[channel..]];
                correlate_block::<1>(from, strides, rows.len(), columns.len(), &mut y[channel..]);
                channel += 1;
            }
        }
    }
}
