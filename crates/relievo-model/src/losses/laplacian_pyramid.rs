//! Multi-scale L1: the errors of the bands of a Laplacian pyramid (Burt and Adelson 1983; as a loss Bojanowski et al.
//! 2018), as differences of Gaussians at full size, so that it does not matter where a pixel lies in a coarser grid.

use relievo_tensor::Error;

use super::{Compared, LossKind, Term};

/// The term; the bank is in `filters.rs`.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    compared.of_filters(LossKind::LaplacianPyramid)
}
