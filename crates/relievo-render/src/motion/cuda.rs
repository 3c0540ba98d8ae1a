//! Moving points on a GPU, and the viewpoints' gradients of any operation that moves points.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Backward, Result, Tensor};

use super::{MovePoints, VIEW};
use crate::cuda::{THREADS, blocks, kernels, launch, parts, scratch};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("move_points", "motion.cuh");

/// Sums that the gradient of a viewpoint needs.
const SUMS: usize = 12;

pub(super) fn forward(
    operation: &MovePoints,
    [points, views]: [&Tensor; 2],
    [batch, rows, columns]: [usize; 3],
) -> Result<Tensor> {
    let pixels = rows * columns;
    let mut moved = points.scratch_like(points.shape())?;
    launch(points, &KERNELS, "forward")?
        .output(&mut moved)
        .input(points)
        .input(views)
        .int(pixels)
        .int(views.elements() / VIEW)
        .int(usize::from(operation.inverse))
        .blocks(blocks(pixels, batch), THREADS)?;
    Ok(moved)
}

pub(super) fn backward(
    operation: &MovePoints,
    backward: &Backward<'_>,
    [batch, rows, columns]: [usize; 3],
) -> Result<Vec<Option<Tensor>>> {
    let pixels = rows * columns;
    let (points, views, dy) = (&backward.saved[0], &backward.saved[1], backward.gradient());
    let mut dpoints = backward.wants(0).then(|| points.scratch_like(points.shape())).transpose()?;
    let mut sums = backward.wants(1).then(|| view_sums(points, batch, pixels)).transpose()?;
    launch(points, &KERNELS, "backward")?
        .optional_output(dpoints.as_mut())
        .optional_output(sums.as_mut())
        .input(points)
        .input(views)
        .input(dy)
        .int(pixels)
        .int(views.elements() / VIEW)
        .int(usize::from(operation.inverse))
        .blocks([parts(pixels), batch, 1], THREADS)?;
    Ok(vec![dpoints, sums.map(|sums| view_gradient(&sums, views)).transpose()?])
}

/// Room for the parts of the sums that viewpoints' gradients need, `[pictures, parts, 12]`, on the device of `like`.
pub(crate) fn view_sums(like: &Tensor, pictures: usize, pixels: usize) -> Result<Tensor> {
    scratch(like.device(), [pictures, parts(pixels), SUMS])
}

/// The gradient `[B', 6]` of the views from those sums.
pub(crate) fn view_gradient(sums: &Tensor, views: &Tensor) -> Result<Tensor> {
    let [pictures, parts, _] = sums.axes("view_gradient")?;
    let count = views.elements() / VIEW;
    let mut gradient = views.scratch_like(views.shape())?;
    launch(views, &KERNELS, "view_gradient")?
        .output(&mut gradient)
        .input(sums)
        .input(views)
        .int(parts)
        .int(pictures)
        .int(count)
        .blocks([count, 1, 1], 32)?;
    Ok(gradient)
}
