//! Means under a Gaussian window on a GPU: along the rows, then down the columns, a thread for each element.

use crate::cuda::{self, Kernels};
use crate::ops::planes::radius_of;
use crate::{Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "gaussian_mean",
    source: concat!(include_str!("../window.cuh"), include_str!("kernel.cu")),
};

/// The means, or what takes their gradient back to the maps.
pub(super) fn means(
    [_, height, width, channels]: [usize; 4],
    deviation: f32,
    maps: &Tensor,
    is_adjoint: bool,
) -> Result<Tensor> {
    let pass = |from: &Tensor, extent: usize, stride: usize| -> Result<Tensor> {
        let mut to = from.empty_like(from.shape())?;
        cuda::launch(from.device(), &KERNELS, "line_means", from.data_type())?
            .output(&mut to)
            .input(from)
            .int(extent)
            .int(stride)
            .int(radius_of(deviation))
            .float(deviation)
            .int(usize::from(is_adjoint))
            .int(from.numel())
            .elements(from.numel())?;
        Ok(to)
    };
    let half = pass(maps, width, channels)?;
    pass(&half, height, width * channels)
}
