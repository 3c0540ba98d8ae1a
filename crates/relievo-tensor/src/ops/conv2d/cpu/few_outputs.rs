//! Forward convolutions of stride 1 with few output channels, in reverse: pixels first, taps last.

use rayon::prelude::*;

use super::kernels::{GemmTile, Kernels, RawEpilogue};
use crate::Buffer;
use crate::ops::conv2d::{Conv2dGeometry, Epilogue};

/// Rows of output in a job.
const BAND: usize = 16;

/// A stride-1 convolution with few output channels in reverse: first the contributions of each input pixel to each tap and
/// output (a matrix product with `taps * out_c` columns), then the sum over taps of shifted contributions. The input is read
/// once instead of once for each tap. Each job computes some rows of one image, through scratch that stays in the
/// second-level cache.
pub fn forward(
    kernels: &Kernels,
    g: &Conv2dGeometry,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let (taps, width) = (g.taps(), kernels.columns);
    let contributions = taps * g.out_c();
    // [panel][in_c][width], columns (tap, output).
    let panels = contributions.div_ceil(width);
    let mut packed = Buffer::zeros(panels * g.in_c() * width);
    for (at, w) in w.iter().enumerate() {
        let (output, tap, c) = (at / (taps * g.in_c()), at / g.in_c() % taps, at % g.in_c());
        let column = tap * g.out_c() + output;
        packed[(column / width * g.in_c() + c) * width + column % width] = *w;
    }
    let (row_in, row_out) = (g.in_w() * g.in_c(), g.out_w() * g.out_c());
    let stride = panels * width;
    y.par_chunks_mut(g.out_h() * row_out).enumerate().for_each(|(image, y)| {
        let x = &x[image * g.in_h() * row_in..][..g.in_h() * row_in];
        y.par_chunks_mut(BAND * row_out).enumerate().for_each(|(band, y)| {
            let first = (band * BAND).saturating_sub(g.padding()).min(g.in_h());
            let last = (band * BAND + y.len() / row_out - 1 + g.kernel_h() - 1).saturating_sub(g.padding());
            let (x, rows) = (&x[first * row_in..], (last + 1).min(g.in_h()).saturating_sub(first));
            let mut sums = Buffer::empty(rows * g.in_w() * stride);
            let pixels = rows * g.in_w();
            let mut a = [std::ptr::null(); 16];
            let mut to = [std::ptr::null_mut(); 16];
            let blocks = pixels.div_ceil(kernels.rows);
            for block in 0..blocks {
                let block = block * pixels / blocks..(block + 1) * pixels / blocks;
                for (i, pixel) in block.clone().enumerate() {
                    a[i] = x[pixel * g.in_c()..].as_ptr();
                    to[i] = sums[pixel * stride..].as_mut_ptr();
                }
                for panel in 0..panels {
                    let b = [packed[panel * g.in_c() * width..].as_ptr()];
                    let extents = [width, g.in_c(), width];
                    let tile = GemmTile::new(&a[..block.len()], &b, &to[..block.len()], extents);
                    let tile = GemmTile { y_offset: panel * width, ..tile };
                    // SAFETY: pixels of x with `in_c` channels, a whole panel of weights, rows of `sums`.
                    unsafe { (kernels.gemm_tile)(&tile) }
                }
            }
            match epilogue.bias {
                None => y.fill(0.0),
                Some(bias) => y.chunks_exact_mut(g.out_c()).for_each(|y| y.copy_from_slice(bias)),
            }
            for (row, y) in y.chunks_exact_mut(row_out).enumerate() {
                for tap in 0..taps {
                    let Some(from_row) = g.source(band * BAND + row, tap / g.kernel_w(), g.in_h()) else {
                        continue;
                    };
                    // The columns whose tap is not in the padding.
                    let shift = tap % g.kernel_w();
                    let columns = g.padding().saturating_sub(shift)
                        ..(g.in_w() + g.padding()).saturating_sub(shift).min(g.out_w());
                    let from = ((from_row - first) * g.in_w()) * stride + tap * g.out_c();
                    for column in columns {
                        let sums = &sums[from + (column + shift - g.padding()) * stride..][..g.out_c()];
                        for (y, sum) in y[column * g.out_c()..][..g.out_c()].iter_mut().zip(sums) {
                            *y += sum;
                        }
                    }
                }
            }
            if RawEpilogue::new(epilogue, 0).slope.is_some() {
                epilogue.activation.apply(y);
            }
        });
    });
}
