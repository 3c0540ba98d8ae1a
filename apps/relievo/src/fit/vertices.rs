//! `relievo fit vertices`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use relievo_fit::{VertexSettings, fit_vertices, iou};
use relievo_mesh::stage::{Look, Orbit};
use relievo_mesh::{Appearance, Camera, Faces, Mesh, Object, Outputs, Renderer, Scene, points_from_angles};
use relievo_tensor::Tensor;
use serde_json::json;

use super::images::{overlay, portrait, row, silhouette};
use super::{Common, Report};
use crate::console::Console;
use crate::meshes;

/// Move the vertices of a mesh until it has a silhouette, seen from one side
///
/// Without files: the teapot, seen from the side of its spout, becomes a
/// rectangle. The silhouette is an image, white on black; the mesh is moved and
/// scaled to fill it first.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Mesh file to begin with, or teapot
    #[arg(value_name = "MESH", default_value = "teapot")]
    mesh: PathBuf,
    /// Image of the silhouette [default: a rectangle]
    #[arg(long, value_name = "FILE")]
    silhouette: Option<PathBuf>,
    /// Side that is seen: 0 is the front, 90 that of +x
    #[arg(long, value_name = "DEGREES", default_value_t = 90.0)]
    azimuth: f32,
    #[command(flatten)]
    common: Common,
}

/// Rows and columns of the example.
const SIDE: usize = 256;

/// From the camera to the middle, half the longest sides of the mesh: that of the published examples.
pub const DISTANCE: f32 = 2.732;

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let (wanted, [height, width]) = match &options.silhouette {
        Some(path) => {
            let wanted = silhouette(path)?;
            let [height, width] = wanted.dims("silhouette")?;
            (wanted, [height, width])
        }
        None => (rectangle(), [SIDE; 2]),
    };
    let mut mesh = example_mesh(&options.mesh)?;
    mesh.normalise();
    let (vertices, faces) = left_handed(&mesh)?;
    let eye = points_from_angles(
        &Tensor::scalar(DISTANCE),
        &Tensor::scalar(0.0),
        &Tensor::scalar(options.azimuth),
    )?;
    let camera = Camera::looking_at_origin(eye);
    let mut settings = VertexSettings::default();
    settings.steps = options.common.steps.unwrap_or(settings.steps);
    settings.fit.learning_rate = options.common.learning_rate.unwrap_or(settings.fit.learning_rate);
    let renderer = Renderer::new(width, height);
    let silhouette_of = |vertices: &Tensor| -> anyhow::Result<Tensor> {
        let object =
            Object { vertices: vertices.clone(), faces: faces.clone(), appearance: Appearance::White };
        let rendered = renderer.render(&[Scene::new(object, camera.clone())], Outputs::SILHOUETTE)?;
        Ok(rendered.alpha.unwrap_or_else(|| Tensor::zeros([0])))
    };
    let orbit = Orbit {
        azimuth: f64::from(options.azimuth) - 50.0,
        elevation: 20.0,
        distance: Some(4.6),
        target: Some([0.0; 3]),
        ..Orbit::default()
    };
    let mut report = Report::new(console, settings.steps);
    let found = fit_vertices(&vertices, &faces, &camera, &wanted, &settings, |step| {
        report.step(step, || {
            let now = moved(&mesh, &step.parameters[0]);
            let seen = silhouette_of(&step.parameters[0])?;
            let view = portrait(&now, &Look::default(), orbit, [width, height])?;
            Ok(row(&[overlay(seen.data(), wanted.data(), width), view]))
        });
        ControlFlow::Continue(())
    })?;
    let out = &options.common.out;
    moved(&mesh, &found).write(out.join("mesh.obj"))?;
    let seen = silhouette_of(&found)?;
    let record =
        json!({ "iou": iou(seen.data(), wanted.data()), "learning-rate": settings.fit.learning_rate });
    report.finish(out, "vertices: error of the silhouette", "sum of squared differences", record, console)
}

/// The mesh of an argument; the teapot has about as many faces as in the published examples.
pub fn example_mesh(path: &std::path::Path) -> anyhow::Result<Mesh> {
    if path == std::path::Path::new(meshes::TEAPOT) && !path.exists() {
        return Ok(relievo_mesh::shapes::teapot(6));
    }
    meshes::open(path)
}

/// Vertices for cameras of left-handed axes, which then do not mirror, and faces.
pub fn left_handed(mesh: &Mesh) -> anyhow::Result<(Tensor, Faces)> {
    let turned: Vec<[f32; 3]> = mesh.vertices.iter().map(|&[x, y, z]| [x, y, -z]).collect();
    let faces = Faces::new(mesh.faces.clone());
    Ok((Tensor::new(turned.as_flattened(), [turned.len(), 3])?, faces))
}

/// The mesh with other vertices, those of [`left_handed`].
fn moved(mesh: &Mesh, vertices: &Tensor) -> Mesh {
    let back = vertices.data().as_chunks::<3>().0.iter().map(|&[x, y, z]| [x, y, -z]);
    Mesh { vertices: back.collect(), normals: None, ..mesh.clone() }
}

/// A rectangle in the middle of the image.
fn rectangle() -> Tensor {
    let mut image = Tensor::zeros([SIDE, SIDE]);
    for (row, pixels) in image.data_mut().chunks_exact_mut(SIDE).enumerate() {
        if (SIDE * 5 / 16..SIDE * 11 / 16).contains(&row) {
            pixels[SIDE / 4..SIDE * 3 / 4].fill(1.0);
        }
    }
    image
}
