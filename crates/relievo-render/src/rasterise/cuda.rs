//! The rasteriser on a GPU.

use relievo_tensor::cuda::{Kernels, kernel_int};
use relievo_tensor::{Backward, Result, Tensor};

use super::{RasteriseDepth, in_samples};
use crate::cuda::{THREADS, blocks, empty, kernels, launch};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("rasterise_depth");

/// Camera and settings as `kernel.cu` has them.
#[derive(Clone, Copy)]
#[repr(C)]
struct RasterArgument {
    size: i32,
    per_pixel: i32,
    focal: f32,
    centre: f32,
    offset: f32,
    near: f32,
    far: f32,
    low: f32,
    high: f32,
}

impl RasteriseDepth {
    fn argument(&self) -> Result<RasterArgument> {
        let (size, per_pixel) = (self.camera.size, self.settings.supersampling);
        let [focal, centre] = in_samples(&self.camera, per_pixel);
        Ok(RasterArgument {
            size: kernel_int(size, "rasterise_depth")?,
            per_pixel: kernel_int(per_pixel, "rasterise_depth")?,
            focal,
            centre,
            offset: self.settings.raster(size).offset,
            near: self.settings.near,
            far: self.settings.far,
            low: self.limits[0],
            high: self.limits[1],
        })
    }

    /// Triangles of an image.
    fn triangles(&self) -> usize {
        2 * (self.camera.size - 1) * (self.camera.size - 1)
    }
}

/// The depth, and the winners if they will be needed.
pub(super) fn forward(
    operation: &RasteriseDepth,
    points: &Tensor,
    batch: usize,
    is_recording: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (device, size) = (points.device(), operation.camera.size);
    let samples = size * operation.settings.supersampling;
    // Of 64 bits each.
    let mut offers = empty(device, [batch, samples, samples, 2])?;
    offers.clear()?;
    launch(points, &KERNELS, "cover")?
        .output(&mut offers)
        .input(points)
        .structure(operation.argument()?)
        .blocks(blocks(operation.triangles(), batch), THREADS)?;
    let mut depth = empty(device, [batch, size, size])?;
    let mut winners = is_recording.then(|| empty(device, [batch, samples, samples])).transpose()?;
    launch(points, &KERNELS, "resolve")?
        .output(&mut depth)
        .optional_output(winners.as_mut())
        .input(&offers)
        .structure(operation.argument()?)
        .blocks(blocks(size * size, batch), THREADS)?;
    Ok((depth, winners))
}

pub(super) fn backward(operation: &RasteriseDepth, backward: &Backward<'_>) -> Result<Tensor> {
    let (points, winners) = (&backward.saved[0], &backward.saved[1]);
    let [batch, rows, columns, _] = points.dims("rasterise_depth")?;
    let mut gradients = empty(points.device(), [batch, 9, operation.triangles()])?;
    launch(points, &KERNELS, "triangle_gradients")?
        .output(&mut gradients)
        .input(points)
        .input(winners)
        .input(backward.gradient())
        .structure(operation.argument()?)
        .blocks(blocks(operation.triangles(), batch), THREADS)?;
    let mut dpoints = points.empty_like(points.shape())?;
    launch(points, &KERNELS, "corner_gradients")?
        .output(&mut dpoints)
        .input(points)
        .input(&gradients)
        .structure(operation.argument()?)
        .blocks(blocks(rows * columns, batch), THREADS)?;
    Ok(dpoints)
}
