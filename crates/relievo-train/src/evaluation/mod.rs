//! Evaluation of a model on images it does not learn from: its losses and, where the truth is known, its errors in depth
//! and normals beside the baselines of the paper.
//!
//! Everything is compared in the view of the image, and the normals of prediction and truth are computed from depth by the
//! same function. The mask is the truth's foreground, eroded by 3x3; the *visible* region is its intersection with the
//! predicted mask (eroded likewise), as in the paper. The baselines are scored on the same pixels as the model.

mod baselines;
mod scores;
mod table;

use std::io;
use std::path::Path;
use std::sync::Arc;

use relievo_data::{Batch, FacePoints, LoadError, Loader, LoaderOptions, Source};
use relievo_files::{WriteError, write_atomic};
use relievo_model::{
    GroundTruth, Losses, Model, ModelError, ModelSettings, Objective, Partners, Prediction, Predictor,
    Supervision,
};
use relievo_tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::metrics::Statistic;
use scores::{Collected, Mean, Surface, add_differences, score_batch};

pub use baselines::{Baselines, baselines, mean_depth};
pub use scores::{Comparison, Scores};

/// Options of an evaluation.
#[derive(Debug, Clone)]
pub struct EvaluationOptions {
    /// Images in a batch.
    pub batch_size: usize,
    /// Threads that read or generate images.
    pub workers: usize,
    /// Compute the losses; they are those of the networks' own prediction, refined or not.
    pub losses: bool,
    /// Measure the error of the reconstruction.
    pub reconstruction: bool,
    /// Steps of refinement of each image ([`Model::refine`]) before it is measured; 0 measures the networks' prediction.
    pub refine: usize,
    /// Images that follow one another and show one object, which are explained together ([`Model::refine_together`]) before
    /// they are measured, each in its own view; batches hold a multiple of them. 1 measures each image alone.
    pub together: usize,
    /// For a model that learns from pairs: its losses are those of each image with the next of its object, rather than with
    /// its mirror image.
    pub pairs: bool,
    /// The depth map `[S,S]` of the second baseline, from [`mean_depth`].
    pub mean_depth: Option<Vec<f32>>,
}

impl EvaluationOptions {
    /// Only the errors of the networks' depth, where the truth is known.
    pub fn new(batch_size: usize, workers: usize) -> Self {
        Self {
            batch_size,
            workers,
            losses: false,
            reconstruction: false,
            refine: 0,
            together: 1,
            pairs: false,
            mean_depth: None,
        }
    }
}

impl EvaluationOptions {
    /// Whether what is measured is not what the networks say.
    fn changes_prediction(&self) -> bool {
        self.refine > 0 || self.together > 1
    }
}

impl Default for EvaluationOptions {
    /// [`EvaluationOptions::new`] with 16 images in a batch and as many threads as a loader usually has.
    fn default() -> Self {
        const BATCH_SIZE: usize = 16;
        Self::new(BATCH_SIZE, LoaderOptions::new(BATCH_SIZE, 1).workers)
    }
}

/// Measurements of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evaluation {
    /// Description of the images.
    pub source: String,
    /// Number of images used.
    #[serde(alias = "pictures")]
    pub images: u64,
    /// Number of images that could not be used.
    pub skipped: u64,
    /// Mean losses over the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub losses: Option<Losses>,
    /// Mean absolute error of the reconstruction within the predicted mask, over colours from -1 to 1; if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconstruction: Option<f64>,
    /// Errors over the visible region; only with a truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(alias = "in-sight")]
    pub visible: Option<Comparison>,
    /// Errors over the whole foreground of the truth; only with a truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole: Option<Comparison>,
    /// Share of that foreground that the predicted surface does not cover, mostly at edges of the image where the model
    /// turned its surface away. Depth is continued there from what is seen (`continued_depth`), which needs no truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncovered: Option<f64>,
    /// Errors of the viewpoint; only with a truth, and for a model that predicts one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewpoint: Option<Viewpoint>,
}

impl Evaluation {
    /// Writes all numbers as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<(), WriteError> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        write_atomic(path, |file| writeln!(file, "{}", text?))
    }
}

/// Errors of predicted viewpoints. The model chooses which pose is frontal, so constant differences are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Viewpoint {
    /// Rotation about x: up and down.
    pub pitch: AngleErrors,
    /// Rotation about y: to the sides.
    pub yaw: AngleErrors,
    /// Rotation about z: in the image plane.
    pub roll: AngleErrors,
}

/// Errors of an angle over images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AngleErrors {
    /// Standard deviation of the difference to the truth, in degrees.
    pub error: f64,
    /// Standard deviation of the truth, in degrees: the error of a constant prediction.
    pub spread: f64,
    /// Slope of the prediction over the truth: below 1, rotations are underestimated.
    pub slope: f64,
}

/// An evaluation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// The images cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Objects that a renderer cannot be measured on.
    #[error(transparent)]
    Renderer(crate::renderer::ExamplesError),
    /// An operation failed.
    #[error(transparent)]
    Engine(#[from] relievo_tensor::Error),
    /// A prediction that is not finite: the weights are damaged, or their training diverged.
    #[error("the prediction for {0} is not finite")]
    NotFinite(String),
    /// An image without true depth, where it is needed.
    #[error("{0}: has no true depth; only synthetic images have one")]
    NoTruth(String),
}

/// A model that is measured, batch by batch.
struct Measured<'a> {
    model: &'a Model,
    options: &'a EvaluationOptions,
    /// For predictions without losses.
    predictor: Option<Predictor<'a>>,
}

/// Depth `[B,S,S]`, mask `[B,S,S]`, reconstruction `[B,S,S,3]` and view `[B,6]`, on the CPU.
type Maps = [Tensor; 4];

impl<'a> Measured<'a> {
    fn new(model: &'a Model, options: &'a EvaluationOptions) -> Result<Self, ModelError> {
        let is_needed = !options.losses && !options.changes_prediction();
        let predictor = is_needed.then(|| Predictor::new(model, options.batch_size)).transpose()?;
        Ok(Self { model, options, predictor })
    }

    /// The losses of a batch, if they are asked for, and its maps, if they are needed. The networks run once for both.
    fn measure(
        &mut self,
        batch: &Batch,
        with_maps: bool,
    ) -> Result<(Option<Losses>, Option<Maps>), EvaluationError> {
        let &mut Self { model, options, .. } = self;
        let images = &batch.images;
        let pick = |p: &Prediction| [p.depth.clone(), p.mask.clone(), p.image.clone(), p.view.clone()];
        let (mut losses, mut maps) = (None, None);
        if options.losses {
            let truth = ground_truth(batch, model.settings())?;
            let objective = Objective::from(model.settings().flip_weight)
                .with_truth(truth.as_ref())
                .with_partners(Partners::of(batch.partners.as_ref()));
            if with_maps && !options.changes_prediction() {
                let (found, prediction) = model.losses_and_prediction(images, objective)?;
                let [depth, mask, image, view] = pick(&prediction);
                let here = |tensor: Tensor| tensor.to_device(Device::Cpu);
                maps = Some([here(depth)?, here(mask)?, here(image)?, here(view)?]);
                losses = Some(found);
            } else {
                losses = Some(model.losses(images, objective)?);
            }
        }
        if with_maps && options.together > 1 {
            maps = Some(together(model, images, options, pick)?);
        } else if with_maps && options.refine > 0 {
            maps = Some(pick(&model.refine(images, &model.predict(images)?, options.refine)?));
        } else if let Some(predictor) = self.predictor.as_mut().filter(|_| with_maps) {
            let found = predictor.predict(images)?;
            maps = Some(found.fetch(|p| [&p.depth, &p.mask, &p.image, &p.view])?);
        }
        Ok((losses, maps))
    }
}

/// The maps of images of several objects, [`EvaluationOptions::together`] of each.
fn together(
    model: &Model,
    images: &Tensor,
    options: &EvaluationOptions,
    pick: impl Fn(&Prediction) -> Maps,
) -> Result<Maps, EvaluationError> {
    let (count, step) = (images.shape()[0], options.together);
    let mut objects = Vec::new();
    for start in (0..count).step_by(step) {
        let images = images.narrow(start, step.min(count - start))?;
        let found =
            model.refine_together(&images, &model.predict_with_confidence(&images)?, options.refine)?;
        objects.push(pick(&found.prediction));
    }
    let joined = |map: usize| {
        let values: Vec<f32> = objects.iter().flat_map(|maps| maps[map].data()).copied().collect();
        let mut shape = objects[0][map].shape().to_vec();
        shape[0] = count;
        Tensor::new(&values, shape.as_slice())
    };
    Ok([joined(0)?, joined(1)?, joined(2)?, joined(3)?])
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
    let &EvaluationOptions { workers, pairs, .. } = options;
    let batch_size = options.batch_size.next_multiple_of(options.together.max(1));
    let loading = LoaderOptions { workers, pairs, ..LoaderOptions::new(batch_size, camera.size as u32) };
    let mut loader = Loader::evaluation(Arc::clone(source), loading)?;
    let constant = Surface::constant(camera)?;
    let mean = options.mean_depth.as_deref().map(|depth| Surface::new(depth, camera)).transpose()?;

    // A model that learned depth from true depth reconstructs nothing.
    let reconstructs = options.reconstruction && model.settings().supervision == Supervision::None;
    let mut network = Measured::new(model, options)?;
    let (mut images, mut losses, mut reconstruction) = (0, Losses::default(), Mean::default());
    let (mut visible, mut whole, mut uncovered) =
        (Collected::default(), Collected::default(), Mean::default());
    let mut views: Vec<[[f32; 3]; 2]> = Vec::new();
    while let Some(batch) = loader.next().transpose()? {
        images += batch.names.len() as u64;
        let has_truth = batch.truths.iter().any(Option::is_some);
        let (of_batch, maps) = network.measure(&batch, has_truth || reconstructs)?;
        if let Some(of_batch) = of_batch {
            losses.add(&of_batch, batch.names.len() as f32);
        }
        let Some([depth, mask, image, view]) = maps else { continue };
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
    mean_losses.add(&losses, 1.0 / images.max(1) as f32);
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

/// As [`evaluate`], with the mean depth of `others` for the second baseline where the source knows its depth: images of
/// the same kind that are not among those of the source.
///
/// # Errors
/// As [`evaluate`] and [`mean_depth`].
pub fn evaluate_beside(
    model: &Model,
    source: &Arc<dyn Source>,
    others: &Arc<dyn Source>,
    mut options: EvaluationOptions,
) -> Result<Evaluation, EvaluationError> {
    let size = model.settings().image_size;
    // Where sources are joined, those with a truth come last.
    let last = source.len().checked_sub(1).and_then(|last| source.sample(last, size as u32).ok());
    if last.is_some_and(|sample| sample.truth.is_some()) {
        options.mean_depth = Some(mean_depth(others, size, options.workers)?);
    }
    evaluate(model, source, &options)
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

/// The ground truth of a batch and the points of its faces, for a model that learns from them; of photographs no truth is
/// known.
///
/// # Errors
/// If an image has no truth and the model learns from nothing else.
pub fn ground_truth(batch: &Batch, settings: &ModelSettings) -> Result<Option<GroundTruth>, EvaluationError> {
    if !settings.uses_truth() && !settings.uses_landmarks() {
        return Ok(None);
    }
    let pixels = settings.image_size * settings.image_size;
    let mut all = GroundTruth::unknown(Device::Cpu, batch.truths.len(), settings.image_size)?;
    for (image, points) in batch.points.iter().enumerate() {
        let Some(FacePoints(points)) = points else { continue };
        all.points.data_mut()[10 * image..][..10].copy_from_slice(points.as_flattened());
        all.faces.data_mut()[image] = 1.0;
    }
    for (image, (truth, name)) in batch.truths.iter().zip(&batch.names).enumerate() {
        let Some(truth) = truth.as_ref().filter(|_| settings.uses_truth()) else {
            if settings.supervision == Supervision::Depth {
                return Err(EvaluationError::NoTruth(name.clone()));
            }
            continue;
        };
        let range = image * pixels..(image + 1) * pixels;
        all.depth.data_mut()[range.clone()].copy_from_slice(&truth.depth);
        let mask = all.mask.data_mut()[range.clone()].iter_mut().zip(&truth.mask);
        mask.for_each(|(mask, seen)| *mask = f32::from(*seen));
        let albedo = all.albedo.data_mut()[3 * range.start..3 * range.end].iter_mut().zip(&truth.albedo);
        albedo.for_each(|(signed, colour)| *signed = 2.0 * colour - 1.0);
        let [x, y, z] = truth.light.direction;
        let light = [truth.light.ambient, truth.light.diffuse, x, y, z];
        all.light.data_mut()[5 * image..][..5].copy_from_slice(&light);
        all.view.data_mut()[6 * image..][..6].copy_from_slice(&truth.view);
        all.known.data_mut()[image] = 1.0;
    }
    Ok(Some(all))
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

#[cfg(test)]
pub(crate) mod tests {
    use relievo_model::ModelSettings;
    use relievo_synth::Heads;

    use super::*;

    fn model() -> Model {
        Model::new(relievo_model::ModelSettings::tiny(), 1).unwrap()
    }

    pub(crate) fn heads(count: u64) -> Arc<dyn Source> {
        Arc::new(Heads::range(5, 0, count))
    }

    #[test]
    fn the_table_has_the_mean_depth_of_others_and_fits_into_80_columns() {
        let how = EvaluationOptions { losses: true, reconstruction: true, ..EvaluationOptions::new(2, 1) };
        let others: Arc<dyn Source> = Arc::new(Heads::range(6, 0, 3));
        let text = evaluate_beside(&model(), &heads(3), &others, how.clone()).unwrap().to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for part in ["3 images: ", "\nloss ", "\nreconstruction: ", "\n  mean depth of heads ", "\n  yaw "] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(text.trim_end(), text);
        // Without a truth there is nothing to set beside it.
        let photographs: Arc<dyn Source> = Arc::new(relievo_data::WithoutTruth(Heads::range(5, 0, 2)));
        let text = evaluate_beside(&model(), &photographs, &others, how).unwrap().to_string();
        assert!(text.starts_with("2 images: ") && !text.contains("SIDE"), "{text}");
    }

    #[test]
    fn what_is_not_finite_is_no_measurement() {
        let mut model = model();
        model.parameters_mut().iter_mut().for_each(|p| p.data_mut().iter_mut().for_each(|x| *x *= 1e20));
        let refusal = evaluate(&model, &heads(3), &EvaluationOptions::new(2, 1)).unwrap_err();
        assert!(refusal.to_string().ends_with(" is not finite"), "{refusal}");
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
    fn losses_and_errors_of_one_run_of_the_networks_are_those_of_two() {
        let reconstruction = true;
        for supervision in [Supervision::None, Supervision::Depth] {
            let settings = ModelSettings { supervision, ..ModelSettings::tiny() };
            let (model, heads) = (Model::new(settings, 1).unwrap(), heads(3));
            let measure = |losses| {
                let options = EvaluationOptions { losses, reconstruction, ..EvaluationOptions::new(2, 1) };
                evaluate(&model, &heads, &options).unwrap()
            };
            let [together, errors] = [true, false].map(measure);
            let mut expected = Losses::default();
            for batch in loader(&heads, 64, 2, 1).unwrap() {
                let batch = batch.unwrap();
                let truth = ground_truth(&batch, model.settings()).unwrap();
                let objective = Objective::from(model.settings().flip_weight)
                    .with_truth(truth.as_ref())
                    .with_partners(Partners::of(batch.partners.as_ref()));
                let losses = model.losses(&batch.images, objective).unwrap();
                expected.add(&losses, batch.names.len() as f32);
            }
            let mut mean = Losses::default();
            mean.add(&expected, 1.0 / 3.0);
            assert_eq!(together.losses, Some(mean));
            assert_eq!(Evaluation { losses: None, ..together }, errors);
        }
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
