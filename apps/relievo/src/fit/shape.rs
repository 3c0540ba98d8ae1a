//! `relievo fit shape`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use relievo_fit::{ShapeSettings, View, enclosing_sphere, fit_shape};
use relievo_mesh::stage::{CalibratedCamera, Light, Look, Orbit, Shot, Stage, Wanted};
use relievo_mesh::{Appearance, Faces, Mesh, Object, Outputs, Renderer, Scene, shapes};
use relievo_tensor::Tensor;
use serde_json::json;

use super::images::{overlay, paired, portrait, row, silhouette};
use super::{Common, Report};
use crate::console::Console;

/// Deform a sphere until it has the silhouettes of an object from several views
///
/// Without files: the teapot from 24 views. The silhouettes are images, white on
/// black and of one size, in the order of the cameras; the sphere begins where
/// they meet. The result is mesh.obj, in the units of the cameras.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Folder of silhouettes [default: an example]
    #[arg(long, value_name = "FOLDER", requires = "cameras")]
    silhouettes: Option<PathBuf>,
    /// JSON file of their cameras, as for `relievo render`
    #[arg(long, value_name = "FILE", requires = "silhouettes")]
    cameras: Option<PathBuf>,
    /// How finely the sphere is divided: 20 * 4^N faces
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=7))]
    subdivisions: u32,
    /// How far a vertex takes its neighbours along; 0 moves every vertex alone
    #[arg(long, value_name = "X", default_value_t = ShapeSettings::default().stiffness)]
    stiffness: f64,
    /// Weight of a loss that keeps the surface flat
    #[arg(long, value_name = "X", default_value_t = ShapeSettings::default().flatness)]
    flatness: f32,
    #[command(flatten)]
    common: Common,
}

/// Rows and columns of the example.
const SIDE: usize = 128;

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let views = match (&options.silhouettes, &options.cameras) {
        (Some(folder), Some(cameras)) => {
            let pairs = paired(folder, cameras)?.into_iter();
            pairs
                .map(|(path, camera)| Ok((camera, silhouette(&path)?)))
                .collect::<anyhow::Result<Vec<_>>>()?
        }
        _ => example()?,
    };
    let (middle, radius) = enclosing_sphere(&views)?;
    // In units of the object: learning rates and the renderer's near and far are for those.
    let normal: Vec<View> = views
        .iter()
        .map(|(camera, silhouette)| View {
            camera: camera.moved(middle, radius).camera(),
            silhouette: silhouette.clone(),
        })
        .collect();
    let mut settings = ShapeSettings {
        stiffness: options.stiffness,
        flatness: options.flatness,
        ..ShapeSettings::default()
    };
    settings.steps = options.common.steps.unwrap_or(settings.steps);
    settings.fit.learning_rate = options.common.learning_rate.unwrap_or(settings.fit.learning_rate);
    let mut sphere = shapes::icosphere(options.subdivisions);
    sphere.vertices.as_flattened_mut().iter_mut().for_each(|value| *value *= 0.8);
    let vertices = Tensor::new(sphere.vertices.as_flattened(), [sphere.vertices.len(), 3])?;
    let faces = Faces::new(sphere.faces.clone());
    let [height, width] = normal[0].silhouette.dims("silhouette")?;
    let renderer = Renderer::new(width, height);
    // Three views far from each other are shown.
    let shown = [0, normal.len() / 3, 2 * normal.len() / 3];
    let overlays = |vertices: &Tensor| -> anyhow::Result<Vec<_>> {
        let object =
            Object { vertices: vertices.clone(), faces: faces.clone(), appearance: Appearance::White };
        let scenes = shown.map(|view| Scene::new(object.clone(), normal[view].camera.clone()));
        let alpha =
            renderer.render(&scenes, Outputs::SILHOUETTE)?.alpha.unwrap_or_else(|| Tensor::zeros([0]));
        let images = alpha.data().chunks(width * height).zip(shown);
        Ok(images.map(|(found, view)| overlay(found, normal[view].silhouette.data(), width)).collect())
    };
    let mesh_of = |vertices: &Tensor| {
        let points = vertices.data().as_chunks::<3>().0.to_vec();
        Mesh::new(points, sphere.faces.clone())
    };
    let orbit = Orbit { distance: Some(6.0), target: Some([0.0; 3]), ..Orbit::default() };
    let mut report = Report::new(console, settings.steps);
    let found = fit_shape(&vertices, &faces, &normal, &settings, |step, vertices| {
        report.step(step, || {
            let mut images = overlays(vertices)?;
            images.push(portrait(&mesh_of(vertices), &Look::default(), orbit, [width * 3 / 2, height])?);
            Ok(row(&images))
        });
        ControlFlow::Continue(())
    })?;
    let out = &options.common.out;
    let mut mesh = mesh_of(&found.vertices);
    for vertex in &mut mesh.vertices {
        *vertex = std::array::from_fn(|axis| (middle[axis] + radius * f64::from(vertex[axis])) as f32);
    }
    mesh.write(out.join("mesh.obj"))?;
    let mean = found.ious.iter().sum::<f64>() / found.ious.len() as f64;
    console.result(format_args!("overlap of the silhouettes {mean:.4} in the mean"));
    let record = json!({ "iou": mean, "ious": found.ious, "learning-rate": settings.fit.learning_rate });
    report.finish(
        out,
        "shape: error of the silhouettes",
        "1 - intersection over union, and flatness",
        record,
        console,
    )
}

/// The teapot from three heights.
fn example() -> anyhow::Result<Vec<(CalibratedCamera, Tensor)>> {
    let stage = Stage::new(&shapes::teapot(12), &Look::default())?;
    let shot = Shot { width: SIDE, height: SIDE, samples: 2 };
    let orbits: Vec<Orbit> = (0..24u8)
        .map(|view| Orbit {
            azimuth: 45.0 * f64::from(view % 8) + 15.0 * f64::from(view / 8),
            elevation: [0.0, 35.0, -20.0][usize::from(view / 8)],
            ..Orbit::default()
        })
        .collect();
    let view = |orbit: &Orbit| {
        let camera = stage.calibrated(orbit, [SIDE, SIDE])?;
        let wanted = Wanted { silhouette: true, ..Wanted::default() };
        let shown = stage.shoot(orbit, shot, Light::default(), wanted)?;
        Ok((camera, Tensor::new(&shown.alpha, [SIDE, SIDE])?))
    };
    stage.framed(&orbits, 1.0)?.iter().map(view).collect()
}
