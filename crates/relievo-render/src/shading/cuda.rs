//! Shading on a GPU.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Backward, Result, Tensor};

use crate::Camera;
use crate::cuda::{CameraArgument, THREADS, blocks, empty, kernels, launch, parts};
use crate::light::LIGHT;

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("shading", "normals.cuh");

/// Normals and shading.
pub(super) fn diffuse(camera: Camera, [depth, lights]: [&Tensor; 2], batch: usize) -> Result<[Tensor; 2]> {
    let size = camera.size;
    let mut normals = empty(depth.device(), [batch, size, size, 3])?;
    let mut shading = empty(depth.device(), [batch, size, size])?;
    launch(depth, &KERNELS, "diffuse")?
        .output(&mut normals)
        .output(&mut shading)
        .input(depth)
        .input(lights)
        .structure(CameraArgument::new(camera)?)
        .int(lights.numel() / LIGHT)
        .blocks(blocks(size * size, batch), THREADS)?;
    Ok([normals, shading])
}

pub(super) fn diffuse_backward(camera: Camera, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
    let [depth, lights, normals] = [0, 1, 2].map(|saved| &backward.saved[saved]);
    let [batch, rows, columns] = depth.dims("diffuse_shading")?;
    let pixels = rows * columns;
    let mut ddepth = backward.wants(0).then(|| depth.empty_like(depth.shape())).transpose()?;
    let mut sums =
        backward.wants(1).then(|| empty(lights.device(), [batch, parts(pixels), 3])).transpose()?;
    launch(depth, &KERNELS, "diffuse_backward")?
        .optional_output(ddepth.as_mut())
        .optional_output(sums.as_mut())
        .input(depth)
        .input(normals)
        .input(lights)
        .optional_input(backward.gradients[0].as_ref())
        .optional_input(backward.gradients[1].as_ref())
        .structure(CameraArgument::new(camera)?)
        .int(lights.numel() / LIGHT)
        .blocks([parts(pixels), batch, 1], THREADS)?;
    // The direction is a light's last three numbers.
    Ok(vec![ddepth, sums.map(|sums| light_gradient(&sums, 2, lights)).transpose()?])
}

pub(super) fn shade(
    [albedo, shading, lights]: [&Tensor; 3],
    [batch, rows, columns]: [usize; 3],
) -> Result<Tensor> {
    let mut image = albedo.empty_like(albedo.shape())?;
    launch(albedo, &KERNELS, "shade")?
        .output(&mut image)
        .input(albedo)
        .input(shading)
        .input(lights)
        .int(rows * columns)
        .int(lights.numel() / LIGHT)
        .blocks(blocks(rows * columns, batch), THREADS)?;
    Ok(image)
}

pub(super) fn shade_backward(
    backward: &Backward<'_>,
    [batch, rows, columns]: [usize; 3],
) -> Result<Vec<Option<Tensor>>> {
    let [albedo, shading, lights] = [&backward.saved[0], &backward.saved[1], &backward.saved[2]];
    let pixels = rows * columns;
    let gradient_of = |index: usize, input: &Tensor| {
        backward.wants(index).then(|| input.empty_like(input.shape())).transpose()
    };
    let (mut dalbedo, mut dshading) = (gradient_of(0, albedo)?, gradient_of(1, shading)?);
    let mut sums =
        backward.wants(2).then(|| empty(lights.device(), [batch, parts(pixels), 2])).transpose()?;
    launch(albedo, &KERNELS, "shade_backward")?
        .optional_output(dalbedo.as_mut())
        .optional_output(dshading.as_mut())
        .optional_output(sums.as_mut())
        .input(albedo)
        .input(shading)
        .input(lights)
        .input(backward.gradient())
        .int(pixels)
        .int(lights.numel() / LIGHT)
        .blocks([parts(pixels), batch, 1], THREADS)?;
    // The strengths are a light's first two numbers.
    Ok(vec![dalbedo, dshading, sums.map(|sums| light_gradient(&sums, 0, lights)).transpose()?])
}

/// The gradient `[B', 5]` from parts `[images, parts, n]` of the sums for the light's numbers `first..first + n`;
/// zero for the others.
fn light_gradient(sums: &Tensor, first: usize, lights: &Tensor) -> Result<Tensor> {
    let [images, parts, elements] = sums.dims("light_gradient")?;
    let count = lights.numel() / LIGHT;
    let mut gradient = lights.empty_like(lights.shape())?;
    launch(lights, &KERNELS, "light_gradient")?
        .output(&mut gradient)
        .input(sums)
        .int(elements)
        .int(first)
        .int(parts)
        .int(images)
        .int(count)
        .blocks([count, 1, 1], 32)?;
    Ok(gradient)
}
