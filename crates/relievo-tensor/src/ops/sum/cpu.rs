//! Scaled copies and sums, split into blocks that fit the first-level cache.

use rayon::prelude::*;

const BLOCK: usize = 8192;

/// `y = weight * x`.
pub fn scale(y: &mut [f32], weight: f32, x: &[f32]) {
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
        for (y, x) in y.iter_mut().zip(x) {
            *y = weight * x;
        }
    });
}

/// `y += weight * x`.
pub fn scale_add(y: &mut [f32], weight: f32, x: &[f32]) {
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
        for (y, x) in y.iter_mut().zip(x) {
            *y += weight * x;
        }
    });
}
