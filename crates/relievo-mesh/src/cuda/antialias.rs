//! Silhouettes drawn with the share that they cover of a sample, on a GPU.

use relievo_tensor::cuda::{Kernels, Launch};
use relievo_tensor::{Result, Tensor};

use super::raster::Drawn;
use super::resolve::gather;
use super::topology::Topology;
use super::{THREADS, blocks, empty, kernels, launch, room, zeros};
use crate::raster::Geometry;

/// `antialias.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("antialias", "points.cuh");

/// What is seen where, and the edges between the faces that are drawn.
pub(crate) struct Silhouettes<'a> {
    drawn: &'a Drawn,
    numbers: &'a Tensor,
    topology: Topology,
}

impl<'a> Silhouettes<'a> {
    pub fn new(drawn: &'a Drawn, numbers: &'a Tensor) -> Result<Self> {
        let sorted = drawn.within(0.0, numbers.device())?;
        Ok(Self { drawn, numbers, topology: Topology::new(drawn, &sorted)? })
    }

    fn input(&self, launch: Launch) -> Launch {
        self.drawn
            .images
            .input(launch.input(&self.drawn.faces))
            .input(self.numbers)
            .input(&self.topology.edges)
            .input(&self.topology.counts)
    }

    fn samples(&self) -> [usize; 3] {
        let shape = self.numbers.shape();
        [shape[0], shape[1], shape[2]]
    }

    /// Alpha of the samples if it is wanted, and their colours mixed if there are any.
    pub fn mixed(&self, alpha: bool, colours: Option<&Tensor>) -> Result<Vec<Tensor>> {
        let (device, [images, rows, columns]) = (self.numbers.device(), self.samples());
        let mut alpha = alpha.then(|| empty(device, [images, rows, columns])).transpose()?;
        let mut mixed = colours.map(|colours| colours.empty_like(colours.shape())).transpose()?;
        let begun = launch(device, &KERNELS, "mix")?
            .optional_output(alpha.as_mut())
            .optional_output(mixed.as_mut())
            .optional_input(colours);
        self.input(begun).structure(self.drawn.raster).blocks(blocks(rows * columns, images), THREADS)?;
        Ok([alpha, mixed].into_iter().flatten().collect())
    }

    /// The gradient of the samples' colours before they were mixed, from that behind.
    pub fn mixed_back(&self, after: &Tensor) -> Result<Tensor> {
        let [images, rows, columns] = self.samples();
        let mut before = after.empty_like(after.shape())?;
        let begun = launch(after.device(), &KERNELS, "mix_back")?.output(&mut before).input(after);
        self.input(begun).structure(self.drawn.raster).blocks(blocks(rows * columns, images), THREADS)?;
        Ok(before)
    }

    /// The gradients of the vertices of all parts, from those of alpha, and of the samples' colours with these.
    pub fn vertices(
        &self,
        geometries: &[Geometry],
        dalpha: Option<&Tensor>,
        colour: Option<[&Tensor; 2]>,
    ) -> Result<Vec<Tensor>> {
        let (device, drawn, [images, rows, columns]) = (self.numbers.device(), self.drawn, self.samples());
        let (pairs, room) = (2 * rows * columns, room(2 * rows * columns));
        let upstream = |launch: Launch| {
            self.input(launch)
                .optional_input(dalpha)
                .optional_input(colour.map(|[_, colours]| colours))
                .optional_input(colour.map(|[gradient, _]| gradient))
                .structure(drawn.raster)
        };
        let mut largest = zeros(device, [1])?;
        upstream(launch(device, &KERNELS, "look")?.output(&mut largest))
            .blocks(blocks(pairs, images), THREADS)?;
        let mut sums = zeros(device, [drawn.count, 9, 2])?;
        upstream(launch(device, &KERNELS, "scatter")?.output(&mut sums).input(&largest))
            .int(room)
            .blocks(blocks(pairs, images), THREADS)?;
        let mut corners = empty(device, [drawn.count, 9])?;
        let begun = launch(device, &KERNELS, "of_corners")?
            .output(&mut corners)
            .input(&sums)
            .input(&largest)
            .input(&drawn.faces);
        drawn.images.input(begun).int(room).int(drawn.image_count).int(drawn.count).elements(drawn.count)?;
        gather(geometries, &corners)
    }
}
