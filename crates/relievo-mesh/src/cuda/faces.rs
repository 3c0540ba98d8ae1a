//! Light on faces, and normals, on a GPU.

use relievo_tensor::cuda::{Kernels, Launch};
use relievo_tensor::{Backward, Result, Tensor};

use super::{FaceTables, THREADS, empty, kernels, launch};
use crate::{Faces, Normals};

/// `faces.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("faces");

/// Blocks that share a sum over faces, at most.
const MOST_BLOCKS: usize = 128;

fn on(tensor: &Tensor, name: &'static str) -> Result<Launch> {
    launch(tensor.device(), &KERNELS, name)
}

/// The lights among the inputs of `light_faces`: at least one, without tensors if there is none.
fn rays<'a>(inputs: &[&'a Tensor]) -> Vec<[Option<&'a Tensor>; 3]> {
    let rays: Vec<_> = inputs[3..].chunks_exact(3).map(|ray| [0, 1, 2].map(|i| Some(ray[i]))).collect();
    if rays.is_empty() { vec![[None; 3]] } else { rays }
}

/// The light on one side of the faces, or on both; inputs as those of the operation.
pub(crate) fn light(faces: &Faces, sides: usize, front: f32, inputs: &[&Tensor]) -> Result<Tensor> {
    let device = inputs[0].device();
    let tables = FaceTables::of(faces, device)?;
    let mut light = empty(device, [sides * faces.len(), 3])?;
    for (index, ray) in rays(inputs).into_iter().enumerate() {
        let ambient = |input: usize| (index == 0).then_some(inputs[input]);
        let begun = on(inputs[0], "light_faces")?
            .output(&mut light)
            .input(inputs[0])
            .input(&tables.indices)
            .optional_input(ambient(1))
            .optional_input(ambient(2));
        let with_ray = ray.into_iter().fold(begun, Launch::optional_input);
        with_ray.float(front).int(faces.len()).int(sides).elements(faces.len())?;
    }
    Ok(light)
}

/// The gradients of all inputs.
pub(crate) fn light_gradients(
    faces: &Faces,
    sides: usize,
    front: f32,
    backward: &Backward<'_>,
) -> Result<Vec<Option<Tensor>>> {
    let saved: Vec<&Tensor> = backward.saved.iter().collect();
    let (vertices, device) = (saved[0], saved[0].device());
    let tables = FaceTables::of(faces, device)?;
    let blocks = faces.len().div_ceil(THREADS).clamp(1, MOST_BLOCKS);
    let mut corners = backward.wants(0).then(|| empty(device, [faces.len(), 9])).transpose()?;
    let mut gradients = vec![None];
    for (index, ray) in rays(&saved).into_iter().enumerate() {
        let mut parts = empty(device, [blocks, 9, 2])?;
        let begun = on(vertices, "light_gradients")?
            .optional_output(corners.as_mut())
            .output(&mut parts)
            .input(vertices)
            .input(&tables.indices);
        ray.into_iter()
            .fold(begun, Launch::optional_input)
            .input(backward.gradient())
            .float(front)
            .int(faces.len())
            .int(sides)
            .int(index)
            .blocks([blocks, 1, 1], THREADS)?;
        let like =
            |tensor: Option<&Tensor>| tensor.map(|tensor| tensor.empty_like(tensor.shape())).transpose();
        let ambient = [1, 2].map(|input| (index == 0).then_some(saved[input]));
        let [mut dambient, mut dambient_colour] = [like(ambient[0])?, like(ambient[1])?];
        let [mut dintensity, mut dcolour, mut ddirection] = [like(ray[0])?, like(ray[1])?, like(ray[2])?];
        on(vertices, "light_finish")?
            .optional_output(dambient.as_mut())
            .optional_output(dambient_colour.as_mut())
            .optional_output(dintensity.as_mut())
            .optional_output(dcolour.as_mut())
            .optional_output(ddirection.as_mut())
            .input(&parts)
            .input(saved[1])
            .input(saved[2])
            .optional_input(ray[0])
            .optional_input(ray[1])
            .int(blocks)
            .blocks([1, 1, 1], 32)?;
        let found = [dambient, dambient_colour, dintensity, dcolour, ddirection];
        gradients.extend(found.into_iter().flatten().map(Some));
    }
    gradients[0] = corners.map(|corners| gather(vertices, &corners, &tables)).transpose()?;
    Ok(gradients)
}

/// What vertices get from the corners of faces `[F, 9]`.
fn gather(vertices: &Tensor, of_corners: &Tensor, tables: &FaceTables) -> Result<Tensor> {
    let mut dvertices = vertices.empty_like(vertices.shape())?;
    let count = vertices.shape()[0];
    on(vertices, "gather")?
        .output(&mut dvertices)
        .input(of_corners)
        .input(&tables.starts)
        .input(&tables.corners)
        .int(tables.vertices)
        .int(count)
        .elements(count)?;
    Ok(dvertices)
}

/// Normals of faces or vertices; or the gradients of what they are normalised from, if there are those of the normals.
fn normalised_areas(
    kind: Normals,
    side: f32,
    vertices: &Tensor,
    faces: usize,
    tables: &FaceTables,
    dy: Option<&Tensor>,
) -> Result<Tensor> {
    let (device, count) = (vertices.device(), vertices.shape()[0]);
    match kind {
        Normals::Faces => {
            let mut to = empty(device, [faces, 3])?;
            on(vertices, "face_normals")?
                .output(&mut to)
                .input(vertices)
                .input(&tables.indices)
                .optional_input(dy)
                .float(side)
                .int(faces)
                .elements(faces)?;
            Ok(to)
        }
        Normals::Smooth => {
            let mut to = empty(device, [count, 3])?;
            on(vertices, "vertex_normals")?
                .output(&mut to)
                .input(vertices)
                .input(&tables.indices)
                .input(&tables.starts)
                .input(&tables.corners)
                .optional_input(dy)
                .float(side)
                .int(tables.vertices)
                .int(count)
                .elements(count)?;
            Ok(to)
        }
    }
}

/// Normals of an object.
pub(crate) fn normals(faces: &Faces, kind: Normals, side: f32, vertices: &Tensor) -> Result<Tensor> {
    let tables = FaceTables::of(faces, vertices.device())?;
    normalised_areas(kind, side, vertices, faces.len(), &tables, None)
}

/// The gradient of the vertices.
pub(crate) fn normals_gradient(
    faces: &Faces,
    kind: Normals,
    side: f32,
    backward: &Backward<'_>,
) -> Result<Tensor> {
    let vertices = &backward.saved[0];
    let tables = FaceTables::of(faces, vertices.device())?;
    let dareas = normalised_areas(kind, side, vertices, faces.len(), &tables, Some(backward.gradient()))?;
    let mut corners = empty(vertices.device(), [faces.len(), 9])?;
    on(vertices, "normal_corners")?
        .output(&mut corners)
        .input(vertices)
        .input(&tables.indices)
        .input(&dareas)
        .float(side)
        .int(usize::from(kind == Normals::Smooth))
        .int(faces.len())
        .elements(faces.len())?;
    gather(vertices, &corners, &tables)
}

/// Vectors normalised; or the gradient, if there is that of the result.
pub(crate) fn units(vectors: &Tensor, dy: Option<&Tensor>) -> Result<Tensor> {
    let mut to = vectors.empty_like(vectors.shape())?;
    let count = vectors.numel() / 3;
    on(vectors, "units")?.output(&mut to).input(vectors).optional_input(dy).int(count).elements(count)?;
    Ok(to)
}
