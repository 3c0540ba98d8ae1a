//! The negative log-likelihood of a target, given a prediction and its confidence: the photometric and the perceptual loss.
//!
//! The likelihood is Laplacian for colours and Gaussian for features; constants are left out. Both losses are one operation
//! with two error functions.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use super::average_pool::average_pool;
use super::reshape;
use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};
use cpu::Likelihood;

/// The photometric losses of the reconstruction: `[2 groups]`, first those of the first half of the batch (as seen), then
/// those of the second (flipped); `[groups]` if there is no second half.
///
/// reconstruction `[2B,H,W,C]` (or `[B,H,W,C]`), target `[B,H,W,C]` (the same for both halves), mask `[B,H,W]` (the same
/// for both halves) or `[2B,H,W]`, confidence `[B,H,W,2]` (or `[B,H,W,1]`; positive: the scale s; channel 0 for the half
/// as seen, channel 1 for the flipped).
/// Per pixel and channel |reconstruction - target| sqrt(2) / (s + eps) + ln(s + eps), eps = 1e-7; without confidence the
/// plain absolute difference. Then the mean over pixels and channels, weighted by the mask, over each of `groups` groups of
/// B / groups images.
///
/// Gradients flow to the reconstruction and the confidence, none to target and mask. Where the difference is zero the
/// slope is zero. A mask of zeros (nothing is visible) gives a loss and gradients of zero.
///
/// Source: Wu, Rupprecht and Vedaldi 2020, equation 3.
///
/// # Errors
/// If the shapes do not fit.
pub fn photometric_loss(
    reconstruction: &Tensor,
    target: &Tensor,
    mask: &Tensor,
    confidence: Option<&Tensor>,
    groups: usize,
) -> Result<Tensor> {
    let loss = LikelihoodLoss { name: "photometric_loss", likelihood: Likelihood::Laplace, groups };
    loss.apply(reconstruction, target, mask, confidence)
}

/// The perceptual losses of the features of the reconstruction, ordered as in [`photometric_loss`]: `[2 groups]`.
///
/// features `[2B,h,w,C]` (or `[B,h,w,C]`), target_features `[B,h,w,C]` (the same for both halves), mask `[B,H,W]` or `[2B,H,W]` with H a
/// multiple of h and W the same multiple of w, confidence `[B,h,w,2]` as in [`photometric_loss`]. Per place and channel
/// (features - target)^2 / (2 s^2 + eps) + ln(s + eps), eps = 1e-7; without confidence the plain square. Then the mean over
/// places and channels, weighted by the mask averaged over each place.
///
/// Gradients and empty masks as in [`photometric_loss`]. Source: Wu, Rupprecht and Vedaldi 2020, equation 7.
///
/// # Errors
/// If the shapes do not fit.
pub fn perceptual_loss(
    features: &Tensor,
    target_features: &Tensor,
    mask: &Tensor,
    confidence: Option<&Tensor>,
    groups: usize,
) -> Result<Tensor> {
    let loss = LikelihoodLoss { name: "perceptual_loss", likelihood: Likelihood::Gauss, groups };
    let [_, height, ..] = *mask.shape() else { return Err(loss.misfit(features, target_features, mask)) };
    let [_, rows, _, _] = target_features.dims(loss.name)?;
    let mask = average_pool(mask, height.checked_div(rows).unwrap_or(0))?;
    loss.apply(features, target_features, &mask, confidence)
}

/// The mean absolute error of a prediction `[B,H,W,C]` for a target of that shape, weighted by the mask `[B,H,W]`: the
/// [`photometric_loss`] without confidence, of one half. A scalar; gradients flow to the prediction.
///
/// # Errors
/// If the shapes do not fit.
pub fn absolute_error(prediction: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    reshape(&photometric_loss(prediction, target, mask, None, 1)?, [])
}

/// The mean squared error, otherwise as [`absolute_error`].
///
/// # Errors
/// If the shapes do not fit.
pub fn squared_error(prediction: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    reshape(&perceptual_loss(prediction, target, mask, None, 1)?, [])
}

struct LikelihoodLoss {
    /// The name used in error messages.
    name: &'static str,
    /// The distribution of errors.
    likelihood: Likelihood,
    /// Groups of images whose means are taken apart.
    groups: usize,
}

impl LikelihoodLoss {
    fn apply(
        self,
        prediction: &Tensor,
        target: &Tensor,
        mask: &Tensor,
        confidence: Option<&Tensor>,
    ) -> Result<Tensor> {
        let inputs: Vec<&Tensor> = [prediction, target, mask].into_iter().chain(confidence).collect();
        apply_one(self, &inputs)
    }

    fn misfit(&self, prediction: &Tensor, target: &Tensor, mask: &Tensor) -> Error {
        let [prediction, target, mask] = [prediction, target, mask].map(Tensor::shape);
        let detail =
            format!("a prediction of shape {prediction} for a target of {target} under a mask of {mask}");
        Error::shape(self.name, detail)
    }

    fn layout(&self, prediction: &Tensor, target: &Tensor, mask: &Tensor) -> Result<cpu::Layout> {
        let [batch, height, width, channels] = target.dims(self.name)?;
        let halves = if *prediction.shape() == *target.shape() { 1 } else { 2 };
        let own_masks = *mask.shape() == [halves * batch, height, width];
        let fits = *prediction.shape() == [halves * batch, height, width, channels]
            && (own_masks || *mask.shape() == [batch, height, width])
            && target.numel() > 0;
        if !fits {
            return Err(self.misfit(prediction, target, mask));
        }
        if self.groups == 0 || batch % self.groups != 0 {
            let detail = format!("{batch} images cannot be divided into {} groups", self.groups);
            return Err(Error::shape(self.name, detail));
        }
        Ok(cpu::Layout { rows: batch * height, width, channels, halves, groups: self.groups, own_masks })
    }

    /// The layout of the inputs in the order of [`LikelihoodLoss::apply`], if they all fit.
    fn check(&self, inputs: &[&Tensor]) -> Result<cpu::Layout> {
        let layout = self.layout(inputs[0], inputs[1], inputs[2])?;
        let [batch, height, width, _] = inputs[1].dims(self.name)?;
        let expected = [batch, height, width, layout.halves];
        match inputs.get(3).filter(|confidence| *confidence.shape() != expected) {
            Some(confidence) => {
                let (confidence, target) = (confidence.shape(), inputs[1].shape());
                let detail = format!("a confidence of shape {confidence} for a target of {target}");
                Err(Error::shape(self.name, detail))
            }
            None => Ok(layout),
        }
    }
}

impl Operation for LikelihoodLoss {
    fn name(&self) -> &'static str {
        self.name
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let (prediction, target, mask, confidence) = (inputs[0], inputs[1], inputs[2], inputs.get(3));
        let layout = self.check(inputs)?;
        let data = [prediction, target, mask].map(Tensor::data);
        let losses = cpu::sums(self.likelihood, layout, data, confidence.map(|c| c.data()));
        let share = |sum: &f64| if *sum > 0.0 { 1.0 / (sum * layout.channels as f64) } else { 0.0 };
        let shares: Vec<f64> = cpu::mask_sums(layout, mask.data()).iter().map(share).collect();
        inputs.iter().for_each(|input| context.save(input));
        let narrow: Vec<f32> = shares.iter().map(|share| *share as f32).collect();
        context.save(&Tensor::new(&narrow, [layout.parts()])?);
        let losses: Vec<f32> =
            losses.iter().zip(&shares).map(|(loss, share)| (loss * share) as f32).collect();
        Ok(vec![Tensor::new(&losses, [layout.parts()])?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (shares, inputs) =
            backward.saved.split_last().expect("forward saved the inputs and their weight");
        let (prediction, target, mask, confidence) = (&inputs[0], &inputs[1], &inputs[2], inputs.get(3));
        let layout = self.layout(prediction, target, mask)?;
        let dy = backward.gradient().data();
        let scale: Vec<f32> = dy.iter().zip(shares.data()).map(|(dy, share)| dy * share).collect();
        let data = [prediction, target, mask].map(Tensor::data);
        let dprediction = backward.wants(0).then(|| {
            let mut gradient = Tensor::empty(prediction.shape());
            let confidence = confidence.map(Tensor::data);
            cpu::prediction_gradient(self.likelihood, layout, &scale, data, confidence, gradient.data_mut());
            gradient
        });
        let mut gradients = vec![dprediction, None, None];
        if let Some(confidence) = confidence {
            gradients.push(backward.wants(3).then(|| {
                let mut gradient = Tensor::empty(confidence.shape());
                let ds = gradient.data_mut();
                cpu::confidence_gradient(self.likelihood, layout, &scale, data, confidence.data(), ds);
                gradient
            }));
        }
        Ok(gradients)
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let layout = self.check(inputs)?;
        let all = [inputs[0], inputs[1], inputs[2]];
        let [losses, shares] = cuda::forward(self, layout, all, inputs.get(3).copied())?;
        inputs.iter().for_each(|input| context.save(input));
        context.save(&shares);
        Ok(vec![losses])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (shares, inputs) =
            backward.saved.split_last().expect("forward saved the inputs and their weight");
        let (all, confidence) = ([&inputs[0], &inputs[1], &inputs[2]], inputs.get(3));
        let layout = self.layout(all[0], all[1], all[2])?;
        let factors = [backward.gradient(), shares];
        let of_prediction = || cuda::prediction_gradient(self, layout, all, confidence, factors);
        let mut gradients = vec![backward.wants(0).then(of_prediction).transpose()?, None, None];
        if let Some(confidence) = confidence {
            let of_confidence = || cuda::confidence_gradient(self, layout, all, confidence, factors);
            gradients.push(backward.wants(3).then(of_confidence).transpose()?);
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, distance, random_multiples,
        random_tensor,
    };

    type Loss = fn(&Tensor, &Tensor, &Tensor, Option<&Tensor>, usize) -> Result<Tensor>;

    /// Losses, gradients of the prediction and of the confidence (for dy = [1, 2]) by the definition, in f64. The
    /// mask has the size of the features.
    fn naive(laplace: bool, inputs: [&Tensor; 3], confidence: Option<&Tensor>) -> [Vec<f64>; 3] {
        let eps = 1e-7;
        let [prediction, target, mask] =
            inputs.map(|tensor| tensor.data().iter().map(|x| f64::from(*x)).collect::<Vec<f64>>());
        let channels = inputs[1].shape()[3];
        let weight = mask.iter().sum::<f64>() * channels as f64;
        let mut losses = vec![0.0; 2];
        let mut dprediction = vec![0.0; prediction.len()];
        let mut dconfidence = vec![0.0; 2 * mask.len()];
        for (i, value) in prediction.iter().enumerate() {
            let (half, pixel) = (i / target.len(), i % target.len() / channels);
            let d = value - target[i % target.len()];
            let scale = (half + 1) as f64 * mask[pixel] / weight;
            let (error, slope) = if laplace { (d.abs(), d.signum()) } else { (d * d, 2.0 * d) };
            let Some(confidence) = confidence else {
                losses[half] += mask[pixel] * error / weight;
                dprediction[i] = scale * slope;
                continue;
            };
            let s = f64::from(confidence.data()[2 * pixel + half]);
            let (precision, its_slope) = if laplace {
                (2f64.sqrt() / (s + eps), -2f64.sqrt() / (s + eps).powi(2))
            } else {
                (1.0 / (2.0 * s * s + eps), -4.0 * s / (2.0 * s * s + eps).powi(2))
            };
            losses[half] += mask[pixel] * (error * precision + (s + eps).ln()) / weight;
            dprediction[i] = scale * slope * precision;
            dconfidence[2 * pixel + half] += scale * (error * its_slope + 1.0 / (s + eps));
        }
        [losses, dprediction, dconfidence]
    }

    /// Numbers between 0 and 1, `floor` added.
    fn positive<const N: usize>(seed: u64, shape: [usize; N], floor: f32) -> Tensor {
        let elements: Vec<f32> = random_tensor(seed, shape).data().iter().map(|x| x.abs() + floor).collect();
        Tensor::new(&elements, shape).unwrap()
    }

    fn case([b, h, w, c]: [usize; 4]) -> ([Tensor; 3], Tensor) {
        let inputs =
            [random_tensor(1, [2 * b, h, w, c]), random_tensor(2, [b, h, w, c]), positive(3, [b, h, w], 0.0)];
        (inputs, positive(4, [b, h, w, 2], 0.01))
    }

    #[test]
    fn agree_with_the_definition() {
        for (shape, loss, laplace) in [
            ([2, 5, 7, 3], photometric_loss as Loss, true),
            ([1, 1, 1, 1], photometric_loss, true),
            ([2, 3, 4, 37], perceptual_loss, false),
        ] {
            let ([prediction, target, mask], confidence) = case(shape);
            for confidence in [None, Some(&confidence)] {
                let tape = Tape::new();
                let prediction = tape.watch(&prediction);
                let variable = confidence.map(|confidence| tape.watch(confidence));
                let y = loss(&prediction, &target, &mask, variable.as_ref(), 1).unwrap();
                let dy = Tensor::new(&[1.0, 2.0], [2]).unwrap();
                let gradients = tape.backward_from(&[(&y, dy)]).unwrap();
                let [losses, dprediction, dconfidence] =
                    naive(laplace, [&prediction, &target, &mask], confidence);
                assert!(distance(y.data(), &losses) < 1e-6, "{y:?} for {losses:?}");
                assert!(distance(gradients.get(&prediction).unwrap().data(), &dprediction) < 1e-6);
                if let Some(variable) = variable {
                    assert!(distance(gradients.get(&variable).unwrap().data(), &dconfidence) < 1e-6);
                }
            }
        }
    }

    #[test]
    fn the_mask_is_averaged_to_the_size_of_the_features() {
        let (prediction, target) = (random_tensor(1, [4, 2, 3, 5]), random_tensor(2, [2, 2, 3, 5]));
        let mask = positive(3, [2, 8, 12], 0.0);
        let small = average_pool(&mask, 4).unwrap();
        let losses = perceptual_loss(&prediction, &target, &mask, None, 1).unwrap();
        assert_eq!(losses.data(), perceptual_loss(&prediction, &target, &small, None, 1).unwrap().data());
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        for (shape, loss) in [([2, 3, 4, 3], photometric_loss as Loss), ([1, 4, 3, 20], perceptual_loss)] {
            let [b, h, w, c] = shape;
            let prediction = random_multiples(1, [2 * b, h, w, c], 6);
            let target = random_multiples(2, shape, 6);
            let (mask, confidence) = (positive(3, [b, h, w], 0.0), positive(4, [b, h, w, 2], 0.5));
            let run = |inputs: &[Tensor]| loss(&inputs[0], &target, &mask, inputs.get(1), 1);
            assert_gradients(
                &[prediction, confidence],
                1.0 / 128.0,
                Tolerance { norm: 1e-3, element: 2e-3 },
                run,
            );
            let ([prediction, target, mask], confidence) = case([3, 31, 33, shape[3]]);
            assert_operation_independent_of_threads(&[prediction, confidence], |inputs| {
                loss(&inputs[0], &target, &mask, inputs.get(1), 1)
            });
        }
    }

    #[test]
    fn the_absolute_error_is_the_mean_over_the_mask_with_its_gradient() {
        // Multiples of 2^-6 apart, steps of 2^-8: no difference meets the kink of the absolute value but in its middle.
        let [prediction, target] = [1, 2].map(|seed| random_multiples(seed, [2, 4, 4, 3], 6));
        let mask =
            Tensor::new(&(0..32).map(|at| (at % 3 % 2) as f32).collect::<Vec<_>>(), [2, 4, 4]).unwrap();
        let error = absolute_error(&prediction, &target, &mask).unwrap().item().unwrap();
        let pairs = prediction.data().iter().zip(target.data()).enumerate();
        let seen: Vec<f32> =
            pairs.filter(|(at, _)| mask.data()[at / 3] > 0.0).map(|(_, (a, b))| (a - b).abs()).collect();
        assert!((error - seen.iter().sum::<f32>() / seen.len() as f32).abs() < 1e-6);
        let run = |inputs: &[Tensor]| absolute_error(&inputs[0], &target, &mask);
        assert_gradients(&[prediction], 1.0 / 256.0, Tolerance { norm: 1e-3, element: 2e-3 }, run);
    }

    /// Images `first..first + count` of both halves of a doubled batch.
    fn of_halves(x: &Tensor, first: usize, count: usize) -> Tensor {
        let half = x.shape()[0] / 2;
        let parts = [first, half + first].map(|first| x.narrow(first, count).unwrap());
        let mut shape = parts[0].shape().to_vec();
        shape[0] *= 2;
        Tensor::new(&[parts[0].data(), parts[1].data()].concat(), shape.as_slice()).unwrap()
    }

    #[test]
    fn groups_and_halves_with_masks_of_their_own_are_as_if_alone() {
        for loss in [photometric_loss as Loss, perceptual_loss] {
            let ([prediction, target, _], confidence) = case([4, 3, 5, 3]);
            let mask = positive(5, [8, 3, 5], 0.0);
            let tape = Tape::new();
            let watched = [&prediction, &confidence].map(|x| tape.watch(x));
            let y = loss(&watched[0], &target, &mask, Some(&watched[1]), 2).unwrap();
            assert_eq!(*y.shape(), [4]);
            let seed = Tensor::new(&[1.0, 2.0, 3.0, 4.0], [4]).unwrap();
            let all = tape.backward_from(&[(&y, seed)]).unwrap();
            for (part, (group, half)) in [(0, 0), (1, 0), (0, 1), (1, 1)].into_iter().enumerate() {
                // Alone, with one mask for both halves: only the half whose mask it is counts.
                let tape = Tape::new();
                let [prediction, confidence] =
                    [of_halves(&prediction, 2 * group, 2), confidence.narrow(2 * group, 2).unwrap()]
                        .map(|x| tape.watch(&x));
                let target = target.narrow(2 * group, 2).unwrap();
                let mask = mask.narrow(4 * half + 2 * group, 2).unwrap();
                let alone = loss(&prediction, &target, &mask, Some(&confidence), 1).unwrap();
                assert_eq!(alone.data()[half], y.data()[part]);
                let mut seed = [0.0; 2];
                seed[half] = (part + 1) as f32;
                let gradients = tape.backward_from(&[(&alone, Tensor::new(&seed, [2]).unwrap())]).unwrap();
                let found = all.get(&watched[0]).unwrap().narrow(4 * half + 2 * group, 2).unwrap();
                let right = gradients.get(&prediction).unwrap().narrow(2 * half, 2).unwrap();
                assert_eq!(found.data(), right.data());
                let found = all.get(&watched[1]).unwrap().narrow(2 * group, 2).unwrap();
                let right = gradients.get(&confidence).unwrap();
                let channel = |x: &Tensor| x.data().iter().skip(half).step_by(2).copied().collect::<Vec<_>>();
                assert_eq!(channel(&found), channel(right));
            }
        }
        // Without a second half.
        let ([prediction, target, mask], confidence) = case([2, 3, 5, 3]);
        for loss in [photometric_loss as Loss, perceptual_loss] {
            let both = loss(&prediction, &target, &mask, Some(&confidence), 1).unwrap();
            let first = prediction.narrow(0, 2).unwrap();
            let seen: Vec<f32> = confidence.data().iter().step_by(2).copied().collect();
            let seen = Tensor::new(&seen, [2, 3, 5, 1]).unwrap();
            let alone = loss(&first, &target, &mask, Some(&seen), 1).unwrap();
            assert_eq!(alone.data(), &both.data()[..1]);
            let inputs = [first, seen].map(|x| Tensor::new(x.data(), x.shape()).unwrap());
            assert_operation_independent_of_threads(&inputs, |x| loss(&x[0], &target, &mask, Some(&x[1]), 2));
        }
        let ([prediction, target, mask], _) = case([3, 2, 2, 1]);
        for groups in [0, 2] {
            assert!(photometric_loss(&prediction, &target, &mask, None, groups).is_err());
        }
    }

    #[test]
    fn an_empty_mask_and_a_perfect_prediction_give_no_gradient() {
        for loss in [photometric_loss as Loss, perceptual_loss] {
            let ([prediction, target, mask], confidence) = case([1, 4, 4, 3]);
            let perfect = Tensor::new(&[target.data(), target.data()].concat(), prediction.shape()).unwrap();
            for (prediction, mask) in [(&prediction, &Tensor::zeros([1, 4, 4])), (&perfect, &mask)] {
                let tape = Tape::new();
                let (prediction, confidence) = (tape.watch(prediction), tape.watch(&confidence));
                let y = loss(&prediction, &target, mask, Some(&confidence), 1).unwrap();
                let gradients = tape.backward(&y).unwrap();
                assert!(gradients.get(&prediction).unwrap().data().iter().all(|dx| *dx == 0.0));
                assert!(gradients.get(&confidence).unwrap().data().iter().all(|ds| ds.is_finite()));
                if mask.data().iter().all(|m| *m == 0.0) {
                    assert_eq!(y.data(), [0.0, 0.0]);
                }
            }
        }
        // The surest confidence there is.
        let ([prediction, target, mask], _) = case([1, 4, 4, 3]);
        let y = photometric_loss(&prediction, &target, &mask, Some(&Tensor::zeros([1, 4, 4, 2])), 1).unwrap();
        assert!(y.data().iter().all(|loss| loss.is_finite()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ([prediction, target, mask], _) = case([2, 4, 4, 3]);
        let error = photometric_loss(&prediction, &prediction, &mask, None, 1).unwrap_err().to_string();
        let expected =
            "a prediction of shape [4, 4, 4, 3] for a target of [4, 4, 4, 3] under a mask of [2, 4, 4]";
        assert_eq!(error, format!("photometric_loss: {expected}"));
        assert!(photometric_loss(&prediction, &target, &mask, Some(&mask), 1).is_err());
        assert!(perceptual_loss(&prediction, &target, &Tensor::zeros([2, 6, 6]), None, 1).is_err());
        assert!(perceptual_loss(&prediction, &target, &Tensor::zeros([2, 2, 2]), None, 1).is_err());
        assert!(perceptual_loss(&prediction, &target, &Tensor::scalar(1.0), None, 1).is_err());
    }
}
