//! The loss of Wu et al. 2020 (equations 3 to 7) and its gradients.

use relievo_tensor::ops::{dot, perceptual_loss, photometric_loss, smoothness, weighted_sum};
use relievo_tensor::{Device, Error, Gradients, Tape, Tensor};
use serde::{Deserialize, Serialize};

use crate::model::{Model, ModelError};
use crate::prediction::Prediction;

/// The terms of the loss. With confidence they are negative log likelihoods and may be below zero.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Losses {
    /// What is minimised: photometric + flip weight * photometric_flip + perceptual weight * (perceptual + flip
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
}

impl LossTerms {
    /// The same, off the tape.
    fn detach(&self) -> Self {
        Self {
            total: self.total.detach(),
            photometric: self.photometric.detach(),
            perceptual: self.perceptual.as_ref().map(Tensor::detach),
            smoothness: self.smoothness.detach(),
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
    /// The losses of `pictures [B,S,S,3]` in [-1,1], the mirrored reconstruction weighted by `flip_weight`.
    ///
    /// # Errors
    /// If the pictures have another size than the model's, or the device fails.
    pub fn losses(&self, pictures: &Tensor, flip_weight: f32) -> Result<Losses, ModelError> {
        self.check_pictures(pictures)?;
        let pictures = pictures.to_device(self.device())?;
        let prediction = self.run(&pictures, &self.working_parameters()?, true)?;
        Ok(self.weigh(&pictures, &prediction, flip_weight)?.read()?)
    }

    /// The losses and the gradient of their total with respect to each parameter.
    ///
    /// # Errors
    /// If the pictures have another size than the model's, or the device fails.
    pub fn loss_and_gradients(
        &self,
        pictures: &Tensor,
        flip_weight: f32,
    ) -> Result<(Losses, Vec<Tensor>), ModelError> {
        let found = self.differentiate(&pictures.to_device(self.device())?, flip_weight, |_, _| ())?;
        Ok((found.terms.read()?, found.of_parameters))
    }

    /// As [`Model::loss_and_gradients`], for pictures on the model's device, without waiting for the losses' values.
    /// `look` sees the prediction and its tape before the tape is played, and may ask it to retain gradients.
    ///
    /// # Errors
    /// If the pictures have another size than the model's, or the device fails.
    pub fn differentiate(
        &self,
        pictures: &Tensor,
        flip_weight: f32,
        look: impl FnOnce(&Prediction, &Tape),
    ) -> Result<Differentiated, ModelError> {
        self.check_pictures(pictures)?;
        let tape = Tape::new();
        let parameters: Vec<Tensor> =
            self.working_parameters()?.iter().map(|parameter| tape.watch(parameter)).collect();
        let prediction = self.run(pictures, &parameters, true)?;
        look(&prediction, &tape);
        let terms = self.weigh(pictures, &prediction, flip_weight)?;
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
    fn weigh(&self, pictures: &Tensor, p: &Prediction, flip_weight: f32) -> Result<LossTerms, Error> {
        let settings = self.settings();
        let (pixels, features) = match &p.confidence {
            Some((pixels, features)) => (Some(pixels), Some(features)),
            None => (None, None),
        };
        let photometric = photometric_loss(&p.picture, pictures, &p.mask, pixels)?;
        let smoothness = smoothness(&p.smooth_depth, settings.max_depth - settings.min_depth)?;
        let mut terms =
            vec![dot(&photometric, &[1.0, flip_weight])?, dot(&smoothness, &[settings.smoothness_weight])?];
        let perceptual = match &self.vgg {
            None => None,
            Some(vgg) => {
                let target = vgg.features(pictures)?;
                let perceptual = perceptual_loss(&vgg.features(&p.picture)?, &target, &p.mask, features)?;
                let weight = settings.perceptual_weight;
                terms.push(dot(&perceptual, &[weight, weight * flip_weight])?);
                Some(perceptual)
            }
        };
        let terms: Vec<(f32, &Tensor)> = terms.iter().map(|term| (1.0, term)).collect();
        Ok(LossTerms { total: weighted_sum(&terms)?, photometric, perceptual, smoothness })
    }
}
