//! From a photograph to pictures framed as models of faces want them.

use clap::ValueEnum;
use relievo_data::Picture;
use relievo_detect::{Detector, Face, Frame, MOST_OUTSIDE};
use serde::{Deserialize, Serialize};

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
    #[serde(flatten)]
    pub face: Face,
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

/// The faces that count, the largest first, each in its frame.
pub fn find(
    detector: &Detector,
    photograph: &Picture,
    which: Which,
    frame: impl Fn(&Face) -> Frame,
) -> anyhow::Result<Vec<Place>> {
    let mut faces = detector.faces(photograph)?;
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
