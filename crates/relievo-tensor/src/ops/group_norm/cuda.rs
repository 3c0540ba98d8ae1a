//! Group normalisation on a GPU.

use super::{GroupNorm, cpu};
use crate::cuda::{self, Kernels, Launch, kernel_int};
use crate::{Backward, DataType, Error, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "group_norm",
    source: concat!(
        include_str!("../activation/functions.cuh"),
        "\n#line 1 \"group_norm.cu\"\n",
        include_str!("kernel.cu"),
    ),
};

/// Threads of a block.
const BLOCK: usize = 256;

/// Blocks that keep a large GPU busy; more only make more sums to add up.
const BLOCKS: usize = 1024;

/// The most pixels of an image that one block does by itself. With more, too few blocks would take too many turns.
const WHOLE: usize = 1024;

/// Bytes that memory gives at once.
const SECTOR: usize = 32;

/// How x is divided among blocks.
#[derive(Clone, Copy)]
struct Division {
    images: usize,
    pixels: usize,
    channels: usize,
    groups: usize,
    /// Pixels of a block.
    span: usize,
    /// Blocks of an image, along x.
    spans: usize,
    /// Columns of a block.
    tile: usize,
    /// Blocks that share the channels, along y.
    tiles: usize,
    /// Whether a block has all pixels of whole groups.
    is_whole: bool,
}

/// The part of it that kernels need, as they have it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Layout {
    images: i32,
    pixels: i32,
    channels: i32,
    groups: i32,
    span: i32,
    spans: i32,
    tile: i32,
}

impl Division {
    fn new(layout: cpu::Layout, x: &Tensor) -> Self {
        let cpu::Layout { positions: pixels, channels, groups } = layout;
        let images = x.shape()[0];
        let columns = if channels % 4 == 0 { channels / 4 } else { channels };
        let tiles = columns.div_ceil(BLOCK);
        let many =
            Self { images, pixels, channels, groups, span: 0, spans: 0, tile: BLOCK, tiles, is_whole: false };
        if let Some(tile) = whole_tile(layout, x.data_type()) {
            return Self { span: pixels, spans: 1, tile, tiles: columns / tile, is_whole: true, ..many };
        }
        let rows = BLOCK / columns.min(BLOCK);
        // Every thread should have some pixels to read at once, and a block enough of them to be worth its sums.
        let turns = (images * tiles * pixels.div_ceil(rows)).div_ceil(BLOCKS).clamp(4, 64);
        let span = turns * rows;
        Self { span, spans: pixels.div_ceil(span), ..many }
    }

    fn layout(self) -> Result<Layout> {
        let int = |extent| kernel_int(extent, "group_norm");
        Ok(Layout {
            images: int(self.images)?,
            pixels: int(self.pixels)?,
            channels: int(self.channels)?,
            groups: int(self.groups)?,
            span: int(self.span)?,
            spans: int(self.spans)?,
            tile: int(self.tile)?,
        })
    }

    fn blocks(self) -> [usize; 3] {
        [self.images * self.spans, self.tiles, 1]
    }

    /// Room for two f64 for each span and channel.
    fn pairs(self, x: &Tensor) -> Result<Tensor> {
        let doubles = self.images * self.spans * 2 * self.channels;
        Tensor::empty_on(x.device(), DataType::F32, [2 * doubles])
    }

    /// A kernel for elements as those of `x`.
    fn launch(self, x: &Tensor, kernel: &'static str) -> Result<Launch> {
        cuda::launch(x.device(), &KERNELS, kernel, x.data_type())
    }
}

/// Columns for a block that has all pixels of whole groups; `None` where there are too many pixels for that.
fn whole_tile(layout: cpu::Layout, data_type: DataType) -> Option<usize> {
    let cpu::Layout { positions, channels, groups } = layout;
    if channels % 4 != 0 || positions > WHOLE {
        return None;
    }
    // As few as read whole sectors and give every thread a pixel.
    let columns = channels / 4;
    let least = (SECTOR / (4 * data_type.bytes())).max(BLOCK / positions).min(columns);
    let fits = |tile: &usize| columns.is_multiple_of(*tile) && (4 * tile).is_multiple_of(channels / groups);
    (least..=BLOCK.min(columns)).find(fits)
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
    let groups = division.images * division.groups;
    let mut statistics = Tensor::empty_on(x.device(), DataType::F32, [division.images, division.groups, 2])?;
    let mut y = x.empty_like(x.shape())?;
    let (launch, structure) = (|kernel| division.launch(x, kernel), division.layout()?);
    if division.is_whole {
        launch("whole")?
            .output(&mut y)
            .output(&mut statistics)
            .input(x)
            .input(weight)
            .input(bias)
            .float(operation.eps)
            .int(operation.activation.number())
            .structure(structure)
            .blocks(division.blocks(), BLOCK)?;
        return Ok((y, statistics));
    }
    let mut pairs = division.pairs(x)?;
    launch("moments")?.output(&mut pairs).input(x).structure(structure).blocks(division.blocks(), BLOCK)?;
    launch("statistics")?
        .output(&mut statistics)
        .input(&pairs)
        .float(operation.eps)
        .structure(structure)
        .elements(groups * 32)?;
    launch("normalise")?
        .output(&mut y)
        .input(x)
        .input(weight)
        .input(bias)
        .input(&statistics)
        .int(operation.activation.number())
        .structure(structure)
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
    let mut pairs = division.pairs(x)?;
    let mut dx = backward.wants(0).then(|| x.empty_like(x.shape())).transpose()?;
    let [mut dweight, mut dbias] = [weight.empty_like(weight.shape())?, bias.empty_like(bias.shape())?];
    let (launch, structure) = (|kernel| division.launch(x, kernel), division.layout()?);
    let kind = operation.activation.number();
    // What `input_gradient` needs; `whole_gradient` finds it by itself.
    let groups = division.images * division.groups;
    let mut corrections = None;
    match &mut dx {
        Some(dx) if division.is_whole => launch("whole_gradient")?.output(dx),
        _ => {
            corrections = Some(statistics.empty_like(statistics.shape())?);
            launch("gradient_sums")?
        }
    }
    .output(&mut pairs)
    .input(x)
    .input(dy)
    .input(weight)
    .input(bias)
    .input(statistics)
    .int(kind)
    .structure(structure)
    .blocks(division.blocks(), BLOCK)?;
    let group_blocks = if corrections.is_some() { groups.div_ceil(BLOCK / 32) } else { 0 };
    launch("finish_gradients")?
        .optional_output(corrections.as_mut())
        .output(&mut dweight)
        .output(&mut dbias)
        .input(&pairs)
        .input(weight)
        .input(statistics)
        .structure(structure)
        .blocks([group_blocks + division.channels, 1, 1], BLOCK)?;
    if let (Some(dx), Some(corrections)) = (&mut dx, &corrections) {
        launch("input_gradient")?
            .output(dx)
            .input(x)
            .input(dy)
            .input(weight)
            .input(bias)
            .input(statistics)
            .input(corrections)
            .int(kind)
            .structure(structure)
            .blocks(division.blocks(), BLOCK)?;
    }
    Ok(vec![dx, Some(dweight), Some(dbias)])
}
