//! A source of crops with the points of their faces.

use std::sync::{Arc, OnceLock};

use relievo_data::{FacePoints, Sample, SampleError, Source};

use crate::detector::{DetectError, Detector};

/// The side at which crops are looked at, in pixels: a face that fills one is then of a size at which the network's
/// points are exact.
const SIDE: u32 = 192;

/// A source whose images have the five points of the largest face that the detector finds. It looks at each image once,
/// when it is first asked for; images without a face have no points.
pub struct WithPoints {
    source: Arc<dyn Source>,
    detector: Detector,
    found: Vec<OnceLock<Option<FacePoints>>>,
}

impl WithPoints {
    /// The same images with points.
    ///
    /// # Errors
    /// If the detector's weights are damaged.
    pub fn new(source: Arc<dyn Source>) -> Result<Self, DetectError> {
        let found = (0..source.len()).map(|_| OnceLock::new()).collect();
        Ok(Self { source, detector: Detector::new()?, found })
    }

    fn look(&self, index: u64) -> Result<Option<FacePoints>, SampleError> {
        let Sample { image, name, .. } = self.source.sample(index, SIDE)?;
        let faces =
            self.detector.faces(&image).map_err(|error| SampleError { name, reason: error.to_string() })?;
        let middle = (SIDE as f32 - 1.0) / 2.0;
        // A detector's pixel begins half a pixel before its centre.
        let place = |at: f32| (at - 0.5) / middle - 1.0;
        Ok(faces.first().map(|face| FacePoints(face.landmarks.points().map(|point| point.map(place)))))
    }
}

impl Source for WithPoints {
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
        let slot = &self.found[index as usize];
        let points = match slot.get() {
            Some(points) => *points,
            // Two threads may look at once; they find the same.
            None => {
                let points = self.look(index)?;
                *slot.get_or_init(|| points)
            }
        };
        Ok(Sample { points, ..self.source.sample(index, size)? })
    }
}

#[cfg(test)]
mod tests {
    use relievo_data::Image;
    use relievo_synth::Heads;

    use super::*;

    #[test]
    fn points_of_heads_lie_where_faces_have_them() {
        let heads: Arc<dyn Source> = Arc::new(Heads::range(5, 0, 6));
        let with_points = WithPoints::new(Arc::clone(&heads)).unwrap();
        assert_eq!((with_points.len(), with_points.describe()), (6, heads.describe()));
        let mut found = 0;
        for index in 0..6 {
            let sample = with_points.sample(index, 64).unwrap();
            assert_eq!(sample.image, heads.sample(index, 64).unwrap().image);
            // Sizes do not matter, and neither does asking again.
            assert_eq!(with_points.sample(index, 96).unwrap().points, sample.points);
            let Some(FacePoints([right_eye, left_eye, nose, right_mouth, left_mouth])) = sample.points else {
                continue;
            };
            found += 1;
            assert!(right_eye[0] < left_eye[0] && right_mouth[0] < left_mouth[0]);
            assert!(right_eye[1] < nose[1] && nose[1] < right_mouth[1]);
            // Framing puts the middle between eyes and mouth near that of the crop.
            assert!(nose.iter().all(|place| place.abs() < 0.35), "{nose:?}");
        }
        assert!(found >= 5, "{found} of 6 heads");
    }

    #[test]
    fn an_image_without_a_face_has_no_points() {
        struct Grey;
        impl Source for Grey {
            fn describe(&self) -> String {
                "grey".into()
            }
            fn len(&self) -> u64 {
                1
            }
            fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
                let image =
                    Image { width: size, height: size, pixels: vec![128; (size * size * 3) as usize] };
                Ok(Sample { name: self.name(index), image, truth: None, points: None })
            }
        }
        assert_eq!(WithPoints::new(Arc::new(Grey)).unwrap().sample(0, 64).unwrap().points, None);
    }
}
