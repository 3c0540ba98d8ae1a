//! The perceptual loss after relu2_2.

use relievo_nets::FeatureDepth;
use relievo_tensor::Error;

use super::{Compared, LossKind, Term, perceptual};

/// The error of VGG16's features after relu2_2.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    perceptual::at(compared, FeatureDepth::Relu22, compared.listed(LossKind::VggRelu22))
}
