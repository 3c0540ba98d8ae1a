//! Refinement: what the networks say of an image, or of several of one object, changed until it fits them better.
//!
//! The networks answer at once, with what images of this kind usually are; the answer is then the beginning of a
//! search by gradients in which they take no part. Several images share depth and albedo (`fusion.rs` says where those
//! begin); each has a light and a viewpoint of its own. Light moves freely, albedo under a prior that keeps the errors of
//! the shading out of it (`albedo_prior.rs`). Depth moves by a smooth field of few
//! cells, and is held where it was: an image can be matched exactly by painting it on any shape, and more freedom than
//! this makes images match better and depth worse (docs/notebook.md). So is the viewpoint.

use std::slice;

use rayon::prelude::*;
use relievo_render::{Traced, diffuse_shading, shade};
use relievo_tensor::ops::{
    Activation, AdamStep, absolute_error, activate, grid_sample, mul_columns, reshape, smoothness,
    squared_error, weighted_sum,
};
use relievo_tensor::{Device, Error, Tape, Tensor};

use crate::albedo_prior::AlbedoPrior;
use crate::model::{Model, ModelError};
use crate::networks::{NetworkKind, Outputs};
use crate::prediction::{Prediction, Second};
use crate::settings::{LightModel, Method};
use crate::spline::{Spline, spline};

/// How freely depth moves: by a field of so many rows and columns of cells.
#[derive(Clone, Copy)]
struct Freedom {
    cells: usize,
    /// Adam's learning rate of depth and viewpoint at the beginning; it falls along half a cosine, as the others do.
    learning_rate: f64,
    /// The least weight of the smoothness of depth; that of the training counts if it is larger.
    smoothness_weight: f32,
}

impl Freedom {
    /// One image can be matched by painting it on any shape, and so can two or three, so their field is coarse. What more of
    /// them show from several sides and in several lights is shape (docs/notebook.md).
    fn of_images(count: usize) -> Self {
        match count {
            0..4 => Self { cells: 7, learning_rate: 0.02, smoothness_weight: 0.0 },
            _ => Self { cells: 31, learning_rate: 0.06, smoothness_weight: 1.0 },
        }
    }

    /// Of depth, albedo, light and viewpoint.
    fn learning_rates(self) -> [f64; 4] {
        [self.learning_rate, ALBEDO_LEARNING_RATE, LIGHT_LEARNING_RATE, self.learning_rate]
    }
}

/// The steps of refinement after which more bring hardly anything that a person sees, for so many images of one object: from
/// four on, depth is found and not only albedo, which takes longer.
pub fn refinement_steps(images: usize) -> u16 {
    match images {
        0..4 => 20,
        _ => 50,
    }
}

/// Adam's learning rates of albedo and light at the beginning. Albedo has most to explain and little that holds it.
const ALBEDO_LEARNING_RATE: f64 = 0.08;
const LIGHT_LEARNING_RATE: f64 = 0.04;
/// Adam's decay rates: a few dozen steps are too few for its usual ones, which remember 10 and 1,000. With these and the
/// rates above 20 steps reach what 50 of the usual ones at 0.02 did (docs/notebook.md).
const BETAS: [f64; 2] = [0.7, 0.95];

/// The weight of the photometric loss of the mirrored reconstruction. Smaller than in training: a single image is not
/// symmetric, and here there is no confidence to say where. Over the number of images, since others may show the other side.
const FLIP_WEIGHT: f32 = 0.2;
/// The weight of the mean squared change of depth, in ranges of depth, over the cube of the number of images: what several
/// viewpoints agree on is seen, not painted. Of synthetic heads, eight images each fitted in 50 steps, that and the weight
/// of the viewpoint take the mean angle between normals from 13.5 to 12.8 degrees; without these weights it is 12.9, but
/// depths of single heads go astray.
const DEPTH_WEIGHT: f32 = 30.0;
/// The weight of the mean absolute change of albedo.
const ALBEDO_WEIGHT: f32 = 0.1;
/// The weight of [`AlbedoPrior`]. With less, errors of the shading stay in the albedo as lines and patches; with more,
/// the image is matched less well (docs/notebook.md).
const PRIOR_WEIGHT: f32 = 0.7;
/// The weight of the mean squared change of the viewpoint, in ranges of its numbers, over the square of the number of images.
/// Pixels that no surface covers count for nothing, so without it the surface is moved out of the image where it fits badly.
const VIEW_WEIGHT: f32 = 300.0;

impl Model {
    /// What [`Model::predict`] found in `images [B,S,S,3]`, after `steps` steps of refinement of each image. Of all that
    /// is met on the way, the beginning included, what is kept has the smallest loss: photometric, mirrored, smoothness,
    /// a prior on the albedo, and the distances from the beginning. On all cores of the CPU.
    ///
    /// # Errors
    /// If the images have another size than the model's, the prediction is one of other images or of a training step,
    /// or the model has a depth network only.
    pub fn refine(
        &self,
        images: &Tensor,
        prediction: &Prediction,
        steps: usize,
    ) -> Result<Prediction, ModelError> {
        let count = self.check_images(images)?;
        let beginnings = Variables::from_prediction(prediction, count)?;
        let refined = (0..count).into_par_iter().map(|number| {
            let beginning = beginnings.map(|tensor| tensor.narrow(number, 1))?;
            self.fit(&images.narrow(number, 1)?, beginning, steps)
        });
        let refined: Vec<Variables> = refined.collect::<Result<_, Error>>()?;
        let join = |pick: fn(&Variables) -> &Tensor| joined(&refined.iter().map(pick).collect::<Vec<_>>());
        let all = Variables {
            depth: join(|found| &found.depth)?,
            albedo: join(|found| &found.albedo)?,
            light: join(|found| &found.light)?,
            view: join(|found| &found.view)?,
        };
        Ok(self.compose(all.outputs(), Second::Nothing)?)
    }

    /// The best of what `steps` steps come by, beginning with one depth and albedo, and a light and a viewpoint for each
    /// of `images [N,S,S,3]`, which show one object.
    pub(crate) fn fit(
        &self,
        images: &Tensor,
        beginning: Variables,
        steps: usize,
    ) -> Result<Variables, Error> {
        let objective = Objective::new(self, images, beginning)?;
        let points = objective.field().points();
        let mut parameters = [
            Tensor::zeros([1, points, points]),
            before_tanh(&objective.beginning.albedo),
            before_tanh(&objective.beginning.light),
            before_tanh(&objective.beginning.view),
        ];
        let moments = || parameters.each_ref().map(|parameter| Tensor::zeros(parameter.shape()));
        let (mut first, mut second) = (moments(), moments());
        let mut best = (f32::INFINITY, objective.beginning.clone());
        for step in 0..=steps {
            let tape = Tape::new();
            let watched = parameters.each_ref().map(|parameter| tape.watch(parameter));
            let found = objective.variables(&watched)?;
            let LossAndGradients { value, gradients } = objective.loss(&found)?;
            if value < best.0 {
                best = (value, if step == 0 { objective.beginning.clone() } else { found.detach() });
            }
            if step == steps || !value.is_finite() {
                break;
            }
            let seeds: Vec<(&Tensor, Tensor)> = gradients.iter().map(|(of, g)| (of, g.clone())).collect();
            let mut of_parameters = tape.backward_from(&seeds)?;
            let of_parameters = watched.each_ref().map(|variable| of_parameters.take(variable));
            // Nobody else holds the parameters, so that they change in place.
            drop(seeds);
            drop((gradients, watched, found));
            let of_parameters: Vec<Tensor> = of_parameters
                .into_iter()
                .zip(&parameters)
                .map(|(gradient, parameter)| gradient.unwrap_or_else(|| Tensor::zeros(parameter.shape())))
                .collect();
            let share = 0.5 + 0.5 * (std::f64::consts::PI * step as f64 / steps as f64).cos();
            for (at, learning_rate) in objective.freedom.learning_rates().into_iter().enumerate() {
                let rule = AdamStep {
                    learning_rate: share * learning_rate,
                    betas: BETAS,
                    step: step as u64 + 1,
                    ..AdamStep::default()
                };
                let [parameter, first, second] =
                    [&mut parameters, &mut first, &mut second].map(|all| slice::from_mut(&mut all[at]));
                rule.apply(parameter, slice::from_ref(&of_parameters[at]), first, second)?;
            }
        }
        Ok(best.1)
    }
}

/// What refinement minimises for the images of one object.
struct Objective<'a> {
    model: &'a Model,
    /// `[1,S,S,3]` each.
    images: Vec<Tensor>,
    beginning: Variables,
    /// The depth at the beginning, before the border was set.
    depth: Tensor,
    prior: AlbedoPrior,
    /// A mask of ones.
    everywhere: Tensor,
    /// The weight of the mirrored reconstruction of each image.
    flip_weight: f32,
    freedom: Freedom,
}

/// The loss, and its gradients in some values of the tape, from which the rest of it is played backwards.
struct LossAndGradients {
    value: f32,
    gradients: Vec<(Tensor, Tensor)>,
}

impl<'a> Objective<'a> {
    fn new(model: &'a Model, images: &Tensor, beginning: Variables) -> Result<Self, Error> {
        let [count, size, _, _] = images.dims("refinement")?;
        let prediction = model.compose(beginning.for_each(count)?.outputs(), Second::Nothing)?;
        Ok(Self {
            model,
            images: (0..count).map(|number| images.narrow(number, 1)).collect::<Result<_, _>>()?,
            beginning,
            prior: AlbedoPrior::new(model.settings().camera(), images, &prediction)?,
            depth: prediction.smooth_depth.narrow(0, 1)?,
            everywhere: Tensor::full([1, size, size], 1.0),
            flip_weight: flip_weight(model.settings().method, count),
            freedom: Freedom::of_images(count),
        })
    }

    /// The field by which depth moves.
    fn field(&self) -> Spline {
        Spline { cells: self.freedom.cells, size: self.model.settings().image_size }
    }

    /// What the parameters stand for.
    fn variables(&self, [points, albedo, light, view]: &[Tensor; 4]) -> Result<Variables, Error> {
        let field = spline(points, self.field())?;
        Ok(Variables {
            depth: weighted_sum(&[(1.0, &self.beginning.depth), (1.0, &field)])?,
            albedo: activate(albedo, Activation::Tanh)?,
            light: activate(light, Activation::Tanh)?,
            view: activate(view, Activation::Tanh)?,
        })
    }

    /// The terms do not meet before they are added up, so each has a tape of its own, and the cores share them.
    fn loss(&self, found: &Variables) -> Result<LossAndGradients, Error> {
        let model = self.model;
        let (_, [smooth_depth, depth]) = model.shape(&found.depth, model.doubling(true))?;
        let lighting = model.lighting(&found.light)?;
        let count = self.images.len();
        let view = mul_columns(&reshape(&found.view, [count, 6])?, &model.settings().view_ranges())?;
        let of_image = |number: usize| {
            let [lighting, view] = [lighting.narrow(number, 1)?, view.narrow(number, 1)?];
            self.image_loss(number, &depth, &found.albedo, &lighting, &view)
        };
        let images = || (0..count).into_par_iter().map(of_image).collect::<Result<Vec<_>, Error>>();
        let held = || rayon::join(|| self.albedo_loss(&found.albedo), || self.depth_loss(&smooth_depth));
        let (images, (of_albedo, of_depth)) = rayon::join(images, held);
        let of_view = differentiate(&[&found.view], |[view]| {
            let turned = squared_error(view, &self.beginning.view, &Tensor::full([count, 1, 1], 1.0))?;
            weighted_sum(&[(VIEW_WEIGHT / (count as f32).powi(2), &turned)])
        });
        let [as_seen, flipped] = HalfLoss::of_all(images?)?;
        let ((albedo_loss, [of_albedo]), (depth_loss, [of_depth]), (view_loss, [of_view])) =
            (of_albedo?, of_depth?, of_view?);
        let [depth_seen, albedo_seen, lighting_seen, view_seen] = as_seen.gradients;
        let [depth_flipped, albedo_flipped, lighting_flipped, view_flipped] = flipped.gradients;
        let albedo_flipped = albedo_flipped
            .map(|gradient| if model.settings().flip_albedo { mirrored(&gradient) } else { gradient });
        let of_depths = match (depth_seen, depth_flipped) {
            (Some(seen), Some(flipped)) => Some(joined(&[&seen, &flipped])?),
            _ => None,
        };
        let gradients = [
            (&depth, of_depths),
            (&smooth_depth, of_depth),
            (&found.albedo, albedo_seen),
            (&found.albedo, albedo_flipped),
            (&found.albedo, of_albedo),
            (&lighting, lighting_seen),
            (&lighting, lighting_flipped),
            (&view, view_seen),
            (&view, view_flipped),
            (&found.view, of_view),
        ];
        Ok(LossAndGradients {
            value: as_seen.value + flipped.value + albedo_loss + depth_loss + view_loss,
            gradients: gradients
                .into_iter()
                .filter_map(|(of, gradient)| Some((of.clone(), gradient?)))
                .collect(),
        })
    }

    /// The errors of the reconstructions of an image, as seen and mirrored, as its share in the mean over all. `depth` is
    /// doubled; the rest is that of this image.
    fn image_loss(
        &self,
        number: usize,
        depth: &Tensor,
        albedo: &Tensor,
        lighting: &Tensor,
        view: &Tensor,
    ) -> Result<[HalfLoss; 2], Error> {
        let model = self.model;
        let half = |number: usize| {
            let mirror = number == 1 && model.settings().flip_albedo;
            let albedo = if mirror { mirrored(albedo) } else { albedo.clone() };
            Half::new(model, [&depth.narrow(number, 1)?, &albedo, lighting, view])
        };
        let (as_seen, flipped) = rayon::join(|| half(0), || half(1));
        let (as_seen, flipped) = (as_seen?, flipped?);
        let mut mask = as_seen.traced.mask.clone();
        if self.flip_weight > 0.0 {
            let other = flipped.traced.mask.data();
            mask.data_mut().iter_mut().zip(other).for_each(|(mask, other)| *mask *= other);
        }
        let (image, share) = (&self.images[number], 1.0 / self.images.len() as f32);
        let (as_seen, flipped) = rayon::join(
            || as_seen.loss(image, &mask, share),
            || flipped.loss(image, &mask, share * self.flip_weight),
        );
        Ok([as_seen?, flipped?])
    }

    /// What holds the albedo, and its gradient.
    fn albedo_loss(&self, albedo: &Tensor) -> Result<(f32, [Option<Tensor>; 1]), Error> {
        differentiate(&[albedo], |[albedo]| {
            let changed = absolute_error(albedo, &self.beginning.albedo, &self.everywhere)?;
            weighted_sum(&[(ALBEDO_WEIGHT, &changed), (PRIOR_WEIGHT, &self.prior.loss(albedo)?)])
        })
    }

    /// What holds the depth before its border is set, and its gradient.
    fn depth_loss(&self, depth: &Tensor) -> Result<(f32, [Option<Tensor>; 1]), Error> {
        let settings = self.model.settings();
        let range = settings.max_depth - settings.min_depth;
        let size = settings.image_size;
        let depth_weight = DEPTH_WEIGHT / (self.images.len() as f32).powi(3);
        let as_image = |map: &Tensor| reshape(map, [1, size, size, 1]);
        differentiate(&[depth], |[depth]| {
            let moved = squared_error(&as_image(depth)?, &as_image(&self.depth)?, &self.everywhere)?;
            let rough = smoothness(depth, range)?;
            let smoothness_weight = settings.smoothness_weight.max(self.freedom.smoothness_weight);
            weighted_sum(&[(smoothness_weight, &rough), (depth_weight / (range * range), &moved)])
        })
    }
}

/// One half of the doubled batch, as seen or mirrored, on its way to the input view.
struct Half {
    tape: Tape,
    /// Depth `[1,S,S]`, albedo, lighting and viewpoint, variables of the tape.
    inputs: [Tensor; 4],
    /// The canonical image.
    image: Tensor,
    traced: Traced,
}

impl Half {
    fn new(model: &Model, inputs: [&Tensor; 4]) -> Result<Self, Error> {
        let tape = Tape::new();
        let inputs = inputs.map(|input| tape.watch(input));
        let [depth, albedo, lighting, view] = &inputs;
        let scene = model.scene();
        let image = match model.settings().light {
            LightModel::Lambert => {
                let [_, shading] = diffuse_shading(depth, lighting, scene.camera)?;
                shade(albedo, &shading, lighting)?
            }
            LightModel::ShadingMap => shade(albedo, lighting, &model.frontal_light(1, Device::Cpu)?)?,
        };
        let traced = scene.trace(depth, view, 1)?;
        Ok(Self { tape, inputs, image, traced })
    }

    /// The mean absolute error of the reconstruction of `target`, times `weight`, and its gradients in the inputs.
    fn loss(self, target: &Tensor, mask: &Tensor, weight: f32) -> Result<HalfLoss, Error> {
        let image = grid_sample(&self.image, &self.traced.grid, Some(mask))?;
        let loss = weighted_sum(&[(weight, &absolute_error(&image, target, mask)?)])?;
        let mut gradients = self.tape.backward(&loss)?;
        Ok(HalfLoss {
            value: loss.item()?,
            gradients: self.inputs.each_ref().map(|input| gradients.take(input)),
        })
    }
}

/// The error of a half, and its gradients in depth `[1,S,S]`, albedo, lighting and viewpoint.
struct HalfLoss {
    value: f32,
    gradients: [Option<Tensor>; 4],
}

impl HalfLoss {
    /// The sum over images: they share depth and albedo; lighting and viewpoint are each one's own.
    fn of_all(images: Vec<[Self; 2]>) -> Result<[Self; 2], Error> {
        let (as_seen, flipped): (Vec<_>, Vec<_>) = images.into_iter().map(|[a, b]| (a, b)).unzip();
        let sum = |halves: Vec<Self>| {
            let of = |input: usize| -> Option<Vec<&Tensor>> {
                halves.iter().map(|half| half.gradients[input].as_ref()).collect()
            };
            Ok::<_, Error>(Self {
                value: halves.iter().map(|half| half.value).sum(),
                gradients: [
                    of(0).map(|all| summed(&all)).transpose()?,
                    of(1).map(|all| summed(&all)).transpose()?,
                    of(2).map(|all| joined(&all)).transpose()?,
                    of(3).map(|all| joined(&all)).transpose()?,
                ],
            })
        };
        Ok([sum(as_seen)?, sum(flipped)?])
    }
}

/// A scalar computed from some values, and its gradients in them.
fn differentiate<const N: usize>(
    values: &[&Tensor; N],
    scalar: impl FnOnce(&[Tensor; N]) -> Result<Tensor, Error>,
) -> Result<(f32, [Option<Tensor>; N]), Error> {
    let tape = Tape::new();
    let watched = values.map(|value| tape.watch(value));
    let scalar = scalar(&watched)?;
    let mut gradients = tape.backward(&scalar)?;
    Ok((scalar.item()?, watched.each_ref().map(|value| gradients.take(value))))
}

/// An image `[1,S,S,3]` with its columns from right to left, off the tape.
fn mirrored(image: &Tensor) -> Tensor {
    let columns = image.shape()[2];
    let mut mirrored = Tensor::empty(image.shape());
    let rows = mirrored.data_mut().as_chunks_mut::<3>().0.chunks_exact_mut(columns);
    for (mirrored, row) in rows.zip(image.data().as_chunks::<3>().0.chunks_exact(columns)) {
        mirrored.iter_mut().zip(row.iter().rev()).for_each(|(mirrored, pixel)| *mirrored = *pixel);
    }
    mirrored
}

/// What is refined: what the networks say, as [`Outputs`] have it.
#[derive(Clone)]
pub(crate) struct Variables {
    pub depth: Tensor,
    pub albedo: Tensor,
    pub light: Tensor,
    pub view: Tensor,
}

impl Variables {
    /// What networks said of `count` images.
    pub fn from_prediction(prediction: &Prediction, count: usize) -> Result<Self, Error> {
        let Prediction { raw_depth, albedo, raw_light_and_view, .. } = prediction;
        let [light, view] = raw_light_and_view.as_ref().ok_or_else(|| {
            Error::shape("refinement", "the model has learned depth from true depth and knows nothing else")
        })?;
        let [batch, rows, columns] = raw_depth.dims("refinement")?;
        if batch != count || albedo.shape()[0] != count {
            let detail = format!("{count} images and a prediction of albedos {}", albedo.shape());
            return Err(Error::shape("refinement", detail));
        }
        let depth = reshape(raw_depth, [batch, rows, columns, 1])?;
        Self { depth, albedo: albedo.clone(), light: light.clone(), view: view.clone() }
            .map(|tensor| tensor.to_device(Device::Cpu))
    }

    fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor, Error>) -> Result<Self, Error> {
        Ok(Self {
            depth: change(&self.depth)?,
            albedo: change(&self.albedo)?,
            light: change(&self.light)?,
            view: change(&self.view)?,
        })
    }

    fn detach(&self) -> Self {
        Self {
            depth: self.depth.detach(),
            albedo: self.albedo.detach(),
            light: self.light.detach(),
            view: self.view.detach(),
        }
    }

    /// One depth and albedo for each of `count` images.
    pub fn for_each(&self, count: usize) -> Result<Self, Error> {
        let repeated = |tensor: &Tensor| joined(&vec![tensor; count]);
        Ok(Self { depth: repeated(&self.depth)?, albedo: repeated(&self.albedo)?, ..self.clone() })
    }

    pub fn outputs(self) -> Outputs {
        let Self { depth, albedo, light, view } = self;
        Outputs::of([
            (NetworkKind::Depth, depth),
            (NetworkKind::Albedo, albedo),
            (NetworkKind::Light, light),
            (NetworkKind::View, view),
        ])
    }
}

/// The weight of the mirrored reconstruction among `count` images.
fn flip_weight(method: Method, count: usize) -> f32 {
    // The objects of a model that learned from pairs need not be symmetric: the mirrored half has no say.
    match method {
        Method::Unsup3d => FLIP_WEIGHT / count as f32,
        _ => 0.0,
    }
}

/// The sum of tensors of one shape.
fn summed(terms: &[&Tensor]) -> Result<Tensor, Error> {
    match terms {
        [term] => Ok((*term).clone()),
        terms => weighted_sum(&terms.iter().map(|term| (1.0, *term)).collect::<Vec<_>>()),
    }
}

/// Batches of one, as a batch.
fn joined(entries: &[&Tensor]) -> Result<Tensor, Error> {
    let values: Vec<f32> = entries.iter().flat_map(|entry| entry.data()).copied().collect();
    let mut shape = entries[0].shape().to_vec();
    shape[0] = entries.len();
    Tensor::new(&values, shape.as_slice())
}

/// What tanh makes this of; of what it has rounded to one, something large from which there is still a way back.
fn before_tanh(y: &Tensor) -> Tensor {
    let mut x = y.clone();
    x.data_mut().iter_mut().for_each(|x| *x = x.clamp(-0.9999, 0.9999).atanh());
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LightModel, ModelSettings, Supervision};

    /// A model that sees domes, and images of waves of colour.
    fn example(settings: ModelSettings) -> (Model, Tensor) {
        let settings = ModelSettings { initial_depth_scale: 0.02, dome: 0.5, ..settings };
        let wave = |at: usize| 0.5 * ((at % 192) as f32 / 20.0 + (at / 192) as f32 / 9.0).sin();
        let images: Vec<f32> = (0..2 * 64 * 64 * 3).map(wave).collect();
        (Model::new(settings, 5).unwrap(), Tensor::new(&images, [2, 64, 64, 3]).unwrap())
    }

    fn refined(model: &Model, images: &Tensor, steps: usize) -> Prediction {
        model.refine(images, &model.predict(images).unwrap(), steps).unwrap()
    }

    fn error(images: &Tensor, prediction: &Prediction) -> f32 {
        absolute_error(&prediction.image, images, &prediction.mask).unwrap().item().unwrap()
    }

    fn values(prediction: &Prediction) -> Vec<Vec<f32>> {
        let Prediction { depth, albedo, light, view, image, .. } = prediction;
        [depth, albedo, light, view, image].map(|tensor| tensor.data().to_vec()).to_vec()
    }

    #[test]
    fn each_step_more_brings_the_image_nearer_and_none_leaves_what_the_networks_say() {
        for light in [LightModel::Lambert, LightModel::ShadingMap] {
            let (model, images) = example(ModelSettings { light, ..ModelSettings::tiny() });
            let networks = model.predict(&images).unwrap();
            assert_eq!(values(&refined(&model, &images, 0)), values(&networks));
            let errors = [0, 5, 40].map(|steps| error(&images, &refined(&model, &images, steps)));
            assert!(errors[1] < 0.9 * errors[0] && errors[2] < 0.5 * errors[0], "{errors:?}");
            let refined = refined(&model, &images, 40);
            assert!(refined.raw_depth.data() != networks.raw_depth.data());
            assert!(refined.albedo.data().iter().all(|colour| colour.abs() <= 1.0));
        }
    }

    #[test]
    fn the_surface_stays_in_the_image() {
        let (model, images) = example(ModelSettings::tiny());
        let (before, after) = (model.predict(&images).unwrap(), refined(&model, &images, 40));
        let covered = |prediction: &Prediction| prediction.mask.data().iter().sum::<f32>();
        // Without the weight of the viewpoint 0.94.
        assert!(covered(&after) > 0.97 * covered(&before), "{} of {}", covered(&after), covered(&before));
        let ranges = model.settings().view_ranges();
        let moves = before.view.data().iter().zip(after.view.data()).zip(ranges.iter().cycle());
        for (((before, after), range), place) in moves.zip(0..) {
            // Without the weight 0.1.
            assert!((after - before).abs() <= 0.04 * range, "{place}: {before} to {after}");
        }
    }

    #[test]
    fn what_images_go_together_makes_no_difference() {
        let (model, images) = example(ModelSettings::tiny());
        let together = refined(&model, &images, 3);
        for number in 0..2 {
            let alone = refined(&model, &images.narrow(number, 1).unwrap(), 3);
            let found = together.image.narrow(number, 1).unwrap();
            let off = alone.image.data().iter().zip(found.data()).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f32::max) < 1e-3);
        }
    }

    #[test]
    fn a_model_of_depth_alone_has_nothing_to_refine() {
        let settings = ModelSettings { supervision: Supervision::Depth, ..ModelSettings::tiny() };
        let (model, images) = example(settings);
        let prediction = model.predict(&images).unwrap();
        let error = model.refine(&images, &prediction, 1).err().unwrap().to_string();
        assert!(error.contains("learned depth from true depth"), "{error}");
    }

    #[test]
    fn a_prediction_of_other_images_is_refused() {
        let (model, images) = example(ModelSettings::tiny());
        let prediction = model.predict(&images.narrow(0, 1).unwrap()).unwrap();
        let error = model.refine(&images, &prediction, 1).err().unwrap().to_string();
        assert!(error.contains("2 images"), "{error}");
    }
}
