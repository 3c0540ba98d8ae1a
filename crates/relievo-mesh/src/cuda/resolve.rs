//! Images of samples on a GPU, and the gradient of what is seen where.

use relievo_tensor::cuda::{DevicePointer, Kernels};
use relievo_tensor::{Device, Result, Tensor};

use super::boundary::{self, Boundary};
use super::raster::Drawn;
use super::{FaceTables, THREADS, Words, blocks, empty, kernels, launch, room, scan, zeros};
use crate::raster::{Geometry, Samples};

/// `resolve.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("resolve", "scan.cuh");

/// Warps that go through the lines of faces, at most: many times those that a GPU has at work.
pub(super) const MOST_WARPS: usize = 1 << 17;

/// As `resolve.cu` has them.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Settings {
    pub per_pixel: i32,
    pub share: f32,
    pub eps: f32,
    pub covered: i32,
    pub background: f32,
}

/// What the operations of a batch share.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub drawn: &'a Drawn,
    pub geometries: &'a [Geometry],
    pub samples: Samples,
    pub numbers: &'a Tensor,
    pub settings: Settings,
}

impl Batch<'_> {
    fn device(&self) -> Device {
        self.numbers.device()
    }

    fn images(&self) -> usize {
        self.geometries.len()
    }

    /// Width and height of the images.
    fn size(&self) -> [usize; 2] {
        [self.samples.columns, self.samples.rows].map(|count| count / self.settings.per_pixel as usize)
    }

    fn per_sample(&self) -> [usize; 3] {
        blocks(self.samples.count(), self.images())
    }
}

/// Alpha, colour and depth, as far as wanted.
pub(crate) fn forward(
    batch: &Batch<'_>,
    wanted: [bool; 3],
    colours: Option<&Tensor>,
    depths: Option<&Tensor>,
) -> Result<Vec<Tensor>> {
    let (device, images, [width, height]) = (batch.device(), batch.images(), batch.size());
    let image = |wanted: bool| wanted.then(|| empty(device, [images, height, width])).transpose();
    let mut alpha = image(wanted[0])?;
    let mut colour = wanted[1].then(|| empty(device, [images, height, width, 3])).transpose()?;
    let mut depth = image(wanted[2])?;
    launch(device, &KERNELS, "means")?
        .optional_output(alpha.as_mut())
        .optional_output(colour.as_mut())
        .optional_output(depth.as_mut())
        .input(batch.numbers)
        .optional_input(colours)
        .optional_input(depths)
        .structure(batch.drawn.raster)
        .structure(batch.settings)
        .blocks(blocks(width * height, images), THREADS)?;
    Ok([alpha, colour, depth].into_iter().flatten().collect())
}

/// The gradient of the samples' colours.
pub(crate) fn spread(batch: &Batch<'_>, dcolour: &Tensor) -> Result<Tensor> {
    let Samples { columns, rows } = batch.samples;
    let mut dcolours = empty(batch.device(), [batch.images(), rows, columns, 3])?;
    launch(batch.device(), &KERNELS, "spread")?
        .output(&mut dcolours)
        .input(dcolour)
        .structure(batch.drawn.raster)
        .structure(batch.settings)
        .blocks(batch.per_sample(), THREADS)?;
    Ok(dcolours)
}

/// Gradients of images.
#[derive(Clone, Copy)]
pub(crate) struct Upstream<'a> {
    pub alpha: Option<&'a Tensor>,
    /// The gradient, and the colours of the samples.
    pub colour: Option<[&'a Tensor; 2]>,
    pub depth: Option<&'a Tensor>,
}

/// The sums of faces from the lines of their bins, and where those of each begin.
struct Swept {
    sums: Tensor,
    starts: Tensor,
}

/// Rows and columns of every image exchanged.
fn transposed(tensor: &Tensor, reverse: bool) -> Result<Tensor> {
    let (images, rows, columns, channels) = match tensor.shape()[..] {
        [images, rows, columns] => (images, rows, columns, 1),
        _ => {
            let [images, rows, columns, channels] = tensor.dims("render")?;
            (images, rows, columns, channels)
        }
    };
    let mut to = empty(tensor.device(), [images, columns, rows, channels])?;
    launch(tensor.device(), &KERNELS, "transpose")?
        .output(&mut to)
        .input(tensor)
        .int(rows)
        .int(columns)
        .int(channels)
        .int(usize::from(reverse))
        .blocks([rows.div_ceil(32) * columns.div_ceil(32), images, 1], THREADS)?;
    Ok(to)
}

/// Kato's gradient: what the corners of each face get from each of its bins.
fn sweep(batch: &Batch<'_>, upstream: &Upstream<'_>) -> Result<Swept> {
    let (device, drawn) = (batch.device(), batch.drawn);
    let mut seen = zeros(device, [drawn.count])?;
    let begun = launch(device, &KERNELS, "mark_seen")?.output(&mut seen);
    drawn
        .images
        .input(begun)
        .input(batch.numbers)
        .structure(drawn.raster)
        .blocks(batch.per_sample(), THREADS)?;
    launch(device, &KERNELS, "count_bins")?
        .output(&mut seen)
        .input(&drawn.faces)
        .structure(drawn.raster)
        .int(drawn.count)
        .elements(drawn.count)?;
    let [starts, _] = scan::scan(&KERNELS, &seen)?;
    // A face that touches a columns and b rows of bins touches a b of them: a + b is at most twice as many.
    let most = 2 * drawn.touched;
    let mut sums = empty(device, [most, 3])?;
    let [dcolour, colours] = match upstream.colour {
        Some([dcolour, colours]) => [Some(dcolour), Some(colours)],
        None => [None, None],
    };
    let across =
        |tensor: Option<&Tensor>, reverse| tensor.map(|tensor| transposed(tensor, reverse)).transpose();
    let numbers_across = transposed(batch.numbers, false)?;
    let [colours_across, dalpha_across, dcolour_across] =
        [across(colours, false)?, across(upstream.alpha, true)?, across(dcolour, true)?];
    let begun = launch(device, &KERNELS, "sweep")?.output(&mut sums).input(&starts).input(&drawn.faces);
    drawn
        .images
        .input(begun)
        .input(batch.numbers)
        .optional_input(colours)
        .optional_input(upstream.alpha)
        .optional_input(dcolour)
        .input(&numbers_across)
        .optional_input(colours_across.as_ref())
        .optional_input(dalpha_across.as_ref())
        .optional_input(dcolour_across.as_ref())
        .structure(drawn.raster)
        .structure(batch.settings)
        .int(batch.images())
        .int(drawn.count)
        .blocks([most.min(MOST_WARPS).div_ceil(THREADS / 32), 1, 1], THREADS)?;
    Ok(Swept { sums, starts })
}

/// Sums of faces in fixed point, the bits of the largest term, and the room below it.
struct Summed {
    sums: Tensor,
    largest: Tensor,
    room: usize,
}

fn sum_depth(batch: &Batch<'_>, ddepth: &Tensor) -> Result<Summed> {
    let (device, drawn) = (batch.device(), batch.drawn);
    let mut largest = zeros(device, [1])?;
    let begun = launch(device, &KERNELS, "look_depth")?.output(&mut largest).input(&drawn.faces);
    drawn
        .images
        .input(begun)
        .input(batch.numbers)
        .input(ddepth)
        .structure(drawn.raster)
        .structure(batch.settings)
        .blocks(batch.per_sample(), THREADS)?;
    let mut sums = zeros(device, [drawn.count, 3, 2])?;
    let room = room(batch.samples.count());
    let begun =
        launch(device, &KERNELS, "scatter_depth")?.output(&mut sums).input(&largest).input(&drawn.faces);
    drawn
        .images
        .input(begun)
        .input(batch.numbers)
        .input(ddepth)
        .structure(drawn.raster)
        .structure(batch.settings)
        .int(room)
        .blocks(batch.per_sample(), THREADS)?;
    Ok(Summed { sums, largest, room })
}

/// The gradients of the vertices of all parts on the screen, by edges and by depth: by edges as Kato et al. have them, or as
/// the boundary integral has them if there is one.
pub(crate) fn screen_gradients(
    batch: &Batch<'_>,
    upstream: &Upstream<'_>,
    boundary: Option<&Boundary<'_>>,
) -> Result<Vec<Tensor>> {
    let (device, drawn) = (batch.device(), batch.drawn);
    let by_edges = boundary.is_none() && (upstream.alpha.is_some() || upstream.colour.is_some());
    let swept = by_edges.then(|| sweep(batch, upstream)).transpose()?;
    let summed = upstream.depth.map(|ddepth| sum_depth(batch, ddepth)).transpose()?;
    let mut corners = empty(device, [drawn.count, 9])?;
    let begun = launch(device, &KERNELS, "face_gradients")?.output(&mut corners).input(&drawn.faces);
    drawn
        .images
        .input(begun)
        .optional_input(swept.as_ref().map(|swept| &swept.sums))
        .optional_input(swept.as_ref().map(|swept| &swept.starts))
        .optional_input(summed.as_ref().map(|summed| &summed.sums))
        .optional_input(summed.as_ref().map(|summed| &summed.largest))
        .structure(drawn.raster)
        .int(summed.as_ref().map_or(0, |summed| summed.room))
        .int(batch.images())
        .int(drawn.count)
        .elements(drawn.count)?;
    if let Some(boundary) = boundary {
        boundary::add_to_corners(batch, upstream, boundary, &mut corners)?;
    }
    gather(batch.geometries, &corners)
}

/// The gradients of the vertices of all parts, from what the corners of all faces get, `[F, 9]`.
pub(super) fn gather(geometries: &[Geometry], corners: &Tensor) -> Result<Vec<Tensor>> {
    let device = corners.device();
    let (mut gradients, mut parts) = (Vec::new(), Words::default());
    let (mut first, mut face) = (0, 0);
    for part in geometries.iter().flat_map(Geometry::parts) {
        let tables = FaceTables::of(&part.faces, device)?;
        let gradient = empty(device, [part.vertices, 3])?;
        parts.pointer(Some(&gradient));
        parts.pointer(Some(&tables.starts));
        parts.pointer(Some(&tables.corners));
        for int in [first, face, tables.vertices, part.vertices] {
            parts.int(int)?;
        }
        first += part.vertices;
        face += part.faces.len();
        gradients.push(gradient);
    }
    let parts = parts.send(device)?;
    parts
        .input(launch(device, &KERNELS, "gather")?)
        .input(corners)
        .int(gradients.len())
        .int(first)
        .elements(first)?;
    debug_assert!(gradients.iter().all(|gradient| gradient.memory().is_some()));
    Ok(gradients)
}
