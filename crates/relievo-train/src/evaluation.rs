//! How good a model is on images it does not learn from: its losses, and where the truth is known its errors in
//! depth and normals beside the baselines of the paper.
//!
//! Everything is compared in the view of the image, and the normals of prediction and truth come out of depth by
//! the same function. The mask is the truth's foreground, eroded by 3x3; "in sight" it is cut down to the pixels
//! where the model sees the object too (eroded likewise), as the paper does. The baselines are scored on the same
//! pixels as the model.

use std::sync::Arc;

use rayon::prelude::*;
use relievo_data::{Batch, LoadError, Loader, LoaderOptions, Source, Truth};
use relievo_model::{DepthTruth, Losses, Model, ModelError, Predictor, Supervision};
use relievo_render::{Camera, normals};
use relievo_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::metrics::{
    Statistic, both, depth_correlation, erode, mean_angle_deviation, scale_invariant_error,
};

/// What to measure, and how.
#[derive(Debug, Clone)]
pub struct EvaluationOptions {
    /// Images that go through the networks together.
    pub batch_size: usize,
    /// Threads that read or generate images.
    pub workers: usize,
    /// Whether to compute the losses, which costs about twice as much as the errors. They are those of the networks,
    /// refined or not.
    pub losses: bool,
    /// Whether to measure the reconstruction.
    pub reconstruction: bool,
    /// Steps of refinement of each image ([`Model::refine`]) before it is measured; 0 for what the networks say.
    pub refine: usize,
    /// The depth map `[S,S]` of the second baseline, from [`mean_depth`].
    pub mean_depth: Option<Vec<f32>>,
}

impl EvaluationOptions {
    /// The errors of the networks' depth where the truth is known, and nothing else.
    pub fn new(batch_size: usize, workers: usize) -> Self {
        Self { batch_size, workers, losses: false, reconstruction: false, refine: 0, mean_depth: None }
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evaluation {
    /// What the images are.
    pub source: String,
    /// How many could be used.
    #[serde(alias = "pictures")]
    pub images: u64,
    /// How many could not.
    pub skipped: u64,
    /// Mean losses over the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub losses: Option<Losses>,
    /// Mean absolute error of the reconstruction where the object is, over colours from -1 to 1; where it was asked
    /// for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconstruction: Option<f64>,
    /// Errors where the model sees the object; only with a truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(alias = "in-sight")]
    pub visible: Option<Comparison>,
    /// Errors over the whole foreground of the truth; only with a truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole: Option<Comparison>,
    /// Share of that foreground where the model sees no surface at all, mostly at the image's edges, out of which it
    /// turned its own. Depth is far behind there, so a percent of such pixels is most of the depth error over the whole
    /// foreground.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncovered: Option<f64>,
    /// Errors of the viewpoint; only with a truth, and of a model that tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewpoint: Option<Viewpoint>,
}

/// How well a model tells viewpoints. What it calls frontal is its own choice, so constant differences count for
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Viewpoint {
    /// The rotation about x: up and down.
    pub pitch: AngleErrors,
    /// The rotation about y: to the sides.
    pub yaw: AngleErrors,
    /// The rotation about z: leaning.
    pub roll: AngleErrors,
}

/// Errors of an angle over images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AngleErrors {
    /// Standard deviation of the difference to the truth, in degrees.
    pub error: f64,
    /// Standard deviation of the truth, in degrees: the error of a model that always says the same.
    pub spread: f64,
    /// Slope of what is found over the truth: below 1 turns are found smaller than they are.
    pub slope: f64,
}

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

/// An evaluation that failed.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// No images.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model refused them.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine refused an operation.
    #[error(transparent)]
    Engine(#[from] relievo_tensor::Error),
    /// Weights that are damaged or of a training that went wrong.
    #[error("what the model says of {0} is not finite")]
    NotFinite(String),
    /// A true depth is needed and there is none.
    #[error("{0}: has no true depth; only synthetic images have one")]
    NoTruth(String),
}

/// Measures a model on all images of a source.
///
/// # Errors
/// If no image can be loaded or the mean depth has another size than the model's.
pub fn evaluate(
    model: &Model,
    source: &Arc<dyn Source>,
    options: &EvaluationOptions,
) -> Result<Evaluation, EvaluationError> {
    let camera = model.settings().camera();
    let mut loader = loader(source, camera.size, options.batch_size, options.workers)?;
    let constant = Surface::constant(camera)?;
    let mean = options.mean_depth.as_deref().map(|depth| Surface::new(depth, camera)).transpose()?;

    // A model that learned depth from true depth reconstructs nothing.
    let reconstructs = options.reconstruction && model.settings().supervision == Supervision::None;
    let mut predictor = Predictor::new(model, options.batch_size)?;
    let (mut images, mut losses, mut reconstruction) = (0, Losses::default(), Mean::default());
    let (mut visible, mut whole, mut uncovered) =
        (Collected::default(), Collected::default(), Mean::default());
    let mut views: Vec<[[f32; 3]; 2]> = Vec::new();
    while let Some(batch) = loader.next().transpose()? {
        if options.losses {
            let of_batch = match model.settings().supervision {
                Supervision::None => model.losses(&batch.images, model.settings().flip_weight)?,
                Supervision::Depth => {
                    model.depth_losses(&batch.images, &depth_truth(&batch, camera.size)?)?
                }
            };
            add_losses(&mut losses, &of_batch, batch.names.len() as f32);
        }
        images += batch.names.len() as u64;
        let has_truth = batch.truths.iter().any(Option::is_some);
        if !has_truth && !reconstructs {
            continue;
        }
        let [depth, mask, image, view] = if options.refine > 0 {
            let refined = model.refine(&batch.images, options.refine)?;
            [refined.depth, refined.mask, refined.image, refined.view]
        } else {
            predictor.predict(&batch.images)?.fetch(|p| [&p.depth, &p.mask, &p.image, &p.view])?
        };
        let per_image = depth.numel() / batch.names.len();
        let maps = depth.data().chunks(per_image).zip(view.data().chunks(6)).zip(&batch.names);
        let strange =
            maps.into_iter().find(|((depth, view), _)| !depth.iter().chain(*view).all(|x| x.is_finite()));
        if let Some((_, name)) = strange {
            return Err(EvaluationError::NotFinite(name.clone()));
        }
        if reconstructs {
            add_differences(&mut reconstruction, &image, &batch.images, &mask);
        }
        if has_truth {
            let found_and_true = view.data().as_chunks::<6>().0.iter().zip(&batch.truths);
            views.extend(found_and_true.filter_map(|(view, truth)| {
                let rotation = |[x, y, z, ..]: [f32; 6]| [x, y, z];
                Some([rotation(*view), rotation(truth.as_ref()?.view)])
            }));
            let found = [depth, mask];
            let collected = [&mut visible, &mut whole];
            score_batch(&batch, &found, camera, &constant, mean.as_ref(), collected, &mut uncovered)?;
        }
    }
    let mut mean_losses = Losses::default();
    add_losses(&mut mean_losses, &losses, 1.0 / images.max(1) as f32);
    Ok(Evaluation {
        source: source.describe(),
        images,
        skipped: loader.skipped().len() as u64,
        losses: (options.losses && images > 0).then_some(mean_losses),
        reconstruction: reconstruction.value(),
        visible: visible.comparison(mean.is_some()),
        whole: whole.comparison(mean.is_some()),
        uncovered: uncovered.value(),
        viewpoint: viewpoint(&views).filter(|_| model.settings().supervision == Supervision::None),
    })
}

/// From rotations about x, y, z, found and true, in radians; `None` of too few or if they are all alike.
fn viewpoint(views: &[[[f32; 3]; 2]]) -> Option<Viewpoint> {
    let errors = |axis: usize| {
        let (mut found, mut truth) = (Vec::new(), Vec::new());
        for [f, t] in views {
            found.push(f64::from(f[axis]).to_degrees());
            truth.push(f64::from(t[axis]).to_degrees());
        }
        let differences: Vec<f64> = found.iter().zip(&truth).map(|(f, t)| f - t).collect();
        let (found_mean, true_mean) =
            (Statistic::from_numbers(&found)?.mean, Statistic::from_numbers(&truth)?);
        let products: f64 =
            found.iter().zip(&truth).map(|(f, t)| (f - found_mean) * (t - true_mean.mean)).sum();
        let spread = true_mean.standard_deviation;
        (spread > 0.0).then_some(AngleErrors {
            error: Statistic::from_numbers(&differences)?.standard_deviation,
            spread,
            slope: products / (views.len() as f64 * spread * spread),
        })
    };
    Some(Viewpoint { pitch: errors(0)?, yaw: errors(1)?, roll: errors(2)? })
}

/// The errors of the baselines of the paper, over the whole foreground of the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Baselines {
    /// See [`Comparison::constant_depth`].
    pub constant_depth: Scores,
    /// See [`Comparison::mean_depth`].
    pub mean_depth: Scores,
}

/// Measures the baselines on all images of a source, without a model. `mean_depth` is that of [`mean_depth`].
///
/// # Errors
/// If no image can be loaded, one has no truth, or the mean depth has another size than the camera's images.
pub fn baselines(
    source: &Arc<dyn Source>,
    camera: Camera,
    mean_depth: &[f32],
    workers: usize,
) -> Result<Baselines, EvaluationError> {
    let (constant, mean) = (Surface::constant(camera)?, Surface::new(mean_depth, camera)?);
    let (mut of_constant, mut of_mean) = (Errors::default(), Errors::default());
    let pixels = camera.size * camera.size;
    for batch in loader(source, camera.size, 16, workers)? {
        for truth in batch?.truths {
            let truth = truth.ok_or_else(|| EvaluationError::NoTruth(source.describe()))?;
            let (surface, foreground) =
                (Surface::new(&truth.depth, camera)?, foreground(&truth, camera.size));
            let truth = surface.image(0, pixels);
            for (errors, surface) in [(&mut of_constant, &constant), (&mut of_mean, &mean)] {
                errors.collect(Some(ImageErrors::new(surface.image(0, pixels), truth, &foreground)));
            }
        }
    }
    Ok(Baselines { constant_depth: of_constant.scores(), mean_depth: of_mean.scores() })
}

/// The true depth of a batch and where it counts, for a model that learns from it.
///
/// # Errors
/// If an image has no truth.
pub(crate) fn depth_truth(batch: &Batch, size: usize) -> Result<DepthTruth, EvaluationError> {
    let (mut depth, mut mask) = (Vec::new(), Vec::new());
    for (truth, name) in batch.truths.iter().zip(&batch.names) {
        let truth = truth.as_ref().ok_or_else(|| EvaluationError::NoTruth(name.clone()))?;
        depth.extend_from_slice(&truth.depth);
        mask.extend(truth.mask.iter().map(|seen| f32::from(*seen)));
    }
    let shape = [batch.truths.len(), size, size];
    Ok(DepthTruth { depth: Tensor::new(&depth, shape)?, mask: Tensor::new(&mask, shape)? })
}

/// The foreground of the truth, eroded.
fn foreground(truth: &Truth, size: usize) -> Vec<bool> {
    let foreground: Vec<bool> = truth.mask.iter().map(|foreground| *foreground != 0).collect();
    erode(&foreground, size)
}

/// The mean true depth over the images of a source, `[size,size]` in the view of the images: at each pixel the
/// mean over the images that have foreground there, and the mean of all foreground where none has.
///
/// # Errors
/// If no image can be loaded or one has no truth.
pub fn mean_depth(
    source: &Arc<dyn Source>,
    size: usize,
    workers: usize,
) -> Result<Vec<f32>, EvaluationError> {
    let mut sums = vec![(0.0_f64, 0_u32); size * size];
    for batch in loader(source, size, 16, workers)? {
        for truth in batch?.truths {
            let truth = truth.ok_or_else(|| EvaluationError::NoTruth(source.describe()))?;
            for ((sum, depth), mask) in sums.iter_mut().zip(&truth.depth).zip(&truth.mask) {
                if *mask != 0 {
                    *sum = (sum.0 + f64::from(*depth), sum.1 + 1);
                }
            }
        }
    }
    let all = sums.iter().fold((0.0, 0), |all, sum| (all.0 + sum.0, all.1 + u64::from(sum.1)));
    if all.1 == 0 {
        return Err(EvaluationError::NoTruth(source.describe()));
    }
    let everywhere = all.0 / all.1 as f64;
    let mean = |(sum, count): &(f64, u32)| if *count > 0 { sum / f64::from(*count) } else { everywhere };
    Ok(sums.iter().map(|sum| mean(sum) as f32).collect())
}

fn loader(
    source: &Arc<dyn Source>,
    size: usize,
    batch_size: usize,
    workers: usize,
) -> Result<Loader, LoadError> {
    let options = LoaderOptions { workers, ..LoaderOptions::new(batch_size, size as u32) };
    Loader::evaluation(Arc::clone(source), options)
}

/// Adds `weight` times the losses of one batch.
pub(crate) fn add_losses(sum: &mut Losses, of_batch: &Losses, weight: f32) {
    sum.total += weight * of_batch.total;
    sum.photometric += weight * of_batch.photometric;
    sum.photometric_flip += weight * of_batch.photometric_flip;
    sum.perceptual += weight * of_batch.perceptual;
    sum.perceptual_flip += weight * of_batch.perceptual_flip;
    sum.smoothness += weight * of_batch.smoothness;
    sum.depth += weight * of_batch.depth;
}

/// Depth `[B,S,S]` and its normals `[B,S,S,3]`.
struct Surface {
    depth: Tensor,
    normals: Tensor,
}

impl Surface {
    /// The surface of a depth map `[S,S]`.
    fn new(depth: &[f32], camera: Camera) -> Result<Self, EvaluationError> {
        let depth = Tensor::new(depth, [1, camera.size, camera.size])?;
        Ok(Self { normals: normals(&depth, camera)?, depth })
    }

    /// A plane that faces the camera.
    fn constant(camera: Camera) -> Result<Self, EvaluationError> {
        Self::new(&vec![1.0; camera.size * camera.size], camera)
    }

    /// Depth and normals of one image.
    fn image(&self, number: usize, pixels: usize) -> (&[f32], &[f32]) {
        let at = number * pixels;
        (&self.depth.data()[at..at + pixels], &self.normals.data()[3 * at..3 * (at + pixels)])
    }
}

/// The errors of single images for one mask.
#[derive(Default)]
struct Collected {
    model: Errors,
    constant: Errors,
    mean: Errors,
}

#[derive(Default)]
struct Errors {
    depth: Vec<f64>,
    normal: Vec<f64>,
    correlation: Vec<f64>,
}

impl Collected {
    fn comparison(&self, with_mean: bool) -> Option<Comparison> {
        (!self.constant.depth.is_empty()).then(|| Comparison {
            model: self.model.scores(),
            constant_depth: self.constant.scores(),
            mean_depth: with_mean.then(|| self.mean.scores()),
        })
    }
}

/// The errors of one depth map; none where the mask is empty.
struct ImageErrors {
    depth: Option<f64>,
    normal: Option<f64>,
    correlation: Option<f64>,
}

impl ImageErrors {
    fn new((depth, normals): (&[f32], &[f32]), truth: (&[f32], &[f32]), mask: &[bool]) -> Self {
        Self {
            depth: scale_invariant_error(depth, truth.0, mask),
            normal: mean_angle_deviation(normals, truth.1, mask),
            correlation: depth_correlation(depth, truth.0, mask),
        }
    }
}

impl Errors {
    fn collect(&mut self, errors: Option<ImageErrors>) {
        if let Some(ImageErrors { depth, normal, correlation }) = errors {
            self.depth.extend(depth);
            self.normal.extend(normal);
            self.correlation.extend(correlation);
        }
    }

    fn scores(&self) -> Scores {
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
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// Adds the absolute differences of colours `[B,S,S,3]` where the mask `[B,S,S]` is.
fn add_differences(mean: &mut Mean, found: &Tensor, truth: &Tensor, mask: &Tensor) {
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
fn score_batch(
    batch: &Batch,
    [depth, mask]: &[Tensor; 2],
    camera: Camera,
    constant: &Surface,
    mean: Option<&Surface>,
    collected: [&mut Collected; 2],
    uncovered: &mut Mean,
) -> Result<(), EvaluationError> {
    let pixels = camera.size * camera.size;
    let predicted = Surface { normals: normals(depth, camera)?, depth: depth.clone() };
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
    use relievo_synth::Heads;

    use super::*;
    use crate::tiny;

    fn model() -> Model {
        Model::new(tiny(), 1).unwrap()
    }

    fn heads(count: u64) -> Arc<dyn Source> {
        Arc::new(Heads::range(5, 0, count))
    }

    #[test]
    fn what_is_not_finite_is_no_measurement() {
        let mut model = model();
        model.parameters_mut().iter_mut().for_each(|p| p.data_mut().iter_mut().for_each(|x| *x *= 1e20));
        let refusal = evaluate(&model, &heads(3), &EvaluationOptions::new(2, 1)).unwrap_err();
        assert!(refusal.to_string().ends_with(" is not finite"), "{refusal}");
    }

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
        // The depth there counts for what it is.
        assert!(whole.model.depth_error.unwrap().mean < 1e-6);
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

    #[test]
    fn turns_that_are_found_too_small_or_off_by_the_same_are_told_apart() {
        let turn = |at: usize| [0.01 * at as f32, 0.3 - 0.02 * at as f32, 0.1 * (at % 3) as f32];
        let views: Vec<[[f32; 3]; 2]> = (0..9)
            .map(|at| (turn(at), turn(at)))
            .map(|(t, f)| [[f[0] + 0.2, 0.5 * f[1], -f[2]], t])
            .collect();
        let Viewpoint { pitch, yaw, roll } = viewpoint(&views).unwrap();
        assert!(pitch.error < 1e-5 && (pitch.slope - 1.0).abs() < 1e-5, "{pitch:?}");
        assert!((yaw.slope - 0.5).abs() < 1e-5 && (yaw.error - 0.5 * yaw.spread).abs() < 1e-5, "{yaw:?}");
        assert!((roll.slope + 1.0).abs() < 1e-5 && (roll.error - 2.0 * roll.spread).abs() < 1e-5, "{roll:?}");
        let deviation = (0.02 * (60.0_f64 / 9.0).sqrt()).to_degrees();
        assert!((yaw.spread - deviation).abs() < 1e-4, "{yaw:?}");
        assert_eq!(viewpoint(&views[..1]), None);
        assert_eq!(viewpoint(&[]), None);
    }

    #[test]
    fn the_mean_of_one_head_is_that_head() {
        let head = heads(1);
        let mean_of = |heads| mean_depth(heads, 64, 1).unwrap();
        let mean_depth_of_it = Some(mean_of(&head));
        let options = EvaluationOptions { mean_depth: mean_depth_of_it, ..EvaluationOptions::new(2, 1) };
        let evaluation = evaluate(&model(), &head, &options).unwrap();
        let scores = evaluation.whole.clone().unwrap().mean_depth.unwrap();
        assert!(scores.depth_error.unwrap().mean < 1e-6);
        assert!(scores.normal_error.unwrap().mean < 0.05);
        let alone = baselines(&head, model().settings().camera(), &mean_of(&head), 1).unwrap();
        let whole = evaluation.whole.unwrap();
        assert_eq!(Some(alone.mean_depth), whole.mean_depth);
        assert_eq!(alone.constant_depth, whole.constant_depth);
        let of_many = mean_depth(&heads(20), 64, 1).unwrap();
        assert!(of_many.iter().all(|depth| (0.8..1.2).contains(depth)));
    }

    #[test]
    fn losses_are_means_over_images_however_they_are_batched() {
        let measure = |batch_size| {
            let options = EvaluationOptions { losses: true, ..EvaluationOptions::new(batch_size, 1) };
            evaluate(&model(), &heads(5), &options).unwrap()
        };
        let [pairs, singles] = [2, 1].map(measure);
        assert_eq!((pairs.images, pairs.skipped), (5, 0));
        // The engine may add up in another order in batches of another size.
        let error =
            |evaluation: &Evaluation| evaluation.whole.as_ref().unwrap().model.depth_error.unwrap().mean;
        assert!((error(&pairs) - error(&singles)).abs() < 1e-6);
        let [pairs, singles] = [pairs, singles].map(|evaluation| evaluation.losses.unwrap().total);
        assert!((pairs - singles).abs() < 0.02 * singles.abs(), "{pairs} {singles}");
    }

    #[test]
    fn an_evaluation_survives_json() {
        let options = EvaluationOptions { losses: true, ..EvaluationOptions::new(2, 1) };
        let evaluation = evaluate(&model(), &heads(2), &options).unwrap();
        let text = serde_json::to_string(&evaluation).unwrap();
        assert!(text.contains("\"depth-error\":{\"mean\":"), "{text}");
        let again: Evaluation = serde_json::from_str(&text).unwrap();
        assert_eq!(again.images, 2);
        assert!(again.whole.unwrap().mean_depth.is_none());
    }
}
