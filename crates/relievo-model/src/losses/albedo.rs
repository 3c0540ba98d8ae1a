//! The slopes of the albedo: Ho et al. 2021, section 3.3.

use relievo_tensor::Error;
use relievo_tensor::ops::{albedo_loss, concat_flipped};

use super::{Compared, Term};

/// The weighted slopes of the albedo in the view of the image, where the image is even, of both halves.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, images, prediction, .. } = *compared;
    let Some(albedo) = &prediction.seen_albedo else { return Ok(None) };
    let is_shared = prediction.mask.numel() < prediction.depth.numel();
    let mask = if is_shared { concat_flipped(&prediction.mask, false)? } else { prediction.mask.clone() };
    let values = albedo_loss(albedo, &prediction.depth, &mask, images, compared.groups())?;
    Ok(Some(Term { values, shares: compared.shares(), weight: settings.albedo_weight }))
}
