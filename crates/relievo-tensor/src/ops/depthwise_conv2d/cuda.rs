//! Depthwise convolutions on a GPU.

use crate::cuda::{Kernels, Launch};
use crate::ops::activation::Activation;
use crate::ops::conv2d::Conv2dGeometry;
pub(super) use crate::ops::conv2d::bias_gradient_cuda as bias_gradient;
use crate::{DataType, Error, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "depthwise_conv2d", source: include_str!("kernel.cu") };

/// Channels that a block of the weight gradient sums, and threads that share the pixels of each.
const CHANNELS: usize = 32;
const ROWS: usize = 8;

/// As kernels have it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Geometry {
    batch: i32,
    in_h: i32,
    in_w: i32,
    out_h: i32,
    out_w: i32,
    channels: i32,
    kernel_h: i32,
    kernel_w: i32,
    stride: i32,
    padding: i32,
}

impl From<&Conv2dGeometry> for Geometry {
    fn from(g: &Conv2dGeometry) -> Self {
        // Extents of a picture; none has 2^31 pixels.
        let narrow = |extent: usize| extent as i32;
        Self {
            batch: narrow(g.batch),
            in_h: narrow(g.in_h),
            in_w: narrow(g.in_w),
            out_h: narrow(g.out_h),
            out_w: narrow(g.out_w),
            channels: narrow(g.in_c),
            kernel_h: narrow(g.kernel_h),
            kernel_w: narrow(g.kernel_w),
            stride: narrow(g.stride),
            padding: narrow(g.padding),
        }
    }
}

/// The kernels read both as `real`.
fn same_type(a: &Tensor, b: &Tensor) -> Result<DataType> {
    let [first, second] = [a, b].map(Tensor::data_type);
    if first == second {
        return Ok(first);
    }
    Err(Error::shape("depthwise_conv2d", format!("of {first:?} and {second:?}")))
}

/// y from x, w and, if it is there, the bias.
pub(super) fn forward(g: &Conv2dGeometry, inputs: &[&Tensor], activation: Activation) -> Result<Tensor> {
    let (x, w, bias) = (inputs[0], inputs[1], inputs.get(2).copied());
    let mut y = x.scratch_like(g.y_shape())?;
    Launch::new(x.device(), &KERNELS, "forward", same_type(x, w)?)?
        .output(&mut y)
        .input(x)
        .input(w)
        .optional_input(bias)
        .structure(Geometry::from(g))
        .int(activation.number())
        .int(g.y_elements())
        .elements(g.y_elements())?;
    Ok(y)
}

/// dx from dz and w.
pub(super) fn input_gradient(g: &Conv2dGeometry, dz: &Tensor, w: &Tensor) -> Result<Tensor> {
    let mut dx = dz.scratch_like(g.x_shape())?;
    Launch::new(dz.device(), &KERNELS, "input_gradient", same_type(dz, w)?)?
        .output(&mut dx)
        .input(dz)
        .input(w)
        .structure(Geometry::from(g))
        .int(g.x_elements())
        .elements(g.x_elements())?;
    Ok(dx)
}

/// dw from x and dz.
pub(super) fn weight_gradient(g: &Conv2dGeometry, x: &Tensor, dz: &Tensor) -> Result<Tensor> {
    let mut dw = dz.scratch_like([g.kernel_h, g.kernel_w, g.in_c])?;
    Launch::new(dz.device(), &KERNELS, "weight_gradient", same_type(x, dz)?)?
        .output(&mut dw)
        .input(x)
        .input(dz)
        .structure(Geometry::from(g))
        .blocks([g.in_c.div_ceil(CHANNELS), g.taps(), 1], CHANNELS * ROWS)?;
    Ok(dw)
}
