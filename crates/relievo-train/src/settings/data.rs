//! The section `[data]`: where the images come from.

use std::sync::Arc;

use clap::{ArgAction, Args, ValueEnum};
use relievo_data::{Holdout, Jitter, LoaderOptions, Registry, SYNTHETIC, Source, SourceError, SourceSpec};
use relievo_tensor::Device;
use serde::{Deserialize, Serialize};

/// Every epoch is an order of all heads, held in memory.
const MOST_HEADS: u64 = 10_000_000;

/// Beyond these, heads turn further than the model can express, and most lights stand where it can no longer follow.
const MOST_PITCH_SPREAD: f32 = 20.0;
const MOST_ELEVATION_SPREAD: f32 = 2.0;

/// More threads than any machine has cores for.
const MOST_WORKERS: usize = 1024;

/// Where the images come from.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataSettings {
    /// Folders of images or .tar files, and the word `synthetic` for generated heads
    #[arg(value_name = "SOURCE", help_heading = "Arguments", default_values_t = [SourceSpec::registered(SYNTHETIC)])]
    pub source: Vec<SourceSpec>,
    /// Seed of the synthetic heads
    #[arg(long, default_value_t = 0)]
    pub synthetic_seed: u64,
    /// Number of synthetic heads; an epoch goes through all but those held out
    #[arg(long, default_value_t = 20_000)]
    pub synthetic_count: u64,
    /// Hang a patch of colour before one side of each synthetic head, which no symmetric object explains
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub perturbed: bool,
    /// How far synthetic heads look up and down: the standard deviation of their pitch, in degrees
    #[arg(long, value_name = "DEGREES", default_value_t = 5.5)]
    pub pitch_spread: f32,
    /// How far the light of synthetic heads moves up and down: the standard deviation of its height over its distance,
    /// the tangent of its elevation
    #[arg(long, value_name = "TANGENT", default_value_t = 0.35)]
    pub elevation_spread: f32,
    /// Held out for validation: below 1 a share of the images, from 1 a number of them; 0 holds out none
    #[arg(long, default_value_t = 0.02)]
    pub validation: f64,
    /// Which of them are held out; of the last ones, a number
    #[arg(long, value_enum, default_value_t = HeldOut::ByName)]
    pub held_out: HeldOut,
    /// Mirror one image in two
    #[arg(long, action = ArgAction::Set, default_value_t = true)]
    pub mirror: bool,
    /// Move the crops of the images learned from at random, each way by up to this share of their side, and make them
    /// larger or smaller by up to this share: 0.05, say, where images are few
    #[arg(long, default_value_t = 0.0)]
    pub jitter: f32,
    /// Turn the images learned from in their plane at random, by up to so many degrees either way
    #[arg(long, default_value_t = 0.0)]
    pub roll: f32,
    /// Threads that read and decode images, or generate them; 0 takes one for every two cores, four at most, and
    /// beside a GPU one for every core but one
    #[arg(long, default_value_t = 0)]
    pub workers: usize,
    /// Memory for decoded and generated images, in MiB; what does not fit is made again in every epoch. 200,000
    /// images of 64x64 fit into the default
    #[arg(long, default_value_t = 2560)]
    pub cache: u64,
}

/// Which images are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldOut {
    /// Those that a hash of their names chooses: stays as it is when images come or go
    #[default]
    ByName,
    /// The last ones, in the order of the source
    Last,
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            source: vec![SourceSpec::registered(SYNTHETIC)],
            synthetic_seed: 0,
            synthetic_count: 20_000,
            perturbed: false,
            pitch_spread: 5.5,
            elevation_spread: 0.35,
            validation: 0.02,
            held_out: HeldOut::ByName,
            mirror: true,
            jitter: 0.0,
            roll: 0.0,
            workers: 0,
            cache: 2560,
        }
    }
}

impl DataSettings {
    /// Whether all images are made by a program, which can know their depth.
    pub fn is_generated(&self) -> bool {
        self.source.iter().all(SourceSpec::is_registered)
    }

    /// How far the crops of the images learned from are moved at random.
    pub(crate) fn jitter_of_crops(&self) -> Jitter {
        Jitter { crop: self.jitter, roll: self.roll.to_radians() }
    }

    /// Whether some images are made by a program.
    fn has_generated(&self) -> bool {
        self.source.iter().any(SourceSpec::is_registered)
    }

    /// Opens the images: those on disk, and what `registry` makes of these settings.
    ///
    /// # Errors
    /// Those of [`Registry::open`].
    pub fn open(&self, registry: &Registry<Self>) -> Result<Arc<dyn Source>, SourceError> {
        registry.open(self, &self.source)
    }

    /// Threads that read or generate images for a device.
    pub fn workers_beside(&self, device: Device) -> usize {
        match (self.workers, device) {
            (0, Device::Cpu) => LoaderOptions::new(1, 1).workers,
            (0, Device::Cuda(_)) => LoaderOptions::beside_gpu(1, 1).workers,
            (workers, _) => workers,
        }
    }

    /// What is held out.
    pub fn holdout(&self) -> Holdout {
        match (self.held_out, self.validation) {
            (HeldOut::ByName, share) if share < 1.0 => Holdout::Fraction(share),
            (HeldOut::ByName, count) => Holdout::Count(count as u64),
            (HeldOut::Last, count) => Holdout::Last(count as u64),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.source.is_empty() {
            return Err("source names nothing; give a folder, a .tar file or the word synthetic".into());
        }
        if self.has_generated() && !(1..=MOST_HEADS).contains(&self.synthetic_count) {
            return Err(format!(
                "synthetic-count is {}; it must be a number from 1 to {MOST_HEADS}",
                self.synthetic_count
            ));
        }
        if self.workers > MOST_WORKERS {
            return Err(format!("workers is {}; it must be at most {MOST_WORKERS}", self.workers));
        }
        let share = self.validation;
        if !(share.is_finite() && share >= 0.0 && (share < 1.0 || share.fract() == 0.0)) {
            return Err(format!(
                "validation is {share}; it must be a share from 0 to below 1, or a whole number of images"
            ));
        }
        if self.held_out == HeldOut::Last && share.fract() != 0.0 {
            return Err(format!("validation is {share}; of the last images it must be a whole number"));
        }
        if self.perturbed && !self.has_generated() {
            return Err("perturbed is true; only synthetic heads can be perturbed".into());
        }
        if !(0.0..=MOST_PITCH_SPREAD).contains(&self.pitch_spread) {
            return Err(format!(
                "pitch-spread is {}; it must be from 0 to {MOST_PITCH_SPREAD} degrees",
                self.pitch_spread
            ));
        }
        if !(0.0..=MOST_ELEVATION_SPREAD).contains(&self.elevation_spread) {
            return Err(format!(
                "elevation-spread is {}; it must be from 0 to {MOST_ELEVATION_SPREAD}",
                self.elevation_spread
            ));
        }
        if !(0.0..1.0).contains(&self.jitter) {
            return Err(format!("jitter is {}; it must be at least 0 and less than 1", self.jitter));
        }
        if !(0.0..=180.0).contains(&self.roll) {
            return Err(format!("roll is {}; it must be from 0 to 180 degrees", self.roll));
        }
        Ok(())
    }
}
