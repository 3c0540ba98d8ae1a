//! The loss of Wu et al. 2020 (equations 3 to 7) and its gradients.

use relievo_tensor::ops::{dot, perceptual_loss, photometric_loss, smoothness, weighted_sum};
use relievo_tensor::{Error, Tape, Tensor};
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

impl Model {
    /// The losses of `pictures [B,S,S,3]` in [-1,1], the mirrored reconstruction weighted by `flip_weight`.
    ///
    /// # Errors
    /// If the pictures have another size than the model's.
    pub fn losses(&self, pictures: &Tensor, flip_weight: f32) -> Result<Losses, ModelError> {
        self.check_pictures(pictures)?;
        let prediction = self.run(pictures, &self.parameters, true)?;
        Ok(self.weigh(pictures, &prediction, flip_weight)?.1)
    }

    /// The losses and the gradient of their total with respect to each parameter.
    ///
    /// # Errors
    /// If the pictures have another size than the model's.
    pub fn loss_and_gradients(
        &self,
        pictures: &Tensor,
        flip_weight: f32,
    ) -> Result<(Losses, Vec<Tensor>), ModelError> {
        let (losses, gradients, _) = self.inspect(pictures, flip_weight, |_, _| ())?;
        Ok((losses, gradients))
    }

    /// As [`Model::loss_and_gradients`]; `look` sees the prediction and its tape before the tape is played, and may
    /// ask it to retain gradients. The last value gives those.
    ///
    /// # Errors
    /// If the pictures have another size than the model's.
    pub fn inspect(
        &self,
        pictures: &Tensor,
        flip_weight: f32,
        look: impl FnOnce(&Prediction, &Tape),
    ) -> Result<(Losses, Vec<Tensor>, relievo_tensor::Gradients), ModelError> {
        self.check_pictures(pictures)?;
        let tape = Tape::new();
        let parameters: Vec<Tensor> = self.parameters.iter().map(|parameter| tape.watch(parameter)).collect();
        let prediction = self.run(pictures, &parameters, true)?;
        look(&prediction, &tape);
        let (total, losses) = self.weigh(pictures, &prediction, flip_weight)?;
        // What only the prediction still holds is freed as the tape is played.
        drop(prediction);
        let mut gradients = tape.backward(&total)?;
        let of_parameters = parameters
            .iter()
            .map(|parameter| gradients.take(parameter).unwrap_or_else(|| Tensor::zeros(parameter.shape())))
            .collect();
        Ok((losses, of_parameters, gradients))
    }

    /// The total as a tensor, and all terms as numbers.
    fn weigh(&self, pictures: &Tensor, p: &Prediction, flip_weight: f32) -> Result<(Tensor, Losses), Error> {
        let settings = self.settings();
        let (pixels, features) = match &p.confidence {
            Some((pixels, features)) => (Some(pixels), Some(features)),
            None => (None, None),
        };
        let photometric = photometric_loss(&p.picture, pictures, &p.mask, pixels)?;
        let smooth = smoothness(&p.smooth_depth, settings.max_depth - settings.min_depth)?;
        let mut losses = Losses {
            photometric: photometric.data()[0],
            photometric_flip: photometric.data()[1],
            smoothness: smooth.item()?,
            ..Losses::default()
        };
        let mut terms =
            vec![dot(&photometric, &[1.0, flip_weight])?, dot(&smooth, &[settings.smoothness_weight])?];
        if let Some(vgg) = &self.vgg {
            let target = vgg.features(pictures)?;
            let perceptual = perceptual_loss(&vgg.features(&p.picture)?, &target, &p.mask, features)?;
            [losses.perceptual, losses.perceptual_flip] = [perceptual.data()[0], perceptual.data()[1]];
            let weight = settings.perceptual_weight;
            terms.push(dot(&perceptual, &[weight, weight * flip_weight])?);
        }
        let terms: Vec<(f32, &Tensor)> = terms.iter().map(|term| (1.0, term)).collect();
        let total = weighted_sum(&terms)?;
        losses.total = total.item()?;
        Ok((total, losses))
    }
}
