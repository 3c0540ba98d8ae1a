//! The smoothness of depth.

use relievo_tensor::Error;
use relievo_tensor::ops::smoothness;

use super::{Compared, Term};

/// The mean absolute slope of the canonical depth, before its border is set, in ranges of depth. Without a weight it is
/// there to be looked at.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, .. } = *compared;
    let (depth, weight) = (&prediction.smooth_depth, settings.smoothness_weight);
    let depth = if weight > 0.0 { depth.clone() } else { depth.detach() };
    let values = smoothness(&depth, settings.max_depth - settings.min_depth)?;
    Ok(Some(Term { values, shares: vec![1.0], weight }))
}
