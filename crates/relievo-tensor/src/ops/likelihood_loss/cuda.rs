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
    pixels: usize,
    channels: usize,
    /// Threads that share a pixel.
    lanes: usize,
    /// Predictions of each target.
    halves: usize,
    /// Groups whose means are taken apart; a part is a group of one half.
    groups: usize,
    own_masks: usize,
}

impl Shape {
    fn new(likelihood: Likelihood, layout: Layout) -> Self {
        Self {
            laplace: usize::from(matches!(likelihood, Likelihood::Laplace)),
            pixels: layout.rows * layout.width,
            channels: layout.channels,
            lanes: if layout.channels < FEW_CHANNELS { 1 } else { 32 },
            halves: layout.halves,
            groups: layout.groups,
            own_masks: usize::from(layout.own_masks),
        }
    }

    /// Groups in both halves.
    fn parts(&self) -> usize {
        self.halves * self.groups
    }

    /// Blocks for one part.
    fn blocks(&self) -> usize {
        (self.pixels / self.groups * self.lanes).div_ceil(THREADS)
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

/// The losses of all parts, and for each one over the sum of the mask in all channels.
pub(super) fn forward(
    loss: &LikelihoodLoss,
    layout: Layout,
    [prediction, target, mask]: [&Tensor; 3],
    confidence: Option<&Tensor>,
) -> Result<[Tensor; 2]> {
    check_types(loss.name, prediction, target)?;
    let (device, shape) = (prediction.device(), Shape::new(loss.likelihood, layout));
    // Numbers of 64 bits, in twice as many of 32.
    let mut sums = Tensor::empty_on(device, DataType::F32, [2, shape.parts(), shape.blocks(), 2])?;
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
        .int(shape.halves)
        .int(shape.groups)
        .int(shape.own_masks)
        .blocks([shape.blocks(), shape.parts(), 1], THREADS)?;
    let mut losses = Tensor::empty_on(device, DataType::F32, [shape.parts()])?;
    let mut shares = Tensor::empty_on(device, DataType::F32, [shape.parts()])?;
    cuda::launch(device, &KERNELS, "means", prediction.data_type())?
        .output(&mut losses)
        .output(&mut shares)
        .input(&sums)
        .int(shape.blocks())
        .int(shape.channels)
        .blocks([shape.parts(), 1, 1], THREADS)?;
    Ok([losses, shares])
}

pub(super) fn prediction_gradient(
    loss: &LikelihoodLoss,
    layout: Layout,
    [prediction, target, mask]: [&Tensor; 3],
    confidence: Option<&Tensor>,
    [dy, shares]: [&Tensor; 2],
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
        .input(shares)
        .int(shape.laplace)
        .int(shape.pixels)
        .int(shape.channels)
        .int(shape.halves)
        .int(shape.groups)
        .int(shape.own_masks)
        .elements(prediction.numel() / each)?;
    Ok(gradient)
}

pub(super) fn confidence_gradient(
    loss: &LikelihoodLoss,
    layout: Layout,
    [prediction, target, mask]: [&Tensor; 3],
    confidence: &Tensor,
    [dy, shares]: [&Tensor; 2],
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
        .input(shares)
        .int(shape.laplace)
        .int(shape.pixels)
        .int(shape.channels)
        .int(shape.lanes)
        .int(shape.halves)
        .int(shape.groups)
        .int(shape.own_masks)
        .blocks([shape.blocks(), shape.parts(), 1], THREADS)?;
    Ok(gradient)
}
