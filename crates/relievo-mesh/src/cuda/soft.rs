//! Soft faces on a GPU.

use relievo_tensor::cuda::{Kernels, Launch};
use relievo_tensor::{Device, Result, Tensor};

use super::raster::{Drawn, Sorted};
use super::resolve::{MOST_WARPS, gather};
use super::shade::{OfParts, Outputs, Painted, describe};
use super::{THREADS, Table, blocks, empty, kernels, launch, room, scan, zeros};
use crate::raster::Geometry;

/// `soft.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("soft", "scan.cuh", "paint.cuh", "points.cuh");

/// As `soft.cu` has it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Softness {
    /// Of sigma, and of the distance beyond which faces are left out; in pixels.
    pub square: f64,
    pub reach: f64,
    pub per_pixel: i32,
    pub unused: i32,
}

/// What surfaces look like, and the background.
#[derive(Clone, Copy)]
pub(crate) struct Paint<'a> {
    pub painted: &'a [Painted<'a>],
    pub background: &'a Tensor,
}

/// The faces that reach each bin, in the order of their numbers.
pub(crate) fn sorted(drawn: &Drawn, softness: Softness, device: Device) -> Result<Sorted> {
    // A little more for rounding: whether a face reaches a sample is decided there.
    let reach = softness.reach.sqrt() * f64::from(softness.per_pixel);
    let mut sorted = drawn.within((reach * (1.0 + 1e-6)) as f32, device)?;
    sorted.ordered()?;
    Ok(sorted)
}

/// Alpha of the samples if it is wanted, their colours if there is paint, and what the way back needs.
pub(crate) fn forward(
    drawn: &Drawn,
    sorted: &Sorted,
    softness: Softness,
    numbers: &Tensor,
    alpha: bool,
    paint: Option<Paint<'_>>,
) -> Result<(Option<Tensor>, Option<Tensor>, Tensor)> {
    let (device, shape) = (numbers.device(), numbers.shape());
    let extents = [shape[0], shape[1], shape[2]];
    let wide = [shape[0], shape[1], shape[2], 3];
    let mut alpha = alpha.then(|| empty(device, extents)).transpose()?;
    let mut colours = paint.is_some().then(|| empty(device, wide)).transpose()?;
    let mut kept = empty(device, wide)?;
    let begun = launch(device, &KERNELS, "mix")?
        .optional_output(alpha.as_mut())
        .optional_output(colours.as_mut())
        .output(&mut kept)
        .input(&sorted.faces)
        .input(&sorted.starts)
        .input(&sorted.list);
    let begun = drawn.images.input(begun);
    let (begun, backgrounds) = match paint {
        Some(Paint { painted, background }) => {
            let table = describe(painted, None, device)?;
            (table.input(begun).input(background), background.numel() / 3)
        }
        None => (begun.optional_input(None::<&Tensor>).optional_input(None::<&Tensor>), 1),
    };
    begun
        .structure(sorted.raster)
        .structure(softness)
        .int(drawn.part_count)
        .int(backgrounds)
        .blocks([sorted.bins, 1, 1], THREADS)?;
    Ok((alpha, colours, kept))
}

/// Gradients of what was made, and what is needed for the way back.
#[derive(Clone, Copy)]
pub(crate) struct Upstream<'a> {
    pub alpha: Option<&'a Tensor>,
    /// The gradient, and the colours.
    pub colour: Option<[&'a Tensor; 2]>,
    pub kept: &'a Tensor,
}

/// Gradients of vertices, the background, and light and colours.
pub(crate) struct Gradients {
    pub vertices: Vec<Tensor>,
    pub background: Option<Tensor>,
    pub parts: OfParts,
}

/// Which gradients are wanted: that of the background, and those of light and colours of each part.
pub(crate) struct Wanted {
    pub background: bool,
    pub parts: Vec<[bool; 2]>,
}

/// The gradients. In one function, because each launch fills or reads what those before it have made.
pub(crate) fn backward(
    drawn: &Drawn,
    sorted: &Sorted,
    softness: Softness,
    geometries: &[Geometry],
    upstream: Upstream<'_>,
    paint: Option<Paint<'_>>,
    wanted: &Wanted,
) -> Result<Gradients> {
    let (device, count) = (upstream.kept.device(), drawn.count);
    let paint = paint.filter(|_| upstream.colour.is_some());
    let mut outputs = Outputs::default();
    let (parts, sums) = outputs.of_parts(paint.map_or(&[], |paint| paint.painted), &wanted.parts)?;
    let scattered = outputs.count > 0;
    let like = |paint: &Paint<'_>| paint.background.empty_like(paint.background.shape());
    let background = paint.filter(|_| wanted.background).as_ref().map(like).transpose()?;
    let behind = background.as_ref().map(|gradient| outputs.add(gradient, 2)).transpose()?;
    let table = paint.map(|paint| describe(paint.painted, Some(&sums), device)).transpose()?;
    let mut counts = zeros(device, [count])?;
    launch(device, &KERNELS, "count_bins")?
        .output(&mut counts)
        .input(&sorted.faces)
        .structure(sorted.raster)
        .int(count)
        .elements(count)?;
    let [starts, _] = scan::scan(&KERNELS, &counts)?;
    let items = Items { drawn, sorted, softness, upstream, table: table.as_ref(), starts: &starts };
    let mut largest = zeros(device, [3])?;
    let mut of_items = empty(device, [sorted.touched, 18])?;
    let begun = launch(device, &KERNELS, "gradients")?.output(&mut of_items).output(&mut largest);
    items
        .input(begun)
        .int(drawn.part_count)
        .int(drawn.image_count)
        .int(count)
        .blocks(items.blocks(), THREADS)?;
    let mut corners = empty(device, [count, 9])?;
    let begun = launch(device, &KERNELS, "of_corners")?
        .output(&mut corners)
        .input(&of_items)
        .input(&starts)
        .input(&sorted.faces);
    drawn
        .images
        .input(begun)
        .structure(sorted.raster)
        .structure(softness)
        .int(drawn.image_count)
        .int(count)
        .elements(count)?;
    if let (Some(paint), Some([dcolours, _])) = (paint, upstream.colour) {
        let samples = dcolours.numel() / 3;
        let per_image = samples / drawn.image_count.max(1);
        // A sample is mixed of all faces at most.
        let most = usize::try_from(1_u64 << 40).unwrap_or(usize::MAX / 2);
        let terms = samples.saturating_mul(drawn.count.max(1)).min(most);
        let rooms = [terms, terms, samples].map(room);
        if behind.is_some() {
            launch(device, &KERNELS, "look_behind")?
                .output(&mut largest)
                .input(dcolours)
                .input(upstream.kept)
                .structure(sorted.raster)
                .blocks(blocks(per_image, drawn.image_count), THREADS)?;
        }
        let mut fixed = zeros(device, [outputs.count, 2])?;
        let argument = rooms.map(|room| room as i32);
        if scattered {
            let begun = launch(device, &KERNELS, "scatter")?.output(&mut fixed).input(&largest);
            items
                .input(begun)
                .structure(argument)
                .int(drawn.part_count)
                .int(drawn.image_count)
                .int(count)
                .blocks(items.blocks(), THREADS)?;
        }
        if let Some(first) = behind {
            launch(device, &KERNELS, "scatter_behind")?
                .output(&mut fixed)
                .input(&largest)
                .input(dcolours)
                .input(upstream.kept)
                .structure(sorted.raster)
                .structure(argument)
                .int(first)
                .int(paint.background.numel() / 3)
                .blocks(blocks(per_image, drawn.image_count), THREADS)?;
        }
        outputs.write(&KERNELS, &fixed, &largest, rooms)?;
    }
    Ok(Gradients { vertices: gather(geometries, &corners)?, background, parts })
}

/// Faces and the bins that they reach, and what kernels read of them.
struct Items<'a> {
    drawn: &'a Drawn,
    sorted: &'a Sorted,
    softness: Softness,
    upstream: Upstream<'a>,
    table: Option<&'a Table>,
    starts: &'a Tensor,
}

impl Items<'_> {
    fn input(&self, launch: Launch) -> Launch {
        let Upstream { alpha, colour, kept } = self.upstream;
        let begun = self
            .drawn
            .images
            .input(launch.input(self.starts).input(&self.sorted.faces))
            .optional_input(alpha)
            .optional_input(colour.map(|[gradient, _]| gradient))
            .input(kept)
            .optional_input(colour.map(|[_, colours]| colours));
        let begun = match self.table {
            Some(table) => table.input(begun),
            None => begun.optional_input(None::<&Tensor>),
        };
        begun.structure(self.sorted.raster).structure(self.softness)
    }

    /// A warp for each, at most.
    fn blocks(&self) -> [usize; 3] {
        [self.sorted.touched.min(MOST_WARPS).div_ceil(THREADS / 32), 1, 1]
    }
}
