//! The mesh renderer: a teapot forward and backward.

use anyhow::Context;
use relievo_mesh::{
    Appearance, Camera, Faces, Object, Outputs, Rendered, Renderer, Scene, points_from_angles, shapes,
};
use relievo_tensor::{Device, Random, Tape, Tensor, cuda};

use super::measure::{Clock, Row};

/// Pixels of a side.
const SIZE: usize = 256;
/// Squares along a side of each patch of the teapot: 2,256 faces, seen from both sides.
const SEGMENTS: u32 = 6;

/// Images of a batch on a GPU.
const BATCH: usize = 16;

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
    /// A silhouette that is fitted to another view, one with any gradient, and colour with any gradient; on a GPU also many
    /// images together.
    pub fn meshes(&self, device: Device) -> anyhow::Result<Vec<Row>> {
        let mut teapot = shapes::teapot(SEGMENTS);
        teapot.normalise();
        let faces = teapot.faces.len();
        let object = Object {
            vertices: Tensor::new(teapot.vertices.as_flattened(), [teapot.vertices.len(), 3])?
                .to_device(device)?,
            faces: Faces::new(teapot.faces),
            appearance: Appearance::Cubes(Tensor::full_on(device, [faces, 2, 2, 2, 3], 0.5)?),
        };
        let renderer = Renderer::new(SIZE, SIZE);
        let render = |azimuth, outputs| -> anyhow::Result<Tensor> {
            let image = image(renderer.render(&[scene(&object, azimuth)?], outputs)?)?;
            Ok(image.to_device(Device::Cpu)?)
        };
        let [seen, target] = [render(30.0, Outputs::SILHOUETTE)?, render(0.0, Outputs::SILHOUETTE)?];
        let difference: Vec<f32> =
            seen.data().iter().zip(target.data()).map(|(a, b)| 2.0 * (a - b)).collect();
        let (silhouette, colour) = (Outputs::SILHOUETTE, Outputs::COLOUR);
        let mut tasks = vec![
            ("mesh-fit", "silhouette, fit", silhouette, Tensor::new(&difference, seen.shape())?),
            ("mesh-dense", "silhouette, dense", silhouette, noise(&seen.shape())?),
            ("mesh-colour", "colour, dense", colour, noise(&[1, SIZE, SIZE, 3])?),
        ];
        if device != Device::Cpu {
            tasks.push(("mesh-colour-16", "16 together", colour, noise(&[BATCH, SIZE, SIZE, 3])?));
        }
        let forward =
            self.measure("mesh-forward", format!("teapot {SIZE}x{SIZE}: silhouette alone"), 1, || {
                render(30.0, Outputs::SILHOUETTE)?;
                Ok(())
            })?;
        let row = |(key, what, outputs, upstream): (&'static str, &str, Outputs, Tensor)| {
            let (images, upstream) = (upstream.shape()[0], upstream.to_device(device)?);
            self.measure(key, format!("teapot {SIZE}x{SIZE}: {what}"), images as u64, || {
                let tape = Tape::new();
                let mut object = object.clone();
                object.vertices = tape.watch(&object.vertices);
                if let Appearance::Cubes(cubes) = &mut object.appearance {
                    *cubes = tape.watch(cubes);
                }
                let image = image(renderer.render(&vec![scene(&object, 30.0)?; images], outputs)?)?;
                tape.backward_from(&[(&image, upstream.clone())])?;
                Ok(device.ordinal().map_or(Ok(()), cuda::synchronize)?)
            })
        };
        std::iter::once(Ok(forward)).chain(tasks.into_iter().map(row)).collect()
    }
}
