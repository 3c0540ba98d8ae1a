//! Activations on a GPU.

use cudarc::driver::sys::CUdeviceptr;

use super::Activation;
use crate::cuda::{Kernels, Launch};
use crate::{DataType, Device, Result, Tensor};

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

    /// The activation of each element of `x`.
    pub(super) fn apply_cuda(self, x: &Tensor) -> Result<Tensor> {
        let mut y = x.empty_like(x.shape())?;
        let launch = Launch::new(x.device(), &KERNELS, "forward", x.data_type())?.output(&mut y).input(x);
        self.finish(launch.optional_input(None), 1, x.numel())?;
        Ok(y)
    }

    /// Puts in place of each element of `x` the activation of its sum with `bias [C]`, if there is one, over the last
    /// axis.
    pub(crate) fn replace_cuda(self, x: &mut Tensor, bias: Option<&Tensor>) -> Result<()> {
        let launch = Launch::new(x.device(), &KERNELS, "forward", x.data_type())?.output(x).input(x);
        let (channels, count) = (bias.map_or(1, Tensor::numel), x.numel());
        self.finish(launch.optional_input(bias), channels, count)
    }

    /// As [`Activation::replace_cuda`], for `count` elements at an address and a bias at another one, or null.
    pub(crate) fn replace_at(
        self,
        (device, data_type): (Device, DataType),
        x: CUdeviceptr,
        bias: CUdeviceptr,
        [channels, count]: [usize; 2],
    ) -> Result<()> {
        let launch = Launch::new(device, &KERNELS, "forward", data_type)?.pointer(x).pointer(x);
        self.finish(launch.pointer(bias), channels, count)
    }

    /// Launches the kernel `forward`, which has its pointers.
    fn finish(self, launch: Launch, channels: usize, count: usize) -> Result<()> {
        launch.int(self.number()).int(channels).int(count).elements(count.div_ceil(4))
    }

    /// [`Activation::gradient`] on a GPU.
    pub(crate) fn gradient_cuda(self, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        if self == Self::Identity {
            return Ok(dy.detach());
        }
        let mut dx = dy.empty_like(dy.shape())?;
        let count = dy.numel();
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
