//! The perceptual loss after relu1_2.

use relievo_nets::FeatureDepth;
use relievo_tensor::Error;

use super::{Compared, LossKind, Term, perceptual};

/// The error of VGG16's features after relu1_2.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    perceptual::at(compared, FeatureDepth::Relu12, compared.listed(LossKind::VggRelu12))
}
