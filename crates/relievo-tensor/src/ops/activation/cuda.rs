//! Activations on a GPU.

use super::Activation;
use crate::cuda::{Kernels, Launch};
use crate::{Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "activation", source: include_str!("kernel.cu") };

impl Activation {
    /// Its number in `prelude.cuh`.
    pub(crate) fn number(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Relu => 1,
            Self::LeakyRelu => 2,
            Self::Tanh => 3,
            Self::Softplus => 4,
        }
    }

    /// The activation of each element of `x`, plus first, if there is one, `bias [C]` (f32) over the last axis.
    pub(crate) fn apply_cuda(self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let mut y = x.scratch_like(x.shape())?;
        let (count, channels) = (x.elements(), bias.map_or(1, Tensor::elements));
        Launch::new(x.device(), &KERNELS, "forward", x.data_type())?
            .output(&mut y)
            .input(x)
            .optional_input(bias)
            .int(self.number())
            .int(channels)
            .int(count)
            .elements(count.div_ceil(4))?;
        Ok(y)
    }

    /// [`Activation::gradient`] on a GPU.
    pub(crate) fn gradient_cuda(self, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        if self == Self::Identity {
            return Ok(dy.detach());
        }
        let mut dx = dy.scratch_like(dy.shape())?;
        let count = dy.elements();
        Launch::new(dy.device(), &KERNELS, "backward", dy.data_type())?
            .output(&mut dx)
            .input(y)
            .input(dy)
            .int(self.number())
            .int(count)
            .elements(count.div_ceil(4))?;
        Ok(dx)
    }
}
