//! Pictures kept in memory once they are decoded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::sample::{Sample, SampleError, Source};

/// A source that remembers what it has decoded or made, up to a number of bytes; what no longer fits is made every time.
///
/// Worth it when one pass over the pictures is short: decoding a small JPEG takes longer than copying it, and making a
/// head hundreds of times as long.
pub struct Cached {
    source: Arc<dyn Source>,
    size: u32,
    /// What was asked for with its truth.
    samples: Slots,
    /// What was asked for without.
    pictures: Slots,
    bytes_left: AtomicU64,
}

/// A place for each picture of the source; small while it is empty.
type Slots = Vec<OnceLock<Box<Sample>>>;

impl Cached {
    /// Remembers samples of `size` x `size` pixels in at most about `bytes` bytes.
    pub fn new(source: Arc<dyn Source>, size: u32, bytes: u64) -> Self {
        let slots = || (0..source.len()).map(|_| OnceLock::new()).collect();
        let (samples, pictures) = (slots(), slots());
        Self { source, size, samples, pictures, bytes_left: AtomicU64::new(bytes) }
    }

    /// What is in the slot, or what `make` makes, which then is in the slot if there is room.
    fn remembered(
        &self,
        slot: &OnceLock<Box<Sample>>,
        make: impl FnOnce() -> Result<Sample, SampleError>,
    ) -> Result<Sample, SampleError> {
        if let Some(sample) = slot.get() {
            return Ok(Sample::clone(sample));
        }
        let sample = make()?;
        let bytes = bytes_of(&sample);
        let take = |left: u64| left.checked_sub(bytes);
        if self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
            && slot.set(Box::new(sample.clone())).is_err()
        {
            // Another thread was faster and has paid for it already.
            self.bytes_left.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(sample)
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
        let make = || self.source.sample(index, size);
        if size == self.size { self.remembered(&self.samples[index as usize], make) } else { make() }
    }

    fn picture(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        let make = || self.source.picture(index, size);
        if size == self.size { self.remembered(&self.pictures[index as usize], make) } else { make() }
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
    use crate::sample::{Light, Picture, Truth};

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

    #[test]
    fn a_picture_is_kept_without_its_truth() {
        struct Known;
        impl Source for Known {
            fn describe(&self) -> String {
                "known".into()
            }
            fn len(&self) -> u64 {
                1
            }
            fn sample(&self, _: u64, size: u32) -> Result<Sample, SampleError> {
                let pixels = (size * size) as usize;
                let light = Light { ambient: 1.0, diffuse: 0.0, direction: [0.0, 0.0, 1.0] };
                let truth = Truth {
                    depth: vec![1.0; pixels],
                    normals: vec![0.0; 3 * pixels],
                    albedo: vec![0.0; 3 * pixels],
                    mask: vec![1; pixels],
                    light,
                    view: [0.0; 6],
                };
                let picture = Picture { width: size, height: size, pixels: vec![7; 3 * pixels] };
                Ok(Sample { name: "0".into(), picture, truth: Some(truth) })
            }
        }
        let cached = Cached::new(Arc::new(Known), 8, u64::MAX);
        for _ in 0..2 {
            let (picture, whole) = (cached.picture(0, 8).unwrap(), cached.sample(0, 8).unwrap());
            assert_eq!((&picture.picture, &picture.truth), (&whole.picture, &None));
            assert!(whole.truth.is_some() && bytes_of(&whole) > 8 * bytes_of(&picture) / 2);
        }
    }
}
