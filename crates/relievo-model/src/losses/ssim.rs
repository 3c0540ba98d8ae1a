//! Structural similarity (Wang et al. 2004).

use relievo_tensor::Error;

use super::{Compared, LossKind, Term};

/// The window of the paper, a standard deviation in pixels.
const WINDOW: [f32; 1] = [1.5];

/// One minus the similarity.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    compared.of_structure(LossKind::Ssim, &WINDOW)
}
