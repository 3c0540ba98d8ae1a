//! Pixels from samples and back, on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Result, Tensor};

use super::{THREADS, blocks, kernels, launch};

/// `average.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("average");

/// Writes the pixels of `from`'s samples to `to` if `forward`, else the samples of `from`'s pixels. `size` are the height and
/// width of the images and their channels.
pub(crate) fn average(
    from: &Tensor,
    mut to: Tensor,
    [height, width, channels]: [usize; 3],
    per_pixel: usize,
    forward: bool,
) -> Result<Tensor> {
    let images = to.shape()[0];
    let count = to.numel() / images.max(1);
    launch(from.device(), &KERNELS, if forward { "average" } else { "spread_back" })?
        .output(&mut to)
        .input(from)
        .int(width)
        .int(height)
        .int(channels)
        .int(per_pixel)
        .blocks(blocks(count, images), THREADS)?;
    Ok(to)
}
