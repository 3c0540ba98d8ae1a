//! `relievo render`: images of a mesh, by `relievo_mesh::stage`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use relievo::{Canvas, Depth, ResultsFolder};
use relievo_data::{Reservation, reserve_memory};
use relievo_export::{Animation, DepthScale, Range, Sheet, depth_grey, normals_rgb, write_rgba_png};
use relievo_files::write_atomic;
use relievo_mesh::stage::{CalibratedCamera, Orbit, Shot, Shown, Stage, Wanted};
use serde_json::{Value, json};

use crate::animations::Format;
use crate::console::{Console, counted};
use crate::meshes::{self, LookOptions};

/// Render images of a mesh: stills, turntables, depth, normals, silhouettes
///
/// MESH is an OBJ, GLB, glTF, PLY or STL file, or the word `teapot`. It is seen
/// as in any viewer, not mirrored: x to the right, y up, z towards the camera at
/// azimuth 0. The camera is as near as the whole mesh is in the image.
///
/// Without -o, the images go to the folder NAME.relievo beside the mesh:
///   colour      NAME.colour.png      colour in the light of the options below
///   rgba        NAME.rgba.png        the same on a transparent background
///   silhouette  NAME.silhouette.png  the share of each pixel that is covered
///   depth       NAME.depth.png       depth at the centre of each pixel, 16 bits
///   normals     NAME.normals.png     normals: red to the right, green up
///   face-index  NAME.face-index.png  number of the face plus one, as red * 65536
///                                    + green * 256 + blue; 0 is no face
/// In 16 bits, 0 is no surface, and V from 1 to 65535 is the depth
/// min + (V - 1) / 65534 * (max - min), with min and max from NAME.json, in the
/// mesh's units; K, R and t of the camera are there too, as OpenCV has them.
/// With several images, their names end in -0, -1 and so on.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Mesh file, or teapot
    #[arg(value_name = "MESH")]
    mesh: PathBuf,
    /// Folder to write to, or the file (.png, .gif, .webp, .apng) of a single output [default: NAME.relievo
    /// beside the mesh]
    #[arg(short, long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Images to write, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "colour")]
    output: Vec<Output>,
    /// Width and height of the images, as 640x480, or one number for squares
    #[arg(long, value_name = "PIXELS", default_value = "512", value_parser = meshes::size)]
    size: [usize; 2],
    /// Samples along each side of a pixel, for colour and silhouettes
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    samples: u8,
    /// Colour where there is nothing: white, grey, black or #rrggbb
    #[arg(long, value_name = "COLOUR", default_value = "white", value_parser = meshes::colour)]
    background: [f32; 3],
    /// Turn the mesh once around its vertical axis, in so many frames
    #[arg(long, value_name = "FRAMES", conflicts_with = "cameras", value_parser = clap::value_parser!(u16).range(2..=3600))]
    turntable: Option<u16>,
    /// Files of a turntable, separated by commas [default: gif, or what the name of -o ends in]
    #[arg(long, value_enum, value_delimiter = ',', requires = "turntable")]
    format: Vec<Format>,
    /// How long a turn takes
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, requires = "turntable")]
    seconds: f64,
    /// Also draw NAME.sheet.png, a row for each image, the first 100, of all outputs
    #[arg(long)]
    sheet: bool,
    #[command(flatten)]
    camera: CameraOptions,
    #[command(flatten)]
    look: LookOptions,
}

/// Where the camera is.
#[derive(Args)]
struct CameraOptions {
    /// How far the camera has gone around the mesh: 0 in front, 90 on the side of +x
    #[arg(long, value_name = "DEGREES", default_value_t = Orbit::default().azimuth, help_heading = "Camera")]
    azimuth: f64,
    /// How far the camera is above the mesh's middle
    #[arg(long, value_name = "DEGREES", default_value_t = Orbit::default().elevation, help_heading = "Camera")]
    elevation: f64,
    /// Vertical field of view
    #[arg(long, value_name = "DEGREES", default_value_t = Orbit::default().field_of_view, help_heading = "Camera")]
    field_of_view: f64,
    /// From the camera to the point that it looks at, in the mesh's units [default: as near as all of the
    /// mesh is seen]
    #[arg(long, value_name = "D", help_heading = "Camera")]
    distance: Option<f64>,
    /// Point that the camera looks at, in the mesh's units [default: the middle of the mesh]
    #[arg(long, value_name = "X,Y,Z", value_parser = meshes::point, help_heading = "Camera")]
    look_at: Option<[f64; 3]>,
    /// JSON file of cameras in place of the above: a list of objects with K, R, t, width and height, and
    /// distortion (k1, k2, p1, p2, k3) if there is any, as OpenCV has them; one image for each
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["azimuth", "elevation", "field_of_view", "distance", "look_at"],
        help_heading = "Camera"
    )]
    cameras: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Colour in the light of --light-azimuth and --light-elevation
    Colour,
    /// The same on a transparent background
    Rgba,
    /// The share of each pixel that is covered
    Silhouette,
    /// Depth at the centre of each pixel
    Depth,
    /// Normals at the centre of each pixel
    Normals,
    /// Number of the face at the centre of each pixel
    FaceIndex,
}

impl Output {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The image of a camera and what there is to know about it.
struct View {
    camera: CalibratedCamera,
    shot: Shot,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let mesh = meshes::open(&options.mesh)?;
    let stage = meshes::stage(&mesh, &options.mesh, &options.look.look(), console)?;
    let views = views(options, &stage)?;
    let files = Files::new(options, views.len())?;
    let formats = &files.formats;
    let is_animated = formats.iter().any(|format| *format != Format::Frames);
    ensure!(
        !(is_animated && options.output.contains(&Output::Rgba)),
        "animations are not transparent; take --format frames for --output rgba"
    );
    let _memory = memory_for(&views, options.output.len() * usize::from(is_animated || options.sheet))?;
    let (mut records, mut covered) = (Vec::new(), false);
    let mut animations: Vec<Vec<Canvas>> = vec![Vec::new(); options.output.len()];
    // One range for all frames, or they would flicker.
    let range = stage_range(&stage, &views);
    let mut progress = (views.len() > 1).then(|| console.progress(views.len() as u64, "images"));
    for (number, view) in views.iter().enumerate() {
        let shown =
            stage.shoot_calibrated(&view.camera, view.shot, options.look.light(), options.wanted())?;
        covered |= is_covered(&shown);
        let mut record = view.camera.to_json();
        for (output, frames) in options.output.iter().zip(&mut animations) {
            if formats.contains(&Format::Frames) {
                let path = files.still(*output, number);
                record[output.name()] = write_still(*output, &shown, options.background, &path)?;
            }
            if is_animated || options.sheet && number < MOST_ROWS {
                frames.push(canvas(*output, &shown, options.background, range));
            }
        }
        records.push(record);
        if let Some(progress) = &mut progress {
            progress.set(number as u64 + 1, "");
        }
    }
    drop(progress);
    let pause = Duration::from_secs_f64(options.seconds.clamp(0.01, 1e4) / views.len() as f64);
    if options.sheet {
        sheet(options, &animations).write_png(files.sheet()?)?;
    }
    for (output, frames) in options.output.iter().zip(animations).filter(|_| is_animated) {
        let animation = Animation::new(frames, pause);
        for format in formats {
            match format {
                Format::Gif => animation.write_gif(files.animation(*output, "gif"))?,
                Format::Webp => animation.write_webp(files.animation(*output, "webp"))?,
                Format::Apng => animation.write_apng(files.animation(*output, "apng"))?,
                Format::Frames => {}
            }
        }
    }
    files.write_record(&options.mesh, &stage, records)?;
    if !covered {
        console.warning("the mesh is not in the image; turn the camera towards it");
    }
    console.note(format_args!("{} in {}", counted(views.len() as u64, "image"), files.described()));
    Ok(())
}

/// Rows of a sheet at most: a taller image is none to look at.
const MOST_ROWS: usize = 100;

/// Most pixels along the sides of an image on it.
const SHEET_TILE: usize = 512;

/// All outputs, a column for each.
fn sheet(options: &Options, outputs: &[Vec<Canvas>]) -> Canvas {
    let longest =
        outputs.iter().flatten().map(|canvas| canvas.width().max(canvas.height())).max().unwrap_or(1);
    let mut sheet =
        Sheet::new(longest.min(SHEET_TILE)).columns(options.output.iter().map(|output| output.name()));
    for row in 0..outputs.first().map_or(0, Vec::len).min(MOST_ROWS) {
        sheet.row("", outputs.iter().map(|images| squared(&images[row], options.background)));
    }
    sheet.draw()
}

/// The image in the middle of a square, for sheets have square tiles.
fn squared(image: &Canvas, background: [f32; 3]) -> Canvas {
    let side = image.width().max(image.height());
    let colour = background.map(|value| (value * 255.0 + 0.5) as u8);
    let mut square = Canvas::new(side, side, colour);
    square.paste(image, (side - image.width()) / 2, (side - image.height()) / 2);
    square
}

impl Options {
    fn wanted(&self) -> Wanted {
        let has = |output| self.output.contains(&output);
        let colour = has(Output::Colour) || has(Output::Rgba);
        Wanted {
            colour,
            silhouette: has(Output::Silhouette),
            depth: has(Output::Depth),
            normals: has(Output::Normals),
            faces: has(Output::FaceIndex),
        }
    }
}

/// Refuses images that there is no memory for: an allocation that fails ends the program. `kept` canvases of every view
/// are in memory together.
fn memory_for(views: &[View], kept: usize) -> anyhow::Result<Reservation> {
    /// Of a pixel: what is seen, what is laid over the background, what is encoded.
    const BYTES: u64 = 64;
    let pixels = |view: &View| view.shot.width as u64 * view.shot.height as u64;
    let largest = views.iter().map(pixels).max().unwrap_or(0);
    let all: u64 = views.iter().map(pixels).sum();
    let needed = largest.saturating_mul(BYTES).saturating_add(all.saturating_mul(3 * kept as u64));
    reserve_memory(needed, 0).with_context(|| {
        format!(
            "there is not enough memory for these images, about {} MiB; take a smaller --size or fewer frames",
            needed >> 20
        )
    })
}

/// The cameras of all images.
fn views(options: &Options, stage: &Stage) -> anyhow::Result<Vec<View>> {
    let samples = usize::from(options.samples);
    let camera = &options.camera;
    if let Some(file) = &camera.cameras {
        let cameras = CalibratedCamera::open(file)?;
        let view = |camera: CalibratedCamera| {
            let [width, height] = camera.size;
            View { camera, shot: Shot { width, height, samples } }
        };
        return Ok(cameras.into_iter().map(view).collect());
    }
    let [width, height] = options.size;
    let shot = Shot { width, height, samples };
    let first = Orbit {
        azimuth: camera.azimuth,
        elevation: camera.elevation,
        field_of_view: camera.field_of_view,
        distance: camera.distance,
        target: camera.look_at,
    };
    // The mesh turns to the right: the camera goes to the left.
    let frames = options.turntable.unwrap_or(1);
    let turned = |frame: u16| first.azimuth - 360.0 * f64::from(frame) / f64::from(frames);
    let orbits: Vec<Orbit> = (0..frames).map(|frame| Orbit { azimuth: turned(frame), ..first }).collect();
    let orbits = stage.framed(&orbits, shot.aspect())?;
    let view = |orbit: &Orbit| Ok(View { camera: stage.calibrated(orbit, options.size)?, shot });
    orbits.iter().map(view).collect()
}

/// Depths about the middle of the mesh.
fn stage_range(stage: &Stage, views: &[View]) -> Range {
    let depth = |view: &View| {
        let CalibratedCamera { rotation, translation, .. } = &view.camera;
        rotation[2].iter().zip(stage.middle()).map(|(row, x)| row * x).sum::<f64>() + translation[2]
    };
    let [low, high] = views
        .iter()
        .map(depth)
        .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], depth| [low.min(depth), high.max(depth)]);
    Range { low: (low - stage.extent()) as f32, high: (high + stage.extent()) as f32 }
}

fn is_covered(shown: &Shown) -> bool {
    let Shown { alpha, depth, normals, faces, .. } = shown;
    alpha.iter().any(|alpha| *alpha > 0.0)
        || depth.iter().any(|depth| depth.is_finite())
        || normals.iter().any(|value| *value != 0.0)
        || faces.iter().any(Option::is_some)
}

/// An output as an image to look at.
fn canvas(output: Output, shown: &Shown, background: [f32; 3], range: Range) -> Canvas {
    let width = shown.width;
    match output {
        Output::Colour | Output::Rgba => Canvas::from_unit(&shown.over(background), width),
        Output::Silhouette => Canvas::from_grey(&shown.alpha, width),
        Output::Depth => depth_grey(&shown.depth, width, None, range),
        Output::Normals => normals_rgb(&shown.normals, width),
        Output::FaceIndex => {
            let colour = |face: &Option<u32>| {
                face.map_or([0; 3], |face| {
                    // Neighbours in number differ in colour.
                    let [r, g, b, _] = (face + 1).wrapping_mul(0x9e37_79b1).swap_bytes().to_le_bytes();
                    [r, g, b].map(|value| 64 + value / 4 * 3)
                })
            };
            Canvas::from_rgb8(&shown.faces.iter().flat_map(colour).collect::<Vec<u8>>(), width)
        }
    }
}

/// Writes an output as a file of its own; gives what its record says.
fn write_still(output: Output, shown: &Shown, background: [f32; 3], path: &Path) -> anyhow::Result<Value> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match output {
        Output::Depth => {
            let scale = DepthScale::write_png(path, &shown.depth, shown.width, None)?;
            return Ok(serde_json::to_value(Depth::new(name, scale))?);
        }
        Output::Rgba => {
            let pixels = shown.colour.as_chunks::<3>().0.iter().zip(&shown.alpha);
            let byte = |value: f32| (value * 255.0 + 0.5) as u8;
            let rgba: Vec<u8> = pixels.flat_map(|(&[r, g, b], alpha)| [r, g, b, *alpha].map(byte)).collect();
            write_rgba_png(path, &rgba, shown.width)?;
        }
        Output::FaceIndex => {
            let bytes = shown.faces.iter().flat_map(|face| {
                let [_, r, g, b] = face.map_or(0, |face| face + 1).to_be_bytes();
                [r, g, b]
            });
            Canvas::from_rgb8(&bytes.collect::<Vec<u8>>(), shown.width).write_png(path)?;
        }
        _ => canvas(output, shown, background, Range { low: 0.0, high: 1.0 }).write_png(path)?,
    }
    Ok(name.into())
}

/// Where the images go.
struct Files {
    place: Place,
    stem: String,
    /// Digits of the numbers in names; none if there is one image.
    digits: Option<usize>,
    formats: Vec<Format>,
}

enum Place {
    Folder(ResultsFolder),
    /// One file and nothing else.
    File(PathBuf),
}

impl Files {
    fn new(options: &Options, images: usize) -> anyhow::Result<Self> {
        let stem = meshes::stem(&options.mesh);
        let digits = (images > 1).then(|| (images - 1).to_string().len());
        let extension =
            options.out.as_deref().and_then(Path::extension).and_then(|extension| extension.to_str());
        let of_name = match extension {
            Some("png") => Some(Format::Frames),
            Some("gif") => Some(Format::Gif),
            Some("webp") => Some(Format::Webp),
            Some("apng") => Some(Format::Apng),
            _ => None,
        };
        let formats = match (options.turntable, &options.format[..]) {
            (None, _) => vec![Format::Frames],
            (Some(_), []) => vec![of_name.unwrap_or(Format::Gif)],
            (Some(_), formats) => formats.to_vec(),
        };
        let place = match (&options.out, of_name) {
            (None, _) => Place::Folder(ResultsFolder::beside(&options.mesh)),
            (Some(folder), None) => Place::Folder(ResultsFolder::new(folder)),
            (Some(file), Some(of_name)) => {
                let shown = file.display();
                let is_single = of_name != Format::Frames || images == 1;
                ensure!(
                    options.output.len() == 1 && formats.len() == 1 && is_single,
                    "{shown} is one file; give a folder for several"
                );
                ensure!(
                    formats[0] == of_name,
                    "{shown} cannot hold that; turntables are .gif, .webp or .apng files, stills .png files"
                );
                Place::File(file.clone())
            }
        };
        if let Place::Folder(folder) = &place {
            folder.spare([options.mesh.as_path()].into_iter(), &[], &[])?;
        }
        Ok(Self { place, stem, digits, formats })
    }

    fn still(&self, output: Output, number: usize) -> PathBuf {
        match (&self.place, self.digits) {
            (Place::File(file), _) => file.clone(),
            (Place::Folder(folder), None) => {
                folder.path().join(format!("{}.{}.png", self.stem, output.name()))
            }
            (Place::Folder(folder), Some(digits)) => {
                folder.path().join(format!("{}.{}-{number:0digits$}.png", self.stem, output.name()))
            }
        }
    }

    fn animation(&self, output: Output, extension: &str) -> PathBuf {
        match &self.place {
            Place::File(file) => file.clone(),
            Place::Folder(folder) => {
                folder.path().join(format!("{}.{}.{extension}", self.stem, output.name()))
            }
        }
    }

    fn sheet(&self) -> anyhow::Result<PathBuf> {
        match &self.place {
            Place::File(file) => bail!("{} is one file; give a folder for a sheet", file.display()),
            Place::Folder(folder) => Ok(folder.path().join(format!("{}.sheet.png", self.stem))),
        }
    }

    /// Writes what is to be known about the images beside them.
    fn write_record(&self, mesh: &Path, stage: &Stage, images: Vec<Value>) -> anyhow::Result<()> {
        let Place::Folder(folder) = &self.place else { return Ok(()) };
        let record = json!({
            "relievo": env!("CARGO_PKG_VERSION"),
            "mesh": mesh.to_string_lossy(),
            "middle": stage.middle(),
            "half-extent": stage.extent(),
            "cameras": images,
        });
        let path = folder.path().join(format!("{}.json", self.stem));
        let text = serde_json::to_string_pretty(&record)?;
        write_atomic(&path, |file| writeln!(file, "{text}"))?;
        folder.mark().context("cannot mark the folder")?;
        Ok(())
    }

    fn described(&self) -> String {
        match &self.place {
            Place::File(file) => file.display().to_string(),
            Place::Folder(folder) => folder.path().display().to_string(),
        }
    }
}
