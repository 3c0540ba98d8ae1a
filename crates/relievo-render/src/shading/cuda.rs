//! Shading on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Backward, Result, Tensor};

use crate::cuda::{THREADS, blocks, kernels, launch, parts, scratch};
use crate::light::LIGHT;

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("shading");

pub(super) fn diffuse([normals, lights]: [&Tensor; 2], [batch, rows, columns]: [usize; 3]) -> Result<Tensor> {
    let mut shading = scratch(normals.device(), [batch, rows, columns])?;
    launch(normals, &KERNELS, "diffuse")?
        .output(&mut shading)
        .input(normals)
        .input(lights)
        .int(rows * columns)
        .int(lights.elements() / LIGHT)
        .blocks(blocks(rows * columns, batch), THREADS)?;
    Ok(shading)
}

pub(super) fn diffuse_backward(
    backward: &Backward<'_>,
    [batch, rows, columns]: [usize; 3],
) -> Result<Vec<Option<Tensor>>> {
    let (normals, lights) = (&backward.saved[0], &backward.saved[1]);
    let pixels = rows * columns;
    let mut dnormals = backward.wants(0).then(|| normals.scratch_like(normals.shape())).transpose()?;
    let mut sums =
        backward.wants(1).then(|| scratch(lights.device(), [batch, parts(pixels), 3])).transpose()?;
    launch(normals, &KERNELS, "diffuse_backward")?
        .optional_output(dnormals.as_mut())
        .optional_output(sums.as_mut())
        .input(normals)
        .input(lights)
        .input(backward.gradient())
        .int(pixels)
        .int(lights.elements() / LIGHT)
        .blocks([parts(pixels), batch, 1], THREADS)?;
    // The direction is a light's last three numbers.
    Ok(vec![dnormals, sums.map(|sums| light_gradient(&sums, 2, lights)).transpose()?])
}

pub(super) fn shade(
    [albedo, shading, lights]: [&Tensor; 3],
    [batch, rows, columns]: [usize; 3],
) -> Result<Tensor> {
    let mut picture = albedo.scratch_like(albedo.shape())?;
    launch(albedo, &KERNELS, "shade")?
        .output(&mut picture)
        .input(albedo)
        .input(shading)
        .input(lights)
        .int(rows * columns)
        .int(lights.elements() / LIGHT)
        .blocks(blocks(rows * columns, batch), THREADS)?;
    Ok(picture)
}

pub(super) fn shade_backward(
    backward: &Backward<'_>,
    [batch, rows, columns]: [usize; 3],
) -> Result<Vec<Option<Tensor>>> {
    let [albedo, shading, lights] = [&backward.saved[0], &backward.saved[1], &backward.saved[2]];
    let pixels = rows * columns;
    let gradient_of = |index: usize, input: &Tensor| {
        backward.wants(index).then(|| input.scratch_like(input.shape())).transpose()
    };
    let (mut dalbedo, mut dshading) = (gradient_of(0, albedo)?, gradient_of(1, shading)?);
    let mut sums =
        backward.wants(2).then(|| scratch(lights.device(), [batch, parts(pixels), 2])).transpose()?;
    launch(albedo, &KERNELS, "shade_backward")?
        .optional_output(dalbedo.as_mut())
        .optional_output(dshading.as_mut())
        .optional_output(sums.as_mut())
        .input(albedo)
        .input(shading)
        .input(lights)
        .input(backward.gradient())
        .int(pixels)
        .int(lights.elements() / LIGHT)
        .blocks([parts(pixels), batch, 1], THREADS)?;
    // The strengths are a light's first two numbers.
    Ok(vec![dalbedo, dshading, sums.map(|sums| light_gradient(&sums, 0, lights)).transpose()?])
}

/// The gradient `[B', 5]` from parts `[pictures, parts, n]` of the sums for the light's numbers `first..first + n`; zero
/// for the others.
fn light_gradient(sums: &Tensor, first: usize, lights: &Tensor) -> Result<Tensor> {
    let [pictures, parts, elements] = sums.axes("light_gradient")?;
    let count = lights.elements() / LIGHT;
    let mut gradient = lights.scratch_like(lights.shape())?;
    launch(lights, &KERNELS, "light_gradient")?
        .output(&mut gradient)
        .input(sums)
        .int(elements)
        .int(first)
        .int(parts)
        .int(pictures)
        .int(count)
        .blocks([count, 1, 1], 32)?;
    Ok(gradient)
}
