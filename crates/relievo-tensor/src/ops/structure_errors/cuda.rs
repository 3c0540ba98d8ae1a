//! Structural similarity on a GPU: for each window the sums along rows, then what a pixel makes of the sums down its
//! column; the gradient goes back the same way.

use crate::cuda::{self, Kernels};
use crate::ops::compared::{Compared, Extents};
use crate::ops::planes::radius_of;
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "structure_errors",
    source: concat!(include_str!("../window.cuh"), include_str!("kernel.cu")),
};

/// Moments under a window; the kernels count on it.
const MOMENTS: usize = 6;

/// The sums of the moments along the rows, `[moments, elements]`.
fn moments(deviation: f32, compared: Compared, [found, target, mask]: [&Tensor; 3]) -> Result<Tensor> {
    let count = MOMENTS * found.numel();
    let mut sums = Tensor::empty_on(found.device(), DataType::F32, [count])?;
    cuda::launch(found.device(), &KERNELS, "moments_along", DataType::F32)?
        .output(&mut sums)
        .input(found)
        .input(target)
        .input(mask)
        .structure(Extents::from(compared))
        .float(deviation)
        .int(radius_of(deviation))
        .int(count)
        .elements(count)?;
    Ok(sums)
}

/// The factors of the similarity, `[windows + 1, elements]`.
fn factors(deviations: &[f32], compared: Compared, inputs: [&Tensor; 3]) -> Result<Tensor> {
    let (device, elements, windows) = (inputs[0].device(), inputs[0].numel(), deviations.len());
    let mut factors = Tensor::empty_on(device, DataType::F32, [(windows + 1) * elements])?;
    for (window, deviation) in deviations.iter().enumerate() {
        cuda::launch(device, &KERNELS, "factors", DataType::F32)?
            .output(&mut factors)
            .input(&moments(*deviation, compared, inputs)?)
            .input(inputs[2])
            .structure(Extents::from(compared))
            .float(*deviation)
            .int(radius_of(*deviation))
            .int(window)
            .int(windows)
            .elements(elements)?;
    }
    Ok(factors)
}

pub(super) fn errors(deviations: &[f32], compared: Compared, inputs: [&Tensor; 3]) -> Result<Tensor> {
    let Compared { images, height, width, .. } = compared;
    let factors = factors(deviations, compared, inputs)?;
    let mut errors = Tensor::empty_on(inputs[0].device(), DataType::F32, [images, height, width, 1])?;
    cuda::launch(inputs[0].device(), &KERNELS, "errors", DataType::F32)?
        .output(&mut errors)
        .input(&factors)
        .input(inputs[2])
        .structure(Extents::from(compared))
        .int(deviations.len())
        .elements(images * compared.pixels())?;
    Ok(errors)
}

/// The gradient of the reconstruction, given that of the errors.
pub(super) fn gradient(
    deviations: &[f32],
    compared: Compared,
    inputs: [&Tensor; 3],
    dy: &Tensor,
) -> Result<Tensor> {
    let [found, target, mask] = inputs;
    let (device, elements, windows) = (found.device(), found.numel(), deviations.len());
    let factors = factors(deviations, compared, inputs)?;
    let mut gradient = found.zeros_like()?;
    for (window, deviation) in deviations.iter().enumerate() {
        let mut fields = Tensor::empty_on(device, DataType::F32, [3 * elements])?;
        cuda::launch(device, &KERNELS, "fields", DataType::F32)?
            .output(&mut fields)
            .input(&moments(*deviation, compared, inputs)?)
            .input(mask)
            .input(&factors)
            .input(dy)
            .structure(Extents::from(compared))
            .float(*deviation)
            .int(radius_of(*deviation))
            .int(window)
            .int(windows)
            .elements(elements)?;
        let mut along = Tensor::empty_on(device, DataType::F32, [3 * elements])?;
        cuda::launch(device, &KERNELS, "fields_along", DataType::F32)?
            .output(&mut along)
            .input(&fields)
            .structure(Extents::from(compared))
            .float(*deviation)
            .int(radius_of(*deviation))
            .int(3 * elements)
            .elements(3 * elements)?;
        cuda::launch(device, &KERNELS, "gradient", DataType::F32)?
            .output(&mut gradient)
            .input(&along)
            .input(found)
            .input(target)
            .input(mask)
            .structure(Extents::from(compared))
            .float(*deviation)
            .int(radius_of(*deviation))
            .elements(elements)?;
    }
    Ok(gradient)
}
