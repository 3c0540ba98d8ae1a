//! Refinement: what the networks say of one image, changed until it fits that image better.
//!
//! The networks answer at once, with what images of this kind usually are; the answer is then the beginning of a
//! search by gradients in which they take no part. Light moves freely, albedo under a prior that keeps the errors of
//! the shading out of it (`albedo_prior.rs`). Depth moves by a smooth field of few
//! cells, and is held where it was: an image can be matched exactly by painting it on any shape, and more freedom than
//! this makes images match better and depth worse (docs/notebook.md). So is the viewpoint.

use rayon::prelude::*;
use relievo_tensor::ops::{
    Activation, AdamStep, ConvParams, absolute_error, activate, conv2d, photometric_loss, reshape,
    smoothness, squared_error, weighted_elements_sum, weighted_sum,
};
use relievo_tensor::{Device, Error, Tape, Tensor};

use crate::albedo_prior::AlbedoPrior;
use crate::model::{Model, ModelError};
use crate::networks::{NetworkKind, Outputs};
use crate::prediction::Prediction;

/// Rows and columns of cells of the field that is added to raw depth: a uniform cubic B-spline, so normals have no
/// creases where cells meet.
const CELLS: usize = 7;
/// Its control points along one axis.
const POINTS: usize = CELLS + 3;
/// Adam's learning rate at the beginning; it falls along half a cosine.
const LEARNING_RATE: f64 = 0.02;
/// The weight of the photometric loss of the mirrored reconstruction. Smaller than in training: a single image is not
/// symmetric, and here there is no confidence to say where.
const FLIP_WEIGHT: f32 = 0.2;
/// The weight of the mean squared change of depth, in ranges of depth.
const DEPTH_WEIGHT: f32 = 30.0;
/// The weight of the mean absolute change of albedo.
const ALBEDO_WEIGHT: f32 = 0.1;
/// The weight of [`AlbedoPrior`]. With less, errors of the shading stay in the albedo as lines and patches; with more,
/// the image is matched less well (docs/notebook.md).
const PRIOR_WEIGHT: f32 = 0.7;
/// The weight of the mean squared change of the viewpoint, in ranges of its numbers. Pixels that no surface covers
/// count for nothing, so without it the surface is moved out of the image where it fits badly.
const VIEW_WEIGHT: f32 = 300.0;

impl Model {
    /// As [`Model::predict`], after `steps` steps of refinement of each image. Of all that is met on the way, the
    /// beginning included, what is kept has the smallest loss: photometric, mirrored, smoothness, a prior on the albedo,
    /// and the distances from the beginning. The networks run on the model's device, refinement on all cores of the CPU.
    ///
    /// # Errors
    /// If the images have another size than the model's, the model has a depth network only, or the device fails.
    pub fn refine(&self, images: &Tensor, steps: usize) -> Result<Prediction, ModelError> {
        let count = self.check_images(images)?;
        let there = images.to_device(self.device())?;
        let outputs = self.networks.forward(&there, &self.working_parameters()?, false, None)?;
        let beginnings = Variables::from_outputs(&outputs)?;
        let spline = spline(self.settings().image_size)?;
        let refined = (0..count).into_par_iter().map(|number| {
            let beginning = beginnings.map(|tensor| tensor.narrow(number, 1))?;
            self.refine_one(&images.narrow(number, 1)?, beginning, &spline, steps)
        });
        let refined: Vec<Variables> = refined.collect::<Result<_, Error>>()?;
        let join = |pick: fn(&Variables) -> &Tensor| joined(&refined.iter().map(pick).collect::<Vec<_>>());
        let all = Variables {
            depth: join(|found| &found.depth)?,
            albedo: join(|found| &found.albedo)?,
            light: join(|found| &found.light)?,
            view: join(|found| &found.view)?,
        };
        Ok(self.compose(all.outputs(), false)?)
    }

    /// The best of what `steps` steps come by, beginning with what the networks said of `image [1,S,S,3]`.
    fn refine_one(
        &self,
        image: &Tensor,
        beginning: Variables,
        spline: &Tensor,
        steps: usize,
    ) -> Result<Variables, Error> {
        let mut parameters = [
            Tensor::zeros([1, 1, 1, POINTS * POINTS]),
            before_tanh(&beginning.albedo),
            before_tanh(&beginning.light),
            before_tanh(&beginning.view),
        ];
        let moments = || parameters.each_ref().map(|parameter| Tensor::zeros(parameter.shape()));
        let (mut first, mut second) = (moments(), moments());
        let mut best = (f32::INFINITY, beginning.clone());
        let objective = Objective::new(self, image, beginning)?;
        for step in 0..=steps {
            let tape = Tape::new();
            let watched = parameters.each_ref().map(|parameter| tape.watch(parameter));
            let [points, albedo, light, view] = &watched;
            let beginning = &objective.beginning;
            let field = reshape(&conv2d(points, spline, None, PRODUCT)?, beginning.depth.shape())?;
            let found = Variables {
                depth: weighted_sum(&[(1.0, &beginning.depth), (1.0, &field)])?,
                albedo: activate(albedo, Activation::Tanh)?,
                light: activate(light, Activation::Tanh)?,
                view: activate(view, Activation::Tanh)?,
            };
            let loss = objective.loss(&found)?;
            let value = loss.item()?;
            if value < best.0 {
                best = (value, if step == 0 { beginning.clone() } else { found.detach() });
            }
            if step == steps || !value.is_finite() {
                break;
            }
            let mut gradients = tape.backward(&loss)?;
            let gradients = watched.each_ref().map(|variable| gradients.take(variable));
            // Nobody else holds the parameters, so that they change in place.
            drop((watched, found, loss));
            let gradients: Vec<Tensor> = gradients
                .into_iter()
                .zip(&parameters)
                .map(|(gradient, parameter)| gradient.unwrap_or_else(|| Tensor::zeros(parameter.shape())))
                .collect();
            let share = 0.5 + 0.5 * (std::f64::consts::PI * step as f64 / steps as f64).cos();
            let rule = AdamStep {
                learning_rate: share * LEARNING_RATE,
                step: step as u64 + 1,
                ..AdamStep::default()
            };
            rule.apply(&mut parameters, &gradients, &mut first, &mut second)?;
        }
        Ok(best.1)
    }
}

/// What refinement minimises for one image.
struct Objective<'a> {
    model: &'a Model,
    /// `[1,S,S,3]`.
    image: &'a Tensor,
    beginning: Variables,
    /// The depth at the beginning, before the border was set.
    depth: Tensor,
    prior: AlbedoPrior,
    /// A mask of ones.
    everywhere: Tensor,
}

impl<'a> Objective<'a> {
    fn new(model: &'a Model, image: &'a Tensor, beginning: Variables) -> Result<Self, Error> {
        let [_, size, _, _] = image.dims("refinement")?;
        let prediction = model.compose(beginning.clone().outputs(), false)?;
        Ok(Self {
            model,
            image,
            beginning,
            prior: AlbedoPrior::new(model.settings().camera(), image, &prediction)?,
            depth: prediction.smooth_depth,
            everywhere: Tensor::full([1, size, size], 1.0),
        })
    }

    fn loss(&self, found: &Variables) -> Result<Tensor, Error> {
        let settings = self.model.settings();
        let [_, size, _, _] = self.image.dims("refinement")?;
        let range = settings.max_depth - settings.min_depth;
        let prediction = self.model.compose(found.clone().outputs(), true)?;
        let as_image = |map: &Tensor| reshape(map, [1, size, size, 1]);
        let reconstruction = photometric_loss(&prediction.image, self.image, &prediction.mask, None)?;
        let moved =
            squared_error(&as_image(&prediction.smooth_depth)?, &as_image(&self.depth)?, &self.everywhere)?;
        let turned = squared_error(&found.view, &self.beginning.view, &Tensor::full([1, 1, 1], 1.0))?;
        weighted_sum(&[
            (1.0, &weighted_elements_sum(&reconstruction, &[1.0, FLIP_WEIGHT])?),
            (settings.smoothness_weight, &smoothness(&prediction.smooth_depth, range)?),
            (DEPTH_WEIGHT / (range * range), &moved),
            (ALBEDO_WEIGHT, &absolute_error(&found.albedo, &self.beginning.albedo, &self.everywhere)?),
            (PRIOR_WEIGHT, &self.prior.loss(&found.albedo)?),
            (VIEW_WEIGHT, &turned),
        ])
    }
}

/// What is refined: what the networks say, as [`Outputs`] have it.
#[derive(Clone)]
struct Variables {
    depth: Tensor,
    albedo: Tensor,
    light: Tensor,
    view: Tensor,
}

impl Variables {
    /// What networks said, on the CPU.
    fn from_outputs(outputs: &Outputs) -> Result<Self, Error> {
        let here = |kind| outputs.get(kind)?.to_device(Device::Cpu);
        Ok(Self {
            depth: here(NetworkKind::Depth)?,
            albedo: here(NetworkKind::Albedo)?,
            light: here(NetworkKind::Light)?,
            view: here(NetworkKind::View)?,
        })
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

    fn outputs(self) -> Outputs {
        let Self { depth, albedo, light, view } = self;
        Outputs::of([
            (NetworkKind::Depth, depth),
            (NetworkKind::Albedo, albedo),
            (NetworkKind::Light, light),
            (NetworkKind::View, view),
        ])
    }
}

/// Batches of one, as a batch.
fn joined(entries: &[&Tensor]) -> Result<Tensor, Error> {
    let values: Vec<f32> = entries.iter().flat_map(|entry| entry.data()).copied().collect();
    let mut shape = entries[0].shape().to_vec();
    shape[0] = entries.len();
    Tensor::new(&values, shape.as_slice())
}

/// A convolution that is the product with a matrix.
const PRODUCT: ConvParams = ConvParams::new(1, 0, Activation::Identity);

/// What the control points of a field make of it, `[size*size,1,1,POINTS*POINTS]`: how much of each (rows, then
/// columns) is in each pixel. The corners of the field are those of the image.
fn spline(size: usize) -> Result<Tensor, Error> {
    // The four points around, and their shares.
    let along = |index: usize| {
        let place = index as f32 / (size - 1) as f32 * CELLS as f32;
        let cell = (place as usize).min(CELLS - 1);
        let t = place - cell as f32;
        let (t2, t3) = (t * t, t * t * t);
        let shares = [(1.0 - t).powi(3), 3.0 * t3 - 6.0 * t2 + 4.0, 3.0 * (t + t2 - t3) + 1.0, t3];
        (cell, shares.map(|share| share / 6.0))
    };
    let mut matrix = Tensor::zeros([size * size, 1, 1, POINTS * POINTS]);
    for (pixel, row) in matrix.data_mut().chunks_exact_mut(POINTS * POINTS).enumerate() {
        let ((top, of_rows), (left, of_columns)) = (along(pixel / size), along(pixel % size));
        for (below, of_row) in of_rows.iter().enumerate() {
            let line = &mut row[(top + below) * POINTS + left..][..4];
            line.iter_mut().zip(of_columns).for_each(|(share, of_column)| *share = of_row * of_column);
        }
    }
    Ok(matrix)
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
            assert_eq!(values(&model.refine(&images, 0).unwrap()), values(&networks));
            let errors = [0, 5, 40].map(|steps| error(&images, &model.refine(&images, steps).unwrap()));
            assert!(errors[1] < 0.9 * errors[0] && errors[2] < 0.5 * errors[0], "{errors:?}");
            let refined = model.refine(&images, 40).unwrap();
            assert!(refined.raw_depth.data() != networks.raw_depth.data());
            assert!(refined.albedo.data().iter().all(|colour| colour.abs() <= 1.0));
        }
    }

    #[test]
    fn the_surface_stays_in_the_image() {
        let (model, images) = example(ModelSettings::tiny());
        let (before, after) = (model.predict(&images).unwrap(), model.refine(&images, 40).unwrap());
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
        let together = model.refine(&images, 3).unwrap();
        for number in 0..2 {
            let alone = model.refine(&images.narrow(number, 1).unwrap(), 3).unwrap();
            let found = together.image.narrow(number, 1).unwrap();
            let off = alone.image.data().iter().zip(found.data()).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f32::max) < 1e-3);
        }
    }

    #[test]
    fn a_field_is_smooth_and_reaches_the_corners() {
        let spline = spline(64).unwrap();
        let field = |value: &dyn Fn(f32, f32) -> f32| -> Vec<f32> {
            let points = (0..POINTS * POINTS).map(|point| {
                // The point between two cells, or the middle of the one before the first and behind the last.
                let [row, column] = [point / POINTS, point % POINTS].map(|place| place as f32 - 1.0);
                value(row, column)
            });
            let points = Tensor::new(&points.collect::<Vec<_>>(), [1, 1, 1, POINTS * POINTS]).unwrap();
            conv2d(&points, &spline, None, PRODUCT).unwrap().data().to_vec()
        };
        for (pixel, value) in field(&|row, column| 2.0 * row - column + 3.0).iter().enumerate() {
            let [row, column] = [pixel / 64, pixel % 64].map(|place| place as f32 * CELLS as f32 / 63.0);
            let right = 2.0 * row - column + 3.0;
            assert!((value - right).abs() < 1e-4, "{pixel}: {value} for {right}");
        }
        // Of a single point at the height 1: its slope has no jumps, and changes by at most 2 in the length of a cell.
        let bump = field(&|row, column| f32::from(row == 3.0 && column == 4.0));
        let step = CELLS as f32 / 63.0;
        for line in bump.chunks_exact(64) {
            let slopes: Vec<f32> = line.windows(2).map(|pair| (pair[1] - pair[0]) / step).collect();
            assert!(slopes.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 2.0 * step));
        }
        assert!(bump.iter().fold(0.0f32, |largest, value| largest.max(*value)) > 0.4);
    }

    #[test]
    fn a_model_of_depth_alone_has_nothing_to_refine() {
        let settings = ModelSettings { supervision: Supervision::Depth, ..ModelSettings::tiny() };
        let (model, images) = example(settings);
        let error = model.refine(&images, 1).err().unwrap().to_string();
        assert!(error.contains("learned depth from true depth"), "{error}");
    }
}
