//! One face on the screen, prepared for its samples.

use super::samples::{Samples, in_samples};

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
        let front = (y[2] - y[0]) * (x[1] - x[0]) > (y[1] - y[0]) * (x[2] - x[0]);
        if !(front && z.iter().all(|z| (LEAST_DEPTH..=GREATEST_DEPTH).contains(z))) {
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
        let clamped = [1.0 - b - c, b, c].map(clamp_to_unit);
        let total = clamped[0] + clamped[1] + clamped[2];
        let [a, b, c] = self.z.map(|z| 1.0 / z);
        let over_z = clamped[0] * a + clamped[1] * b + clamped[2] * c;
        (clamped.map(|w| w / total), total / over_z)
    }

    /// Weights on the surface rather than on the screen, `w / z * d`; sum 1.
    #[inline(always)]
    pub fn surface_weights(&self, column: usize, row: usize) -> [f32; 3] {
        let (weights, depth) = self.weights(column, row);
        std::array::from_fn(|k| weights[k] * depth / self.z[k])
    }

    /// Derivatives of the three weights by column and row, clamps taken as absent.
    #[inline(always)]
    pub fn weight_slopes(&self) -> [[f32; 2]; 3] {
        let [b, c] = self.slopes;
        [[-b[0] - c[0], -b[1] - c[1]], b, c]
    }

    /// First and last column, first and last row of the samples it can cover; `None` if there is none.
    #[inline(always)]
    pub fn bounds(&self, samples: Samples) -> Option<[[usize; 2]; 2]> {
        Some([range(self.px, samples.columns)?, range(self.py, samples.rows)?])
    }
}

/// First and last sample between the least and the greatest of three coordinates. A little wider than exact: the test of the
/// edges, which is evaluated on the screen, decides.
#[inline(always)]
fn range(p: [f32; 3], count: usize) -> Option<[usize; 2]> {
    let (least, greatest) = (p[0].min(p[1]).min(p[2]), p[0].max(p[1]).max(p[2]));
    let slack = 0.01 + 1e-6 * least.abs().max(greatest.abs());
    let (low, high) = ((least - slack).max(0.0), (greatest + slack).min(count as f32 - 1.0));
    if high < 0.0 || low > high {
        return None;
    }
    let (first, last) = (low.ceil() as usize, high.floor() as usize);
    (first <= last).then_some([first, last])
}
