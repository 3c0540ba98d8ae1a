//! Vertices of a mesh moved until it has a given silhouette.

use std::ops::ControlFlow;

use relievo_mesh::{Appearance, Camera, Faces, Gradient, Object, Outputs, Renderer, Scene};
use relievo_tensor::ops::reshape;
use relievo_tensor::{Result, Tensor};

use crate::{Fit, FitError, FitSettings, Step, silhouette_error};

/// How vertices are fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VertexSettings {
    /// Steps at most; the callback may end them.
    pub steps: u64,
    /// The optimiser.
    pub fit: FitSettings,
    /// The gradient of the renderer.
    pub gradient: Gradient,
}

impl Default for VertexSettings {
    /// For a mesh of extent 2. The published example makes 300 steps with a learning rate of 0.001.
    fn default() -> Self {
        let fit = FitSettings { learning_rate: 0.004, ..FitSettings::default() };
        Self { steps: 150, fit, gradient: Gradient::default() }
    }
}

/// Moves `vertices` `[V, 3]`, on a GPU if they are there, so that the mesh has the silhouette `wanted` `[H, W]`, 0 to 1, as `camera` sees it, by
/// [`silhouette_error`]. Nothing holds the surface together but its faces. Gives the vertices.
///
/// # Errors
/// If shapes do not fit, or the loss is not finite any more.
pub fn fit_vertices(
    vertices: &Tensor,
    faces: &Faces,
    camera: &Camera,
    wanted: &Tensor,
    settings: &VertexSettings,
    mut observe: impl FnMut(&Step<'_>) -> ControlFlow<()>,
) -> std::result::Result<Tensor, FitError> {
    let [height, width] = wanted.dims("fit_vertices")?;
    let wanted = reshape(wanted, [1, height, width])?.to_device(vertices.device())?;
    let renderer = Renderer { gradient: settings.gradient, ..Renderer::new(width, height) };
    let mut fit = Fit::new(vec![vertices.clone()], settings.fit)?;
    let error = |parameters: &[Tensor]| -> Result<Tensor> {
        let object =
            Object { vertices: parameters[0].clone(), faces: faces.clone(), appearance: Appearance::White };
        let scene = Scene::new(object, camera.clone());
        let rendered = renderer.render(&[scene], Outputs::SILHOUETTE)?;
        silhouette_error(&rendered.alpha.unwrap_or_else(|| Tensor::zeros([0])), &wanted)
    };
    run(&mut fit, settings.steps, error, |_| Ok(()), &mut observe)?;
    Ok(fit.parameters()[0].clone())
}

/// Steps until there are enough or the callback has enough; the learning rate falls to zero over the last third, so that
/// parameters settle. `tidy` runs behind every step.
pub(crate) fn run(
    fit: &mut Fit,
    steps: u64,
    mut loss: impl FnMut(&[Tensor]) -> Result<Tensor>,
    mut tidy: impl FnMut(&mut Fit) -> Result<()>,
    observe: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
) -> std::result::Result<(), FitError> {
    let learning_rate = fit.learning_rate();
    for step in 0..steps {
        let left = (steps - step) as f64 / steps as f64;
        fit.set_learning_rate(learning_rate * (3.0 * left).min(1.0));
        let loss = fit.step(&mut loss)?;
        tidy(fit)?;
        let number = fit.steps();
        if !loss.is_finite() {
            return Err(FitError::NotFinite(number));
        }
        if observe(&Step { number, loss, parameters: fit.parameters() }).is_break() {
            break;
        }
    }
    Ok(())
}
