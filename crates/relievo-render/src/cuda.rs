//! What the operations share on a GPU. Blocks lie within images: x counts those of an image, y the images.

use relievo_tensor::cuda::{self, Kernels, Launch, kernel_int};
use relievo_tensor::{DataType, Device, Result, Tensor};

use crate::Camera;

/// Threads of a block.
pub(crate) const THREADS: usize = 256;

/// Blocks that share an image where its pixels are summed, at most.
const MOST_PARTS: usize = 16;

/// The source of an operation's kernels: what they share, then `kernel.cu` of the calling file's folder.
macro_rules! kernels {
    ($name:literal $(, $header:literal)*) => {
        relievo_tensor::cuda::Kernels {
            name: $name,
            source: concat!(
                include_str!("../common.cuh"), $(include_str!($header),)*
                "\n#line 1 \"", $name, ".cu\"\n", include_str!("kernel.cu"),
            ),
        }
    };
}
pub(crate) use kernels;

/// The [`Camera`] as `common.cuh` has it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct CameraArgument {
    size: i32,
    focal: f32,
    centre: f32,
    normal_epsilon: f32,
}

impl CameraArgument {
    pub fn new(camera: Camera) -> Result<Self> {
        let (size, normal_epsilon) = (kernel_int(camera.size, "camera")?, camera.normal_epsilon());
        Ok(Self { size, focal: camera.focal(), centre: camera.centre(), normal_epsilon })
    }
}

/// A launch on the device of `tensor`. Everything in this crate is f32.
pub(crate) fn launch(tensor: &Tensor, kernels: &'static Kernels, name: &'static str) -> Result<Launch> {
    cuda::launch(tensor.device(), kernels, name, DataType::F32)
}

/// An f32 tensor on a GPU, to be written whole.
pub(crate) fn empty<const N: usize>(device: Device, shape: [usize; N]) -> Result<Tensor> {
    Tensor::empty_on(device, DataType::F32, shape)
}

/// Blocks with a thread for each of `count` things (pixels, triangles) of every image.
pub(crate) fn blocks(count: usize, images: usize) -> [usize; 3] {
    [count.div_ceil(THREADS), images, 1]
}

/// Into how many parts an image's pixels are summed before the parts are: the blocks of an image.
pub(crate) fn parts(pixels: usize) -> usize {
    pixels.div_ceil(THREADS).min(MOST_PARTS)
}
