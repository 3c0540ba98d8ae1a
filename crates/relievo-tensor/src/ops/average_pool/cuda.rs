//! Average pooling on a GPU.

use crate::cuda::{self, Kernels};
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "average_pool", source: include_str!("kernel.cu") };

/// The means, of the given shape.
pub(super) fn average_pool(maps: &Tensor, factor: usize, shape: [usize; 3]) -> Result<Tensor> {
    let mut means = maps.empty_like(shape)?;
    let count = means.numel();
    cuda::launch(maps.device(), &KERNELS, "average_pool", DataType::F32)?
        .output(&mut means)
        .input(maps)
        .int(factor)
        .int(shape[2])
        .int(count)
        .elements(count)?;
    Ok(means)
}
