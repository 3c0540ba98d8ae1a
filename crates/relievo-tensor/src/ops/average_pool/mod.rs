//! Pictures made smaller by whole factors.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, Error, Operation, Result, Shape, Tensor, apply_one};

/// The mean of every factor x factor pixels of x `[B,H,W,C]`: `[B,H/factor,W/factor,C]`. Without channels:
/// `[B,H,W]` to `[B,H/factor,W/factor]`. Gradient: an equal share for every pixel.
///
/// # Errors
/// If x has another number of axes or the factor does not divide height and width.
pub fn average_pool(x: &Tensor, factor: usize) -> Result<Tensor> {
    apply_one(AveragePool { factor }, &[x])
}

struct AveragePool {
    factor: usize,
}

/// A shape with the extents of its second and third axis changed, as those of the small and of the large pictures.
fn resized(shape: Shape, height: usize, width: usize) -> Shape {
    let mut extents = [1; crate::MAX_RANK];
    extents[..shape.len()].copy_from_slice(&shape);
    extents[1] = height;
    extents[2] = width;
    Shape::from(&extents[..shape.len()])
}

/// Channels of `[B,H,W,C]`, one for `[B,H,W]`.
fn channels(shape: Shape) -> usize {
    shape.get(3).copied().unwrap_or(1)
}

/// Width and channels of the pictures `small`, and the factor.
fn line(small: Shape, factor: usize) -> [usize; 3] {
    [small[2], channels(small), factor]
}

impl AveragePool {
    fn share(&self) -> f32 {
        1.0 / (self.factor * self.factor) as f32
    }

    /// The shape of y.
    fn reduced(&self, shape: Shape) -> Result<Shape> {
        let ([_, h, w] | [_, h, w, _]) = *shape else {
            let detail = format!("needs a tensor of 3 or 4 axes, got the shape {shape}");
            return Err(Error::shape(self.name(), detail));
        };
        if self.factor == 0 || h % self.factor != 0 || w % self.factor != 0 {
            let detail = format!("the factor {} does not divide the pictures of {shape}", self.factor);
            return Err(Error::shape(self.name(), detail));
        }
        Ok(resized(shape, h / self.factor, w / self.factor))
    }

    /// The shape of x, given that of y.
    fn enlarged(&self, y: Shape) -> Shape {
        resized(y, y[1] * self.factor, y[2] * self.factor)
    }
}

impl Operation for AveragePool {
    fn name(&self) -> &'static str {
        "average_pool"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let x = inputs[0];
        let mut y = Tensor::scratch(self.reduced(x.shape())?);
        cpu::gather(line(y.shape(), self.factor), self.share(), x.data(), y.data_mut());
        Ok(vec![y])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let mut dx = Tensor::scratch(self.enlarged(dy.shape()));
        cpu::spread(line(dy.shape(), self.factor), self.share(), dy.data(), dx.data_mut());
        Ok(vec![Some(dx)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let shape = self.reduced(inputs[0].shape())?;
        Ok(vec![cuda::gather(line(shape, self.factor), self.share(), inputs[0], shape)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let shape = self.enlarged(dy.shape());
        Ok(vec![Some(cuda::spread(line(dy.shape(), self.factor), self.share(), dy, shape)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::{
        assert_operation_independent_of_threads, distance, gradient_errors, random_tensor,
    };

    #[test]
    fn each_pixel_is_the_mean_of_its_square() {
        for factor in [1, 2, 3] {
            let (h, w, c) = (3, 5, 7);
            let x = random_tensor(1, [2, h * factor, w * factor, c]);
            let y = average_pool(&x, factor).unwrap();
            assert_eq!(*y.shape(), [2, h, w, c]);
            let mut means = vec![0.0; y.elements()];
            for (i, x) in x.data().iter().enumerate() {
                let (row, column, channel) =
                    (i / c / (w * factor) / factor, i / c % (w * factor) / factor, i % c);
                means[(row * w + column) * c + channel] += f64::from(*x) / (factor * factor) as f64;
            }
            assert!(distance(y.data(), &means) < 1e-6);
        }
        let mask = Tensor::new(&[1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], [1, 2, 4]).unwrap();
        assert_eq!(average_pool(&mask, 2).unwrap().data(), [0.75, 0.5]);
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        let x = [random_tensor(2, [2, 6, 9, 5])];
        let run = |x: &[Tensor]| average_pool(&x[0], 3);
        let errors = gradient_errors(&x, 0.25, run).unwrap();
        assert!(errors[0] < 1e-5, "{errors:?}");
        assert_operation_independent_of_threads(&x, run);
        let plane = [random_tensor(3, [2, 4, 6])];
        assert!(gradient_errors(&plane, 0.25, |x| average_pool(&x[0], 2)).unwrap()[0] < 1e-5);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = Tensor::zeros([1, 6, 4, 2]);
        let error = average_pool(&x, 4).unwrap_err().to_string();
        assert_eq!(error, "average_pool: the factor 4 does not divide the pictures of [1, 6, 4, 2]");
        assert!(average_pool(&x, 0).is_err() && average_pool(&Tensor::zeros([2, 2]), 2).is_err());
    }
}
