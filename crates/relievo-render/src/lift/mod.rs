//! From a depth per pixel to a grid of points.

mod cuda;

pub(crate) use cuda::KERNELS;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Operation, Result, Tensor, apply_one};

use crate::Camera;

/// The surface grid: for pixel (u, v) of depth d the point `d ((u - c) / f, (v - c) / f, 1)`.
///
/// `depth` `[B, S, S]`, result `[B, S, S, 3]` in the same unit, S the camera's size. Gradient: the output's gradient
/// times the pixel's ray. Source: Wu et al. 2020, section 3.3.
///
/// # Errors
/// If `depth` has not the camera's size.
pub fn lift(depth: &Tensor, camera: Camera) -> Result<Tensor> {
    apply_one(Lift { camera }, &[depth])
}

struct Lift {
    camera: Camera,
}

impl Operation for Lift {
    fn name(&self) -> &'static str {
        "lift"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.camera.pictures(self.name(), inputs[0])?;
        let (size, slopes) = (self.camera.size, self.camera.slopes());
        let mut points = Tensor::scratch([batch, size, size, 3]);
        let rows = points.data_mut().par_chunks_mut(size * 3).zip(inputs[0].data().par_chunks(size));
        rows.enumerate().for_each(|(row, (points, depth))| {
            let y = slopes[row % size];
            for ((point, depth), x) in points.chunks_exact_mut(3).zip(depth).zip(&slopes) {
                point.copy_from_slice(&[depth * x, depth * y, *depth]);
            }
        });
        Ok(vec![points])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let (size, slopes) = (self.camera.size, self.camera.slopes());
        let mut ddepth = Tensor::scratch([dy.elements() / (size * size * 3), size, size]);
        let rows = ddepth.data_mut().par_chunks_mut(size).zip(dy.data().par_chunks(size * 3));
        rows.enumerate().for_each(|(row, (ddepth, dy))| {
            let y = slopes[row % size];
            for ((ddepth, g), x) in ddepth.iter_mut().zip(dy.chunks_exact(3)).zip(&slopes) {
                *ddepth = g[0] * x + g[1] * y + g[2];
            }
        });
        Ok(vec![Some(ddepth)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.camera.pictures(self.name(), inputs[0])?;
        Ok(vec![cuda::forward(self.camera, inputs[0], batch)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cuda::backward(self.camera, backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{relief, wide_camera};
    use relievo_tensor::differences::{assert_operation_independent_of_threads, gradient_errors};

    #[test]
    fn every_point_projects_to_its_pixel() {
        let camera = wide_camera(6);
        let depth = relief(2, 6, 1.0, 0.2);
        let points = lift(&depth, camera).unwrap();
        for (i, (point, depth)) in points.data().as_chunks::<3>().0.iter().zip(depth.data()).enumerate() {
            let [u, v] = camera.project(*point);
            assert!((u - (i % 6) as f32).abs() < 1e-5 && (v - (i / 6 % 6) as f32).abs() < 1e-5);
            assert_eq!(point[2], *depth);
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let camera = wide_camera(5);
        let errors = gradient_errors(&[relief(2, 5, 1.0, 0.2)], 0.125, |x| lift(&x[0], camera)).unwrap();
        assert!(errors[0] < 1e-5, "{errors:?}");
        assert_operation_independent_of_threads(&[relief(3, 5, 1.0, 0.2)], |x| lift(&x[0], camera));
    }

    #[test]
    fn another_size_is_refused() {
        let error = lift(&Tensor::zeros([1, 4, 4]), wide_camera(5)).unwrap_err().to_string();
        assert_eq!(error, "lift: a camera of 5x5 pixels and a tensor of shape [1, 4, 4]");
    }
}
