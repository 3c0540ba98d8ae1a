//! The error of depth where it is known.

use relievo_tensor::Error;
use relievo_tensor::ops::{absolute_error, reshape, weighted_sum};

use super::{Compared, Term};
use crate::settings::Supervision;

/// The mean absolute error of the depth in the view of the image, over the truth's mask, in ranges of depth.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, objective, .. } = compared;
    let Some(truth) = objective.truth.filter(|_| settings.supervision == Supervision::Depth) else {
        return Ok(None);
    };
    let [batch, height, width] = prediction.depth.dims("depth loss")?;
    let as_image = |map| reshape(map, [batch, height, width, 1]);
    let error = absolute_error(&as_image(&prediction.depth)?, &as_image(&truth.depth)?, &truth.mask)?;
    let values = weighted_sum(&[(1.0 / (settings.max_depth - settings.min_depth), &error)])?;
    Ok(Some(Term { values, shares: vec![1.0], weight: 1.0 }))
}
