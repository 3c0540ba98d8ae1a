//! One task is a row.

use rayon::prelude::*;

use crate::ops::reduce::sum_in_order;

/// The sums of absolute differences down and along, over maps `[batch, height, width]`.
pub fn absolute_differences([batch, height, width]: [usize; 3], depth: &[f32]) -> [f64; 2] {
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum();
    let down = sum_in_order(batch * height, |row| {
        if (row + 1) % height == 0 {
            return 0.0;
        }
        let pair = &depth[row * width..(row + 2) * width];
        distance(&pair[..width], &pair[width..])
    });
    let along = sum_in_order(batch * height, |row| {
        let row = &depth[row * width..(row + 1) * width];
        distance(&row[1..], &row[..width - 1])
    });
    [down, along]
}

/// The gradient of `down * ` the first sum `+ along * ` the second.
pub fn gradient(
    [_, height, width]: [usize; 3],
    [down, along]: [f32; 2],
    depth: &[f32],
    gradient: &mut [f32],
) {
    gradient.par_chunks_mut(width.max(1)).enumerate().for_each(|(row, gradient)| {
        let line = |row: usize| &depth[row * width..(row + 1) * width];
        let here = line(row);
        gradient.fill(0.0);
        let mut towards = |other: &[f32]| {
            for ((sum, a), b) in gradient.iter_mut().zip(here).zip(other) {
                *sum += down * sign(a - b);
            }
        };
        if row % height > 0 {
            towards(line(row - 1));
        }
        if (row + 1) % height > 0 {
            towards(line(row + 1));
        }
        for u in 1..width {
            let slope = along * sign(here[u] - here[u - 1]);
            gradient[u] += slope;
            gradient[u - 1] -= slope;
        }
    });
}

/// The slope of |x|: 0 at 0, NaN for NaN.
fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}
