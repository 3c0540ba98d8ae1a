//! The errors of the differences between neighbours along rows and columns (after Mathieu et al. 2016, with their signs).

use relievo_tensor::Error;

use super::{Compared, LossKind, Term};

/// The term; the bank is in `filters.rs`.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    compared.of_filters(LossKind::GradientDifference)
}
