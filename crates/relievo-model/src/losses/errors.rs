//! Errors of images as likelihoods: what the terms of the list share.

use relievo_tensor::ops::{filter_errors, gaussian_mean, photometric_loss, structure_errors, weighted_sum};
use relievo_tensor::{Error, Tensor};

use super::{Compared, LossKind, Term};
use crate::settings::Supervision;

/// Errors of pixels that are judged alike.
pub(super) struct Errors {
    /// `[n,S,S,1]`, not below 0.
    pub values: Tensor,
    /// The standard deviation in pixels of the Gaussian window that they are errors of; 0 for a pixel.
    pub scale: f32,
    /// Their share in the term.
    pub share: f32,
}

impl Compared<'_> {
    /// The weight of a term of the list that compares images; 0 if it is not there, or the model reconstructs nothing.
    pub(super) fn listed(&self, kind: LossKind) -> f32 {
        if self.settings.supervision == Supervision::Depth {
            return 0.0;
        }
        self.settings.loss.weight(kind).unwrap_or(0.0)
    }

    /// The term of errors e: means over the mask of `e sqrt(2) / s + ln s`, or of e without a confidence network.
    ///
    /// The scale s comes from the network's map of pixels. An error that a window of several pixels makes is bounded by
    /// the mean of the pixels' errors in it (`|f * d| <= |f| * |d|`), so its scale is the mean of theirs under a Gaussian
    /// of that size: one scale for each pixel and size. Errors of structure (SSIM, census) are no colours; for them the
    /// same map says where the image cannot be explained.
    pub(super) fn likelihood(&self, kind: LossKind, errors: &[Errors]) -> Result<Option<Term>, Error> {
        let [images, height, width, _] = self.images.dims("losses")?;
        let nothing = Tensor::full_on(self.images.device(), [images, height, width, 1], 0.0)?;
        let pixels = self.prediction.confidence.as_ref().map(|(pixels, _)| pixels);
        let value = |Errors { values, scale, share }: &Errors| {
            let confidence = pixels.map(|pixels| gaussian_mean(pixels, *scale)).transpose()?;
            let (mask, groups) = (&self.prediction.mask, self.groups());
            Ok((*share, photometric_loss(values, &nothing, mask, confidence.as_ref(), groups)?))
        };
        let values: Vec<(f32, Tensor)> = errors.iter().map(value).collect::<Result<_, Error>>()?;
        let values: Vec<(f32, &Tensor)> = values.iter().map(|(share, value)| (*share, value)).collect();
        Ok(Some(Term { values: weighted_sum(&values)?, shares: self.shares(), weight: self.listed(kind) }))
    }

    /// The term of the responses of a bank of filters to the error under the mask. Each scale of the bank counts by its
    /// number of filters.
    pub(super) fn of_filters(&self, kind: LossKind) -> Result<Option<Term>, Error> {
        let (Some(bank), true) = (self.model.banks.get(kind), self.listed(kind) > 0.0) else {
            return Ok(None);
        };
        let errors = filter_errors(&self.prediction.image, self.images, &self.prediction.mask, bank)?;
        let errors = errors.into_iter().zip(bank.scales());
        let errors = errors.map(|(values, (scale, share))| Errors { values, scale, share });
        self.likelihood(kind, &errors.collect::<Vec<_>>())
    }

    /// The term of one minus the structural similarity in Gaussian windows of these standard deviations in pixels. Windows
    /// see covered pixels only; the confidence is that of the largest.
    pub(super) fn of_structure(&self, kind: LossKind, windows: &[f32]) -> Result<Option<Term>, Error> {
        if self.listed(kind) == 0.0 {
            return Ok(None);
        }
        let Compared { prediction, images, .. } = *self;
        let values = structure_errors(&prediction.image, images, &prediction.mask, windows)?;
        let scale = windows.last().copied().unwrap_or(0.0);
        self.likelihood(kind, &[Errors { values, scale, share: 1.0 }])
    }
}
