//! Pixels from samples, for images that are not hard-edged.

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

use crate::cuda::average as gpu;

/// The mean over `per_pixel`^2 samples of each pixel, and the rows reversed: of `[B, rows, columns]` or
/// `[B, rows, columns, C]`, row 0 the bottom, the image `[B, H, W]` or `[B, H, W, C]`, row 0 the top. Gradient: exact.
pub(super) fn average(samples: &Tensor, per_pixel: usize) -> Result<Tensor> {
    apply_one(Average { per_pixel }, &[samples])
}

struct Average {
    per_pixel: usize,
}

/// Rows and columns of pixels, channels.
fn extents(shape: &[usize], per_pixel: usize) -> Result<[usize; 3]> {
    match *shape {
        [_, rows, columns] => Ok([rows / per_pixel, columns / per_pixel, 1]),
        [_, rows, columns, channels] => Ok([rows / per_pixel, columns / per_pixel, channels]),
        _ => Err(Error::shape("render", format!("samples are [B, rows, columns], not {shape:?}"))),
    }
}

/// A shape with other rows and columns.
fn sized(shape: &[usize], rows: usize, columns: usize) -> Vec<usize> {
    [shape[0], rows, columns].into_iter().chain(shape[3..].iter().copied()).collect()
}

impl Operation for Average {
    fn name(&self) -> &'static str {
        "render"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let shape = inputs[0].shape();
        let [height, width, channels] = extents(&shape, self.per_pixel)?;
        let mut pixels = Tensor::empty(&sized(&shape, height, width)[..]);
        let (side, row) = (self.per_pixel, width * self.per_pixel * channels);
        let share = 1.0 / (side * side) as f32;
        pixels.data_mut().par_chunks_mut(width * channels).enumerate().for_each(|(line, to)| {
            let (image, y) = (line / height, line % height);
            let from = &inputs[0].data()[(image * height + height - 1 - y) * side * row..][..side * row];
            for (index, to) in to.iter_mut().enumerate() {
                let (x, channel) = (index / channels, index % channels);
                let of_row = |from: &[f32]| -> f32 {
                    (0..side).map(|step| from[(x * side + step) * channels + channel]).sum()
                };
                *to = from.chunks_exact(row).map(of_row).sum::<f32>() * share;
            }
        });
        Ok(vec![pixels])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let pixels = backward.gradient();
        let [height, width, channels] = extents(&pixels.shape(), 1)?;
        let side = self.per_pixel;
        let columns = width * side;
        let mut samples = Tensor::empty(&sized(&pixels.shape(), height * side, columns)[..]);
        let share = 1.0 / (side * side) as f32;
        samples.data_mut().par_chunks_mut(columns * channels).enumerate().for_each(|(line, to)| {
            let (image, y) = (line / (height * side), height - 1 - line % (height * side) / side);
            let from = &pixels.data()[(image * height + y) * width * channels..][..width * channels];
            for (index, to) in to.iter_mut().enumerate() {
                let (column, channel) = (index / channels, index % channels);
                *to = from[column / side * channels + channel] * share;
            }
        });
        Ok(vec![Some(samples)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let shape = inputs[0].shape();
        let size = extents(&shape, self.per_pixel)?;
        let pixels = inputs[0].empty_like(&sized(&shape, size[0], size[1])[..])?;
        Ok(vec![gpu::average(inputs[0], pixels, size, self.per_pixel, true)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (pixels, side) = (backward.gradient(), self.per_pixel);
        let size = extents(&pixels.shape(), 1)?;
        let samples = pixels.empty_like(&sized(&pixels.shape(), size[0] * side, size[1] * side)[..])?;
        Ok(vec![Some(gpu::average(pixels, samples, size, side, false)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::testing::{Tolerance, assert_gradients, random_tensor};

    #[test]
    fn rows_are_reversed_and_blocks_averaged() {
        let samples: Vec<f32> = (0..8).map(|k| k as f32).collect();
        let image = average(&Tensor::new(&samples, [1, 4, 2]).unwrap(), 2).unwrap();
        assert_eq!((image.data(), image.shape()), (&[5.5, 1.5][..], [1, 2, 1].into()));
    }

    #[test]
    fn the_gradient_is_that_of_differences() {
        let tolerance = Tolerance { norm: 1e-4, element: 1e-4 };
        assert_gradients(&[random_tensor(1, [2, 4, 6, 3])], 1.0 / 64.0, tolerance, |x| average(&x[0], 2));
    }
}
