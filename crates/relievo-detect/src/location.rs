//! From a photograph to images framed as models of faces want them.

use clap::ValueEnum;
use relievo_data::Image;
use serde::{Deserialize, Serialize};

use crate::{DetectError, Detector, Face, Frame, MOST_OUTSIDE};

/// Which faces of a photograph count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaceSelection {
    /// Every face
    All,
    /// The largest one
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
    /// Why the crop cannot be used, if so.
    pub fn refusal(&self) -> Option<String> {
        (self.outside > MOST_OUTSIDE)
            .then(|| format!("{:.0} % of the face's crop lie outside the photograph", 100.0 * self.outside))
    }
}

impl Detector {
    /// The faces of a photograph that count, the largest first, each in the frame that `frame` gives it.
    ///
    /// # Errors
    /// As [`Detector::faces`].
    pub fn places(
        &self,
        photograph: &Image,
        which: FaceSelection,
        frame: impl Fn(&Face) -> Frame,
    ) -> Result<Vec<FaceLocation>, DetectError> {
        let mut faces = self.faces(photograph)?;
        if which == FaceSelection::Largest {
            faces.truncate(1);
        }
        let place = |face: Face| {
            let crop = frame(&face);
            let outside = crop.outside(photograph.width, photograph.height);
            FaceLocation { photograph: [photograph.width, photograph.height], face, crop, outside }
        };
        Ok(faces.into_iter().map(place).collect())
    }
}
