//! Forward convolutions with fewer pixels than output channels, transposed: the weights are read once, in place.

use rayon::prelude::*;

use super::direct::Shared;
use super::kernels::{GemmTile, Kernels, RawEpilogue};
use crate::Buffer;
use crate::ops::conv2d::{Conv2dGeometry, Epilogue};

/// A convolution with fewer pixels than output channels, transposed: the unrolled input is packed, with pixels along the
/// vectors, and the weights, of which there are many more, are broadcast in place and read once.
pub fn forward(
    kernels: &Kernels,
    g: &Conv2dGeometry,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let (pixels, k, width) = (g.batch() * g.out_h() * g.out_w(), g.taps() * g.in_c(), kernels.columns);
    let panels = pixels.div_ceil(width);
    // [panel][tap][in_c][width]
    let mut packed = Buffer::empty(panels * k * width);
    packed.par_chunks_mut(g.in_c() * width).enumerate().for_each(|(at, to)| {
        let (panel, tap) = (at / g.taps(), at % g.taps());
        for (lane, pixel) in (panel * width..pixels.min(panel * width + width)).enumerate() {
            let (line, column) = (pixel / g.out_w(), pixel % g.out_w());
            let row = g.source(line % g.out_h(), tap / g.kernel_w(), g.in_h());
            let column = g.source(column, tap % g.kernel_w(), g.in_w());
            let lanes = to[lane..].iter_mut().step_by(width);
            if let (Some(row), Some(column)) = (row, column) {
                let from = ((line / g.out_h() * g.in_h() + row) * g.in_w() + column) * g.in_c();
                lanes.zip(&x[from..from + g.in_c()]).for_each(|(to, x)| *to = *x);
            } else {
                lanes.for_each(|to| *to = 0.0);
            }
        }
    });
    // [out_c][pixels]
    let mut sums = Buffer::empty(g.out_c() * pixels);
    let to = Shared(sums.as_mut_ptr());
    let blocks = g.out_c().div_ceil(kernels.rows);
    (0..blocks).into_par_iter().for_each(|block| {
        let outputs = block * g.out_c() / blocks..(block + 1) * g.out_c() / blocks;
        let mut a = [std::ptr::null(); 16];
        let mut y = [std::ptr::null_mut(); 16];
        for (i, output) in outputs.clone().enumerate() {
            a[i] = w[output * k..].as_ptr();
            // SAFETY: a row of `sums`, which no other job writes.
            y[i] = unsafe { to.add(output * pixels) };
        }
        for panel in 0..panels {
            let b = [packed[panel * k * width..].as_ptr()];
            let extents = [(pixels - panel * width).min(width), k, width];
            let tile = GemmTile::new(&a[..outputs.len()], &b, &y[..outputs.len()], extents);
            let tile = GemmTile { y_offset: panel * width, ..tile };
            // SAFETY: rows of weights of `k`, a panel of k rows, rows of `sums` of `pixels`.
            unsafe { (kernels.gemm_tile)(&tile) }
        }
    });
    let fused = RawEpilogue::new(epilogue, 0).slope.is_some();
    y.par_chunks_mut(8 * g.out_c()).enumerate().for_each(|(at, y)| {
        for (pixel, y) in y.chunks_exact_mut(g.out_c()).enumerate() {
            for (output, y) in y.iter_mut().enumerate() {
                let bias = epilogue.bias.map_or(0.0, |bias| bias[output]);
                *y = sums[output * pixels + at * 8 + pixel] + bias;
            }
        }
        if fused {
            epilogue.activation.apply(y);
        }
    });
}
