//! Colours of a mesh from images.

use std::ops::ControlFlow;

use relievo_mesh::{Appearance, Camera, Faces, ImageTexture, Lights, Object, Outputs, Renderer, Scene};
use relievo_tensor::ops::squared_error;
use relievo_tensor::{Device, Result, Tensor};

use crate::cuda;
use crate::vertices::run;
use crate::{Fit, FitError, FitSettings, Step};

/// An image of the mesh, and the camera that took it.
#[derive(Clone, Debug)]
pub struct TextureView {
    /// The camera.
    pub camera: Camera,
    /// Colours `[H, W, 3]`, 0 to 1; the same size for all views.
    pub image: Tensor,
    /// `[H, W]`: 1 where the image counts, 0 where not, such as on the background. `None` counts all that the mesh covers.
    pub mask: Option<Tensor>,
}

/// What colours are kept in.
#[derive(Clone, Debug)]
pub enum Paint {
    /// A cube of so many colours along each side, for each face.
    Cubes(usize),
    /// A colour for each vertex.
    Vertices,
    /// An image on the faces; its pixels are where the fit begins.
    Image(ImageTexture),
}

/// How colours are fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextureSettings {
    /// Steps at most.
    pub steps: u64,
    /// Images in each step; steps take them in turn.
    pub batch: usize,
    /// The optimiser.
    pub fit: FitSettings,
}

impl Default for TextureSettings {
    /// The published example makes 300 steps of one image each, with a learning rate of 0.1.
    fn default() -> Self {
        Self { steps: 100, batch: 4, fit: FitSettings { learning_rate: 0.05, betas: [0.5, 0.999] } }
    }
}

/// Finds the colours of a mesh in images of it, on a GPU if its vertices are there, by the mean squared error of pixels. Light is left in the colours. The
/// colours of what no image shows stay grey. Gives the appearance.
///
/// # Errors
/// If there is no view, sizes differ, shapes do not fit, or the loss is not finite any more.
pub fn fit_texture(
    vertices: &Tensor,
    faces: &Faces,
    paint: &Paint,
    views: &[TextureView],
    settings: &TextureSettings,
    mut observe: impl FnMut(&Step<'_>) -> ControlFlow<()>,
) -> std::result::Result<Appearance, FitError> {
    let Some(first) = views.first() else {
        return Err(FitError::Input("there is no image; give at least one".into()));
    };
    let [height, width, _] = first.image.dims("fit_texture")?;
    for (number, view) in views.iter().enumerate() {
        let image: [usize; 3] = view.image.dims("fit_texture")?;
        let mask = view.mask.as_ref().map(|mask| mask.dims("fit_texture")).transpose()?;
        if image != [height, width, 3] || mask.is_some_and(|mask: [usize; 2]| mask != [height, width]) {
            return Err(FitError::Input(format!(
                "image {number}, counted from 0, or its mask has another size than the first, {width}x{height} pixels with \
                 three colours; scale them to one size"
            )));
        }
    }
    let renderer = Renderer::new(width, height);
    let batch = settings.batch.clamp(1, views.len());
    let mut fit = Fit::new(vec![paint.start(vertices, faces).to_device(vertices.device())?], settings.fit)?;
    let mut next = 0;
    let error = |parameters: &[Tensor]| -> Result<Tensor> {
        let object = Object {
            vertices: vertices.clone(),
            faces: faces.clone(),
            appearance: paint.appearance(parameters[0].clone()),
        };
        let chosen: Vec<&TextureView> = (next..next + batch).map(|at| &views[at % views.len()]).collect();
        next += batch;
        let scene = |view: &&TextureView| Scene {
            lights: Lights::none(),
            ..Scene::new(object.clone(), view.camera.clone())
        };
        let scenes: Vec<Scene> = chosen.iter().map(scene).collect();
        let rendered = renderer.render(&scenes, Outputs::RGBA)?;
        let missing = || Tensor::zeros([0]);
        let (colour, alpha) =
            (rendered.colour.unwrap_or_else(missing), rendered.alpha.unwrap_or_else(missing));
        let wanted = stacked(&chosen)?.to_device(colour.device())?;
        squared_error(&colour, &wanted, &counted(&chosen, &alpha)?)
    };
    // The only parameter.
    let clamp = |fit: &mut Fit| fit.clamp(0, 0.0, 1.0);
    run(&mut fit, settings.steps, error, clamp, &mut observe)?;
    Ok(paint.appearance(fit.parameters()[0].clone()))
}

impl Paint {
    /// The colours at first.
    fn start(&self, vertices: &Tensor, faces: &Faces) -> Tensor {
        const GREY: f32 = 0.5;
        match self {
            Self::Cubes(side) => {
                let side = (*side).max(2);
                Tensor::full([faces.len(), side, side, side, 3], GREY)
            }
            Self::Vertices => Tensor::full([vertices.shape()[0], 3], GREY),
            Self::Image(texture) => texture.image.clone(),
        }
    }

    /// What a mesh with these colours looks like: those that a callback gets, or their like.
    pub fn appearance(&self, colours: Tensor) -> Appearance {
        match self {
            Self::Cubes(_) => Appearance::Cubes(colours),
            Self::Vertices => Appearance::VertexColours(colours),
            Self::Image(texture) => Appearance::Image(ImageTexture { image: colours, ..texture.clone() }),
        }
    }
}

/// Images `[B, H, W, 3]`.
fn stacked(views: &[&TextureView]) -> Result<Tensor> {
    let [height, width, channels] = views[0].image.dims("fit_texture")?;
    let values: Vec<f32> = views.iter().flat_map(|view| view.image.data()).copied().collect();
    Tensor::new(&values, [views.len(), height, width, channels])
}

/// Where images count, `[B, H, W]`: where the mesh is and the mask, if there is one. Pixels at the outline mix in the
/// background and do not count.
fn counted(views: &[&TextureView], alpha: &Tensor) -> Result<Tensor> {
    let mut masks = None;
    if views.iter().any(|view| view.mask.is_some()) {
        let mut all = Tensor::full(alpha.shape(), 1.0);
        let pixels = alpha.numel() / views.len().max(1);
        for (to, view) in all.data_mut().chunks_mut(pixels.max(1)).zip(views) {
            view.mask.iter().for_each(|mask| to.copy_from_slice(mask.data()));
        }
        masks = Some(all.to_device(alpha.device())?);
    }
    if alpha.device() != Device::Cpu {
        return cuda::counted(&alpha.detach(), masks.as_ref());
    }
    let mut counted = Tensor::zeros(alpha.shape());
    for (at, to) in counted.data_mut().iter_mut().enumerate() {
        let mask = masks.as_ref().map_or(1.0, |masks| masks.data()[at]);
        *to = if alpha.data()[at] == 1.0 { mask } else { 0.0 };
    }
    Ok(counted)
}
