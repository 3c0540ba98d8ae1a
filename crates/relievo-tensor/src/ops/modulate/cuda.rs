//! Modulation on a GPU: a thread for each element, and a block for each image and 32 of its channels to sum over pixels.

use super::Layout;
use crate::cuda::{self, Kernels};
use crate::ops::Activation;
use crate::{Backward, DataType, Error, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "modulate",
    source: concat!(
        include_str!("../activation/functions.cuh"),
        "\n#line 1 \"modulate.cu\"\n",
        include_str!("kernel.cu")
    ),
};

/// Threads of a block that sums; the kernel counts on it.
const THREADS: usize = 256;
/// Channels of a block that sums; the kernel counts on it.
const CHANNELS: usize = 32;

/// y.
pub(super) fn forward(
    layout: Layout,
    activation: Activation,
    x: &Tensor,
    modulation: &Tensor,
) -> Result<Tensor> {
    if modulation.data_type() != DataType::F32 {
        let detail = format!("a modulation of {:?}; it must be f32", modulation.data_type());
        return Err(Error::shape("modulate", detail));
    }
    let mut y = x.empty_like(x.shape())?;
    cuda::launch(x.device(), &KERNELS, "forward", x.data_type())?
        .output(&mut y)
        .input(x)
        .input(modulation)
        .int(activation.number())
        .int(layout.pixels)
        .int(layout.channels)
        .int(x.numel())
        .elements(x.numel())?;
    Ok(y)
}

/// dx, if it is wanted, and the gradient of the modulation.
pub(super) fn backward(
    layout: Layout,
    activation: Activation,
    backward: &Backward<'_>,
) -> Result<Vec<Option<Tensor>>> {
    let [x, modulation, y] = backward.saved else { unreachable!("three tensors were saved") };
    let dy = backward.gradient();
    let dx = if backward.wants(0) {
        let mut dx = x.empty_like(x.shape())?;
        cuda::launch(x.device(), &KERNELS, "input_gradient", x.data_type())?
            .output(&mut dx)
            .input(modulation)
            .input(y)
            .input(dy)
            .int(activation.number())
            .int(layout.pixels)
            .int(layout.channels)
            .int(x.numel())
            .elements(x.numel())?;
        Some(dx)
    } else {
        None
    };
    let mut dmodulation = modulation.empty_like(modulation.shape())?;
    cuda::launch(x.device(), &KERNELS, "modulation_gradient", x.data_type())?
        .output(&mut dmodulation)
        .input(x)
        .input(y)
        .input(dy)
        .int(activation.number())
        .int(layout.pixels)
        .int(layout.channels)
        .blocks([layout.channels.div_ceil(CHANNELS), layout.images, 1], THREADS)?;
    Ok(vec![dx, Some(dmodulation)])
}
