//! Folding kernels on a GPU.

use crate::cuda::{self, Kernels};
use crate::{Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "upsample_conv2d", source: include_str!("kernel.cu") };

/// The kernel `fold` or `unfold`, with a thread for each number of its result.
pub(super) fn run(
    kernel: &'static str,
    from: &Tensor,
    [outputs, inputs]: [usize; 2],
    shape: [usize; 4],
) -> Result<Tensor> {
    let mut to = from.empty_like(shape)?;
    let count = to.numel();
    cuda::launch(from.device(), &KERNELS, kernel, from.data_type())?
        .output(&mut to)
        .input(from)
        .int(outputs)
        .int(inputs)
        .int(count)
        .elements(count)?;
    Ok(to)
}
