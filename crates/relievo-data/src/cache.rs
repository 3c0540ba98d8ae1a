//! Pictures kept in memory once they are decoded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::sample::{Sample, SampleError, Source};

/// A source that remembers what it has decoded, up to a number of bytes; what no longer fits is decoded every time.
///
/// Worth it when one pass over the pictures is short: decoding a small JPEG takes longer than copying it.
pub struct Cached {
    source: Arc<dyn Source>,
    size: u32,
    slots: Vec<OnceLock<Sample>>,
    bytes_left: AtomicU64,
}

impl Cached {
    /// Remembers samples of `size` x `size` pixels in at most about `bytes` bytes.
    pub fn new(source: Arc<dyn Source>, size: u32, bytes: u64) -> Self {
        let slots = (0..source.len()).map(|_| OnceLock::new()).collect();
        Self { source, size, slots, bytes_left: AtomicU64::new(bytes) }
    }
}

impl Source for Cached {
    fn describe(&self) -> String {
        self.source.describe()
    }

    fn len(&self) -> u64 {
        self.source.len()
    }

    fn name(&self, index: u64) -> String {
        self.source.name(index)
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
        let take = |left: u64| left.checked_sub(bytes);
        if self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
            && slot.set(sample.clone()).is_err()
        {
            // Another thread was faster and has paid for it already.
            self.bytes_left.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(sample)
    }
}

fn bytes_of(sample: &Sample) -> u64 {
    let maps = sample.truth.as_ref().map_or(0, |truth| {
        4 * (truth.depth.len() + truth.normals.len() + truth.albedo.len()) + truth.mask.len()
    });
    (size_of::<Sample>() + sample.name.len() + sample.picture.pixels.len() + maps) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Picture;

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
            let picture = Picture { width: size, height: size, pixels };
            Ok(Sample { name: self.name(index), picture, truth: None })
        }
    }

    fn passes(bytes: u64) -> u64 {
        let counting = Arc::new(Counting(AtomicU64::new(0)));
        let cached = Cached::new(counting.clone(), 8, bytes);
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
}
