//! The perceptual loss: equation 7 of the paper.

use relievo_tensor::Error;
use relievo_tensor::ops::perceptual_loss;

use super::{Compared, Term};

/// The error of VGG16's features of both reconstructions, divided by their confidence where there is such a network.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, vgg: Some(vgg), prediction, objective, .. } = *compared else {
        return Ok(None);
    };
    if objective.perceptual_factor == 0.0 {
        return Ok(None);
    }
    let Some(target) = &prediction.target else {
        return Err(Error::shape("losses", "the prediction has no features of the images to compare with"));
    };
    let confidence = prediction.confidence.as_ref().map(|(_, features)| features);
    let features = vgg.features(&prediction.image)?;
    let values = perceptual_loss(&features, target, &prediction.mask, confidence, compared.groups())?;
    let weight = objective.perceptual_factor * settings.perceptual_weight;
    Ok(Some(Term { values, shares: compared.shares(), weight }))
}
