//! The camera that sees a mesh in a given silhouette.

mod search;

use std::ops::ControlFlow;

use relievo_mesh::{Appearance, Camera, Faces, Gradient, Lens, Object, Outputs, Renderer, Scene, View};
use relievo_tensor::{Device, Result, Tensor};

use crate::losses::squared_errors;

pub use search::starts_around;

use crate::vertices::run;
use crate::{Fit, FitError, FitSettings, Step, iou, silhouette_error};

/// How a camera is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CameraSettings {
    /// Steps at most.
    pub steps: u64,
    /// Steps from each likely start of many, before the best is taken on. Not with a single start.
    pub tries: u64,
    /// The optimiser; its learning rate is a length.
    pub fit: FitSettings,
    /// Half the vertical field of view, in degrees.
    pub half_angle: f32,
    /// The camera may look at any point, rather than at the origin.
    pub free_target: bool,
    /// The end is reached when the sum of squared differences of pixels is below this.
    pub enough: f32,
    /// The gradient of the renderer from a single start. A search of many comes near enough for [`Gradient::EDGES`].
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

/// Finds the place from which the mesh has the silhouette `wanted` `[H, W]`, by [`silhouette_error`]; on a GPU if its vertices
/// are there, the camera's numbers on the CPU. The camera is one of
/// [`View::LookAt`], in its left-handed axes: for a right-handed mesh that is to be seen as viewers show it, turn the sign
/// of z of the vertices, and of the result.
///
/// A single start is followed as it is. Of several, each is first moved along and across its view until the mesh is as large
/// and where the silhouette is. The likely ones are followed on a small image for [`CameraSettings::tries`] steps, the best
/// of these on the image itself, and the best of those for the remaining steps. A silhouette looks much the same from
/// opposite sides, so [`starts_around`] covers all of them.
///
/// # Errors
/// If there is no start or none sees the mesh, shapes do not fit, or the loss is not finite any more.
pub fn fit_camera(
    vertices: &Tensor,
    faces: &Faces,
    wanted: &Tensor,
    starts: &[[f32; 3]],
    settings: &CameraSettings,
    mut observe: impl FnMut(&Step<'_>) -> ControlFlow<()>,
) -> std::result::Result<FittedCamera, FitError> {
    let object = Object { vertices: vertices.clone(), faces: faces.clone(), appearance: Appearance::White };
    let (start, gradient, slower) = match starts {
        [] => return Err(FitError::Input("there is no place to start from; give at least one".into())),
        [only] => (Sight { eye: *only, at: [0.0; 3] }, settings.gradient, 1.0),
        many => {
            let found = search::search(&object, wanted, many, settings)?;
            let nothing =
                || FitError::Input("the mesh is seen from none of the starts; move them away".into());
            (found.ok_or_else(nothing)?, Gradient::EDGES, search::SLOWER)
        }
    };
    let way = Way { steps: settings.steps, enough: settings.enough, gradient, slower };
    let best = follow(&object, wanted, vec![start], settings, way, &mut observe)?;
    let found = best[0].0;
    let seen = silhouettes(&object, size_of(wanted)?, &[found.parameters()], settings, gradient)?;
    let seen = seen.to_device(Device::Cpu)?;
    Ok(FittedCamera { eye: found.eye, target: found.at, iou: iou(seen.data(), wanted.data()) })
}

/// A camera's place, and what it looks at.
#[derive(Clone, Copy, Debug)]
struct Sight {
    eye: [f32; 3],
    at: [f32; 3],
}

impl Sight {
    fn parameters(&self) -> [Tensor; 2] {
        [self.eye, self.at].map(|place| {
            let mut tensor = Tensor::empty([3]);
            tensor.data_mut().copy_from_slice(&place);
            tensor
        })
    }
}

fn size_of(image: &Tensor) -> Result<[usize; 2]> {
    image.dims("fit_camera")
}

/// How sights are followed.
#[derive(Clone, Copy)]
struct Way {
    steps: u64,
    /// The end is reached when the error is below this.
    enough: f32,
    gradient: Gradient,
    /// The learning rate is divided by this.
    slower: f64,
}

/// Follows sights together, each on its own way. Gives the best place that each has passed, and its error.
fn follow(
    object: &Object,
    wanted: &Tensor,
    mut sights: Vec<Sight>,
    settings: &CameraSettings,
    way: Way,
    observe: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
) -> std::result::Result<Vec<(Sight, f32)>, FitError> {
    let ([height, width], count) = (size_of(wanted)?, sights.len());
    let batch = Tensor::new(&wanted.data().repeat(count), [count, height, width])?;
    let batch = batch.to_device(object.vertices.device())?;
    let per_sight = if settings.free_target { 2 } else { 1 };
    let parameters = sights.iter().flat_map(|sight| sight.parameters().into_iter().take(per_sight));
    let rate = FitSettings { learning_rate: settings.fit.learning_rate / way.slower, ..settings.fit };
    let mut fit = Fit::new(parameters.collect(), rate)?;
    let fixed: Vec<Tensor> = sights.iter().map(|sight| sight.parameters()[1].clone()).collect();
    let mut best: Vec<(Sight, f32)> = sights.iter().map(|sight| (*sight, f32::INFINITY)).collect();
    let errors = std::cell::RefCell::new(vec![0.0; count]);
    let error = |parameters: &[Tensor]| -> Result<Tensor> {
        let own = parameters.chunks(per_sight).zip(&fixed);
        let pairs: Vec<[Tensor; 2]> =
            own.map(|(own, at)| [own[0].clone(), own.get(1).unwrap_or(at).clone()]).collect();
        let seen = silhouettes(object, [height, width], &pairs, settings, way.gradient)?;
        *errors.borrow_mut() = squared_errors(&seen, &batch)?;
        silhouette_error(&seen, &batch)
    };
    let mut observer = |step: &Step<'_>| {
        // The errors are those of the places before the step.
        for (index, error) in errors.borrow().iter().enumerate() {
            if *error < best[index].1 {
                best[index] = (sights[index], *error);
            }
            let own = &step.parameters[index * per_sight..(index + 1) * per_sight];
            let Sight { eye, at } = &mut sights[index];
            [eye, at].into_iter().zip(own).for_each(|(to, from)| to.copy_from_slice(from.data()));
        }
        let flow = observe(step);
        if step.loss < way.enough { ControlFlow::Break(()) } else { flow }
    };
    run(&mut fit, way.steps, error, |_| Ok(()), &mut observer)?;
    Ok(best)
}

/// The mesh's silhouettes `[B, H, W]` from places towards targets.
fn silhouettes(
    object: &Object,
    [height, width]: [usize; 2],
    parameters: &[[Tensor; 2]],
    settings: &CameraSettings,
    gradient: Gradient,
) -> Result<Tensor> {
    let renderer = Renderer { gradient, ..Renderer::new(width, height) };
    let scene = |[eye, at]: &[Tensor; 2]| {
        let up = Sight { eye: [0.0, 1.0, 0.0], at: [0.0; 3] }.parameters()[0].clone();
        let view = View::LookAt { eye: eye.clone(), at: at.clone(), up };
        let half_angle = Tensor::scalar(settings.half_angle);
        Scene::new(object.clone(), Camera { view, lens: Lens::Perspective { half_angle } })
    };
    let rendered = renderer.render(&parameters.iter().map(scene).collect::<Vec<_>>(), Outputs::SILHOUETTE)?;
    Ok(rendered.alpha.unwrap_or_else(|| Tensor::zeros([0])))
}
