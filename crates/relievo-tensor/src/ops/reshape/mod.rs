//! The same elements under another shape. No element moves, so there is nothing to compute on any device.

use crate::{Backward, Context, Error, Operation, Result, Shape, Tensor, apply_one};

struct Reshape {
    from: Shape,
    to: Shape,
}

/// The elements of `x` in another shape. Gradient: the elements of the output's gradient in the shape of `x`.
///
/// # Errors
/// If the numbers of elements differ.
pub fn reshape(x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    apply_one(Reshape { from: x.shape(), to: shape.into() }, &[x])
}

impl Operation for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        if self.from.numel() != self.to.numel() {
            return Err(Error::shape(self.name(), format!("{} does not fit into {}", self.from, self.to)));
        }
        Ok(vec![inputs[0].with_shape(self.to)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(backward.gradient().with_shape(self.from))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.forward(inputs, context)
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        self.backward(backward)
    }
}
