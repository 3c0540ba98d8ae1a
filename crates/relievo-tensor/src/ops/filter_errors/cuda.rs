//! A bank of filters on a GPU: kernels along rows of the difference, then all products and filters of a pixel in one
//! thread; back the same way, where products have places of their own, so that nothing is added atomically.

use super::FilterBank;
use crate::cuda::{self, Kernels};
use crate::ops::compared::{Compared, Extents};
use crate::ops::narrow_batch;
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "filter_errors",
    source: concat!(include_str!("../window.cuh"), include_str!("kernel.cu")),
};

/// What the kernels along rows give, `[kernels, elements]`.
fn alongs(
    bank: &FilterBank,
    compared: Compared,
    [reconstruction, target, mask]: [&Tensor; 3],
) -> Result<Tensor> {
    let count = bank.alongs.len() * reconstruction.numel();
    let mut alongs = Tensor::empty_on(reconstruction.device(), DataType::F32, [count])?;
    cuda::launch(reconstruction.device(), &KERNELS, "along", DataType::F32)?
        .output(&mut alongs)
        .input(reconstruction)
        .input(target)
        .input(mask)
        .input(&bank.table)
        .structure(bank.table_layout())
        .structure(Extents::from(compared))
        .int(count)
        .elements(count)?;
    Ok(alongs)
}

/// The errors of each scale.
pub(super) fn errors(bank: &FilterBank, compared: Compared, inputs: [&Tensor; 3]) -> Result<Vec<Tensor>> {
    let alongs = alongs(bank, compared, inputs)?;
    let Compared { images, height, width, .. } = compared;
    let device = inputs[0].device();
    let mut all = Tensor::empty_on(device, DataType::F32, [bank.scale_count(), images, height, width])?;
    let pixels = images * compared.pixels();
    cuda::launch(device, &KERNELS, "errors", DataType::F32)?
        .output(&mut all)
        .input(&alongs)
        .input(&bank.table)
        .structure(bank.table_layout())
        .structure(Extents::from(compared))
        .elements(pixels)?;
    let of_scale = |scale| Ok(narrow_batch(&all, scale, 1)?.with_shape([images, height, width, 1].into()));
    (0..bank.scale_count()).map(of_scale).collect()
}

/// The gradient of the reconstruction, given that of the errors of each scale.
pub(super) fn gradient(
    bank: &FilterBank,
    compared: Compared,
    inputs: [&Tensor; 3],
    slopes: &[Option<Tensor>],
) -> Result<Tensor> {
    let alongs = alongs(bank, compared, inputs)?;
    let (device, elements) = (inputs[0].device(), inputs[0].numel());
    let mut products = Tensor::empty_on(device, DataType::F32, [bank.products.len() * elements])?;
    products.clear()?;
    for (scale, slopes) in slopes.iter().enumerate() {
        let Some(slopes) = slopes else { continue };
        cuda::launch(device, &KERNELS, "slopes", DataType::F32)?
            .output(&mut products)
            .input(&alongs)
            .input(slopes)
            .input(&bank.table)
            .structure(bank.table_layout())
            .structure(Extents::from(compared))
            .int(scale)
            .elements(elements)?;
    }
    let count = bank.alongs.len() * elements;
    let mut back = Tensor::empty_on(device, DataType::F32, [count])?;
    cuda::launch(device, &KERNELS, "down_back", DataType::F32)?
        .output(&mut back)
        .input(&products)
        .input(&bank.table)
        .structure(bank.table_layout())
        .structure(Extents::from(compared))
        .int(count)
        .elements(count)?;
    let mut gradient = inputs[0].empty_like(inputs[0].shape())?;
    cuda::launch(device, &KERNELS, "along_back", DataType::F32)?
        .output(&mut gradient)
        .input(&back)
        .input(inputs[2])
        .input(&bank.table)
        .structure(bank.table_layout())
        .structure(Extents::from(compared))
        .elements(elements)?;
    Ok(gradient)
}
