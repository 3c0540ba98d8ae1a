//! What commands on photographs share: which images, which faces in them, by which weights, and the way through them all.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, bail, ensure};
use clap::Args;
use rayon::prelude::*;
use relievo::{
    ComputeSettings, Error, FaceSelection, Framing, Image, ImageInput, Reconstruction, Reconstructor,
    ResultNames, ResultsFolder, Route, SampleError, result_stem,
};
use relievo_data::{DecodeOptions, Decoded, Images, Note, Source};
use relievo_model::Supervision;

use crate::category::FileOptions;
use crate::console::{Console, counted};
use crate::hint;
use crate::{Interrupted, train, weights};

/// Images, and how the faces in them are found and reconstructed.
#[derive(Args)]
pub struct FaceOptions {
    /// Images, folders and archives of images, or - for standard input
    #[arg(required = true, value_name = "IMAGES")]
    pub images: Vec<PathBuf>,
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
    /// Fit depth, albedo, light and viewpoint to each image in so many steps, 0 for the networks'
    /// own answer [default: 20; 50 for four and more images together; 0 for a model of depth
    /// alone]
    #[arg(long, value_name = "STEPS")]
    refine: Option<u16>,
}

/// How much is computed at a time, and on what.
#[derive(Args)]
pub struct ComputingOptions {
    /// Images that go through the networks together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Computing")]
    batch_size: u16,
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

/// An image to be reconstructed.
pub struct Task<'a> {
    pub images: &'a Images,
    pub index: u64,
    /// See [`ComputingOptions::max_memory`].
    pub max_memory: u64,
    pub name: String,
    /// Where its results go, without the endings: relative to the folder, with `/`.
    pub stem: String,
    /// What happened when it was decoded.
    pub notes: OnceLock<Vec<Note>>,
}

impl Task<'_> {
    /// Decodes the image, also one whose file breaks off.
    pub fn load(&self) -> Result<Image, SampleError> {
        let options = DecodeOptions::lenient().within(self.max_memory);
        let Decoded { image, notes, .. } = self.images.decode(self.index, &options)?;
        let _ = self.notes.set(notes);
        Ok(image)
    }

    pub fn location(&self) -> String {
        self.images.location(self.index)
    }
}

/// Images that are to be reconstructed, and by what.
pub struct Job<'a> {
    pub folder: &'a ResultsFolder,
    pub tasks: Vec<Task<'a>>,
    pub reconstructor: Reconstructor,
    /// Inputs that could not be opened; they are named already.
    pub skipped: usize,
    names: ResultNames,
}

/// A face, where its results go, and what it is called.
pub struct Face {
    /// Which of all that were found.
    pub number: usize,
    /// Relative to the folder, without the endings.
    pub stem: String,
    /// The image's name.
    pub name: String,
    pub reconstruction: Reconstruction,
}

/// What came of the images.
pub struct Summary {
    faces: u64,
    failed: usize,
    stopped: bool,
}

impl FaceOptions {
    /// Calls `run` with what is to be done; the folder of results does not stay where nothing could be written. `endings`
    /// are those of the results, behind the stem and a dot, and `files` other files that are written: what is to be read
    /// is not written over.
    pub fn with_job(
        &self,
        computing: &ComputingOptions,
        endings: &[impl AsRef<str>],
        files: &[&str],
        console: &Console,
        run: impl FnOnce(Job<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let folder = match &self.out {
            Some(out) => ResultsFolder::new(out),
            None => ResultsFolder::for_inputs(&self.images),
        };
        let prepared = || {
            let (inputs, skipped) = open(&self.images, console);
            let mut names = ResultNames::new();
            let tasks = tasks(&inputs, &folder, &mut names, computing.max_memory)?;
            let endings: Vec<&str> = endings.iter().map(AsRef::as_ref).collect();
            folder.spare(tasks.iter().filter_map(|task| task.images.file(task.index)), &endings, files)?;
            let reconstructor = self.reconstructor(tasks.len(), computing, console)?;
            run(Job { folder: &folder, tasks, reconstructor, skipped, names })
        };
        let done = prepared();
        if done.is_err() {
            folder.remove_if_empty();
        }
        done
    }

    fn reconstructor(
        &self,
        images: usize,
        computing: &ComputingOptions,
        console: &Console,
    ) -> anyhow::Result<Reconstructor> {
        let framing = match (self.framed, self.faces) {
            (true, _) => Framing::Whole,
            (false, Some(_)) if self.model.is_some() => Framing::Faces,
            _ => Framing::Automatic,
        };
        let weights = weights::choose(self.model.as_deref())?;
        let mut builder = match self.model {
            Some(_) => Reconstructor::builder().weights(weights),
            // What is seen in each image decides.
            None => Reconstructor::builder().categories(self.categories.own(console)?),
        };
        builder = builder
            .compute(computing.compute)
            .framing(framing)
            .faces(self.faces.unwrap_or(FaceSelection::Largest))
            .batch_size(usize::from(computing.batch_size).min(images));
        if let Some(steps) = self.refine {
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
}

impl Job<'_> {
    /// Reconstructs all images and calls `write` for each face, for those of a group on all cores and with what it gives
    /// `take`, in order. Images that cannot be used are named and counted.
    pub fn each_face<T: Send>(
        &self,
        console: &Console,
        write: impl Fn(&Face) -> relievo::Result<T> + Sync,
        take: impl FnMut(T),
    ) -> anyhow::Result<Summary> {
        self.each_image(console, |_, _, _| (), write, take)
    }

    /// As [`Job::each_face`]; calls `found` for each image with its stem and the number of faces in it first, and with the
    /// names that are given out.
    pub fn each_image<T: Send>(
        &self,
        console: &Console,
        found: impl Fn(&str, usize, &ResultNames),
        write: impl Fn(&Face) -> relievo::Result<T> + Sync,
        mut take: impl FnMut(T),
    ) -> anyhow::Result<Summary> {
        let stop = train::stop_on_ctrl_c(*console, "finishing the images at hand")?;
        let images = self.tasks.iter().map(|task| ImageInput::from_loader(move || task.load()));
        let mut batch = self.reconstructor.reconstruct_batch(images).cancelled_by(&stop);
        let mut progress = console.progress(self.tasks.len() as u64, "images");
        let mut names = self.names.clone();
        let mut summary = Summary { faces: 0, failed: self.skipped, stopped: false };
        let mut done = 0;
        while let Some(group) = batch.next_group() {
            let mut jobs = Vec::new();
            let tasks = &self.tasks[done..];
            done += group.len();
            for (faces, task) in group.into_iter().zip(tasks) {
                let faces = match faces {
                    Ok(faces) => faces,
                    Err(error) => {
                        progress.warning(format_args!("skipped: {}", skipped(error, task)?));
                        summary.failed += 1;
                        continue;
                    }
                };
                for note in task.notes.get().into_iter().flatten().filter(|note| note.is_warning()) {
                    progress.warning(format_args!("{}: {note}", task.location()));
                }
                found(&task.stem, faces.len(), &names);
                for (number, reconstruction) in faces.into_iter().enumerate() {
                    if let Some(route) = reconstruction.route() {
                        let Route { category, certainty, weights, .. } = route;
                        progress.note(format_args!(
                            "{}: {category}, {certainty:.2}; reconstructed by {weights}",
                            task.location()
                        ));
                    }
                    for doubt in &reconstruction.quality().doubts {
                        let which = if number > 0 { format!(", face {}", number + 1) } else { String::new() };
                        progress.warning(format_args!("{}{which}: {doubt}", task.location()));
                    }
                    let stem = names.of_face(&task.stem, number);
                    let number = summary.faces as usize + jobs.len();
                    jobs.push(Face { number, stem, name: task.name.clone(), reconstruction });
                }
            }
            let written: Vec<T> = jobs.par_iter().map(&write).collect::<relievo::Result<_>>()?;
            if summary.faces == 0 && !written.is_empty() {
                self.folder.mark()?;
            }
            summary.faces += written.len() as u64;
            written.into_iter().for_each(&mut take);
            progress.set(done as u64, "");
        }
        summary.stopped = done < self.tasks.len();
        Ok(summary)
    }
}

impl Summary {
    /// Says what was done, last of all which file to open.
    pub fn conclude(
        self,
        folder: &ResultsFolder,
        first: Option<PathBuf>,
        console: &Console,
    ) -> anyhow::Result<()> {
        let Self { faces, failed, stopped } = self;
        let done = match faces {
            0 => "nothing was written".to_owned(),
            _ => format!("{} reconstructed in {}", counted(faces, "image"), folder.path().display()),
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
    ensure!(!tasks.is_empty(), "nothing to reconstruct: none of the inputs holds an image that can be used");
    Ok(tasks)
}

/// Why an image was left out; an error if no image can be done.
pub fn skipped(error: Error, task: &Task<'_>) -> anyhow::Result<String> {
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
