//! The colours of samples on a GPU.

use relievo_tensor::cuda::{Kernels, kernel_int};
use relievo_tensor::{Device, Result, Tensor};

use super::raster::Drawn;
use super::{THREADS, Table, Words, blocks, empty, kernels, launch, room, zeros};
use crate::raster::Samples;

/// `shade.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("shade", "paint.cuh");

/// Kinds of surfaces, as in `paint.cuh`.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    White,
    Cubes { side: usize },
    VertexColours,
    Image { size: [usize; 2], wrap: [usize; 2] },
}

/// A part as it is shaded, and where the sums of its gradients begin.
pub(crate) struct Painted<'a> {
    pub light: &'a Tensor,
    pub colours: Option<&'a Tensor>,
    pub indices: Tensor,
    pub texture: Option<Tensor>,
    pub pieces: Option<Tensor>,
    /// Faces before any was cut, and those that are drawn.
    pub faces: [usize; 2],
    pub kind: Kind,
}

/// Gradients of light and colours of each part.
pub(crate) type OfParts = Vec<[Option<Tensor>; 2]>;

/// Where the sums of gradients begin, of each part that of light and that of colours.
pub(super) type Sums = Vec<[Option<usize>; 2]>;

/// The parts as `paint.cuh` has them.
pub(super) fn describe(parts: &[Painted<'_>], sums: Option<&Sums>, device: Device) -> Result<Table> {
    let (mut words, mut first) = (Words::default(), 0);
    for (index, part) in parts.iter().enumerate() {
        let (kind, [width, height], wrap) = match part.kind {
            Kind::White => (0, [0; 2], [0; 2]),
            Kind::Cubes { side } => (1, [side; 2], [0; 2]),
            Kind::VertexColours => (2, [0; 2], [0; 2]),
            Kind::Image { size, wrap } => (3, size, wrap),
        };
        // Kernels count colours.
        kernel_int(part.colours.map_or(0, |colours| colours.numel() / 3), "render")?;
        words.pointer(Some(part.light));
        words.pointer(part.colours);
        words.pointer(Some(&part.indices));
        words.pointer(part.texture.as_ref());
        words.pointer(part.pieces.as_ref());
        for int in [first, part.faces[0], kind, width, height, wrap[0], wrap[1]] {
            words.int(int)?;
        }
        for begin in sums.map_or([None; 2], |sums| sums[index]) {
            match begin {
                Some(begin) => words.int(begin)?,
                None => words.none(),
            }
        }
        words.int(0)?;
        first += part.faces[1];
    }
    words.send(device)
}

/// The colours of all samples.
pub(crate) fn forward(
    drawn: &Drawn,
    numbers: &Tensor,
    samples: Samples,
    parts: &[Painted<'_>],
    background: &Tensor,
) -> Result<Tensor> {
    let device = numbers.device();
    let images = numbers.shape()[0];
    let mut colours = empty(device, [images, samples.rows, samples.columns, 3])?;
    let begun = launch(device, &KERNELS, "shade")?.output(&mut colours);
    drawn
        .images
        .input(describe(parts, None, device)?.input(begun))
        .input(&drawn.faces)
        .input(numbers)
        .input(background)
        .structure(drawn.raster)
        .int(parts.len())
        .int(background.numel() / 3)
        .blocks(blocks(samples.count(), images), THREADS)?;
    Ok(colours)
}

/// The gradients of the background, and of light and colours of each part, as far as wanted.
pub(crate) fn backward(
    drawn: &Drawn,
    numbers: &Tensor,
    samples: Samples,
    parts: &[Painted<'_>],
    background: Option<&Tensor>,
    wanted: &[[bool; 2]],
    dy: &Tensor,
) -> Result<(Option<Tensor>, OfParts)> {
    let (device, images) = (numbers.device(), numbers.shape()[0]);
    let mut outputs = Outputs::default();
    let (gradients, sums) = outputs.of_parts(parts, wanted)?;
    let dbackground = background.map(|tensor| tensor.empty_like(tensor.shape())).transpose()?;
    let background_sums = dbackground.as_ref().map(|gradient| outputs.add(gradient, 2)).transpose()?;
    let table = describe(parts, Some(&sums), device)?;
    let mut largest = zeros(device, [3])?;
    let begun = launch(device, &KERNELS, "look")?.output(&mut largest);
    drawn
        .images
        .input(table.input(begun))
        .input(&drawn.faces)
        .input(numbers)
        .input(dy)
        .structure(drawn.raster)
        .int(parts.len())
        .blocks(blocks(samples.count(), images), THREADS)?;
    let rooms = [samples.count(), samples.count(), samples.count() * images].map(room);
    let mut fixed = zeros(device, [outputs.count, 2])?;
    let begun = launch(device, &KERNELS, "scatter")?.output(&mut fixed).input(&largest);
    drawn
        .images
        .input(table.input(begun))
        .input(&drawn.faces)
        .input(numbers)
        .input(dy)
        .structure(drawn.raster)
        .structure(rooms.map(|room| room as i32))
        .int(parts.len())
        .int(background_sums.map_or(0, |first| first + 1))
        .int(background.map_or(1, |background| background.numel() / 3))
        .blocks(blocks(samples.count(), images), THREADS)?;
    outputs.write(&KERNELS, &fixed, &largest, rooms)?;
    Ok((dbackground, gradients))
}

/// Tensors that sums of fixed point are written to.
#[derive(Default)]
pub(crate) struct Outputs {
    words: Words,
    entries: usize,
    /// Sums of all.
    pub count: usize,
}

impl Outputs {
    /// Adds gradients of light and colours of each part, as far as wanted, to be written later.
    pub fn of_parts(&mut self, parts: &[Painted<'_>], wanted: &[[bool; 2]]) -> Result<(OfParts, Sums)> {
        let mut gradients = Vec::with_capacity(parts.len());
        let mut sums: Sums = Vec::with_capacity(parts.len());
        for (part, wanted) in parts.iter().zip(wanted) {
            let like = |tensor: Option<&Tensor>, wanted| {
                tensor.filter(|_| wanted).map(|tensor| tensor.empty_like(tensor.shape())).transpose()
            };
            let own = [like(Some(part.light), wanted[0])?, like(part.colours, wanted[1])?];
            let mut begin = [None; 2];
            for (slot, gradient) in own.iter().enumerate() {
                begin[slot] = gradient.as_ref().map(|gradient| self.add(gradient, slot)).transpose()?;
            }
            sums.push(begin);
            gradients.push(own);
        }
        Ok((gradients, sums))
    }

    /// Adds a tensor, whose terms are at most the largest number `slot`. Returns where its sums begin.
    pub fn add(&mut self, tensor: &Tensor, slot: usize) -> Result<usize> {
        let first = self.count;
        self.words.pointer(Some(tensor));
        self.words.int(first)?;
        self.words.int(slot)?;
        self.count += tensor.numel();
        self.entries += 1;
        Ok(first)
    }

    /// Writes the sums to the tensors, by the kernel `numbers_of_sums` of a file.
    pub fn write(
        self,
        kernels: &'static Kernels,
        sums: &Tensor,
        largest: &Tensor,
        rooms: [usize; 3],
    ) -> Result<()> {
        let table = self.words.send(sums.device())?;
        table
            .input(launch(sums.device(), kernels, "numbers_of_sums")?)
            .input(sums)
            .input(largest)
            .structure(rooms.map(|room| room as i32))
            .int(self.entries)
            .int(self.count)
            .elements(self.count)
            .map_err(Into::into)
    }
}
