//! `relievo depth`: ground truth of meshes, by `relievo_mesh::stage`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use relievo::{Depth, ResultNames};
use relievo_export::{Canvas, DepthScale, normals_rgb, write_npy};
use relievo_files::{FolderLock, ensure_empty, write_atomic};
use relievo_mesh::stage::{CalibratedCamera, Orbit, Shot, Shown, Stage, Wanted};
use relievo_tensor::Random;
use serde_json::{Value, json};

use crate::console::{Console, counted};
use crate::meshes::{self, LookOptions};

/// The file with the truth about each view.
const TRUTH: &str = "truth.jsonl";

/// Write the exact depth and normals of meshes, as ground truth
///
/// Each mesh (OBJ, GLB, glTF, PLY, STL) is seen from --count viewpoints and fills
/// the frame of each. The folder gets images/, depth/ (16 bits), normals/ and
/// mask/, as `relievo synth` writes them, and truth.jsonl with a line for each
/// view: files, depth scale, viewpoint, K, R and t of the camera as OpenCV has
/// them.
///
/// Conventions are those of relievo's models: x to the right, y down, z away from
/// the camera; depth is z at the centre of each pixel, in distances from the
/// camera to the middle of the mesh (unit in truth.jsonl is that distance in the
/// mesh's own units); normals of surfaces that face the camera are (0, 0, 1).
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Mesh files, or teapot
    #[arg(required = true, value_name = "MESHES")]
    meshes: Vec<PathBuf>,
    /// Folder to write to
    #[arg(short, long, value_name = "FOLDER")]
    out: PathBuf,
    /// Height and width of the images
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = clap::value_parser!(u16).range(2..=16_384))]
    size: u16,
    /// Also write npy/: depth [H,W] (NaN where nothing is) and normals [H,W,3] as f32, for NumPy
    #[arg(long)]
    npy: bool,
    /// Viewpoints of each mesh; with more than one they are drawn around --azimuth and --elevation
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Camera")]
    count: u32,
    /// Seed of the viewpoints
    #[arg(long, default_value_t = 0, help_heading = "Camera")]
    seed: u64,
    /// How far the camera has gone around the mesh: 0 in front, 90 on the side of +x
    #[arg(long, value_name = "DEGREES", default_value_t = 0.0, help_heading = "Camera")]
    azimuth: f64,
    /// How far the camera is above the mesh's middle
    #[arg(long, value_name = "DEGREES", default_value_t = 0.0, help_heading = "Camera")]
    elevation: f64,
    /// How far drawn viewpoints go to either side
    #[arg(long, value_name = "DEGREES", default_value_t = 60.0, help_heading = "Camera")]
    azimuth_range: f64,
    /// How far drawn viewpoints go up and down
    #[arg(long, value_name = "DEGREES", default_value_t = 20.0, help_heading = "Camera")]
    elevation_range: f64,
    /// Field of view, between the centres of the outermost pixels
    #[arg(long, value_name = "DEGREES", default_value_t = 10.0, help_heading = "Camera")]
    field_of_view: f64,
    /// JSON file of cameras in place of the above, as for `relievo render`; their images are squares of
    /// --size too, and depth is in the mesh's units
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["count", "seed", "azimuth", "elevation", "azimuth_range", "elevation_range", "field_of_view"],
        help_heading = "Camera"
    )]
    cameras: Option<PathBuf>,
    #[command(flatten)]
    look: LookOptions,
}

/// A camera, and one unit of depth in the mesh's units.
struct View {
    camera: CalibratedCamera,
    unit: f64,
    /// Azimuth and elevation, if it goes around the mesh.
    angles: Option<[f64; 2]>,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let out = &options.out;
    if out.join(TRUTH).exists() {
        bail!("{} already holds ground truth ({TRUTH}); give another folder with -o", out.display());
    }
    ensure_empty(out)?;
    let cameras = options.cameras.as_ref().map(CalibratedCamera::open).transpose()?;
    let views_each = cameras.as_ref().map_or(u64::from(options.count), |cameras| cameras.len() as u64);
    // Meshes are read before anything is written: a name that is wrong is found at once.
    if let Some(missing) =
        options.meshes.iter().find(|path| !path.is_file() && *path != Path::new(meshes::TEAPOT))
    {
        bail!("{} is no file; give mesh files", missing.display());
    }
    let mut lines = Vec::new();
    let (mut names, mut unreadable) = (ResultNames::new(), 0);
    let mut progress = console.progress(options.meshes.len() as u64 * views_each, "views");
    let mut lock = None;
    for (number, path) in options.meshes.iter().enumerate() {
        let stage =
            meshes::open(path).and_then(|mesh| meshes::stage(&mesh, path, &options.look.look(), console));
        let stage = match stage {
            Ok(stage) => stage,
            Err(error) if options.meshes.len() > 1 => {
                progress.warning(format_args!("left out: {error:#}"));
                unreadable += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        if lock.is_none() {
            fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
            lock = Some(FolderLock::acquire(out)?);
        }
        let stem = names.unused(&meshes::stem(path));
        let views = views(options, &stage, number as u64, cameras.as_deref())?;
        let digits = (views.len() - 1).to_string().len();
        for (at, view) in views.iter().enumerate() {
            let name = if views.len() == 1 { stem.clone() } else { format!("{stem}-{at:0digits$}") };
            let truth = write_view(options, &stage, path, &name, view)?;
            lines.push(truth.to_string());
            progress.set(number as u64 * views_each + at as u64 + 1, "");
        }
    }
    drop(progress);
    if lines.is_empty() {
        bail!("none of the {} could be read", counted(options.meshes.len() as u64, "mesh file"));
    }
    // Written last: once it is there, so are all the files that it names.
    write_atomic(out.join(TRUTH), |file| lines.iter().try_for_each(|line| writeln!(file, "{line}")))?;
    let size = options.size;
    let count = counted(lines.len() as u64, "view");
    console.note(format_args!("{count} of {size} x {size} pixels in {}", out.display()));
    if unreadable > 0 {
        bail!("{} could not be read (see above); the others are done", counted(unreadable, "mesh file"));
    }
    Ok(())
}

/// The views of mesh `number`.
fn views(
    options: &Options,
    stage: &Stage,
    number: u64,
    cameras: Option<&[CalibratedCamera]>,
) -> anyhow::Result<Vec<View>> {
    if let Some(cameras) = cameras {
        let view = |camera: &CalibratedCamera| View { camera: camera.clone(), unit: 1.0, angles: None };
        return Ok(cameras.iter().map(view).collect());
    }
    let side = usize::from(options.size);
    // The models' angle ends at the centres of the outermost pixels, an orbit's at their borders.
    let half = (options.field_of_view.to_radians() / 2.0).tan() * side as f64 / (side - 1) as f64;
    let field_of_view =
        if options.field_of_view > 0.0 { 2.0 * half.atan().to_degrees() } else { options.field_of_view };
    let random = Random::named(options.seed, "viewpoints").fork(number);
    let drawn = |index: u64, range: f64| match options.count {
        1 => 0.0,
        _ => (2.0 * f64::from(random.uniform(index)) - 1.0) * range,
    };
    let view = |index: u64| {
        let orbit = Orbit {
            azimuth: options.azimuth + drawn(2 * index, options.azimuth_range),
            elevation: (options.elevation + drawn(2 * index + 1, options.elevation_range)).clamp(-90.0, 90.0),
            field_of_view,
            distance: None,
            target: None,
        };
        let orbit = stage.framed(&[orbit], 1.0)?[0];
        let camera = stage.calibrated(&orbit, [side, side])?;
        let unit = orbit.distance.context("a view without a distance")?;
        Ok(View { camera, unit, angles: Some([orbit.azimuth, orbit.elevation]) })
    };
    (0..u64::from(options.count)).map(view).collect()
}

/// Writes the files of a view, each as `name` in a folder of its own; gives its line of the truth.
fn write_view(
    options: &Options,
    stage: &Stage,
    mesh: &Path,
    name: &str,
    view: &View,
) -> anyhow::Result<Value> {
    let (out, side) = (&options.out, usize::from(options.size));
    let shot = Shot { width: side, height: side, samples: 4 };
    let wanted = Wanted { colour: true, depth: true, normals: true, ..Wanted::default() };
    let mut shown = stage.shoot_calibrated(&view.camera, shot, options.look.light(), wanted)?;
    shown.depth.iter_mut().for_each(|depth| *depth = (f64::from(*depth) / view.unit) as f32);
    let mask: Vec<u8> = shown.depth.iter().map(|depth| u8::from(depth.is_finite())).collect();
    let file = |folder: &str| format!("{folder}/{name}.png");
    Canvas::from_unit(&shown.over([0.0; 3]), side).write_input_png(out.join(file("images")))?;
    normals_rgb(&shown.normals, side).write_png(out.join(file("normals")))?;
    let white: Vec<f32> = mask.iter().map(|seen| f32::from(*seen)).collect();
    Canvas::from_grey(&white, side).write_png(out.join(file("mask")))?;
    let scale = DepthScale::write_png(out.join(file("depth")), &shown.depth, side, Some(&mask))?;
    let mut truth = json!({
        "mesh": mesh.to_string_lossy(),
        "image": file("images"),
        "normals": file("normals"),
        "mask": file("mask"),
        "depth": Depth::new(file("depth"), scale),
        "unit": view.unit,
        "camera": camera_of(view, side),
    });
    if let Some([azimuth, elevation]) = view.angles {
        truth["azimuth-degrees"] = azimuth.into();
        truth["elevation-degrees"] = elevation.into();
        truth["field-of-view-degrees"] = options.field_of_view.into();
    }
    if options.npy {
        write_arrays(out, name, &shown, side, &mut truth)?;
    }
    Ok(truth)
}

/// The camera of the image that is written, in units of its depth.
fn camera_of(view: &View, side: usize) -> Value {
    let mut camera = view.camera.clone().resized([side, side]);
    camera.translation.iter_mut().for_each(|value| *value /= view.unit);
    camera.to_json()
}

fn write_arrays(out: &Path, name: &str, shown: &Shown, side: usize, truth: &mut Value) -> anyhow::Result<()> {
    let [depth, normals] = ["depth", "normals"].map(|kind| format!("npy/{name}.{kind}.npy"));
    write_npy(out.join(&depth), &shown.depth, &[side, side])?;
    write_npy(out.join(&normals), &shown.normals, &[side, side, 3])?;
    truth["npy"] = json!({ "depth": depth, "normals": normals });
    Ok(())
}
