//! How vertices learn what would change if they moved: the gradients by name, but Kato's, which is in `resolve`.

mod agreement;
mod antialias;
mod average;
mod drawn;
mod edges;
mod points;
mod soft;

pub use agreement::{Agreement, CheckOptions, check_gradient};
pub(crate) use antialias::antialias;
pub(crate) use edges::{Boundary, DepthOfPixels, PaintedImage, Places, add_boundary_gradients};
pub(crate) use soft::{Softness, soften};

use relievo_tensor::{Error, Result};

/// How vertices learn what would change if they moved.
///
/// | | derivative of | reach | use it |
/// |---|---|---|---|
/// | [`Gradient::Kato`] | nothing: a direction | the whole row and column | from afar, with Adam |
/// | [`Gradient::Edges`] | the exact image | none: what an edge crosses | to finish; line search, second order |
/// | [`Gradient::EdgesSampled`] | the same, with noise | none | large images |
/// | [`Gradient::Antialias`] | its own, antialiased image | a sample | silhouettes of dense meshes |
/// | [`Gradient::Soft`] | its own, blurred image | about 3 sigma, and hidden faces | from afar; where faces must come out from behind others |
///
/// The gradient of depth within a face is exact with all of them. None moves a vertex because a texture would move with it.
/// All of them run on CPUs and GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Gradient {
    /// That of Kato, Ushiku and Harada (CVPR 2018) and their published code: every edge hears all samples of the rows and
    /// columns that it crosses, however far, and follows those that it would make better, by one over the distance. Points
    /// well from afar; it is not the derivative of an image and too long for one: use an optimiser that normalises (Adam).
    #[default]
    Kato,
    /// The boundary integral: the derivative of the image whose pixels are exact means over their area, of which the image
    /// that is made is a sampled version. Edges hear the pixels that they cross and no others: an object that does not
    /// overlap its target is not drawn to it. Alpha, colour and depth.
    Edges {
        /// Points at which an edge is looked at in each pixel that it crosses, 1 or more. One is exact as long as what is
        /// seen on either side does not change within the pixel.
        midpoints: usize,
    },
    /// The boundary integral, estimated at random points of each edge: without bias, with noise. Cheaper where edges are
    /// longer than so many pixels.
    EdgesSampled {
        /// Points on each edge, 1 or more; stratified over its visible part of the image.
        per_edge: usize,
        /// Different seeds give independent estimates: change it from step to step.
        seed: u64,
    },
    /// Changes the image, too: silhouettes are drawn with the share of a sample that they cover, and the gradient is the
    /// exact derivative of that. Reaches one sample, and hears silhouettes only: nothing is heard of edges between two
    /// visible faces. Source: Laine et al. 2020, arXiv 2011.03277. Alpha and colour; depth is drawn as ever.
    Antialias,
    /// Changes the image, too: faces end softly, all of them are seen a little, and the gradient is the exact derivative of
    /// that. Reaches hidden faces and, with a large sigma, far pixels. Source: Liu et al. 2019, arXiv 1904.01786. Alpha and
    /// colour; depth is drawn as ever.
    Soft {
        /// Where silhouettes end, in pixels, above 0: at this distance outside a face covers sigmoid(-1) = 27 %, at three times
        /// it is gone. The published code's sigma is (2 sigma / image size)^2: its 1e-4 is 0.32 pixels of an image of 64,
        /// 1.3 of 256; its 1e-5 is 0.1 and 0.4.
        sigma: f32,
    },
}

impl Gradient {
    /// [`Gradient::Edges`] with one midpoint.
    pub const EDGES: Self = Self::Edges { midpoints: 1 };

    /// Where the boundary integral is evaluated, if this is one.
    pub(crate) fn places(self) -> Option<Places> {
        match self {
            Self::Kato | Self::Antialias | Self::Soft { .. } => None,
            Self::Edges { midpoints } => Some(Places::PerPixel(midpoints)),
            Self::EdgesSampled { per_edge, seed } => Some(Places::Random { per_edge, seed }),
        }
    }

    /// Checks the settings.
    pub(crate) fn check(self) -> Result<()> {
        let wrong = match self {
            Self::Edges { midpoints: 0 } => Some("edges need at least one midpoint".to_owned()),
            Self::EdgesSampled { per_edge: 0, .. } => Some("edges need at least one point each".to_owned()),
            Self::Soft { sigma } if !(sigma > 0.0 && sigma <= 1e6) => {
                Some(format!("sigma must be above 0 and at most a million pixels, not {sigma}"))
            }
            _ => None,
        };
        wrong.map_or(Ok(()), |detail| Err(Error::shape("render", detail)))
    }
}
