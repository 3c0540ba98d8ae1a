//! How near a point is to a face, with derivatives by the corners.

use crate::gradients::drawn::{Flat, turn};

/// A face as it is seen from a point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near {
    /// The square of the distance from the outline in pixels, negative outside.
    pub signed_square: f64,
    /// The nearest point of the outline lies on the side from this corner to the next.
    side: usize,
    /// And there on that share of the way.
    along: f64,
    /// From that point to this one.
    arm: [f64; 2],
    /// Barycentric coordinates on the screen, not clamped.
    raw: [f64; 3],
    /// Clamped to [0, 1] and divided by their sum.
    pub weights: [f64; 3],
    /// The sum that they were divided by.
    total: f64,
    /// The depth at the clamped weights.
    pub depth: f64,
}

/// Gradients of the corners: places in pixels, and depths.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CornerGradients {
    pub at: [[f64; 2]; 3],
    pub z: [f64; 3],
}

impl Near {
    /// `None` if the point is outside, further away than the square root of `reach`.
    #[inline(always)]
    pub fn new(face: &Flat, point: [f64; 2], reach: f64) -> Option<Self> {
        let (mut best, mut side, mut along, mut arm) = (f64::INFINITY, 0, 0.0, [0.0; 2]);
        let mut areas = [0.0; 3];
        for corner in 0..3 {
            let (a, b) = (face.at[corner], face.at[(corner + 1) % 3]);
            areas[(corner + 2) % 3] = turn(a, b, point);
            let way = [b[0] - a[0], b[1] - a[1]];
            let to = [point[0] - a[0], point[1] - a[1]];
            let square = way[0] * way[0] + way[1] * way[1];
            let share = if square > 0.0 { (to[0] * way[0] + to[1] * way[1]) / square } else { 0.0 };
            let share = share.clamp(0.0, 1.0);
            let from = [to[0] - share * way[0], to[1] - share * way[1]];
            let distance = from[0] * from[0] + from[1] * from[1];
            if distance < best {
                (best, side, along, arm) = (distance, corner, share, from);
            }
        }
        let inside = areas.iter().all(|area| *area >= 0.0);
        if !(inside || best <= reach) {
            return None;
        }
        let sum = areas[0] + areas[1] + areas[2];
        let raw = areas.map(|area| area / sum);
        let clamped = raw.map(|w| w.clamp(0.0, 1.0));
        let total = clamped[0] + clamped[1] + clamped[2];
        let weights = clamped.map(|w| w / total);
        let depth = 1.0 / (0..3).map(|k| weights[k] / f64::from(face.z[k])).sum::<f64>();
        let signed_square = if inside { best } else { -best };
        Some(Self { signed_square, side, along, arm, raw, weights, total, depth })
    }

    /// Adds the gradients of the corners, given those of the signed square and of the depth.
    #[inline(always)]
    pub fn add_gradients(&self, face: &Flat, of_square: f64, of_depth: f64, sums: &mut CornerGradients) {
        // The nearest point stays the nearest to first order, so only the ends of its side move it.
        let by = 2.0 * if self.signed_square >= 0.0 { -of_square } else { of_square };
        for (corner, share) in [(self.side, 1.0 - self.along), ((self.side + 1) % 3, self.along)] {
            (0..2).for_each(|axis| sums.at[corner][axis] += by * share * self.arm[axis]);
        }
        if of_depth == 0.0 {
            return;
        }
        let mut of_weights = [0.0; 3];
        for (k, of_weight) in of_weights.iter_mut().enumerate() {
            let z = f64::from(face.z[k]);
            let over = of_depth * self.depth * self.depth / z;
            sums.z[k] += over * self.weights[k] / z;
            *of_weight = -over;
        }
        let mean: f64 = (0..3).map(|k| self.weights[k] * of_weights[k]).sum();
        // A corner that moves takes the weights of the point with it: d(w_k)/d(corner j) = -w_j grad(w_k).
        let [a, b, c] = face.at;
        let area = turn(a, b, c);
        let slopes = [[b, c], [c, a], [a, b]].map(|[p, q]| [(p[1] - q[1]) / area, (q[0] - p[0]) / area]);
        let mut along = [0.0; 2];
        for k in 0..3 {
            if self.raw[k] > 0.0 && self.raw[k] < 1.0 {
                let g = (of_weights[k] - mean) / self.total;
                (0..2).for_each(|axis| along[axis] += g * slopes[k][axis]);
            }
        }
        for k in 0..3 {
            (0..2).for_each(|axis| sums.at[k][axis] -= self.raw[k] * along[axis]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACE: Flat = Flat { number: 0, at: [[1.0, 1.0], [5.0, 2.0], [2.0, 6.0]], z: [1.0, 2.0, 1.5] };

    #[test]
    fn distances_are_squared_and_signed() {
        let near = |x, y| Near::new(&FACE, [x, y], 100.0).unwrap().signed_square;
        // Beyond a corner, and as far beside a side outside as inside.
        assert!((near(0.0, 0.0) + 2.0).abs() < 1e-12);
        let [x, y] = [3.0 + 0.25, 1.5 - 1.0];
        assert!((near(x, y) + 1.0625).abs() < 1e-12, "{}", near(x, y));
        assert!((near(2.75, 2.5) - 1.0625).abs() < 1e-12);
        assert!(Near::new(&FACE, [0.0, 0.0], 1.9).is_none());
    }

    #[test]
    fn the_gradients_are_those_of_differences() {
        for point in [[0.0, 0.2], [2.5, 3.0], [3.2, 0.7], [6.0, 1.5], [2.4, 4.9], [0.9, 4.0]] {
            let value = |face: &Flat| {
                let near = Near::new(face, point, 100.0).unwrap();
                0.7 * near.signed_square + 3.0 * near.depth
            };
            let mut sums = CornerGradients::default();
            Near::new(&FACE, point, 100.0).unwrap().add_gradients(&FACE, 0.7, 3.0, &mut sums);
            for corner in 0..3 {
                for axis in 0..2 {
                    let moved = |by: f64| {
                        let mut face = FACE;
                        face.at[corner][axis] += by;
                        value(&face)
                    };
                    let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    let got = sums.at[corner][axis];
                    assert!((got - difference).abs() < 1e-6, "{point:?}: {got} {difference}");
                }
                let moved = |by: f32| {
                    let mut face = FACE;
                    face.z[corner] += by;
                    value(&face)
                };
                let difference = (moved(1.0 / 256.0) - moved(-1.0 / 256.0)) * 128.0;
                assert!(
                    (sums.z[corner] - difference).abs() < 1e-4,
                    "{point:?}: {} {difference}",
                    sums.z[corner]
                );
            }
        }
    }
}
