//! Masks on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Result, Tensor};

use crate::cuda::{kernels, launch, scratch};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("mask");

pub(super) fn visible(depth: &Tensor, limit: f32, shape: [usize; 3], parts: usize) -> Result<Tensor> {
    let mut mask = scratch(depth.device(), shape)?;
    let count = mask.elements();
    launch(depth, &KERNELS, "visible")?
        .output(&mut mask)
        .input(depth)
        .float(limit)
        .int(parts)
        .int(count)
        .elements(count)?;
    Ok(mask)
}

pub(super) fn apply(pictures: &Tensor, mask: &Tensor, channels: usize) -> Result<Tensor> {
    let (mut product, count) = (pictures.scratch_like(pictures.shape())?, pictures.elements());
    launch(pictures, &KERNELS, "apply")?
        .output(&mut product)
        .input(pictures)
        .input(mask)
        .int(channels)
        .int(mask.elements())
        .int(count)
        .elements(count)?;
    Ok(product)
}
