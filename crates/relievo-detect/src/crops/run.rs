//! The work: which inputs are to be done, and doing them on all cores.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use relievo_data::naming::{InsideError, inside, stem};
use relievo_data::{CROPS as PLAN, Images, LeftOut, OpenError, SampleError, Source};
use relievo_export::Canvas;
use relievo_files::{
    FolderLock, FolderLocked, NotEmptyError, Unreadable, WriteError, ensure_empty, remove_partial,
    write_atomic, write_durable,
};

use super::names::{crop_name, distinct};
use super::record::{Outcome, Plan, Reason, Record, Summary};
use super::report::{REPORT, Report, histograms, read_json, sheet};
use super::shards::Store;
use crate::{DetectError, Detector, Face, FaceLocation, FaceSelection};

/// How faces are cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropSettings {
    /// Height and width of the crops, in pixels.
    pub size: u32,
    /// Which faces of a photograph.
    pub faces: FaceSelection,
    /// Least height and width of a crop in the photograph, in pixels: smaller faces are dropped.
    pub min_side: u32,
}

/// Why a set cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CropError {
    /// The inputs.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The output folder and the inputs lie in each other's way.
    #[error(transparent)]
    Inside(#[from] InsideError),
    /// The output folder cannot be made.
    #[error("cannot make the folder {}: {source}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another program writes there.
    #[error(transparent)]
    Locked(#[from] FolderLocked),
    /// There is something else in the output folder.
    #[error(transparent)]
    NotEmpty(#[from] NotEmptyError),
    /// The folder holds crops of other inputs, or made with other settings.
    #[error("{} holds crops of other inputs or made otherwise ({PLAN})", .0.display())]
    OtherWork(PathBuf),
    /// A file of an earlier call is damaged.
    #[error("{} is damaged ({reason})", .path.display())]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of this call or an earlier one is gone.
    #[error("{} is gone; the same call makes it again", .path.display())]
    LostRecord {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A crop cannot be read back.
    #[error(transparent)]
    Crop(#[from] SampleError),
    /// The detector.
    #[error(transparent)]
    Detect(#[from] DetectError),
}

/// How a call finds the output folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Empty.
    New,
    /// With a part of the work done.
    Continued,
    /// With all of the work done; there may be inputs to try again.
    Finished,
}

/// What happens while inputs are done.
#[derive(Debug)]
#[non_exhaustive]
pub enum CropEvent<'a> {
    /// So many of the inputs are done.
    Done(u64),
    /// An input could not be read: its name and why.
    Skipped(&'a str),
    /// A shard that an earlier call wrote is gone or damaged, so its inputs are done again.
    ShardLost(&'a Path),
}

/// Makes a training set of faces from raw photographs. One at a time for an output folder.
///
/// ```no_run
/// use relievo_detect::FaceSelection;
/// use relievo_detect::crops::{CropRun, CropSettings};
///
/// let settings = CropSettings { size: 80, faces: FaceSelection::Largest, min_side: 40 };
/// let run = CropRun::new(&["photographs".into()], "faces".as_ref(), settings)?;
/// let records = run.run(&false.into(), &mut |_| ())?.expect("nobody stops it");
/// println!("{} photographs", records.len());
/// # Ok::<(), relievo_detect::crops::CropError>(())
/// ```
pub struct CropRun {
    out: PathBuf,
    settings: CropSettings,
    /// The inputs.
    images: Images,
    /// Names of the crops, without endings, by input.
    stems: Vec<String>,
    detector: Detector,
    plan: Plan,
    store: Store,
    start: Start,
    _lock: FolderLock,
}

impl CropRun {
    /// Lists the inputs and opens the output folder, which is made if it does not exist.
    ///
    /// # Errors
    /// If there are no inputs, or the folder holds other things than the same work.
    pub fn new(inputs: &[PathBuf], out: &Path, settings: CropSettings) -> Result<Self, CropError> {
        for path in inputs {
            inside(out, path)?;
        }
        let images = Images::open_except(inputs, out)?;
        fs::create_dir_all(out).map_err(|source| CropError::Folder { path: out.to_owned(), source })?;
        let lock = FolderLock::acquire(out)?;
        let stems = distinct((0..images.len()).map(|index| stem(&images.name(index))).collect());
        let plan = plan(&images, settings);
        let begun = begin(out, &plan)?;
        remove_partial(out).map_err(Unreadable::at(out))?;
        let store = Store::open(out, images.len())?;
        let start = match (begun, store.is_finished()) {
            (false, _) => Start::New,
            (true, false) => Start::Continued,
            (true, true) => Start::Finished,
        };
        let (out, detector) = (out.to_owned(), Detector::new()?);
        Ok(Self { out, settings, images, stems, detector, plan, store, start, _lock: lock })
    }

    /// How the output folder was found.
    pub fn start(&self) -> Start {
        self.start
    }

    /// Number of inputs.
    pub fn inputs(&self) -> u64 {
        self.images.len()
    }

    /// What was found among the inputs and is none.
    pub fn left_out(&self) -> &[LeftOut] {
        self.images.left_out()
    }

    /// Number of inputs that are done.
    pub fn done(&self) -> u64 {
        self.store.known()
    }

    /// Does what there is to do until `stop` is set: inputs that are not done, inputs that could not be read, shards
    /// that are gone. Gives the records of all inputs; `None` if it was stopped.
    ///
    /// # Errors
    /// If a file cannot be written, or the detector fails.
    pub fn run(
        &self,
        stop: &AtomicBool,
        observer: &mut (dyn FnMut(CropEvent<'_>) + Send),
    ) -> Result<Option<Vec<Record>>, CropError> {
        let mut changed = self.start != Start::Finished;
        for shard in 0..self.store.shards() {
            let written = self.store.written(shard)?;
            let (earlier, inputs) = match written {
                Some((_, false)) => {
                    observer(CropEvent::ShardLost(&self.store.shard_path(shard)));
                    (None, self.store.inputs(shard).collect())
                }
                Some((records, true)) => {
                    let inputs = self.store.inputs(shard).zip(&records);
                    let again = inputs.filter(|(_, record)| record.error.is_some()).map(|(input, _)| input);
                    let again: Vec<u64> = again.collect();
                    (Some(records), again)
                }
                None => (None, self.store.inputs(shard).collect()),
            };
            let todo = self.not_done(inputs)?;
            if todo.is_empty() && earlier.is_some() {
                continue;
            }
            let is_new = self.crop(shard, &todo, earlier.is_some(), stop, observer)?;
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if earlier.is_none() || is_new {
                self.store.write_shard(shard, earlier)?;
                changed = true;
            }
        }
        let records = self.store.all_records()?;
        if changed {
            self.conclude(&records)?;
        }
        self.store.clear_up();
        Ok(Some(records))
    }

    /// Writes the report and its images.
    fn conclude(&self, records: &[Record]) -> Result<(), CropError> {
        let summary = Summary::from_records(records);
        histograms(records).write_png(self.out.join("histograms.png"))?;
        if summary.crops > 0 {
            let shards = (0..self.store.shards()).map(|shard| self.store.shard_path(shard));
            let shards: Vec<PathBuf> = shards.filter(|path| path.exists()).collect();
            sheet(&shards, self.settings.size, &summary)?.write_png(self.out.join("sheet.png"))?;
        }
        let left_out = self.images.left_out().iter().filter(|entry| entry.is_warning()).collect();
        let report = Report { plan: &self.plan, summary, left_out, inputs: records };
        let text = serde_json::to_string_pretty(&report).map_err(io::Error::other);
        // Last: where it stands, all else is there.
        Ok(write_atomic(self.out.join(REPORT), |file| writeln!(file, "{}", text?))?)
    }

    /// Inputs without a record, or with one that says that they could not be read.
    fn not_done(&self, inputs: Vec<u64>) -> Result<Vec<u64>, CropError> {
        let mut todo = Vec::new();
        for input in inputs {
            if self.store.record(input)?.is_none_or(|record| record.error.is_some()) {
                todo.push(input);
            }
        }
        Ok(todo)
    }

    /// Does some inputs of a shard, a photograph on each thread at a time. Inputs that are tried `again` leave a record
    /// only if they can be read now. Gives whether there is a record that was not there.
    fn crop(
        &self,
        shard: u64,
        todo: &[u64],
        again: bool,
        stop: &AtomicBool,
        observer: &mut (dyn FnMut(CropEvent<'_>) + Send),
    ) -> Result<bool, CropError> {
        let before = self.store.inputs(shard).end - todo.len() as u64;
        observer(CropEvent::Done(before));
        let (next, done, is_new) = (AtomicU64::new(0), AtomicU64::new(before), AtomicBool::new(false));
        let (observer, failure) = (Mutex::new(observer), Mutex::new(None));
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
                        match self.crop_one(input, again) {
                            Ok(record) => {
                                is_new.fetch_or(record.error.is_none(), Ordering::Relaxed);
                                let mut observe = observer.lock().unwrap_or_else(PoisonError::into_inner);
                                if let Some(error) = &record.error {
                                    observe(CropEvent::Skipped(error));
                                }
                                observe(CropEvent::Done(done.fetch_add(1, Ordering::Relaxed) + 1));
                            }
                            Err(error) => {
                                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            }
                        }
                    }
                });
            }
        });
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        failure.map_or(Ok(is_new.into_inner()), Err)
    }

    /// Crops the faces of an input and notes what became of it.
    fn crop_one(&self, input: u64, again: bool) -> Result<Record, CropError> {
        let mut record = Record { input: self.images.name(input), error: None, faces: Vec::new() };
        let found = match self.images.image(input) {
            Err(error) => Err(error.to_string()),
            Ok(photograph) => match self.faces(&photograph) {
                // Another time there may be more.
                Err(error @ DetectError::OutOfMemory(_)) => {
                    Err(format!("{}: {error}", self.images.location(input)))
                }
                faces => Ok((photograph, faces?)),
            },
        };
        match found {
            Err(error) => record.error = Some(error),
            Ok((photograph, faces)) => {
                for place in faces {
                    let dropped = self.dropped(&place);
                    let number = record.files().count();
                    let file = dropped.is_none().then(|| crop_name(&self.stems[input as usize], number));
                    if file.is_some() {
                        let crop = place.crop.cut(&photograph, self.settings.size);
                        let canvas = Canvas::from_rgb8(&crop.pixels, crop.width as usize);
                        write_durable(self.store.crop_path(input, number), |file| {
                            file.write_all(&canvas.png()?)
                        })?;
                    }
                    record.faces.push(Outcome { file, dropped, yaw: place.face.landmarks.yaw(), place });
                }
            }
        }
        if !again || record.error.is_none() {
            self.store.write_record(input, &record)?;
        }
        Ok(record)
    }

    /// The faces that count: all, or those down to the largest one that lies within the photograph.
    fn faces(&self, photograph: &relievo_data::Image) -> Result<Vec<FaceLocation>, DetectError> {
        if self.settings.faces == FaceSelection::All {
            return self.detector.places(photograph, FaceSelection::All, Face::frame);
        }
        let mut faces = self.detector.places_down_to(photograph, Face::frame, FaceLocation::is_whole)?;
        if !faces.last().is_some_and(FaceLocation::is_whole) {
            // The largest tells why there is no crop.
            faces.truncate(1);
        }
        Ok(faces)
    }

    fn dropped(&self, place: &FaceLocation) -> Option<Reason> {
        if place.crop.side < self.settings.min_side as f32 {
            Some(Reason::TooSmall)
        } else if !place.is_whole() {
            Some(Reason::OutsideThePhotograph)
        } else {
            None
        }
    }
}

fn plan(images: &Images, settings: CropSettings) -> Plan {
    let mut names = crc32fast::Hasher::new();
    for index in 0..images.len() {
        names.update(images.name(index).as_bytes());
        names.update(b"\n");
    }
    let CropSettings { size, faces, min_side } = settings;
    Plan { version: 1, size, faces, min_side, inputs: images.len(), names: names.finalize() }
}

/// Marks the folder, or sees that what was begun there is the same work; whether there was any.
fn begin(out: &Path, plan: &Plan) -> Result<bool, CropError> {
    let path = out.join(PLAN);
    if path.exists() {
        let there: Plan = read_json(&path)?;
        return if there == *plan { Ok(true) } else { Err(CropError::OtherWork(out.to_owned())) };
    }
    ensure_empty(out)?;
    let text = serde_json::to_string_pretty(plan).map_err(io::Error::other);
    write_durable(path, |file| writeln!(file, "{}", text?))?;
    Ok(false)
}
