//! From a photograph to images framed as models of faces want them.

use clap::ValueEnum;
use relievo_data::Image;
use serde::{Deserialize, Serialize};

use crate::{DetectError, Detector, Face, Frame, MOST_OUTSIDE};

/// A frame of which more than this share lies outside the photograph shows nothing that could be reconstructed, even if
/// eyes, nose and mouth are within.
const MOST_REPEATED: f32 = 0.5;

/// Least distance of eyes, nose and mouth from the border of a photograph that is tight around the face, in sides of the
/// frame. A face that the border cuts has some of them beyond it, or, by the detector's guess, next to it.
const LEAST_MARGIN: f32 = 0.05;

/// Which faces of a photograph count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaceSelection {
    /// Every face
    All,
    /// The largest one that is not cut by the photograph's border
    Largest,
}

/// A face and where it is cropped to, in pixels of the upright photograph.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FaceLocation {
    /// Columns and rows of the photograph.
    photograph: [u32; 2],
    /// The face.
    #[serde(flatten)]
    pub face: Face,
    /// Where it is cropped to.
    pub crop: Frame,
    /// The share of the crop that lies outside the photograph.
    pub outside: f32,
}

impl FaceLocation {
    /// A face in a photograph of `photograph` columns and rows, and its frame.
    pub(crate) fn new(photograph: [u32; 2], face: Face, crop: Frame) -> Self {
        let outside = crop.outside(photograph[0], photograph[1]);
        Self { photograph, face, crop, outside }
    }

    /// Whether the photograph has enough around the face, so that its crop can be learned from.
    pub(crate) fn is_whole(&self) -> bool {
        self.outside <= MOST_OUTSIDE
    }

    /// Whether eyes, nose and mouth lie within the photograph, so far from its border that they are not guessed.
    fn shows_landmarks(&self) -> bool {
        let margin = LEAST_MARGIN * self.crop.side;
        let [width, height] = self.photograph.map(|extent| extent as f32);
        let is_within = |place: f32, extent: f32| (margin..=extent - margin).contains(&place);
        self.face.landmarks.points().iter().all(|[x, y]| is_within(*x, width) && is_within(*y, height))
    }

    /// Why the crop cannot be used, if so: the photograph's border cuts the face.
    pub fn refusal(&self) -> Option<String> {
        let is_tight = self.outside <= MOST_REPEATED && self.shows_landmarks();
        (!self.is_whole() && !is_tight).then(|| {
            let outside = 100.0 * self.outside;
            format!("the border cuts the face: {outside:.0} % of its crop lie outside the photograph")
        })
    }

    /// What is doubtful about a crop that can be used: that pixels of the border are repeated around a tight image.
    pub fn warning(&self) -> Option<String> {
        (!self.is_whole() && self.refusal().is_none()).then(|| {
            let outside = 100.0 * self.outside;
            format!(
                "the photograph is tight around the face: {outside:.0} % of its crop lie outside and are filled with \
                 pixels of the border"
            )
        })
    }
}

impl Detector {
    /// The faces of a photograph that count, the largest first, each in the frame that `frame` gives it. Those that
    /// cannot be used ([`FaceLocation::refusal`]) are among them: with [`FaceSelection::Largest`], the larger ones
    /// before the largest that can be used, or all if none can.
    ///
    /// # Errors
    /// As [`Detector::faces`].
    pub fn places(
        &self,
        photograph: &Image,
        which: FaceSelection,
        frame: impl Fn(&Face) -> Frame,
    ) -> Result<Vec<FaceLocation>, DetectError> {
        match which {
            FaceSelection::All => Ok(placed(photograph, self.faces(photograph)?, frame)),
            FaceSelection::Largest => {
                self.places_down_to(photograph, frame, |place| place.refusal().is_none())
            }
        }
    }

    /// The faces of a photograph, the largest first, down to the first that `is_wanted`; all if none is.
    pub(crate) fn places_down_to(
        &self,
        photograph: &Image,
        frame: impl Fn(&Face) -> Frame,
        is_wanted: impl Fn(&FaceLocation) -> bool,
    ) -> Result<Vec<FaceLocation>, DetectError> {
        let size = [photograph.width, photograph.height];
        let is_enough = |face: &Face| is_wanted(&FaceLocation::new(size, *face, frame(face)));
        let mut places = placed(photograph, self.search(photograph, is_enough)?, &frame);
        if let Some(wanted) = places.iter().position(&is_wanted) {
            places.truncate(wanted + 1);
            return Ok(places);
        }
        // What was wanted at first sight may not be, once it was looked at with the head turned upright.
        Ok(placed(photograph, self.faces(photograph)?, frame))
    }
}

fn placed(photograph: &Image, faces: Vec<Face>, frame: impl Fn(&Face) -> Frame) -> Vec<FaceLocation> {
    let size = [photograph.width, photograph.height];
    faces.into_iter().map(|face| FaceLocation::new(size, face, frame(&face))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Area, Landmarks};

    /// A face whose frame is a square of side 100 around (`x`, 100), in a photograph of 300 x 200.
    fn place(x: f32) -> FaceLocation {
        let points = [[-18.0, -18.0], [18.0, -18.0], [0.0, 0.0], [-12.0, 18.0], [12.0, 18.0]];
        let landmarks = Landmarks::from_points(points.map(|[right, down]| [x + right, 100.0 + down]));
        let area = Area { left: x - 40.0, top: 50.0, right: x + 40.0, bottom: 150.0 };
        let crop = Frame { centre: [x, 100.0], side: 100.0, turned_degrees: 0.0 };
        FaceLocation::new([300, 200], Face { area, score: 1.0, landmarks }, crop)
    }

    #[test]
    fn tight_images_can_be_used_and_cut_faces_cannot() {
        let whole = place(45.0);
        assert!(whole.is_whole() && whole.refusal().is_none() && whole.warning().is_none());
        let tight = place(24.0);
        assert!(!tight.is_whole() && tight.refusal().is_none());
        assert!(tight.warning().unwrap().contains("26 % of its crop"), "{:?}", tight.warning());
        let cut = place(10.0);
        assert!(cut.refusal().unwrap().contains("the border cuts the face: 40 %") && cut.warning().is_none());
    }
}
