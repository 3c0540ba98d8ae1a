//! Batches, made in the background while the model trains on the previous one.
//!
//! The order of the images is divided into batches, and batches into places. Worker threads take the next free place and
//! decode its image; the worker that fills the last place of a batch assembles the batch. At most
//! [`LoaderOptions::ahead`] batches are open at a time, which bounds the memory. The workers are not threads of the
//! compute pool, because a pool thread that reads a file cannot compute.
//!
//! The content of a place is a pure function of the source, the seed, the epoch and the place, so batches are the
//! same for any number of workers, and a run that starts at a position gets what the uninterrupted run got there.
//! That includes bad images: in training, the next good image in the epoch's order takes the place of a bad one (and so
//! occurs twice in that epoch); later places do not change.
//!
//! Pairs ([`LoaderOptions::pairs`]) are two images of one object. In training an epoch goes once through the objects, and
//! a place takes two images of its object, drawn from seed, epoch and object.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use relievo_tensor::{Random, Tensor};

use crate::jitter::Jitter;
use crate::objects::Objects;
use crate::sample::{FacePoints, Image, Sample, SampleError, Source, Truth};

/// The random streams of a training seed: the order of each epoch, which images are mirrored, how their crops are
/// moved, which images of an object are a pair.
const ORDER: u64 = 1;
const MIRRORING: u64 = 2;
const JITTER: u64 = 3;
const PAIRS: u64 = 4;
const JITTER_OF_PARTNERS: u64 = 5;

/// Images that pass through the networks together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[B,S,S,3]` in \[-1,1\].
    pub images: Tensor,
    /// Another image of each image's object, `[B,S,S,3]`; its mirror image if there is no other. Only if pairs were asked for.
    pub partners: Option<Tensor>,
    /// Ground truth of each image, mirrored and moved with it.
    pub truths: Vec<Option<Truth>>,
    /// Points of the face in each image, mirrored and moved with it.
    pub points: Vec<Option<FacePoints>>,
    /// The name of each image.
    pub names: Vec<String>,
    /// The number of each image in the source.
    pub indices: Vec<u64>,
    /// The batch's position in the run.
    pub position: Position,
}

/// A place in a training run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Passes over the source before this one.
    pub epoch: u64,
    /// Batches of this epoch before this one.
    pub batch: u64,
}

/// How batches are made.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Images in a batch, at least 1.
    pub batch_size: usize,
    /// Side of the images in pixels, at least 1.
    pub size: u32,
    /// Threads that read and decode, at least 1.
    pub workers: usize,
    /// Batches made before they are asked for, at least 1.
    pub ahead: usize,
    /// Each image comes with another one of its object ([`Source::object`]).
    pub pairs: bool,
}

impl LoaderOptions {
    /// Batches of `batch_size` images of `size` x `size`, made by one thread for every two cores (four at most),
    /// three batches ahead.
    pub fn new(batch_size: usize, size: u32) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { batch_size, size, workers: (cores / 2).clamp(1, 4), ahead: 3, pairs: false }
    }

    /// As [`LoaderOptions::new`], beside a GPU that does all the computing: by one thread for every core but one (16 at
    /// most).
    pub fn beside_gpu(batch_size: usize, size: u32) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { workers: cores.saturating_sub(1).clamp(1, 16), ..Self::new(batch_size, size) }
    }
}

/// The order of training.
#[derive(Clone, Copy, Debug, Default)]
pub struct Training {
    /// Decides the order of every epoch, which images are mirrored and how their crops are moved.
    pub seed: u64,
    /// Mirror one image in two.
    pub mirror: bool,
    /// How far crops are moved at random.
    pub jitter: Jitter,
    /// The first batch to hand out. A batch number beyond the epoch's last goes on in the next epoch.
    pub start: Position,
}

/// A sequence of batches that cannot be made or continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Options out of range.
    #[error(
        "batches of {batch_size} images of {size} x {size} pixels by {workers} threads, {ahead} ahead: each must be at least 1"
    )]
    Options {
        /// As asked for.
        batch_size: usize,
        /// As asked for.
        size: u32,
        /// As asked for.
        workers: usize,
        /// As asked for.
        ahead: usize,
    },
    /// Fewer images than one batch; of pairs, fewer objects.
    #[error("{source_is}: too few for a batch of {batch_size}; add images or make the batch smaller")]
    TooFew {
        /// What the source says it is.
        source_is: String,
        /// Images in a batch.
        batch_size: usize,
    },
    /// Every image is bad.
    #[error("{source_is}: none of them can be used; {first}")]
    NoneGood {
        /// What the source says it is.
        source_is: String,
        /// The first few names and reasons.
        first: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread to load images: {0}")]
    Thread(String),
    /// A worker panicked outside of the source: a defect of the loader.
    #[error("a thread that loads images panicked, so no more can be loaded")]
    Worker,
}

/// Hands out batches; iterate over it. Training never ends, evaluation ends after one pass.
///
/// Dropping it stops the workers, each after the image in its hands.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// See [`Loader::waited`].
    waited: Duration,
    skips_reported: usize,
}

impl Loader {
    /// Batches to learn from: shuffled anew every epoch, mirrored one in two, the incomplete last batch of an epoch
    /// left out, without end.
    ///
    /// # Errors
    /// If the options or the source make no whole batch, or a thread cannot be started.
    pub fn training(
        source: Arc<dyn Source>,
        options: LoaderOptions,
        training: Training,
    ) -> Result<Self, LoadError> {
        Self::start(source, options, Plan::Training(training))
    }

    /// One pass to measure on: in the source's order, nothing mirrored, the last batch as short as it comes out. A
    /// bad image is left out and makes its batch smaller, so that no image counts twice.
    ///
    /// # Errors
    /// If the options make no batch or a thread cannot be started.
    pub fn evaluation(source: Arc<dyn Source>, options: LoaderOptions) -> Result<Self, LoadError> {
        Self::start(source, options, Plan::Evaluation)
    }

    fn start(source: Arc<dyn Source>, options: LoaderOptions, plan: Plan) -> Result<Self, LoadError> {
        let LoaderOptions { batch_size, size, workers, ahead, pairs } = options;
        if batch_size == 0 || size == 0 || workers == 0 || ahead == 0 {
            return Err(LoadError::Options { batch_size, size, workers, ahead });
        }
        let objects = pairs.then(|| Objects::of(&*source));
        let shared = Shared {
            source,
            objects,
            options,
            plan,
            state: Mutex::default(),
            work: Condvar::new(),
            ready: Condvar::new(),
            bad: Mutex::default(),
        };
        if matches!(shared.plan, Plan::Training(_)) && shared.batches_per_epoch() == 0 {
            let Shared { source, objects, .. } = &shared;
            let source_is = objects.as_ref().map_or_else(|| source.describe(), |all| all.describe(&**source));
            return Err(LoadError::TooFew { source_is, batch_size });
        }
        let shared = Arc::new(shared);
        // The loader exists before its threads: if one cannot be started, dropping it stops the others.
        let mut loader = Self { shared, workers: Vec::new(), waited: Duration::ZERO, skips_reported: 0 };
        for number in 0..workers {
            let shared = Arc::clone(&loader.shared);
            let worker = thread::Builder::new().name(format!("images {number}")).spawn(move || shared.work());
            loader.workers.push(worker.map_err(|error| LoadError::Thread(error.to_string()))?);
        }
        Ok(loader)
    }

    /// Images that turned out bad so far, in the order of the source. Workers are ahead of the consumer, so some
    /// may belong to batches not yet handed out.
    pub fn skipped(&self) -> Vec<SampleError> {
        self.shared.bad().errors.values().cloned().collect()
    }

    /// Bad images not returned by this function before: each comes once, to be logged.
    pub fn newly_skipped(&mut self) -> Vec<SampleError> {
        let bad = self.shared.bad();
        let new = bad.found[self.skips_reported..].iter().map(|index| bad.errors[index].clone()).collect();
        self.skips_reported = bad.found.len();
        new
    }

    /// Time that the consumer has waited for batches.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Waits for the next batch of the sequence; `None` when there are no more.
    fn next_open(&mut self) -> Option<Finished> {
        let mut state = self.shared.lock();
        if state.ended || self.shared.end().is_some_and(|end| state.first >= end) {
            return None;
        }
        let began = Instant::now();
        while state.open.front().is_none_or(|first| first.finished.is_none()) {
            if state.broken {
                return Some(Finished::Broken);
            }
            state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.waited += began.elapsed();
        state.first += 1;
        let open = state.open.pop_front();
        self.shared.work.notify_all();
        open.and_then(|open| open.finished)
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_open()? {
                Finished::Batch(batch) => return Some(Ok(*batch)),
                Finished::Empty if self.shared.all_bad() => {
                    // No batch will follow: do not try the same images again.
                    self.shared.lock().ended = true;
                    return Some(Err(self.shared.none_good()));
                }
                // Evaluation: every image of this batch is bad, others are not.
                Finished::Empty => {}
                Finished::Broken => {
                    self.shared.lock().ended = true;
                    return Some(Err(LoadError::Worker));
                }
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // Only a defect of the loader can make a worker panic, and it has been printed then.
            let _ = worker.join();
        }
    }
}

enum Plan {
    Training(Training),
    Evaluation,
}

/// State shared by the workers and the consumer.
struct Shared {
    source: Arc<dyn Source>,
    /// For pairs.
    objects: Option<Objects>,
    options: LoaderOptions,
    plan: Plan,
    state: Mutex<State>,
    /// Wakes workers: there may be a place to fill, or the loader is dropped.
    work: Condvar,
    /// Wakes the consumer: a batch is finished.
    ready: Condvar,
    bad: Mutex<Bad>,
}

#[derive(Default)]
struct State {
    /// Batches handed out; the number in the sequence of `open[0]`.
    first: u64,
    /// Batches being made.
    open: VecDeque<Open>,
    /// The order of the epoch the last of them belongs to.
    order: Option<(u64, Arc<Vec<u64>>)>,
    ended: bool,
    /// A worker panicked, so its place will never be filled.
    broken: bool,
}

/// A batch being made.
struct Open {
    position: Position,
    order: Arc<Vec<u64>>,
    /// Place of its first image in the order.
    begin: u64,
    /// Places taken by workers.
    taken: usize,
    filled: usize,
    places: Vec<Option<Placed>>,
    finished: Option<Finished>,
}

enum Finished {
    Batch(Box<Batch>),
    /// Every image was bad.
    Empty,
    /// It will never be.
    Broken,
}

struct Placed {
    index: u64,
    sample: Sample,
    /// Another image of the same object, in pairs; its mirror image comes last.
    partner: Option<Image>,
}

/// One place for a worker to fill.
struct Task {
    sequence: u64,
    place: usize,
    epoch: u64,
    order: Arc<Vec<u64>>,
    /// Place in the order.
    at: u64,
}

#[derive(Default)]
struct Bad {
    errors: BTreeMap<u64, SampleError>,
    /// Their numbers as they were found.
    found: Vec<u64>,
}

impl Shared {
    /// A poisoned lock is taken all the same: nothing that can panic is done under it except by a defect.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bad(&self) -> MutexGuard<'_, Bad> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places in an epoch: images, or objects if pairs are drawn of them.
    fn places(&self) -> u64 {
        match (&self.plan, &self.objects) {
            (Plan::Training(_), Some(objects)) => objects.len(),
            _ => self.source.len(),
        }
    }

    fn batches_per_epoch(&self) -> u64 {
        let batch_size = self.options.batch_size as u64;
        match self.plan {
            Plan::Training(_) => self.places() / batch_size,
            Plan::Evaluation => self.source.len().div_ceil(batch_size),
        }
    }

    /// Batches in the whole sequence, if it ends.
    fn end(&self) -> Option<u64> {
        match self.plan {
            Plan::Training(_) => None,
            Plan::Evaluation => Some(self.batches_per_epoch()),
        }
    }

    fn position(&self, sequence: u64) -> Position {
        match self.plan {
            Plan::Training(Training { start, .. }) => {
                let batch = start.batch + sequence;
                let per_epoch = self.batches_per_epoch();
                Position { epoch: start.epoch + batch / per_epoch, batch: batch % per_epoch }
            }
            Plan::Evaluation => Position { epoch: 0, batch: sequence },
        }
    }

    /// The workers' main loop.
    fn work(&self) {
        // Wakes the consumer if a worker panics.
        struct Alarm<'a>(&'a Shared);
        impl Drop for Alarm<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.lock().broken = true;
                    self.0.ready.notify_all();
                }
            }
        }
        let _alarm = Alarm(self);
        while let Some(task) = self.take() {
            let placed = self.fill(&task);
            self.put(&task, placed);
        }
    }

    /// The next place to fill; waits while enough batches are open. `None` when the loader goes away.
    fn take(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            if let Some(task) = self.free_place(&mut state) {
                return Some(task);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the first free place of the open batches, opening another if there may be one more.
    fn free_place(&self, state: &mut State) -> Option<Task> {
        if state.open.back().is_none_or(|last| last.taken == last.places.len()) {
            let sequence = state.first + state.open.len() as u64;
            if state.open.len() == self.options.ahead || self.end().is_some_and(|end| sequence >= end) {
                return None;
            }
            let open = self.open(state, sequence);
            state.open.push_back(open);
        }
        let sequence = state.first + state.open.len() as u64 - 1;
        let open = state.open.back_mut()?;
        let place = open.taken;
        open.taken += 1;
        let (position, order) = (open.position, Arc::clone(&open.order));
        Some(Task { sequence, place, epoch: position.epoch, order, at: open.begin + place as u64 })
    }

    fn open(&self, state: &mut State, sequence: u64) -> Open {
        let position = self.position(sequence);
        let order = match &state.order {
            Some((epoch, order)) if *epoch == position.epoch => Arc::clone(order),
            _ => {
                let order = Arc::new(match self.plan {
                    Plan::Training(Training { seed, .. }) => {
                        Random::new(seed, ORDER).fork(position.epoch).permutation(self.places())
                    }
                    Plan::Evaluation => (0..self.places()).collect(),
                });
                state.order = Some((position.epoch, Arc::clone(&order)));
                order
            }
        };
        let begin = position.batch * self.options.batch_size as u64;
        let images = (order.len() as u64 - begin).min(self.options.batch_size as u64) as usize;
        let places = (0..images).map(|_| None).collect();
        Open { position, order, begin, taken: 0, filled: 0, places, finished: None }
    }

    /// The image for a place; `None` if it is bad and none may take its place.
    fn fill(&self, task: &Task) -> Option<Placed> {
        let Plan::Training(Training { seed, mirror, jitter, .. }) = self.plan else {
            let index = task.order[task.at as usize];
            let mut placed = self.good(index)?;
            if let Some(objects) = &self.objects {
                let partner = objects.others(index).find_map(|other| self.good(other));
                placed.partner = partner.map(|partner| partner.sample.image);
            }
            return Some(placed);
        };
        let of_epoch = |stream: u64| Random::new(seed, stream).fork(task.epoch);
        let following = task.order.iter().cycle().skip(task.at as usize).take(task.order.len()).copied();
        let mut placed = match &self.objects {
            None => following.map(|index| self.good(index)).find(Option::is_some)??,
            Some(objects) => {
                let drawn = |object: u64| self.pair(objects.images(object), &of_epoch(PAIRS).fork(object));
                following.map(drawn).find(Option::is_some)??
            }
        };
        let Placed { sample, partner, .. } = &mut placed;
        if mirror && of_epoch(MIRRORING).bits(task.at) & 1 == 1 {
            sample.flip();
            // One side of an object must not be learned as the other.
            partner.iter_mut().for_each(Image::flip);
        }
        if jitter.is_on() {
            let Sample { image, truth, points, .. } = sample;
            let crop = jitter.draw(&of_epoch(JITTER), task.at);
            *image = crop.of(image);
            *truth = truth.as_ref().map(|truth| crop.of_truth(truth, image.width as usize));
            *points = points.map(|points| crop.of_points(points, image.width as usize));
            if let Some(partner) = partner {
                *partner = jitter.draw(&of_epoch(JITTER_OF_PARTNERS), task.at).of(partner);
            }
        }
        Some(placed)
    }

    /// Two of the images of an object, drawn at random; one if there is no other good one.
    fn pair(&self, images: &[u64], random: &Random) -> Option<Placed> {
        let order = random.permutation(images.len() as u64);
        let mut good = order.iter().filter_map(|place| self.good(images[*place as usize]));
        let mut placed = good.next()?;
        placed.partner = good.next().map(|partner| partner.sample.image);
        Some(placed)
    }

    /// Image `index` of the source, unless it is bad, which is then remembered.
    fn good(&self, index: u64) -> Option<Placed> {
        if self.bad().errors.contains_key(&index) {
            return None;
        }
        let size = self.options.size;
        // A source that panics must not take the training with it.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.source.sample(index, size)));
        let error = match outcome {
            Ok(Ok(sample)) if sample.image.pixels.len() as u64 == u64::from(size).pow(2) * 3 => {
                return Some(Placed { index, sample, partner: None });
            }
            Ok(Ok(Sample { name, image: Image { width, height, .. }, .. })) => SampleError {
                name,
                reason: format!("{width} x {height} pixels where {size} x {size} were asked for"),
            },
            Ok(Err(error)) => error,
            Err(_) => SampleError { name: self.source.name(index), reason: "its source panicked".into() },
        };
        let mut bad = self.bad();
        if bad.errors.insert(index, error).is_none() {
            bad.found.push(index);
        }
        None
    }

    /// Fills a place, and puts the batch together if it was the last.
    fn put(&self, task: &Task, placed: Option<Placed>) {
        let mut state = self.lock();
        let Some(open) = open_mut(&mut state, task.sequence) else { return };
        open.places[task.place] = placed;
        open.filled += 1;
        if open.filled < open.places.len() {
            return;
        }
        let (places, position) = (std::mem::take(&mut open.places), open.position);
        // `free_place` takes a batch for full whose `taken` is the number of its `places`, and those were taken out.
        open.taken = 0;
        drop(state);
        let finished = self.assemble(places, position);
        let mut state = self.lock();
        if let Some(open) = open_mut(&mut state, task.sequence) {
            open.finished = Some(finished);
        }
        drop(state);
        self.ready.notify_all();
    }

    fn assemble(&self, places: Vec<Option<Placed>>, position: Position) -> Finished {
        let mut placed: Vec<Placed> = places.into_iter().flatten().collect();
        if placed.is_empty() {
            return Finished::Empty;
        }
        let size = self.options.size as usize;
        let partners = self.objects.is_some().then(|| {
            for Placed { sample, partner, .. } in &mut placed {
                partner.get_or_insert_with(|| sample.image.mirrored());
            }
            tensor_of(&placed.iter().filter_map(|placed| placed.partner.as_ref()).collect::<Vec<_>>(), size)
        });
        let images = tensor_of(&placed.iter().map(|placed| &placed.sample.image).collect::<Vec<_>>(), size);
        let indices = placed.iter().map(|placed| placed.index).collect();
        let points = placed.iter().map(|placed| placed.sample.points).collect();
        let (names, truths) =
            placed.into_iter().map(|placed| (placed.sample.name, placed.sample.truth)).unzip();
        Finished::Batch(Box::new(Batch { images, partners, truths, points, names, indices, position }))
    }

    fn all_bad(&self) -> bool {
        self.bad().errors.len() as u64 == self.source.len()
    }

    fn none_good(&self) -> LoadError {
        const SHOWN: usize = 3;
        let bad = self.bad();
        let shown: Vec<String> = bad.errors.values().take(SHOWN).map(SampleError::to_string).collect();
        let more = bad.errors.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        LoadError::NoneGood { source_is: self.source.describe(), first: shown.join("; ") + &more }
    }
}

/// Images of `size` x `size` pixels as `[B,size,size,3]` in [-1,1].
fn tensor_of(images: &[&Image], size: usize) -> Tensor {
    let mut tensor = Tensor::empty([images.len(), size, size, 3]);
    // Image by image: a chain over all of them would not be vectorised.
    for (values, image) in tensor.data_mut().chunks_exact_mut(size * size * 3).zip(images) {
        for (value, signed) in values.iter_mut().zip(image.signed()) {
            *value = signed;
        }
    }
    tensor
}

/// The open batch of that number in the sequence.
fn open_mut(state: &mut State, sequence: u64) -> Option<&mut Open> {
    let place = sequence.checked_sub(state.first)?;
    state.open.get_mut(place as usize)
}
