//! Where every pixel of the input view is found in the canonical picture.

mod cuda;

pub(crate) use cuda::KERNELS;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Operation, Result, Tensor, apply_one};

use crate::Camera;
use crate::motion::{Motion, MotionGradient, check_views};

/// The sampling grid of a depth map in the input view: every pixel is lifted to its point, moved by the inverse of
/// the viewpoint, and projected: there the canonical picture shows the same point of the surface.
///
/// `depth` `[B, S, S]`; `view` `[B', 6]`, B' a divisor of B; result `[B, S, S, 2]`: x and y, -1 at the centre of the
/// first and 1 at the centre of the last pixel (for sampling with corners aligned). Because the optical axis is in
/// the middle, that is `x / z / tan(field of view / 2)` of the moved point. Gradient: exact in depth and view, summed
/// over the picture in f64. Source: Wu et al. 2020, section 3.3, equation 5.
///
/// # Errors
/// If the shapes do not fit each other or the camera.
pub fn sampling_grid(depth: &Tensor, view: &Tensor, camera: Camera) -> Result<Tensor> {
    apply_one(SamplingGrid { camera }, &[depth, view])
}

struct SamplingGrid {
    camera: Camera,
}

impl SamplingGrid {
    /// The number of pictures.
    fn check(&self, inputs: &[&Tensor]) -> Result<usize> {
        let batch = self.camera.pictures(self.name(), inputs[0])?;
        check_views(self.name(), batch, inputs[1])?;
        Ok(batch)
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
        let motions = Motion::of_views(inputs[1]);
        let mut grid = Tensor::scratch([batch, size, size, 2]);
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
        Ok(vec![grid])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (depth, views) = (&backward.saved[0], &backward.saved[1]);
        let (size, slopes) = (self.camera.size, self.camera.slopes());
        let scale = 1.0 / self.camera.half_width();
        let motions = Motion::of_views(views);
        let mut ddepth = Tensor::scratch(depth.shape());
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
        let dviews = backward.wants(1).then(|| MotionGradient::of_views(&sums, size, views));
        Ok(vec![backward.wants(0).then_some(ddepth), dviews])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![cuda::forward(self, [inputs[0], inputs[1]], batch)?])
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

    #[test]
    fn without_a_motion_every_pixel_finds_itself_at_any_depth() {
        let camera = Camera::new(9);
        let grid = sampling_grid(&relief(1, 9, 1.0, 0.1), &Tensor::zeros([1, 6]), camera).unwrap();
        for (i, [x, y]) in grid.data().as_chunks::<2>().0.iter().enumerate() {
            let is = |i: usize| i as f32 / 4.0 - 1.0;
            assert!((x - is(i % 9)).abs() < 1e-6 && (y - is(i / 9)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_pixel_is_found_where_its_point_was() {
        let (camera, view) = (wide_camera(5), views(1, 0.6));
        let depth = relief(1, 5, 1.0, 0.1);
        let grid = sampling_grid(&depth, &view, camera).unwrap();
        let points = crate::lift(&depth, camera).unwrap();
        let back = crate::move_points(&points, &view, true).unwrap();
        for (place, point) in grid.data().as_chunks::<2>().0.iter().zip(back.data().as_chunks::<3>().0) {
            let pixel = camera.project(*point);
            assert!(place.iter().zip(pixel).all(|(a, b)| (a - (b / 2.0 - 1.0)).abs() < 1e-5));
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let camera = wide_camera(4);
        let inputs = [relief(4, 4, 1.0, 0.1), views(2, 0.6)];
        let errors = gradient_errors(&inputs, 1.0 / 256.0, |x| sampling_grid(&x[0], &x[1], camera)).unwrap();
        assert!(errors.iter().all(|error| *error < 1e-3), "{errors:?}");
        assert_operation_independent_of_threads(&inputs, |x| sampling_grid(&x[0], &x[1], camera));
    }
}
