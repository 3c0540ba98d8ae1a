//! From a depth per pixel to a grid of points.

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
}
