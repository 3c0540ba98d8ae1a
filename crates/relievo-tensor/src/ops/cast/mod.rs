//! The same numbers stored as another type.

pub(crate) mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, DataType, Operation, Result, Tensor, apply_one};

/// To this type.
struct Cast(DataType);

/// `x`, of any shape, stored as `data_type`: rounded to the nearest, ties to even. The gradient is cast the other way.
/// Of its own type a tensor is given back as it is.
///
/// # Errors
/// If x is on the CPU and the type is not f32.
pub fn cast(x: &Tensor, data_type: DataType) -> Result<Tensor> {
    if x.data_type() == data_type {
        return Ok(x.clone());
    }
    apply_one(Cast(data_type), &[x])
}

impl Operation for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        // Fails: the CPU has f32 only, which `cast` has dealt with.
        Ok(vec![Tensor::empty_on(inputs[0].device(), self.0, inputs[0].shape())?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(backward.gradient().clone())])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        Ok(vec![cuda::cast(inputs[0], self.0)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        // Only two types: what was not cast to bf16 was bf16.
        let back = if self.0 == DataType::Bf16 { DataType::F32 } else { DataType::Bf16 };
        Ok(vec![Some(cuda::cast(backward.gradient(), back)?)])
    }
}
