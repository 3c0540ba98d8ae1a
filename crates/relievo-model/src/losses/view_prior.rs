//! The viewpoint prior.

use relievo_tensor::Error;
use relievo_tensor::ops::{ColumnPrior, column_prior_error};

use super::{Compared, Term};
use crate::settings::Supervision;

/// How far the standard deviations of pitch and yaw over the batch are from those expected, relative to them. Symmetry
/// says nothing about pitch, which is underestimated without a prior. Images whose viewpoint is known do not count.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, .. } = compared;
    let weight = settings.view_prior_weight;
    if weight == 0.0 || settings.supervision == Supervision::Depth {
        return Ok(None);
    }
    let expected = [settings.pitch_prior, settings.yaw_prior].into_iter().enumerate();
    let priors: Vec<ColumnPrior> = expected
        .map(|(column, degrees)| ColumnPrior { column, mean: None, deviation: degrees.to_radians() })
        .collect();
    let values = column_prior_error(&prediction.view, &compared.unknown(&prediction.view)?, &priors)?;
    Ok(Some(Term { values, shares: vec![1.0], weight }))
}
