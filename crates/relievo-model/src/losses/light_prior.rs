//! The light prior.

use relievo_tensor::Error;
use relievo_tensor::ops::{ColumnPrior, column_prior_error};

use super::{Compared, Term};
use crate::settings::{LightModel, Supervision};

/// The column of a light that holds the sine of its elevation: the direction's y.
const ELEVATION: usize = 3;

/// How far mean and standard deviation of the sine of the light's elevation over the batch are from those expected, in
/// units of the latter. Images whose light is known do not count, and a shading map has no light.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, .. } = compared;
    let weight = settings.light_prior_weight;
    let has_light = settings.supervision == Supervision::None && settings.light == LightModel::Lambert;
    if weight == 0.0 || !has_light {
        return Ok(None);
    }
    let (mean, deviation) = (Some(settings.elevation_prior_mean), settings.elevation_prior);
    let prior = ColumnPrior { column: ELEVATION, mean, deviation };
    let values = column_prior_error(&prediction.light, &compared.unknown(&prediction.light)?, &[prior])?;
    Ok(Some(Term { values, shares: vec![1.0], weight }))
}
