//! One triangle on a raster of point samples: which it may cover, with which weights and depths. What all rasterisers of
//! this project share.
//!
//! | | [`crate::Renderer`] | [`Raster`], for the relief renderer and others |
//! |---|---|---|
//! | samples that a triangle may cover | [`samples_between`] | the same |
//! | inside | f32, as the published code evaluates it, which decides every sample alike | f64, where the signs are exact |
//! | sides | the one whose corners run counter-clockwise | both |
//! | edges | belong to the triangles on both sides | the same |
//! | weights and depth | [`interpolate`], [`surface_weights`] | the same |
//!
//! The raster is a rectangle of point samples: sample `i` of a row or column has the coordinate `i + offset` in the units of
//! the corners. The caller decides what a sample stands for (a pixel, a sub-pixel), and keeps the z-buffer, list or sums:
//! nothing is stored here.
//!
//! [`Raster`] evaluates the edge functions in f64, where differences and products of f32 coordinates of one image's range
//! are exact, so their signs are exact too: two triangles that share an edge leave no gap between them.
//!
//! All functions are inlined: a triangle of a surface grid covers a handful of samples, and with calls the rasteriser takes
//! 40 % longer.

use std::ops::Range;

/// A raster of point samples. Corners handed to [`Raster::visit`] are in units of the distance between two samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Raster {
    /// Samples in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// Coordinate of the first sample in x and in y, in samples: sample `i` lies at `i + offset`.
    pub offset: f32,
}

/// Weights of the corners on the screen, with sum 1, and the perspective-correct depth `1 / sum(weight / z)`: of a sample with
/// the barycentric coordinates `clamped`, each in [0, 1], and corners of the inverse depths `inverse_z`.
#[inline(always)]
pub fn interpolate(clamped: [f32; 3], inverse_z: [f32; 3]) -> ([f32; 3], f32) {
    let total = clamped[0] + clamped[1] + clamped[2];
    let over_z = clamped[0] * inverse_z[0] + clamped[1] * inverse_z[1] + clamped[2] * inverse_z[2];
    (clamped.map(|w| w / total), total / over_z)
}

/// Weights for interpolating attributes of the corners on the surface rather than on the screen: `weight / z * depth`, sum 1.
/// `z` are the corners' depths.
#[inline(always)]
pub fn surface_weights(weights: [f32; 3], z: [f32; 3], depth: f32) -> [f32; 3] {
    std::array::from_fn(|k| weights[k] / z[k] * depth)
}

// One instruction each; `f32::min` and `max` take several to handle NaN, and a triangle with such a corner covers nothing
// anyway.
#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
pub(crate) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The samples of `within` between the least and the greatest of three coordinates, and up to `slack` beyond. Sample `i` lies
/// at `i + offset`. The subtractions may round onto a sample but not across it: the range may have a sample too many, which
/// the edges reject, but never one too few.
#[inline(always)]
pub fn samples_between([a, b, c]: [f32; 3], offset: f32, slack: f32, within: Range<usize>) -> Range<usize> {
    let (least, greatest) = (lesser(lesser(a, b), c), greater(greater(a, b), c));
    let low = greater(least - offset - slack, within.start as f32);
    // Written so that nothing is added where there is no slack.
    let high = lesser(greatest - (offset - slack), within.end as f32 - 1.0);
    if !(high >= 0.0 && low <= high) {
        return 0..0;
    }
    // Rounded by hand: without SSE 4.1 `ceil` and `floor` are function calls.
    let first = low as i32;
    (first + i32::from((first as f32) < low)) as usize..(high as i32 + 1) as usize
}

/// A sample that a triangle covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Column on the raster.
    pub column: usize,
    /// Row on the raster.
    pub row: usize,
    /// Barycentric weights of the three corners on the screen, in [0, 1], sum 1.
    pub weights: [f32; 3],
    /// Perspective-correct depth `1 / sum(weight / z)`, in the corners' unit of z.
    pub depth: f32,
}

impl Sample {
    /// Weights for interpolating attributes of the corners on the surface: see [`surface_weights`].
    #[inline(always)]
    pub fn surface_weights(&self, z: [f32; 3]) -> [f32; 3] {
        surface_weights(self.weights, z, self.depth)
    }
}

/// A triangle, prepared for tests of points by [`Raster`]'s rule.
#[derive(Clone, Copy, Debug)]
pub struct Triangle {
    /// For every corner the edge opposite it: where it starts, and the step to its end.
    edges: [([f64; 2], [f64; 2]); 3],
    /// Of twice the area, signed by the orientation.
    inverse_area: f64,
    inverse_z: [f32; 3],
}

/// The edge functions' parts that do not change along a row.
pub type Line = [f64; 3];

impl Triangle {
    /// `None` if the triangle covers nothing: see [`Raster::visit`].
    #[inline]
    pub fn new(corners: &[[f32; 3]; 3]) -> Option<Self> {
        let [a, b, c] = corners.map(|[x, y, _]| [f64::from(x), f64::from(y)]);
        let area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
        let z = corners.map(|corner| corner[2]);
        if area == 0.0 || !area.is_finite() || !z.iter().all(|&z| z > 0.0 && z.is_finite()) {
            return None;
        }
        // The function of edge k is positive on corner k's side where the area is.
        let edges = [(b, c), (c, a), (a, b)].map(|(from, to)| (from, [to[0] - from[0], to[1] - from[1]]));
        Some(Self { edges, inverse_area: 1.0 / area, inverse_z: z.map(|z| 1.0 / z) })
    }

    /// Prepares a row, which lies at `y`.
    #[inline]
    pub fn line(&self, y: f64) -> Line {
        self.edges.map(|(from, step)| step[0] * (y - from[1]))
    }

    /// Weights and depth at the position `x` of a line, if the triangle covers it.
    #[inline]
    pub fn at(&self, line: &Line, x: f64) -> Option<([f32; 3], f32)> {
        let edge = |k: usize| (line[k] - self.edges[k].1[1] * (x - self.edges[k].0[0])) * self.inverse_area;
        let edges = [edge(0), edge(1), edge(2)];
        if edges.iter().any(|&e| e < 0.0) {
            return None;
        }
        Some(interpolate(edges.map(|e| if e < 1.0 { e as f32 } else { 1.0 }), self.inverse_z))
    }
}

impl Raster {
    /// Calls `visit` for every sample inside the triangle, row by row. Corners are `[x, y, z]`: x to the right and y
    /// down in samples, z the depth from the camera. Both orientations are visible. A triangle without area, with a
    /// corner that is not in front of the camera (z > 0), or with a corner that is not finite, covers nothing.
    pub fn visit(&self, corners: &[[f32; 3]; 3], visit: impl FnMut(Sample)) {
        self.visit_rows(corners, 0..self.rows, visit);
    }

    /// [`Raster::visit`] for the samples of some rows, so that threads can share a raster by bands of rows.
    #[inline]
    pub fn visit_rows(&self, corners: &[[f32; 3]; 3], rows: Range<usize>, mut visit: impl FnMut(Sample)) {
        let [rows, columns] = self.bounds(corners, rows);
        if rows.is_empty() || columns.is_empty() {
            return;
        }
        let Some(triangle) = Triangle::new(corners) else { return };
        for row in rows {
            let line = triangle.line(self.place(row));
            for column in columns.clone() {
                if let Some((weights, depth)) = triangle.at(&line, self.place(column)) {
                    visit(Sample { column, row, weights, depth });
                }
            }
        }
    }

    /// Coordinate of a row or column.
    #[inline]
    pub fn place(&self, index: usize) -> f64 {
        index as f64 + f64::from(self.offset)
    }

    /// Rows (as far as `rows`) and columns of the samples a triangle can cover.
    #[inline]
    fn bounds(&self, [a, b, c]: &[[f32; 3]; 3], rows: Range<usize>) -> [Range<usize>; 2] {
        [
            samples_between([a[1], b[1], c[1]], self.offset, 0.0, rows),
            samples_between([a[0], b[0], c[0]], self.offset, 0.0, 0..self.columns),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RASTER: Raster = Raster { columns: 16, rows: 12, offset: 0.5 };

    fn samples(raster: Raster, corners: [[f32; 3]; 3]) -> Vec<Sample> {
        let mut list = Vec::new();
        raster.visit(&corners, |sample| list.push(sample));
        list
    }

    #[test]
    fn visits_the_samples_inside_whatever_the_orientation() {
        // The half square x + y <= 4 holds the samples (0.5 + i, 0.5 + j) with i + j <= 3: 4 + 3 + 2 + 1.
        let corners = [[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [0.0, 4.0, 1.0]];
        let places: Vec<_> = samples(RASTER, corners).iter().map(|s| (s.row, s.column)).collect();
        let expected: Vec<_> = (0..4).flat_map(|row| (0..4 - row).map(move |column| (row, column))).collect();
        assert_eq!(places, expected);
        let turned = [corners[0], corners[2], corners[1]];
        assert_eq!(samples(RASTER, turned).iter().map(|s| (s.row, s.column)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_offset_moves_the_samples() {
        let corners = [[-1.0, -1.0, 1.0], [2.4, -1.0, 1.0], [-1.0, 2.4, 1.0]];
        let raster = |offset| Raster { offset, ..RASTER };
        assert_eq!(samples(raster(0.5), corners).len(), 1);
        assert_eq!(samples(raster(0.0), corners).len(), 3);
        assert_eq!(samples(raster(-0.5), corners).len(), 6);
    }

    #[test]
    fn weights_give_back_the_place_and_depth_is_perspective_correct() {
        let corners = [[1.0, 1.0, 0.9], [14.0, 3.0, 1.1], [4.0, 11.0, 1.7]];
        let list = samples(RASTER, corners);
        assert!(list.len() > 40);
        for sample in list {
            let sum = |f: &dyn Fn(usize) -> f32| {
                sample.weights.iter().enumerate().map(|(k, w)| w * f(k)).sum::<f32>()
            };
            assert!((sum(&|k| corners[k][0]) - (sample.column as f32 + 0.5)).abs() < 1e-4);
            assert!((sum(&|k| corners[k][1]) - (sample.row as f32 + 0.5)).abs() < 1e-4);
            assert!((sum(&|k| 1.0 / corners[k][2]) - 1.0 / sample.depth).abs() < 1e-5);
            let surface = sample.surface_weights(corners.map(|c| c[2]));
            assert!((surface.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            // The weights on the surface interpolate z itself linearly.
            let z: f32 = (0..3).map(|k| surface[k] * corners[k][2]).sum();
            assert!((z - sample.depth).abs() < 1e-5);
        }
    }

    #[test]
    fn what_lies_outside_or_has_no_area_covers_nothing() {
        for corners in [
            [[-9.0, -9.0, 1.0], [-5.0, -9.0, 1.0], [-9.0, -5.0, 1.0]],
            [[90.0, 90.0, 1.0], [95.0, 90.0, 1.0], [90.0, 95.0, 1.0]],
            [[1.0, 1.0, 1.0], [3.0, 3.0, 1.0], [5.0, 5.0, 1.0]],
            [[0.0, 0.0, 1.0], [9.0, 0.0, 0.0], [0.0, 9.0, 1.0]],
            [[0.0, 0.0, 1.0], [9.0, 0.0, -1.0], [0.0, 9.0, 1.0]],
            [[f32::NAN, 0.0, 1.0], [9.0, 0.0, 1.0], [0.0, 9.0, 1.0]],
            [[0.0, 0.0, 1.0], [f32::INFINITY, 0.0, 1.0], [0.0, 9.0, 1.0]],
        ] {
            assert_eq!(samples(RASTER, corners), [], "{corners:?}");
        }
    }

    #[test]
    fn a_triangle_larger_than_the_raster_is_clipped_to_it() {
        let corners = [[-1e4, -1e4, 1.0], [3e4, -1e4, 1.0], [-1e4, 3e4, 1.0]];
        assert_eq!(samples(RASTER, corners).len(), RASTER.columns * RASTER.rows);
    }

    #[test]
    fn a_fan_of_triangles_leaves_no_gap() {
        // Corners on a jagged ring around a centre that lies on no sample: every sample within is covered at least
        // once, and one that is not on an edge exactly once.
        let centre = [7.3, 5.9, 1.0];
        let ring: Vec<[f32; 3]> = (0..23)
            .map(|k| {
                let angle = k as f32 / 23.0 * std::f32::consts::TAU;
                [centre[0] + 30.0 * angle.cos(), centre[1] + 30.0 * angle.sin(), 1.0]
            })
            .collect();
        let mut hits = vec![0; RASTER.columns * RASTER.rows];
        for k in 0..ring.len() {
            RASTER.visit(&[centre, ring[k], ring[(k + 1) % ring.len()]], |s| {
                hits[s.row * RASTER.columns + s.column] += 1
            });
        }
        assert!(hits.iter().all(|&n| n == 1 || n == 2), "{hits:?}");
        assert!(hits.iter().filter(|&&n| n == 1).count() > hits.len() - 8);
    }
}
