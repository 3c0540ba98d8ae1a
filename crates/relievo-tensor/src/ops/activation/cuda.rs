//! Activations on a GPU.

use super::Activation;
use crate::cuda::{self, Kernels, Launch, Memory};
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "activation",
    source: concat!(
        include_str!("functions.cuh"),
        "\n#line 1 \"activation.cu\"\n",
        include_str!("kernel.cu")
    ),
};

impl Activation {
    /// Its number in `functions.cuh`.
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
        let launch = cuda::launch(x.device(), &KERNELS, "forward", x.data_type())?.output(&mut y).input(x);
        self.finish(launch.null(), 1, x.numel())?;
        Ok(y)
    }

    /// Puts in place of each element of `x` the activation of its sum with `bias [C]`, if there is one, over the last
    /// axis.
    pub(crate) fn replace_cuda(self, x: &mut Tensor, bias: Option<&Tensor>) -> Result<()> {
        let launch = cuda::launch(x.device(), &KERNELS, "forward", x.data_type())?.output(x).input(x);
        let (channels, count) = (bias.map_or(1, Tensor::numel), x.numel());
        Ok(self.finish(launch.optional_input(bias), channels, count)?)
    }

    /// As [`Activation::replace_cuda`], for memory of `count` elements and a bias of `channels` in other memory.
    pub(crate) fn replace_in(
        self,
        data_type: DataType,
        x: &Memory,
        bias: Option<&Memory>,
        [channels, count]: [usize; 2],
    ) -> std::result::Result<(), cuda::Error> {
        let launch = Launch::new(x.gpu().ordinal(), &KERNELS, "forward", data_type)?;
        let launch = launch.output_memory(x).input_memory(x);
        let launch = match bias {
            Some(bias) => launch.input_memory(bias),
            None => launch.null(),
        };
        self.finish(launch, channels, count)
    }

    /// Launches the kernel `forward`, which has its pointers.
    fn finish(self, launch: Launch, channels: usize, count: usize) -> std::result::Result<(), cuda::Error> {
        launch.int(self.number()).int(channels).int(count).elements(count.div_ceil(4))
    }

    /// [`Activation::gradient`] on a GPU.
    pub(crate) fn gradient_cuda(self, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        if self == Self::Identity {
            return Ok(dy.detach());
        }
        let mut dx = dy.empty_like(dy.shape())?;
        let count = dy.numel();
        cuda::launch(dy.device(), &KERNELS, "backward", dy.data_type())?
            .output(&mut dx)
            .input(y)
            .input(dy)
            .int(self.number())
            .int(count)
            .elements(count.div_ceil(4))?;
        Ok(dx)
    }
}
