//! The section `[train]`: steps, their rule, and what is done between them.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use relievo_tensor::Device;
use serde::{Deserialize, Serialize};

/// Weights files that a program has in itself, with their names.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct EmbeddedWeights(pub &'static [(&'static str, &'static [u8])]);

impl EmbeddedWeights {
    /// The file of that name.
    pub fn find(&self, name: &Path) -> Option<&'static [u8]> {
        self.0.iter().find(|(known, _)| Path::new(known) == name).map(|(_, bytes)| *bytes)
    }
}

impl fmt::Debug for EmbeddedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// How the model learns.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainSettings {
    /// Seed of the parameters, the order of the images, the mirroring and the moving of crops
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Passes over the images; by preset: face 30, cat 200, car 100
    #[arg(long, default_value_t = 30)]
    pub epochs: u64,
    /// Stop after this many optimiser steps; 0 leaves the end to the epochs
    #[arg(long, default_value_t = 0)]
    pub steps: u64,
    /// Stop after this many minutes of training; 0 sets no limit
    #[arg(long, default_value_t = 0.0)]
    pub minutes: f64,
    /// Images in an optimiser step
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Images that go through the networks together; 0 takes 16 on a CPU and the whole batch on a GPU. A smaller
    /// number needs less memory. The losses are means over the mask within each micro-batch, then over the images of
    /// the batch, so the result differs slightly from that of the whole batch
    #[arg(long, default_value_t = 0)]
    pub micro_batch: usize,
    /// Learning rate of Adam
    #[arg(long, default_value_t = 1e-4)]
    pub learning_rate: f64,
    /// Steps over which the learning rate rises linearly from 0 at the beginning
    #[arg(long, default_value_t = 0)]
    pub warm_up_steps: u64,
    /// Steps after the warm-up over which the learning rate falls, along half a cosine, to the final one; 0 leaves it
    /// as it is
    #[arg(long, default_value_t = 0)]
    pub decay_steps: u64,
    /// Learning rate after the fall
    #[arg(long, default_value_t = 0.0)]
    pub final_learning_rate: f64,
    /// Decay of Adam's mean of the gradients
    #[arg(long, default_value_t = 0.9)]
    pub beta1: f64,
    /// Decay of Adam's mean of the squared gradients
    #[arg(long, default_value_t = 0.999)]
    pub beta2: f64,
    /// Added to the denominator of Adam
    #[arg(long, default_value_t = 1e-8)]
    pub epsilon: f64,
    /// Weight decay, added to the gradient
    #[arg(long, default_value_t = 5e-4)]
    pub weight_decay: f64,
    /// Largest norm of the gradient of all parameters together; what is longer is shortened to it. 0 leaves it as it is
    #[arg(long, default_value_t = 0.0)]
    pub clip_norm: f64,
    /// Decay of a running mean of the weights (EMA), which is then what is validated, drawn and written as the model; 0
    /// keeps none, 0.999 is a mean over about 1000 steps
    #[arg(long, alias = "average-decay", default_value_t = 0.0)]
    #[serde(alias = "average-decay")]
    pub ema_decay: f64,
    /// Epochs at the beginning in which the mirrored reconstruction has weight 1; by preset: cat 10, others 0
    #[arg(long, default_value_t = 0)]
    pub full_flip_epochs: u64,
    /// Weights to begin with instead of random ones, of a model with the same networks: a run then goes on from what
    /// another has learned, on other images, say. A file, the folder of a run, or a name of weights in the program. A
    /// network that is not there begins at random
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_weights: Option<PathBuf>,
    /// What `initial_weights` may name where there is no such file.
    #[arg(skip)]
    #[serde(skip)]
    pub embedded_weights: EmbeddedWeights,
    /// Weights of the features that the perceptual loss compares, in VGG16's layers; without it VGG16's own
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perceptual_features: Option<PathBuf>,
    /// Log every so many steps; 0 logs every step on a CPU and every 20th on a GPU, which works ahead in between
    #[arg(long, default_value_t = 0)]
    pub log_steps: u64,
    /// Save every so many minutes; 0 does not look at the clock
    #[arg(long, default_value_t = 10.0)]
    pub checkpoint_minutes: f64,
    /// Save every so many steps; 0 does not count them
    #[arg(long, default_value_t = 0)]
    pub checkpoint_steps: u64,
    /// Newest checkpoints to keep; that of the best validation is kept in any case
    #[arg(long, default_value_t = 2)]
    pub keep: usize,
    /// Validate every so many steps; 0 after every epoch
    #[arg(long, default_value_t = 0)]
    pub validate_steps: u64,
    /// Draw a preview sheet every so many steps; 0 after every epoch
    #[arg(long, default_value_t = 0)]
    pub preview_steps: u64,
    /// Images on a preview sheet; 0 draws none
    #[arg(long, alias = "preview-pictures", default_value_t = 8)]
    #[serde(alias = "preview-pictures")]
    pub preview_images: usize,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 30,
            steps: 0,
            minutes: 0.0,
            batch_size: 64,
            micro_batch: 0,
            learning_rate: 1e-4,
            warm_up_steps: 0,
            decay_steps: 0,
            final_learning_rate: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 5e-4,
            clip_norm: 0.0,
            ema_decay: 0.0,
            full_flip_epochs: 0,
            initial_weights: None,
            embedded_weights: EmbeddedWeights::default(),
            perceptual_features: None,
            log_steps: 0,
            checkpoint_minutes: 10.0,
            checkpoint_steps: 0,
            keep: 2,
            validate_steps: 0,
            preview_steps: 0,
            preview_images: 8,
        }
    }
}

impl TrainSettings {
    /// Images that go through the networks together on a device.
    pub fn micro_batch_on(&self, device: Device) -> usize {
        match (self.micro_batch, device) {
            (0, Device::Cpu) => self.batch_size.min(16),
            (0, Device::Cuda(_)) => self.batch_size,
            (chosen, _) => chosen.min(self.batch_size),
        }
    }

    /// Steps from one line of the log to the next on a device.
    pub(crate) fn log_steps_on(&self, device: Device) -> u64 {
        match (self.log_steps, device) {
            (0, Device::Cpu) => 1,
            (0, Device::Cuda(_)) => 20,
            (chosen, _) => chosen,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (name, number) in [
            ("minutes", self.minutes),
            ("learning-rate", self.learning_rate),
            ("final-learning-rate", self.final_learning_rate),
            ("weight-decay", self.weight_decay),
            ("clip-norm", self.clip_norm),
            ("checkpoint-minutes", self.checkpoint_minutes),
        ] {
            if !(number.is_finite() && number >= 0.0) {
                return Err(format!("{name} is {number}; it must be a number from 0"));
            }
        }
        let decays = [("beta1", self.beta1), ("beta2", self.beta2), ("ema-decay", self.ema_decay)];
        for (name, decay) in decays {
            if !(0.0..1.0).contains(&decay) {
                return Err(format!("{name} is {decay}; it must be at least 0 and less than 1"));
            }
        }
        // Rounded to zero, it would divide zero by zero.
        if !(self.epsilon > 0.0 && (self.epsilon as f32).is_normal()) {
            return Err(format!("epsilon is {}; it must be from 1e-37 to 1e38", self.epsilon));
        }
        for (name, number) in [("batch-size", self.batch_size as u64), ("keep", self.keep as u64)] {
            if number == 0 {
                return Err(format!("{name} is 0; it must be at least 1"));
            }
        }
        if self.epochs == 0 && self.steps == 0 && self.minutes == 0.0 {
            return Err("epochs, steps and minutes are all 0; one of them must say when to stop".into());
        }
        Ok(())
    }
}
