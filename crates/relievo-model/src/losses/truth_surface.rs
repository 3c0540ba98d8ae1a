//! The errors of depth and normals where the truth is known.

use relievo_render::surface_error;
use relievo_tensor::Error;

use super::{Compared, Term, Visible};

/// SIDE in ranges of the logarithm of depth, and MAD in radians, both in the input view. Depth is compared up to scale,
/// because a crop does not show how far away its object is.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, visible: Some(Visible { truth, mask }), .. } = compared else {
        return Ok(None);
    };
    let values = surface_error(&prediction.depth, &truth.depth, mask, settings.camera())?;
    let range = (settings.max_depth / settings.min_depth).ln();
    let shares = vec![settings.truth_depth_weight / range, settings.truth_normals_weight];
    Ok(Some(Term { values, shares, weight: settings.truth_weight }))
}
