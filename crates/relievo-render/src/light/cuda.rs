//! Lights on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Result, Tensor};

use super::{LIGHT, LightRange, RAW};
use crate::cuda::{empty, kernels, launch};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("light_from_raw");

pub(super) fn forward(range: LightRange, raw: &Tensor, batch: usize) -> Result<Tensor> {
    let mut light = empty(raw.device(), [batch, LIGHT])?;
    launch(raw, &KERNELS, "forward")?
        .output(&mut light)
        .input(raw)
        .structure(range.ambient)
        .structure(range.diffuse)
        .int(batch)
        .elements(batch)?;
    Ok(light)
}

pub(super) fn backward(range: LightRange, raw: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let mut draw = raw.empty_like(raw.shape())?;
    let batch = raw.numel() / RAW;
    launch(raw, &KERNELS, "backward")?
        .output(&mut draw)
        .input(raw)
        .input(dy)
        .structure(range.ambient)
        .structure(range.diffuse)
        .int(batch)
        .elements(batch)?;
    Ok(draw)
}
