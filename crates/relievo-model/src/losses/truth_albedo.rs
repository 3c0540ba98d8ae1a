//! The error of albedo where the truth is known.

use relievo_tensor::Error;
use relievo_tensor::ops::{grid_sample, photometric_loss, weighted_elements_sum};

use super::{Compared, Term, Visible};

/// The mean absolute error of the albedo in [-1,1], in the input view: there the truth is known for every visible pixel,
/// while a canonical one would have holes and be resampled by a viewpoint that is itself only predicted. The places at which
/// albedo is sampled have no gradient: depth and viewpoint learn from their own truth, not from where colours change.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, visible: Some(Visible { truth, mask }), .. } = compared else {
        return Ok(None);
    };
    let Some(grid) = &prediction.grid else {
        return Err(Error::shape("losses", "the prediction does not say where the input view is sampled"));
    };
    let albedo = grid_sample(&prediction.albedo, &grid.detach(), None)?;
    // The mirrored half is another albedo than the true one.
    let both = photometric_loss(&albedo, &truth.albedo, mask, None, 1)?;
    let values = weighted_elements_sum(&both, &[1.0, 0.0])?;
    Ok(Some(Term { values, shares: vec![1.0], weight: settings.truth_weight * settings.truth_albedo_weight }))
}
