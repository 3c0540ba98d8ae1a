//! Bilinear sampling on a GPU.

use super::cpu::Layout;
use crate::cuda::{Kernels, Launch};
use crate::{DataType, Error, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "grid_sample", source: include_str!("kernel.cu") };

/// The most places of a grid that its fixed point has room for.
const MOST_PLACES: usize = 1 << 18;

fn launch(name: &'static str, tensor: &Tensor) -> Result<Launch> {
    Launch::new(tensor.device(), &KERNELS, name, DataType::F32)
}

/// Adds the extents, and launches a thread for each place.
fn over_places(launch: Launch, layout: Layout, batch: usize) -> Result<()> {
    let places = layout.rows * layout.columns;
    launch
        .int(layout.height)
        .int(layout.width)
        .int(layout.channels)
        .int(places)
        .int(batch * places)
        .elements(batch * places)
}

pub(super) fn forward(layout: Layout, picture: &Tensor, grid: &Tensor) -> Result<Tensor> {
    if [picture, grid].iter().any(|tensor| tensor.data_type() != DataType::F32) {
        let detail = format!("{:?} at places in {:?}, not f32", picture.data_type(), grid.data_type());
        return Err(Error::shape("grid_sample", detail));
    }
    let batch = picture.shape()[0];
    let mut y = picture.scratch_like([batch, layout.rows, layout.columns, layout.channels])?;
    over_places(launch("forward", picture)?.output(&mut y).input(picture).input(grid), layout, batch)?;
    Ok(y)
}

pub(super) fn grid_gradient(layout: Layout, [picture, grid, dy]: [&Tensor; 3]) -> Result<Tensor> {
    let mut dgrid = grid.scratch_like(grid.shape())?;
    let launch = launch("grid_gradient", dy)?.output(&mut dgrid).input(picture).input(grid).input(dy);
    over_places(launch, layout, picture.shape()[0])?;
    Ok(dgrid)
}

pub(super) fn picture_gradient(layout: Layout, [picture, grid, dy]: [&Tensor; 3]) -> Result<Tensor> {
    if layout.rows * layout.columns > MOST_PLACES {
        let detail = format!("a grid of shape {} has more than {MOST_PLACES} places", grid.shape());
        return Err(Error::shape("grid_sample", detail));
    }
    // Numbers of 64 bits, in twice as many of 32.
    let mut sums = picture.scratch_like([picture.elements(), 2])?;
    sums.clear()?;
    let mut largest = picture.scratch_like([1])?;
    largest.clear()?;
    let count = dy.elements();
    launch("largest", dy)?.output(&mut largest).input(dy).int(count).elements(count)?;
    let scatter = launch("scatter", dy)?.output(&mut sums).output(&mut largest).input(grid).input(dy);
    over_places(scatter, layout, picture.shape()[0])?;
    let mut dpicture = picture.scratch_like(picture.shape())?;
    let count = picture.elements();
    launch("from_fixed", dy)?
        .output(&mut dpicture)
        .input(&sums)
        .input(&largest)
        .int(count)
        .elements(count)?;
    Ok(dpicture)
}
