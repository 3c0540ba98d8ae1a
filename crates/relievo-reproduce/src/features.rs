//! Perceptual features without labels: VGG16's layers, learned from the images alone.
//!
//! The feature network and a decoder behind it restore damaged images: half of the squares of 8x8 pixels are grey, and the
//! others are noisy. To restore what is missing, features must encode what heads look like. The decoder is discarded. It stands in for the self-supervised features of Wu et al. 2020, table 3, which
//! learned from other images by another task. Denoising: Vincent et al. 2008; filling in: Pathak et al. 2016.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relievo_data::{Loader, LoaderOptions, Source, Training};
use relievo_nets::{Layer, Network, Vgg};
use relievo_tensor::ops::{Activation, AdamStep, absolute_error};
use relievo_tensor::{ConvPolicy, DataType, Device, Error, Random, Tape, Tensor};

use crate::error::FeatureError;

/// Sides of the squares that are grey, in pixels.
const SQUARE: usize = 8;
/// Noise is uniform between minus and plus this, images being in [-1,1].
const NOISE: f32 = 0.2;
/// Images that decide how large the features are.
const MEASURED: usize = 64;

/// Settings for learning features.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FeatureSettings {
    pub steps: u64,
    pub batch_size: usize,
    pub learning_rate: f64,
    pub seed: u64,
    pub workers: usize,
    /// How exactly a GPU computes convolutions.
    pub policy: ConvPolicy,
}

/// Learns features from images of `size` x `size`; `None` if it is told to stop. `told` receives each step and its loss,
/// the mean absolute error of the restored image.
pub(crate) fn learn(
    images: &Arc<dyn Source>,
    size: usize,
    settings: &FeatureSettings,
    device: Device,
    told: &mut dyn FnMut(u64, f32),
    stop: &AtomicBool,
) -> Result<Option<Vgg>, FeatureError> {
    let options = |batch_size| LoaderOptions {
        workers: settings.workers,
        ..LoaderOptions::new(batch_size, size as u32)
    };
    let order = Training { seed: settings.seed, mirror: true, ..Training::default() };
    let mut loader = Loader::training(Arc::clone(images), options(settings.batch_size), order)?;
    let decoder = decoder();
    let mut parameters = Vgg::untrained(settings.seed).parameters();
    let of_features = parameters.len();
    parameters.extend(decoder.parameters().iter().map(|info| info.initialise(settings.seed)));
    for parameter in &mut parameters {
        *parameter = parameter.to_device(device)?;
    }
    let zeros = || parameters.iter().map(Tensor::zeros_like).collect::<Result<Vec<_>, _>>();
    let (mut mean, mut square) = (zeros()?, zeros()?);
    let mut loss = f32::NAN;
    for step in 1..=settings.steps {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(batch) = loader.next() else { break };
        let images = batch?.images;
        let damaged = damaged(&images, settings.seed, step)?.to_device(device)?;
        let images = images.to_device(device)?;
        let tape = Tape::new();
        let watched: Vec<Tensor> = parameters.iter().map(|parameter| tape.watch(parameter)).collect();
        let (of_vgg, of_decoder) = watched.split_at(of_features);
        let mut vgg = Vgg::from_parameters(of_vgg)?;
        vgg.set_conv_policy(settings.policy);
        let features = vgg.features(&damaged)?;
        let found = decoder.forward(&features, of_decoder, settings.policy)?;
        let [count, height, width, _] = images.dims("features")?;
        let everywhere = Tensor::full_on(device, [count, height, width], 1.0)?;
        let error = absolute_error(&found, &images, &everywhere)?;
        let mut gradients = tape.backward(&error)?;
        let gradients = watched
            .iter()
            .map(|parameter| gradients.take(parameter).map_or_else(|| parameter.zeros_like(), Ok))
            .collect::<Result<Vec<_>, _>>()?;
        loss = error.item()?;
        drop((watched, features, found));
        let rule = AdamStep { learning_rate: settings.learning_rate, step, ..AdamStep::default() };
        rule.apply(&mut parameters, &gradients, &mut mean, &mut square)?;
        told(step, loss);
    }
    drop(loader);
    let learned = Vgg::from_parameters(&parameters[..of_features])?;
    // As large as VGG16's, so that the weight of the perceptual loss means the same.
    let Some(batch) = Loader::evaluation(Arc::clone(images), options(MEASURED))?.next() else {
        return Ok(Some(learned));
    };
    let images = batch?.images.to_device(device)?;
    let mean_square = |vgg: &Vgg| -> Result<f64, Error> {
        let features = vgg.to_device(device, DataType::F32)?.features(&images)?;
        Ok(relievo_tensor::ops::squared_norm(&[features.detach()])? / features.numel() as f64)
    };
    let (of_vgg, of_learned) = (mean_square(&Vgg::new()?)?, mean_square(&learned)?);
    let factor = (of_vgg / of_learned).sqrt() as f32;
    if !factor.is_finite() || !loss.is_finite() {
        return Err(FeatureError::Nothing { step: settings.steps, loss });
    }
    Ok(Some(learned.scaled(factor)?))
}

/// From features `[B,S/4,S/4,256]` to images `[B,S,S,3]` in (-1, 1).
fn decoder() -> Network {
    let layers = vec![
        Layer::deconv(256, 128, [4, 2, 1]).norm(32).then(Activation::Relu),
        Layer::deconv(128, 64, [4, 2, 1]).norm(16).then(Activation::Relu),
        Layer::conv(64, 3, [5, 1, 2]).then(Activation::Tanh),
    ];
    Network::new("decoder", layers)
}

/// The images `[B,S,S,3]` of a step, damaged: a function of seed and step.
fn damaged(images: &Tensor, seed: u64, step: u64) -> Result<Tensor, Error> {
    let [batch, height, width, channels] = images.dims("damaged images")?;
    let random = Random::named(seed, "damage").fork(step);
    let (squares, noise) = (random.fork(0), random.fork(1));
    let mut damaged = Tensor::new(images.data(), [batch, height, width, channels])?;
    let across = width.div_ceil(SQUARE);
    for (at, value) in damaged.data_mut().iter_mut().enumerate() {
        let (row, column) = (at / (width * channels), at / channels % width);
        let square = row / SQUARE * across + column / SQUARE;
        let grey = squares.bits(square as u64) & 1 == 1;
        *value = if grey { 0.0 } else { *value + NOISE * (2.0 * noise.uniform(at as u64) - 1.0) };
    }
    Ok(damaged)
}

#[cfg(test)]
mod tests {
    use relievo_synth::Heads;

    use super::*;

    #[test]
    fn half_of_the_squares_are_grey_and_the_rest_is_near_what_it_was() {
        let images = Tensor::full([2, 64, 64, 3], 0.5);
        let damage = damaged(&images, 1, 7).unwrap();
        let grey = |value: &&f32| **value == 0.0;
        let share = damage.data().iter().filter(grey).count() as f32 / damage.numel() as f32;
        assert!((0.4..0.6).contains(&share), "{share}");
        assert!(damage.data().iter().all(|value| *value == 0.0 || (value - 0.5).abs() <= NOISE));
        // The first square is of one kind, in all channels.
        let first: Vec<bool> =
            (0..8 * 8 * 3).map(|i| damage.data()[i / 24 * 64 * 3 + i % 24] == 0.0).collect();
        assert!(first.iter().all(|grey| *grey == first[0]));
        assert_eq!(damaged(&images, 1, 7).unwrap().data(), damage.data());
        assert_ne!(damaged(&images, 1, 8).unwrap().data(), damage.data());
    }

    #[test]
    fn features_learn_to_put_images_right_and_are_as_large_as_vggs() {
        let heads: Arc<dyn Source> = Arc::new(Heads::range(1, 0, 8));
        let policy = ConvPolicy::default();
        let settings =
            FeatureSettings { steps: 40, batch_size: 4, learning_rate: 5e-4, seed: 2, workers: 1, policy };
        let mut losses = Vec::new();
        let mut told = |step, loss| losses.push((step, loss));
        let never = AtomicBool::new(false);
        let learned = learn(&heads, 32, &settings, Device::Cpu, &mut told, &never).unwrap().unwrap();
        assert_eq!(losses.iter().map(|(step, _)| *step).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
        let mean = |part: &[(u64, f32)]| part.iter().map(|(_, loss)| loss).sum::<f32>() / part.len() as f32;
        let (first, last) = (mean(&losses[..10]), mean(&losses[30..]));
        assert!(last < 0.8 * first, "{losses:?}");
        let samples: Vec<f32> = (0..8)
            .flat_map(|index| heads.sample(index, 32).unwrap().image.signed().collect::<Vec<_>>())
            .collect();
        let images = Tensor::new(&samples, [8, 32, 32, 3]).unwrap();
        let norm = |vgg: &Vgg| relievo_tensor::ops::squared_norm(&[vgg.features(&images).unwrap()]).unwrap();
        let ratio = norm(&learned) / norm(&Vgg::new().unwrap());
        assert!((ratio - 1.0).abs() < 1e-3, "{ratio}");
        let at_once = learn(&heads, 32, &settings, Device::Cpu, &mut |_, _| (), &AtomicBool::new(true));
        assert!(at_once.unwrap().is_none());
    }
}
