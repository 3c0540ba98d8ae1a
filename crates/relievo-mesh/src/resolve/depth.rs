//! The gradient of depth: exact for the samples' faces as they are.

use rayon::prelude::*;

use crate::raster::Covered;
use crate::shade::SamplesByFace;

/// Adds the gradients in the screen coordinates of all vertices of one image. `upstream` gives that of a sample.
///
/// d = 1 / sum(w_k / z_k) with weights linear in the position of the sample: with h = sum of the slopes of w_k over z_k, corner
/// k gets g w_k d^2 (1 / z_k^2 in z, h in x and y).
pub(super) fn add_depth_gradients(
    image: &Covered<'_>,
    by_face: &SamplesByFace,
    upstream: impl Fn(usize) -> f32 + Sync,
    gradients: &mut [[f32; 3]],
) {
    let samples = image.samples;
    let halves = [samples.columns as f32 / 2.0, samples.rows as f32 / 2.0];
    let of_face = |(number, list): (u32, &[u32])| {
        let triangle = image.triangle(number as f32);
        let mut sums = [0.0f32; 3];
        for sample in list {
            let (column, row) = (*sample as usize % samples.columns, *sample as usize / samples.columns);
            let (weights, depth) = triangle.weights(column, row);
            let g = upstream(*sample as usize) * depth * depth;
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += g * weight);
        }
        let slopes = triangle.weight_slopes();
        let tilt: [f32; 2] = std::array::from_fn(|axis| {
            (0..3).map(|k| slopes[k][axis] / triangle.z[k]).sum::<f32>() * halves[axis]
        });
        let of_corner = |k: usize| {
            let z = triangle.z[k];
            [sums[k] * tilt[0], sums[k] * tilt[1], sums[k] / z / z]
        };
        (number, [0, 1, 2].map(of_corner))
    };
    let found: Vec<(u32, [[f32; 3]; 3])> = by_face.faces().into_par_iter().map(of_face).collect();
    for (number, corners) in found {
        for (vertex, g) in image.geometry.corners(number as usize).into_iter().zip(corners) {
            gradients[vertex].iter_mut().zip(g).for_each(|(sum, g)| *sum += g);
        }
    }
}
