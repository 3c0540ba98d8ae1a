//! Structural similarity at several scales, as a loss of pixels (Zhao et al. 2017).

use relievo_tensor::Error;

use super::{Compared, LossKind, Term};

/// The windows of the paper, standard deviations in pixels.
const WINDOWS: [f32; 5] = [0.5, 1.0, 2.0, 4.0, 8.0];

/// One minus the similarity.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    compared.of_structure(LossKind::MsSsim, &WINDOWS)
}
