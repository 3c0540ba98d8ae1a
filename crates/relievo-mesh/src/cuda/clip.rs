//! Cuts at the near plane on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Result, Tensor};

use super::tables::send_ints;
use super::{empty, kernels, launch, zeros};

/// `clip.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("clip");

/// Whether a vertex of `seen` is nearer than `limit`; waits for the GPU.
pub(crate) fn some_behind(seen: &Tensor, limit: f32) -> Result<bool> {
    let mut found = zeros(seen.device(), [1])?;
    let count = seen.shape()[0];
    launch(seen.device(), &KERNELS, "look_behind")?
        .output(&mut found)
        .input(seen)
        .float(limit)
        .int(count)
        .elements(count)?;
    Ok(found.to_device(relievo_tensor::Device::Cpu)?.data()[0].to_bits() != 0)
}

/// The vertices, and behind them those of the cuts of edges between these pairs.
pub(crate) fn append(seen: &Tensor, cuts: &[[u32; 2]], near: f32) -> Result<Tensor> {
    let vertices = seen.shape()[0];
    let count = vertices + cuts.len();
    let ends = send_ints(seen.device(), cuts.iter().flatten().copied())?;
    let mut all = empty(seen.device(), [count, 3])?;
    launch(seen.device(), &KERNELS, "append")?
        .output(&mut all)
        .input(seen)
        .input(&ends)
        .float(near)
        .int(vertices)
        .int(count)
        .elements(count)?;
    Ok(all)
}

/// The gradient of the vertices.
pub(crate) fn append_gradients(seen: &Tensor, cuts: &[[u32; 2]], near: f32, dy: &Tensor) -> Result<Tensor> {
    let (device, vertices) = (seen.device(), seen.shape()[0]);
    // Ends by vertex, and of each vertex in the order of cuts.
    let mut ends: Vec<(u32, u32)> =
        cuts.as_flattened().iter().enumerate().map(|(end, vertex)| (*vertex, end as u32)).collect();
    ends.sort_unstable();
    let (mut touched, mut first) = (Vec::new(), 0);
    for list in ends.chunk_by(|a, b| a.0 == b.0) {
        touched.extend([list[0].0, first, first + list.len() as u32, 0]);
        first += list.len() as u32;
    }
    let count = touched.len() / 4;
    let places = send_ints(device, cuts.iter().flatten().copied())?;
    let list = send_ints(device, ends.iter().map(|(_, end)| *end))?;
    let touched = send_ints(device, touched.into_iter())?;
    let mut dseen = empty(device, [vertices, 3])?;
    launch(device, &KERNELS, "head")?
        .output(&mut dseen)
        .input(dy)
        .int(3 * vertices)
        .elements(3 * vertices)?;
    launch(device, &KERNELS, "append_gradients")?
        .output(&mut dseen)
        .input(seen)
        .input(dy)
        .input(&places)
        .input(&touched)
        .input(&list)
        .float(near)
        .int(vertices)
        .int(count)
        .elements(count)?;
    Ok(dseen)
}
