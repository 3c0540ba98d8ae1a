//! Casts on a GPU.

use crate::cuda::{self, Kernels};
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "cast", source: include_str!("kernel.cu") };

/// `x` as the other type.
pub(crate) fn cast(x: &Tensor, data_type: DataType) -> Result<Tensor> {
    let count = x.numel();
    let mut y = Tensor::empty_on(x.device(), data_type, x.shape())?;
    let kernel = if data_type == DataType::Bf16 { "float_to_bf16" } else { "bf16_to_float" };
    cuda::launch(x.device(), &KERNELS, kernel, DataType::F32)?
        .output(&mut y)
        .input(x)
        .int(count)
        .elements(count.div_ceil(4))?;
    Ok(y)
}
