//! One face on the screen, prepared for its samples.

use super::samples::{Samples, in_samples};
use crate::triangle::{greater, interpolate, samples_between, surface_weights};

/// A face that is drawn. All arrays are by corner, in the order in which it is seen from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Triangle {
    /// Number of the face among those that may be drawn: fronts, then backs.
    pub number: u32,
    /// Screen coordinates.
    pub x: [f32; 3],
    pub y: [f32; 3],
    /// Depths.
    pub z: [f32; 3],
    /// Corners in units of samples.
    pub px: [f32; 3],
    pub py: [f32; 3],
    /// Derivatives of the second and the third weight by column and row.
    pub slopes: [[f32; 2]; 2],
}

/// Corners nearer to the camera than this are behind it: their gradients could not be represented.
const LEAST_DEPTH: f32 = 1e-6;
/// Corners further away are as good as not finite.
const GREATEST_DEPTH: f32 = 1e15;
/// A weight that changes faster from sample to sample is that of a face without area.
const STEEPEST: f32 = 1e6;
/// And so are corners further out, in samples.
const FURTHEST: f32 = 1e9;

/// Clamped to [0, 1]; 0 for NaN.
#[inline(always)]
fn clamp_to_unit(w: f32) -> f32 {
    let w = if w > 0.0 { w } else { 0.0 };
    if w < 1.0 { w } else { 1.0 }
}

impl Triangle {
    /// `None` for faces that are not drawn: seen from the back, without area, with a corner that is not finite or not in
    /// front of the camera.
    #[inline(always)]
    pub fn new(number: u32, corners: [[f32; 3]; 3], samples: Samples) -> Option<Self> {
        let [x, y, z] = [0, 1, 2].map(|axis: usize| corners.map(|corner| corner[axis]));
        if !is_seen(x, y, z) {
            return None;
        }
        let px = x.map(|x| in_samples(x, samples.columns));
        let py = y.map(|y| in_samples(y, samples.rows));
        let [bx, by, cx, cy] = [px[1] - px[0], py[1] - py[0], px[2] - px[0], py[2] - py[0]];
        let inverse_area = 1.0 / (bx * cy - cx * by);
        let slopes = [[cy * inverse_area, -cx * inverse_area], [-by * inverse_area, bx * inverse_area]];
        // Both are false for NaN.
        let sound = slopes.as_flattened().iter().all(|slope| slope.abs() <= STEEPEST)
            && px.iter().chain(&py).all(|p| p.abs() <= FURTHEST);
        sound.then_some(Self { number, x, y, z, px, py, slopes })
    }

    /// Weights of the corners on the screen at sample (`column`, `row`), in [0, 1] with sum 1, and the depth. Measured
    /// from the first corner, which is exact where the published formula cancels.
    #[inline(always)]
    pub fn weights(&self, column: usize, row: usize) -> ([f32; 3], f32) {
        let (dx, dy) = (column as f32 - self.px[0], row as f32 - self.py[0]);
        let [b, c] = self.slopes.map(|[by_x, by_y]| by_x * dx + by_y * dy);
        interpolate([1.0 - b - c, b, c].map(clamp_to_unit), self.z.map(|z| 1.0 / z))
    }

    /// Weights on the surface rather than on the screen, with sum 1.
    #[inline(always)]
    pub fn surface_weights(&self, column: usize, row: usize) -> [f32; 3] {
        let (weights, depth) = self.weights(column, row);
        surface_weights(weights, self.z, depth)
    }

    /// Derivatives of the three weights by column and row, clamps taken as absent.
    #[inline(always)]
    pub fn weight_slopes(&self) -> [[f32; 2]; 3] {
        let [b, c] = self.slopes;
        [[-b[0] - c[0], -b[1] - c[1]], b, c]
    }
}

/// First and last column, first and last row of the samples that a face may cover; `None` if there are none, or the face is
/// seen from behind or has a depth that is not drawn. Whether it is drawn, [`Triangle::new`] decides.
#[inline(always)]
pub(crate) fn bounds_if_seen(corners: [[f32; 3]; 3], samples: Samples) -> Option<[[usize; 2]; 2]> {
    let [x, y, z] = [0, 1, 2].map(|axis: usize| corners.map(|corner| corner[axis]));
    if !is_seen(x, y, z) {
        return None;
    }
    let across = range(x.map(|x| in_samples(x, samples.columns)), samples.columns)?;
    Some([across, range(y.map(|y| in_samples(y, samples.rows)), samples.rows)?])
}

/// Whether the corners run counter-clockwise, and all have depths that can be drawn.
#[inline(always)]
fn is_seen(x: [f32; 3], y: [f32; 3], z: [f32; 3]) -> bool {
    let front = (y[2] - y[0]) * (x[1] - x[0]) > (y[1] - y[0]) * (x[2] - x[0]);
    front && z.iter().all(|z| (LEAST_DEPTH..=GREATEST_DEPTH).contains(z))
}

/// First and last sample between the least and the greatest of three coordinates. Wider than exact: the test of the edges,
/// which is evaluated on the screen, decides.
#[inline(always)]
fn range(p: [f32; 3], count: usize) -> Option<[usize; 2]> {
    // Several times what rounding can do to a coordinate in samples.
    let furthest = greater(greater(p[0].abs(), p[1].abs()), p[2].abs());
    let range = samples_between(p, 0.0, 1e-6 * (furthest + count as f32), 0..count);
    (!range.is_empty()).then(|| [range.start, range.end - 1])
}
