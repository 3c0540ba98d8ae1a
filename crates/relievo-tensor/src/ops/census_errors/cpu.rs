//! One task is an image. The backward pass gathers at each pixel what it gave to its own distance and to those of its
//! neighbours, so that no two rows write to the same place.

use rayon::prelude::*;

use super::{FAR, LEVELS, RADIUS, SOFT};
use crate::ops::compared::Compared;

/// The soft sign of a difference, and its slope.
#[inline(always)]
fn soft_sign(difference: f32) -> (f32, f32) {
    let square = SOFT + difference * difference;
    let root = square.sqrt();
    (difference / root, SOFT / (square * root))
}

/// The distance of two soft signs, and its slope by the first.
#[inline(always)]
fn distance(a: f32, b: f32) -> (f32, f32) {
    let difference = a - b;
    let below = FAR + difference * difference;
    (difference * difference / below, 2.0 * FAR * difference / (below * below))
}

/// An image and its target in grey levels.
struct Grey<'a> {
    height: usize,
    width: usize,
    found: Vec<f32>,
    target: Vec<f32>,
    mask: &'a [f32],
}

impl<'a> Grey<'a> {
    fn new(compared: Compared, found: &[f32], [target, mask]: [&'a [f32]; 2]) -> Self {
        let grey = |of: &[f32]| {
            let pixels = of.chunks_exact(compared.channels);
            pixels.map(|pixel| LEVELS / compared.channels as f32 * pixel.iter().sum::<f32>()).collect()
        };
        let Compared { height, width, .. } = compared;
        Self { height, width, found: grey(found), target: grey(target), mask }
    }

    /// The neighbours of a pixel under the mask.
    fn neighbours(&self, pixel: usize) -> impl Iterator<Item = usize> {
        let (row, column) = (pixel / self.width, pixel % self.width);
        let rows = row.saturating_sub(RADIUS)..(row + RADIUS + 1).min(self.height);
        let columns = column.saturating_sub(RADIUS)..(column + RADIUS + 1).min(self.width);
        let all = rows.flat_map(move |row| columns.clone().map(move |column| row * self.width + column));
        all.filter(move |other| *other != pixel && self.mask[*other] > 0.0)
    }

    /// The distance that a neighbour gives to a pixel, and its slope by the difference of their grey levels.
    #[inline(always)]
    fn pair(&self, pixel: usize, other: usize) -> (f32, f32) {
        let (sign, slope) = soft_sign(self.found[other] - self.found[pixel]);
        let (right, _) = soft_sign(self.target[other] - self.target[pixel]);
        let (distance, by_sign) = distance(sign, right);
        (distance, by_sign * slope)
    }

    /// For each pixel under the mask one over the number of its neighbours, 0 for others.
    fn shares(&self) -> Vec<f32> {
        let share = |pixel| {
            let count = self.neighbours(pixel).count();
            if self.mask[pixel] > 0.0 && count > 0 { 1.0 / count as f32 } else { 0.0 }
        };
        (0..self.mask.len()).map(share).collect()
    }
}

pub fn errors(compared: Compared, [found, target, mask]: [&[f32]; 3], errors: &mut [f32]) {
    let (channels, pixels) = (compared.channels, compared.pixels());
    let images = errors.par_chunks_mut(pixels).zip(found.par_chunks(pixels * channels));
    images.enumerate().for_each(|(image, (errors, found))| {
        let grey = Grey::new(compared, found, compared.parts(image, [target, mask]));
        for ((pixel, error), share) in errors.iter_mut().enumerate().zip(grey.shares()) {
            *error = 0.0;
            if share > 0.0 {
                *error = share * grey.neighbours(pixel).map(|other| grey.pair(pixel, other).0).sum::<f32>();
            }
        }
    });
}

/// The gradient of the reconstruction, given that of the errors.
pub fn gradient(compared: Compared, [found, target, mask]: [&[f32]; 3], dy: &[f32], gradient: &mut [f32]) {
    let (channels, pixels) = (compared.channels, compared.pixels());
    let images = gradient.par_chunks_mut(pixels * channels).zip(found.par_chunks(pixels * channels));
    images.enumerate().for_each(|(image, (gradient, found))| {
        let grey = Grey::new(compared, found, compared.parts(image, [target, mask]));
        let shares = grey.shares();
        let weight = |pixel: usize| dy[image * pixels + pixel] * shares[pixel];
        for (pixel, gradient) in gradient.chunks_exact_mut(channels).enumerate() {
            gradient.fill(0.0);
            // A pixel beyond the mask is nobody's neighbour and has no distance.
            if grey.mask[pixel] == 0.0 {
                continue;
            }
            let slope = |other: usize| {
                weight(other) * grey.pair(other, pixel).1 - weight(pixel) * grey.pair(pixel, other).1
            };
            let sum: f32 = grey.neighbours(pixel).map(slope).sum();
            gradient.fill(LEVELS / channels as f32 * sum);
        }
    });
}
