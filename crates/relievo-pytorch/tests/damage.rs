//! Checkpoints with random damage: an answer, never a panic, and no more memory than the file accounts for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use relievo_model::{Model, ModelSettings};
use relievo_pytorch::testing::{CheckpointWriter, Numbers};
use relievo_pytorch::{Import, ImportSettings};

/// Bytes that are allocated, and the most that were at once.
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a good import needs whatever the file: VGG16's features, which a model with a perceptual loss has.
const FEATURES: usize = 40 << 20;

/// A small checkpoint in each format.
static WHOLE: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let settings = ModelSettings { width: 4, code: 2, encoder_width: 4, ..ModelSettings::default() };
    let writer = CheckpointWriter::of_model(&Model::new(settings, 5).unwrap(), Numbers::F32);
    [writer.archive(false), writer.archive(true), writer.stream()]
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn damage_is_an_error_or_harmless(
        format in 0_usize..3,
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..6),
    ) {
        let mut bytes = WHOLE[format].clone();
        // Most of a file is numbers: half of the changes go to its objects and, in an archive, to the list at its end.
        for (place, value, anywhere) in changes {
            let whole = bytes.len();
            let at = match anywhere {
                true => place.index(whole),
                false if format < 2 && value % 2 == 0 => whole - 1 - place.index(12_000.min(whole)),
                false => place.index(20_000.min(whole)),
            };
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(length.index(bytes.len()));
        }
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let import = Import::read(&bytes[..], &ImportSettings::default());
        let most = MOST.load(Ordering::Relaxed) - before;
        prop_assert!(most < FEATURES + 8 * bytes.len(), "{} bytes for a file of {}", most, bytes.len());
        if let Ok(import) = import {
            prop_assert!(import.model.parameters().iter().all(|parameter| parameter.data().iter().all(|x| x.is_finite())));
        }
    }
}
