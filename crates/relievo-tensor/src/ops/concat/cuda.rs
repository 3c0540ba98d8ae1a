//! Concatenation on a GPU: a thread for each element of the result or of a part.

use std::ops::Range;

use super::Rows;
use crate::cuda::{self, Kernels};
use crate::{Error, Result, Shape, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "concat", source: include_str!("kernel.cu") };

/// y, of the given shape.
pub(super) fn forward(Rows { lengths, .. }: Rows, [a, b]: [&Tensor; 2], shape: Shape) -> Result<Tensor> {
    if a.data_type() != b.data_type() {
        let detail = format!("{:?} cannot follow {:?}", b.data_type(), a.data_type());
        return Err(Error::shape("concat", detail));
    }
    let mut y = a.empty_like(shape)?;
    cuda::launch(a.device(), &KERNELS, "forward", a.data_type())?
        .output(&mut y)
        .input(a)
        .input(b)
        .int(lengths[0])
        .int(lengths[1])
        .int(shape.numel())
        .elements(shape.numel())?;
    Ok(y)
}

/// The gradient of input `part`, of the given shape.
pub(super) fn take(Rows { lengths, .. }: Rows, part: usize, dy: &Tensor, shape: Shape) -> Result<Tensor> {
    let start = if part == 0 { 0 } else { lengths[0] };
    columns(start..start + lengths[part], lengths.iter().sum(), dy, shape)
}

/// The elements of x in a range, as a tensor of the given shape.
pub(super) fn narrow(elements: Range<usize>, x: &Tensor, shape: Shape) -> Result<Tensor> {
    columns(elements, x.numel(), x, shape)
}

/// Zeros of the given shape with x at a range of elements.
pub(super) fn widen(elements: Range<usize>, x: &Tensor, shape: Shape) -> Result<Tensor> {
    let mut y = x.empty_like(shape)?;
    cuda::launch(x.device(), &KERNELS, "widen", x.data_type())?
        .output(&mut y)
        .input(x)
        .int(elements.start)
        .int(elements.len())
        .int(shape.numel())
        .elements(shape.numel())?;
    Ok(y)
}

/// The given columns of x, whose rows have `whole` elements.
fn columns(columns: Range<usize>, whole: usize, x: &Tensor, shape: Shape) -> Result<Tensor> {
    let mut y = x.empty_like(shape)?;
    cuda::launch(x.device(), &KERNELS, "columns", x.data_type())?
        .output(&mut y)
        .input(x)
        .int(columns.start)
        .int(columns.len())
        .int(whole)
        .int(shape.numel())
        .elements(shape.numel())?;
    Ok(y)
}
