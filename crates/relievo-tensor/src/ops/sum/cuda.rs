//! Sums on a GPU.

use super::WeightedSum;
use crate::cuda::{self, Kernels};
use crate::{Backward, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "sum", source: include_str!("kernel.cu") };

pub(super) fn add_into(sum: &mut Tensor, addend: &Tensor) -> Result<()> {
    scale_add(sum, 1.0, addend, 1.0)
}

/// `sum = keep * sum + factor * addend`.
fn scale_add(sum: &mut Tensor, factor: f32, addend: &Tensor, keep: f32) -> Result<()> {
    let (device, data_type, count) = (sum.device(), sum.data_type(), sum.numel());
    cuda::launch(device, &KERNELS, "scale_add", data_type)?
        .output(sum)
        .input(addend)
        .float(keep)
        .float(factor)
        .int(count)
        .elements(count)?;
    Ok(())
}

/// Term after term: there are few, and mostly of one element.
pub(super) fn forward(operation: &WeightedSum, inputs: &[&Tensor], first: &Tensor) -> Result<Tensor> {
    let mut sum = first.empty_like(first.shape())?;
    for (index, (weight, input)) in operation.weights.iter().zip(inputs).enumerate() {
        scale_add(&mut sum, *weight, input, if index == 0 { 0.0 } else { 1.0 })?;
    }
    Ok(sum)
}

pub(super) fn backward(operation: &WeightedSum, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
    let dy = backward.gradient();
    let scaled = |weight: f32| {
        if weight == 1.0 {
            return Ok(dy.clone());
        }
        let mut dx = dy.empty_like(dy.shape())?;
        scale_add(&mut dx, weight, dy, 0.0)?;
        Ok(dx)
    };
    let weights = operation.weights.iter().enumerate();
    weights.map(|(i, weight)| backward.wants(i).then(|| scaled(*weight)).transpose()).collect()
}
