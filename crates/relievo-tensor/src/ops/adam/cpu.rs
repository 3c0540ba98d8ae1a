//! Blocks of all parameters are shared among the threads; one pass reads and writes everything once.

use rayon::prelude::*;

use super::Scalars;
use crate::ops::reduce;
use crate::ops::vectorised::vectorised;

/// Elements a thread takes at a time. Fixed, so that sums do not depend on the threads.
const BLOCK: usize = 16_384;

/// Updates one tensor's parameters and moments.
pub fn update(scalars: &Scalars, parameter: &mut [f32], gradient: &[f32], [first, second]: [&mut [f32]; 2]) {
    let moments = first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK));
    let parameters = parameter.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
    parameters.zip(moments).for_each(|((p, g), (m, v))| update_block(scalars, p, g, m, v));
}

/// The sum of squares.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    reduce::sum_in_order(x.len().div_ceil(BLOCK), |block| {
        reduce::sum_of_squares(&x[block * BLOCK..((block + 1) * BLOCK).min(x.len())])
    })
}

/// `x *= factor`.
pub fn scale(x: &mut [f32], factor: f32) {
    x.par_chunks_mut(BLOCK).for_each(|x| x.iter_mut().for_each(|x| *x *= factor));
}

/// `x += share * (y - x)`.
pub fn lerp(x: &mut [f32], y: &[f32], share: f32) {
    let blocks = x.par_chunks_mut(BLOCK).zip(y.par_chunks(BLOCK));
    blocks.for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += share * (y - *x)));
}

vectorised! {
    fn update_block(scalars: &Scalars, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g + scalars.weight_decay * *p;
            *m += scalars.one_minus_beta1 * (g - *m);
            *v = *v * scalars.beta2 + scalars.one_minus_beta2 * g * g;
            let denominator = v.sqrt() / scalars.root_of_correction2 + scalars.epsilon;
            *p += scalars.minus_step_size * *m / denominator;
        }
    }
}
