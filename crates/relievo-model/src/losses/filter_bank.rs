//! Errors as a bank of filters sees them: the mean over the bank of `|f * (reconstruction - image)|`.

use relievo_tensor::Error;

use super::{Compared, LossKind, Term};

/// The term; the bank is in `filters.rs`.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    compared.of_filters(LossKind::FilterBank)
}
