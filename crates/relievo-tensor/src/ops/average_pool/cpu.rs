//! One task is a row of the small picture and the rows of the large one that belong to it.

use rayon::prelude::*;

/// `large = scale * small`, each pixel repeated factor x factor times. `[width, channels, factor]`, width that of the
/// small picture.
pub fn spread([width, channels, factor]: [usize; 3], scale: f32, small: &[f32], large: &mut [f32]) {
    let row = width * channels;
    if row == 0 {
        return;
    }
    large.par_chunks_mut(row * factor * factor).zip(small.par_chunks(row)).for_each(|(large, small)| {
        let (first, rest) = large.split_at_mut(row * factor);
        for (pixel, copies) in small.chunks_exact(channels).zip(first.chunks_exact_mut(channels * factor)) {
            for copy in copies.chunks_exact_mut(channels) {
                scaled_copy(pixel, scale, copy);
            }
        }
        for other in rest.chunks_exact_mut(row * factor) {
            other.copy_from_slice(first);
        }
    });
}

/// `small = scale *` the sum of the factor x factor pixels of large. `[width, channels, factor]`, width that of the
/// small picture.
pub fn gather([width, channels, factor]: [usize; 3], scale: f32, large: &[f32], small: &mut [f32]) {
    let row = width * channels;
    if row == 0 {
        return;
    }
    small.par_chunks_mut(row).zip(large.par_chunks(row * factor * factor)).for_each(|(small, large)| {
        for (which, line) in large.chunks_exact(row * factor).enumerate() {
            for (sum, block) in small.chunks_exact_mut(channels).zip(line.chunks_exact(channels * factor)) {
                for (column, pixel) in block.chunks_exact(channels).enumerate() {
                    if which == 0 && column == 0 {
                        scaled_copy(pixel, scale, sum);
                    } else {
                        scaled_add(pixel, scale, sum);
                    }
                }
            }
        }
    });
}

/// `y = scale * x`.
#[inline(always)]
fn scaled_copy(x: &[f32], scale: f32, y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = scale * x;
    }
}

/// `y += scale * x`.
#[inline(always)]
fn scaled_add(x: &[f32], scale: f32, y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}
