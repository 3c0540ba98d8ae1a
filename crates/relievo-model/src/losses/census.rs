//! The soft census distance (Zabih and Woodfill 1994; Meister, Hur and Roth 2018).

use relievo_tensor::Error;
use relievo_tensor::ops::census_errors;

use super::errors::Errors;
use super::{Compared, LossKind, Term};

/// About the standard deviation of places in the 7x7 that are compared, in pixels.
const WINDOW: f32 = 2.0;

/// The distance of the order of neighbours by brightness; neighbours beyond the mask do not count.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    if compared.listed(LossKind::Census) == 0.0 {
        return Ok(None);
    }
    let Compared { prediction, images, .. } = *compared;
    let values = census_errors(&prediction.image, images, &prediction.mask)?;
    compared.likelihood(LossKind::Census, &[Errors { values, scale: WINDOW, share: 1.0 }])
}
