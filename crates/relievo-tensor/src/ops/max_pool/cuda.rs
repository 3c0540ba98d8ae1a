//! Max pooling on a GPU.

use super::cpu;
use crate::cuda::{self, Kernels, kernel_int};
use crate::{Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "max_pool", source: include_str!("kernel.cu") };

/// As kernels have it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Layout {
    height: i32,
    width: i32,
    channels: i32,
    size: i32,
    /// Windows of an image that threads are started for.
    rows: i32,
    columns: i32,
}

/// The layout with so many windows, the number of their elements and of threads for them.
fn divide(
    layout: cpu::Layout,
    batch: usize,
    windows: impl Fn(usize) -> usize,
) -> Result<(Layout, usize, usize)> {
    let cpu::Layout { height, width, channels, size } = layout;
    let [rows, columns] = [windows(height), windows(width)];
    let count = batch * rows * columns * channels;
    let threads = if channels % 4 == 0 { count / 4 } else { count };
    let int = |extent| kernel_int(extent, "max_pool");
    let layout = Layout {
        height: int(height)?,
        width: int(width)?,
        channels: int(channels)?,
        size: int(size)?,
        rows: int(rows)?,
        columns: int(columns)?,
    };
    Ok((layout, count, threads))
}

/// y from x.
pub(super) fn forward(layout: cpu::Layout, x: &Tensor) -> Result<Tensor> {
    let batch = x.shape()[0];
    let (narrow, count, threads) = divide(layout, batch, |extent| extent / layout.size)?;
    let [height, width] = [layout.height, layout.width].map(|extent| extent / layout.size);
    let mut y = x.empty_like([batch, height, width, layout.channels])?;
    cuda::launch(x.device(), &KERNELS, "forward", x.data_type())?
        .output(&mut y)
        .input(x)
        .structure(narrow)
        .int(count)
        .elements(threads)?;
    Ok(y)
}

/// dx from x and dy.
pub(super) fn backward(layout: cpu::Layout, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (narrow, count, threads) = divide(layout, x.shape()[0], |extent| extent.div_ceil(layout.size))?;
    let mut dx = x.empty_like(x.shape())?;
    cuda::launch(x.device(), &KERNELS, "backward", x.data_type())?
        .output(&mut dx)
        .input(x)
        .input(dy)
        .structure(narrow)
        .int(count)
        .elements(threads)?;
    Ok(dx)
}
