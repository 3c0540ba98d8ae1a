//! The errors of a surface on a GPU: a block for each image, then one for all.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Backward, Result, Tensor};

use super::KEPT;
use crate::Camera;
use crate::cuda::{CameraArgument, THREADS, blocks, empty, kernels, launch};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("surface_error", "../shading/normals.cuh");

/// The errors, and what is kept of each image.
pub(super) fn forward(
    camera: Camera,
    [depth, truth, mask]: [&Tensor; 3],
    batch: usize,
) -> Result<[Tensor; 2]> {
    let mut kept = empty(depth.device(), [batch, KEPT])?;
    // Numbers of 64 bits, in twice as many of 32.
    let mut angles = empty(depth.device(), [batch, 2])?;
    launch(depth, &KERNELS, "of_images")?
        .output(&mut kept)
        .output(&mut angles)
        .input(depth)
        .input(truth)
        .input(mask)
        .structure(CameraArgument::new(camera)?)
        .blocks([1, batch, 1], THREADS)?;
    let mut errors = empty(depth.device(), [2])?;
    launch(depth, &KERNELS, "means")?
        .output(&mut errors)
        .input(&kept)
        .input(&angles)
        .int(batch)
        .blocks([1, 1, 1], THREADS)?;
    Ok([errors, kept])
}

/// The gradient of the depth.
pub(super) fn backward(camera: Camera, backward: &Backward<'_>) -> Result<Tensor> {
    let [depth, truth, mask, kept] = [0, 1, 2, 3].map(|saved| &backward.saved[saved]);
    let mut ddepth = depth.empty_like(depth.shape())?;
    launch(depth, &KERNELS, "backward")?
        .output(&mut ddepth)
        .input(depth)
        .input(truth)
        .input(mask)
        .input(kept)
        .input(backward.gradient())
        .structure(CameraArgument::new(camera)?)
        .int(truth.shape()[0])
        .blocks(blocks(camera.size * camera.size, depth.shape()[0]), THREADS)?;
    Ok(ddepth)
}
