//! Losses and steps on GPUs: the launches. Kernels are in the `.cu` files beside.
//!
//! Nothing but a step's loss comes back to the host. Every sum is taken in a fixed order, so runs give the same bits.

use std::sync::{Arc, Mutex, PoisonError};

use relievo_tensor::cuda::{Kernels, Launch, kernel_int};
use relievo_tensor::{DataType, Device, Result, Tensor};

/// `losses.cu`, compiled.
static LOSSES: Kernels = Kernels { name: "fit_losses", source: include_str!("losses.cu") };
/// `surface.cu`, compiled.
static SURFACE: Kernels = Kernels { name: "fit_surface", source: include_str!("surface.cu") };

/// All files of kernels of this crate: for a test that compiles them.
pub(crate) fn files() -> Vec<&'static Kernels> {
    vec![&LOSSES, &SURFACE]
}

const THREADS: usize = 256;
/// Blocks that share an image. As in `losses.cu`.
const BLOCKS: usize = 32;

fn launch(device: Device, kernels: &'static Kernels, name: &'static str) -> Result<Launch> {
    relievo_tensor::cuda::launch(device, kernels, name, DataType::F32)
}

fn empty<const N: usize>(device: Device, shape: [usize; N]) -> Result<Tensor> {
    Tensor::empty_on(device, DataType::F32, shape)
}

/// Images and pixels of each.
fn extents(images: &Tensor) -> [usize; 2] {
    let count = images.shape().first().copied().unwrap_or(1).max(1);
    [count, images.numel() / count]
}

/// The loss of silhouettes, that of each image, and what [`loss_slopes`] needs: the sum of squared differences, or with
/// `overlaps` one less intersection over union.
pub(crate) fn loss(found: &Tensor, wanted: &Tensor, overlaps: bool) -> Result<[Tensor; 3]> {
    let (device, [images, pixels]) = (found.device(), extents(found));
    let mut parts = empty(device, [images, BLOCKS, 6])?;
    launch(device, &LOSSES, "sum_pixels")?
        .output(&mut parts)
        .input(found)
        .input(wanted)
        .int(pixels)
        .blocks([BLOCKS, images, 1], THREADS)?;
    let (mut loss, mut of_images) = (empty(device, [])?, empty(device, [images])?);
    launch(device, &LOSSES, "finish")?
        .output(&mut loss)
        .output(&mut of_images)
        .input(&parts)
        .int(usize::from(overlaps))
        .int(images)
        .blocks([1, 1, 1], 32)?;
    Ok([loss, of_images, parts])
}

/// The gradient of the silhouettes that were found.
pub(crate) fn loss_slopes(
    [found, wanted, parts]: [&Tensor; 3],
    of_loss: &Tensor,
    overlaps: bool,
) -> Result<Tensor> {
    let [images, pixels] = extents(found);
    let mut gradient = found.empty_like(found.shape())?;
    launch(found.device(), &LOSSES, "slopes")?
        .output(&mut gradient)
        .input(found)
        .input(wanted)
        .input(parts)
        .input(of_loss)
        .int(usize::from(overlaps))
        .int(images)
        .int(pixels)
        .blocks([pixels.div_ceil(THREADS), images, 1], THREADS)?;
    Ok(gradient)
}

/// 1 where pixels are covered whole, times a mask if there is one; else 0.
pub(crate) fn counted(alpha: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let mut to = alpha.empty_like(alpha.shape())?;
    launch(alpha.device(), &LOSSES, "counted")?
        .output(&mut to)
        .input(alpha)
        .optional_input(mask)
        .int(alpha.numel())
        .elements(alpha.numel())?;
    Ok(to)
}

/// Keeps all numbers of a tensor in `low..=high`.
pub(crate) fn clamp(tensor: &mut Tensor, low: f32, high: f32) -> Result<()> {
    let count = tensor.numel();
    launch(tensor.device(), &LOSSES, "clamp")?
        .output(tensor)
        .float(low)
        .float(high)
        .int(count)
        .elements(count)?;
    Ok(())
}

/// Lists for each vertex: where those of each begin, what is in them, and how many vertices have one.
#[derive(Clone, Debug)]
struct Lists {
    starts: Tensor,
    items: Tensor,
    listed: usize,
}

impl Lists {
    /// Of pairs of a vertex and what belongs to it, in order.
    fn new(vertices: usize, pairs: &[[u32; 2]], device: Device) -> Result<Self> {
        let mut starts = vec![0u32; vertices + 1];
        pairs.iter().for_each(|[vertex, _]| starts[*vertex as usize + 1] += 1);
        (0..vertices).for_each(|vertex| starts[vertex + 1] += starts[vertex]);
        let (mut next, mut items) = (starts.clone(), vec![0; pairs.len()]);
        for [vertex, item] in pairs {
            let place = &mut next[*vertex as usize];
            items[*place as usize] = *item;
            *place += 1;
        }
        Ok(Self { starts: ints(&starts, device)?, items: ints(&items, device)?, listed: vertices })
    }

    fn input(&self, launch: Launch) -> Launch {
        launch.input(&self.starts).input(&self.items).int(self.listed)
    }
}

/// Whole numbers on a GPU.
fn ints(values: &[u32], device: Device) -> Result<Tensor> {
    let bits: Vec<f32> = values.iter().map(|value| f32::from_bits(*value)).collect();
    Tensor::new(&bits, [bits.len()])?.to_device(device)
}

/// The edges of a mesh on a GPU.
#[derive(Clone, Debug)]
pub(crate) struct Surface {
    device: Device,
    neighbours: Lists,
    /// `[H, 4]`, as [`crate::Edges`] has them.
    hinges: Tensor,
    hinge_count: usize,
    /// For each vertex the corners of hinges.
    corners: Lists,
}

/// The edges where they were last asked for. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<Surface>>>);

impl Kept {
    /// The edges with these ends and hinges on a device.
    pub fn on(
        &self,
        device: Device,
        vertices: usize,
        ends: &[[u32; 2]],
        hinges: &[[u32; 4]],
    ) -> Result<Surface> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(surface) = kept.as_ref().filter(|surface| surface.device == device) {
            return Ok(surface.clone());
        }
        let both: Vec<[u32; 2]> = ends.iter().flat_map(|[a, b]| [[*a, *b], [*b, *a]]).collect();
        kernel_int(4 * hinges.len(), "edges")?;
        let flat = hinges.as_flattened();
        let corners: Vec<[u32; 2]> = flat.iter().zip(0u32..).map(|(vertex, at)| [*vertex, at]).collect();
        let surface = Surface {
            device,
            neighbours: Lists::new(vertices, &both, device)?,
            hinges: ints(flat, device)?,
            hinge_count: hinges.len(),
            corners: Lists::new(vertices, &corners, device)?,
        };
        *kept = Some(surface.clone());
        Ok(surface)
    }
}

impl Surface {
    fn sum(&self, parts: &Tensor, blocks: usize) -> Result<Tensor> {
        let mut sum = empty(self.device, [])?;
        launch(self.device, &SURFACE, "finish")?
            .output(&mut sum)
            .input(parts)
            .int(blocks)
            .blocks([1, 1, 1], THREADS)?;
        Ok(sum)
    }

    /// The energy, and the differences between vertices and the means of their neighbours.
    pub fn laplacian(&self, vertices: &Tensor) -> Result<[Tensor; 2]> {
        let count = vertices.shape()[0];
        let blocks = count.div_ceil(THREADS);
        let mut differences = empty(self.device, [count, 6])?;
        let mut parts = empty(self.device, [blocks, 2])?;
        let begun = launch(self.device, &SURFACE, "differences")?
            .output(&mut differences)
            .output(&mut parts)
            .input(vertices);
        self.neighbours.input(begun).int(count).elements(count)?;
        Ok([self.sum(&parts, blocks)?, differences])
    }

    /// The gradient of the vertices `[count, 3]`.
    pub fn laplacian_back(&self, differences: &Tensor, of_energy: &Tensor, count: usize) -> Result<Tensor> {
        let mut gradient = empty(self.device, [count, 3])?;
        let begun = launch(self.device, &SURFACE, "laplacian_back")?
            .output(&mut gradient)
            .input(differences)
            .input(of_energy);
        self.neighbours.input(begun).int(count).elements(count)?;
        Ok(gradient)
    }

    pub fn flatness(&self, vertices: &Tensor) -> Result<Tensor> {
        let blocks = self.hinge_count.div_ceil(THREADS);
        let mut parts = empty(self.device, [blocks, 2])?;
        launch(self.device, &SURFACE, "flatness")?
            .output(&mut parts)
            .input(vertices)
            .input(&self.hinges)
            .int(self.hinge_count)
            .elements(self.hinge_count)?;
        self.sum(&parts, blocks)
    }

    pub fn flatness_back(&self, vertices: &Tensor, of_energy: &Tensor) -> Result<Tensor> {
        let mut corners = empty(self.device, [self.hinge_count, 24])?;
        launch(self.device, &SURFACE, "flatness_back")?
            .output(&mut corners)
            .input(vertices)
            .input(&self.hinges)
            .input(of_energy)
            .int(self.hinge_count)
            .elements(self.hinge_count)?;
        let (mut gradient, count) = (vertices.empty_like(vertices.shape())?, vertices.shape()[0]);
        let begun = launch(self.device, &SURFACE, "gather")?.output(&mut gradient).input(&corners);
        self.corners.input(begun).int(count).elements(count)?;
        Ok(gradient)
    }

    /// Solves (I + stiffness L) x = b, to `tolerance` of b's length or in `most` steps.
    pub fn relax(&self, b: &Tensor, stiffness: f64, tolerance: f64, most: usize) -> Result<Tensor> {
        let (mut x, count) = (b.empty_like(b.shape())?, b.shape()[0]);
        let mut room = empty(self.device, [4, count, 6])?;
        let begun = launch(self.device, &SURFACE, "relax")?.output(&mut x).output(&mut room).input(b);
        self.neighbours
            .input(begun)
            .int(count)
            .float(stiffness as f32)
            .float(tolerance as f32)
            .int(most)
            .blocks([usize::from(count > 0), 1, 1], 1024)?;
        Ok(x)
    }
}
