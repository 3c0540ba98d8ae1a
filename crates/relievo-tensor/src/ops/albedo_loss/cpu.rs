//! One task is a row. The slopes of all pixels are kept for the backward pass, which gathers at each pixel what it gave to
//! its own sum and to its neighbours', so that no two rows write to the same place.

use rayon::prelude::*;

use super::{COLOUR_LIMIT, COLOUR_SPREAD, DEPTH_SPREAD, Layout};
use crate::ops::reduce::sum_in_order;

/// The eight neighbours, down and to the right.
const NEIGHBOURS: [[isize; 2]; 8] = [[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0], [1, 1]];

impl Layout {
    fn row_count(self) -> usize {
        self.count * self.height
    }

    /// The first pixel of a row among the reconstructions, and among the images.
    fn first_pixels(self, row: usize) -> [usize; 2] {
        let (number, v) = (row / self.height, row % self.height);
        [row * self.width, (number % self.images * self.height + v) * self.width]
    }

    /// The pixel that lies `down` and `right` of pixel u in a row, as a distance; `None` outside the image.
    fn neighbour(self, row: usize, u: usize, [down, right]: [isize; 2]) -> Option<isize> {
        let v = (row % self.height).checked_add_signed(down).filter(|v| *v < self.height);
        let u = u.checked_add_signed(right).filter(|u| *u < self.width);
        v.and(u).map(|_| down * self.width as isize + right)
    }
}

fn colour(of: &[f32], pixel: usize) -> [f32; 3] {
    [of[3 * pixel], of[3 * pixel + 1], of[3 * pixel + 2]]
}

/// The weight of a pair of pixels, from their colours and the difference of their depths.
fn weight(a: [f32; 3], b: [f32; 3], step: f32) -> f32 {
    let square: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    if square < COLOUR_LIMIT { (-square / COLOUR_SPREAD - step * step / DEPTH_SPREAD).exp() } else { 0.0 }
}

/// For each pixel the sum over its neighbours of weight times difference, from albedo, depth and image.
pub fn slopes(layout: Layout, [albedo, depth, image]: [&[f32]; 3], slopes: &mut [f32]) {
    slopes.par_chunks_mut(3 * layout.width).enumerate().for_each(|(row, slopes)| {
        let [first, first_image] = layout.first_pixels(row);
        for (u, slope) in slopes.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (pixel, own) = (first + u, first_image + u);
            let [a, i] = [colour(albedo, pixel), colour(image, own)];
            *slope = [0.0; 3];
            for place in NEIGHBOURS {
                let other = layout.neighbour(row, u, place).map(|distance| {
                    let [pixel, own] = [pixel, own].map(|at| at.wrapping_add_signed(distance));
                    (colour(albedo, pixel), depth[pixel], colour(image, own))
                });
                let (b, d, j) = other.unwrap_or(([0.0; 3], 0.0, [0.0; 3]));
                let weight = weight(i, j, depth[pixel] - d);
                for c in 0..3 {
                    slope[c] += weight * (a[c] - b[c]);
                }
            }
        }
    });
}

/// The mean of each part over its pixels of mask times the squared slopes.
pub fn losses(layout: Layout, slopes: &[f32], mask: &[f32]) -> Vec<f32> {
    let rows = layout.row_count() / layout.parts;
    let parts = (0..layout.parts).map(|part| {
        let sum = sum_in_order(rows, |row| {
            let pixels = (part * rows + row) * layout.width..(part * rows + row + 1) * layout.width;
            let error = |pixel| colour(slopes, pixel).iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
            pixels.map(|pixel| f64::from(mask[pixel]) * error(pixel)).sum()
        });
        (sum * f64::from(layout.share())) as f32
    });
    parts.collect()
}

/// The gradients of albedo and depth. `factors` has, for each part, the derivative of the total by half a squared slope of
/// a pixel that counts fully.
pub fn gradients(
    layout: Layout,
    [albedo, depth, mask, image, slopes]: [&[f32]; 5],
    factors: &[f32],
    dalbedo: &mut [f32],
    ddepth: &mut [f32],
) {
    let rows = dalbedo.par_chunks_mut(3 * layout.width).zip(ddepth.par_chunks_mut(layout.width));
    rows.enumerate().for_each(|(row, (dalbedo, ddepth))| {
        let [first, first_image] = layout.first_pixels(row);
        let factor = factors[row / (layout.row_count() / layout.parts)];
        for (u, (dalbedo, ddepth)) in dalbedo.as_chunks_mut::<3>().0.iter_mut().zip(ddepth).enumerate() {
            let (pixel, own) = (first + u, first_image + u);
            let [a, i] = [colour(albedo, pixel), colour(image, own)];
            let slope = colour(slopes, pixel).map(|slope| mask[pixel] * slope);
            (*dalbedo, *ddepth) = ([0.0; 3], 0.0);
            for place in NEIGHBOURS {
                // The neighbour's colour, depth, albedo, and its own slope with this pixel as a neighbour.
                let other = layout.neighbour(row, u, place).map(|distance| {
                    let [pixel, own] = [pixel, own].map(|at| at.wrapping_add_signed(distance));
                    let slope = colour(slopes, pixel).map(|slope| mask[pixel] * slope);
                    (colour(image, own), depth[pixel], colour(albedo, pixel), slope)
                });
                let (j, d, b, other_slope) = other.unwrap_or(([0.0; 3], 0.0, [0.0; 3], [0.0; 3]));
                let step = depth[pixel] - d;
                let weight = factor * weight(i, j, step);
                let mut of_weight = 0.0;
                for c in 0..3 {
                    let pull = slope[c] - other_slope[c];
                    dalbedo[c] += weight * pull;
                    of_weight += pull * (a[c] - b[c]);
                }
                *ddepth -= 2.0 / DEPTH_SPREAD * step * weight * of_weight;
            }
        }
    });
}
