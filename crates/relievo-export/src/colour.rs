//! Colour maps: depth, normals and scalar maps as images.

use crate::canvas::{Canvas, byte};

/// The values at the two ends of a colour map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// At the lower end; lower values get the same colour.
    pub low: f32,
    /// At the upper end; higher values get the same colour.
    pub high: f32,
}

impl Range {
    /// From the 1st to the 99th percentile of the finite values where `mask` (if given, same shape) is not 0, so that a
    /// few outliers do not wash out the rest. A constant map gives a range of zero width; without any value it is 0 to
    /// 1.
    pub fn robust(values: &[f32], mask: Option<&[u8]>) -> Self {
        let counts = |at: usize| mask.is_none_or(|mask| mask[at] != 0);
        let mut valid: Vec<f32> = values
            .iter()
            .enumerate()
            .filter(|(at, value)| value.is_finite() && counts(*at))
            .map(|(_, &v)| v)
            .collect();
        valid.sort_unstable_by(f32::total_cmp);
        let Some(last) = valid.len().checked_sub(1) else { return Self { low: 0.0, high: 1.0 } };
        let percentile = |share: f64| valid[(share * last as f64).round() as usize];
        Self { low: percentile(0.01), high: percentile(0.99) }
    }

    /// The position of a value: 0 at `low`, 1 at `high`, clamped; 1/2 in a range of zero width.
    fn place(self, value: f32) -> f32 {
        if self.high > self.low { ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0) } else { 0.5 }
    }
}

/// Depth `[H,W]` as grey, bright when near: white at `range.low`, dark grey at `range.high`; black where `mask` (if
/// given) is 0 or depth is not finite.
pub fn depth_grey(depth: &[f32], width: usize, mask: Option<&[u8]>, range: Range) -> Canvas {
    /// Above black, so that the farthest surface differs from no surface.
    const FAR_GREY: f32 = 0.12;
    let masked = masked(depth, mask);
    Canvas::from_values(&masked, width, |value| {
        if value.is_finite() { [byte(1.0 - (1.0 - FAR_GREY) * range.place(value)); 3] } else { [0; 3] }
    })
}

/// Normals `[H,W,3]` in the usual colours: red to the viewer's right, green up, blue towards the viewer, each
/// (n + 1) / 2; mid-grey for (0,0,0), no normal.
///
/// The model's normals are `t_u x t_v` in a camera frame with x right, y down and z away from the camera: a plane
/// that faces the camera has (0,0,1), the inward normal. The outward one is its opposite; in the frame of the drawn
/// image (y up, z towards the viewer) that is (-x, y, z).
pub fn normals_rgb(normals: &[f32], width: usize) -> Canvas {
    let turned: Vec<f32> = normals.as_chunks::<3>().0.iter().flat_map(|&[x, y, z]| [-x, y, z]).collect();
    Canvas::from_signed(&turned, width)
}

/// Shading as grey: `ambient + diffuse * toward` for `toward [H,W]`, max(0, n.l). The brightest pixel is white, because
/// the two strengths may exceed one in sum.
pub fn shading_grey(toward: &[f32], [ambient, diffuse]: [f32; 2], width: usize) -> Canvas {
    let shading: Vec<f32> = toward.iter().map(|toward| ambient + diffuse * toward).collect();
    let brightest = shading.iter().fold(f32::MIN_POSITIVE, |brightest, shading| brightest.max(*shading));
    Canvas::from_values(&shading, width, |shading| [byte(shading / brightest); 3])
}

/// A scalar map `[H,W]` from dark blue (`range.low`) over green to yellow (`range.high`); black where it is not finite.
/// In a confidence map (the scale s of the error, eq. 3 of the paper) yellow marks the pixels the model is unsure of.
pub fn viridis(values: &[f32], width: usize, range: Range) -> Canvas {
    /// Polynomials in t, lowest power first, fitted to the 256 colours of "viridis" (Smith and van der Walt,
    /// released under CC0) with an error below 2.6 / 255.
    const POLYNOMIALS: [[f32; 7]; 3] = [
        [0.2769, -0.1371, 2.0825, -13.1653, 20.1422, -5.887, -2.3289],
        [0.0038, 1.4893, -0.7289, -2.0182, 7.2996, -7.8968, 2.7561],
        [0.3377, 0.9542, 5.1217, -40.525, 97.2901, -101.283, 38.2399],
    ];
    Canvas::from_values(values, width, |value| {
        if !value.is_finite() {
            return [0; 3];
        }
        let t = range.place(value);
        POLYNOMIALS.map(|powers| byte(powers.iter().rev().fold(0.0, |sum, power| sum * t + power)))
    })
}

/// The values, NaN where the mask is 0.
fn masked(values: &[f32], mask: Option<&[u8]>) -> Vec<f32> {
    match mask {
        None => values.to_vec(),
        Some(mask) => {
            assert_eq!(values.len(), mask.len(), "the mask must have the shape of the map");
            values.iter().zip(mask).map(|(&value, &seen)| if seen == 0 { f32::NAN } else { value }).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_ignores_strays_and_the_background() {
        let mut values: Vec<f32> = (0..=1000).map(|n| 0.9 + n as f32 * 2e-4).collect();
        values.extend([f32::NAN, f32::INFINITY, 10.0, -5.0]);
        let range = Range::robust(&values, None);
        assert!((range.low - 0.902).abs() < 1e-3 && (range.high - 1.098).abs() < 1e-3, "{range:?}");
        assert_eq!(Range::robust(&[1.0, 2.0, 50.0], Some(&[1, 1, 0])), Range { low: 1.0, high: 2.0 });
        assert_eq!(Range::robust(&[f32::NAN], None), Range { low: 0.0, high: 1.0 });
        assert_eq!(Range::robust(&[3.0; 9], None), Range { low: 3.0, high: 3.0 });
    }

    #[test]
    fn near_is_bright_and_nothing_is_black() {
        let depth = [0.9, 1.0, 1.1, 10.0, 0.9, f32::NAN];
        let canvas = depth_grey(&depth, 3, Some(&[1, 1, 1, 1, 0, 1]), Range { low: 0.9, high: 1.1 });
        let greys: Vec<u8> = canvas.bytes().chunks_exact(3).map(|pixel| pixel[0]).collect();
        assert_eq!(greys, [255, 143, 31, 31, 0, 0]);
        let flat = depth_grey(&[1.0], 1, None, Range { low: 1.0, high: 1.0 });
        assert_eq!(flat.bytes(), [143; 3]);
    }

    #[test]
    fn the_brightest_place_of_a_shading_is_white() {
        let canvas = shading_grey(&[0.0, 0.5, 1.0], [0.6, 0.8], 3);
        let greys: Vec<u8> = canvas.bytes().chunks_exact(3).map(|pixel| pixel[0]).collect();
        assert_eq!(greys, [109, 182, 255]);
        assert_eq!(shading_grey(&[0.0], [0.0, 0.0], 1).bytes(), [0; 3]);
    }

    /// A dome bulging towards the camera, by the model's own formula: its right side must look red, its upper side
    /// green, and its middle blue.
    #[test]
    fn a_dome_has_the_usual_colours() {
        let point = |u: f32, v: f32| [u, v, 0.5 * (u * u + v * v)];
        let normal = |u: f32, v: f32| {
            let difference = |a: [f32; 3], b: [f32; 3]| [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
            let e = 1e-2;
            let [a, b] =
                [difference(point(u + e, v), point(u - e, v)), difference(point(u, v + e), point(u, v - e))];
            let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
            let norm = cross.iter().map(|x| x * x).sum::<f32>().sqrt();
            cross.map(|x| x / norm)
        };
        let normals = [normal(0.0, 0.0), normal(0.8, 0.0), normal(0.0, -0.8), [0.0; 3]];
        let canvas = normals_rgb(normals.as_flattened(), 4);
        let [middle, right, up, none] = [0, 1, 2, 3].map(|x| canvas.get(x, 0).unwrap());
        assert_eq!(middle, [128, 128, 255]);
        assert!(right[0] > 200 && right[1] == 128, "{right:?}");
        assert!(up[1] > 200 && up[0] == 128, "{up:?}");
        assert_eq!(none, [128; 3]);
    }

    #[test]
    fn viridis_has_its_published_ends_and_middle() {
        let canvas = viridis(&[0.0, 0.498, 1.0, f32::NAN], 4, Range { low: 0.0, high: 1.0 });
        let published = [[68, 1, 84], [33, 144, 141], [253, 231, 37], [0, 0, 0]];
        for (x, expected) in published.iter().enumerate() {
            let got = canvas.get(x, 0).unwrap();
            assert!(got.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 3), "{got:?} {expected:?}");
        }
    }
}
