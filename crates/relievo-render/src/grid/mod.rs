//! Where every pixel of the input view is found in the canonical image, and where there is a surface at all.

mod cuda;

pub(crate) use cuda::KERNELS;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply};

use crate::Camera;
use crate::motion::{Motion, MotionGradient, check_views};

/// Where a depth map in the input view lies in the canonical image, and where it shows the surface at all.
///
/// The sampling grid: every pixel is lifted to its point, moved by the inverse of the viewpoint, and projected: there
/// the canonical image shows the same point of the surface. The mask: 1 where the depth is less than `far`, which is
/// where [`crate::rasterise_depth`] clamped the background to, in all `parts` of the batch at once; else 0. With a
/// batch doubled by mirroring `parts` is 2, else 1.
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

    /// Where all parts are seen.
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
        let (size, slopes) = (self.camera.size, self.camera.slopes());
        let scale = 1.0 / self.camera.half_width();
        let motions = Motion::from_views(inputs[1]);
        let mut grid = Tensor::empty([batch, size, size, 2]);
        let lines = grid.data_mut().par_chunks_mut(size * 2).zip(inputs[0].data().par_chunks(size));
        lines.enumerate().for_each(|(line, (grid, depth))| {
            let motion = &motions[line / size % motions.len()];
            let y = slopes[line % size];
            for ((place, depth), x) in grid.as_chunks_mut::<2>().0.iter_mut().zip(depth).zip(&slopes) {
                let moved = motion.apply_inverse([depth * x, depth * y, *depth]);
                let scale = scale / moved[2];
                *place = [moved[0] * scale, moved[1] * scale];
            }
        });
        Ok(vec![grid, self.mask(inputs[0], batch)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (depth, views) = (&backward.saved[0], &backward.saved[1]);
        let (size, slopes) = (self.camera.size, self.camera.slopes());
        let scale = 1.0 / self.camera.half_width();
        let motions = Motion::from_views(views);
        let mut ddepth = Tensor::empty(depth.shape());
        let lines = depth.data().par_chunks(size).zip(backward.gradient().data().par_chunks(size * 2));
        let lines = ddepth.data_mut().par_chunks_mut(size).zip(lines).enumerate();
        let sums: Vec<MotionGradient> = lines
            .map(|(line, (ddepth, (depth, dy)))| {
                let motion = &motions[line / size % motions.len()];
                let y = slopes[line % size];
                let mut sum = MotionGradient::default();
                let pairs = depth.iter().zip(dy.as_chunks::<2>().0).zip(&slopes);
                for (ddepth, ((depth, dy), x)) in ddepth.iter_mut().zip(pairs) {
                    let point = [depth * x, depth * y, *depth];
                    let moved = motion.apply_inverse(point);
                    let scale = scale / moved[2];
                    let [gx, gy] = dy.map(|g| g * scale);
                    let dmoved = [gx, gy, -(gx * moved[0] + gy * moved[1]) / moved[2]];
                    let dpoint = motion.turn(dmoved);
                    *ddepth = dpoint[0] * x + dpoint[1] * y + dpoint[2];
                    if backward.wants(1) {
                        sum.add_inverse(motion, point, dmoved, dpoint);
                    }
                }
                sum
            })
            .collect();
        let dviews = backward.wants(1).then(|| MotionGradient::view_gradients(&sums, size, views));
        Ok(vec![backward.wants(0).then_some(ddepth), dviews])
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
    use crate::testing::{relief, views, wide_camera};
    use relievo_tensor::differences::{assert_operation_independent_of_threads, gradient_errors};

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
        let errors = gradient_errors(&inputs, 1.0 / 256.0, |x| grid_of(&x[0], &x[1], camera)).unwrap();
        assert!(errors.iter().all(|error| *error < 1e-3), "{errors:?}");
        assert_operation_independent_of_threads(&inputs, |x| grid_of(&x[0], &x[1], camera));
    }
}
