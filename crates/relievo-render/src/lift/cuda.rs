//! Lifting depths on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Result, Tensor};

use crate::Camera;
use crate::cuda::{CameraArgument, THREADS, blocks, kernels, launch, scratch};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("lift");

pub(super) fn forward(camera: Camera, depth: &Tensor, batch: usize) -> Result<Tensor> {
    let mut points = scratch(depth.device(), [batch, camera.size, camera.size, 3])?;
    launch(depth, &KERNELS, "forward")?
        .output(&mut points)
        .input(depth)
        .structure(CameraArgument::from(camera))
        .blocks(blocks(camera.size * camera.size, batch), THREADS)?;
    Ok(points)
}

pub(super) fn backward(camera: Camera, dy: &Tensor) -> Result<Tensor> {
    let [batch, rows, columns, _] = dy.axes("lift")?;
    let mut ddepth = scratch(dy.device(), [batch, rows, columns])?;
    launch(dy, &KERNELS, "backward")?
        .output(&mut ddepth)
        .input(dy)
        .structure(CameraArgument::from(camera))
        .blocks(blocks(rows * columns, batch), THREADS)?;
    Ok(ddepth)
}
