//! The error of the light where the truth is known.

use relievo_tensor::Error;

use super::{Compared, Term, Visible, rows_error};
use crate::settings::LightModel;

/// The mean absolute error of the light's five numbers: ambient, diffuse, direction. A shading map has no light.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, visible: Some(Visible { truth, .. }), .. } = compared else {
        return Ok(None);
    };
    if settings.light == LightModel::ShadingMap {
        return Ok(None);
    }
    let values = rows_error(&prediction.light, &truth.light, &truth.known)?;
    Ok(Some(Term { values, shares: vec![1.0], weight: settings.truth_weight * settings.truth_light_weight }))
}
