//! Weighted sums of a few numbers on a GPU. The weights travel with the launch.

use crate::cuda::{self, Kernels};
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels =
    Kernels { name: "weighted_elements_sum", source: include_str!("kernel.cu") };

/// Weights in a launch.
const WEIGHTS: usize = 256;

/// As in the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct Weights {
    of: [f32; WEIGHTS],
}

/// Weights in pieces that fit a launch, each with the index of its first.
fn pieces(weights: &[f32]) -> impl Iterator<Item = (usize, usize, Weights)> {
    weights.chunks(WEIGHTS).enumerate().map(|(index, piece)| {
        let mut of = [0.0; WEIGHTS];
        of[..piece.len()].copy_from_slice(piece);
        (index * WEIGHTS, piece.len(), Weights { of })
    })
}

/// The sum, f32.
pub(super) fn forward(weights: &[f32], x: &Tensor) -> Result<Tensor> {
    let mut y = Tensor::empty_on(x.device(), DataType::F32, [])?;
    y.clear()?;
    for (first, count, piece) in pieces(weights) {
        cuda::launch(x.device(), &KERNELS, "forward", x.data_type())?
            .output(&mut y)
            .input(x)
            .structure(piece)
            .int(first)
            .int(count)
            .blocks([1, 1, 1], 1)?;
    }
    Ok(y)
}

/// The gradient of `x`, given that of the sum.
pub(super) fn backward(weights: &[f32], x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let mut dx = x.empty_like(x.shape())?;
    for (first, count, piece) in pieces(weights) {
        cuda::launch(x.device(), &KERNELS, "backward", x.data_type())?
            .output(&mut dx)
            .input(dy)
            .structure(piece)
            .int(first)
            .int(count)
            .elements(count)?;
    }
    Ok(dx)
}
