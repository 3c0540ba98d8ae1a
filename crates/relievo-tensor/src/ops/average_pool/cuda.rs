//! Average pooling on a GPU.

use crate::cuda::{Kernels, Launch};
use crate::{Result, Shape, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "average_pool", source: include_str!("kernel.cu") };

/// As [`super::cpu::spread`]: the large pictures, of the given shape.
pub(super) fn spread(line: [usize; 3], scale: f32, small: &Tensor, shape: Shape) -> Result<Tensor> {
    run("spread", line, scale, small, shape)
}

/// As [`super::cpu::gather`]: the small pictures, of the given shape.
pub(super) fn gather(line: [usize; 3], scale: f32, large: &Tensor, shape: Shape) -> Result<Tensor> {
    run("gather", line, scale, large, shape)
}

/// A kernel with a thread for each column of its output.
fn run(
    kernel: &'static str,
    [width, channels, factor]: [usize; 3],
    scale: f32,
    input: &Tensor,
    shape: Shape,
) -> Result<Tensor> {
    let mut output = input.scratch_like(shape)?;
    let count = output.elements();
    Launch::new(input.device(), &KERNELS, kernel, input.data_type())?
        .output(&mut output)
        .input(input)
        .float(scale)
        .int(factor)
        .int(width)
        .int(channels)
        .int(count)
        .elements(if channels % 4 == 0 { count / 4 } else { count })?;
    Ok(output)
}
