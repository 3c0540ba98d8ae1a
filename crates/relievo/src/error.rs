//! What can go wrong, as data. Advice for a command line stands in the command line.

use std::io;
use std::path::PathBuf;

use relievo_data::SampleError;
use relievo_detect::DetectError;
use relievo_detect::router::RouterError;
use relievo_files::WriteError;
use relievo_model::{ModelError, WeightsError};

use crate::relief::ReliefOptions;
use crate::weights::Category;

/// Why there is no reconstruction, or why it could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image that cannot be read or decoded.
    #[error(transparent)]
    Image(#[from] SampleError),
    /// The photograph shows no face that the detector finds.
    #[error("no face found")]
    NoFace,
    /// The image shows nothing that the weights of this program, or the user's own, are of.
    #[error("nothing that these weights know{}", nearest_text(.nearest.as_ref()))]
    NothingKnown {
        /// What it resembles most: a category, and how sure the router is, in \[0,1\].
        nearest: Option<(String, f32)>,
    },
    /// Of several images of one object, one shows something of another category than the first.
    #[error("it shows another category than the first image")]
    OtherCategory,
    /// The router is damaged, or a category does not fit it.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// Too much of every face lies outside the photograph.
    #[error("{:.0} % of the face's crop lie outside the photograph", 100.0 * outside)]
    FaceCutOff {
        /// The share of the largest face's crop that lies outside, in \[0,1\].
        outside: f32,
    },
    /// Faces are to be looked for, but the model is of something else.
    #[error("{origin} is a model of {category}, and only human faces can be found in an image")]
    NoDetector {
        /// Where the weights came from.
        origin: String,
        /// What they are of.
        category: Category,
    },
    /// Weights that this build of the library does not carry.
    #[error("the weights {name} are not in this program: it was built without the feature `{feature}`")]
    NotEmbedded {
        /// The name asked for.
        name: &'static str,
        /// The feature of this crate that embeds them.
        feature: &'static str,
    },
    /// A weights file that cannot be read.
    #[error("cannot read the weights {}: {source}", .path.display())]
    UnreadableWeights {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A weights file that holds no model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The system has too little memory for the networks.
    #[error("there is too little memory for the networks: they need {} MiB", needed >> 20)]
    OutOfMemory {
        /// What they need, in bytes.
        needed: u64,
    },
    /// The model or the device failed; [`ModelError::is_out_of_memory`] says whether memory was the reason.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The face detector failed.
    #[error(transparent)]
    Detector(#[from] DetectError),
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The networks gave numbers that are not finite: the weights are damaged, or their training diverged.
    #[error("the model's output is not finite; its weights are damaged, or its training went wrong")]
    NotFinite,
    /// Measures that no relief can have.
    #[error(
        "a relief of width {}, depth {}, base {} and resolution {} mm with a compression of {} is impossible: lengths are \
         0.01 to 10,000 mm, and the compression is 0 to 1,000",
        .0.width, .0.depth, .0.base, .0.resolution, .0.compression
    )]
    Relief(ReliefOptions),
    /// The depth makes no surface to cut a mesh out of.
    #[error("the depth makes no surface")]
    NoSurface,
}

/// What an image resembles most, as the end of a sentence.
fn nearest_text(nearest: Option<&(String, f32)>) -> String {
    nearest.map_or(String::new(), |(category, certainty)| format!("; nearest: {category}, {certainty:.2}"))
}

impl From<relievo_tensor::Error> for Error {
    fn from(error: relievo_tensor::Error) -> Self {
        Self::Model(error.into())
    }
}

impl Error {
    /// Whether memory was the reason; a smaller batch or another device may do.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::OutOfMemory { .. } | Self::Detector(DetectError::OutOfMemory(_)) => true,
            Self::Model(error) => error.is_out_of_memory(),
            _ => false,
        }
    }
}
