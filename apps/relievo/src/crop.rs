//! `relievo crop`: a training set from raw photographs.
//!
//! Inputs are numbered in the order of their names. The crops of a thousand inputs become a shard. Until all of those
//! are done, their crops and what is known of each input lie as files in a hidden folder, each written whole or not at
//! all, the record of an input after its crops. So whatever ends the program, the same command finds what is done, and
//! makes the shards that it would have made in one go.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use clap::Args;
use relievo::{ResultNames, ResultsFolder, result_stem};
use relievo_data::{CROPS as PLAN, Images, Source};
use relievo_detect::{Detector, Face, FaceLocation, FaceSelection};
use relievo_export::{Canvas, Chart, FolderLock, Sheet, remove_partial, write_atomic, write_durable};
use serde::{Deserialize, Serialize};

use crate::console::{Console, Progress, counted};
use crate::folder::ensure_empty;
use crate::{Interrupted, train};

/// Inputs whose crops share a shard.
const SHARD: u64 = 1000;

/// What became of each input.
const REPORT: &str = "report.json";

/// Where crops lie until their shard is written.
const UNFINISHED: &str = ".unfinished";

/// Crops on the contact sheet.
const SHEET_CROPS: u64 = 96;
const SHEET_COLUMNS: usize = 12;

/// Bars of a histogram.
const BARS: usize = 30;

/// Make a training set of faces from raw photographs
///
/// Finds faces and crops each from chin to forehead, upright photographs only:
/// the EXIF orientation is heeded, heads are not turned. `relievo train FOLDER`
/// learns from the result. Ctrl-C leaves; the same command goes on.
///
/// The folder gets
///   faces-00000.tar ..  the crops as PNG files, those of 1000 inputs in each
///   report.json         what was found in each input, what was dropped and why
///   sheet.png           crops from all over the set
///   histograms.png      sizes of faces, and how far heads are turned
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Folders of photographs, tar files of photographs, photographs
    #[arg(required = true, value_name = "INPUTS")]
    inputs: Vec<PathBuf>,
    /// Folder to write to
    #[arg(short, long, value_name = "FOLDER")]
    out: PathBuf,
    /// Height and width of the crops: a quarter more than the 64 that models take by default
    #[arg(long, value_name = "PIXELS", default_value_t = 80, value_parser = clap::value_parser!(u32).range(16..=1024))]
    size: u32,
    /// Which faces of a photograph
    #[arg(long, value_enum, default_value_t = FaceSelection::Largest)]
    faces: FaceSelection,
    /// Least height and width of a crop in the photograph: smaller faces are dropped
    #[arg(long, value_name = "PIXELS", default_value_t = 40)]
    min_side: u32,
}

/// What must be the same for the work to go on.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Plan {
    version: u32,
    size: u32,
    faces: FaceSelection,
    min_side: u32,
    inputs: u64,
    /// CRC-32 of the inputs' names.
    names: u32,
}

/// What became of an input.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    input: String,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    faces: Vec<Outcome>,
}

/// What became of a face.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Outcome {
    /// The file in the shard; none if it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<Reason>,
    /// In degrees, positive where the face looks to the left of the image; from the landmarks, so about.
    yaw: f32,
    #[serde(flatten)]
    place: FaceLocation,
}

/// Why a face was dropped.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reason {
    OutsideThePhotograph,
    TooSmall,
}

/// The whole report.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report<'a> {
    plan: &'a Plan,
    summary: Summary,
    inputs: &'a [Record],
}

/// What is read of a report.
#[derive(Deserialize)]
struct Reported {
    inputs: Vec<Record>,
}

/// The report in numbers.
#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Summary {
    inputs: u64,
    unreadable: u64,
    without_face: u64,
    crops: u64,
    dropped_outside: u64,
    dropped_too_small: u64,
}

/// The work: what there is to do and where it goes.
struct Work<'a> {
    options: &'a Options,
    images: Images,
    /// Numbers of the images that are inputs: what lies in the output folder is none.
    inputs: Vec<u64>,
    /// Names of the crops, without endings, by input.
    stems: Vec<String>,
    detector: Detector,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let out = &options.out;
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let _lock = FolderLock::acquire(out)?;
    let work = Work::new(options)?;
    let plan = work.plan();
    let begun = begin(out, &plan)?;
    if begun && out.join(REPORT).exists() {
        console.note(format_args!("{} is finished already; see {REPORT} there", out.display()));
        let Reported { inputs } = read_json(&out.join(REPORT))?;
        return work.conclude(&inputs, console);
    }
    remove_partial(out)?;
    let stop = train::stop_on_ctrl_c(*console, "finishing the photographs at hand")?;
    let total = work.inputs.len() as u64;
    if begun {
        console.note(format_args!("going on with what was begun in {}", out.display()));
    }
    let mut progress = console.progress(total, "photographs");
    for shard in 0..total.div_ceil(SHARD) {
        if out.join(report_name(shard)).exists() {
            continue;
        }
        let inputs = shard * SHARD..total.min((shard + 1) * SHARD);
        work.crop(inputs.clone(), &stop, &mut progress)?;
        if stop.load(Ordering::Relaxed) {
            drop(progress);
            let done = (0..total).filter(|input| work.is_done(*input)).count();
            console.result(format_args!(
                "stopped after {done} of {total} photographs; the same command goes on"
            ));
            return Err(Interrupted.into());
        }
        work.write_shard(shard, inputs)?;
    }
    drop(progress);
    let records = work.records(total)?;
    let summary = Summary::from_records(&records);
    let crops = summary.crops;
    histograms(&records).write_png(out.join("histograms.png"))?;
    if crops > 0 {
        work.sheet(crops)?.write_png(out.join("sheet.png"))?;
    }
    let text = serde_json::to_string_pretty(&Report { plan: &plan, summary, inputs: &records })?;
    // Last: where it stands, all else is there.
    write_atomic(out.join(REPORT), |file| writeln!(file, "{text}"))?;
    // Nothing of it is needed any more; if it cannot be removed, it does no harm.
    let _ = fs::remove_dir_all(out.join(UNFINISHED));
    work.conclude(&records, console)
}

/// Marks the folder, or sees that what was begun there is the same work; whether there was any.
fn begin(out: &Path, plan: &Plan) -> anyhow::Result<bool> {
    let path = out.join(PLAN);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let there: Plan = serde_json::from_str(&text)
                .with_context(|| format!("{} is damaged; give another folder with -o", path.display()))?;
            if there != *plan {
                bail!(
                    "{} holds crops of other inputs or made otherwise ({PLAN}); give another folder with -o, or the \
                     same inputs and options as then",
                    out.display()
                );
            }
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ensure_empty(out)?;
            let text = serde_json::to_string_pretty(plan)?;
            write_durable(path, |file| writeln!(file, "{text}"))?;
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn shard_name(shard: u64) -> String {
    format!("faces-{shard:05}.tar")
}

/// The stems, with numbers behind those that are taken, or that may be names of another one's further faces.
fn distinct(stems: Vec<String>) -> Vec<String> {
    let all: HashSet<String> = stems.iter().map(|stem| stem.to_lowercase()).collect();
    let is_further_face = |stem: &str| {
        let parts = stem.rsplit_once(".face-");
        parts.is_some_and(|(other, number)| {
            all.contains(&other.to_lowercase()) && number.parse::<u64>().is_ok()
        })
    };
    let mut names = ResultNames::new();
    let name = |stem: String| {
        let stem = if is_further_face(&stem) { format!("{stem}.image") } else { stem };
        names.unused(&stem)
    };
    stems.into_iter().map(name).collect()
}

/// Where the records of a finished shard's inputs lie.
fn report_name(shard: u64) -> PathBuf {
    Path::new(UNFINISHED).join(format!("{shard:05}.json"))
}

impl<'a> Work<'a> {
    fn new(options: &'a Options) -> anyhow::Result<Self> {
        let images = Images::open(&options.inputs)?;
        let mut results = Vec::new();
        for path in &options.inputs {
            let Some(inside) = ResultsFolder::new(&options.out).inside(path)? else { continue };
            // Of several folders each has its own name in front.
            let own = path.file_name().filter(|_| options.inputs.len() > 1);
            results.push(own.map_or(String::new(), |own| own.to_string_lossy().into_owned() + "/") + &inside);
        }
        let is_result = |name: &str| results.iter().any(|results| name.starts_with(results));
        let inputs: Vec<u64> = (0..images.len()).filter(|index| !is_result(&images.name(*index))).collect();
        let stems = distinct(inputs.iter().map(|index| result_stem(&images.name(*index))).collect());
        ensure!(!inputs.is_empty(), "no photographs but what lies in {}", options.out.display());
        Ok(Self { options, images, inputs, stems, detector: Detector::new()? })
    }

    fn plan(&self) -> Plan {
        let &Options { size, faces, min_side, .. } = self.options;
        let mut names = crc32fast::Hasher::new();
        for &index in &self.inputs {
            names.update(self.images.name(index).as_bytes());
            names.update(b"\n");
        }
        Plan { version: 1, size, faces, min_side, inputs: self.inputs.len() as u64, names: names.finalize() }
    }

    /// The folder of an input's shard until that is written.
    fn folder(&self, input: u64) -> PathBuf {
        self.options.out.join(UNFINISHED).join(format!("{:05}", input / SHARD))
    }

    fn record_path(&self, input: u64) -> PathBuf {
        self.folder(input).join(format!("{input:08}.json"))
    }

    fn crop_path(&self, input: u64, face: usize) -> PathBuf {
        self.folder(input).join(format!("{input:08}.{face}.png"))
    }

    fn is_done(&self, input: u64) -> bool {
        self.options.out.join(report_name(input / SHARD)).exists() || self.record_path(input).exists()
    }

    /// Does what is not done yet of some inputs, a photograph on each thread at a time.
    fn crop(
        &self,
        inputs: std::ops::Range<u64>,
        stop: &AtomicBool,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let todo: Vec<u64> = inputs.clone().filter(|input| !self.is_done(*input)).collect();
        let before = inputs.end - todo.len() as u64;
        progress.set(before, "");
        let (next, done) = (AtomicU64::new(0), AtomicU64::new(before));
        let (progress, failure) = (Mutex::new(progress), Mutex::new(None));
        let lock = |error: PoisonError<_>| error.into_inner();
        // Threads of their own, because one that waits for the network would begin another photograph meanwhile, and
        // another, until memory is full. The arithmetic is shared by the pool all the same.
        std::thread::scope(|scope| {
            for _ in 0..rayon::current_num_threads().min(todo.len()) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed)
                        && failure.lock().unwrap_or_else(PoisonError::into_inner).is_none()
                    {
                        let Some(&input) = todo.get(next.fetch_add(1, Ordering::Relaxed) as usize) else {
                            break;
                        };
                        match self.crop_one(input) {
                            Ok(record) => {
                                let mut progress = progress.lock().unwrap_or_else(lock);
                                if let Some(error) = record.error {
                                    progress.warning(format_args!("skipped: {error}"));
                                }
                                progress.set(done.fetch_add(1, Ordering::Relaxed) + 1, "");
                            }
                            Err(error) => {
                                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            }
                        }
                    }
                });
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Crops the faces of an input and notes what became of it.
    fn crop_one(&self, input: u64) -> anyhow::Result<Record> {
        let index = self.inputs[input as usize];
        let mut record = Record { input: self.images.name(index), error: None, faces: Vec::new() };
        match self.images.image(index) {
            Err(error) => record.error = Some(error.to_string()),
            Ok(photograph) => {
                for place in self.detector.places(&photograph, self.options.faces, Face::frame)? {
                    let dropped = if place.crop.side < self.options.min_side as f32 {
                        Some(Reason::TooSmall)
                    } else if place.refusal().is_some() {
                        Some(Reason::OutsideThePhotograph)
                    } else {
                        None
                    };
                    let number = record.faces.iter().filter(|face| face.file.is_some()).count();
                    let file = dropped.is_none().then(|| match number {
                        0 => format!("{}.png", self.stems[input as usize]),
                        _ => format!("{}.face-{}.png", self.stems[input as usize], number + 1),
                    });
                    if file.is_some() {
                        let crop = place.crop.cut(&photograph, self.options.size);
                        let canvas = Canvas::from_rgb8(&crop.pixels, crop.width as usize);
                        write_durable(self.crop_path(input, number), |file| file.write_all(&canvas.png()?))?;
                    }
                    let yaw = place.face.landmarks.yaw();
                    record.faces.push(Outcome { file, dropped, yaw, place });
                }
            }
        }
        let text = serde_json::to_string(&record)?;
        write_durable(self.record_path(input), |file| writeln!(file, "{text}"))?;
        Ok(record)
    }

    fn read_record(&self, input: u64) -> anyhow::Result<Record> {
        read_json(&self.record_path(input))
    }

    /// Packs the crops of a shard's inputs, notes that it is finished, and clears up behind it.
    fn write_shard(&self, shard: u64, inputs: std::ops::Range<u64>) -> anyhow::Result<()> {
        let records: Vec<Record> =
            inputs.clone().map(|input| self.read_record(input)).collect::<anyhow::Result<_>>()?;
        let mut members = Vec::new();
        for (input, record) in inputs.zip(&records) {
            let files = record.faces.iter().filter_map(|face| face.file.as_ref());
            members.extend(files.enumerate().map(|(number, file)| (file, self.crop_path(input, number))));
        }
        if !members.is_empty() {
            write_durable(self.options.out.join(shard_name(shard)), |file| {
                let mut archive = tar::Builder::new(file);
                for (name, crop) in &members {
                    let bytes = fs::read(crop).map_err(|error| {
                        io::Error::new(error.kind(), format!("{}: {error}", crop.display()))
                    })?;
                    let mut header = tar::Header::new_gnu();
                    header.set_size(bytes.len() as u64);
                    header.set_mode(0o644);
                    // No time and no owner: the same crops make the same file.
                    archive.append_data(&mut header, name, bytes.as_slice())?;
                }
                archive.finish()
            })?;
        }
        let text = serde_json::to_string(&records)?;
        write_durable(self.options.out.join(report_name(shard)), |file| writeln!(file, "{text}"))?;
        let _ = fs::remove_dir_all(self.folder(shard * SHARD));
        Ok(())
    }

    /// The records of all inputs, once all shards are written.
    fn records(&self, total: u64) -> anyhow::Result<Vec<Record>> {
        let mut all = Vec::new();
        for shard in 0..total.div_ceil(SHARD) {
            all.extend(read_json::<Vec<Record>>(&self.options.out.join(report_name(shard)))?);
        }
        Ok(all)
    }

    /// Says what came of the inputs.
    fn conclude(&self, records: &[Record], console: &Console) -> anyhow::Result<()> {
        let (summary, out) = (Summary::from_records(records), self.options.out.display());
        console.result(summary.words(records));
        ensure!(
            summary.unreadable == 0,
            "{} of the inputs could not be read (named in {out}/{REPORT}), {} in {out}; once they can, crop them into a folder \
             of their own: `relievo train` takes several",
            summary.unreadable,
            counted(summary.crops, "crop"),
        );
        ensure!(
            summary.crops > 0,
            "no crops of {}: see above, and {out}/{REPORT}",
            counted(summary.inputs, "photograph")
        );
        console.note(format_args!("{} in {out}: relievo train {out}", counted(summary.crops, "crop")));
        Ok(())
    }

    /// Crops from all over the set.
    fn sheet(&self, crops: u64) -> anyhow::Result<Canvas> {
        let total = self.inputs.len() as u64;
        let shards = (0..total.div_ceil(SHARD)).map(|shard| self.options.out.join(shard_name(shard)));
        let shards: Vec<PathBuf> = shards.filter(|path| path.exists()).collect();
        let set = Images::open(&shards)?;
        let shown = crops.min(SHEET_CROPS);
        let tile = self.options.size.clamp(64, 128) as usize;
        let mut sheet = Sheet::new(tile).title(format!(
            "{} from {}",
            counted(crops, "face"),
            counted(total, "photograph")
        ));
        let tiles: Vec<Canvas> = (0..shown)
            .map(|number| {
                let crop = set.image(number * set.len() / shown)?;
                Ok(Canvas::from_rgb8(&crop.pixels, crop.width as usize))
            })
            .collect::<anyhow::Result<_>>()?;
        for row in tiles.chunks(SHEET_COLUMNS) {
            sheet.row("", row.iter().cloned());
        }
        Ok(sheet.draw())
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; remove it and start again", path.display()))
}

impl Summary {
    fn from_records(records: &[Record]) -> Self {
        let mut summary = Self { inputs: records.len() as u64, ..Self::default() };
        for record in records {
            summary.unreadable += u64::from(record.error.is_some());
            summary.without_face += u64::from(record.error.is_none() && record.faces.is_empty());
            for face in &record.faces {
                match face.dropped {
                    None => summary.crops += 1,
                    Some(Reason::OutsideThePhotograph) => summary.dropped_outside += 1,
                    Some(Reason::TooSmall) => summary.dropped_too_small += 1,
                }
            }
        }
        summary
    }

    /// For a person: the numbers, and the middle of the crops' sizes and yaws.
    fn words(&self, records: &[Record]) -> String {
        let row = |name: &str, number: u64| format!("{name:<34}{number:>8}\n");
        let mut text = row("photographs", self.inputs);
        text += &row("crops", self.crops);
        text += &row("without a face", self.without_face);
        text += &row("dropped: too far outside", self.dropped_outside);
        text += &row("dropped: too small", self.dropped_too_small);
        text += &row("unreadable", self.unreadable);
        let mut sides = values(records, |face| face.place.crop.side);
        let mut turned = values(records, |face| face.yaw.abs());
        for values in [&mut sides, &mut turned] {
            values.sort_by(f32::total_cmp);
        }
        if let (Some(side), Some(turned)) = (sides.get(sides.len() / 2), turned.get(turned.len() / 2)) {
            text += &format!(
                "{:<34}{side:>8.0}\n{:<34}{turned:>8.0}\n",
                "median side, pixels", "median yaw to either side, degrees"
            );
        }
        text.trim_end().to_owned()
    }
}

/// A number of every face that was not dropped.
fn values(records: &[Record], value: impl Fn(&Outcome) -> f32) -> Vec<f32> {
    let faces = records.iter().flat_map(|record| &record.faces);
    faces.filter(|face| face.file.is_some()).map(value).collect()
}

/// How large the crops were in the photographs, and how far heads are turned, one below the other.
fn histograms(records: &[Record]) -> Canvas {
    let sides = values(records, |face| face.place.crop.side);
    let widest = sides.iter().copied().fold(1.0, f32::max);
    let title = format!("side of {} in the photographs", counted(sides.len() as u64, "crop"));
    let sizes = Chart::new(&title, "pixels", "crops").curve("", outline(&sides, [0.0, widest]));
    let turned = values(records, |face| face.yaw.clamp(-90.0, 90.0));
    let yaws = Chart::new("yaw, from the landmarks", "degrees; positive: to the left of the image", "crops")
        .curve("", outline(&turned, [-90.0, 90.0]));
    let (width, height) = (900, 420);
    let mut canvas = Canvas::new(width, 2 * height, [255; 3]);
    canvas.paste(&sizes.draw(width, height), 0, 0);
    canvas.paste(&yaws.draw(width, height), 0, height);
    canvas
}

/// The outline of a histogram's bars.
fn outline(values: &[f32], [low, high]: [f32; 2]) -> Vec<[f64; 2]> {
    let mut bars = [0.0; BARS];
    for value in values {
        let bar = ((value - low) / (high - low) * BARS as f32).max(0.0) as usize;
        bars[bar.min(BARS - 1)] += 1.0;
    }
    let place = |bar: usize| f64::from(low) + f64::from(high - low) * bar as f64 / BARS as f64;
    let tops = bars.iter().enumerate().flat_map(|(bar, &top)| [[place(bar), top], [place(bar + 1), top]]);
    [[place(0), 0.0]].into_iter().chain(tops).chain([[place(BARS), 0.0]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_count_what_falls_into_them() {
        let points = outline(&[0.0, 0.1, 29.9, 30.0, 15.0], [0.0, 30.0]);
        assert_eq!(points.len(), 2 * BARS + 2);
        assert_eq!((points[0], points[1], points[2]), ([0.0, 0.0], [0.0, 2.0], [1.0, 2.0]));
        assert_eq!((points[2 * BARS], points[2 * BARS + 1]), ([30.0, 2.0], [30.0, 0.0]));
        assert_eq!(points.iter().map(|point| point[1]).sum::<f64>(), 10.0);
    }
}
