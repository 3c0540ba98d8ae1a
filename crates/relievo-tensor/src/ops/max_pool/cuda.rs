//! Max pooling on a GPU.

use super::cpu;
use crate::cuda::{Kernels, Launch};
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
fn divide(layout: cpu::Layout, batch: usize, windows: impl Fn(usize) -> usize) -> (Layout, usize, usize) {
    let cpu::Layout { height, width, channels, size } = layout;
    let [rows, columns] = [windows(height), windows(width)];
    let count = batch * rows * columns * channels;
    // Extents of an image; none has 2^31 pixels.
    let [height, width, channels] = [height, width, channels].map(|n| n as i32);
    let [size, rows, columns] = [size, rows, columns].map(|n| n as i32);
    let threads = if channels % 4 == 0 { count / 4 } else { count };
    (Layout { height, width, channels, size, rows, columns }, count, threads)
}

/// y from x.
pub(super) fn forward(layout: cpu::Layout, x: &Tensor) -> Result<Tensor> {
    let batch = x.shape()[0];
    let (narrow, count, threads) = divide(layout, batch, |extent| extent / layout.size);
    let [height, width] = [layout.height, layout.width].map(|extent| extent / layout.size);
    let mut y = x.empty_like([batch, height, width, layout.channels])?;
    Launch::new(x.device(), &KERNELS, "forward", x.data_type())?
        .output(&mut y)
        .input(x)
        .structure(narrow)
        .int(count)
        .elements(threads)?;
    Ok(y)
}

/// dx from x and dy.
pub(super) fn backward(layout: cpu::Layout, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (narrow, count, threads) = divide(layout, x.shape()[0], |extent| extent.div_ceil(layout.size));
    let mut dx = x.empty_like(x.shape())?;
    Launch::new(x.device(), &KERNELS, "backward", x.data_type())?
        .output(&mut dx)
        .input(x)
        .input(dy)
        .structure(narrow)
        .int(count)
        .elements(threads)?;
    Ok(dx)
}
