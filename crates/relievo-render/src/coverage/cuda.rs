//! Uncovered shares of the image on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Result, Tensor};

use crate::cuda::{empty, kernels, launch};
use crate::motion::VIEW;

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("uncovered");

pub(super) fn forward(half_width: f32, view: &Tensor, batch: usize) -> Result<Tensor> {
    let mut y = empty(view.device(), [batch])?;
    launch(view, &KERNELS, "forward")?
        .output(&mut y)
        .input(view)
        .float(half_width)
        .int(batch)
        .elements(batch)?;
    Ok(y)
}

pub(super) fn backward(half_width: f32, view: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let mut dview = view.empty_like(view.shape())?;
    let batch = view.numel() / VIEW;
    launch(view, &KERNELS, "backward")?
        .output(&mut dview)
        .input(view)
        .input(dy)
        .float(half_width)
        .int(batch)
        .elements(batch)?;
    Ok(dview)
}
