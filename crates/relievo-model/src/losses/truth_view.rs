//! The error of the viewpoint where the truth is known.

use relievo_tensor::Error;
use relievo_tensor::ops::mul_columns;

use super::{Compared, Term, Visible, rows_error};

/// The mean absolute error of the viewpoint's six numbers, each in the model's range of it. What the model cannot
/// express, a translation along z for instance, does not count.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, visible: Some(Visible { truth, .. }), .. } = compared else {
        return Ok(None);
    };
    let of_range = settings.view_ranges().map(|range| if range > 0.0 { 1.0 / range } else { 0.0 });
    let [found, right] = [&prediction.view, &truth.view].map(|view| mul_columns(view, &of_range));
    let values = rows_error(&found?, &right?, &truth.known)?;
    Ok(Some(Term { values, shares: vec![1.0], weight: settings.truth_weight * settings.truth_view_weight }))
}
