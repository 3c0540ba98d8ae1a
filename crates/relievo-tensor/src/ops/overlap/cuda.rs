//! The overlap of masks on a GPU: a thread for each pixel.

use crate::cuda::{self, Kernels};
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "overlap", source: include_str!("kernel.cu") };

pub(super) fn overlap([_, height, width]: [usize; 3], [a, b]: [&Tensor; 2]) -> Result<Tensor> {
    let mut both = Tensor::empty_on(a.device(), DataType::F32, a.shape())?;
    cuda::launch(a.device(), &KERNELS, "overlap", DataType::F32)?
        .output(&mut both)
        .input(a)
        .input(b)
        .int(height)
        .int(width)
        .int(a.numel())
        .elements(a.numel())?;
    Ok(both)
}
