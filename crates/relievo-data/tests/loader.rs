//! Batches: the same for any number of workers and from any start, with bad images among them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use relievo_data::{
    Batch, Image, Images, Jitter, Light, LoadError, Loader, LoaderOptions, Position, Sample, SampleError,
    Source, Training, Truth,
};
use relievo_require::{Requirement, skip};

/// Images whose left column tells their number and whose other columns are white, with a truth to match; some
/// are bad, and some take their time.
struct Numbered {
    len: u64,
    bad: HashSet<u64>,
    /// Milliseconds for every third image.
    slow: u64,
    asked: AtomicU64,
}

/// The bad image that does not even give an error.
const PANICS: u64 = 107;

impl Numbered {
    fn new(len: u64, bad: impl IntoIterator<Item = u64>) -> Arc<Self> {
        Arc::new(Self { len, bad: bad.into_iter().collect(), slow: 0, asked: AtomicU64::new(0) })
    }
}

impl Source for Numbered {
    fn describe(&self) -> String {
        format!("{} numbered images", self.len)
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if index.is_multiple_of(3) && self.slow > 0 {
            std::thread::sleep(Duration::from_millis(self.slow));
        }
        if self.bad.contains(&index) {
            assert!(index != PANICS, "a decoder that gives up");
            return Err(SampleError { name: self.name(index), reason: "is bad".into() });
        }
        let side = size as usize;
        let left = |at: usize| at.is_multiple_of(side);
        let pixels = (0..side * side).flat_map(|at| [if left(at) { index as u8 } else { 255 }; 3]).collect();
        let truth = Truth {
            depth: (0..side * side).map(|at| if left(at) { index as f32 } else { 0.0 }).collect(),
            normals: [0.6, 0.0, 0.8].repeat(side * side),
            albedo: vec![0.5; side * side * 3],
            mask: vec![1; side * side],
            light: Light { ambient: 0.5, diffuse: 0.5, direction: [0.0, 0.0, 1.0] },
            view: [0.0, 0.1, 0.0, 0.0, 0.0, 0.0],
            field_of_view: 10.0,
        };
        let image = Image { width: size, height: size, pixels };
        Ok(Sample { name: self.name(index), image, truth: Some(truth), points: None })
    }
}

fn options(batch_size: usize, workers: usize) -> LoaderOptions {
    LoaderOptions { batch_size, size: 4, workers, ahead: 3, pairs: false }
}

fn training(source: Arc<dyn Source>, batch_size: usize, workers: usize, training: Training) -> Loader {
    Loader::training(source, options(batch_size, workers), training).unwrap()
}

fn mirrored() -> Training {
    Training { seed: 5, mirror: true, ..Training::default() }
}

fn take(loader: &mut Loader, count: usize) -> Vec<Batch> {
    loader.take(count).map(|batch| batch.unwrap()).collect()
}

fn assert_same(a: &[Batch], b: &[Batch]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((&a.names, &a.indices, a.position), (&b.names, &b.indices, b.position));
        assert_eq!(a.images.data(), b.images.data());
        assert_eq!(a.truths, b.truths);
    }
}

fn indices(batches: &[Batch]) -> Vec<u64> {
    batches.iter().flat_map(|batch| batch.indices.clone()).collect()
}

/// Whether each image of a batch is mirrored: the column with the number is on the other side.
fn mirrors(batch: &Batch) -> Vec<bool> {
    batch.images.data().chunks_exact(4 * 4 * 3).map(|image| image[0] == 1.0).collect()
}

#[test]
fn an_epoch_shows_every_image_once_and_no_two_epochs_are_alike() {
    let mut loader = training(Numbered::new(20, []), 5, 2, mirrored());
    let epochs: Vec<Vec<u64>> = (0..3).map(|_| indices(&take(&mut loader, 4))).collect();
    for epoch in &epochs {
        let mut sorted = epoch.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..20), "{epoch:?}");
    }
    assert_ne!(epochs[0], epochs[1]);
    assert_ne!(epochs[1], epochs[2]);
    let other = Training { seed: 6, ..mirrored() };
    assert_ne!(epochs[0], indices(&take(&mut training(Numbered::new(20, []), 5, 2, other), 4)));
}

#[test]
fn the_incomplete_batch_is_left_out_of_training() {
    let mut loader = training(Numbered::new(23, []), 5, 2, mirrored());
    let batches = take(&mut loader, 8);
    let expected = (0..2).flat_map(|epoch| (0..4).map(move |batch| Position { epoch, batch }));
    assert!(batches.iter().map(|batch| batch.position).eq(expected));
    for epoch in batches.chunks(4) {
        let different: HashSet<u64> = indices(epoch).into_iter().collect();
        assert_eq!(different.len(), 20);
    }
}

#[test]
fn evaluation_shows_everything_once_in_order_and_unmirrored() {
    let loader = Loader::evaluation(Numbered::new(13, []), options(5, 3)).unwrap();
    let batches: Vec<Batch> = loader.map(|batch| batch.unwrap()).collect();
    assert!(indices(&batches).into_iter().eq(0..13));
    let sizes: Vec<usize> = batches.iter().map(|batch| batch.images.shape()[0]).collect();
    assert_eq!(sizes, [5, 5, 3]);
    assert!(batches.iter().flat_map(mirrors).all(|mirrored| !mirrored));
}

#[test]
fn crops_are_moved_in_another_way_in_each_epoch() {
    let run = Training { jitter: Jitter { crop: 0.3, roll: 0.2 }, ..Training::default() };
    let images = |jitter: Jitter| {
        let run = Training { jitter, ..run };
        let batches = take(&mut training(Numbered::new(6, []), 6, 2, run), 2);
        batches
            .into_iter()
            .map(|batch| {
                let images = batch.images.data().chunks_exact(4 * 4 * 3).map(<[f32]>::to_vec);
                batch.indices.iter().copied().zip(images).collect::<std::collections::BTreeMap<_, _>>()
            })
            .collect::<Vec<_>>()
    };
    let (moved, still) = (images(run.jitter), images(Jitter::default()));
    assert_eq!(still[0], still[1]);
    for index in 0..6 {
        assert!(moved[0][&index] != moved[1][&index] && moved[0][&index] != still[0][&index]);
    }
}

#[test]
fn the_truth_of_an_image_whose_crop_was_moved_is_moved_with_it() {
    let run = Training { jitter: Jitter { crop: 0.0, roll: 0.5 }, ..mirrored() };
    let batch = take(&mut training(Numbered::new(8, []), 8, 1, run), 1).remove(0);
    let rolls: Vec<f32> = batch.truths.iter().map(|truth| truth.as_ref().unwrap().view[2]).collect();
    assert!(rolls.iter().all(|roll| roll.abs() <= 0.5) && rolls[0] != rolls[1], "{rolls:?}");
}

#[test]
fn images_run_from_minus_one_to_one() {
    let mut loader = Loader::evaluation(Numbered::new(1, []), options(1, 1)).unwrap();
    let batch = loader.next().unwrap().unwrap();
    assert_eq!(batch.images.shape()[..], [1, 4, 4, 3]);
    assert_eq!(batch.images.data()[..6], [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]);
    assert!(loader.next().is_none());
}

#[test]
fn one_image_in_two_is_mirrored_and_its_truth_with_it() {
    let mut loader = training(Numbered::new(200, []), 50, 2, mirrored());
    let batches = take(&mut loader, 8);
    let all: Vec<bool> = batches.iter().flat_map(mirrors).collect();
    let count = all.iter().filter(|&&mirrored| mirrored).count();
    assert!((160..240).contains(&count), "{count} of 400");
    // Another epoch mirrors others.
    let choice = |epoch: usize| {
        let part = &batches[epoch * 4..epoch * 4 + 4];
        indices(part)
            .into_iter()
            .zip(part.iter().flat_map(mirrors))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_ne!(choice(0), choice(1));
    for batch in &batches {
        for ((mirrored, truth), &index) in mirrors(batch).into_iter().zip(&batch.truths).zip(&batch.indices) {
            let truth = truth.as_ref().unwrap();
            let column = if mirrored { 3 } else { 0 };
            assert_eq!((truth.depth[column], truth.depth[1]), (index as f32, 0.0));
            let sign = if mirrored { -1.0 } else { 1.0 };
            assert_eq!((truth.normals[0], truth.view[1]), (0.6 * sign, 0.1 * sign));
        }
    }
    let straight = Training { mirror: false, ..mirrored() };
    let batches = take(&mut training(Numbered::new(200, []), 50, 2, straight), 4);
    assert!(batches.iter().flat_map(mirrors).all(|mirrored| !mirrored));
}

#[test]
fn a_bad_image_is_replaced_by_the_next_of_the_order_and_moves_no_other() {
    let whole = take(&mut training(Numbered::new(130, []), 26, 1, mirrored()), 10);
    let mut loader = training(Numbered::new(130, [7, 8, 107]), 26, 3, mirrored());
    let holed = take(&mut loader, 10);
    for (whole, holed) in whole.chunks(5).zip(holed.chunks(5)) {
        let (order, got) = (indices(whole), indices(holed));
        for (place, &got) in got.iter().enumerate() {
            let next_good =
                (place..place + 130).map(|at| order[at % 130]).find(|index| ![7, 8, 107].contains(index));
            assert_eq!(Some(got), next_good);
        }
    }
    let skipped: Vec<String> = loader.skipped().iter().map(SampleError::to_string).collect();
    assert_eq!(skipped, ["7: is bad", "8: is bad", "107: its source panicked"]);
    // Each is reported once.
    assert_eq!(loader.newly_skipped().len(), 3);
    take(&mut loader, 10);
    assert_eq!((loader.newly_skipped().len(), loader.skipped().len()), (0, 3));
}

#[test]
fn a_bad_image_is_left_out_of_evaluation() {
    let mut loader = Loader::evaluation(Numbered::new(12, [1, 4, 5, 6, 7]), options(4, 2)).unwrap();
    let batches = take(&mut loader, 9);
    // The second batch has nothing left.
    let got: Vec<&[u64]> = batches.iter().map(|batch| &batch.indices[..]).collect();
    assert_eq!(got, [&[0, 2, 3][..], &[8, 9, 10, 11]]);
    assert_eq!(loader.skipped().len(), 5);
}

#[test]
fn a_source_without_a_good_image_says_so_and_ends() {
    let expected = "6 numbered images: none of them can be used; 0: is bad; 2: is bad; 4: is bad; and 3 more";
    let bad = || -> Arc<dyn Source> {
        struct Bad;
        impl Source for Bad {
            fn describe(&self) -> String {
                "6 numbered images".into()
            }
            fn len(&self) -> u64 {
                6
            }
            fn name(&self, index: u64) -> String {
                (index * 2).to_string()
            }
            fn sample(&self, index: u64, _size: u32) -> Result<Sample, SampleError> {
                Err(SampleError { name: self.name(index), reason: "is bad".into() })
            }
        }
        Arc::new(Bad)
    };
    for loader in [
        Loader::training(bad(), options(2, 2), mirrored()).unwrap(),
        Loader::evaluation(bad(), options(2, 2)).unwrap(),
    ] {
        let mut loader = loader;
        assert_eq!(loader.next().unwrap().unwrap_err().to_string(), expected);
        assert!(loader.next().is_none());
    }
}

#[test]
fn what_makes_no_batch_is_refused() {
    let error = Loader::training(Numbered::new(10, []), options(64, 1), mirrored()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "10 numbered images: too few for a batch of 64; add images or make the batch smaller"
    );
    for broken in [
        LoaderOptions { batch_size: 0, ..options(1, 1) },
        LoaderOptions { size: 0, ..options(1, 1) },
        LoaderOptions { workers: 0, ..options(1, 1) },
        LoaderOptions { ahead: 0, ..options(1, 1) },
    ] {
        let error = Loader::training(Numbered::new(10, []), broken, mirrored()).err().unwrap();
        assert!(matches!(error, LoadError::Options { .. }), "{error}");
    }
}

#[test]
fn workers_do_not_run_ahead_without_bound_and_stop_when_dropped() {
    let source = Numbered::new(1000, []);
    let mut loader = training(source.clone(), 10, 4, mirrored());
    take(&mut loader, 2);
    std::thread::sleep(Duration::from_millis(50));
    let asked = source.asked.load(Ordering::Relaxed);
    assert!(asked <= (2 + 3) * 10, "{asked} images for 2 batches and 3 ahead");
    drop(loader);
    // Nobody holds the source any more: the workers are gone.
    assert_eq!(Arc::strong_count(&source), 1);
    // Dropped at once, with workers in the middle of an image.
    let slow = Arc::new(Numbered { len: 100, bad: HashSet::new(), slow: 5, asked: AtomicU64::new(0) });
    drop(training(slow.clone(), 10, 4, mirrored()));
    assert_eq!(Arc::strong_count(&slow), 1);
}

#[test]
fn waiting_is_measured() {
    let slow = Arc::new(Numbered { len: 3, bad: HashSet::new(), slow: 30, asked: AtomicU64::new(0) });
    let mut loader = training(slow, 3, 1, mirrored());
    take(&mut loader, 2);
    assert!(loader.waited() >= Duration::from_millis(25), "{:?}", loader.waited());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]
    /// The batches from a position on are those of a run from the beginning, whatever the number of workers, the
    /// bad images and the time each image takes.
    #[test]
    fn a_run_goes_on_as_if_it_had_never_stopped(
        len in 3_u64..30,
        batch_size in 1_usize..7,
        bad in proptest::collection::vec(0_u64..30, 0..6),
        workers in 1_usize..5,
        slow in 0_u64..2,
        seed in any::<u64>(),
        stop in 0_u64..12,
    ) {
        prop_assume!(len >= batch_size as u64 && (0..len).any(|index| !bad.contains(&index)));
        let run = Training { seed, mirror: true, jitter: Jitter { crop: 0.2, roll: 0.1 }, ..Training::default() };
        let whole = take(&mut training(Numbered::new(len, bad.clone()), batch_size, 1, run), stop as usize + 6);
        let mut first = training(Numbered::new(len, bad.clone()), batch_size, workers, run);
        assert_same(&take(&mut first, stop as usize), &whole[..stop as usize]);
        // A number of batches beyond the epoch goes on in the next.
        let start = Position { epoch: 0, batch: stop };
        let source = Numbered { len, bad: bad.into_iter().collect(), slow, asked: AtomicU64::new(0) };
        let mut second = training(Arc::new(source), batch_size, workers, Training { start, ..run });
        assert_same(&take(&mut second, 6), &whole[stop as usize..]);
    }
}

fn write(path: &Path, shade: u8) {
    RgbImage::from_pixel(16, 16, Rgb([shade; 3])).save_with_format(path, ImageFormat::Png).unwrap();
}

/// The whole way: files on disk, some of them broken, to batches.
#[test]
fn a_folder_with_broken_files_trains() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..12_u8 {
        write(&folder.path().join(format!("{number:02}.png")), number * 20);
    }
    std::fs::write(folder.path().join("broken.jpg"), b"no image").unwrap();
    let run = |workers: usize| {
        let images = Arc::new(Images::open(&[folder.path()]).unwrap());
        let mut loader =
            Loader::training(images, LoaderOptions { size: 8, ..options(4, workers) }, mirrored()).unwrap();
        let batches = take(&mut loader, 9);
        (batches, loader.skipped())
    };
    let (batches, skipped) = run(1);
    let shown = folder.path().join("broken.jpg").display().to_string();
    assert_eq!(
        skipped,
        [SampleError { name: shown, reason: "not a JPEG, PNG, WebP, GIF, BMP or TIFF image".into() }]
    );
    assert_same(&batches, &run(4).0);
    for batch in &batches {
        for (image, name) in batch.images.data().chunks_exact(8 * 8 * 3).zip(&batch.names) {
            let number: f32 = name[..2].parse().unwrap();
            assert!(image.iter().all(|&value| value == number * 20.0 / 127.5 - 1.0), "{name}");
        }
    }
}

/// Set `RELIEVO_DATA` to a folder that holds shards of real images to see how fast they come.
#[test]
fn real_shards_load_without_a_bad_image() {
    let Ok(folder) = std::env::var("RELIEVO_DATA") else {
        let wanted = "celeba-80px.tar, cats-64px.tar, generated-112px.tar";
        return skip(Requirement::Data, &format!("RELIEVO_DATA names no folder with {wanted}"));
    };
    for shard in ["celeba-80px.tar", "cats-64px.tar", "generated-112px.tar"] {
        let path = Path::new(&folder).join(shard);
        if !path.exists() {
            skip(Requirement::Data, &format!("{} does not exist", path.display()));
            continue;
        }
        let began = std::time::Instant::now();
        let images = Arc::new(Images::open(&[path]).unwrap());
        let indexed = began.elapsed();
        let began = std::time::Instant::now();
        let options = LoaderOptions { batch_size: 64, size: 64, workers: 2, ahead: 3, pairs: false };
        let mut loader = Loader::evaluation(images.clone(), options).unwrap();
        let count: usize = loader.by_ref().map(|batch| batch.unwrap().names.len()).sum();
        let rate = count as f64 / began.elapsed().as_secs_f64();
        println!("{shard}: {count} images listed in {indexed:?}, {rate:.0} a second with 2 workers");
        assert_eq!((count as u64, loader.skipped().len()), (images.len(), 0));
    }
}

#[test]
fn a_worker_that_panics_is_not_waited_for() {
    // An order of so many images has no room in memory.
    let options = LoaderOptions { workers: 2, ..LoaderOptions::new(4, 8) };
    let mut loader = Loader::evaluation(Numbered::new(u64::MAX / 2, []), options).unwrap();
    assert_eq!(loader.next().unwrap().unwrap_err(), LoadError::Worker);
    assert!(loader.next().is_none());
}

/// `per_object` images of each object, the last object has one; numbered as [`Numbered`].
struct Collection {
    images: Arc<Numbered>,
    per_object: u64,
}

impl Collection {
    fn new(objects: u64, per_object: u64, bad: impl IntoIterator<Item = u64>) -> Arc<Self> {
        Arc::new(Self { images: Numbered::new((objects - 1) * per_object + 1, bad), per_object })
    }

    fn object_of(&self, image: u64) -> u64 {
        image / self.per_object
    }
}

impl Source for Collection {
    fn describe(&self) -> String {
        self.images.describe()
    }

    fn len(&self) -> u64 {
        self.images.len()
    }

    fn object(&self, index: u64) -> Option<String> {
        Some(format!("object {}", self.object_of(index)))
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        self.images.sample(index, size)
    }
}

/// The numbers of the images of a batch and of their partners, and whether they are mirrored: the column that tells the
/// number is the last one then.
fn numbers(batch: &Batch) -> Vec<[(u64, bool); 2]> {
    let number = |image: &[f32]| {
        let byte = |value: f32| ((value + 1.0) * 127.5).round() as u64;
        let [left, right] = [byte(image[0]), byte(image[3 * 3])];
        if right == 255 { (left, false) } else { (right, true) }
    };
    let images = batch.images.data().chunks(4 * 4 * 3).map(number);
    let partners = batch.partners.as_ref().unwrap().data().chunks(4 * 4 * 3).map(number);
    images.zip(partners).map(<[_; 2]>::from).collect()
}

fn pairs(source: Arc<dyn Source>, workers: usize, start: Position, mirror: bool) -> Loader {
    let training = Training { seed: 3, mirror, start, ..Training::default() };
    Loader::training(source, LoaderOptions { pairs: true, ..options(4, workers) }, training).unwrap()
}

#[test]
fn pairs_are_two_images_of_an_object_and_an_epoch_goes_once_through_the_objects() {
    let source = Collection::new(8, 5, []);
    let batches: Vec<Batch> =
        pairs(source.clone(), 3, Position::default(), true).take(40).map(Result::unwrap).collect();
    let mut chosen = HashSet::new();
    for epoch in batches.chunks(2) {
        let of_epoch: Vec<_> = epoch.iter().flat_map(numbers).collect();
        let mut objects: Vec<u64> = of_epoch.iter().map(|[image, _]| source.object_of(image.0)).collect();
        objects.sort_unstable();
        assert_eq!(objects, (0..8).collect::<Vec<_>>());
        for [(image, mirrored), (partner, partner_mirrored)] in of_epoch {
            assert_eq!(source.object_of(image), source.object_of(partner));
            let alone = source.object_of(image) == 7;
            // The mirror image of the only one; else another image, mirrored with the first.
            assert_eq!((image == partner, mirrored == partner_mirrored), (alone, !alone));
            chosen.insert((image, partner));
        }
    }
    // Of twenty ordered pairs of each object, twenty epochs draw many.
    assert!(chosen.len() > 70, "{}", chosen.len());
    // For any number of workers and from any start.
    let start = Position { epoch: 0, batch: 7 };
    for (a, b) in batches[7..].iter().zip(pairs(source, 1, start, true)) {
        let b = b.unwrap();
        assert_eq!((numbers(a), &a.names, a.position), (numbers(&b), &b.names, b.position));
    }
}

#[test]
fn bad_images_leave_the_others_of_their_object() {
    // Of object 0 one image is good, of object 1 none, of object 2 all but one.
    let source = Collection::new(6, 4, [1, 2, 3, 4, 5, 6, 7, 9]);
    let mut loader = pairs(source.clone(), 2, Position::default(), false);
    for batch in loader.by_ref().take(30).map(Result::unwrap) {
        for [(image, mirrored), (partner, partner_mirrored)] in numbers(&batch) {
            assert!(!source.images.bad.contains(&image) && !source.images.bad.contains(&partner));
            assert_eq!(source.object_of(image), source.object_of(partner));
            assert_eq!((mirrored, partner_mirrored), (false, image == partner));
            assert_eq!(image == partner, [0, 20].contains(&image));
        }
    }
    assert_eq!(loader.skipped().len(), 8);
    let all = pairs(Collection::new(5, 2, 0..9), 2, Position::default(), false).next().unwrap();
    assert!(matches!(all, Err(LoadError::NoneGood { .. })));
    let few = LoaderOptions { pairs: true, ..options(6, 1) };
    let few = Loader::training(Collection::new(5, 9, []), few, Training::default());
    assert!(matches!(few, Err(LoadError::TooFew { .. })));
}

#[test]
fn an_evaluation_pairs_each_image_with_the_next_of_its_object() {
    let source = Collection::new(3, 3, [4]);
    let loader = Loader::evaluation(source, LoaderOptions { pairs: true, ..options(4, 2) }).unwrap();
    let found: Vec<[u64; 2]> = loader
        .flat_map(|batch| numbers(&batch.unwrap()))
        .map(|pair| pair.map(|(number, _)| number))
        .collect();
    assert_eq!(found, [[0, 1], [1, 2], [2, 0], [3, 5], [5, 3], [6, 6]]);
}

#[test]
fn an_object_of_ten_thousand_images_is_one_of_the_others() {
    let source = Collection::new(2, 10_000, []);
    let loader = Loader::training(
        source,
        LoaderOptions { pairs: true, ..options(2, 2) },
        Training { seed: 1, ..Training::default() },
    );
    let batches: Vec<Batch> = loader.unwrap().take(20).map(Result::unwrap).collect();
    assert!(batches.iter().all(|batch| batch.indices.contains(&10_000) && batch.indices.len() == 2));
}
