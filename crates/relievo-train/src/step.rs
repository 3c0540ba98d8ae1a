//! One optimiser step: gradients of a batch, in pieces if need be, checked, clipped, and handed to Adam.

use relievo_model::{Losses, Model, ModelError};
use relievo_tensor::Tensor;
use relievo_tensor::ops::{AdamStep, add_into, scale_all, squared_norm};

use crate::checkpoint::Moments;
use crate::evaluation::add_losses;
use crate::settings::TrainSettings;

/// What a step found.
pub(crate) struct Step {
    pub losses: Losses,
    pub learning_rate: f64,
    pub gradient_norm: f64,
}

/// Why no step was taken. Parameters and moments are as they were.
#[derive(Debug)]
pub(crate) enum StepError {
    Model(ModelError),
    /// Which loss or gradient is not finite.
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

/// Takes step number `step` (the first is 1) on `pictures [B,S,S,3]`.
pub(crate) fn take(
    model: &mut Model,
    moments: &mut Moments,
    pictures: &Tensor,
    flip_weight: f32,
    step: u64,
    settings: &TrainSettings,
) -> Result<Step, StepError> {
    let (losses, mut gradients) = accumulate(model, pictures, flip_weight, settings.micro_batch)?;
    if let Some((name, value)) = named(&losses).into_iter().find(|(_, value)| !value.is_finite()) {
        return Err(StepError::NonFinite(format!("the {name} loss is {value}")));
    }
    let gradient_norm = squared_norm(&gradients).sqrt();
    if !gradient_norm.is_finite() {
        let infos = model.parameter_infos().iter().zip(&gradients);
        let culprit =
            infos.map(|(info, gradient)| (&info.name, squared_norm(std::slice::from_ref(gradient))));
        let name = culprit.filter(|(_, norm)| !norm.is_finite()).map(|(name, _)| name.as_str()).next();
        return Err(StepError::NonFinite(format!(
            "the gradient of {} is not finite",
            name.unwrap_or("a parameter")
        )));
    }
    if settings.clip_norm > 0.0 && gradient_norm > settings.clip_norm {
        scale_all(&mut gradients, (settings.clip_norm / gradient_norm) as f32);
    }
    let learning_rate = learning_rate(settings, step);
    let adam = AdamStep {
        learning_rate,
        betas: [settings.beta1, settings.beta2],
        epsilon: settings.epsilon,
        weight_decay: settings.weight_decay,
        step,
    };
    adam.apply(model.parameters_mut(), &gradients, &mut moments.mean, &mut moments.square)?;
    Ok(Step { losses, learning_rate, gradient_norm })
}

/// Losses and gradients of a batch as the mean over its micro-batches, weighted by their numbers of pictures.
///
/// Within a micro-batch a loss is the mean over the pixels the mask leaves, so a picture of which more is seen weighs
/// more there; between micro-batches it does not. That is the difference to the whole batch at once.
fn accumulate(
    model: &Model,
    pictures: &Tensor,
    flip_weight: f32,
    micro_batch: usize,
) -> Result<(Losses, Vec<Tensor>), StepError> {
    let [batch, height, width, channels] = pictures.axes("training step")?;
    if micro_batch == 0 || micro_batch >= batch {
        return Ok(model.loss_and_gradients(pictures, flip_weight)?);
    }
    let mut sum: Option<(Losses, Vec<Tensor>)> = None;
    for piece in pictures.data().chunks(micro_batch * height * width * channels) {
        let count = piece.len() / (height * width * channels);
        let piece = Tensor::new(piece, [count, height, width, channels])?;
        let (losses, mut gradients) = model.loss_and_gradients(&piece, flip_weight)?;
        let weight = count as f32 / batch as f32;
        scale_all(&mut gradients, weight);
        let (sum_losses, sum_gradients) = sum.get_or_insert_with(|| (Losses::default(), Vec::new()));
        add_losses(sum_losses, &losses, weight);
        if sum_gradients.is_empty() {
            *sum_gradients = gradients;
        } else {
            for (sum, gradient) in sum_gradients.iter_mut().zip(&gradients) {
                add_into(sum, gradient);
            }
        }
    }
    Ok(sum.unwrap_or_default())
}

/// The learning rate of a step (the first is 1): linear up to the end of the warm-up, constant after.
pub(crate) fn learning_rate(settings: &TrainSettings, step: u64) -> f64 {
    if step < settings.warm_up_steps {
        settings.learning_rate * step as f64 / settings.warm_up_steps as f64
    } else {
        settings.learning_rate
    }
}

fn named(losses: &Losses) -> [(&'static str, f32); 6] {
    [
        ("photometric", losses.photometric),
        ("mirrored photometric", losses.photometric_flip),
        ("perceptual", losses.perceptual),
        ("mirrored perceptual", losses.perceptual_flip),
        ("smoothness", losses.smoothness),
        ("total", losses.total),
    ]
}
