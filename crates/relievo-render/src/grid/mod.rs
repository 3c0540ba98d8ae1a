//! The place of every pixel of the input view in the canonical image, and the mask of the visible surface.

mod cuda;

pub(crate) use cuda::KERNELS;

use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply};

use crate::Camera;
use crate::motion::{check_views, differentiate_points, map_points};

/// The places in the canonical image of a depth map's pixels, and the mask of those that show the surface.
///
/// The sampling grid: every pixel is lifted to its point, moved by the inverse of the viewpoint, and projected to the place
/// where the canonical image shows the same point of the surface. The mask: 1 where the depth is less than `far` (to which
/// [`crate::rasterise_depth`] clamps the background) in all `parts` of the batch, else 0. `parts` is 2 for a batch doubled
/// by mirroring, else 1.
///
/// `depth` `[B, S, S]`, B = parts times M; `view` `[B', 6]`, B' a divisor of B; results `[B, S, S, 2]`: x and y, -1 at
/// the centre of the first and 1 at the centre of the last pixel (for sampling with corners aligned); because the
/// optical axis is in the middle, that is `x / z / tan(field of view / 2)` of the moved point; and `[M, S, S]`, the
/// product over the images `i, i + M, ...`. Gradient: exact in depth and view, summed over the image in f64; none
/// flows through the mask. Source: Wu et al. 2020, section 3.3, equation 5, and section 3.4.
///
/// # Errors
/// If the shapes do not fit each other or the camera, or the batch cannot be divided into the parts.
pub fn sampling_grid(
    depth: &Tensor,
    view: &Tensor,
    camera: Camera,
    far: f32,
    parts: usize,
) -> Result<[Tensor; 2]> {
    let outputs = apply(SamplingGrid { camera, far, parts }, &[depth, view])?;
    let [grid, mask] = outputs.try_into().expect("two outputs");
    Ok([grid, mask.detach()])
}

struct SamplingGrid {
    camera: Camera,
    far: f32,
    parts: usize,
}

impl SamplingGrid {
    /// The number of images.
    fn check(&self, inputs: &[&Tensor]) -> Result<usize> {
        let batch = self.camera.images(self.name(), inputs[0])?;
        check_views(self.name(), batch, inputs[1])?;
        if self.parts == 0 || !batch.is_multiple_of(self.parts) {
            let detail = format!("a batch of {batch} cannot be divided into {} parts", self.parts);
            return Err(Error::shape(self.name(), detail));
        }
        Ok(batch)
    }

    /// 1 where the surface is visible in all parts, else 0.
    fn mask(&self, depth: &Tensor, batch: usize) -> Tensor {
        let size = self.camera.size;
        let mut mask = Tensor::full([batch / self.parts, size, size], 1.0);
        let masks = mask.numel();
        if masks > 0 {
            let mask = mask.data_mut();
            for part in depth.data().chunks_exact(masks) {
                mask.iter_mut().zip(part).for_each(|(mask, depth)| *mask *= f32::from(*depth < self.far));
            }
        }
        mask
    }
}

impl Operation for SamplingGrid {
    fn name(&self) -> &'static str {
        "sampling_grid"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs)?;
        context.save(inputs[0]);
        context.save(inputs[1]);
        let scale = 1.0 / self.camera.half_width();
        let grid = map_points(self.camera, inputs[0], inputs[1], batch, |motion, point| {
            let moved = motion.apply_inverse(point);
            let scale = scale / moved[2];
            [moved[0] * scale, moved[1] * scale]
        });
        Ok(vec![grid, self.mask(inputs[0], batch)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let scale = 1.0 / self.camera.half_width();
        Ok(differentiate_points(self.camera, backward, |motion, point, dy: &[f32; 2], sum| {
            let moved = motion.apply_inverse(point);
            let scale = scale / moved[2];
            let [gx, gy] = dy.map(|g| g * scale);
            let dmoved = [gx, gy, -(gx * moved[0] + gy * moved[1]) / moved[2]];
            let dpoint = motion.rotate(dmoved);
            if let Some(sum) = sum {
                sum.add_inverse(motion, point, dmoved, dpoint);
            }
            dpoint
        }))
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(cuda::forward(self, [inputs[0], inputs[1]], batch)?.into())
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        cuda::backward(self, backward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Motion;
    use crate::testing::{relief, views, wide_camera};
    use relievo_tensor::testing::{Tolerance, assert_gradients, assert_operation_independent_of_threads};

    /// The grid alone.
    fn grid_of(depth: &Tensor, view: &Tensor, camera: Camera) -> Result<Tensor> {
        Ok(sampling_grid(depth, view, camera, f32::INFINITY, 1)?[0].clone())
    }

    #[test]
    fn without_a_motion_every_pixel_finds_itself_at_any_depth() {
        let camera = Camera::new(9);
        let grid = grid_of(&relief(1, 9, 1.0, 0.1), &Tensor::zeros([1, 6]), camera).unwrap();
        for (i, [x, y]) in grid.data().as_chunks::<2>().0.iter().enumerate() {
            let is = |i: usize| i as f32 / 4.0 - 1.0;
            assert!((x - is(i % 9)).abs() < 1e-6 && (y - is(i / 9)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_pixel_is_found_where_its_point_was() {
        let (camera, view) = (wide_camera(5), views(1, 0.6));
        let depth = relief(1, 5, 1.0, 0.1);
        let grid = grid_of(&depth, &view, camera).unwrap();
        let motion = &Motion::from_views(&view)[0];
        for (i, (place, depth)) in grid.data().as_chunks::<2>().0.iter().zip(depth.data()).enumerate() {
            let point = camera.lift((i % 5) as f32, (i / 5) as f32, *depth);
            let pixel = camera.project(motion.apply_inverse(point));
            assert!(place.iter().zip(pixel).all(|(a, b)| (a - (b / 2.0 - 1.0)).abs() < 1e-5));
        }
    }

    #[test]
    fn a_pixel_counts_where_both_halves_see_the_surface() {
        let (far, view) = (1.2, Tensor::zeros([1, 6]));
        let depth = Tensor::new(&[1.0, far, 1.0, 1.1, 1.0, 1.0, far, 0.8], [2, 2, 2]).unwrap();
        let mask =
            |parts: usize| sampling_grid(&depth, &view, wide_camera(2), far, parts).map(|[_, mask]| mask);
        assert_eq!(mask(2).unwrap().data(), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(mask(1).unwrap().data(), [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0]);
        let error = mask(3).unwrap_err().to_string();
        assert_eq!(error, "sampling_grid: a batch of 2 cannot be divided into 3 parts");
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let camera = wide_camera(4);
        let inputs = [relief(4, 4, 1.0, 0.1), views(2, 0.6)];
        let tolerance = Tolerance { norm: 1e-3, element: 1e-3 };
        assert_gradients(&inputs, 1.0 / 256.0, tolerance, |x| grid_of(&x[0], &x[1], camera));
        assert_operation_independent_of_threads(&inputs, |x| grid_of(&x[0], &x[1], camera));
    }
}
