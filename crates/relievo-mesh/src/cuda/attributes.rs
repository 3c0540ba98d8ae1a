//! What the nearest samples show, on a GPU.

use relievo_tensor::cuda::{Kernels, kernel_int};
use relievo_tensor::{Device, Result, Tensor};

use super::raster::Drawn;
use super::shade::Outputs;
use super::{FaceTables, THREADS, Table, Words, blocks, empty, kernels, launch, pieces, room, zeros};
use crate::Faces;
use crate::raster::{Geometry, Samples};

/// `attributes.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("attributes");

/// As `attributes.cu` has it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Size {
    width: i32,
    height: i32,
    per_pixel: i32,
}

/// The nearest samples of all pixels.
pub(crate) struct OnGpu {
    samples: Tensor,
    size: Size,
}

/// What is shown, and how attributes belong to it.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub drawn: &'a Drawn,
    pub geometries: &'a [Geometry],
    pub numbers: &'a Tensor,
    pub nearest: &'a OnGpu,
    /// The faces of each part before any was cut.
    pub faces: &'a [Faces],
}

/// The nearest samples.
pub(crate) fn nearest(
    drawn: &Drawn,
    samples: Samples,
    per_pixel: usize,
    numbers: &Tensor,
    depths: &Tensor,
) -> Result<OnGpu> {
    let images = numbers.shape()[0];
    let [width, height] = [samples.columns, samples.rows].map(|count| count / per_pixel);
    let int = |value| kernel_int(value, "render");
    let size = Size { width: int(width)?, height: int(height)?, per_pixel: int(per_pixel)? };
    let mut nearest = empty(numbers.device(), [images, height, width])?;
    launch(numbers.device(), &KERNELS, "nearest")?
        .output(&mut nearest)
        .input(numbers)
        .input(depths)
        .structure(drawn.raster)
        .structure(size)
        .blocks(blocks(width * height, images), THREADS)?;
    Ok(OnGpu { samples: nearest, size })
}

impl Batch<'_> {
    fn device(&self) -> Device {
        self.numbers.device()
    }

    fn extents(&self) -> [usize; 3] {
        [self.geometries.len(), self.nearest.size.height as usize, self.nearest.size.width as usize]
    }

    fn per_pixel(&self) -> [usize; 3] {
        let [images, height, width] = self.extents();
        blocks(width * height, images)
    }

    /// The parts as `attributes.cu` has them, with attributes and where the sums of their gradients begin.
    fn describe(&self, attributes: Option<&[&Tensor]>, sums: Option<&[usize]>) -> Result<Table> {
        let (mut words, mut first, mut index) = (Words::default(), 0, 0);
        for geometry in self.geometries {
            let mut before = 0;
            for part in geometry.parts() {
                let faces = &self.faces[index];
                words.pointer(attributes.map(|attributes| attributes[index]));
                words.pointer(Some(&FaceTables::of(faces, self.device())?.indices));
                let cut = part.pieces.as_ref().map(|list| pieces(list, self.device())).transpose()?;
                words.pointer(cut.as_ref());
                for int in [first, before, sums.map_or(0, |sums| sums[index]), 0] {
                    words.int(int)?;
                }
                first += part.faces.len();
                before += faces.len();
                index += 1;
            }
        }
        words.send(self.device())
    }
}

/// The face of each pixel and its barycentric coordinates.
pub(crate) fn identify(batch: &Batch<'_>) -> Result<[Tensor; 2]> {
    let [images, height, width] = batch.extents();
    let mut index = empty(batch.device(), [images, height, width])?;
    let mut barycentrics = empty(batch.device(), [images, height, width, 3])?;
    let begun = launch(batch.device(), &KERNELS, "identify")?.output(&mut index).output(&mut barycentrics);
    batch
        .drawn
        .images
        .input(batch.describe(None, None)?.input(begun))
        .input(&batch.drawn.faces)
        .input(batch.numbers)
        .input(&batch.nearest.samples)
        .structure(batch.drawn.raster)
        .structure(batch.nearest.size)
        .int(batch.faces.len())
        .blocks(batch.per_pixel(), THREADS)?;
    Ok([index, barycentrics])
}

/// Attributes of vertices interpolated, or those of faces.
pub(crate) fn interpolate(
    batch: &Batch<'_>,
    per_vertex: bool,
    signed: bool,
    attributes: &[&Tensor],
) -> Result<Tensor> {
    let [images, height, width] = batch.extents();
    let mut pixels = empty(batch.device(), [images, height, width, 3])?;
    let begun = launch(batch.device(), &KERNELS, "interpolate")?.output(&mut pixels);
    batch
        .drawn
        .images
        .input(batch.describe(Some(attributes), None)?.input(begun))
        .input(&batch.drawn.faces)
        .input(batch.numbers)
        .input(&batch.nearest.samples)
        .structure(batch.drawn.raster)
        .structure(batch.nearest.size)
        .int(batch.faces.len())
        .int(usize::from(per_vertex))
        .int(usize::from(signed))
        .blocks(batch.per_pixel(), THREADS)?;
    Ok(pixels)
}

/// The gradients of the attributes.
pub(crate) fn interpolate_gradients(
    batch: &Batch<'_>,
    per_vertex: bool,
    signed: bool,
    attributes: &[Tensor],
    dy: &Tensor,
) -> Result<Vec<Tensor>> {
    let device = batch.device();
    let mut outputs = Outputs::default();
    let (mut gradients, mut sums) = (Vec::new(), Vec::new());
    for tensor in attributes {
        let gradient = tensor.empty_like(tensor.shape())?;
        sums.push(outputs.add(&gradient, 0)?);
        gradients.push(gradient);
    }
    let mut largest = zeros(device, [1])?;
    launch(device, &KERNELS, "look")?
        .output(&mut largest)
        .input(&batch.nearest.samples)
        .input(dy)
        .structure(batch.nearest.size)
        .blocks(batch.per_pixel(), THREADS)?;
    let [_, height, width] = batch.extents();
    let rooms = [room(width * height); 3];
    let mut fixed = zeros(device, [outputs.count, 2])?;
    let begun = launch(device, &KERNELS, "scatter")?.output(&mut fixed).input(&largest);
    batch
        .drawn
        .images
        .input(batch.describe(None, Some(&sums))?.input(begun))
        .input(&batch.drawn.faces)
        .input(batch.numbers)
        .input(&batch.nearest.samples)
        .input(dy)
        .structure(batch.drawn.raster)
        .structure(batch.nearest.size)
        .structure(rooms.map(|room| room as i32))
        .int(batch.faces.len())
        .int(usize::from(per_vertex))
        .int(usize::from(signed))
        .blocks(batch.per_pixel(), THREADS)?;
    outputs.write(&KERNELS, &fixed, &largest, rooms)?;
    Ok(gradients)
}
