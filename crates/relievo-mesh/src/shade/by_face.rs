//! The samples of an image, sorted by the face that they show.

use crate::raster::Covered;

/// For every visible face the samples that show it, in the order of the raster. Sums over them need no locks and do not
/// depend on the number of threads.
pub(crate) struct SamplesByFace {
    /// Numbers of the visible faces, ascending, and where their samples begin.
    faces: Vec<(u32, u32)>,
    samples: Vec<u32>,
}

impl SamplesByFace {
    pub fn new(image: &Covered<'_>) -> Self {
        let mut counts = vec![0u32; image.geometry.numbers()];
        for number in image.numbers.iter().filter(|number| **number >= 0.0) {
            counts[*number as usize] += 1;
        }
        let (mut faces, mut start) = (Vec::new(), 0);
        for (number, count) in counts.iter_mut().enumerate() {
            if *count > 0 {
                faces.push((number as u32, start));
                start += std::mem::replace(count, start);
            }
        }
        let mut samples = vec![0; start as usize];
        for (sample, number) in image.numbers.iter().enumerate() {
            if *number >= 0.0 {
                let next = &mut counts[*number as usize];
                samples[*next as usize] = sample as u32;
                *next += 1;
            }
        }
        Self { faces, samples }
    }

    /// Each visible face with its samples.
    pub fn faces(&self) -> Vec<(u32, &[u32])> {
        let ends = self.faces.iter().skip(1).map(|(_, start)| *start as usize).chain([self.samples.len()]);
        self.faces
            .iter()
            .zip(ends)
            .map(|((number, start), end)| (*number, &self.samples[*start as usize..end]))
            .collect()
    }
}
