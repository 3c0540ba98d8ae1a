//! The maximum of every window.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

struct MaxPool {
    /// Height and width of a window, and the step from one to the next.
    size: usize,
}

/// The maximum over windows of size x size pixels, side by side: x `[B,H,W,C]`, y `[B,H/size,W/size,C]` (rounded
/// down: rows and columns that fill no window are left out). NaN counts as the largest. Gradient: dy goes to the
/// first maximum of the window in row-major order, as in PyTorch.
///
/// # Errors
/// If x does not have four axes, or is smaller than a window.
pub fn max_pool(x: &Tensor, size: usize) -> Result<Tensor> {
    apply_one(MaxPool { size }, &[x])
}

impl MaxPool {
    fn layout(&self, x: &Tensor) -> Result<cpu::Layout> {
        let [_, height, width, channels] = x.dims(self.name())?;
        if self.size == 0 || height < self.size || width < self.size || x.numel() == 0 {
            let detail = format!("windows of {0} x {0} do not fit into the shape {1}", self.size, x.shape());
            return Err(Error::shape(self.name(), detail));
        }
        Ok(cpu::Layout { height, width, channels, size: self.size })
    }
}

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let x = inputs[0];
        let layout = self.layout(x)?;
        let [batch, height, width, channels] = x.dims(self.name())?;
        let mut y = Tensor::empty([batch, height / self.size, width / self.size, channels]);
        cpu::forward(layout, x.data(), y.data_mut());
        context.save(x);
        context.save(&y);
        Ok(vec![y])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [x, y] = backward.saved else { unreachable!("two tensors were saved") };
        let mut dx = Tensor::empty(x.shape());
        cpu::backward(self.layout(x)?, [x.data(), y.data(), backward.gradient().data()], dx.data_mut());
        Ok(vec![Some(dx)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let x = inputs[0];
        let y = cuda::forward(self.layout(x)?, x)?;
        context.save(x);
        Ok(vec![y])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let x = &backward.saved[0];
        Ok(vec![Some(cuda::backward(self.layout(x)?, x, backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    #[test]
    fn agrees_with_the_definition() {
        for (size, h, w) in [(2, 4, 6), (2, 5, 7), (3, 7, 3)] {
            let c = 5;
            let x = random_tensor(1, [2, h, w, c]);
            let y = max_pool(&x, size).unwrap();
            assert_eq!(*y.shape(), [2, h / size, w / size, c]);
            for (i, y) in y.data().iter().enumerate() {
                let (pixel, channel) = (i / c, i % c);
                let (row, column) = (pixel / (w / size), pixel % (w / size));
                let (image, row) = (row / (h / size), row % (h / size));
                let mut largest = f32::MIN;
                for v in row * size..(row + 1) * size {
                    for u in column * size..(column + 1) * size {
                        largest = largest.max(x.data()[((image * h + v) * w + u) * c + channel]);
                    }
                }
                assert_eq!(*y, largest);
            }
            let tolerance = Tolerance { norm: 1e-2, element: 1e-2 };
            assert_gradients(std::slice::from_ref(&x), 1.0 / 4096.0, tolerance, |x| max_pool(&x[0], size));
            assert_operation_independent_of_threads(&[x], |x| max_pool(&x[0], size));
        }
    }

    #[test]
    fn the_first_of_equal_values_gets_the_gradient() {
        let tape = Tape::new();
        let x =
            tape.watch(&Tensor::new(&[0.0, 1.0, 9.0, 1.0, 1.0, 9.0, -0.0, 0.0, 9.0], [1, 3, 3, 1]).unwrap());
        let y = max_pool(&x, 2).unwrap();
        assert_eq!(y.data(), [1.0]);
        let gradients = tape.backward(&y).unwrap();
        assert_eq!(gradients.get(&x).unwrap().data(), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn nan_is_not_lost_and_small_images_are_refused() {
        let x = Tensor::new(&[0.0, f32::NAN, 1.0, 2.0], [1, 2, 2, 1]).unwrap();
        assert!(max_pool(&x, 2).unwrap().data()[0].is_nan());
        let error = max_pool(&x, 3).unwrap_err().to_string();
        assert_eq!(error, "max_pool: windows of 3 x 3 do not fit into the shape [1, 2, 2, 1]");
    }
}
