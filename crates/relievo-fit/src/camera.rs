//! The camera that sees a mesh in a given silhouette.

use std::ops::ControlFlow;

use relievo_mesh::vector::{add, cross, length, scale, sub};
use relievo_mesh::{Appearance, Camera, Faces, Gradient, Lens, Object, Outputs, Renderer, Scene, View};
use relievo_tensor::ops::reshape;
use relievo_tensor::{Result, Tensor};

use crate::vertices::run;
use crate::{Fit, FitError, FitSettings, Step, iou, silhouette_error};

/// How a camera is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CameraSettings {
    /// Steps at most.
    pub steps: u64,
    /// Steps from each of the five best starts, before the best is taken on. Not with a single start.
    pub tries: u64,
    /// The optimiser; its learning rate is a length.
    pub fit: FitSettings,
    /// Half the vertical field of view, in degrees.
    pub half_angle: f32,
    /// The camera may look at any point, rather than at the origin.
    pub free_target: bool,
    /// The end is reached when the sum of squared differences of pixels is below this.
    pub enough: f32,
    /// The gradient of the renderer.
    pub gradient: Gradient,
}

impl Default for CameraSettings {
    /// For a mesh of extent 2. The published example has a learning rate of 0.1 and ends in the same way.
    fn default() -> Self {
        Self {
            steps: 200,
            tries: 40,
            fit: FitSettings { learning_rate: 0.2, betas: [0.9, 0.999] },
            half_angle: 30.0,
            free_target: false,
            enough: 70.0,
            gradient: Gradient::default(),
        }
    }
}

/// A camera that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FittedCamera {
    /// Its place.
    pub eye: [f32; 3],
    /// What it looks at.
    pub target: [f32; 3],
    /// Intersection over union of the mesh's silhouette and the wanted one.
    pub iou: f64,
}

/// Places around the origin to start from, at this distance: 24 sides from each of five heights.
pub fn starts_around(distance: f32) -> Vec<[f32; 3]> {
    let place = |elevation: f32, azimuth: u16| {
        let ((sin_e, cos_e), (sin_a, cos_a)) =
            (elevation.to_radians().sin_cos(), f32::from(azimuth).to_radians().sin_cos());
        [distance * cos_e * sin_a, distance * sin_e, -distance * cos_e * cos_a]
    };
    let heights = [20.0, -5.0, 45.0, -30.0, 70.0];
    heights.into_iter().flat_map(|elevation| (0..360).step_by(15).map(move |a| place(elevation, a))).collect()
}

/// Finds the place from which the mesh has the silhouette `wanted` `[H, W]`, by [`silhouette_error`]. The camera is one of
/// [`View::LookAt`], in its left-handed axes: for a right-handed mesh that is to be seen as viewers show it, turn the sign
/// of z of the vertices, and of the result.
///
/// A single start is followed as it is. Of several, each is first moved along and across its view until the mesh is as large
/// and where the silhouette is; from the best of these a few steps are made, and from the best of those the others.
///
/// # Errors
/// If there is no start, shapes do not fit, or the loss is not finite any more.
pub fn fit_camera(
    vertices: &Tensor,
    faces: &Faces,
    wanted: &Tensor,
    starts: &[[f32; 3]],
    settings: &CameraSettings,
    mut observe: impl FnMut(&Step<'_>) -> ControlFlow<()>,
) -> std::result::Result<FittedCamera, FitError> {
    let object = Object { vertices: vertices.clone(), faces: faces.clone(), appearance: Appearance::White };
    let Some(first) = starts.first() else {
        return Err(FitError::Input("there is no place to start from; give at least one".into()));
    };
    let mut start = vec![*first, [0.0; 3]];
    if starts.len() > 1 {
        let small = shrunk(wanted)?;
        let mut begins: Vec<_> =
            starts.iter().filter_map(|place| framed(&object, &small, *place, settings)).collect();
        begins.sort_by(|a, b| a.1.total_cmp(&b.1));
        let begins = begins.into_iter().take(BEST).map(|(places, _)| places).collect();
        let tried = explore(&object, wanted, begins, settings);
        start = tried.into_iter().next().unwrap_or(start);
    }
    let (places, _) =
        descend(&object, wanted, start, settings, settings.steps, settings.enough, &mut observe)?;
    let found = silhouette(&object, wanted, &places.iter().map(vector).collect::<Vec<_>>(), settings)?;
    Ok(FittedCamera { eye: places[0], target: places[1], iou: iou(found.data(), wanted.data()) })
}

fn vector(place: &[f32; 3]) -> Tensor {
    let mut tensor = Tensor::empty([3]);
    tensor.data_mut().copy_from_slice(place);
    tensor
}

/// So many starts are followed for a few steps.
const BEST: usize = 5;

/// The start moved along its view, and across it if the target is free, until the mesh is as large and where the wanted
/// silhouette is; and the error there. `None` if nothing is seen.
fn framed(
    object: &Object,
    wanted: &Tensor,
    start: [f32; 3],
    settings: &CameraSettings,
) -> Option<(Vec<[f32; 3]>, f32)> {
    let [height, width] = wanted.dims("fit_camera").ok()?;
    let (mut eye, mut at) = (start, [0.0; 3]);
    let goal = spot(wanted.data(), width)?;
    let see = |eye, at| silhouette(object, wanted, &[vector(&eye), vector(&at)], settings).ok();
    for _ in 0..3 {
        let now = spot(see(eye, at)?.data(), width)?;
        let axis = sub(at, eye);
        let distance = length(axis);
        let away = scale(axis, 1.0 / distance);
        if settings.free_target {
            let right = cross([0.0, 1.0, 0.0], away);
            let right = scale(right, 1.0 / length(right).max(1e-6));
            let up = cross(away, right);
            // Half the image's height in the plane of the target, per pixel.
            let pixel = settings.half_angle.to_radians().tan() * distance * 2.0 / height as f32;
            let [x, y] = [now.middle[0] - goal.middle[0], goal.middle[1] - now.middle[1]];
            let shift = scale(add(scale(right, x), scale(up, y)), pixel);
            at = add(at, shift);
        }
        eye = sub(at, scale(away, distance * (now.area / goal.area).sqrt()));
    }
    let error = see(eye, at)?.data().iter().zip(wanted.data()).map(|(a, b)| (a - b) * (a - b)).sum();
    Some((vec![eye, at], error))
}

/// The area of a silhouette in pixels, and its middle: column and row.
struct Spot {
    area: f32,
    middle: [f32; 2],
}

fn spot(image: &[f32], width: usize) -> Option<Spot> {
    let sums = image.iter().enumerate().fold([0.0; 3], |[area, x, y], (at, share)| {
        [area + share, x + share * (at % width) as f32, y + share * (at / width) as f32]
    });
    (sums[0] > 0.0).then(|| Spot { area: sums[0], middle: [sums[1] / sums[0], sums[2] / sums[0]] })
}

/// Where a few steps lead from each of these places and targets, the best first. One that sees nothing leads nowhere and is
/// left out.
fn explore(
    object: &Object,
    wanted: &Tensor,
    starts: Vec<Vec<[f32; 3]>>,
    settings: &CameraSettings,
) -> Vec<Vec<[f32; 3]>> {
    let tries = |start| {
        descend(object, wanted, start, settings, settings.tries, 0.0, &mut |_| ControlFlow::Continue(())).ok()
    };
    let mut tried: Vec<_> = starts.into_iter().filter_map(tries).collect();
    tried.sort_by(|a, b| a.1.total_cmp(&b.1));
    tried.into_iter().map(|(places, _)| places).collect()
}

/// Steps from a place and a target. Gives the best of those passed, and its error.
fn descend(
    object: &Object,
    wanted: &Tensor,
    start: Vec<[f32; 3]>,
    settings: &CameraSettings,
    steps: u64,
    enough: f32,
    observe: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
) -> std::result::Result<(Vec<[f32; 3]>, f32), FitError> {
    let count = if settings.free_target { 2 } else { 1 };
    let mut fit = Fit::new(start[..count].iter().map(vector).collect(), settings.fit)?;
    let [height, width] = wanted.dims("fit_camera")?;
    let batch = reshape(wanted, [1, height, width])?;
    let error = |parameters: &[Tensor]| -> Result<Tensor> {
        silhouette_error(&silhouette(object, wanted, parameters, settings)?, &batch)
    };
    let places = |parameters: &[Tensor]| -> Vec<[f32; 3]> {
        let mut places = start.clone();
        places.iter_mut().zip(parameters).for_each(|(to, from)| to.copy_from_slice(from.data()));
        places
    };
    let mut best = (start.clone(), f32::INFINITY);
    let mut before = start.clone();
    let mut follow = |step: &Step<'_>| {
        // The loss is that of the place before the step.
        if step.loss < best.1 {
            best = (before.clone(), step.loss);
        }
        before = places(step.parameters);
        let flow = observe(step);
        if step.loss < enough { ControlFlow::Break(()) } else { flow }
    };
    run(&mut fit, steps, error, |_| {}, &mut follow)?;
    Ok(best)
}

/// The mesh's silhouette `[1, H, W]` from a place, and towards a target if there is a second parameter.
fn silhouette(
    object: &Object,
    wanted: &Tensor,
    parameters: &[Tensor],
    settings: &CameraSettings,
) -> Result<Tensor> {
    let [height, width] = wanted.dims("fit_camera")?;
    let renderer = Renderer { gradient: settings.gradient, ..Renderer::new(width, height) };
    let at = parameters.get(1).cloned().unwrap_or_else(|| Tensor::zeros([3]));
    let view = View::LookAt { eye: parameters[0].clone(), at, up: vector(&[0.0, 1.0, 0.0]) };
    let camera = Camera { view, lens: Lens::Perspective { half_angle: Tensor::scalar(settings.half_angle) } };
    let rendered = renderer.render(&[Scene::new(object.clone(), camera)], Outputs::SILHOUETTE)?;
    Ok(rendered.alpha.unwrap_or_else(|| Tensor::zeros([0])))
}

/// An image `[H, W]` at a quarter of its size, or as it is if it is small.
fn shrunk(image: &Tensor) -> Result<Tensor> {
    let [height, width] = image.dims("fit_camera")?;
    let by = [4, 2, 1].into_iter().find(|by| height / by >= 32 && width / by >= 32).unwrap_or(1);
    let (rows, columns) = (height / by, width / by);
    let mean = |at: usize| {
        let (row, column) = (at / columns * by, at % columns * by);
        let pixels = (0..by * by).map(|i| image.data()[(row + i / by) * width + column + i % by]);
        pixels.sum::<f32>() / (by * by) as f32
    };
    Tensor::new(&(0..rows * columns).map(mean).collect::<Vec<f32>>(), [rows, columns])
}
