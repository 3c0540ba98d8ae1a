//! One optimiser step: gradients of a batch, in pieces if need be, checked, clipped, and handed to Adam.

use std::ops::Range;

use relievo_model::{Losses, Model, ModelError, Objective, Partners};
use relievo_nets::ParameterInfo;
use relievo_tensor::ops::{AdamStep, add_into, cast, ema_update, scale_all, squared_norm};
use relievo_tensor::{DataType, Tensor};

use crate::optimiser::Moments;
use crate::settings::{Learn, TrainSettings};

/// Results of a step.
pub(crate) struct Step {
    pub losses: Losses,
    pub gradient_norm: f64,
}

/// The reason why no step was taken. Parameters and moments are unchanged.
#[derive(Debug)]
pub(crate) enum StepError {
    Model(ModelError),
    /// The name of the loss or gradient that is not finite.
    NonFinite(String),
}

impl From<ModelError> for StepError {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

impl From<relievo_tensor::Error> for StepError {
    fn from(error: relievo_tensor::Error) -> Self {
        Self::Model(error.into())
    }
}

/// Takes step number `step` (the first is 1) on `images [B,S,S,3]`.
pub(crate) fn take(
    model: &mut Model,
    moments: &mut Moments,
    images: &Tensor,
    objective: Objective<'_>,
    step: u64,
    settings: &TrainSettings,
) -> Result<Step, StepError> {
    let micro_batch = settings.micro_batch_on(model.device());
    let (losses, mut gradients) = losses_and_gradients(model, images, objective, micro_batch)?;
    if let Some(what) = name_of_first_not_finite(&losses) {
        return Err(StepError::NonFinite(what));
    }
    let learning = learning(model, settings.learn);
    let mut squares = 0.0;
    for part in &learning {
        squares += squared_norm(&gradients[part.clone()])?;
    }
    let gradient_norm = squares.sqrt();
    if !gradient_norm.is_finite() {
        let mut name = "a parameter";
        for (info, gradient) in model.parameter_infos().iter().zip(&gradients) {
            if !squared_norm(std::slice::from_ref(gradient))?.is_finite() {
                name = &info.name;
                break;
            }
        }
        return Err(StepError::NonFinite(format!("the gradient of {name} is not finite")));
    }
    if settings.clip_norm > 0.0 && gradient_norm > settings.clip_norm {
        scale_all(&mut gradients, (settings.clip_norm / gradient_norm) as f32)?;
    }
    let adam = adam_step(settings, step);
    for part in learning {
        let [mean, square] =
            [&mut moments.exp_avg, &mut moments.exp_avg_sq].map(|all| &mut all[part.clone()]);
        adam.apply(&mut model.parameters_mut()[part.clone()], &gradients[part], mean, square)?;
    }
    average(model, moments, settings.ema_decay)?;
    Ok(Step { losses, gradient_norm })
}

/// The ranges of the parameters that learn. Those of the others stay, which weight decay would not leave them.
fn learning(model: &Model, learn: Learn) -> Vec<Range<usize>> {
    let learns = |info: &ParameterInfo| match learn {
        Learn::All => true,
        Learn::Texture => {
            !["depth.", "view.", "pair-confidence."].iter().any(|network| info.name.starts_with(network))
        }
        Learn::Decomposition => !info.name.starts_with("renderer."),
    };
    let infos = model.parameter_infos();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for index in (0..infos.len()).filter(|index| learns(&infos[*index])) {
        match ranges.last_mut() {
            Some(range) if range.end == index => range.end += 1,
            _ => ranges.push(index..index + 1),
        }
    }
    ranges
}

/// Updates the running mean of the parameters, if one is kept.
pub(crate) fn average(model: &Model, moments: &mut Moments, decay: f64) -> Result<(), relievo_tensor::Error> {
    if moments.ema.is_empty() {
        return Ok(());
    }
    ema_update(&mut moments.ema, model.parameters(), (1.0 - decay) as f32)
}

/// A part of a batch that goes through the networks together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MicroBatch {
    /// Number of its first image in the batch.
    pub first: usize,
    /// Its images.
    pub count: usize,
    /// Its share of the batch's images.
    pub share: f32,
}

/// Cuts a batch into parts of up to `size` images; 0 leaves it whole.
pub(crate) fn micro_batches(batch: usize, size: usize) -> Vec<MicroBatch> {
    let size = if size == 0 { batch } else { size };
    let part = |first: usize| {
        let count = size.min(batch - first);
        MicroBatch { first, count, share: count as f32 / batch as f32 }
    };
    // A batch of nothing is one part, whose images the model refuses.
    (0..batch.max(1)).step_by(size.max(1)).map(part).collect()
}

/// What was found in each micro-batch, with its share of the batch.
pub(crate) type Shares<L> = Vec<(f32, L)>;

/// Losses `L` of each micro-batch, and the gradients of the batch: the mean over its micro-batches,
/// weighted by their numbers of images. `differentiate` is called with the number of each. This is the body of a step,
/// taken from the host or captured.
///
/// Within a micro-batch a loss is the mean over all pixels that the masks leave, so an image with more of them weighs
/// more than another. Micro-batches are weighted by their numbers of images alone. That is the difference to the whole
/// batch at once.
pub(crate) fn accumulate<L>(
    parts: &[MicroBatch],
    mut differentiate: impl FnMut(usize) -> Result<(L, Vec<Tensor>), ModelError>,
) -> Result<(Shares<L>, Vec<Tensor>), ModelError> {
    let (mut losses, mut sum) = (Vec::new(), Vec::new());
    for (number, part) in parts.iter().enumerate() {
        let (found, mut gradients) = differentiate(number)?;
        losses.push((part.share, found));
        if parts.len() > 1 {
            gradients = as_f32(&gradients)?;
            scale_all(&mut gradients, part.share)?;
        }
        if sum.is_empty() {
            sum = gradients;
        } else {
            for (sum, gradient) in sum.iter_mut().zip(&gradients) {
                add_into(sum, gradient)?;
            }
        }
    }
    Ok((losses, sum))
}

/// Losses and gradients of a batch, in micro-batches of up to `micro_batch` images.
fn losses_and_gradients(
    model: &Model,
    images: &Tensor,
    objective: Objective<'_>,
    micro_batch: usize,
) -> Result<(Losses, Vec<Tensor>), StepError> {
    let [batch, _, _, _] = images.dims("training step")?;
    let parts = micro_batches(batch, micro_batch);
    let (of_parts, gradients) = accumulate(&parts, |number| {
        let part = &parts[number];
        if part.count == batch {
            return model.loss_and_gradients(images, objective);
        }
        let cut = |tensor: &Tensor| tensor.narrow(part.first, part.count);
        let truth = objective.truth.map(|truth| truth.map(cut)).transpose()?;
        let partners = match objective.partners {
            Partners::Images(partners) => Some(cut(partners)?),
            Partners::Mirrored | Partners::Nobody => None,
        };
        let partners = partners.as_ref().map_or(objective.partners, Partners::Images);
        model.loss_and_gradients(&cut(images)?, objective.with_truth(truth.as_ref()).with_partners(partners))
    })?;
    let mut losses = Losses::default();
    for (share, of_part) in &of_parts {
        losses.add(of_part, *share);
    }
    Ok((losses, gradients))
}

/// Gradients as they are added up: those of working copies have the copies' precision.
fn as_f32(gradients: &[Tensor]) -> Result<Vec<Tensor>, relievo_tensor::Error> {
    gradients.iter().map(|gradient| cast(gradient, DataType::F32)).collect()
}

/// The factor on the weight of the perceptual loss in a step (the first is 1): the steps that have it make up for those
/// that do not.
pub(crate) fn perceptual_factor(settings: &TrainSettings, step: u64) -> f32 {
    let every = settings.perceptual_every;
    if step.is_multiple_of(every) { every as f32 } else { 0.0 }
}

/// The learning rate of a step (the first is 1): linear up to the end of the warm-up, then down along half a cosine if
/// that is asked for, constant after.
pub(crate) fn learning_rate(settings: &TrainSettings, step: u64) -> f64 {
    let &TrainSettings { learning_rate, warm_up_steps, decay_steps, final_learning_rate, .. } = settings;
    if step < warm_up_steps {
        learning_rate * step as f64 / warm_up_steps as f64
    } else if decay_steps == 0 {
        learning_rate
    } else {
        let fallen = ((step - warm_up_steps) as f64 / decay_steps as f64).min(1.0);
        let left = (1.0 + (std::f64::consts::PI * fallen).cos()) / 2.0;
        final_learning_rate + left * (learning_rate - final_learning_rate)
    }
}

/// The rule of a step (the first is 1).
pub(crate) fn adam_step(settings: &TrainSettings, step: u64) -> AdamStep {
    AdamStep {
        learning_rate: learning_rate(settings, step),
        betas: [settings.beta1, settings.beta2],
        epsilon: settings.epsilon,
        weight_decay: settings.weight_decay,
        step,
    }
}

/// Which loss is not finite, in words; `None` if all are.
pub(crate) fn name_of_first_not_finite(losses: &Losses) -> Option<String> {
    losses.first_not_finite().map(|(name, value)| format!("the {name} loss is {value}"))
}

#[cfg(test)]
mod tests {
    use relievo_model::{GroundTruth, Loss};
    use relievo_tensor::{Device, Random};

    use super::*;

    fn model() -> Model {
        Model::new(relievo_model::ModelSettings::tiny(), 1).unwrap()
    }

    /// `count` times the same image.
    fn images(count: usize) -> Tensor {
        let random = Random::new(3, 0);
        let image: Vec<f32> = (0..64 * 64 * 3).map(|i| 2.0 * random.uniform(i) - 1.0).collect();
        Tensor::new(&image.repeat(count), [count, 64, 64, 3]).unwrap()
    }

    fn relative_distance(a: &[Tensor], b: &[Tensor]) -> f64 {
        let pairs = || a.iter().zip(b).flat_map(|(a, b)| a.data().iter().zip(b.data()));
        let difference: f64 = pairs().map(|(a, b)| f64::from(a - b).powi(2)).sum();
        (difference / squared_norm(b).unwrap()).sqrt()
    }

    #[test]
    fn micro_batches_cover_the_batch() {
        let cut =
            |size| micro_batches(5, size).iter().map(|part| (part.first, part.count)).collect::<Vec<_>>();
        assert_eq!((cut(0), cut(7)), (vec![(0, 5)], vec![(0, 5)]));
        assert_eq!(cut(2), [(0, 2), (2, 2), (4, 1)]);
        assert_eq!(micro_batches(5, 2)[2].share, 0.2);
    }

    #[test]
    fn micro_batches_of_like_images_add_up_to_the_whole_batch() {
        let (model, images) = (model(), images(3));
        let (whole_losses, whole) = losses_and_gradients(&model, &images, 0.5.into(), 0).unwrap();
        for micro_batch in [1, 2] {
            let (losses, pieces) = losses_and_gradients(&model, &images, 0.5.into(), micro_batch).unwrap();
            assert!((losses.total - whole_losses.total).abs() < 1e-4 * whole_losses.total.abs());
            let distance = relative_distance(&pieces, &whole);
            assert!(distance < 1e-3, "{micro_batch}: {distance}");
        }
    }

    #[test]
    fn micro_batches_that_learn_from_depth_see_their_own_truth() {
        let settings = relievo_model::ModelSettings {
            supervision: relievo_model::Supervision::Depth,
            ..relievo_model::ModelSettings::tiny()
        };
        let model = Model::new(settings, 1).unwrap();
        let random = Random::new(4, 0);
        let noise = |from: u64, shape: [usize; 3]| {
            let count = shape.iter().product::<usize>() as u64;
            let numbers: Vec<f32> = (0..count).map(|at| 0.9 + 0.2 * random.uniform(from + at)).collect();
            Tensor::new(&numbers, shape).unwrap()
        };
        let images = Tensor::new(noise(0, [3, 64, 64 * 3]).data(), [3, 64, 64, 3]).unwrap();
        // As many pixels count in each image: then the mean over pieces is the mean over the batch.
        let truth = GroundTruth {
            depth: noise(1 << 20, [3, 64, 64]),
            mask: Tensor::full([3, 64, 64], 1.0),
            ..GroundTruth::unknown(Device::Cpu, 3, 64).unwrap()
        };
        let objective = Objective::from(0.5).with_truth(Some(&truth));
        let (whole_losses, whole) = losses_and_gradients(&model, &images, objective, 0).unwrap();
        for micro_batch in [1, 2] {
            let (losses, pieces) = losses_and_gradients(&model, &images, objective, micro_batch).unwrap();
            assert!(
                (losses[Loss::Depth] - whole_losses[Loss::Depth]).abs() < 1e-5 * whole_losses[Loss::Depth]
            );
            let distance = relative_distance(&pieces, &whole);
            assert!(distance < 1e-3, "{micro_batch}: {distance}");
        }
    }

    #[test]
    fn a_long_gradient_is_shortened_to_the_norm_asked_for() {
        // Without decay Adam's first mean is (1 - beta1) times the gradient it got.
        let norm_seen = |clip_norm: f64| {
            let (mut model, settings) =
                (model(), TrainSettings { clip_norm, weight_decay: 0.0, ..TrainSettings::default() });
            let mut moments = Moments::zeros(&model);
            let step = take(&mut model, &mut moments, &images(1), 0.5.into(), 1, &settings).unwrap();
            (step.gradient_norm, squared_norm(&moments.exp_avg).unwrap().sqrt() / 0.1)
        };
        let (norm, seen) = norm_seen(0.0);
        assert!((seen / norm - 1.0).abs() < 1e-4);
        assert!((norm_seen(norm / 4.0).1 / norm - 0.25).abs() < 1e-4);
        assert!((norm_seen(norm * 4.0).1 / norm - 1.0).abs() < 1e-4);
    }

    #[test]
    fn steps_with_the_perceptual_loss_make_up_for_those_without() {
        let factors = |perceptual_every| {
            let settings = TrainSettings { perceptual_every, ..TrainSettings::default() };
            [1, 2, 3, 4, 5, 6].map(|step| perceptual_factor(&settings, step))
        };
        assert_eq!(factors(1), [1.0; 6]);
        assert_eq!(factors(3), [0.0, 0.0, 3.0, 0.0, 0.0, 3.0]);
    }

    #[test]
    fn the_learning_rate_rises_and_stays() {
        let settings = TrainSettings { learning_rate: 1.0, warm_up_steps: 4, ..TrainSettings::default() };
        let rates = [1, 2, 4, 5, 100].map(|step| learning_rate(&settings, step));
        assert_eq!(rates, [0.25, 0.5, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn the_learning_rate_falls_if_it_is_asked_to() {
        let settings = TrainSettings {
            learning_rate: 1.0,
            warm_up_steps: 4,
            decay_steps: 8,
            final_learning_rate: 0.2,
            ..TrainSettings::default()
        };
        let rates = [2, 4, 6, 8, 12, 100].map(|step| learning_rate(&settings, step));
        let quarter = 0.6 + 0.4 * std::f64::consts::FRAC_1_SQRT_2;
        let right = [0.5, 1.0, quarter, 0.6, 0.2, 0.2];
        assert!(rates.iter().zip(right).all(|(rate, right)| (rate - right).abs() < 1e-12), "{rates:?}");
    }

    #[test]
    fn a_step_that_is_not_finite_changes_nothing() {
        let mut model = model();
        let mut moments = Moments::zeros(&model);
        let mut broken = images(1);
        broken.data_mut()[100] = f32::NAN;
        let before: Vec<Tensor> = model.parameters().to_vec();
        let step = take(&mut model, &mut moments, &broken, 0.5.into(), 1, &TrainSettings::default());
        assert!(matches!(step, Err(StepError::NonFinite(what)) if what.contains("loss is NaN")));
        for (after, before) in model.parameters().iter().zip(&before) {
            assert_eq!(after.data(), before.data());
        }
        assert_eq!(squared_norm(&moments.exp_avg).unwrap(), 0.0);
    }
}
