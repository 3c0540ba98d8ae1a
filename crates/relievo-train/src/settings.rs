//! Everything that can be chosen about a run: one struct is the TOML file, the command line and the documentation.
//!
//! Layers, each over the one before: the defaults, the preset's recipe, a TOML file, the options given on the command
//! line. A layer is a TOML table, so that every layer is merged in the same way whatever the type of a setting.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command, ValueEnum};
use relievo_data::{Holdout, Jitter, Joined, LoaderOptions, OpenError, Pictures, Source};
use relievo_model::{ComputeSettings, ModelSettings, Preset, Supervision};
use relievo_synth::Heads;
use relievo_tensor::Device;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The word that stands for the synthetic heads among the sources.
pub const SYNTHETIC: &str = "synthetic";

/// The beginning of a message about an option.
const ON_THE_COMMAND_LINE: &str = "on the command line: ";

/// Every epoch is an order of all heads, held in memory.
const MOST_HEADS: u64 = 10_000_000;

/// More threads than any machine has cores for.
const MOST_WORKERS: usize = 1024;

/// The settings of a run. The sections of the TOML file are the fields.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The recipe everything starts from; other settings change single points of it
    #[arg(long, value_enum, default_value_t = Preset::Face)]
    pub preset: Preset,
    /// The pictures.
    #[command(flatten, next_help_heading = "Data")]
    pub data: DataSettings,
    /// The model.
    #[command(flatten, next_help_heading = "Model")]
    pub model: ModelSettings,
    /// The training.
    #[command(flatten, next_help_heading = "Training")]
    pub train: TrainSettings,
    /// Where and how precisely to compute. May change within a run.
    #[command(flatten, next_help_heading = "Computing")]
    pub compute: ComputeSettings,
}

/// Where the pictures come from.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataSettings {
    /// Folders of pictures or .tar files, and the word `synthetic` for generated heads
    #[arg(value_name = "SOURCE", default_values_t = [SYNTHETIC.to_owned()])]
    pub source: Vec<String>,
    /// Seed of the synthetic heads
    #[arg(long, default_value_t = 0)]
    pub synthetic_seed: u64,
    /// Number of synthetic heads; an epoch goes through all but those held out
    #[arg(long, default_value_t = 20_000)]
    pub synthetic_count: u64,
    /// Hang a patch of colour before one side of each synthetic head, which no symmetric object explains
    #[arg(long, action = ArgAction::Set, default_value_t = false)]
    pub perturbed: bool,
    /// Held out for validation: below 1 a share of the pictures, from 1 a number of them; 0 holds out none
    #[arg(long, default_value_t = 0.02)]
    pub validation: f64,
    /// Which of them are held out; of the last ones, a number
    #[arg(long, value_enum, default_value_t = HeldOut::ByName)]
    pub held_out: HeldOut,
    /// Mirror one picture in two
    #[arg(long, action = ArgAction::Set, default_value_t = true)]
    pub mirror: bool,
    /// Move the crops of the pictures learned from at random, each way by up to this share of their side, and make them larger or
    /// smaller by up to this share: 0.05, say, where pictures are few
    #[arg(long, default_value_t = 0.0)]
    pub jitter: f32,
    /// Turn the pictures learned from in their plane at random, by up to so many degrees either way
    #[arg(long, default_value_t = 0.0)]
    pub roll: f32,
    /// Threads that read and decode pictures, or generate them; 0 takes one for every two cores, four at most, and beside a
    /// GPU one for every core but one
    #[arg(long, default_value_t = 0)]
    pub workers: usize,
    /// Memory for decoded and generated pictures, in MiB; what does not fit is made again in every epoch. 200,000 pictures of
    /// 64x64 fit into the default
    #[arg(long, default_value_t = 2560)]
    pub cache: u64,
}

/// Which pictures are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldOut {
    /// Those that a hash of their names chooses: stays as it is when pictures come or go
    #[default]
    ByName,
    /// The last ones, in the order of the source
    Last,
}

/// How the model learns.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainSettings {
    /// Seed of the parameters, the order of the pictures, the mirroring and the moving of crops
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Passes over the pictures; by preset: face 30, cat 200, car 100
    #[arg(long, default_value_t = 30)]
    pub epochs: u64,
    /// Stop after this many optimiser steps; 0 leaves the end to the epochs
    #[arg(long, default_value_t = 0)]
    pub steps: u64,
    /// Stop after this many minutes of training; 0 sets no limit
    #[arg(long, default_value_t = 0.0)]
    pub minutes: f64,
    /// Pictures in an optimiser step
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Pictures that go through the networks together; 0 takes 16 on a CPU and the whole batch on a GPU. A smaller number
    /// needs less memory. The losses are means over the mask within each micro-batch, then over the pictures of the batch,
    /// so the result differs slightly from that of the whole batch
    #[arg(long, default_value_t = 0)]
    pub micro_batch: usize,
    /// Learning rate of Adam
    #[arg(long, default_value_t = 1e-4)]
    pub learning_rate: f64,
    /// Steps over which the learning rate rises linearly from 0 at the beginning
    #[arg(long, default_value_t = 0)]
    pub warm_up_steps: u64,
    /// Steps after the warm-up over which the learning rate falls, along half a cosine, to the final one; 0 leaves it as it is
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
    /// Decay of a running mean of the weights (EMA), which is then what is validated, drawn and written as the model; 0 keeps
    /// none, 0.999 is a mean over about 1000 steps
    #[arg(long, default_value_t = 0.0)]
    pub average_decay: f64,
    /// Epochs at the beginning in which the mirrored reconstruction has weight 1; by preset: cat 10, others 0
    #[arg(long, default_value_t = 0)]
    pub full_flip_epochs: u64,
    /// Weights to begin with instead of random ones, of a model with the same networks: a run then goes on from what
    /// another has learned, on other pictures, say. A network that the file lacks begins at random
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_weights: Option<PathBuf>,
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
    /// Checkpoints to keep besides the best one
    #[arg(long, default_value_t = 2)]
    pub keep: usize,
    /// Validate every so many steps; 0 after every epoch
    #[arg(long, default_value_t = 0)]
    pub validate_steps: u64,
    /// Draw a preview sheet every so many steps; 0 after every epoch
    #[arg(long, default_value_t = 0)]
    pub preview_steps: u64,
    /// Pictures on a preview sheet; 0 draws none
    #[arg(long, default_value_t = 8)]
    pub preview_pictures: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self::of_preset(Preset::Face)
    }
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            source: vec![SYNTHETIC.to_owned()],
            synthetic_seed: 0,
            synthetic_count: 20_000,
            perturbed: false,
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
            average_decay: 0.0,
            full_flip_epochs: 0,
            initial_weights: None,
            perceptual_features: None,
            log_steps: 0,
            checkpoint_minutes: 10.0,
            checkpoint_steps: 0,
            keep: 2,
            validate_steps: 0,
            preview_steps: 0,
            preview_pictures: 8,
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file that cannot be read.
    #[error("cannot read the settings in {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that is not TOML, or has a key or a value that there is not.
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, key and what is wrong there.
        reason: String,
    },
    /// Two presets to start from.
    #[error(
        "{} starts from the preset {in_file} and the command line from {on_line}: leave one of them out",
        .path.display()
    )]
    TwoPresets {
        /// The file.
        path: PathBuf,
        /// The preset in it.
        in_file: String,
        /// The preset on the command line.
        on_line: String,
    },
    /// A value that makes no sense.
    #[error("{place}{reason}")]
    Senseless {
        /// Where it was set, with a colon behind; empty if nowhere in particular.
        place: String,
        /// The setting, its value and what it must be.
        reason: String,
    },
}

impl Settings {
    /// Makes the paths absolute, so that they mean the same wherever a run is gone on with.
    pub(crate) fn make_absolute(&mut self) {
        let absolute = |path: &Path| std::path::absolute(path).ok();
        for source in self.data.source.iter_mut().filter(|source| *source != SYNTHETIC) {
            // A path that is not Unicode stays as it is: TOML could not hold it.
            let path = absolute(Path::new(source)).and_then(|path| path.into_os_string().into_string().ok());
            *source = path.unwrap_or_else(|| source.clone());
        }
        let files = [&mut self.train.initial_weights, &mut self.train.perceptual_features];
        for file in files.into_iter().flatten() {
            *file = absolute(file).unwrap_or_else(|| file.clone());
        }
    }

    /// The recipe of a preset.
    pub fn of_preset(preset: Preset) -> Self {
        let train = TrainSettings {
            epochs: preset.epochs(),
            full_flip_epochs: preset.full_flip_epochs(),
            ..TrainSettings::default()
        };
        Self {
            preset,
            model: preset.model(),
            data: DataSettings::default(),
            train,
            compute: ComputeSettings::default(),
        }
    }

    /// Puts the layers together: defaults, preset, TOML file, command line. `command_line` is what clap made of the
    /// flattened `Settings` and the matches it came from; only options really given count.
    ///
    /// # Errors
    /// If the file cannot be read, has unknown keys or values of the wrong type, or a setting makes no sense; the
    /// message names the file, the line and the key.
    pub fn layered(
        file: Option<&Path>,
        command_line: Option<(&Self, &ArgMatches)>,
    ) -> Result<Self, SettingsError> {
        Self::of_layers(file.map(FileLayer::read).transpose()?, command_line)
    }

    /// As [`Settings::layered`] with the text of a TOML file; `path` is what messages call it.
    ///
    /// # Errors
    /// As [`Settings::layered`].
    pub fn from_toml(
        path: &Path,
        text: &str,
        command_line: Option<(&Self, &ArgMatches)>,
    ) -> Result<Self, SettingsError> {
        Self::of_layers(Some(FileLayer::parse(path, text.to_owned())?), command_line)
    }

    fn of_layers(
        file: Option<FileLayer>,
        command_line: Option<(&Self, &ArgMatches)>,
    ) -> Result<Self, SettingsError> {
        let given = command_line.map(|(settings, matches)| given_options(settings, matches)).transpose()?;
        let in_file = file.as_ref().and_then(|file| file.table.get("preset")).and_then(Value::as_str);
        let on_line = given.as_ref().and_then(|given| given.get("preset")).and_then(Value::as_str);
        if let (Some(file), Some(in_file), Some(on_line)) = (&file, in_file, on_line)
            && in_file != on_line
        {
            let (in_file, on_line) = (in_file.to_owned(), on_line.to_owned());
            return Err(SettingsError::TwoPresets { path: file.path.clone(), in_file, on_line });
        }
        let preset = match (command_line, &file) {
            (Some((settings, _)), _) if on_line.is_some() => settings.preset,
            (_, Some(file)) => file.preset.unwrap_or(Preset::Face),
            _ => Preset::Face,
        };
        let mut merged = Self::of_preset(preset).table()?;
        for layer in [file.as_ref().map(|file| &file.table), given.as_ref()].into_iter().flatten() {
            merge(&mut merged, layer);
        }
        let settings: Self = merged.try_into().map_err(|error: toml::de::Error| {
            SettingsError::Senseless { place: String::new(), reason: error.message().to_owned() }
        })?;
        settings.check().map_err(|error| match error {
            SettingsError::Senseless { reason, .. } => {
                let key = reason.split(' ').next().unwrap_or_default();
                let place = if given.as_ref().is_some_and(|given| has_key(given, key)) {
                    ON_THE_COMMAND_LINE.to_owned()
                } else {
                    file.as_ref().map_or_else(String::new, |file| file.place(key))
                };
                SettingsError::Senseless { place, reason }
            }
            other => other,
        })?;
        Ok(settings)
    }

    /// Names the first setting that makes no sense.
    ///
    /// # Errors
    /// With the setting, its value and what it must be.
    pub fn check(&self) -> Result<(), SettingsError> {
        let problem = self.check_integers().and_then(|()| self.model.check());
        let problem = problem.and_then(|()| self.data.check()).and_then(|()| self.train.check());
        let problem = problem.and_then(|()| {
            if self.model.supervision == Supervision::None {
                return Ok(());
            }
            if !self.data.is_synthetic() {
                return Err(
                    "supervision is depth; it needs pictures whose depth is known: the source synthetic"
                        .into(),
                );
            }
            if self.data.jitter_of_crops().is_on() {
                return Err(
                    "supervision is depth; that of a moved crop is not known: jitter and roll must be 0"
                        .into(),
                );
            }
            Ok(())
        });
        problem.map_err(|reason| SettingsError::Senseless { place: String::new(), reason })
    }

    /// TOML has no integers above 2^63 - 1.
    fn check_integers(&self) -> Result<(), String> {
        let Self { data, model, train, .. } = self;
        for (name, number) in [
            ("synthetic-seed", data.synthetic_seed),
            ("synthetic-count", data.synthetic_count),
            ("workers", data.workers as u64),
            ("cache", data.cache),
            ("image-size", model.image_size as u64),
            ("width", model.width as u64),
            ("code", model.code as u64),
            ("encoder-width", model.encoder_width as u64),
            ("seed", train.seed),
            ("epochs", train.epochs),
            ("steps", train.steps),
            ("batch-size", train.batch_size as u64),
            ("micro-batch", train.micro_batch as u64),
            ("warm-up-steps", train.warm_up_steps),
            ("full-flip-epochs", train.full_flip_epochs),
            ("log-steps", train.log_steps),
            ("checkpoint-steps", train.checkpoint_steps),
            ("keep", train.keep as u64),
            ("validate-steps", train.validate_steps),
            ("preview-steps", train.preview_steps),
            ("preview-pictures", train.preview_pictures as u64),
        ] {
            if i64::try_from(number).is_err() {
                return Err(format!("{name} is {number}; it must be at most {}", i64::MAX));
            }
        }
        Ok(())
    }

    /// The settings as a TOML file in which every setting is explained.
    ///
    /// # Errors
    /// If a number is beyond what TOML can say; [`Settings::check`] refuses those too.
    pub fn to_toml(&self) -> Result<String, SettingsError> {
        let plain = toml::to_string(self)
            .map_err(|error| SettingsError::Senseless { place: String::new(), reason: error.to_string() })?;
        let command = command();
        let help = |key: &str| {
            let id = key.replace('-', "_");
            let argument = command.get_arguments().find(|argument| argument.get_id() == id.as_str());
            argument.and_then(|argument| argument.get_help()).map(ToString::to_string)
        };
        let mut explained = String::new();
        for line in plain.lines() {
            if let Some(help) = line.split_once(" = ").and_then(|(key, _)| help(key)) {
                for part in help.lines() {
                    let _ = writeln!(explained, "# {part}");
                }
            }
            let _ = writeln!(explained, "{line}");
        }
        Ok(explained)
    }

    fn table(&self) -> Result<Table, SettingsError> {
        Table::try_from(self)
            .map_err(|error| SettingsError::Senseless { place: String::new(), reason: error.to_string() })
    }
}

impl DataSettings {
    /// Whether all pictures are generated.
    pub fn is_synthetic(&self) -> bool {
        self.source.iter().all(|source| source == SYNTHETIC)
    }

    /// How far the crops of the pictures learned from are moved at random.
    pub(crate) fn jitter_of_crops(&self) -> Jitter {
        Jitter { crop: self.jitter, roll: self.roll.to_radians() }
    }

    /// Whether some pictures are generated.
    fn has_heads(&self) -> bool {
        self.source.iter().any(|source| source == SYNTHETIC)
    }

    /// Opens the pictures.
    ///
    /// # Errors
    /// If there are none or they cannot be read.
    pub fn open(&self) -> Result<Arc<dyn Source>, OpenError> {
        let heads = || Arc::new(self.heads(0, self.synthetic_count));
        if self.is_synthetic() {
            return Ok(heads());
        }
        let paths: Vec<&String> = self.source.iter().filter(|source| *source != SYNTHETIC).collect();
        let pictures = Arc::new(Pictures::open(&paths)?);
        Ok(if self.has_heads() { Arc::new(Joined::new(vec![pictures, heads()])) } else { pictures })
    }

    /// Synthetic heads as these settings have them, but numbers `start..start + count`.
    pub fn heads(&self, start: u64, count: u64) -> Heads {
        let heads = Heads::range(self.synthetic_seed, start, count);
        if self.perturbed { heads.perturbed() } else { heads }
    }

    /// Threads that read or generate pictures for a device.
    pub(crate) fn workers_beside(&self, device: Device) -> usize {
        match (self.workers, device) {
            (0, Device::Cpu) => LoaderOptions::new(1, 1).workers,
            (0, Device::Cuda(_)) => LoaderOptions::beside_gpu(1, 1).workers,
            (workers, _) => workers,
        }
    }

    /// What is held out.
    pub(crate) fn holdout(&self) -> Holdout {
        match (self.held_out, self.validation) {
            (HeldOut::ByName, share) if share < 1.0 => Holdout::Fraction(share),
            (HeldOut::ByName, count) => Holdout::Count(count as u64),
            (HeldOut::Last, count) => Holdout::Last(count as u64),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.source.is_empty() {
            return Err("source names nothing; give a folder, a .tar file or the word synthetic".into());
        }
        if self.has_heads() && !(1..=MOST_HEADS).contains(&self.synthetic_count) {
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
                "validation is {share}; it must be a share from 0 to below 1, or a whole number of pictures"
            ));
        }
        if self.held_out == HeldOut::Last && share.fract() != 0.0 {
            return Err(format!("validation is {share}; of the last pictures it must be a whole number"));
        }
        if self.perturbed && !self.has_heads() {
            return Err("perturbed is true; only synthetic heads can be perturbed".into());
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

impl TrainSettings {
    /// Pictures that go through the networks together on a device.
    pub(crate) fn micro_batch_on(&self, device: Device) -> usize {
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

    fn check(&self) -> Result<(), String> {
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
        let decays = [("beta1", self.beta1), ("beta2", self.beta2), ("average-decay", self.average_decay)];
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

/// A command that has the options of [`Settings`] and nothing else.
fn command() -> Command {
    Settings::augment_args(Command::new("settings"))
}

/// The settings given on the command line, not by default, as a layer.
fn given_options(settings: &Settings, matches: &ArgMatches) -> Result<Table, SettingsError> {
    let given = |key: &str| {
        matches.value_source(&key.replace('-', "_")).is_some_and(|source| source == ValueSource::CommandLine)
    };
    let keep = |table: Table| -> Table { table.into_iter().filter(|(key, _)| given(key)).collect() };
    let mut layer = Table::new();
    settings
        .check_integers()
        .map_err(|reason| SettingsError::Senseless { place: ON_THE_COMMAND_LINE.into(), reason })?;
    for (key, value) in settings.table()? {
        match value {
            Value::Table(section) => {
                layer.insert(key, Value::Table(keep(section)));
            }
            _ if given(&key) => {
                layer.insert(key, value);
            }
            _ => {}
        }
    }
    Ok(layer)
}

fn merge(below: &mut Table, above: &Table) {
    for (key, value) in above {
        match (below.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

fn has_key(table: &Table, key: &str) -> bool {
    table.contains_key(key)
        || table.values().filter_map(Value::as_table).any(|section| section.contains_key(key))
}

/// A settings file as a layer.
struct FileLayer {
    path: PathBuf,
    text: String,
    table: Table,
    preset: Option<Preset>,
}

impl FileLayer {
    fn read(path: &Path) -> Result<Self, SettingsError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, text),
            Err(source) => Err(SettingsError::Unreadable { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: String) -> Result<Self, SettingsError> {
        let path = path.to_owned();
        // Once into the struct, for its types and its unknown keys, which are reported with their lines; and once
        // into a table, because only that knows which keys are there.
        let parsed =
            toml::from_str::<Settings>(&text).and_then(|settings| Ok((settings, text.parse::<Table>()?)));
        match parsed {
            Ok((settings, table)) => {
                let preset = table.contains_key("preset").then_some(settings.preset);
                Ok(Self { path, text, table, preset })
            }
            Err(error) => {
                Err(SettingsError::Malformed { path, reason: error.to_string().trim_end().to_owned() })
            }
        }
    }

    /// File and line in which a key stands, for the beginning of a message.
    fn place(&self, key: &str) -> String {
        let is_key = |line: &&str| {
            line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        match self.text.lines().position(|line| is_key(&line)) {
            Some(line) => format!("{}, line {}: ", self.path.display(), line + 1),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn layered(file: Option<&str>, line: &[&str]) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        if let Some(text) = file {
            fs::write(&path, text).unwrap();
        }
        let words = ["relievo"].iter().chain(line);
        let matches = <Line as clap::CommandFactory>::command().get_matches_from(words);
        let line = Line::from_arg_matches(&matches).unwrap();
        Settings::layered(file.map(|_| path.as_path()), Some((&line.settings, &matches)))
    }

    fn refusal(file: Option<&str>, line: &[&str]) -> String {
        layered(file, line).unwrap_err().to_string()
    }

    #[test]
    fn command_line_defaults_are_the_default() {
        assert_eq!(Line::parse_from(["relievo"]).settings, Settings::default());
        assert_eq!(layered(None, &[]).unwrap(), Settings::default());
        Settings::default().check().unwrap();
    }

    #[test]
    fn a_preset_lies_below_the_file_and_the_file_below_the_command_line() {
        let cat = layered(None, &["--preset", "cat"]).unwrap();
        assert_eq!(cat, Settings::of_preset(Preset::Cat));
        assert_eq!((cat.train.epochs, cat.train.full_flip_epochs), (200, 10));

        let file =
            "preset = \"car\"\n[train]\nepochs = 7\nlearning-rate = 0.001\n[data]\nsource = [\"cars\"]\n";
        let car = layered(Some(file), &["--epochs", "9", "--border-depth", "1.02"]).unwrap();
        assert_eq!(car.model, ModelSettings { border_depth: 1.02, ..Preset::Car.model() });
        assert_eq!((car.train.epochs, car.train.learning_rate), (9, 0.001));
        assert_eq!(car.data.source, ["cars"]);
        // An option that repeats the default is given all the same.
        assert_eq!(layered(Some(file), &["--epochs", "30"]).unwrap().train.epochs, 30);
        assert_eq!(layered(Some(file), &["faces", "more"]).unwrap().data.source, ["faces", "more"]);
    }

    #[test]
    fn settings_survive_the_file_and_are_explained_in_it() {
        for preset in [Preset::Face, Preset::Cat, Preset::Car] {
            let mut settings = Settings::of_preset(preset);
            settings.train.learning_rate = 0.1;
            settings.data.source = vec!["a \"b\"".into(), "c\\d".into()];
            let text = settings.to_toml().unwrap();
            assert_eq!(layered(Some(&text), &[]).unwrap(), settings);
            assert!(text.contains("# Learning rate of Adam\nlearning-rate = 0.1\n"), "{text}");
            let keys = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
            let comments = text.lines().filter(|line| line.starts_with("# ")).count();
            assert_eq!(keys, comments, "{text}");
        }
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        let message = refusal(Some("[train]\nepochs = 3\nlerning-rate = 0.1\n"), &[]);
        assert!(message.contains("run.toml") && message.contains("line 3"), "{message}");
        assert!(message.contains("lerning-rate"), "{message}");
        let message = refusal(Some("[model]\nwidth = \"wide\"\n"), &[]);
        assert!(message.contains("line 2") && message.contains("width"), "{message}");
        let message = refusal(Some("[train]\n\nbatch-size = 0\n"), &[]);
        assert!(message.ends_with("run.toml, line 3: batch-size is 0; it must be at least 1"), "{message}");
        let message = refusal(None, &["--image-size", "65"]);
        assert!(message.starts_with("on the command line: image-size is 65"), "{message}");
        for option in ["seed", "batch-size", "width"] {
            let message = refusal(None, &[&format!("--{option}"), "18446744073709551615"]);
            assert!(message.starts_with(&format!("on the command line: {option} is 1844")), "{message}");
        }
        let message = refusal(Some("preset = \"car\"\n"), &["--preset", "cat"]);
        assert!(message.contains("the preset car and the command line from cat"), "{message}");
        let missing = Settings::layered(Some(Path::new("/nowhere/run.toml")), None).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read the settings in /nowhere/run.toml"), "{missing}");
    }

    #[test]
    fn heads_may_stand_beside_pictures() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), [1]).unwrap();
        let path = folder.path().to_str().unwrap();
        let data = |line: &[&str]| layered(None, line).unwrap().data;
        let both = data(&[SYNTHETIC, path, "--synthetic-count", "3"]);
        assert!(!both.is_synthetic());
        let joined = both.open().unwrap();
        let names: Vec<String> = (0..joined.len()).map(|index| joined.name(index)).collect();
        assert_eq!(
            (names.len(), names[0].as_str(), joined.sample(2, 64).unwrap().truth.is_some()),
            (4, "a.png", true)
        );
        assert_eq!(data(&[path]).open().unwrap().len(), 1);
        assert!(data(&[SYNTHETIC]).is_synthetic());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            ["--validation", "1.5"],
            ["--learning-rate", "NaN"],
            ["--beta2", "1"],
            ["--average-decay", "1"],
            ["--jitter", "1"],
            ["--roll", "181"],
            ["--jitter", "NaN"],
            ["--epochs", "0"],
            ["--epsilon", "1e-60"],
            ["--synthetic-count", "0"],
            ["--synthetic-count", "9000000000000000000"],
            ["--workers", "100000000"],
            ["--seed", "18446744073709551615"],
        ] {
            assert!(layered(None, &line).is_err(), "{line:?}");
        }
    }
}
