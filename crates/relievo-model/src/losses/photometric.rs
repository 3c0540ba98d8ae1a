//! The photometric loss: equation 3 of the paper.

use relievo_tensor::Error;
use relievo_tensor::ops::photometric_loss;

use super::{Compared, Term};
use crate::settings::Supervision;

/// The error of both reconstructions, divided by their confidence where there is such a network. A model that learns
/// from depth reconstructs nothing.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, images, prediction, .. } = *compared;
    let weight = settings.photometric_weight();
    if settings.supervision == Supervision::Depth || weight == 0.0 {
        return Ok(None);
    }
    let confidence = prediction.confidence.as_ref().map(|(pixels, _)| pixels);
    let values =
        photometric_loss(&prediction.image, images, &prediction.mask, confidence, compared.groups())?;
    Ok(Some(Term { values, shares: compared.shares(), weight }))
}
