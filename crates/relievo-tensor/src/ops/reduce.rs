//! Sums whose result does not depend on the threads: parts of fixed size, added in order, in f64.

use rayon::prelude::*;

use super::vectorised::vectorised;

/// The sum of `part(0)`, `part(1)`, ..., in this order; the parts are computed on all threads.
pub fn sum_in_order(parts: usize, part: impl Fn(usize) -> f64 + Sync + Send) -> f64 {
    let parts: Vec<f64> = (0..parts).into_par_iter().map(part).collect();
    parts.iter().sum()
}

/// Partial sums side by side; a fixed number, so that every instruction set adds in the same order.
pub const LANES: usize = 16;

vectorised! {
    /// The sum.
    pub fn sum(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let mut blocks = x.chunks_exact(LANES);
        for block in &mut blocks {
            for i in 0..LANES {
                lanes[i] += f64::from(block[i]);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(blocks.remainder()) {
            *lane += f64::from(*x);
        }
        lanes.iter().sum()
    }

    /// The sum of squares.
    pub fn sum_of_squares(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let mut blocks = x.chunks_exact(LANES);
        for block in &mut blocks {
            for i in 0..LANES {
                lanes[i] += f64::from(block[i]) * f64::from(block[i]);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(blocks.remainder()) {
            *lane += f64::from(*x) * f64::from(*x);
        }
        lanes.iter().sum()
    }

    /// The sum of squared differences.
    pub fn squared_distance(x: &[f32], y: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (mut xs, mut ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
        for (x, y) in (&mut xs).zip(&mut ys) {
            for i in 0..LANES {
                let difference = f64::from(x[i] - y[i]);
                lanes[i] += difference * difference;
            }
        }
        for (lane, (x, y)) in lanes.iter_mut().zip(xs.remainder().iter().zip(ys.remainder())) {
            let difference = f64::from(x - y);
            *lane += difference * difference;
        }
        lanes.iter().sum()
    }
}
