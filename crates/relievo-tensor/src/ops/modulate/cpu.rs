//! One pass forward, one backward. Threads share chunks of pixels, a fixed number of them, and the sums of an image's
//! chunks are added in order, in f64, so that the result does not depend on the threads.

use rayon::prelude::*;

use super::Layout;
use crate::ops::Activation;
use crate::ops::activation::{Curve, with_curve};
use crate::ops::vectorised::vectorised;

impl Layout {
    /// Elements of an image.
    fn image(self) -> usize {
        self.pixels * self.channels
    }

    /// Elements of a chunk of whole pixels: about 64 KiB.
    fn chunk(self) -> usize {
        (16_384 / self.channels).max(4) * self.channels
    }
}

/// y from x and the modulation.
pub fn forward(layout: Layout, activation: Activation, [x, modulation]: [&[f32]; 2], y: &mut [f32]) {
    let images = x.par_chunks(layout.image()).zip(y.par_chunks_mut(layout.image()));
    images.zip(modulation.par_chunks(2 * layout.channels)).for_each(|((x, y), modulation)| {
        let (scale, shift) = modulation.split_at(layout.channels);
        y.par_chunks_mut(layout.chunk()).zip(x.par_chunks(layout.chunk())).for_each(|(y, x)| {
            with_curve!(activation, C => lines::<C>(x, scale, shift, y));
        });
    });
}

/// dx (if asked for) and the gradient of the modulation, from x, the modulation, y and dy.
pub fn backward(
    layout: Layout,
    activation: Activation,
    [x, modulation, y, dy]: [&[f32]; 4],
    dx: Option<&mut [f32]>,
    dmodulation: &mut [f32],
) {
    let image = |number: usize, dx: Option<&mut [f32]>, dmodulation: &mut [f32]| {
        let whole = number * layout.image()..(number + 1) * layout.image();
        let of_chunks = [x, y, dy].map(|all| all[whole.clone()].par_chunks(layout.chunk()));
        let [xs, ys, dys] = of_chunks;
        let scale = &modulation[2 * number * layout.channels..][..layout.channels];
        let chunk = |data: [&[f32]; 3], dx: Option<&mut [f32]>| {
            let mut sums = vec![0.0; 2 * layout.channels];
            let (products, plain) = sums.split_at_mut(layout.channels);
            with_curve!(activation, C => gradient_sums::<C>(data, products, plain));
            if let Some(dx) = dx {
                with_curve!(activation, C => input_gradient::<C>(data, scale, dx));
            }
            sums
        };
        let chunks = xs.zip(ys).zip(dys).map(|((x, y), dy)| [x, y, dy]);
        let sums: Vec<Vec<f64>> = match dx {
            Some(dx) => chunks
                .zip(dx.par_chunks_mut(layout.chunk()))
                .map(|(data, dx)| chunk(data, Some(dx)))
                .collect(),
            None => chunks.map(|data| chunk(data, None)).collect(),
        };
        for (channel, gradient) in dmodulation.iter_mut().enumerate() {
            *gradient = sums.iter().map(|sums| sums[channel]).sum::<f64>() as f32;
        }
    };
    let dmodulation = dmodulation.par_chunks_mut(2 * layout.channels).enumerate();
    match dx {
        Some(dx) => dmodulation
            .zip(dx.par_chunks_mut(layout.image()))
            .for_each(|((number, dmodulation), dx)| image(number, Some(dx), dmodulation)),
        None => dmodulation.for_each(|(number, dmodulation)| image(number, None, dmodulation)),
    }
}

vectorised! {
    /// y of a few pixels.
    fn lines<C: Curve>(x: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
        for (y, x) in y.chunks_exact_mut(scale.len()).zip(x.chunks_exact(scale.len())) {
            for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                *y = C::value(x * (1.0 + scale) + shift);
            }
        }
    }

    /// Adds the sums of g x and of g for each channel, from x, y and dy of a few pixels.
    fn gradient_sums<C: Curve>(data: [&[f32]; 3], products: &mut [f64], plain: &mut [f64]) {
        let [x, y, dy] = data;
        let channels = plain.len();
        let pixels = x.chunks_exact(channels).zip(y.chunks_exact(channels)).zip(dy.chunks_exact(channels));
        for ((x, y), dy) in pixels {
            for ((((product, plain), x), y), dy) in
                products.iter_mut().zip(plain.iter_mut()).zip(x).zip(y).zip(dy)
            {
                let g = dy * C::slope_from_output(*y);
                *product += f64::from(g) * f64::from(*x);
                *plain += f64::from(g);
            }
        }
    }

    /// dx of a few pixels, from x, y and dy.
    fn input_gradient<C: Curve>(data: [&[f32]; 3], scale: &[f32], dx: &mut [f32]) {
        let [_, y, dy] = data;
        let channels = scale.len();
        let pixels = y.chunks_exact(channels).zip(dy.chunks_exact(channels));
        for (dx, (y, dy)) in dx.chunks_exact_mut(channels).zip(pixels) {
            for (((dx, y), dy), scale) in dx.iter_mut().zip(y).zip(dy).zip(scale) {
                *dx = dy * C::slope_from_output(*y) * (1.0 + scale);
            }
        }
    }
}
