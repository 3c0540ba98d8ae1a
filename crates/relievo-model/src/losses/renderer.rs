//! The agreement of a learned renderer with the exact one.

use relievo_tensor::Error;
use relievo_tensor::ops::{ConcatAxis, absolute_error, concat};

use super::{Compared, Term};

/// The mean absolute difference between the images of both renderers where the exact one shows a surface. Its gradients
/// reach both: the network learns to render what the model finds, and the model leans towards what the network renders.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, .. } = compared;
    let (Some(learned), weight) = (&prediction.learned_image, settings.renderer_weight.unwrap_or(1.0)) else {
        return Ok(None);
    };
    let (exact, mask) = (&prediction.image, &prediction.mask);
    // Both halves of a mirrored batch share a mask.
    let is_shared = mask.shape()[0] < exact.shape()[0];
    let mask = if is_shared { &concat(mask, mask, ConcatAxis::Batch)? } else { mask };
    let values = absolute_error(learned, exact, mask)?;
    Ok(Some(Term { values, shares: vec![1.0], weight }))
}
