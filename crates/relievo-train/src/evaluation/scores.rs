//! Errors of depth maps, image by image and over images.

use rayon::prelude::*;
use relievo_data::{Batch, Truth};
use relievo_model::continued_depth;
use relievo_render::{Camera, normals};
use relievo_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::EvaluationError;
use crate::metrics::{
    Statistic, both, depth_correlation, erode, mean_angle_deviation, scale_invariant_error,
};

/// The model beside the baselines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// The model's depth.
    pub model: Scores,
    /// A plane that faces the camera, with the normal (0,0,1); its distance makes no difference.
    pub constant_depth: Scores,
    /// The mean depth map of true heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_depth: Option<Scores>,
}

/// Errors of depth maps, over images.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scores {
    /// Scale-invariant depth error (SIDE).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth_error: Option<Statistic>,
    /// Mean angle deviation of the normals (MAD) in degrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normal_error: Option<Statistic>,
    /// Correlation of depth; a constant has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Statistic>,
    /// Share of the images whose depth correlates positively: the nose is nearer than the cheeks, not inverted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right_way_round: Option<f64>,
}

/// The foreground of the truth, eroded.
pub(super) fn foreground(truth: &Truth, size: usize) -> Vec<bool> {
    let foreground: Vec<bool> = truth.mask.iter().map(|foreground| *foreground != 0).collect();
    erode(&foreground, size)
}

/// Depth `[B,S,S]` and its normals `[B,S,S,3]`.
pub(super) struct Surface {
    depth: Tensor,
    normals: Tensor,
}

impl Surface {
    /// The surface of a depth map `[S,S]`.
    pub fn new(depth: &[f32], camera: Camera) -> Result<Self, EvaluationError> {
        let depth = Tensor::new(depth, [1, camera.size, camera.size])?;
        Ok(Self { normals: normals(&depth, camera)?, depth })
    }

    /// A plane that faces the camera.
    pub fn constant(camera: Camera) -> Result<Self, EvaluationError> {
        Self::new(&vec![1.0; camera.size * camera.size], camera)
    }

    /// Depth and normals of one image.
    pub fn image(&self, number: usize, pixels: usize) -> (&[f32], &[f32]) {
        let at = number * pixels;
        (&self.depth.data()[at..at + pixels], &self.normals.data()[3 * at..3 * (at + pixels)])
    }
}

/// The errors of single images for one mask.
#[derive(Default)]
pub(super) struct Collected {
    model: Errors,
    constant: Errors,
    mean: Errors,
}

#[derive(Default)]
pub(super) struct Errors {
    depth: Vec<f64>,
    normal: Vec<f64>,
    correlation: Vec<f64>,
}

impl Collected {
    pub fn comparison(&self, with_mean: bool) -> Option<Comparison> {
        (!self.constant.depth.is_empty()).then(|| Comparison {
            model: self.model.scores(),
            constant_depth: self.constant.scores(),
            mean_depth: with_mean.then(|| self.mean.scores()),
        })
    }
}

/// The errors of one depth map; none where the mask is empty.
pub(super) struct ImageErrors {
    depth: Option<f64>,
    normal: Option<f64>,
    correlation: Option<f64>,
}

impl ImageErrors {
    pub fn new((depth, normals): (&[f32], &[f32]), truth: (&[f32], &[f32]), mask: &[bool]) -> Self {
        Self {
            depth: scale_invariant_error(depth, truth.0, mask),
            normal: mean_angle_deviation(normals, truth.1, mask),
            correlation: depth_correlation(depth, truth.0, mask),
        }
    }
}

impl Errors {
    pub fn collect(&mut self, errors: Option<ImageErrors>) {
        if let Some(ImageErrors { depth, normal, correlation }) = errors {
            self.depth.extend(depth);
            self.normal.extend(normal);
            self.correlation.extend(correlation);
        }
    }

    pub fn scores(&self) -> Scores {
        let right = self.correlation.iter().filter(|correlation| **correlation > 0.0).count();
        let right_way_round = right as f64 / self.correlation.len().max(1) as f64;
        Scores {
            depth_error: Statistic::from_numbers(&self.depth),
            normal_error: Statistic::from_numbers(&self.normal),
            correlation: Statistic::from_numbers(&self.correlation),
            right_way_round: (!self.correlation.is_empty()).then_some(right_way_round),
        }
    }
}

/// A mean in the making.
#[derive(Default)]
pub(super) struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    pub fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// Adds the absolute differences of colours `[B,S,S,3]` where the mask `[B,S,S]` is.
pub(super) fn add_differences(mean: &mut Mean, found: &Tensor, truth: &Tensor, mask: &Tensor) {
    let pixels = found.data().chunks_exact(3).zip(truth.data().chunks_exact(3));
    for ((found, truth), seen) in pixels.zip(mask.data()) {
        let difference: f64 =
            found.iter().zip(truth).map(|(found, truth)| f64::from((found - truth).abs())).sum();
        mean.sum += f64::from(*seen) * difference;
        mean.weight += f64::from(*seen) * 3.0;
    }
}

/// The errors of one image: of the model, of a constant depth, of the mean depth if there is one.
type OfImage = [Option<ImageErrors>; 3];

/// Scores depth `[B,S,S]` and mask `[B,S,S]` as predicted: images side by side, put together in their order.
pub(super) fn score_batch(
    batch: &Batch,
    [depth, mask]: &[Tensor; 2],
    camera: Camera,
    constant: &Surface,
    mean: Option<&Surface>,
    collected: [&mut Collected; 2],
    uncovered: &mut Mean,
) -> Result<(), EvaluationError> {
    let pixels = camera.size * camera.size;
    let depth = continued_depth(depth, mask)?;
    let predicted = Surface { normals: normals(&depth, camera)?, depth };
    let known =
        batch.truths.par_iter().enumerate().filter_map(|(number, truth)| Some((number, truth.as_ref()?)));
    let scored = known.map(|(number, truth)| {
        let foreground = foreground(truth, camera.size);
        let truth = Surface::new(&truth.depth, camera)?;
        let truth = truth.image(0, pixels);
        let seen = &mask.data()[number * pixels..(number + 1) * pixels];
        let seen: Vec<bool> = seen.iter().map(|covered| *covered > 0.5).collect();
        let missed = foreground.iter().zip(&seen).filter(|(is_there, seen)| **is_there && !**seen).count();
        let there = foreground.iter().filter(|is_there| **is_there).count();
        let visible = both(&foreground, &erode(&seen, camera.size));
        let errors = [&visible, &foreground].map(|mask| -> OfImage {
            let of = |surface: (&[f32], &[f32])| Some(ImageErrors::new(surface, truth, mask));
            let mean = mean.and_then(|mean| of(mean.image(0, pixels)));
            [of(predicted.image(number, pixels)), of(constant.image(0, pixels)), mean]
        });
        Ok((errors, [missed, there]))
    });
    let [visible, whole] = collected;
    for (errors, [missed, there]) in scored.collect::<Result<Vec<_>, EvaluationError>>()? {
        uncovered.sum += missed as f64;
        uncovered.weight += there as f64;
        for (collected, errors) in [&mut *visible, &mut *whole].into_iter().zip(errors) {
            let [model, constant, mean] = errors;
            collected.model.collect(model);
            collected.constant.collect(constant);
            collected.mean.collect(mean);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{loader, tests::heads};

    /// The scores of a depth that is seen everywhere.
    fn scores_of(depth: impl Fn(f32) -> f32) -> (Comparison, Comparison) {
        let (visible, whole, uncovered) = scored(depth, &Tensor::full([3, 64, 64], 1.0));
        assert_eq!(uncovered, 0.0);
        (visible, whole)
    }

    /// Scores as if the model had predicted `depth(truth)` and had seen the object where the mask is.
    fn scored(depth: impl Fn(f32) -> f32, mask: &Tensor) -> (Comparison, Comparison, f64) {
        let (camera, heads) = (Camera::new(64), heads(3));
        let batch = loader(&heads, 64, 3, 1).unwrap().next().unwrap().unwrap();
        let truths = batch.truths.iter().flatten().flat_map(|truth| &truth.depth);
        let depths: Vec<f32> = truths.map(|truth| depth(*truth)).collect();
        let found = [Tensor::new(&depths, [3, 64, 64]).unwrap(), mask.clone()];
        let constant = Surface::constant(camera).unwrap();
        let (mut visible, mut whole, mut uncovered) =
            (Collected::default(), Collected::default(), Mean::default());
        let collected = [&mut visible, &mut whole];
        score_batch(&batch, &found, camera, &constant, None, collected, &mut uncovered).unwrap();
        let comparison = |of: Collected| of.comparison(false).unwrap();
        (comparison(visible), comparison(whole), uncovered.value().unwrap())
    }

    #[test]
    fn pixels_that_no_surface_covers_are_counted() {
        let left_half: Vec<f32> = (0..3 * 64 * 64).map(|at| f32::from(u8::from(at % 64 < 32))).collect();
        let (_, whole, uncovered) = scored(|truth| truth, &Tensor::new(&left_half, [3, 64, 64]).unwrap());
        assert!((0.3..0.7).contains(&uncovered), "{uncovered}");
        // What is found there does not count: depth is continued, which is not the truth.
        let continued = whole.model.depth_error.unwrap().mean;
        assert!(continued > 1e-3, "{continued}");
        let (_, without, _) = scored(|truth| truth, &Tensor::full([3, 64, 64], 1.0));
        assert!(without.model.depth_error.unwrap().mean < 1e-6);
    }

    #[test]
    fn the_truth_is_without_error_and_its_mirror_image_in_depth_is_inside_out() {
        let (visible, whole) = scores_of(|truth| 1.3 * truth);
        for scores in [&visible.model, &whole.model] {
            assert!(scores.depth_error.unwrap().mean < 1e-6);
            // A factor moves all points away along their rays: the normals stay.
            assert!(scores.normal_error.unwrap().mean < 0.05, "{scores:?}");
            assert_eq!(scores.right_way_round, Some(1.0));
        }
        // Seen everywhere: the mask of the prediction takes away nothing but what the truth's had not.
        assert_eq!(visible, whole);
        let (inverted, _) = scores_of(|truth| 2.0 - truth);
        assert_eq!(inverted.model.right_way_round, Some(0.0));
        assert!(inverted.model.depth_error.unwrap().mean > inverted.constant_depth.depth_error.unwrap().mean);
        let (flat, _) = scores_of(|_| 0.7);
        assert_eq!(flat.model.right_way_round, None);
        let [flat, constant] =
            [flat.model, flat.constant_depth].map(|scores| scores.depth_error.unwrap().mean);
        assert!((flat - constant).abs() < 1e-9 && constant > 0.005);
    }
}
