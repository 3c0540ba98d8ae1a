//! Cameras on a GPU.

use relievo_tensor::cuda::{Kernels, Launch};
use relievo_tensor::{Backward, Result, Tensor};

use super::{THREADS, empty, kernels, launch};

/// `camera.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("camera");

/// Blocks that share a sum over vertices, at most: few enough for one thread to add them up.
const MOST_BLOCKS: usize = 128;

fn on(tensor: &Tensor, name: &'static str) -> Result<Launch> {
    launch(tensor.device(), &KERNELS, name)
}

fn count(vertices: &Tensor) -> usize {
    vertices.shape()[0]
}

/// Blocks of a sum over vertices; one at least, which writes zeros.
fn summing(vertices: &Tensor) -> usize {
    count(vertices).div_ceil(THREADS).clamp(1, MOST_BLOCKS)
}

/// Room for the sums of `blocks` blocks, of 64 bits.
fn parts(vertices: &Tensor, blocks: usize, elements: usize) -> Result<Tensor> {
    empty(vertices.device(), [blocks, elements, 2])
}

/// `R (v - o)` or `R v + o`.
pub(crate) fn transform(from_eye: bool, inputs: &[&Tensor]) -> Result<Tensor> {
    let mut seen = inputs[0].empty_like(inputs[0].shape())?;
    on(inputs[0], "transform")?
        .output(&mut seen)
        .input(inputs[0])
        .input(inputs[1])
        .input(inputs[2])
        .int(usize::from(from_eye))
        .int(count(inputs[0]))
        .elements(count(inputs[0]))?;
    Ok(seen)
}

/// The gradients of vertices, rotation and offset.
pub(crate) fn transform_gradients(from_eye: bool, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
    let [vertices, rotation, offset] = [0, 1, 2].map(|input| &backward.saved[input]);
    let summed = backward.wants(1) || backward.wants(2);
    let blocks = summing(vertices);
    let mut dvertices = backward.wants(0).then(|| vertices.empty_like(vertices.shape())).transpose()?;
    let mut sums = summed.then(|| parts(vertices, blocks, 12)).transpose()?;
    // Without sums a thread has one vertex.
    let blocks = if summed { blocks } else { count(vertices).div_ceil(THREADS) };
    on(vertices, "transform_gradients")?
        .optional_output(dvertices.as_mut())
        .optional_output(sums.as_mut())
        .input(vertices)
        .input(rotation)
        .input(offset)
        .input(backward.gradient())
        .int(usize::from(from_eye))
        .int(count(vertices))
        .blocks([blocks, 1, 1], THREADS)?;
    let Some(sums) = sums else { return Ok(vec![dvertices, None, None]) };
    let mut drotation = rotation.empty_like(rotation.shape())?;
    let mut doffset = offset.empty_like(offset.shape())?;
    on(vertices, "transform_finish")?
        .output(&mut drotation)
        .output(&mut doffset)
        .input(&sums)
        .input(rotation)
        .int(usize::from(from_eye))
        .int(blocks)
        .blocks([1, 1, 1], 32)?;
    Ok(vec![dvertices, Some(drotation), Some(doffset)])
}

/// Perspective: `width` is the tangent of half the field of view.
pub(crate) fn perspective(seen: &Tensor, width: f32, aspect: f32) -> Result<Tensor> {
    let mut screen = seen.empty_like(seen.shape())?;
    on(seen, "perspective")?
        .output(&mut screen)
        .input(seen)
        .float(width)
        .float(aspect)
        .int(count(seen))
        .elements(count(seen))?;
    Ok(screen)
}

/// The gradients of the vertices and of the angle; `slope` is that of 1 / width by the angle.
pub(crate) fn perspective_gradients(
    backward: &Backward<'_>,
    [width, aspect, slope]: [f32; 3],
) -> Result<Vec<Option<Tensor>>> {
    let (seen, angle) = (&backward.saved[0], &backward.saved[1]);
    let blocks = summing(seen);
    let mut dseen = seen.empty_like(seen.shape())?;
    let mut sums = parts(seen, blocks, 1)?;
    on(seen, "perspective_gradients")?
        .output(&mut dseen)
        .output(&mut sums)
        .input(seen)
        .input(backward.gradient())
        .float(width)
        .float(aspect)
        .int(count(seen))
        .blocks([blocks, 1, 1], THREADS)?;
    let mut dangle = angle.empty_like(angle.shape())?;
    on(seen, "perspective_finish")?
        .output(&mut dangle)
        .input(&sums)
        .float(slope)
        .int(blocks)
        .blocks([1, 1, 1], 32)?;
    Ok(vec![Some(dseen), Some(dangle)])
}

/// x over `aspect`: the screen's vertices from those seen, and the gradient of these from that of those.
pub(crate) fn orthographic(seen: &Tensor, aspect: f32) -> Result<Tensor> {
    let mut screen = seen.empty_like(seen.shape())?;
    on(seen, "orthographic")?
        .output(&mut screen)
        .input(seen)
        .float(aspect)
        .int(count(seen))
        .elements(count(seen))?;
    Ok(screen)
}

/// By a camera matrix and a lens.
pub(crate) fn project(inputs: &[&Tensor], size: [f32; 2]) -> Result<Tensor> {
    let mut screen = inputs[0].empty_like(inputs[0].shape())?;
    on(inputs[0], "project")?
        .output(&mut screen)
        .input(inputs[0])
        .input(inputs[1])
        .input(inputs[2])
        .structure(size)
        .int(count(inputs[0]))
        .elements(count(inputs[0]))?;
    Ok(screen)
}

/// The gradients of vertices, matrix and distortion.
pub(crate) fn project_gradients(backward: &Backward<'_>, size: [f32; 2]) -> Result<Vec<Option<Tensor>>> {
    let [seen, matrix, distortion] = [0, 1, 2].map(|input| &backward.saved[input]);
    let blocks = summing(seen);
    let mut dseen = seen.empty_like(seen.shape())?;
    let mut sums = parts(seen, blocks, 14)?;
    on(seen, "project_gradients")?
        .output(&mut dseen)
        .output(&mut sums)
        .input(seen)
        .input(matrix)
        .input(distortion)
        .input(backward.gradient())
        .structure(size)
        .int(count(seen))
        .blocks([blocks, 1, 1], THREADS)?;
    let mut dmatrix = matrix.empty_like(matrix.shape())?;
    let mut ddistortion = distortion.empty_like(distortion.shape())?;
    on(seen, "project_finish")?
        .output(&mut dmatrix)
        .output(&mut ddistortion)
        .input(&sums)
        .int(blocks)
        .blocks([1, 1, 1], 32)?;
    Ok(vec![Some(dseen), Some(dmatrix), Some(ddistortion)])
}
