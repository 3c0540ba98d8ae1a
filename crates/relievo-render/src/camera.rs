//! The camera: a pinhole that looks along +z, x to the right and y down, one for all images.

use relievo_tensor::{Error, Result, Tensor};

use crate::check_type;

/// A pinhole camera at the origin for square images. Pixel coordinates are u = column and v = row, `0..size`, with
/// the optical axis through their middle `(size - 1) / 2`; the field of view spans from the first to the last of them.
///
/// Source: Wu et al. 2020, section 3.3, equation 4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// Rows and columns of the image, at least 2.
    pub size: usize,
    /// Angle between the rays of the first and of the last column (or row), in degrees, in (0, 180).
    pub field_of_view_degrees: f32,
}

impl Camera {
    /// The camera of the method: 10 degrees, so that the surface at distance 1 nearly fills the image.
    pub fn new(size: usize) -> Self {
        Self { size, field_of_view_degrees: 10.0 }
    }

    /// Tangent of half the field of view: `x / z` at the edge of the image.
    pub fn half_width(&self) -> f32 {
        (f64::from(self.field_of_view_degrees).to_radians() / 2.0).tan() as f32
    }

    /// Focal length in pixels, `(size - 1) / 2 / tan(field of view / 2)`.
    pub fn focal(&self) -> f32 {
        let half = (f64::from(self.field_of_view_degrees).to_radians() / 2.0).tan();
        ((self.size as f64 - 1.0) / 2.0 / half) as f32
    }

    /// The optical axis in pixels, the same for u and v.
    pub fn centre(&self) -> f32 {
        (self.size as f32 - 1.0) / 2.0
    }

    /// `(coordinate - centre) / focal` of every column, which is also that of every row: with 1 as its third number,
    /// a pixel's ray at depth 1.
    pub fn slopes(&self) -> Vec<f32> {
        let (focal, centre) = (self.focal(), self.centre());
        (0..self.size).map(|i| (i as f32 - centre) / focal).collect()
    }

    /// The epsilon in `normal / (length + epsilon)`: 1e-7 for the method's camera at 64 pixels, as in the original, and never
    /// more. The length is an area, so it shrinks with the square of the distance between pixels, and the epsilon with it; a
    /// constant would halve the normals, and the light, at 1024 pixels.
    pub(crate) fn normal_epsilon(&self) -> f32 {
        let finer = f64::from(Self::new(64).focal()) / f64::from(self.focal());
        (1e-7 * finer.min(1.0).powi(2)) as f32
    }

    /// The point at depth `depth` (distance along z, not along the ray) on the ray of the image's place (u, v).
    pub fn lift(&self, u: f32, v: f32, depth: f32) -> [f32; 3] {
        let (focal, centre) = (self.focal(), self.centre());
        [depth * ((u - centre) / focal), depth * ((v - centre) / focal), depth]
    }

    /// The projection `[u, v]`, in pixels, of a point in front of the camera.
    pub fn project(&self, point: [f32; 3]) -> [f32; 2] {
        let (focal, centre) = (self.focal(), self.centre());
        [focal * point[0] / point[2] + centre, focal * point[1] / point[2] + centre]
    }

    /// Number of images in a tensor `[B, size, size]` of f32.
    pub(crate) fn images(&self, operation: &'static str, maps: &Tensor) -> Result<usize> {
        check_type(operation, &[maps])?;
        match maps.dims::<3>(operation)? {
            [batch, rows, columns] if self.size > 1 && rows == self.size && columns == self.size => Ok(batch),
            _ => Err(self.misfit(operation, maps)),
        }
    }

    /// Number of images in a tensor `[B, size, size, channels]` of f32.
    pub(crate) fn images_of(&self, operation: &'static str, maps: &Tensor, channels: usize) -> Result<usize> {
        check_type(operation, &[maps])?;
        match maps.dims::<4>(operation)? {
            [batch, rows, columns, c]
                if self.size > 1 && rows == self.size && columns == self.size && c == channels =>
            {
                Ok(batch)
            }
            _ => Err(self.misfit(operation, maps)),
        }
    }

    fn misfit(&self, operation: &'static str, maps: &Tensor) -> Error {
        let few = if self.size < 2 { ", of fewer than two pixels" } else { "" };
        let detail =
            format!("a camera of {0}x{0} pixels{few} and a tensor of shape {1}", self.size, maps.shape());
        Error::shape(operation, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifted_pixel_projects_back() {
        let camera = Camera::new(64);
        for (u, v, depth) in [(0.0, 0.0, 1.0), (63.0, 10.0, 0.9), (31.5, 31.5, 2.0), (12.0, 50.0, 1.1)] {
            let [pu, pv] = camera.project(camera.lift(u, v, depth));
            assert!((pu - u).abs() < 1e-4 && (pv - v).abs() < 1e-4);
        }
    }

    #[test]
    fn the_first_and_the_last_ray_span_the_field_of_view() {
        let camera = Camera::new(64);
        let [first, last] = [0.0, 63.0].map(|u| camera.lift(u, camera.centre(), 1.0)[0].atan().to_degrees());
        assert!((last - first - 10.0).abs() < 1e-4);
        assert_eq!(camera.slopes()[63], camera.lift(63.0, 0.0, 1.0)[0]);
        assert!((camera.slopes()[63] - camera.half_width()).abs() < 1e-8);
    }
}
