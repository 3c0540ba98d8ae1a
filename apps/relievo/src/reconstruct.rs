//! `relievo reconstruct`: images in, their depth, albedo, light and viewpoint out.

mod together;

use clap::Args;
use clap::builder::PossibleValuesParser;
use relievo::{MeshOptions, OutputFormat, OutputOptions, ReliefOptions, ResultNames, Texture, contact_sheet};

use crate::console::Console;
use crate::faces::{ComputingOptions, Face, FaceOptions};

/// Write depth, albedo, light, viewpoint and a mesh for each face in photographs
///
/// Photographs are searched for faces, and each face is cropped as the images
/// that models of faces learn from. If the images are cropped already, --framed
/// takes them as they are, or the middle square of one that is not square. Models
/// of cats and cars that are named always take images as they are.
///
/// Without --model, what an image shows decides: human faces go to the weights
/// faces, cats' faces, which are found in photographs, to cats, and categories of
/// your own (`relievo category`) to their models. An image of none of these is
/// refused.
///
/// JPEG, PNG, WebP, GIF, BMP and TIFF files are read, also from folders, their
/// sub-folders and tar and zip archives. What relievo made itself is left out.
///
/// Without -o, the results of NAME.jpg go to the folder NAME.relievo beside it.
/// For each image NAME it gets, by --format:
///   html   NAME.html                 the face in 3D on a page for a browser: to
///                                    turn, to light, to download; works offline
///   panel  NAME.panel.png            everything at a glance, and side views
///   glb    NAME.glb                  the surface as a mesh (glTF), textured
///   json   NAME.json                 light, viewpoint, camera, where the face
///                                    is, how far the result is to be trusted
///   maps   NAME.depth.png            depth in the image's view, 16 bits
///          NAME.canonical-depth.png  depth as seen from the front, 16 bits
///          NAME.normals.png          normals as seen from the front
///          NAME.albedo.png           colour without light, from the front
///   obj    NAME.obj, NAME.mtl, NAME.texture.png   the mesh in three files
///   ply    NAME.ply                  the mesh with colours at its vertices
///   stl    NAME.stl                  the mesh in millimetres, without colours
///   relief NAME.relief.stl           a plate with the face raised on it, to print
///                                    or to mill
///          NAME.relief.png           its heights in millimetres, 16 bits
/// In 16 bits, 0 is no surface, and V from 1 to 65535 is the depth
/// min + (V - 1) / 65534 * (max - min), with min and max from NAME.json, in
/// distances from the camera to the object. The crop of a head that leans by more
/// than 15 degrees is turned upright (turned-degrees). With --faces all, further
/// faces are NAME.face-2, NAME.face-3 and so on.
///
/// With --together all images show one object, and so do the frames of a GIF or
/// WebP animation that is given alone: one depth and one albedo are fitted to all
/// of them, with a light and a viewpoint for each, and the mesh shows their pixels
/// put together. Of each photograph the largest face counts. At most 64 are used,
/// of more as many as that, spread evenly. Those that do not fit the others are
/// named. The results are called NAME if a single file or folder NAME was given,
/// else together.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    #[command(flatten)]
    faces: FaceOptions,
    /// Explain all images by one object: several photographs of one face
    #[arg(long, conflicts_with_all = ["faces", "sheet"])]
    together: bool,
    /// Files to write of each image, separated by commas
    #[arg(
        long,
        value_name = "FORMATS",
        value_delimiter = ',',
        default_value = "html,panel,glb,json",
        value_parser = PossibleValuesParser::new(format_names())
    )]
    format: Vec<String>,
    /// Texture of the mesh
    #[arg(long, value_enum, default_value_t)]
    texture: Texture,
    /// Triangles of the mesh, about: sampled smoothly between the pixels of the depth [default: two for
    /// each of those pixels, 7,000 or so]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(32..=8_000_000))]
    triangles: Option<u32>,
    /// Also draw sheet.png, a row for each image, the first 100
    #[arg(long)]
    sheet: bool,
    #[command(flatten)]
    relief: ReliefArguments,
    #[command(flatten)]
    computing: ComputingOptions,
}

/// How the plate of `--format relief` is made.
#[derive(Args)]
struct ReliefArguments {
    /// Width of the plate
    #[arg(long, value_name = "MM", default_value_t = ReliefOptions::default().width, help_heading = "Relief")]
    relief_width: f32,
    /// How far the face rises above the plate
    #[arg(long, value_name = "MM", default_value_t = ReliefOptions::default().depth, help_heading = "Relief")]
    relief_depth: f32,
    /// Thickness of the plate
    #[arg(long, value_name = "MM", default_value_t = ReliefOptions::default().base, help_heading = "Relief")]
    relief_base: f32,
    /// How much more steep slopes are flattened than gentle ones, 0 for all alike
    #[arg(long, value_name = "C", default_value_t = ReliefOptions::default().compression, help_heading = "Relief")]
    relief_compression: f32,
    /// From one point of the surface to the next
    #[arg(long, value_name = "MM", default_value_t = ReliefOptions::default().resolution, help_heading = "Relief")]
    relief_resolution: f32,
}

impl ReliefArguments {
    fn options(&self) -> ReliefOptions {
        ReliefOptions {
            width: self.relief_width,
            depth: self.relief_depth,
            base: self.relief_base,
            compression: self.relief_compression,
            resolution: self.relief_resolution,
        }
    }
}

/// Stands for every format.
const ALL_FORMATS: &str = "all";

fn format_names() -> impl Iterator<Item = &'static str> {
    OutputFormat::ALL.iter().map(|format| format.name()).chain([ALL_FORMATS])
}

/// The sheet's file.
const SHEET: &str = "sheet.png";

/// Rows of a sheet at most: a taller image is none to look at.
const MOST_ROWS: usize = 100;

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let mesh = MeshOptions { texture: options.texture, triangles: options.triangles };
    let output = OutputOptions { formats: formats(&options.format), mesh, relief: options.relief.options() };
    let endings: Vec<_> = OutputFormat::ALL.iter().flat_map(|format| format.endings()).copied().collect();
    options.faces.with_job(&options.computing, &endings, &[SHEET], console, |job| {
        if options.together {
            return together::run(&job, &options.faces.images, &output, console);
        }
        let wanted = if options.sheet { MOST_ROWS } else { 0 };
        let (mut rows, mut first) = (Vec::new(), None);
        let write = |face: &Face| {
            let written = face.reconstruction.write(job.folder.path(), &face.stem, &face.name, &output)?;
            let row = (face.number < wanted).then(|| face.reconstruction.sheet_row()).transpose()?;
            Ok((written, row))
        };
        // What an earlier run wrote of faces that this one did not find does not stay.
        let found = |stem: &str, faces: usize, names: &ResultNames| {
            job.folder.remove_further_faces(stem, faces, names);
        };
        let summary = job.each_image(console, found, write, |(written, row)| {
            first = first.take().or(written);
            rows.extend(row);
        })?;
        if !rows.is_empty() {
            let sheet = job.folder.path().join(SHEET);
            contact_sheet(&rows).write_png(&sheet)?;
            first = Some(sheet);
        }
        summary.conclude(job.folder, first, console)
    })
}

fn formats(names: &[String]) -> Vec<OutputFormat> {
    if names.iter().any(|name| name == ALL_FORMATS) {
        return OutputFormat::ALL.to_vec();
    }
    names.iter().filter_map(|name| name.parse().ok()).collect()
}
