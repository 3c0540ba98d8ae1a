//! The census distance on a GPU, a thread for each pixel.

use crate::cuda::{self, Kernels};
use crate::ops::compared::{Compared, Extents};
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "census_errors",
    source: concat!(include_str!("../window.cuh"), include_str!("kernel.cu")),
};

/// Grey levels of reconstructions and targets, and one over the number of each pixel's neighbours.
fn prepare(compared: Compared, [found, target, mask]: [&Tensor; 3]) -> Result<[Tensor; 2]> {
    let (device, pixels) = (found.device(), compared.images * compared.pixels());
    let both = pixels + compared.targets * compared.pixels();
    let mut grey = Tensor::empty_on(device, DataType::F32, [both])?;
    cuda::launch(device, &KERNELS, "grey", DataType::F32)?
        .output(&mut grey)
        .input(found)
        .input(target)
        .structure(Extents::from(compared))
        .elements(both)?;
    let mut shares = Tensor::empty_on(device, DataType::F32, [pixels])?;
    cuda::launch(device, &KERNELS, "shares", DataType::F32)?
        .output(&mut shares)
        .input(mask)
        .structure(Extents::from(compared))
        .elements(pixels)?;
    Ok([grey, shares])
}

pub(super) fn errors(compared: Compared, inputs: [&Tensor; 3]) -> Result<Tensor> {
    let [grey, shares] = prepare(compared, inputs)?;
    let Compared { images, height, width, .. } = compared;
    let mut errors = Tensor::empty_on(inputs[0].device(), DataType::F32, [images, height, width, 1])?;
    cuda::launch(inputs[0].device(), &KERNELS, "errors", DataType::F32)?
        .output(&mut errors)
        .input(&grey)
        .input(&shares)
        .input(inputs[2])
        .structure(Extents::from(compared))
        .elements(shares.numel())?;
    Ok(errors)
}

/// The gradient of the reconstruction, given that of the errors.
pub(super) fn gradient(compared: Compared, inputs: [&Tensor; 3], dy: &Tensor) -> Result<Tensor> {
    let [grey, shares] = prepare(compared, inputs)?;
    let mut gradient = inputs[0].empty_like(inputs[0].shape())?;
    cuda::launch(inputs[0].device(), &KERNELS, "gradient", DataType::F32)?
        .output(&mut gradient)
        .input(&grey)
        .input(&shares)
        .input(inputs[2])
        .input(dy)
        .structure(Extents::from(compared))
        .elements(shares.numel())?;
    Ok(gradient)
}
