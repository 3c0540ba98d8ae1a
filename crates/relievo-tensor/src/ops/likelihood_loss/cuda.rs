//! Photometric and perceptual loss on a GPU.

use super::LikelihoodLoss;
use super::cpu::{Layout, Likelihood};
use crate::cuda::{self, Kernels};
use crate::{DataType, Error, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "likelihood_loss", source: include_str!("kernel.cu") };

/// Threads of a block; the kernels count on it.
const THREADS: usize = 256;

/// Pixels with fewer channels belong to one thread.
const FEW_CHANNELS: usize = 8;

/// What all kernels take.
struct Shape {
    laplace: usize,
    halves: usize,
    pixels: usize,
    channels: usize,
    /// Threads that share a pixel.
    lanes: usize,
}

impl Shape {
    fn new(likelihood: Likelihood, layout: Layout) -> Self {
        Self {
            laplace: usize::from(matches!(likelihood, Likelihood::Laplace)),
            halves: layout.halves,
            pixels: layout.rows * layout.width,
            channels: layout.channels,
            lanes: if layout.channels < FEW_CHANNELS { 1 } else { 32 },
        }
    }

    /// Blocks for one half.
    fn blocks(&self) -> usize {
        (self.pixels * self.lanes).div_ceil(THREADS)
    }
}

/// Refuses a prediction and a target of two types.
fn check_types(name: &'static str, prediction: &Tensor, target: &Tensor) -> Result<()> {
    if prediction.data_type() == target.data_type() {
        return Ok(());
    }
    let detail =
        format!("a prediction of {:?} for a target of {:?}", prediction.data_type(), target.data_type());
    Err(Error::shape(name, detail))
}

/// The losses of the halves, and one over the sum of the mask in all channels.
pub(super) fn forward(
    loss: &LikelihoodLoss,
    layout: Layout,
    [prediction, target, mask]: [&Tensor; 3],
    confidence: Option<&Tensor>,
) -> Result<[Tensor; 2]> {
    check_types(loss.name, prediction, target)?;
    let (device, shape) = (prediction.device(), Shape::new(loss.likelihood, layout));
    // Numbers of 64 bits, in twice as many of 32.
    let mut sums = Tensor::empty_on(device, DataType::F32, [shape.halves + 1, shape.blocks(), 2])?;
    cuda::launch(device, &KERNELS, "sums", prediction.data_type())?
        .output(&mut sums)
        .input(prediction)
        .input(target)
        .input(mask)
        .optional_input(confidence)
        .int(shape.laplace)
        .int(shape.pixels)
        .int(shape.channels)
        .int(shape.lanes)
        .blocks([shape.blocks(), shape.halves, 1], THREADS)?;
    let mut losses = Tensor::empty_on(device, DataType::F32, [shape.halves])?;
    let mut share = Tensor::empty_on(device, DataType::F32, [])?;
    cuda::launch(device, &KERNELS, "means", prediction.data_type())?
        .output(&mut losses)
        .output(&mut share)
        .input(&sums)
        .int(shape.halves)
        .int(shape.blocks())
        .int(shape.channels)
        .blocks([1, 1, 1], THREADS)?;
    Ok([losses, share])
}

pub(super) fn prediction_gradient(
    loss: &LikelihoodLoss,
    layout: Layout,
    [prediction, target, mask]: [&Tensor; 3],
    confidence: Option<&Tensor>,
    [dy, share]: [&Tensor; 2],
) -> Result<Tensor> {
    let shape = Shape::new(loss.likelihood, layout);
    let mut gradient = prediction.empty_like(prediction.shape())?;
    let each = if shape.channels.is_multiple_of(4) { 4 } else { 1 };
    cuda::launch(prediction.device(), &KERNELS, "prediction_gradient", prediction.data_type())?
        .output(&mut gradient)
        .input(prediction)
        .input(target)
        .input(mask)
        .optional_input(confidence)
        .input(dy)
        .input(share)
        .int(shape.laplace)
        .int(shape.halves)
        .int(shape.pixels)
        .int(shape.channels)
        .elements(prediction.numel() / each)?;
    Ok(gradient)
}

pub(super) fn confidence_gradient(
    loss: &LikelihoodLoss,
    layout: Layout,
    [prediction, target, mask]: [&Tensor; 3],
    confidence: &Tensor,
    [dy, share]: [&Tensor; 2],
) -> Result<Tensor> {
    let shape = Shape::new(loss.likelihood, layout);
    let mut gradient = confidence.empty_like(confidence.shape())?;
    cuda::launch(prediction.device(), &KERNELS, "confidence_gradient", prediction.data_type())?
        .output(&mut gradient)
        .input(prediction)
        .input(target)
        .input(mask)
        .input(confidence)
        .input(dy)
        .input(share)
        .int(shape.laplace)
        .int(shape.pixels)
        .int(shape.channels)
        .int(shape.lanes)
        .blocks([shape.blocks(), shape.halves, 1], THREADS)?;
    Ok(gradient)
}
