//! Two tensors one after the other, along their first or their last axis, and a part of a batch.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::shape::MAX_RANK;
use crate::{Backward, Context, Error, Operation, Result, Shape, Tensor, apply_one};

/// The axis along which tensors are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcatAxis {
    /// The first: the images of one batch follow those of the other.
    Batch,
    /// The last: each pixel has the channels of both.
    Channels,
}

struct Concat {
    axis: ConcatAxis,
    /// The extent of the first input along the axis.
    split: usize,
}

/// a followed by b along an axis; their other axes are the same. Gradient: to each its own part.
///
/// # Errors
/// If the shapes do not fit, or there is no axis.
pub fn concat(a: &Tensor, b: &Tensor, axis: ConcatAxis) -> Result<Tensor> {
    let shape = a.shape();
    let split = match axis {
        ConcatAxis::Batch => shape.first(),
        ConcatAxis::Channels => shape.last(),
    };
    apply_one(Concat { axis, split: split.copied().unwrap_or(0) }, &[a, b])
}

/// Entries `first..first + count` of the first axis of x. Gradient: zero for the other entries.
///
/// # Errors
/// If the first axis is shorter.
pub fn narrow_batch(x: &Tensor, first: usize, count: usize) -> Result<Tensor> {
    let batch = x.shape().first().copied().unwrap_or(0);
    apply_one(NarrowBatch { batch, first, count }, &[x])
}

struct NarrowBatch {
    /// Entries of the input.
    batch: usize,
    first: usize,
    count: usize,
}

/// Both inputs as rows, as many of each: the elements of a row of each, which follow each other in a row of the result.
#[derive(Clone, Copy)]
struct Rows {
    lengths: [usize; 2],
}

impl Concat {
    /// The rows, and the shapes of both inputs, of a result of this shape.
    fn parts(&self, y: Shape) -> (Rows, [Shape; 2]) {
        let axis = match self.axis {
            ConcatAxis::Batch => 0,
            ConcatAxis::Channels => y.len() - 1,
        };
        let shapes = [self.split, y[axis] - self.split].map(|extent| with_extent(y, axis, extent));
        let lengths = match self.axis {
            ConcatAxis::Batch => shapes.map(|shape| shape.numel()),
            ConcatAxis::Channels => shapes.map(|shape| shape[axis]),
        };
        (Rows { lengths }, shapes)
    }

    /// The shape of the result.
    fn joined(&self, a: Shape, b: Shape) -> Result<Shape> {
        let axis = match self.axis {
            ConcatAxis::Batch => 0,
            ConcatAxis::Channels => a.len().saturating_sub(1),
        };
        let fits = !a.is_empty() && a.len() == b.len() && with_extent(b, axis, a[axis]) == a;
        if !fits {
            let detail = format!("{a} and {b} do not fit along {:?}", self.axis);
            return Err(Error::shape(self.name(), detail));
        }
        Ok(with_extent(a, axis, a[axis] + b[axis]))
    }
}

/// The shape with another extent of an axis.
fn with_extent(shape: Shape, axis: usize, extent: usize) -> Shape {
    let mut extents = [1; MAX_RANK];
    extents[..shape.len()].copy_from_slice(&shape);
    extents[axis] = extent;
    Shape::from(&extents[..shape.len()])
}

impl Operation for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let mut y = Tensor::empty(self.joined(inputs[0].shape(), inputs[1].shape())?);
        let (rows, _) = self.parts(y.shape());
        for (part, input) in inputs.iter().enumerate() {
            cpu::put(rows, part, input.data(), y.data_mut());
        }
        Ok(vec![y])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let (rows, shapes) = self.parts(dy.shape());
        let part = |part: usize| {
            let mut dx = Tensor::empty(shapes[part]);
            cpu::take(rows, part, dy.data(), dx.data_mut());
            dx
        };
        Ok([0, 1].map(|input| backward.wants(input).then(|| part(input))).into())
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let shape = self.joined(inputs[0].shape(), inputs[1].shape())?;
        let (rows, _) = self.parts(shape);
        Ok(vec![cuda::forward(rows, [inputs[0], inputs[1]], shape)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let (rows, shapes) = self.parts(dy.shape());
        let part = |input: usize| {
            backward.wants(input).then(|| cuda::take(rows, input, dy, shapes[input])).transpose()
        };
        Ok(vec![part(0)?, part(1)?])
    }
}

impl NarrowBatch {
    fn narrowed(&self, shape: Shape) -> Result<Shape> {
        if shape.is_empty() || self.first.checked_add(self.count).is_none_or(|end| end > self.batch) {
            let detail = format!("{} entries from {} of the shape {shape}", self.count, self.first);
            return Err(Error::shape(self.name(), detail));
        }
        Ok(with_extent(shape, 0, self.count))
    }

    /// The elements of the input, given a shape of it or of the result.
    fn elements(&self, shape: Shape) -> std::ops::Range<usize> {
        let each = shape[1..].iter().product::<usize>();
        self.first * each..(self.first + self.count) * each
    }
}

impl Operation for NarrowBatch {
    fn name(&self) -> &'static str {
        "narrow_batch"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let shape = self.narrowed(inputs[0].shape())?;
        Ok(vec![Tensor::new(&inputs[0].data()[self.elements(shape)], shape)?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let mut dx = Tensor::zeros(with_extent(dy.shape(), 0, self.batch));
        dx.data_mut()[self.elements(dy.shape())].copy_from_slice(dy.data());
        Ok(vec![Some(dx)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let shape = self.narrowed(inputs[0].shape())?;
        Ok(vec![cuda::narrow(self.elements(shape), inputs[0], shape)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let shape = with_extent(dy.shape(), 0, self.batch);
        Ok(vec![Some(cuda::widen(self.elements(dy.shape()), dy, shape)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    #[test]
    fn parts_follow_each_other_along_the_axis() {
        let a = Tensor::new(&[0.0, 1.0, 2.0, 3.0], [2, 2]).unwrap();
        let b = Tensor::new(&[4.0, 5.0], [2, 1]).unwrap();
        let y = concat(&a, &b, ConcatAxis::Channels).unwrap();
        assert_eq!((&*y.shape(), y.data()), (&[2, 3][..], &[0.0, 1.0, 4.0, 2.0, 3.0, 5.0][..]));
        let b = Tensor::new(&[4.0, 5.0], [1, 2]).unwrap();
        let y = concat(&a, &b, ConcatAxis::Batch).unwrap();
        assert_eq!((&*y.shape(), y.data()), (&[3, 2][..], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0][..]));
        let error = concat(&a, &b, ConcatAxis::Channels).unwrap_err().to_string();
        assert_eq!(error, "concat: [2, 2] and [1, 2] do not fit along Channels");
        assert!(concat(&Tensor::scalar(1.0), &Tensor::scalar(1.0), ConcatAxis::Batch).is_err());
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        // The operation is linear.
        let exact = Tolerance { norm: 1e-6, element: 1e-6 };
        for (axis, shapes) in [
            (ConcatAxis::Channels, [[2, 3, 4, 1], [2, 3, 4, 5]]),
            (ConcatAxis::Batch, [[2, 3, 4, 2], [1, 3, 4, 2]]),
        ] {
            let x = [random_tensor(1, shapes[0]), random_tensor(2, shapes[1])];
            assert_gradients(&x, 0.25, exact, |x| concat(&x[0], &x[1], axis));
            assert_operation_independent_of_threads(&x, |x| concat(&x[0], &x[1], axis));
        }
    }

    #[test]
    fn a_part_of_a_batch_has_its_gradient_alone() {
        let x = Tensor::new(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [3, 2]).unwrap();
        let y = narrow_batch(&x, 1, 2).unwrap();
        assert_eq!((&*y.shape(), y.data()), (&[2, 2][..], &[2.0, 3.0, 4.0, 5.0][..]));
        let exact = Tolerance { norm: 1e-6, element: 1e-6 };
        assert_gradients(&[random_tensor(1, [3, 2, 5])], 0.25, exact, |x| narrow_batch(&x[0], 1, 1));
        assert!(narrow_batch(&x, 2, 2).is_err() && narrow_batch(&x, usize::MAX, 2).is_err());
        assert!(narrow_batch(&Tensor::scalar(1.0), 0, 1).is_err());
    }
}
