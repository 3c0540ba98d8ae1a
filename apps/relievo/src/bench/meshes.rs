//! The mesh renderer: a teapot forward and backward.

use anyhow::Context;
use relievo_mesh::{
    Appearance, Camera, Faces, Object, Outputs, Rendered, Renderer, Scene, points_from_angles, shapes,
};
use relievo_tensor::{Random, Tape, Tensor};

use super::measure::{Clock, Row};

/// Pixels of a side.
const SIZE: usize = 256;
/// Squares along a side of each patch of the teapot: 2,256 faces, seen from both sides.
const SEGMENTS: u32 = 6;

/// The teapot from an azimuth in degrees.
fn scene(object: &Object, azimuth: f32) -> relievo_tensor::Result<Scene> {
    let [distance, elevation, azimuth] = [2.732, 30.0, azimuth].map(Tensor::scalar);
    let eye = points_from_angles(&distance, &elevation, &azimuth)?;
    Ok(Scene::new(object.clone(), Camera::looking_at_origin(eye)))
}

fn image(rendered: Rendered) -> anyhow::Result<Tensor> {
    rendered.alpha.or(rendered.colour).context("an image was asked for")
}

/// Numbers in [-1, 1).
fn noise(shape: &[usize]) -> relievo_tensor::Result<Tensor> {
    let random = Random::new(1, 0);
    let numbers: Vec<f32> =
        (0..shape.iter().product()).map(|at: usize| 2.0 * random.uniform(at as u64) - 1.0).collect();
    Tensor::new(&numbers, shape)
}

impl Clock<'_> {
    /// A silhouette that is fitted to another view, one with any gradient, and colour with any gradient.
    pub fn meshes(&self) -> anyhow::Result<Vec<Row>> {
        let mut teapot = shapes::teapot(SEGMENTS);
        teapot.normalise();
        let faces = teapot.faces.len();
        let object = Object {
            vertices: Tensor::new(teapot.vertices.as_flattened(), [teapot.vertices.len(), 3])?,
            faces: Faces::new(teapot.faces),
            appearance: Appearance::Cubes(Tensor::full([faces, 2, 2, 2, 3], 0.5)),
        };
        let renderer = Renderer::new(SIZE, SIZE);
        let render = |azimuth, outputs| image(renderer.render(&[scene(&object, azimuth)?], outputs)?);
        let [seen, target] = [render(30.0, Outputs::SILHOUETTE)?, render(0.0, Outputs::SILHOUETTE)?];
        let difference: Vec<f32> =
            seen.data().iter().zip(target.data()).map(|(a, b)| 2.0 * (a - b)).collect();
        let tasks = [
            ("mesh-fit", "silhouette, fit", Outputs::SILHOUETTE, Tensor::new(&difference, seen.shape())?),
            ("mesh-dense", "silhouette, dense", Outputs::SILHOUETTE, noise(&seen.shape())?),
            ("mesh-colour", "colour, dense", Outputs::COLOUR, noise(&[1, SIZE, SIZE, 3])?),
        ];
        let forward =
            self.measure("mesh-forward", format!("teapot {SIZE}x{SIZE}: silhouette alone"), 1, || {
                render(30.0, Outputs::SILHOUETTE)?;
                Ok(())
            })?;
        let row = |(key, what, outputs, upstream): (&'static str, &str, Outputs, Tensor)| {
            self.measure(key, format!("teapot {SIZE}x{SIZE}: {what}"), 1, || {
                let tape = Tape::new();
                let mut object = object.clone();
                object.vertices = tape.watch(&object.vertices);
                if let Appearance::Cubes(cubes) = &mut object.appearance {
                    *cubes = tape.watch(cubes);
                }
                let image = image(renderer.render(&[scene(&object, 30.0)?], outputs)?)?;
                tape.backward_from(&[(&image, upstream.clone())])?;
                Ok(())
            })
        };
        std::iter::once(Ok(forward)).chain(tasks.into_iter().map(row)).collect()
    }
}
