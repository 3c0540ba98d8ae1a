//! `relievo reconstruct`: images in, their parts out.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use rayon::prelude::*;
use relievo_data::{Image, Images, Source};
use relievo_detect::{Detector, Face, FaceLocation, FaceSelection};
use relievo_model::{ComputeSettings, Model, ModelError, Predictor, Supervision};
use relievo_results::{ENDINGS, Input, LEAST_TEXTURE, OutputOptions, ResultsError, reconstruct, sheet};

use crate::console::{Console, counted};
use crate::weights::{self, Loaded};
use crate::{Interrupted, train};

/// Take images apart: depth, albedo, light and viewpoint of each
///
/// Photographs are searched for faces, and each face is cropped as the images
/// that models of faces learn from. If the images are cropped already, --framed
/// takes them as they are; of an image that is not square then the middle. For a
/// model of something else (its file says so: preset cat or car) that needs no
/// --framed. JPEG, PNG and WebP files are read, also from folders and their
/// sub-folders and from tar files.
///
/// For each image NAME the folder gets
///   NAME.panel.png            everything at a glance, and views from the side
///   NAME.depth.png            depth in the image's view, 16 bits
///   NAME.canonical-depth.png  depth as seen from the front, 16 bits
///   NAME.normals.png          normals as seen from the front
///   NAME.albedo.png           colour without light, as seen from the front
///   NAME.glb                  the surface as a mesh (glTF), with its texture
///   NAME.obj, NAME.mtl, NAME.texture.png   the same in three files (OBJ)
///   NAME.json                 light, viewpoint, camera, range of the depths,
///                             where the face is in the photograph
/// In 16 bits, 0 is no surface, and V from 1 to 65535 is the depth
/// min + (V - 1) / 65534 * (max - min), with min and max from NAME.json, in
/// distances from the camera to the object. The crop of a head that leans by more
/// than 15 degrees is turned upright (turned-degrees). With --faces all, further
/// faces are NAME.face-2, NAME.face-3 and so on.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Images, folders of images, tar files of images
    #[arg(required = true, value_name = "IMAGES")]
    images: Vec<PathBuf>,
    /// Folder to write to
    #[arg(short, long, value_name = "FOLDER")]
    out: PathBuf,
    /// Weights file, folder of a training run, or weights in the program: faces,
    /// faces-synthetic, cats [default: faces]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Which faces of a photograph [default: largest]
    #[arg(long, value_enum)]
    faces: Option<FaceSelection>,
    /// StepStatus for no faces: the images are cropped already, or show something else
    #[arg(long, conflicts_with = "faces")]
    framed: bool,
    /// Images that go through the networks together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    #[command(flatten)]
    making: OutputOptions,
    /// Also draw sheet.png, a row for each image, the first 100
    #[arg(long)]
    sheet: bool,
    #[command(flatten, next_help_heading = "Computing")]
    compute: ComputeSettings,
}

/// The sheet's file.
const SHEET: &str = "sheet.png";

/// Rows of a sheet at most: a taller image is none to look at.
const MOST_ROWS: usize = 100;

/// An image to be reconstructed.
struct Task<'a> {
    images: &'a Images,
    index: u64,
    name: String,
    /// Where its results go, without the endings: relative to the folder, with `/`.
    stem: String,
}

/// What is cut out of a photograph, or is a whole image, with the stem of its results.
pub type FaceCrop = (String, Image, Option<FaceLocation>);

/// Cuts the faces that count out of a photograph, at `size` pixels; further ones than the first get stems of their own.
pub fn cut(
    detector: &Detector,
    photograph: &Image,
    which: FaceSelection,
    size: u32,
    stem: &str,
    taken: &mut HashSet<String>,
) -> anyhow::Result<Vec<FaceCrop>> {
    let places = detector.places(photograph, which, Face::level_frame)?;
    let refusal = places.first().map_or(Some("no face found".to_owned()), FaceLocation::refusal);
    let good = places.into_iter().filter(|place| place.refusal().is_none());
    let cuts: Vec<FaceCrop> = good
        .enumerate()
        .map(|(number, place)| {
            let stem = match number {
                0 => stem.to_owned(),
                _ => unused(&format!("{stem}.face-{}", number + 1), taken),
            };
            (stem, place.crop.cut(photograph, size), Some(place))
        })
        .collect();
    match refusal {
        Some(reason) if cuts.is_empty() => bail!(
            "{reason}. If the image shows nothing but the object, or the model is not one of human faces, \
             add --framed"
        ),
        _ => Ok(cuts),
    }
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let loaded = weights::placed(options.model.as_deref(), &options.compute)?;
    let framed = framed(options, &loaded, console)?;
    let model = loaded.model;
    if model.settings().supervision == Supervision::Depth {
        console.warning(format_args!(
            "{} has learned nothing but depth: albedo, light and viewpoint are not what it sees",
            loaded.origin
        ));
    }
    let which = options.faces.unwrap_or(FaceSelection::Largest);
    let out = &options.out;
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let mut failed = 0;
    let mut inputs = Vec::new();
    for path in &options.images {
        match Images::open(&[path]) {
            Ok(images) => inputs.push((path, images)),
            Err(error) => {
                failed += 1;
                console.warning(format_args!("skipped: {error}"));
            }
        }
    }
    let (tasks, mut taken) = tasks(&inputs, out)?;
    spare_inputs(&tasks, out)?;
    let detector = (!framed).then(Detector::new).transpose()?;
    let size = LEAST_TEXTURE.max(model.settings().image_size) as u32;
    let batch = usize::from(options.batch_size).min(tasks.len().max(1));
    let mut predictor =
        Predictor::new(&model, batch).map_err(|error| advised(error.into(), &model, batch))?;
    let stop = train::stop_on_ctrl_c(*console, "finishing the images at hand")?;
    let (mut written, mut rows, mut stopped) = (0, Vec::new(), false);
    let mut progress = console.progress(tasks.len() as u64, "images");
    progress.set(0, "");
    for (number, chunk) in tasks.chunks(options.batch_size.into()).enumerate() {
        stopped = stop.load(Ordering::Relaxed);
        if stopped {
            break;
        }
        let mut cuts: Vec<(&Task<'_>, FaceCrop)> = Vec::new();
        // As many photographs in memory as there are threads to decode them; what is cut out of them is small.
        for some in chunk.chunks(rayon::current_num_threads()) {
            let decoded: Vec<_> = some.par_iter().map(|task| task.images.image(task.index)).collect();
            for (task, image) in some.iter().zip(decoded) {
                let cut = image.map_err(anyhow::Error::from).and_then(|image| match &detector {
                    None => {
                        let side = image.width.min(image.height);
                        let image = if side > size { image.square(size) } else { image };
                        Ok(vec![(task.stem.clone(), image, None)])
                    }
                    Some(detector) => cut(detector, &image, which, size, &task.stem, &mut taken)
                        .with_context(|| task.images.location(task.index)),
                });
                match cut {
                    Ok(cut) => cuts.extend(cut.into_iter().map(|cut| (task, cut))),
                    Err(error) => {
                        failed += 1;
                        progress.warning(format_args!("skipped: {error:#}"));
                    }
                }
            }
        }
        for cuts in cuts.chunks(batch) {
            let subjects: Vec<_> = cuts
                .iter()
                .map(|(task, (stem, image, place))| Input { name: &task.name, stem, image, place: *place })
                .collect();
            let wanted = if options.sheet { MOST_ROWS - rows.len() } else { 0 };
            match reconstruct(&mut predictor, &subjects, &options.making, wanted, out) {
                Ok(more) => rows.extend(more),
                Err(error) => {
                    drop(predictor);
                    return Err(match error {
                        ResultsError::Model(error) => advised(error.into(), &model, batch),
                        other => other.into(),
                    });
                }
            }
        }
        written += cuts.len() as u64;
        progress.set((number * usize::from(options.batch_size) + chunk.len()) as u64, "");
    }
    drop(progress);
    if !rows.is_empty() {
        sheet(&rows).draw().write_png(out.join(SHEET))?;
    }
    let done = format!("{} reconstructed in {}", counted(written, "image"), out.display());
    if stopped {
        console.result(format_args!("stopped: {done}"));
        return Err(Interrupted.into());
    }
    ensure!(failed == 0, "{failed} of the inputs could not be used (named above); {done}");
    console.note(done);
    Ok(())
}

/// Whether images are taken as they are: because they are to be, or because the model is of something that nobody
/// here can find in them.
fn framed(options: &Options, loaded: &Loaded, console: &Console) -> anyhow::Result<bool> {
    let Some(object) = loaded.other_object().filter(|_| !options.framed) else { return Ok(options.framed) };
    let origin = &loaded.origin;
    ensure!(
        options.faces.is_none(),
        "{origin} is a model of {object}, and only human faces can be found in an image: leave out --faces, and \
         images are taken as they are; or name a model of faces with --model"
    );
    console.note(format_args!("{origin} is a model of {object}: the images are taken as they are"));
    Ok(true)
}

/// With the number of images for which the memory would do, if the error is that it does not for `batch`.
fn advised(error: anyhow::Error, model: &Model, batch: usize) -> anyhow::Error {
    if !error.downcast_ref().is_some_and(ModelError::is_out_of_memory) {
        return error;
    }
    match Predictor::batch_that_fits(model, batch) {
        Some(fits) => anyhow!("{error}. For {fits} images at a time it is enough: --batch-size {fits}"),
        None => anyhow!("{error}. It is not enough for a single image: take --device cpu"),
    }
}

/// The images of all inputs, each with a name of its own for its results. What lies in the output folder is left
/// out: it would be results of an earlier run. Also gives the names that are taken.
fn tasks<'a>(
    inputs: &'a [(&PathBuf, Images)],
    out: &Path,
) -> anyhow::Result<(Vec<Task<'a>>, HashSet<String>)> {
    let mut taken = HashSet::new();
    let mut tasks = Vec::new();
    for (path, images) in inputs {
        let results = inside(out, path)?;
        for index in 0..images.len() {
            let name = images.name(index);
            if results.as_ref().is_some_and(|results| name.starts_with(results)) {
                continue;
            }
            let stem = unused(&stem(&name), &mut taken);
            tasks.push(Task { images, index, name, stem });
        }
    }
    Ok((tasks, taken))
}

/// Refuses to write over what is to be read: images that lie in the output folder and have names of results.
fn spare_inputs(tasks: &[Task<'_>], out: &Path) -> anyhow::Result<()> {
    let folder = out.canonicalize().with_context(|| format!("cannot read {}", out.display()))?;
    for file in tasks.iter().filter_map(|task| task.images.file(task.index)) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let of_results = name == SHEET || ENDINGS.iter().any(|ending| name.ends_with(&format!(".{ending}")));
        let inside = || file.canonicalize().is_ok_and(|file| file.parent() == Some(&folder));
        ensure!(
            !of_results || !inside(),
            "{} is to be read, and results might be written over it; give another folder with -o",
            file.display()
        );
    }
    Ok(())
}

/// If the output folder lies inside a folder of images: how names of images in it begin.
pub fn inside(out: &Path, images: &Path) -> anyhow::Result<Option<String>> {
    if !images.is_dir() {
        return Ok(None);
    }
    let real = |path: &Path| path.canonicalize().with_context(|| format!("cannot read {}", path.display()));
    let (out, images) = (real(out)?, real(images)?);
    let Ok(below) = out.strip_prefix(&images) else { return Ok(None) };
    if below.as_os_str().is_empty() {
        bail!("{} is the folder of the images; give another folder with -o", out.display());
    }
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    Ok(Some(parts.join("/") + "/"))
}

/// An image's name without its ending, as a path that cannot leave the output folder (a name in a tar file may be
/// anything).
pub fn stem(name: &str) -> String {
    let path = Path::new(name).with_extension("");
    let parts: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => {
                // A hidden file would be found by nobody.
                let name = shortened(part.to_string_lossy().replace(['\\', '\n', '\r'], "-"));
                Some(if name.starts_with('.') { name.replacen('.', "_", 1) } else { name })
            }
            _ => None,
        })
        .collect();
    if parts.is_empty() { "image".to_owned() } else { parts.join("/") }
}

/// A name that leaves room for endings: file systems take 255 bytes.
fn shortened(mut name: String) -> String {
    const MOST: usize = 200;
    let end = (0..=MOST.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    name.truncate(end);
    name
}

/// The name, or with a number behind it if results of that name are taken; capitals make no difference, as on some
/// disks.
pub fn unused(stem: &str, taken: &mut HashSet<String>) -> String {
    let mut candidates =
        std::iter::once(stem.to_owned()).chain((2..).map(|number| format!("{stem}-{number}")));
    candidates.find(|name| taken.insert(name.to_lowercase())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_results_stay_in_the_folder_and_differ() {
        assert_eq!(stem("a/b.c.jpg"), "a/b.c");
        assert_eq!(stem("../../etc/passwd"), "etc/passwd");
        assert_eq!(stem("faces.tar//x.png"), "faces.tar/x");
        assert_eq!([stem(".hidden.jpg"), stem("...jpg"), stem("a/.b/c.png")], ["_hidden", "image", "a/_b/c"]);
        let long = "ä".repeat(120);
        assert_eq!(stem(&format!("a/{long}.png")), format!("a/{}", &long[..200]));
        let mut taken = HashSet::new();
        let names = ["a", "A", "a-2", "a"].map(|name| unused(name, &mut taken));
        assert_eq!(names, ["a", "A-2", "a-2-2", "a-3"]);
    }
}
