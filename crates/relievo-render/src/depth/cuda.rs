//! Depths on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Result, Tensor};

use super::{BORDER, DepthRange};
use crate::cuda::{kernels, launch};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("depth");

/// Threads that share a picture whose mean is taken.
const THREADS: usize = 1024;

/// Depth, and, if it will be needed, what [`from_raw_backward`] works from.
pub(super) fn from_raw(
    range: DepthRange,
    raw: &Tensor,
    [batch, pixels]: [usize; 2],
    is_recording: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let mut depth = raw.scratch_like(raw.shape())?;
    let mut squashed = is_recording.then(|| raw.scratch_like(raw.shape())).transpose()?;
    launch(raw, &KERNELS, "from_raw")?
        .output(&mut depth)
        .optional_output(squashed.as_mut())
        .input(raw)
        .float((range.max + range.min) / 2.0)
        .float(range.margin())
        .int(pixels)
        .blocks([batch, 1, 1], THREADS)?;
    Ok((depth, squashed))
}

pub(super) fn from_raw_backward(
    range: DepthRange,
    squashed: &Tensor,
    dy: &Tensor,
    [batch, pixels]: [usize; 2],
) -> Result<Tensor> {
    let mut draw = squashed.scratch_like(squashed.shape())?;
    launch(squashed, &KERNELS, "from_raw_backward")?
        .output(&mut draw)
        .input(squashed)
        .input(dy)
        .float(range.margin())
        .int(pixels)
        .blocks([batch, 1, 1], THREADS)?;
    Ok(draw)
}

pub(super) fn with_border(maps: &Tensor, columns: usize, value: f32) -> Result<Tensor> {
    let (mut result, count) = (maps.scratch_like(maps.shape())?, maps.elements());
    launch(maps, &KERNELS, "with_border")?
        .output(&mut result)
        .input(maps)
        .float(value)
        .int(BORDER)
        .int(columns)
        .int(count)
        .elements(count)?;
    Ok(result)
}

pub(super) fn clamp([low, high]: [f32; 2], depth: &Tensor) -> Result<Tensor> {
    let (mut clamped, count) = (depth.scratch_like(depth.shape())?, depth.elements());
    launch(depth, &KERNELS, "clamp")?
        .output(&mut clamped)
        .input(depth)
        .float(low)
        .float(high)
        .int(count)
        .elements(count)?;
    Ok(clamped)
}

pub(super) fn clamp_backward([low, high]: [f32; 2], depth: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (mut gradient, count) = (depth.scratch_like(depth.shape())?, depth.elements());
    launch(depth, &KERNELS, "clamp_backward")?
        .output(&mut gradient)
        .input(depth)
        .input(dy)
        .float(low)
        .float(high)
        .int(count)
        .elements(count)?;
    Ok(gradient)
}
