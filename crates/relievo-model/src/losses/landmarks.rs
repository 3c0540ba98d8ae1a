//! The geometry of faces, from five points that a detector found in the image.

use relievo_tensor::Error;
use relievo_tensor::ops::{face_geometry, grid_sample, narrow_batch, reshape};

use super::{Compared, Term};

/// How far the points are from the geometry of a face, where the canonical view has them: the reconstruction samples the
/// canonical image at [`Prediction::grid`](crate::Prediction::grid), so a point of the image lies where that leads. Depth
/// and viewpoint learn from it.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    let Compared { settings, prediction, objective, .. } = *compared;
    let (Some(truth), Some(grid)) = (objective.truth, prediction.grid.as_ref()) else { return Ok(None) };
    let weight = settings.landmark_weight.unwrap_or(0.0);
    if weight == 0.0 {
        return Ok(None);
    }
    let [images, size, ..] = compared.images.dims::<4>("landmarks")?;
    // As seen, not mirrored: there depth is the object's own.
    let grid = narrow_batch(grid, 0, images)?;
    let depth = narrow_batch(&prediction.canonical_depth, 0, images)?;
    let places = grid_sample(&grid, &reshape(&truth.points, [images, 5, 1, 2])?, None)?;
    let depths = grid_sample(&reshape(&depth, [images, size, size, 1])?, &places, None)?;
    let (places, depths) = (reshape(&places, [images, 5, 2])?, reshape(&depths, [images, 5])?);
    let values = face_geometry(&places, &depths, &truth.faces, settings.max_depth - settings.min_depth)?;
    Ok(Some(Term { values, shares: vec![1.0], weight }))
}
