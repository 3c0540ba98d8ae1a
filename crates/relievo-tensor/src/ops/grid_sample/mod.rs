//! Bilinear sampling of images at given places: the warp (Jaderberg et al. 2015, spatial transformers).

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

struct GridSample {
    mask: Option<Tensor>,
}

/// Samples the image at the places of the grid: image `[B,H,W,C]`, grid `[B,H',W',2]`, result `[B,H',W',C]`.
///
/// A place is (x, y), with -1 the centre of the first column or row and 1 that of the last (PyTorch's
/// `align_corners=True`). Between centres the value is bilinear; outside, pixels are zero, so that the value falls to
/// zero over one pixel. With the corners' weights w and values p: d/dp = w dy, d/dx = (W-1)/2 * sum of dy (p_right -
/// p_left) over both rows, weighted as they are; alike in y. On the centres themselves, the gradient is that of the
/// cell to the right and below, as in PyTorch. A place that is NaN gives NaN.
///
/// With a mask `[M,H',W']`, M a divisor of B (image i takes mask `i % M`), the result is multiplied by it, and so is dy.
/// The mask may hold any finite numbers and has no gradient.
///
/// # Errors
/// If the shapes do not fit.
pub fn grid_sample(image: &Tensor, grid: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    apply_one(GridSample { mask: mask.map(Tensor::detach) }, &[image, grid])
}

impl GridSample {
    fn layout(&self, image: &Tensor, grid: &Tensor) -> Result<cpu::Layout> {
        let [batch, height, width, channels] = image.dims("grid_sample")?;
        let [grids, rows, columns, two] = grid.dims("grid_sample")?;
        if grids != batch || two != 2 || image.numel() == 0 || grid.numel() == 0 {
            let detail = format!("a grid of shape {} for images of shape {}", grid.shape(), image.shape());
            return Err(Error::shape("grid_sample", detail));
        }
        if let Some(mask) = &self.mask {
            let [masks, ..] = mask.dims::<3>("grid_sample")?;
            if masks == 0 || batch % masks != 0 || mask.shape()[1..] != [rows, columns] {
                let detail = format!("a mask of shape {} for a grid of shape {}", mask.shape(), grid.shape());
                return Err(Error::shape("grid_sample", detail));
            }
        }
        Ok(cpu::Layout { height, width, channels, rows, columns })
    }
}

impl Operation for GridSample {
    fn name(&self) -> &'static str {
        "grid_sample"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let &[image, grid] = inputs else { unreachable!("grid_sample passes two inputs") };
        let layout = self.layout(image, grid)?;
        let mask = self.mask.as_ref().map(Tensor::data);
        let mut y = Tensor::empty([image.shape()[0], layout.rows, layout.columns, layout.channels]);
        cpu::forward(layout, [image.data(), grid.data()], mask, y.data_mut());
        context.save(image);
        context.save(grid);
        Ok(vec![y])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [image, grid] = backward.saved else { unreachable!("two tensors were saved") };
        let layout = self.layout(image, grid)?;
        let mask = self.mask.as_ref().map(Tensor::data);
        let dy = backward.gradient().data();
        let dimage = backward.wants(0).then(|| {
            let mut dimage = Tensor::empty(image.shape());
            cpu::image_gradient(layout, [grid.data(), dy], mask, dimage.data_mut());
            dimage
        });
        let dgrid = backward.wants(1).then(|| {
            let mut dgrid = Tensor::empty(grid.shape());
            cpu::grid_gradient(layout, [image.data(), grid.data(), dy], mask, dgrid.data_mut());
            dgrid
        });
        Ok(vec![dimage, dgrid])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let &[image, grid] = inputs else { unreachable!("grid_sample passes two inputs") };
        let y = cuda::forward(self.layout(image, grid)?, [image, grid], self.mask.as_ref())?;
        context.save(image);
        context.save(grid);
        Ok(vec![y])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [image, grid] = backward.saved else { unreachable!("two tensors were saved") };
        let layout = self.layout(image, grid)?;
        cuda::backward(layout, backward, self.mask.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, distance, random_tensor,
    };

    /// Value, gradient of the images and of the grid by the definition, in f64.
    fn naive(image: &Tensor, grid: &Tensor, dy: &Tensor) -> [Vec<f64>; 3] {
        let [batch, h, w, c] = image.dims("").unwrap();
        let [_, rows, columns, _] = grid.dims("").unwrap();
        let mut y = vec![0.0; dy.numel()];
        let mut dimage = vec![0.0; image.numel()];
        let mut dgrid = vec![0.0; grid.numel()];
        for place in 0..batch * rows * columns {
            let x_scale = (w as f64 - 1.0) / 2.0;
            let y_scale = (h as f64 - 1.0) / 2.0;
            let column = (f64::from(grid.data()[2 * place]) + 1.0) * x_scale;
            let row = (f64::from(grid.data()[2 * place + 1]) + 1.0) * y_scale;
            for v in 0..h {
                for u in 0..w {
                    let (along, down) = (column - u as f64, row - v as f64);
                    // At a centre the slope is that of the cell to the right.
                    let hat = |t: f64| (1.0 - t.abs()).max(0.0);
                    let slope = |t: f64| {
                        if (-1.0..0.0).contains(&t) {
                            1.0
                        } else if (0.0..1.0).contains(&t) {
                            -1.0
                        } else {
                            0.0
                        }
                    };
                    for channel in 0..c {
                        let pixel = ((place / (rows * columns) * h + v) * w + u) * c + channel;
                        let value = f64::from(image.data()[pixel]);
                        let dy = f64::from(dy.data()[place * c + channel]);
                        y[place * c + channel] += hat(along) * hat(down) * value;
                        dimage[pixel] += hat(along) * hat(down) * dy;
                        dgrid[2 * place] += slope(along) * x_scale * hat(down) * value * dy;
                        dgrid[2 * place + 1] += slope(down) * y_scale * hat(along) * value * dy;
                    }
                }
            }
        }
        [y, dimage, dgrid]
    }

    fn compare(image: &Tensor, grid: &Tensor) {
        let [batch, rows, columns, _] = grid.dims("").unwrap();
        let dy = random_tensor(9, [batch, rows, columns, image.shape()[3]]);
        let tape = Tape::new();
        let variables = [tape.watch(image), tape.watch(grid)];
        let y = grid_sample(&variables[0], &variables[1], None).unwrap();
        let gradients = tape.backward_from(&[(&y, dy.clone())]).unwrap();
        let found = [
            y.data(),
            gradients.get(&variables[0]).unwrap().data(),
            gradients.get(&variables[1]).unwrap().data(),
        ];
        for (index, (found, right)) in found.into_iter().zip(naive(image, grid, &dy)).enumerate() {
            let off = distance(found, &right);
            assert!(off < 3e-6, "{} at {}, {index}: off by {off}", grid.shape(), image.shape());
        }
    }

    /// A grid of random places that reach a little beyond the image.
    fn wide_grid(seed: u64, shape: [usize; 4]) -> Tensor {
        let places: Vec<f32> = random_tensor(seed, shape).data().iter().map(|x| 1.5 * x).collect();
        Tensor::new(&places, shape).unwrap()
    }

    #[test]
    fn agrees_with_the_definition_inside_and_outside() {
        for c in [1, 2, 3, 5] {
            compare(&random_tensor(1, [2, 5, 7, c]), &wide_grid(2, [2, 9, 4, 2]));
        }
        compare(&random_tensor(1, [1, 1, 4, 3]), &wide_grid(2, [1, 3, 3, 2]));
    }

    #[test]
    fn on_the_centres_and_half_outside() {
        // Five columns and rows: centres at multiples of 1/2. Corners, beyond them by half a pixel and by a whole one.
        let ticks = [-1.75, -1.5, -1.25, -1.0, -0.5, 0.0, 0.25, 1.0, 1.25, 1.5, 1.75];
        let places: Vec<f32> = ticks.iter().flat_map(|y| ticks.iter().flat_map(move |x| [*x, *y])).collect();
        let grid = Tensor::new(&places, [1, 11, 11, 2]).unwrap();
        let image = random_tensor(1, [1, 5, 5, 3]);
        compare(&image, &grid);
        let y = grid_sample(&image, &grid, None).unwrap();
        let at = |row: usize, column: usize| &y.data()[(row * 11 + column) * 3..][..3];
        assert_eq!(at(3, 3), &image.data()[..3]);
        assert_eq!(
            at(2, 3),
            [0.5, 0.5, 0.5].iter().zip(&image.data()[..3]).map(|(a, b)| a * b).collect::<Vec<_>>()
        );
        assert_eq!(at(1, 3), [0.0; 3]);
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        let inputs = [random_tensor(1, [2, 6, 5, 3]), wide_grid(2, [2, 4, 3, 2])];
        let run = |inputs: &[Tensor]| grid_sample(&inputs[0], &inputs[1], None);
        assert_gradients(&inputs, 1.0 / 4096.0, Tolerance { norm: 1e-3, element: 1e-3 }, run);
        let inputs = [random_tensor(1, [5, 33, 31, 3]), wide_grid(2, [5, 31, 35, 2])];
        assert_operation_independent_of_threads(&inputs, run);
    }

    #[test]
    fn a_mask_multiplies_the_result_and_its_gradient() {
        let (image, grid) = (random_tensor(1, [4, 6, 5, 3]), wide_grid(2, [4, 4, 3, 2]));
        let mask: Vec<f32> = (0..24).map(|i| [0.0, 1.0, 0.5][i * 7 % 3]).collect();
        let mask = Tensor::new(&mask, [2, 4, 3]).unwrap();
        // As it would be done in two steps.
        let masked = |y: &Tensor| -> Tensor {
            let mut y = y.detach();
            let pixels = y.data_mut().chunks_exact_mut(3).enumerate();
            pixels.for_each(|(i, pixel)| pixel.iter_mut().for_each(|x| *x *= mask.data()[i % 24]));
            y
        };
        let run = |mask: Option<&Tensor>, dy: Tensor| {
            let tape = Tape::new();
            let [image, grid] = [&image, &grid].map(|input| tape.watch(input));
            let y = grid_sample(&image, &grid, mask).unwrap();
            let mut gradients = tape.backward_from(&[(&y, dy)]).unwrap();
            [y.detach(), gradients.take(&image).unwrap(), gradients.take(&grid).unwrap()]
        };
        let dy = random_tensor(3, [4, 4, 3, 3]);
        let mut right = run(None, masked(&dy));
        right[0] = masked(&right[0]);
        for (found, right) in run(Some(&mask), dy).iter().zip(&right) {
            assert!(found.data().iter().zip(right.data()).all(|(a, b)| (a - b).abs() < 1e-5));
        }
        assert_operation_independent_of_threads(&[image, grid], |x| grid_sample(&x[0], &x[1], Some(&mask)));
    }

    #[test]
    fn far_and_undefined_places_do_no_harm() {
        let places = [1e30, 0.0, f32::INFINITY, f32::NEG_INFINITY, -1e30, 1e30, f32::NAN, 0.0];
        let grid = Tensor::new(&places, [1, 1, 4, 2]).unwrap();
        let tape = Tape::new();
        let image = tape.watch(&Tensor::full([1, 3, 3, 1], 1.0));
        let y = grid_sample(&image, &grid, None).unwrap();
        assert_eq!(y.data()[..3], [0.0; 3]);
        assert!(y.data()[3].is_nan());
        assert!(tape.backward(&y).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let image = Tensor::zeros([2, 4, 4, 3]);
        let error = grid_sample(&image, &Tensor::zeros([1, 4, 4, 2]), None).unwrap_err().to_string();
        assert_eq!(error, "grid_sample: a grid of shape [1, 4, 4, 2] for images of shape [2, 4, 4, 3]");
        assert!(grid_sample(&image, &Tensor::zeros([2, 4, 4, 3]), None).is_err());
        let (grid, mask) = (Tensor::zeros([2, 4, 5, 2]), Tensor::zeros([2, 5, 4]));
        let error = grid_sample(&image, &grid, Some(&mask)).unwrap_err().to_string();
        assert_eq!(error, "grid_sample: a mask of shape [2, 5, 4] for a grid of shape [2, 4, 5, 2]");
        assert!(grid_sample(&image, &grid, Some(&Tensor::zeros([3, 4, 5]))).is_err());
    }
}
