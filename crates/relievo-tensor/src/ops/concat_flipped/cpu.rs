//! One task is a row. A mirrored row is its pixels in reverse order. A row of one pixel is its own mirror image, so the
//! unmirrored cases need no code of their own.

use rayon::prelude::*;

use super::Rows;

/// y from x.
pub fn forward(Rows { width, channels, shift }: Rows, x: &[f32], y: &mut [f32]) {
    let row = width * channels;
    if row == 0 {
        return;
    }
    let (first, second) = y.split_at_mut(x.len());
    let rows = first.par_chunks_mut(row).zip(second.par_chunks_mut(row)).zip(x.par_chunks(row));
    rows.enumerate().for_each(|(number, ((first, second), here))| {
        first.copy_from_slice(here);
        let x = &x[(number * row + shift) % x.len()..][..row];
        for (y, x) in second.chunks_exact_mut(channels).rev().zip(x.chunks_exact(channels)) {
            y.copy_from_slice(x);
        }
    });
}

/// dx from dy.
pub fn backward(Rows { width, channels, shift }: Rows, dy: &[f32], dx: &mut [f32]) {
    let row = width * channels;
    if row == 0 {
        return;
    }
    let (first, second) = dy.split_at(dx.len());
    first.par_chunks(row).zip(dx.par_chunks_mut(row)).enumerate().for_each(|(number, (first, dx))| {
        let second = &second[(number * row + shift) % second.len()..][..row];
        let mirrored = second.chunks_exact(channels).rev();
        for ((dx, a), b) in dx.chunks_exact_mut(channels).zip(first.chunks_exact(channels)).zip(mirrored) {
            for ((dx, a), b) in dx.iter_mut().zip(a).zip(b) {
                *dx = a + b;
            }
        }
    });
}
