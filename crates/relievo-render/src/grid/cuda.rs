//! The sampling grid on a GPU.

use relievo_tensor::cuda::{Kernels, Launch};
use relievo_tensor::{Backward, Result, Tensor};

use super::SamplingGrid;
use crate::cuda::{CameraArgument, THREADS, blocks, empty, kernels, launch, parts};
use crate::motion::{VIEW, view_gradient, view_sums};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("sampling_grid", "../motion/motion.cuh");

impl SamplingGrid {
    /// The arguments that both directions end with.
    fn arguments(&self, launch: Launch, views: &Tensor) -> Result<Launch> {
        Ok(launch
            .structure(CameraArgument::new(self.camera)?)
            .float(1.0 / self.camera.half_width())
            .int(views.numel() / VIEW))
    }
}

pub(super) fn forward(
    operation: &SamplingGrid,
    [depth, views]: [&Tensor; 2],
    batch: usize,
) -> Result<[Tensor; 2]> {
    let size = operation.camera.size;
    let mut grid = empty(depth.device(), [batch, size, size, 2])?;
    let mut mask = empty(depth.device(), [batch / operation.parts, size, size])?;
    let launch =
        launch(depth, &KERNELS, "forward")?.output(&mut grid).output(&mut mask).input(depth).input(views);
    operation
        .arguments(launch, views)?
        .float(operation.far)
        .int(batch / operation.parts)
        .int(operation.parts)
        .blocks(blocks(size * size, batch), THREADS)?;
    Ok([grid, mask])
}

pub(super) fn backward(operation: &SamplingGrid, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
    let (depth, views) = (&backward.saved[0], &backward.saved[1]);
    let [batch, rows, columns] = depth.dims("sampling_grid")?;
    let pixels = rows * columns;
    let mut ddepth = backward.wants(0).then(|| depth.empty_like(depth.shape())).transpose()?;
    let mut sums = backward.wants(1).then(|| view_sums(depth, batch, pixels)).transpose()?;
    let launch = launch(depth, &KERNELS, "backward")?
        .optional_output(ddepth.as_mut())
        .optional_output(sums.as_mut())
        .input(depth)
        .input(views)
        .input(backward.gradient());
    operation.arguments(launch, views)?.blocks([parts(pixels), batch, 1], THREADS)?;
    Ok(vec![ddepth, sums.map(|sums| view_gradient(&sums, views)).transpose()?])
}
