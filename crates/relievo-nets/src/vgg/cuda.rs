//! The conversion of images on a GPU.

use relievo_tensor::cuda::{self, Kernels};
use relievo_tensor::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "vgg_input", source: include_str!("kernel.cu") };

/// Images (f32) as VGG takes them, of the given type.
pub(super) fn forward(images: &Tensor, data_type: DataType, [b, g, r]: [f32; 3]) -> Result<Tensor> {
    let pixels = images.numel() / 3;
    let mut y = Tensor::empty_on(images.device(), data_type, images.shape())?;
    cuda::launch(images.device(), &KERNELS, "forward", data_type)?
        .output(&mut y)
        .input(images)
        .float(b)
        .float(g)
        .float(r)
        .int(pixels)
        .elements(pixels)?;
    Ok(y)
}

/// The gradient of the images, f32.
pub(super) fn backward(dy: &Tensor) -> Result<Tensor> {
    let pixels = dy.numel() / 3;
    let mut dx = Tensor::empty_on(dy.device(), DataType::F32, dy.shape())?;
    cuda::launch(dy.device(), &KERNELS, "backward", dy.data_type())?
        .output(&mut dx)
        .input(dy)
        .int(pixels)
        .elements(pixels)?;
    Ok(dx)
}
