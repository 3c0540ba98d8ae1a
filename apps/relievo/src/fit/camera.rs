//! `relievo fit camera`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use relievo_export::Canvas;
use relievo_files::write_atomic;
use relievo_fit::{CameraSettings, fit_camera, starts_around};
use relievo_mesh::Mesh;
use relievo_mesh::stage::{Light, Look, Orbit, Shot, Stage, Wanted};
use relievo_tensor::Tensor;
use serde_json::json;

use super::images::{overlay, row, silhouette};
use super::vertices::{DISTANCE, example_mesh, left_handed};
use super::{Common, Report};
use crate::console::Console;

/// Find the camera that sees a mesh in a silhouette
///
/// Without files: the teapot's own silhouette from elevation 30 and azimuth -15,
/// beginning far away on another side. With --silhouette, an image that is white
/// on black, the camera may look at any point, and the search begins on all
/// sides. camera.json has it as `relievo render MESH --cameras camera.json`
/// reads it.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Mesh file, or teapot
    #[arg(value_name = "MESH", default_value = "teapot")]
    mesh: PathBuf,
    /// Image of the silhouette [default: an example]
    #[arg(long, value_name = "FILE")]
    silhouette: Option<PathBuf>,
    /// Vertical field of view of the camera
    #[arg(long, value_name = "DEGREES", default_value_t = 60.0)]
    field_of_view: f64,
    #[command(flatten)]
    common: Common,
}

/// Rows and columns of the example.
const SIDE: usize = 256;

/// Where the example begins: where the published one does, in right-handed axes.
const START: [f32; 3] = [6.0, 10.0, -14.0];

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    ensure!(
        options.field_of_view > 0.0 && options.field_of_view < 180.0,
        "the field of view must be above 0 and below 180 degrees, not {}",
        options.field_of_view
    );
    let mesh = example_mesh(&options.mesh)?;
    // In the mesh's units, from those of the fit.
    let stage = Stage::new(&mesh, &Look::default())?;
    let (middle, unit) = (stage.middle(), stage.extent());
    let mut normal = Mesh::new(mesh.vertices.clone(), mesh.faces.clone());
    let centred = |vertex: &mut [f32; 3]| {
        *vertex = std::array::from_fn(|axis| ((f64::from(vertex[axis]) - middle[axis]) / unit) as f32);
    };
    normal.vertices.iter_mut().for_each(centred);
    let (vertices, faces) = left_handed(&normal)?;
    let mut settings =
        CameraSettings { half_angle: (options.field_of_view / 2.0) as f32, ..CameraSettings::default() };
    let wanted = match &options.silhouette {
        Some(path) => {
            settings.free_target = true;
            settings.enough = 0.0;
            silhouette(path)?
        }
        None => example(&stage, options)?,
    };
    settings.steps = options.common.steps.unwrap_or(settings.steps);
    settings.fit.learning_rate = options.common.learning_rate.unwrap_or(settings.fit.learning_rate);
    let [height, width] = wanted.dims("silhouette")?;
    let far = 2.5 / settings.half_angle.to_radians().tan().min(1.0);
    let starts = match &options.silhouette {
        Some(_) => starts_around(far),
        None => vec![START],
    };
    let placed = |places: &[Tensor]| {
        let place = |tensor: &Tensor| std::array::from_fn::<f64, 3, _>(|i| f64::from(tensor.data()[i]));
        let target = places.get(1).map_or([0.0; 3], place);
        looking(place(&places[0]), target, middle, unit, options)
    };
    let mut report = Report::new(console, settings.steps);
    let found = fit_camera(&vertices, &faces, &wanted, &starts, &settings, |step| {
        report.step(step, || {
            let shot = Shot { width, height, samples: 2 };
            let all = Wanted { colour: true, ..Wanted::default() };
            let shown = stage.shoot(&placed(step.parameters), shot, Light::default(), all)?;
            let view = Canvas::from_unit(&shown.over([1.0; 3]), width);
            Ok(row(&[overlay(&shown.alpha, wanted.data(), width), view]))
        });
        ControlFlow::Continue(())
    })?;
    let out = &options.common.out;
    let orbit = looking(found.eye.map(f64::from), found.target.map(f64::from), middle, unit, options);
    let camera = stage.calibrated(&orbit, [width, height])?.to_json();
    let text = serde_json::to_string_pretty(&json!([camera]))?;
    write_atomic(out.join("camera.json"), |file| writeln!(file, "{text}"))?;
    let record = json!({
        "iou": found.iou,
        "azimuth-degrees": orbit.azimuth,
        "elevation-degrees": orbit.elevation,
        "distance": orbit.distance,
        "look-at": orbit.target,
        "learning-rate": settings.fit.learning_rate,
    });
    console.result(format_args!(
        "azimuth {:.1}, elevation {:.1}, distance {:.3}; overlap {:.4}",
        orbit.azimuth,
        orbit.elevation,
        orbit.distance.unwrap_or_default(),
        found.iou
    ));
    report.finish(out, "camera: error of the silhouette", "sum of squared differences", record, console)
}

/// The silhouette of the published example.
fn example(stage: &Stage, options: &Options) -> anyhow::Result<Tensor> {
    let distance = Some(f64::from(DISTANCE) * stage.extent());
    let orbit = Orbit { elevation: 30.0, azimuth: -15.0, distance, ..orbit(options) };
    let shot = Shot { width: SIDE, height: SIDE, samples: 2 };
    let wanted = Wanted { silhouette: true, ..Wanted::default() };
    let shown = stage.shoot(&orbit, shot, Light::default(), wanted)?;
    Ok(Tensor::new(&shown.alpha, [SIDE, SIDE])?)
}

fn orbit(options: &Options) -> Orbit {
    Orbit { field_of_view: options.field_of_view, ..Orbit::default() }
}

/// The orbit of a place and a target in the left-handed axes of the fit.
fn looking(eye: [f64; 3], target: [f64; 3], middle: [f64; 3], unit: f64, options: &Options) -> Orbit {
    let turned = |[x, y, z]: [f64; 3]| [x, y, -z];
    let (eye, target) = (turned(eye), turned(target));
    let from: [f64; 3] = std::array::from_fn(|axis| eye[axis] - target[axis]);
    let distance = from.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-9);
    Orbit {
        azimuth: from[0].atan2(from[2]).to_degrees(),
        elevation: (from[1] / distance).clamp(-1.0, 1.0).asin().to_degrees(),
        distance: Some(distance * unit),
        target: Some(std::array::from_fn(|axis| middle[axis] + unit * target[axis])),
        ..orbit(options)
    }
}
