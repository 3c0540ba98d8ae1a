//! One task is a row. A mirrored row is its pixels in reverse order. A row of one pixel is its own mirror image, so the
//! unmirrored case needs no code of its own.

use rayon::prelude::*;

/// y from x; rows are `[width, channels]`.
pub fn forward([width, channels]: [usize; 2], x: &[f32], y: &mut [f32]) {
    let row = width * channels;
    if row == 0 {
        return;
    }
    let (first, second) = y.split_at_mut(x.len());
    let rows = first.par_chunks_mut(row).zip(second.par_chunks_mut(row)).zip(x.par_chunks(row));
    rows.for_each(|((first, second), x)| {
        first.copy_from_slice(x);
        for (y, x) in second.chunks_exact_mut(channels).rev().zip(x.chunks_exact(channels)) {
            y.copy_from_slice(x);
        }
    });
}

/// dx from dy.
pub fn backward([width, channels]: [usize; 2], dy: &[f32], dx: &mut [f32]) {
    let row = width * channels;
    if row == 0 {
        return;
    }
    let (first, second) = dy.split_at(dx.len());
    let rows = first.par_chunks(row).zip(second.par_chunks(row)).zip(dx.par_chunks_mut(row));
    rows.for_each(|((first, second), dx)| {
        let mirrored = second.chunks_exact(channels).rev();
        for ((dx, a), b) in dx.chunks_exact_mut(channels).zip(first.chunks_exact(channels)).zip(mirrored) {
            for ((dx, a), b) in dx.iter_mut().zip(a).zip(b) {
                *dx = a + b;
            }
        }
    });
}
