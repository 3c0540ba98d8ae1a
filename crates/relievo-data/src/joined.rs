//! Several sources as one.

use std::sync::Arc;

use crate::sample::{Sample, SampleError, Source};

/// The images of several sources, one source after the other.
pub(crate) struct Joined(Vec<Arc<dyn Source>>);

impl Joined {
    /// Joins sources in this order.
    pub fn new(sources: Vec<Arc<dyn Source>>) -> Self {
        Self(sources)
    }

    /// The source that image `index` is from, and its number there.
    ///
    /// # Panics
    /// If `index` is out of range.
    fn place(&self, index: u64) -> (&dyn Source, u64) {
        let mut left = index;
        for source in &self.0 {
            match left.checked_sub(source.len()) {
                None => return (&**source, left),
                Some(beyond) => left = beyond,
            }
        }
        panic!("image {index} of {}", self.len())
    }
}

impl Source for Joined {
    fn describe(&self) -> String {
        let each: Vec<String> = self.0.iter().map(|source| source.describe()).collect();
        format!("{} images ({})", self.len(), each.join(", "))
    }

    fn warnings(&self) -> Vec<String> {
        self.0.iter().flat_map(|source| source.warnings()).collect()
    }

    fn len(&self) -> u64 {
        self.0.iter().map(|source| source.len()).sum()
    }

    fn name(&self, index: u64) -> String {
        let (source, index) = self.place(index);
        source.name(index)
    }

    fn object(&self, index: u64) -> Option<String> {
        let (source, index) = self.place(index);
        source.object(index)
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        let (source, index) = self.place(index);
        source.sample(index, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::Plain;

    #[test]
    fn every_image_of_every_source_is_there_once() {
        let joined = Joined::new(vec![Arc::new(Plain(2, 7)), Arc::new(Plain(0, 8)), Arc::new(Plain(3, 9))]);
        assert_eq!(joined.describe(), "5 images (2 of 7, 0 of 8, 3 of 9)");
        let names: Vec<String> = (0..5).map(|index| joined.name(index)).collect();
        assert_eq!(names, ["7-0", "7-1", "9-0", "9-1", "9-2"]);
        for (index, name) in (0..).zip(&names) {
            let sample = joined.sample(index, 2).unwrap();
            assert_eq!((&sample.name, sample.image.pixels[0]), (name, if index < 2 { 7 } else { 9 }));
        }
    }
}
