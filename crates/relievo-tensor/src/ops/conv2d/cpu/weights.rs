//! The weight gradient as sums of outer products: for each tap, the channels of an output pixel's gradient times the
//! channels of the input pixel it read.
//!
//! Work is split over ranges of output channels and over groups of pixels; each group sums into its own copy of the weights,
//! and the copies are added in order. The number of groups depends on the extents only.

use std::ops::Range;

use rayon::prelude::*;

use super::direct::{FEW_CHANNELS, Shared, padded, rotate_180};
use super::kernels::{Kernels, OuterProductTile};
use crate::Buffer;
use crate::ops::conv2d::Conv2dGeometry;

/// Jobs aimed at, whatever the number of threads.
const JOBS: usize = 16;
/// Elements in all copies of the weights together.
const COPIES: usize = 1 << 20;
/// The fewest pixels of a group.
const GROUP: usize = 512;
/// Pixels summed in registers before the sums go back to memory: their rows stay in the first-level cache.
const CHUNK: usize = 96;

/// `dw` = the gradient of `sum(conv(x, w) * dy)` in w.
pub fn weight_gradient(kernels: &Kernels, g: &Conv2dGeometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let few_outputs = g.out_c() <= FEW_CHANNELS && g.in_c() > FEW_CHANNELS;
    if let Some(flipped) = g.flipped().filter(|_| few_outputs) {
        // Few output channels: the same sums seen from dx, where they are the run of channels that is read.
        let mut rotated_180 = Buffer::empty(dw.len());
        weight_gradient(kernels, &flipped, dy, x, &mut rotated_180);
        return rotate_180(&flipped, &rotated_180, dw);
    }
    if g.in_c() <= FEW_CHANNELS && g.taps() > 1 {
        // Few input channels: a row of the kernel is one run of a padded copy.
        let copy = padded(x, g.x_shape(), g.padding());
        let (h, w) = (g.in_h() + 2 * g.padding(), g.in_w() + 2 * g.padding());
        let source = Source {
            x: &copy,
            h,
            w,
            channels: g.in_c(),
            run: g.kernel_w() * g.in_c(),
            tap_columns: 1,
            padding: 0,
        };
        return accumulate(kernels, g, &source, dy, dw);
    }
    let source = Source {
        x,
        h: g.in_h(),
        w: g.in_w(),
        channels: g.in_c(),
        run: g.in_c(),
        tap_columns: g.kernel_w(),
        padding: g.padding() as isize,
    };
    accumulate(kernels, g, &source, dy, dw);
}

/// The image a weight gradient reads.
struct Source<'a> {
    x: &'a [f32],
    h: usize,
    w: usize,
    channels: usize,
    /// Elements a tap reads.
    run: usize,
    /// Taps in a row of the kernel.
    tap_columns: usize,
    padding: isize,
}

fn accumulate(kernels: &Kernels, g: &Conv2dGeometry, source: &Source<'_>, dy: &[f32], dw: &mut [f32]) {
    let pixels = g.batch() * g.out_h() * g.out_w();
    let groups = (pixels / GROUP).min(COPIES / dw.len()).clamp(1, JOBS);
    let blocks = g.out_c().div_ceil(kernels.rows);
    let parts = JOBS.div_ceil(groups).min(blocks);
    let part = |i: usize, parts: usize, of: usize| i * of / parts..(i + 1) * of / parts;
    let run = |to: Shared, pixels: Range<usize>, blocks_here: Range<usize>| {
        let mut pairs: Vec<[*const f32; 2]> = Vec::with_capacity(CHUNK);
        for start in pixels.clone().step_by(CHUNK) {
            let chunk = start..(start + CHUNK).min(pixels.end);
            for tap in 0..g.kernel_h() * source.tap_columns {
                pairs.clear();
                gather(g, source, dy, chunk.clone(), tap, &mut pairs);
                for block in blocks_here.clone() {
                    let outputs = part(block, blocks, g.out_c());
                    for first in (0..source.run).step_by(kernels.columns) {
                        let outer = OuterProductTile {
                            rows: outputs.len(),
                            columns: (source.run - first).min(kernels.columns),
                            pixels: pairs.len(),
                            pairs: pairs.as_ptr(),
                            a_offset: outputs.start,
                            b_offset: first,
                            // SAFETY: a row of the weights holds all taps, a tap its run.
                            y: unsafe {
                                to.add(outputs.start * g.taps() * g.in_c() + tap * source.run + first)
                            },
                            y_stride: g.taps() * g.in_c(),
                            accumulate: start > pixels.start,
                        };
                        // SAFETY: pairs point at `out_c` elements of dy and `run` of x; no other job writes these
                        // outputs of this copy.
                        unsafe { (kernels.outer_product_tile)(&outer) }
                    }
                }
            }
        }
    };
    if groups == 1 {
        let to = Shared(dw.as_mut_ptr());
        (0..parts).into_par_iter().for_each(|i| {
            run(to, 0..pixels, part(i, parts, blocks));
        });
        return;
    }
    let mut copies = Buffer::empty(groups * dw.len());
    let to = Shared(copies.as_mut_ptr());
    (0..groups * parts).into_par_iter().for_each(|i| {
        let (group, i) = (i / parts, i % parts);
        // SAFETY: there are `groups` copies.
        let copy = Shared(unsafe { to.add(group * dw.len()) });
        run(copy, part(group, groups, pixels), part(i, parts, blocks));
    });
    let size = dw.len();
    dw.par_chunks_mut(4096).enumerate().for_each(|(chunk, dw)| {
        let at = chunk * 4096;
        dw.copy_from_slice(&copies[at..at + dw.len()]);
        for group in 1..groups {
            let copy = &copies[group * size + at..][..dw.len()];
            for (dw, copy) in dw.iter_mut().zip(copy) {
                *dw += copy;
            }
        }
    });
}

/// For each of the pixels whose tap is not in the padding: the starts of its gradient and of the input it read.
fn gather(
    g: &Conv2dGeometry,
    source: &Source<'_>,
    dy: &[f32],
    pixels: Range<usize>,
    tap: usize,
    pairs: &mut Vec<[*const f32; 2]>,
) {
    let (r, s) = ((tap / source.tap_columns) as isize, (tap % source.tap_columns) as isize);
    let (mut row, mut column) = (pixels.start / g.out_w(), pixels.start % g.out_w());
    for pixel in pixels {
        let y = ((row % g.out_h()) * g.stride()) as isize + r - source.padding;
        let x = (column * g.stride()) as isize + s - source.padding;
        if y >= 0 && x >= 0 && (y as usize) < source.h && (x as usize) < source.w {
            let from = ((row / g.out_h() * source.h + y as usize) * source.w + x as usize) * source.channels;
            pairs.push([dy[pixel * g.out_c()..].as_ptr(), source.x[from..].as_ptr()]);
        }
        column += 1;
        if column == g.out_w() {
            (row, column) = (row + 1, 0);
        }
    }
}
