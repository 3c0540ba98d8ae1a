//! Smoothness on a GPU: sums of parts, then the sum of those, both in a fixed order.

use crate::cuda::{self, Kernels};
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "smoothness", source: include_str!("kernel.cu") };

/// Threads of a block; the kernels count on it.
const THREADS: usize = 256;

/// Pixels that a block sums.
const PART: usize = 2048;

/// The weight of one vertical and one horizontal difference. As in the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct Weights {
    down: f64,
    along: f64,
}

/// The weighted sum of absolute differences, f32.
pub(super) fn forward(
    [_, height, width]: [usize; 3],
    [down, along]: [f64; 2],
    depth: &Tensor,
) -> Result<Tensor> {
    let parts = depth.numel().div_ceil(PART);
    // Each part is an f64.
    let mut sums = Tensor::empty_on(depth.device(), DataType::F32, [parts, 2])?;
    let mut y = Tensor::empty_on(depth.device(), DataType::F32, [])?;
    cuda::launch(depth.device(), &KERNELS, "parts", depth.data_type())?
        .output(&mut sums)
        .input(depth)
        .structure(Weights { down, along })
        .int(height)
        .int(width)
        .int(PART)
        .int(depth.numel())
        .blocks([parts, 1, 1], THREADS)?;
    cuda::launch(depth.device(), &KERNELS, "total", depth.data_type())?
        .output(&mut y)
        .input(&sums)
        .int(parts)
        .blocks([1, 1, 1], THREADS)?;
    Ok(y)
}

/// The gradient of depth, given that of the result.
pub(super) fn backward(
    [_, height, width]: [usize; 3],
    [down, along]: [f64; 2],
    depth: &Tensor,
    dy: &Tensor,
) -> Result<Tensor> {
    let mut gradient = depth.empty_like(depth.shape())?;
    cuda::launch(depth.device(), &KERNELS, "backward", depth.data_type())?
        .output(&mut gradient)
        .input(depth)
        .input(dy)
        .structure(Weights { down, along })
        .int(height)
        .int(width)
        .int(depth.numel())
        .elements(depth.numel())?;
    Ok(gradient)
}
