//! From a photograph to pictures framed as models of faces want them.

use clap::ValueEnum;
use relievo_data::Picture;
use serde::{Deserialize, Serialize};

use crate::{DetectError, Detector, Face, Frame, MOST_OUTSIDE};

/// Which faces of a photograph count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// Every face
    All,
    /// The largest one
    Largest,
}

/// A face and where it is cropped to, in pixels of the upright photograph.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
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

impl Place {
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
        photograph: &Picture,
        which: Which,
        frame: impl Fn(&Face) -> Frame,
    ) -> Result<Vec<Place>, DetectError> {
        let mut faces = self.faces(photograph)?;
        if which == Which::Largest {
            faces.truncate(1);
        }
        let place = |face: Face| {
            let crop = frame(&face);
            let outside = crop.outside(photograph.width, photograph.height);
            Place { photograph: [photograph.width, photograph.height], face, crop, outside }
        };
        Ok(faces.into_iter().map(place).collect())
    }
}
