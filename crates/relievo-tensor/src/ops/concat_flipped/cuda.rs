//! The doubled batch on a GPU.

use super::Rows;
use crate::cuda::{self, Kernels};
use crate::{Result, Shape, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "concat_flipped", source: include_str!("kernel.cu") };

/// y, of the given shape, from x.
pub(super) fn forward(rows: Rows, x: &Tensor, shape: Shape) -> Result<Tensor> {
    run("forward", rows, x, shape, x.numel())
}

/// dx, of the given shape, from dy.
pub(super) fn backward(rows: Rows, dy: &Tensor, shape: Shape) -> Result<Tensor> {
    run("backward", rows, dy, shape, shape.numel())
}

/// A kernel with a thread for each column of one half, which has `count` elements.
fn run(
    kernel: &'static str,
    Rows { width, channels, shift }: Rows,
    input: &Tensor,
    shape: Shape,
    count: usize,
) -> Result<Tensor> {
    let mut output = input.empty_like(shape)?;
    cuda::launch(input.device(), &KERNELS, kernel, input.data_type())?
        .output(&mut output)
        .input(input)
        .int(width)
        .int(channels)
        .int(shift)
        .int(count)
        .elements(if channels % 4 == 0 { count / 4 } else { count })?;
    Ok(output)
}
