//! Bilinear sampling on a GPU.

use super::cpu::Layout;
use crate::cuda::{self, Kernels, Launch};
use crate::{Backward, DataType, Error, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "grid_sample", source: include_str!("kernel.cu") };

fn launch(name: &'static str, tensor: &Tensor) -> Result<Launch> {
    cuda::launch(tensor.device(), &KERNELS, name, DataType::F32)
}

/// Adds mask and extents, and launches `each` threads for each place.
fn over_places(
    launch: Launch,
    layout: Layout,
    mask: Option<&Tensor>,
    batch: usize,
    each: usize,
) -> Result<()> {
    let places = layout.rows * layout.columns;
    let threads = batch * places * each;
    launch
        .optional_input(mask)
        .int(mask.map_or(1, Tensor::numel))
        .int(layout.height)
        .int(layout.width)
        .int(layout.channels)
        .int(places)
        .int(threads)
        .elements(threads)?;
    Ok(())
}

pub(super) fn forward(layout: Layout, [image, grid]: [&Tensor; 2], mask: Option<&Tensor>) -> Result<Tensor> {
    if let Some(other) =
        [image, grid].into_iter().chain(mask).find(|tensor| tensor.data_type() != DataType::F32)
    {
        let detail = format!("{:?} of shape {}, not f32", other.data_type(), other.shape());
        return Err(Error::shape("grid_sample", detail));
    }
    let batch = image.shape()[0];
    let mut y = image.empty_like([batch, layout.rows, layout.columns, layout.channels])?;
    let launch = launch("forward", image)?.output(&mut y).input(image).input(grid);
    over_places(launch, layout, mask, batch, 1)?;
    Ok(y)
}

/// The gradients of image and grid.
pub(super) fn backward(
    layout: Layout,
    backward: &Backward<'_>,
    mask: Option<&Tensor>,
) -> Result<Vec<Option<Tensor>>> {
    let (image, grid, dy) = (&backward.saved[0], &backward.saved[1], backward.gradient());
    // Bits of fixed point for one term, so that there is room for as many as there are places.
    let room = 62 - (layout.rows * layout.columns).next_power_of_two().ilog2() as usize;
    let batch = image.shape()[0];
    let mut dgrid = backward.wants(1).then(|| grid.empty_like(grid.shape())).transpose()?;
    // Numbers of 64 bits, in twice as many of 32; the largest |mask * dy|.
    let sums_and_largest =
        || -> Result<[Tensor; 2]> { Ok([image.empty_like([image.numel(), 2])?, image.empty_like([1])?]) };
    let mut sums = backward.wants(0).then(sums_and_largest).transpose()?;
    for cleared in sums.iter_mut().flatten() {
        cleared.clear()?;
    }
    let look = launch("look", dy)?
        .optional_output(dgrid.as_mut())
        .optional_output(sums.as_mut().map(|[_, largest]| largest))
        .input(image)
        .input(grid)
        .input(dy);
    over_places(look, layout, mask, batch, 1)?;
    let dimage = sums.map(|[mut sums, mut largest]| {
        let scatter = launch("scatter", dy)?.output(&mut sums).output(&mut largest).input(grid).input(dy);
        over_places(scatter.int(room), layout, mask, batch, layout.channels)?;
        let (mut dimage, count) = (image.empty_like(image.shape())?, image.numel());
        launch("from_fixed", dy)?
            .output(&mut dimage)
            .input(&sums)
            .input(&largest)
            .int(room)
            .int(count)
            .elements(count)?;
        Ok::<_, Error>(dimage)
    });
    Ok(vec![dimage.transpose()?, dgrid])
}
