//! The conversion of pictures on a GPU.

use relievo_tensor::cuda::{Kernels, Launch};
use relievo_tensor::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "vgg_input", source: include_str!("kernel.cu") };

/// Pictures (f32) as VGG takes them, of the given type.
pub(super) fn forward(pictures: &Tensor, data_type: DataType, [b, g, r]: [f32; 3]) -> Result<Tensor> {
    let pixels = pictures.elements() / 3;
    let mut y = Tensor::scratch_on(pictures.device(), data_type, pictures.shape())?;
    Launch::new(pictures.device(), &KERNELS, "forward", data_type)?
        .output(&mut y)
        .input(pictures)
        .float(b)
        .float(g)
        .float(r)
        .int(pixels)
        .elements(pixels)?;
    Ok(y)
}

/// The gradient of the pictures, f32.
pub(super) fn backward(dy: &Tensor) -> Result<Tensor> {
    let pixels = dy.elements() / 3;
    let mut dx = Tensor::scratch_on(dy.device(), DataType::F32, dy.shape())?;
    Launch::new(dy.device(), &KERNELS, "backward", dy.data_type())?
        .output(&mut dx)
        .input(dy)
        .int(pixels)
        .elements(pixels)?;
    Ok(dx)
}
