//! The perceptual loss: equation 7 of the paper, at one depth of VGG16 or more.

use relievo_nets::FeatureDepth;
use relievo_tensor::ops::{grid_sample, perceptual_loss};
use relievo_tensor::{Error, Tensor};

use super::{Compared, Term};
use crate::model::Model;

/// The error of VGG16's features after relu3_3.
pub(super) fn term(compared: &Compared<'_>) -> Result<Option<Term>, Error> {
    at(compared, FeatureDepth::Relu33, compared.settings.perceptual_weight)
}

/// The error of VGG16's features of both reconstructions at a depth, divided by their confidence where there is such a
/// network: its map for features, which has the size of the deepest, sampled between its pixels for others. The mask is
/// averaged over the place of each feature.
pub(super) fn at(compared: &Compared<'_>, depth: FeatureDepth, weight: f32) -> Result<Option<Term>, Error> {
    let Compared { vgg: Some(vgg), prediction, objective, .. } = *compared else {
        return Ok(None);
    };
    let number = vgg.depths().iter().position(|of| *of == depth);
    let (Some(number), true) = (number, objective.perceptual_factor > 0.0 && weight > 0.0) else {
        return Ok(None);
    };
    let Some(target) = prediction.target.as_ref().and_then(|target| target.get(number)) else {
        return Err(Error::shape("losses", "the prediction has no features of the images to compare with"));
    };
    let features = match compared.features.get() {
        Some(features) => features,
        None => {
            let features = vgg.all_features(&prediction.image)?;
            compared.features.get_or_init(|| features)
        }
    };
    let confidence =
        prediction.confidence.as_ref().map(|(_, map)| resized(compared.model, map, target, depth));
    let confidence = confidence.transpose()?;
    let values =
        perceptual_loss(&features[number], target, &prediction.mask, confidence.as_ref(), compared.groups())?;
    Ok(Some(Term { values, shares: compared.shares(), weight: objective.perceptual_factor * weight }))
}

/// A map `[B,h,w,C]` of S/4 x S/4 in the size of features `[B,H,W,..]`: between the centres of its pixels linear, beyond
/// the outermost ones constant. The places are made once for each model.
fn resized(model: &Model, map: &Tensor, features: &Tensor, depth: FeatureDepth) -> Result<Tensor, Error> {
    let [batch, height, width, _] = map.dims("losses")?;
    let [_, rows, columns, _] = features.dims("losses")?;
    let name = match depth {
        FeatureDepth::Relu12 => "places of relu1_2",
        FeatureDepth::Relu22 => "places of relu2_2",
        FeatureDepth::Relu33 => return Ok(map.clone()),
    };
    let grid = model.constant(name, batch, map.device(), || {
        let grid = places([batch, height, width], [rows, columns]);
        Tensor::new(&grid, [batch, rows, columns, 2]).expect("two numbers for each place")
    })?;
    grid_sample(map, &grid, None)
}

/// Where the centres of fine pixels lie in coarse maps, x and y: from -1, the centre of the first pixel, to 1, that of
/// the last.
fn places([batch, height, width]: [usize; 3], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let place = |at: usize, fine: usize, coarse: usize| {
        let last = (coarse - 1) as f32;
        let at = (at as f32 + 0.5) * coarse as f32 / fine as f32 - 0.5;
        if last > 0.0 { 2.0 * at.clamp(0.0, last) / last - 1.0 } else { 0.0 }
    };
    let all = (0..batch * rows * columns).flat_map(|pixel| {
        let (row, column) = (pixel / columns % rows, pixel % columns);
        [place(column, columns, width), place(row, rows, height)]
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_resized_between_centres() {
        let map = Tensor::new(&[1.0, 3.0, 5.0, 7.0], [1, 2, 2, 1]).unwrap();
        let grid = Tensor::new(&places([1, 2, 2], [4, 4]), [1, 4, 4, 2]).unwrap();
        let resized = grid_sample(&map, &grid, None).unwrap();
        assert_eq!(resized.data()[..4], [1.0, 1.5, 2.5, 3.0]);
        assert_eq!(resized.data()[12..], [5.0, 5.5, 6.5, 7.0]);
    }
}
