//! Decoded images kept in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::sample::{Sample, SampleError, Source};

/// Memory that caches share, in bytes. Clones share it.
#[derive(Clone)]
pub struct CacheBudget(Arc<AtomicU64>);

impl CacheBudget {
    /// About so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Takes so many bytes, if so many are left.
    fn take(&self, bytes: u64) -> bool {
        let take = |left: u64| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A source that keeps what it has decoded or generated while its budget lasts; other images are made every time.
///
/// Worthwhile if an epoch is short: decoding a small JPEG takes longer than copying it, and rendering a head takes six
/// hundred times longer.
///
/// It fills lazily, in training during the first epoch. Filling it beforehand would be slower, because making images
/// overlaps with training: the first epoch takes the longer of the two, not their sum. The order of the images does not
/// change. (160,000 heads take 40 s on 16 cores, the 2,500 steps of an epoch 20 to 40 s on a fast GPU.)
pub struct Cached {
    source: Arc<dyn Source>,
    size: u32,
    slots: Vec<OnceLock<Sample>>,
    budget: CacheBudget,
}

impl Cached {
    /// Remembers samples of `size` x `size` pixels within a budget.
    pub fn new(source: Arc<dyn Source>, size: u32, budget: CacheBudget) -> Self {
        let slots = (0..source.len()).map(|_| OnceLock::new()).collect();
        Self { source, size, slots, budget }
    }
}

impl Source for Cached {
    fn describe(&self) -> String {
        self.source.describe()
    }

    fn warnings(&self) -> Vec<String> {
        self.source.warnings()
    }

    fn len(&self) -> u64 {
        self.source.len()
    }

    fn name(&self, index: u64) -> String {
        self.source.name(index)
    }

    fn object(&self, index: u64) -> Option<String> {
        self.source.object(index)
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        if size != self.size {
            return self.source.sample(index, size);
        }
        let slot = &self.slots[index as usize];
        if let Some(sample) = slot.get() {
            return Ok(sample.clone());
        }
        let sample = self.source.sample(index, size)?;
        let bytes = bytes_of(&sample);
        if self.budget.take(bytes) && slot.set(sample.clone()).is_err() {
            // Another thread was faster, and its copy is in the budget.
            self.budget.give_back(bytes);
        }
        Ok(sample)
    }
}

fn bytes_of(sample: &Sample) -> u64 {
    let maps = sample.truth.as_ref().map_or(0, |truth| {
        4 * (truth.depth.len() + truth.normals.len() + truth.albedo.len()) + truth.mask.len()
    });
    (size_of::<Sample>() + sample.name.len() + sample.image.pixels.len() + maps) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Image;

    /// Counts how often it is asked.
    struct Counting(AtomicU64);

    impl Source for Counting {
        fn describe(&self) -> String {
            "counting".into()
        }
        fn len(&self) -> u64 {
            10
        }
        fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let pixels = vec![index as u8; (size * size * 3) as usize];
            let image = Image { width: size, height: size, pixels };
            Ok(Sample { name: self.name(index), image, truth: None, points: None })
        }
    }

    fn passes(bytes: u64) -> u64 {
        let counting = Arc::new(Counting(AtomicU64::new(0)));
        let cached = Cached::new(counting.clone(), 8, CacheBudget::new(bytes));
        for _ in 0..3 {
            for index in 0..10 {
                assert_eq!(cached.sample(index, 8), counting.sample(index, 8));
            }
        }
        counting.0.load(Ordering::Relaxed) - 30
    }

    #[test]
    fn what_fits_is_decoded_once_and_the_rest_every_time() {
        let one = bytes_of(&Counting(AtomicU64::new(0)).sample(0, 8).unwrap());
        assert_eq!(passes(u64::MAX), 10);
        assert_eq!(passes(0), 30);
        assert_eq!(passes(4 * one), 4 + 3 * 6);
    }

    #[test]
    fn caches_share_a_budget() {
        let one = bytes_of(&Counting(AtomicU64::new(0)).sample(0, 8).unwrap());
        let budget = CacheBudget::new(12 * one);
        let sources = [(); 2].map(|()| Arc::new(Counting(AtomicU64::new(0))));
        for source in &sources {
            let cached = Cached::new(source.clone(), 8, budget.clone());
            for index in (0..10).chain(0..10) {
                cached.sample(index, 8).unwrap();
            }
        }
        assert_eq!(sources.map(|source| source.0.load(Ordering::Relaxed)), [10, 2 + 2 * 8]);
    }
}
