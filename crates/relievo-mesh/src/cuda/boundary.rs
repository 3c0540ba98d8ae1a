//! The boundary integral on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Result, Tensor};

use super::resolve::{Batch, MOST_WARPS, Upstream};
use super::shade::{Painted, describe};
use super::topology::Topology;
use super::{THREADS, empty, kernels, launch};

/// `boundary.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("boundary", "parts.cuh", "paint.cuh", "points.cuh");

/// Where edges are looked at, as `boundary.cu` has it: one of both numbers is 0.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Places {
    pub per_pixel: i32,
    pub per_edge: i32,
    pub seed: u64,
}

/// What the integral needs beside the gradients of images.
pub(crate) struct Boundary<'a> {
    pub places: Places,
    /// Depth and covered share of pixels, if only covered samples count in depths.
    pub depths: Option<[&'a Tensor; 2]>,
    /// What surfaces look like, and the background, if there is colour.
    pub paint: Option<(&'a [Painted<'a>], &'a Tensor)>,
}

/// Adds to what the corners of each face get, `[F, 9]`.
pub(crate) fn add_to_corners(
    batch: &Batch<'_>,
    upstream: &Upstream<'_>,
    boundary: &Boundary<'_>,
    corners: &mut Tensor,
) -> Result<()> {
    let (device, drawn) = (corners.device(), batch.drawn);
    let sorted = drawn.within(0.0, device)?;
    let topology = Topology::new(drawn, &sorted)?;
    let mut found = empty(device, [drawn.count, 3, 4])?;
    let paint = match &boundary.paint {
        Some((painted, background)) => Some((describe(painted, None, device)?, *background)),
        None => None,
    };
    let begun = launch(device, &KERNELS, "boundary")?
        .output(&mut found)
        .input(&sorted.faces)
        .input(&sorted.starts)
        .input(&sorted.list);
    let begun = drawn
        .images
        .input(drawn.parts.input(begun))
        .input(&topology.corners)
        .input(&topology.edges)
        .input(&topology.owners)
        .input(&topology.counts)
        .optional_input(upstream.alpha)
        .optional_input(upstream.colour.filter(|_| paint.is_some()).map(|[gradient, _]| gradient))
        .optional_input(upstream.depth)
        .optional_input(boundary.depths.map(|[depths, _]| depths))
        .optional_input(boundary.depths.map(|[_, shares]| shares));
    let begun = match &paint {
        Some((table, background)) => table.input(begun).input(*background),
        None => begun.optional_input(None::<&Tensor>).optional_input(None::<&Tensor>),
    };
    begun
        .structure(sorted.raster)
        .structure(boundary.places)
        .int(batch.settings.per_pixel as usize)
        .int(drawn.part_count)
        .int(paint.as_ref().map_or(1, |(_, background)| background.numel() / 3))
        .int(drawn.count)
        .blocks([(3 * drawn.count).min(MOST_WARPS).div_ceil(THREADS / 32), 1, 1], THREADS)?;
    let begun = launch(device, &KERNELS, "add_boundary")?.output(corners).input(&found).input(&sorted.faces);
    drawn
        .images
        .input(begun)
        .input(&topology.corners)
        .input(&topology.edges)
        .input(&topology.owners)
        .int(drawn.image_count)
        .int(drawn.count)
        .elements(drawn.count)?;
    Ok(())
}
