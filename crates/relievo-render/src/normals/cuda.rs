//! Normals on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Result, Tensor};

use crate::Camera;
use crate::cuda::{CameraArgument, THREADS, blocks, kernels, launch, scratch};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("normals");

pub(super) fn forward(camera: Camera, depth: &Tensor, batch: usize) -> Result<Tensor> {
    let mut normals = scratch(depth.device(), [batch, camera.size, camera.size, 3])?;
    launch(depth, &KERNELS, "forward")?
        .output(&mut normals)
        .input(depth)
        .structure(CameraArgument::from(camera))
        .blocks(blocks(camera.size * camera.size, batch), THREADS)?;
    Ok(normals)
}

pub(super) fn backward(camera: Camera, depth: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let [batch, rows, columns] = depth.axes("normals")?;
    let mut ddepth = depth.scratch_like(depth.shape())?;
    launch(depth, &KERNELS, "backward")?
        .output(&mut ddepth)
        .input(depth)
        .input(dy)
        .structure(CameraArgument::from(camera))
        .blocks(blocks(rows * columns, batch), THREADS)?;
    Ok(ddepth)
}
