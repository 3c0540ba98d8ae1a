//! A batch followed by its mirror image, which is the symmetry assumption, or by itself with its halves exchanged, which
//! pairs images of one object.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, Error, Operation, Result, Shape, Tensor, apply_one};

/// What follows the batch.
#[derive(Clone, Copy, PartialEq)]
enum Second {
    /// The batch again.
    Repeated,
    /// The batch mirrored along the width axis.
    Mirrored,
    /// The second half of the batch, then the first.
    Swapped,
}

struct ConcatFlipped {
    second: Second,
}

/// The rows that are copied, and where.
#[derive(Clone, Copy)]
struct Rows {
    /// Pixels of a row, which the second half has in reverse order.
    width: usize,
    /// Elements of a pixel.
    channels: usize,
    /// How far the second half is rotated, in elements.
    shift: usize,
}

/// x followed by x mirrored along its width axis (`mirror`), or by x again, along the batch axis.
///
/// x `[B,H,W,C]`, `[B,H,W]`, or, without `mirror`, any shape `[B,...]`; the result has 2B. Gradient: that of the first
/// half plus that of the second, mirrored back.
///
/// # Errors
/// If x has no batch axis, or no width axis with `mirror`.
pub fn concat_flipped(x: &Tensor, mirror: bool) -> Result<Tensor> {
    apply_one(ConcatFlipped { second: if mirror { Second::Mirrored } else { Second::Repeated } }, &[x])
}

/// x followed by x with the halves of its batch exchanged, along the batch axis: of pairs whose first images are the
/// first half and whose second images the second, each image is followed by its partner.
///
/// x `[2B,...]`; the result `[4B,...]`: images 0 to 2B - 1, then B to 2B - 1, then 0 to B - 1. Gradient: that of the first
/// half plus that of the second, put back.
///
/// # Errors
/// If x has no batch axis, or an odd batch.
pub fn concat_swapped(x: &Tensor) -> Result<Tensor> {
    apply_one(ConcatFlipped { second: Second::Swapped }, &[x])
}

impl ConcatFlipped {
    fn rows(&self, shape: Shape) -> Rows {
        let image = shape.get(1..).unwrap_or_default().iter().product();
        match (self.second, &*shape) {
            (Second::Mirrored, &[_, _, width, channels]) => Rows { width, channels, shift: 0 },
            (Second::Mirrored, &[_, _, width]) => Rows { width, channels: 1, shift: 0 },
            (Second::Swapped, &[batch, ..]) => Rows { width: 1, channels: image, shift: batch / 2 * image },
            _ => Rows { width: 1, channels: image, shift: 0 },
        }
    }

    /// The shape of the result.
    fn doubled(&self, shape: Shape) -> Result<Shape> {
        let lacks = match self.second {
            _ if shape.is_empty() => "batch",
            Second::Mirrored if !matches!(shape.len(), 3 | 4) => "width",
            Second::Swapped if shape[0] % 2 == 1 => "two halves",
            _ => return Ok(with_batch(shape, 2 * shape[0])),
        };
        Err(Error::shape(self.name(), format!("a tensor of shape {shape} has no {lacks}")))
    }
}

/// The shape with another batch size.
fn with_batch(shape: Shape, batch: usize) -> Shape {
    let mut extents = [1; crate::shape::MAX_RANK];
    extents[..shape.len()].copy_from_slice(&shape);
    extents[0] = batch;
    Shape::from(&extents[..shape.len()])
}

impl Operation for ConcatFlipped {
    fn name(&self) -> &'static str {
        "concat_flipped"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let x = inputs[0];
        let mut y = Tensor::empty(self.doubled(x.shape())?);
        cpu::forward(self.rows(x.shape()), x.data(), y.data_mut());
        Ok(vec![y])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let shape = with_batch(dy.shape(), dy.shape()[0] / 2);
        let mut dx = Tensor::empty(shape);
        cpu::backward(self.rows(shape), dy.data(), dx.data_mut());
        Ok(vec![Some(dx)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let x = inputs[0];
        Ok(vec![cuda::forward(self.rows(x.shape()), x, self.doubled(x.shape())?)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let shape = with_batch(dy.shape(), dy.shape()[0] / 2);
        Ok(vec![Some(cuda::backward(self.rows(shape), dy, shape)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    #[test]
    fn the_second_half_is_mirrored_along_the_width() {
        let x = Tensor::new(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1, 1, 3, 2]).unwrap();
        let y = concat_flipped(&x, true).unwrap();
        assert_eq!(*y.shape(), [2, 1, 3, 2]);
        assert_eq!(y.data(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 5.0, 2.0, 3.0, 0.0, 1.0]);
        let x = Tensor::new(&[0.0, 1.0, 2.0, 3.0], [1, 2, 2]).unwrap();
        assert_eq!(concat_flipped(&x, true).unwrap().data(), [0.0, 1.0, 2.0, 3.0, 1.0, 0.0, 3.0, 2.0]);
        let x = Tensor::new(&[0.0, 1.0, 2.0, 3.0], [2, 2]).unwrap();
        let y = concat_flipped(&x, false).unwrap();
        assert_eq!((&*y.shape(), y.data()), (&[4, 2][..], &[0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0][..]));
    }

    /// The operation is linear and rounds nothing but sums of two factors.
    const EXACT: Tolerance = Tolerance { norm: 1e-6, element: 1e-6 };

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        let x = [random_tensor(1, [3, 4, 5, 2])];
        for mirror in [true, false] {
            let run = |x: &[Tensor]| concat_flipped(&x[0], mirror);
            assert_gradients(&x, 0.25, EXACT, run);
            assert_operation_independent_of_threads(&x, run);
        }
        assert_gradients(&[random_tensor(1, [2, 3, 4])], 0.25, EXACT, |x| concat_flipped(&x[0], true));
        assert_gradients(&[random_tensor(1, [2, 6])], 0.25, EXACT, |x| concat_flipped(&x[0], false));
    }

    #[test]
    fn halves_are_exchanged() {
        let x = Tensor::new(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [4, 2]).unwrap();
        let y = concat_swapped(&x).unwrap();
        assert_eq!(y.data()[..8], *x.data());
        assert_eq!(y.data()[8..], [4.0, 5.0, 6.0, 7.0, 0.0, 1.0, 2.0, 3.0]);
        let x = [random_tensor(1, [4, 3, 2, 5])];
        assert_gradients(&x, 0.25, EXACT, |x| concat_swapped(&x[0]));
        assert_operation_independent_of_threads(&x, |x| concat_swapped(&x[0]));
        let error = concat_swapped(&Tensor::zeros([3, 2])).unwrap_err().to_string();
        assert_eq!(error, "concat_flipped: a tensor of shape [3, 2] has no two halves");
    }

    #[test]
    fn what_has_no_width_is_not_mirrored() {
        let error = concat_flipped(&Tensor::zeros([2, 3]), true).unwrap_err().to_string();
        assert_eq!(error, "concat_flipped: a tensor of shape [2, 3] has no width");
        assert!(concat_flipped(&Tensor::scalar(1.0), false).is_err());
    }
}
