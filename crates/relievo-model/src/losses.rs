//! The loss of Wu et al. 2020 (equations 3 to 7) and its gradients.

use relievo_tensor::ops::{
    absolute_error, perceptual_loss, photometric_loss, reshape, smoothness, weighted_elements_sum,
    weighted_sum,
};
use relievo_tensor::{Device, Error, Gradients, Tape, Tensor};
use serde::{Deserialize, Serialize};

use crate::model::{Model, ModelError};
use crate::prediction::Prediction;

/// The terms of the loss. With confidence they are negative log likelihoods and may be below zero.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Losses {
    /// What is minimised: depth + photometric + flip weight * photometric_flip + perceptual weight * (perceptual + flip
    /// weight * perceptual_flip) + smoothness weight * smoothness.
    pub total: f32,
    /// Photometric loss of the reconstruction as seen.
    pub photometric: f32,
    /// Photometric loss of the mirrored reconstruction.
    pub photometric_flip: f32,
    /// Perceptual loss of the reconstruction as seen; 0 where it is left out.
    pub perceptual: f32,
    /// Perceptual loss of the mirrored reconstruction; 0 where it is left out.
    pub perceptual_flip: f32,
    /// Mean absolute slope of the canonical depth, per pixel, in ranges of depth.
    pub smoothness: f32,
    /// Mean absolute error of the depth where the object truly is, in ranges of depth; 0 for a model that learns from
    /// images alone. One that learns from depth has no other terms but smoothness.
    #[serde(default)]
    pub depth: f32,
}

/// The true depth of B images of SxS pixels, for a model that learns from it.
#[derive(Debug, Clone)]
pub struct DepthTruth {
    /// In the view of the image, `[B,S,S]`.
    pub depth: Tensor,
    /// 1 where the object is, 0 elsewhere, `[B,S,S]`.
    pub mask: Tensor,
}

impl DepthTruth {
    /// The same on a device.
    fn to_device(&self, device: Device) -> Result<Self, Error> {
        Ok(Self { depth: self.depth.to_device(device)?, mask: self.mask.to_device(device)? })
    }
}

/// The terms of the loss as tensors on the model's device, so that nothing waits for their values.
#[derive(Debug, Clone)]
pub struct LossTerms {
    /// What is minimised, without axes.
    pub total: Tensor,
    /// Photometric, as seen and mirrored: `[2]`.
    pub photometric: Tensor,
    /// Perceptual, as seen and mirrored: `[2]`; where it is not left out.
    pub perceptual: Option<Tensor>,
    /// Smoothness, without axes.
    pub smoothness: Tensor,
    /// Depth, without axes; for a model that learns from it, whose photometric terms are zeros.
    pub depth: Option<Tensor>,
}

impl LossTerms {
    /// The same, off the tape.
    fn detach(&self) -> Self {
        Self {
            total: self.total.detach(),
            photometric: self.photometric.detach(),
            perceptual: self.perceptual.as_ref().map(Tensor::detach),
            smoothness: self.smoothness.detach(),
            depth: self.depth.as_ref().map(Tensor::detach),
        }
    }

    /// Their values, fetched: waits for the work queued on the device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(&self) -> Result<Losses, Error> {
        let pair = |tensor: &Tensor| -> Result<[f32; 2], Error> {
            let here = tensor.to_device(Device::Cpu)?;
            Ok([here.data()[0], here.data()[1]])
        };
        let [photometric, photometric_flip] = pair(&self.photometric)?;
        let [perceptual, perceptual_flip] = self.perceptual.as_ref().map_or(Ok([0.0; 2]), pair)?;
        Ok(Losses {
            total: self.total.item()?,
            photometric,
            photometric_flip,
            perceptual,
            perceptual_flip,
            smoothness: self.smoothness.item()?,
            depth: self.depth.as_ref().map_or(Ok(0.0), Tensor::item)?,
        })
    }
}

/// What [`Model::differentiate`] finds.
pub struct Differentiated {
    /// The losses.
    pub terms: LossTerms,
    /// The gradient of the total with respect to each parameter, in the precision of its working copy.
    pub of_parameters: Vec<Tensor>,
    /// Gradients that were retained.
    pub gradients: Gradients,
}

impl Model {
    /// The losses of `images [B,S,S,3]` in [-1,1], the mirrored reconstruction weighted by `flip_weight`.
    ///
    /// # Errors
    /// If the images have another size than the model's, or the device fails.
    pub fn losses(&self, images: &Tensor, flip_weight: f32) -> Result<Losses, ModelError> {
        self.check_images(images)?;
        let images = images.to_device(self.device())?;
        let prediction = self.run(&images, &self.working_parameters()?, true)?;
        Ok(self.weigh(&images, &prediction, flip_weight)?.read()?)
    }

    /// The losses and the gradient of their total with respect to each parameter.
    ///
    /// # Errors
    /// If the images have another size than the model's, or the device fails.
    pub fn loss_and_gradients(
        &self,
        images: &Tensor,
        flip_weight: f32,
    ) -> Result<(Losses, Vec<Tensor>), ModelError> {
        let images = images.to_device(self.device())?;
        let found = self.differentiate(&self.working_parameters()?, &images, flip_weight, |_, _| ())?;
        Ok((found.terms.read()?, found.of_parameters))
    }

    /// As [`Model::loss_and_gradients`], for images on the model's device, without waiting for the losses' values;
    /// `parameters` are the [working ones](Model::working_parameters).
    /// `look` sees the prediction and its tape before the tape is played, and may ask it to retain gradients.
    ///
    /// # Errors
    /// If the images have another size than the model's, or the device fails.
    pub fn differentiate(
        &self,
        parameters: &[Tensor],
        images: &Tensor,
        flip_weight: f32,
        look: impl FnOnce(&Prediction, &Tape),
    ) -> Result<Differentiated, ModelError> {
        self.check_images(images)?;
        self.record(parameters, images, true, |prediction, tape| {
            look(prediction, tape);
            self.weigh(images, prediction, flip_weight)
        })
    }

    /// Runs the model on a tape and plays it from what `weigh` makes of the prediction.
    fn record(
        &self,
        parameters: &[Tensor],
        images: &Tensor,
        mirrored: bool,
        weigh: impl FnOnce(&Prediction, &Tape) -> Result<LossTerms, Error>,
    ) -> Result<Differentiated, ModelError> {
        let tape = Tape::new();
        let parameters: Vec<Tensor> = parameters.iter().map(|parameter| tape.watch(parameter)).collect();
        let prediction = self.run(images, &parameters, mirrored)?;
        let terms = weigh(&prediction, &tape)?;
        // What only the prediction still holds is freed as the tape is played.
        drop(prediction);
        let mut gradients = tape.backward(&terms.total)?;
        let of_parameters = parameters
            .iter()
            .map(|parameter| gradients.take(parameter).map_or_else(|| parameter.zeros_like(), Ok))
            .collect::<Result<_, Error>>()?;
        Ok(Differentiated { terms: terms.detach(), of_parameters, gradients })
    }

    /// All terms, and their total.
    fn weigh(&self, images: &Tensor, p: &Prediction, flip_weight: f32) -> Result<LossTerms, Error> {
        let settings = self.settings();
        let (pixels, features) = match &p.confidence {
            Some((pixels, features)) => (Some(pixels), Some(features)),
            None => (None, None),
        };
        let photometric = photometric_loss(&p.image, images, &p.mask, pixels)?;
        let range = settings.max_depth - settings.min_depth;
        let is_weighed = settings.smoothness_weight > 0.0;
        // Else to be looked at, without a gradient of zeros.
        let shape = if is_weighed { p.smooth_depth.clone() } else { p.smooth_depth.detach() };
        let smoothness = smoothness(&shape, range)?;
        let mut terms = vec![(1.0, weighted_elements_sum(&photometric, &[1.0, flip_weight])?)];
        if is_weighed {
            terms.push((settings.smoothness_weight, smoothness.clone()));
        }
        let perceptual = match (&self.vgg, &p.target) {
            (Some(vgg), Some(target)) => {
                let perceptual = perceptual_loss(&vgg.features(&p.image)?, target, &p.mask, features)?;
                terms.push((
                    settings.perceptual_weight,
                    weighted_elements_sum(&perceptual, &[1.0, flip_weight])?,
                ));
                Some(perceptual)
            }
            (Some(_), None) => {
                return Err(Error::shape("losses", "the prediction has no target to compare with"));
            }
            (None, _) => None,
        };
        let terms: Vec<(f32, &Tensor)> = terms.iter().map(|(weight, term)| (*weight, term)).collect();
        Ok(LossTerms { total: weighted_sum(&terms)?, photometric, perceptual, smoothness, depth: None })
    }
}

/// Learning depth from true depth: the upper bound that the paper compares with.
impl Model {
    /// The losses of `images [B,S,S,3]` in [-1,1] whose depth is known.
    ///
    /// # Errors
    /// If images or truth have another size than the model's, or the device fails.
    pub fn depth_losses(&self, images: &Tensor, truth: &DepthTruth) -> Result<Losses, ModelError> {
        self.check_images(images)?;
        let images = images.to_device(self.device())?;
        let prediction = self.run(&images, &self.working_parameters()?, false)?;
        Ok(self.weigh_depth(&truth.to_device(self.device())?, &prediction)?.read()?)
    }

    /// The losses and the gradient of their total with respect to each parameter.
    ///
    /// # Errors
    /// As [`Model::depth_losses`].
    pub fn depth_loss_and_gradients(
        &self,
        images: &Tensor,
        truth: &DepthTruth,
    ) -> Result<(Losses, Vec<Tensor>), ModelError> {
        self.check_images(images)?;
        let (images, truth) = (images.to_device(self.device())?, truth.to_device(self.device())?);
        let parameters = self.working_parameters()?;
        let found =
            self.record(&parameters, &images, false, |prediction, _| self.weigh_depth(&truth, prediction))?;
        Ok((found.terms.read()?, found.of_parameters))
    }

    /// The mean absolute error where the mask is, in ranges of depth, and smoothness.
    fn weigh_depth(&self, truth: &DepthTruth, p: &Prediction) -> Result<LossTerms, Error> {
        let settings = self.settings();
        let range = settings.max_depth - settings.min_depth;
        let smoothness = smoothness(&p.smooth_depth, range)?;
        let [batch, height, width] = p.depth.dims("depth loss")?;
        let as_image = |map: &Tensor| reshape(map, [batch, height, width, 1]);
        let error = absolute_error(&as_image(&p.depth)?, &as_image(&truth.depth)?, &truth.mask)?;
        let depth = weighted_sum(&[(1.0 / range, &error)])?;
        let total = weighted_sum(&[(1.0, &depth), (settings.smoothness_weight, &smoothness)])?;
        let photometric = Tensor::full_on(self.device(), [2], 0.0)?;
        Ok(LossTerms { total, photometric, perceptual: None, smoothness, depth: Some(depth) })
    }
}

#[cfg(test)]
mod tests {
    use relievo_tensor::testing::random_tensor;

    use super::*;
    use crate::{ModelSettings, Supervision};

    fn supervised() -> Model {
        let settings = ModelSettings {
            supervision: Supervision::Depth,
            smoothness_weight: 0.1,
            initial_depth_scale: 0.3,
            dome: 0.4,
            ..ModelSettings::tiny()
        };
        Model::new(settings, 3).unwrap()
    }

    /// Two images of noise; a slope, known in an oblong part of them.
    fn example() -> (Tensor, DepthTruth) {
        let inside = |at: usize| (10..50).contains(&(at / 64 % 64)) && (20..40).contains(&(at % 64));
        let depth: Vec<f32> = (0..2 * 64 * 64).map(|at| 0.93 + 0.002 * (at % 64) as f32).collect();
        let mask: Vec<f32> = (0..2 * 64 * 64).map(|at| f32::from(u8::from(inside(at)))).collect();
        let [depth, mask] = [depth, mask].map(|map| Tensor::new(&map, [2, 64, 64]).unwrap());
        (random_tensor(1, [2, 64, 64, 3]), DepthTruth { depth, mask })
    }

    #[test]
    fn the_depth_loss_is_the_mean_error_where_the_truth_is_known_in_ranges() {
        let (model, (images, truth)) = (supervised(), example());
        let losses = model.depth_losses(&images, &truth).unwrap();
        let found = model.predict(&images).unwrap().depth;
        let triples = || found.data().iter().zip(truth.depth.data()).zip(truth.mask.data());
        let error: f64 =
            triples().map(|((found, depth), mask)| f64::from((found - depth).abs() * mask)).sum();
        let expected = error / (2.0 * 40.0 * 20.0) / 0.2;
        assert!((f64::from(losses.depth) - expected).abs() < 1e-5 * expected, "{losses:?}, {expected}");
        assert_eq!((losses.photometric, losses.perceptual), (0.0, 0.0));
        assert!((losses.total - losses.depth - 0.1 * losses.smoothness).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_of_the_depth_loss_agrees_with_finite_differences() {
        let (mut model, (images, truth)) = (supervised(), example());
        let (_, gradients) = model.depth_loss_and_gradients(&images, &truth).unwrap();
        assert_eq!(gradients.len(), model.parameter_infos().len());
        // Along the gradient of all parameters together, the loss rises by the gradient's norm: one difference over so
        // many numbers is far above rounding.
        let square: f64 = gradients.iter().flat_map(|g| g.data()).map(|g| f64::from(*g).powi(2)).sum();
        let norm = square.sqrt();
        let mut loss_at = |distance: f64| {
            let step = (distance / norm) as f32;
            for (parameter, gradient) in model.parameters_mut().iter_mut().zip(&gradients) {
                parameter.data_mut().iter_mut().zip(gradient.data()).for_each(|(p, g)| *p += step * g);
            }
            let loss = model.depth_losses(&images, &truth).unwrap().total;
            for (parameter, gradient) in model.parameters_mut().iter_mut().zip(&gradients) {
                parameter.data_mut().iter_mut().zip(gradient.data()).for_each(|(p, g)| *p -= step * g);
            }
            f64::from(loss)
        };
        // Short, because the loss and the networks have kinks.
        const STEP: f64 = 1e-4;
        let slope = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
        assert!((slope / norm - 1.0).abs() < 0.02, "slope {slope}, norm of the gradient {norm}");
    }

    #[test]
    fn a_model_that_learns_from_depth_has_one_network_and_survives_its_file() {
        let model = supervised();
        assert!(model.parameter_infos().iter().all(|info| info.name.starts_with("depth.")));
        let (images, _) = example();
        assert!(model.outputs(&images, model.parameters()).is_err());
        let found = model.predict(&images).unwrap();
        assert_eq!(found.image.data(), images.data());
        assert!(found.mask.data().iter().all(|seen| *seen == 1.0));
        assert!(found.depth.data().iter().all(|depth| (0.9..=1.1).contains(depth)));
        let again = Model::from_safetensors(&model.to_safetensors().unwrap(), "memory").unwrap();
        assert_eq!(again.predict(&images).unwrap().depth.data(), found.depth.data());
    }
}
