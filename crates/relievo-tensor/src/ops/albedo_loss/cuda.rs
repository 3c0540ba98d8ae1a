//! The albedo losses on a GPU: a thread for each pixel, sums of parts in a fixed order.

use super::Layout;
use crate::cuda::{self, Kernels};
use crate::{DataType, Error, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "albedo_loss", source: include_str!("kernel.cu") };

/// Threads of a block; the kernels count on it.
const THREADS: usize = 256;

impl Layout {
    /// Pixels of all reconstructions.
    fn pixels(self) -> usize {
        self.count * self.height * self.width
    }
}

/// The losses of all parts and the slopes of all pixels.
pub(super) fn forward(layout: Layout, inputs: [&Tensor; 4]) -> Result<[Tensor; 2]> {
    let [albedo, depth, mask, image] = inputs;
    if inputs.iter().any(|input| input.data_type() != DataType::F32) {
        return Err(Error::shape("albedo_loss", "takes f32 only"));
    }
    let mut slopes = albedo.empty_like(albedo.shape())?;
    cuda::launch(albedo.device(), &KERNELS, "slopes", DataType::F32)?
        .output(&mut slopes)
        .input(albedo)
        .input(depth)
        .input(image)
        .int(layout.images)
        .int(layout.height)
        .int(layout.width)
        .int(layout.pixels())
        .elements(layout.pixels())?;
    let mut losses = Tensor::empty_on(albedo.device(), DataType::F32, [layout.parts])?;
    cuda::launch(albedo.device(), &KERNELS, "losses", DataType::F32)?
        .output(&mut losses)
        .input(&slopes)
        .input(mask)
        .int(layout.pixels() / layout.parts)
        .blocks([layout.parts, 1, 1], THREADS)?;
    Ok([losses, slopes])
}

/// The gradients of albedo and depth, from albedo, depth, mask, image and slopes.
pub(super) fn backward(
    layout: Layout,
    [albedo, depth, mask, image, slopes]: [&Tensor; 5],
    dy: &Tensor,
) -> Result<[Tensor; 2]> {
    let mut dalbedo = albedo.empty_like(albedo.shape())?;
    let mut ddepth = depth.empty_like(depth.shape())?;
    cuda::launch(albedo.device(), &KERNELS, "backward", DataType::F32)?
        .output(&mut dalbedo)
        .output(&mut ddepth)
        .input(albedo)
        .input(depth)
        .input(mask)
        .input(image)
        .input(slopes)
        .input(dy)
        .int(layout.images)
        .int(layout.height)
        .int(layout.width)
        .int(layout.pixels() / layout.parts)
        .int(layout.pixels())
        .elements(layout.pixels())?;
    Ok([dalbedo, ddepth])
}
