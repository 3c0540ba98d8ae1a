//! What no surface covers.

use relievo_render::uncovered;
use relievo_tensor::Error;
use relievo_tensor::ops::weighted_elements_sum;

use super::{Compared, Term};
use crate::settings::Supervision;

/// How much of the image the viewpoints leave without surface, the mean over the images ([`uncovered`]). The other losses
/// are means over the pixels that are covered: without this, a viewpoint that moves the surface out of the image has the
/// least error.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, .. } = compared;
    let weight = settings.coverage_weight;
    if weight == 0.0 || settings.supervision == Supervision::Depth {
        return Ok(None);
    }
    let each = uncovered(&prediction.view, settings.camera())?;
    let count = each.numel();
    let values = weighted_elements_sum(&each, &vec![1.0 / count as f32; count])?;
    Ok(Some(Term { values, shares: vec![1.0], weight }))
}
