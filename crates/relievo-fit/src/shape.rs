//! A closed surface from silhouettes of several views.

use std::ops::ControlFlow;

use relievo_mesh::{Appearance, Camera, Faces, Gradient, Object, Outputs, Renderer, Scene};
use relievo_tensor::ops::weighted_sum;
use relievo_tensor::{Backward, Context, Device, Operation, Result, Tensor, apply_one};

use crate::energy::Edges;
use crate::vertices::run;
use crate::{Fit, FitError, FitSettings, Step, flatness_energy, iou, iou_error};

/// A silhouette and the camera that sees it.
#[derive(Clone, Debug)]
pub struct View {
    /// The camera.
    pub camera: Camera,
    /// The share of each pixel that is covered, `[H, W]`, 0 to 1; the same size for all views.
    pub silhouette: Tensor,
}

/// How a shape is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShapeSettings {
    /// Steps at most.
    pub steps: u64,
    /// The optimiser.
    pub fit: FitSettings,
    /// The gradient of the renderer at first: one that reaches far.
    pub gradient: Gradient,
    /// So many of the last steps take [`Gradient::EDGES`] instead, which is exact at the outline.
    pub exact_steps: u64,
    /// How far a vertex takes its neighbours along, in edges, squared: steps are smoothed over the surface, which keeps it
    /// even without holding it back. 0 moves every vertex alone.
    pub stiffness: f64,
    /// The weight of the mean [`flatness_energy`] of edges beside the error of the silhouettes.
    pub flatness: f32,
}

impl Default for ShapeSettings {
    fn default() -> Self {
        Self {
            steps: 150,
            fit: FitSettings { learning_rate: 0.05, betas: [0.9, 0.999] },
            gradient: Gradient::default(),
            exact_steps: 60,
            stiffness: 4.0,
            flatness: 0.01,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct FittedShape {
    /// `[V, 3]`.
    pub vertices: Tensor,
    /// Intersection over union of each silhouette.
    pub ious: Vec<f64>,
}

/// Moves the vertices `[V, 3]` of a closed mesh, on a GPU if they are there, such as a sphere that is about as large as the object, until it has the
/// silhouettes of all views, by [`iou_error`].
///
/// The callback's parameters are not the vertices but what they are smoothed from; [`FittedShape::vertices`] are given to
/// it by `observe`'s second argument.
///
/// Steps are preconditioned with (I + stiffness L)^-1, L the graph Laplacian. Source: Nicolet, Jacobson and Jakob, *Large
/// Steps in Inverse Rendering of Geometry* (SIGGRAPH Asia 2021).
///
/// # Errors
/// If there is no view, sizes differ, shapes do not fit, or the loss is not finite any more.
pub fn fit_shape(
    vertices: &Tensor,
    faces: &Faces,
    views: &[View],
    settings: &ShapeSettings,
    mut observe: impl FnMut(&Step<'_>, &Tensor) -> ControlFlow<()>,
) -> std::result::Result<FittedShape, FitError> {
    let Some(first) = views.first() else {
        return Err(FitError::Input("there is no silhouette; give at least one".into()));
    };
    let [height, width] = first.silhouette.dims("fit_shape")?;
    let wanted = stacked(views, [height, width])?;
    let wanted_there = wanted.to_device(vertices.device())?;
    let edges = Edges::new(faces);
    let hinges = edges.hinges().max(1) as f32;
    let springs = Springs { edges: edges.clone(), stiffness: settings.stiffness };
    let renderer = Renderer { gradient: settings.gradient, ..Renderer::new(width, height) };
    let exact = Renderer { gradient: Gradient::EDGES, ..renderer.clone() };
    let silhouettes = |renderer: &Renderer, vertices: &Tensor| -> Result<Tensor> {
        let object =
            Object { vertices: vertices.clone(), faces: faces.clone(), appearance: Appearance::White };
        let scene = |view: &View| Scene::new(object.clone(), view.camera.clone());
        let scenes: Vec<Scene> = views.iter().map(scene).collect();
        let rendered = renderer.render(&scenes, Outputs::SILHOUETTE)?;
        Ok(rendered.alpha.unwrap_or_else(|| Tensor::zeros([0])))
    };
    let mut fit = Fit::new(vec![springs.tense(vertices)?], settings.fit)?;
    let mut left = settings.steps;
    let error = |parameters: &[Tensor]| -> Result<Tensor> {
        let renderer = if left <= settings.exact_steps { &exact } else { &renderer };
        left = left.saturating_sub(1);
        let vertices = springs.relax(&parameters[0])?;
        let error = iou_error(&silhouettes(renderer, &vertices)?, &wanted_there)?;
        if settings.flatness == 0.0 {
            return Ok(error);
        }
        let uneven = flatness_energy(&vertices, &edges)?;
        weighted_sum(&[(1.0, &error), (settings.flatness / hinges, &uneven)])
    };
    let mut failed = None;
    let mut observer = |step: &Step<'_>| match springs.relax(&step.parameters[0]) {
        Ok(vertices) => observe(step, &vertices),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    };
    run(&mut fit, settings.steps, error, |_| Ok(()), &mut observer)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let vertices = springs.relax(&fit.parameters()[0])?;
    let found = silhouettes(&renderer, &vertices)?.to_device(Device::Cpu)?;
    let images = found.data().chunks(height * width).zip(wanted.data().chunks(height * width));
    Ok(FittedShape { vertices, ious: images.map(|(a, b)| iou(a, b)).collect() })
}

/// All silhouettes, `[B, H, W]`.
fn stacked(views: &[View], [height, width]: [usize; 2]) -> std::result::Result<Tensor, FitError> {
    let mut values = Vec::with_capacity(views.len() * height * width);
    for (number, view) in views.iter().enumerate() {
        let size: [usize; 2] = view.silhouette.dims("fit_shape")?;
        if size != [height, width] {
            let [rows, columns] = size;
            return Err(FitError::Input(format!(
                "silhouette {number}, counted from 0, has {columns}x{rows} pixels and the first {width}x{height}; scale them \
                 to one size"
            )));
        }
        values.extend_from_slice(view.silhouette.data());
    }
    Ok(Tensor::new(&values, [views.len(), height, width])?)
}

/// Conjugate gradients end where the residual is this part of the right side, or after so many steps.
const TOLERANCE: f64 = 1e-7;
const MOST_STEPS: usize = 1000;

/// Springs along edges.
#[derive(Clone)]
struct Springs {
    edges: Edges,
    stiffness: f64,
}

impl Springs {
    /// (I + stiffness L) x for each coordinate.
    fn multiply(&self, x: &[[f64; 3]]) -> Vec<[f64; 3]> {
        let mut result = x.to_vec();
        for [a, b] in self.edges.ends() {
            for i in 0..3 {
                let pull = self.stiffness * (x[a][i] - x[b][i]);
                result[a][i] += pull;
                result[b][i] -= pull;
            }
        }
        result
    }

    /// The parameters that [`Springs::relax`] makes these vertices of.
    fn tense(&self, vertices: &Tensor) -> Result<Tensor> {
        self.edges.check("fit_shape", vertices)?;
        let tense = tensor_of(&self.multiply(&points(&vertices.to_device(Device::Cpu)?)));
        tense.to_device(vertices.device())
    }

    /// (I + stiffness L)^-1 of the parameters: vertices. Gradient: the same of the upstream one, the matrix is symmetric.
    fn relax(&self, parameters: &Tensor) -> Result<Tensor> {
        if self.stiffness == 0.0 { Ok(parameters.clone()) } else { apply_one(self.clone(), &[parameters]) }
    }

    fn solve_on_gpu(&self, b: &Tensor) -> Result<Tensor> {
        self.edges.on_gpu(b.device())?.relax(b, self.stiffness, TOLERANCE, MOST_STEPS)
    }

    /// Solves (I + stiffness L) x = b by conjugate gradients.
    fn solve(&self, b: &[[f64; 3]]) -> Vec<[f64; 3]> {
        let dot = |a: &[[f64; 3]], b: &[[f64; 3]]| -> f64 {
            a.as_flattened().iter().zip(b.as_flattened()).map(|(a, b)| a * b).sum()
        };
        let add = |to: &mut [[f64; 3]], factor: f64, x: &[[f64; 3]]| {
            to.as_flattened_mut().iter_mut().zip(x.as_flattened()).for_each(|(to, x)| *to += factor * x);
        };
        let mut x = vec![[0.0; 3]; b.len()];
        let mut residual = b.to_vec();
        let mut direction = residual.clone();
        let mut size = dot(&residual, &residual);
        let enough = size * TOLERANCE * TOLERANCE;
        for _ in 0..MOST_STEPS {
            if size <= enough || size == 0.0 {
                break;
            }
            let product = self.multiply(&direction);
            let along = size / dot(&direction, &product);
            add(&mut x, along, &direction);
            add(&mut residual, -along, &product);
            let next = dot(&residual, &residual);
            let keep = next / size;
            direction
                .as_flattened_mut()
                .iter_mut()
                .zip(residual.as_flattened())
                .for_each(|(d, r)| *d = r + keep * *d);
            size = next;
        }
        x
    }
}

fn points(tensor: &Tensor) -> Vec<[f64; 3]> {
    tensor.data().as_chunks::<3>().0.iter().map(|point| point.map(f64::from)).collect()
}

fn tensor_of(values: &[[f64; 3]]) -> Tensor {
    let mut tensor = Tensor::empty([values.len(), 3]);
    tensor.data_mut().iter_mut().zip(values.as_flattened()).for_each(|(to, value)| *to = *value as f32);
    tensor
}

impl Operation for Springs {
    fn name(&self) -> &'static str {
        "springs"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        self.edges.check(self.name(), inputs[0])?;
        Ok(vec![tensor_of(&self.solve(&points(inputs[0])))])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(tensor_of(&self.solve(&points(backward.gradient()))))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        self.edges.check(self.name(), inputs[0])?;
        self.solve_on_gpu(inputs[0]).map(|vertices| vec![vertices])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.solve_on_gpu(backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use relievo_mesh::shapes;
    use relievo_tensor::testing::random_tensor;

    use super::*;

    #[test]
    fn relaxed_springs_are_where_they_were() {
        let sphere = shapes::icosphere(2);
        let springs = Springs { edges: Edges::new(&Faces::new(sphere.faces)), stiffness: 30.0 };
        let vertices = random_tensor(5, [sphere.vertices.len(), 3]);
        let back = springs.relax(&springs.tense(&vertices).unwrap()).unwrap();
        let far = back.data().iter().zip(vertices.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-4, "{far}");
    }
}
