//! `relievo reconstruct`: images in, their depth, albedo, light and viewpoint out.

mod together;

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, bail, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use rayon::prelude::*;
use relievo::{
    Canvas, ComputeSettings, Error, FaceSelection, Framing, Image, ImageInput, OutputFormat, OutputOptions,
    Reconstruction, Reconstructor, ResultNames, ResultsFolder, Route, SampleError, Texture, contact_sheet,
    result_stem,
};
use relievo_data::{DecodeOptions, Decoded, Images, Note, Source};
use relievo_model::Supervision;

use crate::category::FileOptions;
use crate::console::{Console, Progress, counted};
use crate::hint;
use crate::{Interrupted, train, weights};

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
/// JPEG, PNG, WebP, GIF, BMP and
/// TIFF files are read, also from folders, their sub-folders and tar and zip
/// archives. What relievo made itself is left out.
///
/// Without -o, the results of NAME.jpg go to the folder NAME.relievo beside it.
/// For each image NAME it gets, by --format:
///   panel  NAME.panel.png            everything at a glance, and side views
///   glb    NAME.glb                  the surface as a mesh (glTF), textured
///   json   NAME.json                 light, viewpoint, camera, where the face
///                                    is, how far the result is to be trusted
///   maps   NAME.depth.png            depth in the image's view, 16 bits
///          NAME.canonical-depth.png  depth as seen from the front, 16 bits
///          NAME.normals.png          normals as seen from the front
///          NAME.albedo.png           colour without light, from the front
///   obj    NAME.obj, NAME.mtl, NAME.texture.png   the mesh in three files
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
    /// Images, folders and archives of images, or - for standard input
    #[arg(required = true, value_name = "IMAGES")]
    images: Vec<PathBuf>,
    /// Folder to write to [default: NAME.relievo beside the image or folder NAME;
    /// results.relievo here for several]
    #[arg(short, long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Weights file, folder of a training run, or weights in the program: faces,
    /// faces-synthetic, cats [default: those for what the image shows]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    categories: FileOptions,
    /// Which faces of a photograph to reconstruct [default: largest]
    #[arg(long, value_enum)]
    faces: Option<FaceSelection>,
    /// Look for no faces: the images are cropped already, or show something else
    #[arg(long, conflicts_with = "faces")]
    framed: bool,
    /// Explain all images by one object: several photographs of one face
    #[arg(long, conflicts_with_all = ["faces", "sheet"])]
    together: bool,
    /// Images that go through the networks together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Files to write of each image, separated by commas
    #[arg(
        long,
        value_name = "FORMATS",
        value_delimiter = ',',
        default_value = "panel,glb,json",
        value_parser = PossibleValuesParser::new(format_names())
    )]
    format: Vec<String>,
    /// Texture of the mesh
    #[arg(long, value_enum, default_value_t)]
    texture: Texture,
    /// Fit depth, albedo, light and viewpoint to each image in so many steps, 0 for the networks'
    /// own answer [default: 20; 50 for four and more images together; 0 for a model of depth
    /// alone]
    #[arg(long, value_name = "STEPS")]
    refine: Option<u16>,
    /// Also draw sheet.png, a row for each image, the first 100
    #[arg(long)]
    sheet: bool,
    /// Memory that the pixels of one photograph may take, as 800MiB or 2GiB: larger ones are decoded
    /// at a half, a quarter or an eighth of their size
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = memory_size, help_heading = "Computing")]
    max_memory: u64,
    #[command(flatten, next_help_heading = "Computing")]
    compute: ComputeSettings,
}

/// A size of memory in bytes, from a number with or without a unit.
fn memory_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 7] =
        [("kib", 10), ("mib", 20), ("gib", 30), ("k", 10), ("m", 20), ("g", 30), ("", 0)];
    let lower = text.trim().to_ascii_lowercase();
    let (number, shift) = UNITS
        .into_iter()
        .find_map(|(unit, shift)| Some((lower.strip_suffix(unit)?.trim_end(), shift)))
        .unwrap_or((&lower, 0));
    let bytes = number.parse::<f64>().ok().map(|number| number * f64::from(1_u32 << shift));
    match bytes {
        Some(bytes) if (1.0..=LARGEST_MEMORY).contains(&bytes) => Ok(bytes as u64),
        _ => Err("a size is a number and a unit, as 800MiB or 2GiB".into()),
    }
}

/// Larger sizes of memory are slips, in bytes.
const LARGEST_MEMORY: f64 = (1_u64 << 50) as f64;

/// Stands for every format.
const ALL_FORMATS: &str = "all";

fn format_names() -> impl Iterator<Item = &'static str> {
    OutputFormat::ALL.iter().map(|format| format.name()).chain([ALL_FORMATS])
}

/// The sheet's file.
const SHEET: &str = "sheet.png";

/// Rows of a sheet at most: a taller image is none to look at.
const MOST_ROWS: usize = 100;

/// An image to be reconstructed.
struct Task<'a> {
    images: &'a Images,
    index: u64,
    /// See [`Options::max_memory`].
    max_memory: u64,
    name: String,
    /// Where its results go, without the endings: relative to the folder, with `/`.
    stem: String,
    /// What happened when it was decoded.
    notes: OnceLock<Vec<Note>>,
}

impl Task<'_> {
    /// Decodes the image, also one whose file breaks off.
    fn load(&self) -> Result<Image, SampleError> {
        let options = DecodeOptions::lenient().within(self.max_memory);
        let Decoded { image, notes, .. } = self.images.decode(self.index, &options)?;
        let _ = self.notes.set(notes);
        Ok(image)
    }

    fn location(&self) -> String {
        self.images.location(self.index)
    }
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let folder = match &options.out {
        Some(out) => ResultsFolder::new(out),
        None => ResultsFolder::for_inputs(&options.images),
    };
    let done = reconstruct_into(&folder, options, console);
    if done.is_err() {
        folder.remove_if_empty();
    }
    done
}

fn reconstruct_into(folder: &ResultsFolder, options: &Options, console: &Console) -> anyhow::Result<()> {
    let (inputs, mut failed) = open(&options.images, console);
    let mut names = ResultNames::new();
    let tasks = tasks(&inputs, folder, &mut names, options.max_memory)?;
    let reconstructor = reconstructor(options, tasks.len(), console)?;
    let output = OutputOptions { formats: formats(&options.format), texture: options.texture };
    if options.together {
        let task = together::Task { folder, tasks: &tasks, skipped: failed, output: &output };
        return task.run(&reconstructor, options, console);
    }
    let stop = train::stop_on_ctrl_c(*console, "finishing the images at hand")?;
    let mut results = Results::new(folder, names, output, options.sheet);
    let images = tasks.iter().map(|task| ImageInput::from_loader(move || task.load()));
    let mut batch = reconstructor.reconstruct_batch(images).cancelled_by(&stop);
    let mut progress = console.progress(tasks.len() as u64, "images");
    let mut done = 0;
    while let Some(group) = batch.next_group() {
        let group = group.into_iter().zip(&tasks[done..]);
        done += group.len();
        failed += results.take(group, &progress)?;
        progress.set(done as u64, "");
    }
    drop(progress);
    results.conclude(failed, done < tasks.len(), console)
}

/// The images of each input that can be used, and how many cannot: those are named.
fn open<'a>(paths: &'a [PathBuf], console: &Console) -> (Vec<(&'a PathBuf, Images)>, usize) {
    let mut inputs = Vec::new();
    for path in paths {
        match Images::open(&[path]) {
            Ok(images) => {
                images.warnings().iter().for_each(|warning| console.warning(warning));
                inputs.push((path, images));
            }
            Err(error) => console.warning(format_args!("skipped: {error}")),
        }
    }
    let failed = paths.len() - inputs.len();
    (inputs, failed)
}

/// The images of all inputs, each with a name of its own for its results. What lies in the output folder is left out:
/// it would be results of an earlier run.
fn tasks<'a>(
    inputs: &'a [(&PathBuf, Images)],
    folder: &ResultsFolder,
    names: &mut ResultNames,
    max_memory: u64,
) -> anyhow::Result<Vec<Task<'a>>> {
    let mut tasks = Vec::new();
    for (path, images) in inputs {
        let results = folder.inside(path)?;
        for index in 0..images.len() {
            let name = images.name(index);
            if results.as_ref().is_some_and(|results| name.starts_with(results)) {
                continue;
            }
            let stem = names.unused(&result_stem(&name));
            tasks.push(Task { images, index, max_memory, name, stem, notes: OnceLock::new() });
        }
    }
    folder.spare(tasks.iter().filter_map(|task| task.images.file(task.index)), &[SHEET])?;
    ensure!(!tasks.is_empty(), "nothing to reconstruct: none of the inputs holds an image that can be used");
    Ok(tasks)
}

fn reconstructor(options: &Options, images: usize, console: &Console) -> anyhow::Result<Reconstructor> {
    let framing = match (options.framed, options.faces) {
        (true, _) => Framing::Whole,
        (false, Some(_)) if options.model.is_some() => Framing::Faces,
        _ => Framing::Automatic,
    };
    let weights = weights::choose(options.model.as_deref())?;
    let mut builder = match options.model {
        Some(_) => Reconstructor::builder().weights(weights),
        // What is seen in each image decides.
        None => Reconstructor::builder().categories(options.categories.own(console)?),
    };
    builder = builder
        .compute(options.compute)
        .framing(framing)
        .faces(options.faces.unwrap_or(FaceSelection::Largest))
        .batch_size(usize::from(options.batch_size).min(images));
    if let Some(steps) = options.refine {
        builder = builder.refine(steps);
    }
    let reconstructor = builder.build()?;
    let origin = reconstructor.origin();
    if framing == Framing::Automatic && !reconstructor.looks_for_faces() {
        let category = reconstructor.category();
        console.note(format_args!("{origin} is a model of {category}: the images are taken as they are"));
    }
    if reconstructor.model().settings().supervision == Supervision::Depth {
        console.warning(format_args!(
            "{origin} has learned nothing but depth: albedo, light and viewpoint are not what it sees"
        ));
    }
    Ok(reconstructor)
}

fn formats(names: &[String]) -> Vec<OutputFormat> {
    if names.iter().any(|name| name == ALL_FORMATS) {
        return OutputFormat::ALL.to_vec();
    }
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// What is written, and what came of it.
struct Results<'a> {
    folder: &'a ResultsFolder,
    names: ResultNames,
    output: OutputOptions,
    /// Rows of the sheet that are still wanted.
    wanted: usize,
    rows: Vec<Vec<Canvas>>,
    faces: u64,
    /// The file to open.
    first: Option<PathBuf>,
}

impl<'a> Results<'a> {
    fn new(folder: &'a ResultsFolder, names: ResultNames, output: OutputOptions, sheet: bool) -> Self {
        Self {
            folder,
            names,
            output,
            wanted: if sheet { MOST_ROWS } else { 0 },
            rows: Vec::new(),
            faces: 0,
            first: None,
        }
    }

    /// Writes the faces of some images, side by side; gives the number of those that could not be used, and names
    /// them.
    fn take<'t>(
        &mut self,
        group: impl Iterator<Item = (relievo::Result<Vec<Reconstruction>>, &'t Task<'t>)>,
        progress: &Progress,
    ) -> anyhow::Result<usize> {
        let mut failed = 0;
        let mut jobs = Vec::new();
        for (found, task) in group {
            let faces = match found {
                Ok(faces) => faces,
                Err(error) => {
                    progress.warning(format_args!("skipped: {}", skipped(error, task)?));
                    failed += 1;
                    continue;
                }
            };
            for note in task.notes.get().into_iter().flatten().filter(|note| note.is_warning()) {
                progress.warning(format_args!("{}: {note}", task.location()));
            }
            self.folder.remove_further_faces(&task.stem, faces.len(), &self.names);
            for (number, face) in faces.into_iter().enumerate() {
                if let Some(route) = face.route() {
                    let Route { category, certainty, weights, .. } = route;
                    progress.note(format_args!(
                        "{}: {category}, {certainty:.2}; reconstructed by {weights}",
                        task.location()
                    ));
                }
                for doubt in &face.quality().doubts {
                    let which = if number > 0 { format!(", face {}", number + 1) } else { String::new() };
                    progress.warning(format_args!("{}{which}: {doubt}", task.location()));
                }
                jobs.push((self.names.of_face(&task.stem, number), face, task));
            }
        }
        let wanted = self.wanted;
        let write = |(number, (stem, face, task)): (usize, &(String, Reconstruction, &Task<'_>))| {
            let first = face.write(self.folder.path(), stem, &task.name, &self.output)?;
            let row = (number < wanted).then(|| face.sheet_row()).transpose()?;
            Ok::<_, Error>((first, row))
        };
        let written: Vec<_> = jobs.par_iter().enumerate().map(write).collect::<relievo::Result<_>>()?;
        if self.faces == 0 && !written.is_empty() {
            self.folder.mark()?;
        }
        self.faces += written.len() as u64;
        for (first, row) in written {
            self.first = self.first.take().or(first);
            self.rows.extend(row);
        }
        self.wanted = wanted.saturating_sub(jobs.len());
        Ok(failed)
    }

    /// Draws the sheet and says what was done, last of all which file to open.
    fn conclude(self, failed: usize, stopped: bool, console: &Console) -> anyhow::Result<()> {
        let Self { folder, rows, faces, mut first, .. } = self;
        let folder = folder.path();
        if !rows.is_empty() {
            let sheet = folder.join(SHEET);
            contact_sheet(&rows).write_png(&sheet)?;
            first = Some(sheet);
        }
        let done = match faces {
            0 => "nothing was written".to_owned(),
            _ => format!("{} reconstructed in {}", counted(faces, "image"), folder.display()),
        };
        if stopped {
            console.result(format_args!("stopped: {done}"));
            return Err(Interrupted.into());
        }
        if failed > 0 {
            bail!("{failed} of the inputs could not be used (named above); {done}");
        }
        console.note(done);
        if let Some(first) = first {
            console.result(format_args!("open {}", first.display()));
        }
        Ok(())
    }
}

/// Why an image was left out; an error if no image can be done.
fn skipped(error: Error, task: &Task<'_>) -> anyhow::Result<String> {
    let concerns_all = match &error {
        Error::Image(_)
        | Error::NoFace
        | Error::NothingKnown { .. }
        | Error::OtherCategory
        | Error::FaceCutOff { .. } => false,
        other => !other.is_out_of_memory(),
    };
    let advice = hint::reconstruction(&error).map_or(String::new(), |advice| format!("; {advice}"));
    match error {
        Error::Image(error) => Ok(error.to_string()),
        error if concerns_all => Err(error).with_context(|| task.location()),
        error => Ok(format!("{}: {error}{advice}", task.location())),
    }
}

#[cfg(test)]
mod tests {
    use super::memory_size;

    #[test]
    fn sizes_of_memory_have_units() {
        let sizes = ["512MiB", "2gib", "1.5 G", "100k", "4096", "64M"].map(|text| memory_size(text).unwrap());
        assert_eq!(sizes, [512 << 20, 2 << 30, 3 << 29, 100 << 10, 4096, 64 << 20]);
        for text in ["", "MiB", "-1GiB", "0", "nan", "inf", "2 TiB", "1e30", "512MB"] {
            assert!(memory_size(text).is_err(), "{text}");
        }
    }
}
