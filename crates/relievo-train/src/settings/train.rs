//! The section `[train]`: steps, their rule, and the work between them.

use std::fmt;
use std::path::{Path, PathBuf};

use relievo_settings::{Invalid, choices, settings};
use relievo_tensor::Device;

/// Weights files that a program has in itself, with their names.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct EmbeddedWeights(pub &'static [(&'static str, &'static [u8])]);

impl EmbeddedWeights {
    /// The file of that name.
    pub(crate) fn find(&self, name: &Path) -> Option<&'static [u8]> {
        self.0.iter().find(|(known, _)| Path::new(known) == name).map(|(_, bytes)| *bytes)
    }
}

impl fmt::Debug for EmbeddedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

settings! {
    /// How the model learns.
    pub struct TrainSettings {
        /// Seed of the initial weights, the order of the images, mirroring and augmentation
        seed: u64 = 0, kind(Seed);
        /// Passes over the images; by preset: face 30, cat 200, car 100
        epochs: u64 = 30, kind(Free);
        /// Stop after this many optimiser steps; 0 stops by epochs
        steps: u64 = 0, kind(Free);
        /// Stop after this many minutes of training; 0 sets no limit
        minutes: f64 = 0.0, in 0.0.., kind(Free);
        /// Images per optimiser step
        batch_size: usize = 64, in 1.., kind(Data);
        /// Which networks learn
        learn: Learn = Learn::All, kind(Objective);
        /// Images processed at a time; 0 chooses 16 on a CPU and the whole batch on a GPU. A smaller number needs less
        /// memory. The losses are means over the mask within each micro-batch, then over the images of the batch, so
        /// the result differs slightly from that of the whole batch
        micro_batch: usize = 0, kind(Schedule);
        /// Learning rate of Adam
        learning_rate: f64 = 1e-4, in 0.0.., kind(Schedule);
        /// Steps at the start over which the learning rate rises linearly from 0
        warm_up_steps: u64 = 0, kind(Schedule);
        /// Steps after the warm-up over which the learning rate falls along half a cosine to the final one; 0 keeps it
        /// constant
        decay_steps: u64 = 0, kind(Schedule);
        /// Learning rate at the end of the decay
        final_learning_rate: f64 = 0.0, in 0.0.., kind(Schedule);
        /// Decay of Adam's first moment (beta 1)
        beta1: f64 = 0.9, in 0.0..1.0, kind(Schedule);
        /// Decay of Adam's second moment (beta 2)
        beta2: f64 = 0.999, in 0.0..1.0, kind(Schedule);
        /// Epsilon in the denominator of Adam
        epsilon: f64 = 1e-8, in 1e-37..=1e38, kind(Schedule);
        /// Weight decay, added to the gradient
        weight_decay: f64 = 5e-4, in 0.0.., kind(Schedule);
        /// Clip the norm of the gradient of all parameters to this value; 0 does not clip
        clip_norm: f64 = 0.0, in 0.0.., kind(Schedule);
        /// Decay of an exponential moving average of the weights (EMA), which is then validated, previewed and saved as
        /// the model; 0 keeps none, 0.999 averages about 1000 steps
        ema_decay: f64 = 0.0, in 0.0..1.0, formerly "average-decay", kind(Schedule);
        /// Epochs at the start in which the mirrored reconstruction has weight 1; by preset: cat 10, others 0
        full_flip_epochs: u64 = 0, kind(Schedule);
        /// Initial weights, from a model with the same networks or narrower ones, which are widened: a file, the folder of
        /// a run, or the name of weights in the program. Networks missing there start at random
        initial_weights: Option<PathBuf> = None, kind(Data);
        /// Learn the answers of another model (distillation) in place of ground truth, with the weights of `truth-weight`: a
        /// file, the folder of a run, or the name of weights in the program
        teacher: Option<PathBuf> = None, kind(Data);
        /// Weights of the learned renderer, for `renderer` learned or both: a file or folder that `relievo renderer train` wrote
        renderer_weights: Option<PathBuf> = None, kind(Data);
        /// Weights for the features of the perceptual loss, in VGG16's layers [default: those of VGG16]
        perceptual_features: Option<PathBuf> = None, kind(File);
        /// TOML file with the filters of the term `filter-bank` of `loss` [default: the program's bank]
        filters: Option<PathBuf> = None, kind(File);
        /// Compute the perceptual loss, most of a step's time, at every so many steps only, with its weight times as much;
        /// log lines are written at such steps
        perceptual_every: u64 = 1, in 1..=1000, kind(Schedule);
        /// Steps between log lines; 0 chooses 1 on a CPU and 20 on a GPU, which runs ahead in between
        log_steps: u64 = 0, kind(Free);
        /// Minutes between checkpoints; 0 does not save by time
        checkpoint_minutes: f64 = 10.0, in 0.0.., kind(Free);
        /// Steps between checkpoints; 0 does not save by steps
        checkpoint_steps: u64 = 0, kind(Free);
        /// Newest checkpoints to keep; the one with the best validation is always kept
        keep: usize = 2, in 1.., kind(Free);
        /// Steps between validations; 0 validates after every epoch
        validate_steps: u64 = 0, kind(Schedule);
        /// Steps between preview sheets; 0 draws one after every epoch
        preview_steps: u64 = 0, kind(Free);
        /// Images on a preview sheet; 0 draws none
        preview_images: usize = 8, formerly "preview-pictures", kind(Free);
    }
}

choices! {
    /// Which networks learn.
    #[derive(Default)]
    pub enum Learn {
        /// All of them
        #[default]
        All,
        /// Albedo, light and confidence, from single images, to sharpen the texture of a model that has learned shape (the
        /// fine-tuning of Ho et al. 2021): depth and viewpoint stay as in `initial-weights`
        Texture,
        /// All but the learned renderer, which stays as in `renderer-weights`
        Decomposition,
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

    /// Steps from one line of the log to the next on a device: those with the perceptual loss have all losses.
    pub(crate) fn log_steps_on(&self, device: Device) -> u64 {
        let asked = match (self.log_steps, device) {
            (0, Device::Cpu) => 1,
            (0, Device::Cuda(_)) => 20,
            (chosen, _) => chosen,
        };
        asked.next_multiple_of(self.perceptual_every)
    }

    pub(super) fn check(&self) -> Result<(), Invalid> {
        self.check_each()?;
        if self.epochs == 0 && self.steps == 0 && self.minutes == 0.0 {
            let reason = "epochs, steps and minutes are all 0; one of them must say when to stop".into();
            return Err(Invalid { setting: "epochs", reason });
        }
        Ok(())
    }
}
