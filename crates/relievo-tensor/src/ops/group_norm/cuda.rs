//! Group normalisation on a GPU.

use super::{GroupNorm, cpu};
use crate::cuda::{Kernels, Launch};
use crate::{Backward, DataType, Error, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "group_norm", source: include_str!("kernel.cu") };

/// Threads of a block.
const BLOCK: usize = 256;

/// Blocks that keep a large GPU busy; more only make more sums to add up.
const BLOCKS: usize = 1024;

/// How x is divided among blocks.
#[derive(Clone, Copy)]
struct Division {
    pictures: usize,
    pixels: usize,
    channels: usize,
    groups: usize,
    /// Pixels of a block.
    span: usize,
    /// Blocks of a picture, along x.
    spans: usize,
    /// Blocks that share the channels, along y.
    tiles: usize,
}

/// The part of it that kernels need, as they have it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Layout {
    pictures: i32,
    pixels: i32,
    channels: i32,
    groups: i32,
    span: i32,
    spans: i32,
}

impl Division {
    fn new(layout: cpu::Layout, x: &Tensor) -> Self {
        let cpu::Layout { positions: pixels, channels, groups } = layout;
        let pictures = x.shape()[0];
        let columns = if channels % 4 == 0 { channels / 4 } else { channels };
        let (tiles, rows) = (columns.div_ceil(BLOCK), BLOCK / columns.min(BLOCK));
        // Every thread should have some pixels to read at once, and a block enough of them to be worth its sums.
        let turns = (pictures * tiles * pixels.div_ceil(rows)).div_ceil(BLOCKS).clamp(4, 64);
        let span = turns * rows;
        Self { pictures, pixels, channels, groups, span, spans: pixels.div_ceil(span), tiles }
    }

    fn layout(self) -> Layout {
        // Each is at most a picture's number of elements; no picture has 2^31.
        let [pictures, pixels, channels] = [self.pictures, self.pixels, self.channels].map(|n| n as i32);
        let [groups, span, spans] = [self.groups, self.span, self.spans].map(|n| n as i32);
        Layout { pictures, pixels, channels, groups, span, spans }
    }

    fn blocks(self) -> [usize; 3] {
        [self.pictures * self.spans, self.tiles, 1]
    }

    /// Room for two f64 for each span and channel.
    fn pairs(self, x: &Tensor) -> Result<Tensor> {
        let doubles = self.pictures * self.spans * 2 * self.channels;
        Tensor::scratch_on(x.device(), DataType::F32, [2 * doubles])
    }

    /// A kernel for elements as those of `x`.
    fn launch(self, x: &Tensor, kernel: &'static str) -> Result<Launch> {
        Launch::new(x.device(), &KERNELS, kernel, x.data_type())
    }
}

/// y and the statistics `[B,groups,2]` (mean, 1 / sqrt(variance + eps)).
pub(super) fn forward(
    operation: &GroupNorm,
    layout: cpu::Layout,
    [x, weight, bias]: [&Tensor; 3],
) -> Result<(Tensor, Tensor)> {
    if [weight, bias].iter().any(|parameter| parameter.data_type() != DataType::F32) {
        let detail =
            format!("weight and bias in {:?} and {:?}, not f32", weight.data_type(), bias.data_type());
        return Err(Error::shape("group_norm", detail));
    }
    let division = Division::new(layout, x);
    let groups = division.pictures * division.groups;
    let mut pairs = division.pairs(x)?;
    let mut statistics =
        Tensor::scratch_on(x.device(), DataType::F32, [division.pictures, division.groups, 2])?;
    let mut y = x.scratch_like(x.shape())?;
    let launch = |kernel| division.launch(x, kernel);
    launch("moments")?
        .output(&mut pairs)
        .input(x)
        .structure(division.layout())
        .blocks(division.blocks(), BLOCK)?;
    launch("statistics")?
        .output(&mut statistics)
        .input(&pairs)
        .float(operation.eps)
        .structure(division.layout())
        .elements(groups * 32)?;
    launch("normalise")?
        .output(&mut y)
        .input(x)
        .input(weight)
        .input(bias)
        .input(&statistics)
        .int(operation.activation.number())
        .structure(division.layout())
        .blocks(division.blocks(), BLOCK)?;
    Ok((y, statistics))
}

pub(super) fn backward(
    operation: &GroupNorm,
    layout: cpu::Layout,
    backward: &Backward<'_>,
) -> Result<Vec<Option<Tensor>>> {
    let [x, weight, bias, statistics] = backward.saved else { unreachable!("four tensors were saved") };
    let dy = backward.gradient();
    let division = Division::new(layout, x);
    let groups = division.pictures * division.groups;
    let mut pairs = division.pairs(x)?;
    let mut corrections = statistics.scratch_like(statistics.shape())?;
    let [mut dweight, mut dbias] = [weight.scratch_like(weight.shape())?, bias.scratch_like(bias.shape())?];
    let launch = |kernel| division.launch(x, kernel);
    let kind = operation.activation.number();
    launch("gradient_sums")?
        .output(&mut pairs)
        .input(x)
        .input(dy)
        .input(weight)
        .input(bias)
        .input(statistics)
        .int(kind)
        .structure(division.layout())
        .blocks(division.blocks(), BLOCK)?;
    launch("finish_gradients")?
        .output(&mut corrections)
        .output(&mut dweight)
        .output(&mut dbias)
        .input(&pairs)
        .input(weight)
        .input(statistics)
        .structure(division.layout())
        .blocks([groups.div_ceil(BLOCK / 32) + division.channels, 1, 1], BLOCK)?;
    let mut dx = None;
    if backward.wants(0) {
        let dx = dx.insert(x.scratch_like(x.shape())?);
        launch("input_gradient")?
            .output(dx)
            .input(x)
            .input(dy)
            .input(weight)
            .input(bias)
            .input(statistics)
            .input(&corrections)
            .int(kind)
            .structure(division.layout())
            .blocks(division.blocks(), BLOCK)?;
    }
    Ok(vec![dx, Some(dweight), Some(dbias)])
}
