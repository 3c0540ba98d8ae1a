//! Moving surfaces on a GPU, and the viewpoints' gradients of any operation that moves points.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Backward, Result, Tensor};

use super::{MoveSurface, VIEW};
use crate::cuda::{CameraArgument, THREADS, blocks, empty, kernels, launch, parts};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("move_surface", "motion.cuh");

/// Sums that the gradient of a viewpoint needs.
const SUMS: usize = 12;

pub(super) fn forward(operation: &MoveSurface, [depth, views]: [&Tensor; 2], batch: usize) -> Result<Tensor> {
    let size = operation.camera.size;
    let mut moved = empty(depth.device(), [batch, size, size, 3])?;
    launch(depth, &KERNELS, "forward")?
        .output(&mut moved)
        .input(depth)
        .input(views)
        .structure(CameraArgument::new(operation.camera)?)
        .int(views.numel() / VIEW)
        .blocks(blocks(size * size, batch), THREADS)?;
    Ok(moved)
}

pub(super) fn backward(operation: &MoveSurface, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
    let (depth, views) = (&backward.saved[0], &backward.saved[1]);
    let [batch, rows, columns] = depth.dims("move_surface")?;
    let pixels = rows * columns;
    let mut ddepth = backward.wants(0).then(|| depth.empty_like(depth.shape())).transpose()?;
    let mut sums = backward.wants(1).then(|| view_sums(depth, batch, pixels)).transpose()?;
    launch(depth, &KERNELS, "backward")?
        .optional_output(ddepth.as_mut())
        .optional_output(sums.as_mut())
        .input(depth)
        .input(views)
        .input(backward.gradient())
        .structure(CameraArgument::new(operation.camera)?)
        .int(views.numel() / VIEW)
        .blocks([parts(pixels), batch, 1], THREADS)?;
    Ok(vec![ddepth, sums.map(|sums| view_gradient(&sums, views)).transpose()?])
}

/// Room for the parts of the sums that viewpoints' gradients need, `[images, parts, 12]`, on the device of `like`.
pub(crate) fn view_sums(like: &Tensor, images: usize, pixels: usize) -> Result<Tensor> {
    empty(like.device(), [images, parts(pixels), SUMS])
}

/// The gradient `[B', 6]` of the views from those sums.
pub(crate) fn view_gradient(sums: &Tensor, views: &Tensor) -> Result<Tensor> {
    let [images, parts, _] = sums.dims("view_gradient")?;
    let count = views.numel() / VIEW;
    let mut gradient = views.empty_like(views.shape())?;
    launch(views, &KERNELS, "view_gradient")?
        .output(&mut gradient)
        .input(sums)
        .input(views)
        .int(parts)
        .int(images)
        .int(count)
        .blocks([count, 1, 1], 32)?;
    Ok(gradient)
}
