//! Which sides of faces belong to one edge, on a GPU.

use relievo_tensor::Result;
use relievo_tensor::Tensor;
use relievo_tensor::cuda::{Kernels, kernel_int};

use super::raster::{Drawn, Sorted};
use super::{empty, kernels, launch, zeros};

/// `topology.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("topology", "parts.cuh");

/// The edges of all faces that are drawn.
pub(super) struct Topology {
    /// For each face the vertices at its corners, each the first of those at its place, `[F, 3]`.
    pub corners: Tensor,
    /// And the edges of its sides, `[F, 3]`.
    pub edges: Tensor,
    /// Of each edge the complement of its first side.
    pub owners: Tensor,
    /// And the number of its sides that run one way and the other, `[E, 2]`.
    pub counts: Tensor,
}

/// Entries of a table for so many things: a power of two, half of them free.
fn entries(things: usize) -> Result<usize> {
    let entries = (2 * things.max(1)).next_power_of_two();
    kernel_int(entries, "render")?;
    Ok(entries)
}

impl Topology {
    /// The edges between `sorted`, the faces of what is drawn.
    pub fn new(drawn: &Drawn, sorted: &Sorted) -> Result<Self> {
        let (device, vertices, faces) = (sorted.faces.device(), drawn.vertices, drawn.count);
        let places = entries(vertices)?;
        let mut table = zeros(device, [places])?;
        let begun = launch(device, &KERNELS, "insert_vertices")?.output(&mut table);
        drawn.parts.input(begun).int(drawn.part_count).int(places - 1).int(vertices).elements(vertices)?;
        let mut first = empty(device, [vertices])?;
        let begun = launch(device, &KERNELS, "find_vertices")?.output(&mut first).input(&table);
        drawn.parts.input(begun).int(drawn.part_count).int(places - 1).int(vertices).elements(vertices)?;
        let count = entries(3 * faces)?;
        let mut keys = zeros(device, [count, 2])?;
        let mut own = Self {
            corners: empty(device, [faces, 3])?,
            edges: empty(device, [faces, 3])?,
            owners: zeros(device, [count])?,
            counts: zeros(device, [count, 2])?,
        };
        let begun = launch(device, &KERNELS, "insert_sides")?
            .output(&mut own.corners)
            .output(&mut own.edges)
            .output(&mut keys)
            .output(&mut own.owners)
            .output(&mut own.counts)
            .input(&sorted.faces);
        drawn
            .images
            .input(drawn.parts.input(begun))
            .input(&first)
            .int(drawn.part_count)
            .int(count - 1)
            .int(faces)
            .elements(faces)?;
        Ok(own)
    }
}
