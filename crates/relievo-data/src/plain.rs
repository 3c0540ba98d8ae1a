//! A source for tests.

use crate::sample::{Image, Sample, SampleError, Source};

/// So many images of one colour.
pub struct Plain(pub u64, pub u8);

impl Source for Plain {
    fn describe(&self) -> String {
        format!("{} of {}", self.0, self.1)
    }
    fn len(&self) -> u64 {
        self.0
    }
    fn name(&self, index: u64) -> String {
        format!("{}-{index}", self.1)
    }
    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        let image = Image { width: size, height: size, pixels: vec![self.1; (size * size * 3) as usize] };
        Ok(Sample { name: self.name(index), image, truth: None, points: None })
    }
}
