//! One task is an image.

use rayon::prelude::*;

use crate::ops::planes::{Way, add_along, add_down, gaussian};

/// For each place on a line, one over the sum of the weights that exist there.
fn shares(extent: usize, taps: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; extent];
    add_along(&mut sums, &vec![1.0; extent], extent, taps, Way::Forward);
    sums.iter().map(|sum| sum.recip()).collect()
}

/// Runs `change` on each channel of each image: the plane, a plane of zeros, the result.
fn each_plane(
    [_, height, width, channels]: [usize; 4],
    from: &[f32],
    to: &mut [f32],
    change: impl Fn(&mut [f32], &mut [f32], &mut [f32]) + Sync,
) {
    let pixels = height * width;
    let images = from.par_chunks(pixels * channels).zip(to.par_chunks_mut(pixels * channels));
    images.for_each(|(from, to)| {
        let (mut plane, mut half, mut result) = (vec![0.0; pixels], vec![0.0; pixels], vec![0.0; pixels]);
        for channel in 0..channels {
            plane.iter_mut().zip(from[channel..].iter().step_by(channels)).for_each(|(to, x)| *to = *x);
            half.fill(0.0);
            result.fill(0.0);
            change(&mut plane, &mut half, &mut result);
            to[channel..].iter_mut().step_by(channels).zip(&result).for_each(|(to, x)| *to = *x);
        }
    });
}

/// Multiplies each pixel by the shares of its row and its column.
fn scale(plane: &mut [f32], down: &[f32], along: &[f32]) {
    for (row, down) in plane.chunks_exact_mut(along.len()).zip(down) {
        row.iter_mut().zip(along).for_each(|(x, along)| *x *= down * along);
    }
}

pub fn means(extents: [usize; 4], deviation: f32, maps: &[f32], means: &mut [f32]) {
    let [_, height, width, _] = extents;
    let taps = gaussian(deviation);
    let (down, along) = (shares(height, &taps), shares(width, &taps));
    each_plane(extents, maps, means, |plane, half, result| {
        add_along(half, plane, width, &taps, Way::Forward);
        add_down(result, half, width, &taps, Way::Forward);
        scale(result, &down, &along);
    });
}

pub fn adjoint(extents: [usize; 4], deviation: f32, dy: &[f32], gradient: &mut [f32]) {
    let [_, height, width, _] = extents;
    let taps = gaussian(deviation);
    let (down, along) = (shares(height, &taps), shares(width, &taps));
    each_plane(extents, dy, gradient, |plane, half, result| {
        scale(plane, &down, &along);
        add_down(half, plane, width, &taps, Way::Back);
        add_along(result, half, width, &taps, Way::Back);
    });
}
