//! The settings of a run: one declaration is the TOML file, the command line and the documentation.
//!
//! Layers, each over the one before: the defaults, the preset's recipe, a TOML file, the options given on the command
//! line. A layer is a TOML table, so that every layer is merged in the same way whatever the type of a setting.

mod data;
mod layers;
mod train;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use relievo_data::SourceSpec;
use relievo_files::Unreadable;
use relievo_model::{ComputeSettings, LossKind, Method, ModelSettings, Preset, Renderer, Supervision};
use relievo_settings::{Invalid, Kind, Setting, Value as Shown};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use data::{DataSettings, HeldOut, Pairs};
pub use layers::GivenSettings;
pub use train::{EmbeddedWeights, Learn, TrainSettings};

use layers::{FileLayer, has_key, merge, rename_old_keys};

/// The beginning of a message about an option.
const ON_THE_COMMAND_LINE: &str = "on the command line: ";

/// The documentation of the preset.
const ABOUT_PRESET: &str =
    "Recipe to start from; the file of --config and other options override its settings";

/// The settings of a run. The sections of the TOML file are the fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Settings {
    /// The recipe to start from.
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value_t = Preset::Face, help = ABOUT_PRESET))]
    pub preset: Preset,
    /// The images.
    #[cfg_attr(feature = "cli", command(flatten, next_help_heading = "Data"))]
    pub data: DataSettings,
    /// The model.
    #[cfg_attr(feature = "cli", command(flatten, next_help_heading = "Model"))]
    pub model: ModelSettings,
    /// The training.
    #[cfg_attr(feature = "cli", command(flatten, next_help_heading = "Training"))]
    pub train: TrainSettings,
    /// Where and how precisely to compute. May change within a run.
    #[cfg_attr(feature = "cli", command(flatten, next_help_heading = "Computing"))]
    pub compute: ComputeSettings,
    /// Weights that `initial-weights` may name where there is no such file.
    #[serde(skip)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub embedded_weights: EmbeddedWeights,
}

impl Default for Settings {
    fn default() -> Self {
        Self::from_preset(Preset::Face)
    }
}

/// Settings that could not be read or are invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A file that cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A file that is not TOML, or has an unknown key or an invalid value.
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, key and error.
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
    /// An invalid value.
    #[error("{place}{reason}")]
    Invalid {
        /// Where it was set, with a colon behind; empty if nowhere in particular.
        place: String,
        /// The setting, its value and what it must be.
        reason: String,
    },
}

impl Settings {
    /// Makes the paths absolute, so that a run can be resumed from any folder.
    pub(crate) fn make_absolute(&mut self) {
        let absolute = |path: &Path| std::path::absolute(path).ok();
        for source in &mut self.data.source {
            if let SourceSpec::Path(path) = source {
                // A path that is not Unicode stays as it is: TOML could not hold it.
                let found = absolute(path).filter(|path| path.to_str().is_some());
                *path = found.unwrap_or_else(|| path.clone());
            }
        }
        let TrainSettings {
            initial_weights, teacher, renderer_weights, perceptual_features, filters, ..
        } = &mut self.train;
        let files = [initial_weights, teacher, renderer_weights, perceptual_features, filters];
        let known = self.embedded_weights;
        for file in files.into_iter().flatten().filter(|file| file.is_file() || known.find(file).is_none()) {
            *file = absolute(file).unwrap_or_else(|| file.clone());
        }
    }

    /// The recipe of a preset.
    pub(crate) fn from_preset(preset: Preset) -> Self {
        let train = TrainSettings {
            epochs: preset.epochs(),
            full_flip_epochs: preset.full_flip_epochs(),
            ..TrainSettings::default()
        };
        let pairs = if preset == Preset::LemulCasia { Pairs::Collection } else { Pairs::Mirror };
        Self {
            preset,
            model: preset.model(),
            data: DataSettings { pairs, ..DataSettings::default() },
            train,
            compute: ComputeSettings::default(),
            embedded_weights: EmbeddedWeights::default(),
        }
    }

    /// All settings but the preset, each with its section.
    pub(crate) fn declared() -> impl Iterator<Item = (&'static str, &'static Setting)> {
        let sections = [
            ("data", DataSettings::DECLARED),
            ("model", ModelSettings::DECLARED),
            ("train", TrainSettings::DECLARED),
            ("compute", ComputeSettings::DECLARED),
        ];
        sections
            .into_iter()
            .flat_map(|(section, settings)| settings.iter().map(move |setting| (section, setting)))
    }

    /// Whether two runs in which the setting of this name differs follow different recipes.
    pub fn is_compared(name: &str) -> bool {
        Self::declared().all(|(_, setting)| setting.name != name || setting.kind.is_compared())
    }

    /// Puts the layers together: defaults, preset, TOML file, command line.
    ///
    /// # Errors
    /// If the file cannot be read, has unknown keys or values of the wrong type, or a setting is invalid; the
    /// message names the file, the line and the key.
    pub fn layered(file: Option<&Path>, given: Option<&GivenSettings>) -> Result<Self, SettingsError> {
        Self::from_layers(file.map(FileLayer::read).transpose()?, given)
    }

    /// As [`Settings::layered`] with the text of a TOML file; `path` is its name in messages.
    ///
    /// # Errors
    /// As [`Settings::layered`].
    pub fn from_toml(path: &Path, text: &str, given: Option<&GivenSettings>) -> Result<Self, SettingsError> {
        Self::from_layers(Some(FileLayer::parse(path, text.to_owned())?), given)
    }

    fn from_layers(file: Option<FileLayer>, given: Option<&GivenSettings>) -> Result<Self, SettingsError> {
        let given = given.map(|GivenSettings(layer)| layer);
        let in_file = file.as_ref().and_then(|file| file.table.get("preset")).and_then(Value::as_str);
        let on_line = given.and_then(|given| given.get("preset"));
        if let (Some(file), Some(in_file), Some(on_line)) = (&file, in_file, on_line.and_then(Value::as_str))
            && in_file != on_line
        {
            let (in_file, on_line) = (in_file.to_owned(), on_line.to_owned());
            return Err(SettingsError::TwoPresets { path: file.path.clone(), in_file, on_line });
        }
        let on_line = on_line.and_then(|preset| preset.clone().try_into().ok());
        let preset = on_line.or_else(|| file.as_ref()?.preset).unwrap_or(Preset::Face);
        let mut merged = Self::from_preset(preset).table()?;
        for layer in [file.as_ref().map(|file| &file.table), given].into_iter().flatten() {
            merge(&mut merged, layer);
        }
        let settings: Self = merged.try_into().map_err(|error: toml::de::Error| SettingsError::Invalid {
            place: String::new(),
            reason: error.message().to_owned(),
        })?;
        settings.check_all().map_err(|Invalid { setting, reason }| {
            let place = if given.is_some_and(|given| has_key(given, setting)) {
                ON_THE_COMMAND_LINE.to_owned()
            } else {
                file.as_ref().map_or_else(String::new, |file| file.place(setting))
            };
            SettingsError::Invalid { place, reason }
        })?;
        Ok(settings)
    }

    /// Refuses the first invalid setting.
    ///
    /// # Errors
    /// With the setting, its value and what it must be.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.check_all()
            .map_err(|Invalid { reason, .. }| SettingsError::Invalid { place: String::new(), reason })
    }

    fn check_all(&self) -> Result<(), Invalid> {
        self.check_integers()?;
        self.model.check()?;
        self.data.check()?;
        self.train.check()?;
        let invalid = |setting, reason: String| Err(Invalid { setting, reason });
        let weight = self.model.truth_weight;
        if self.train.perceptual_every > 1 && self.model.needs_vgg() && !self.model.compares_without_vgg() {
            let reason = "perceptual-every must be 1 where only VGG16's features compare the reconstruction with the image";
            return invalid("perceptual-every", reason.into());
        }
        if self.train.filters.is_some()
            && self.model.loss.weight(LossKind::FilterBank).is_none_or(|w| w == 0.0)
        {
            let reason = "filters are those of a term that this loss does not have; add --loss filter-bank=1";
            return invalid("filters", reason.into());
        }
        if self.model.supervision == Supervision::Depth && !self.data.is_generated() {
            let reason = "supervision is depth; it needs images whose depth is known: the source synthetic";
            return invalid("supervision", reason.into());
        }
        if self.train.teacher.is_some() && weight == 0.0 {
            let reason = "truth-weight is 0; with a teacher it is the weight of its answers, so give it one";
            return invalid("truth-weight", reason.into());
        }
        if weight > 0.0 && self.train.teacher.is_none() && !self.data.has_generated() {
            let needed = "it needs images whose truth is known: the source synthetic, beside others";
            return invalid("truth-weight", format!("truth-weight is {weight}; {needed}"));
        }
        if self.data.pairs == Pairs::Collection && self.model.method != Method::Lemul {
            let reason = "pairs is collection; unsup3d learns from single images: use --method lemul, or leave pairs out";
            return invalid("pairs", reason.into());
        }
        let renderer = self.model.renderer();
        if self.train.renderer_weights.is_some() && renderer == Renderer::Exact {
            let reason = "renderer-weights are those of a learned renderer, which these losses do not use; add --renderer learned";
            return invalid("renderer-weights", reason.into());
        }
        let is_there = self.train.renderer_weights.is_some() || self.train.initial_weights.is_some();
        if renderer == Renderer::Learned && !is_there {
            let reason = "renderer is learned; one that has learned nothing shows nothing, so name one with --renderer-weights";
            return invalid("renderer-weights", reason.into());
        }
        if self.train.learn == Learn::Decomposition && renderer == Renderer::Exact {
            let reason =
                "learn is decomposition, all but a learned renderer; it needs renderer learned or both";
            return invalid("learn", reason.into());
        }
        if self.train.learn == Learn::Texture && self.data.pairs == Pairs::Collection {
            let reason = "learn is texture; it learns from single images, so pairs must be mirror";
            return invalid("learn", reason.into());
        }
        if self.train.learn == Learn::Texture && self.train.initial_weights.is_none() {
            let reason = "learn is texture; the shape comes from --initial-weights, so name some";
            return invalid("learn", reason.into());
        }
        if self.train.learn == Learn::Texture && self.model.supervision == Supervision::Depth {
            let reason = "learn is texture; a model with the supervision depth has no texture";
            return invalid("learn", reason.into());
        }
        Ok(())
    }

    /// TOML has no integers above 2^63 - 1.
    fn check_integers(&self) -> Result<(), Invalid> {
        let Self { data, model, train, compute, .. } = self;
        let all = data.settings().chain(model.settings()).chain(train.settings()).chain(compute.settings());
        for (setting, value) in all {
            if let Shown::Integer(number) = value
                && i64::try_from(number).is_err()
            {
                return Err(Invalid::new(setting.name, number, &format!("be at most {}", i64::MAX)));
            }
        }
        Ok(())
    }

    /// The first setting that must keep its value within a run and has another one than in `then`, the TOML text of the
    /// run's settings.
    ///
    /// # Errors
    /// If the text is not TOML.
    pub(crate) fn first_forbidden_change(&self, then: &str) -> Result<Option<Change>, SettingsError> {
        let parse = |text: &str| -> Result<Table, SettingsError> {
            let mut table = text.parse().map_err(|error: toml::de::Error| SettingsError::Invalid {
                place: "the settings in the checkpoint: ".into(),
                reason: error.message().to_owned(),
            })?;
            rename_old_keys(&mut table);
            Ok(table)
        };
        let tables = [parse(&self.to_toml()?)?, parse(then)?];
        for (section, setting) in Self::declared() {
            let [now, then] =
                tables.each_ref().map(|table| table.get(section).and_then(|s| s.get(setting.name)));
            let is_changed = match (now, then) {
                (Some(now), Some(then)) => setting.kind.is_fixed() && now != then,
                (None, None) => false,
                // Any other setting that one of them lacks came with a later version.
                _ => setting.is_optional && (setting.kind.is_fixed() || setting.kind == Kind::File),
            };
            if is_changed {
                let [now, then] =
                    [now, then].map(|value| value.map_or_else(|| "none".to_owned(), Value::to_string));
                return Ok(Some(Change { key: setting.name, now, then }));
            }
        }
        Ok(None)
    }

    /// The settings as a TOML file in which every setting is explained.
    ///
    /// # Errors
    /// If a number is too large for TOML; [`Settings::check`] refuses it too.
    pub fn to_toml(&self) -> Result<String, SettingsError> {
        let plain = toml::to_string(self)
            .map_err(|error| SettingsError::Invalid { place: String::new(), reason: error.to_string() })?;
        let help = |key: &str| {
            let mut declared = Self::declared();
            let found = declared.find(|(_, setting)| setting.name == key).map(|(_, setting)| setting.help);
            found.or((key == "preset").then_some(ABOUT_PRESET))
        };
        let mut explained = String::new();
        for line in plain.lines() {
            // A setting is a line, or a table for each element of a list: `[[model.loss]]`.
            let of_list = line.strip_prefix("[[").and_then(|line| line.strip_suffix("]]")?.split_once('.'));
            let key = line.split_once(" = ").or(of_list.map(|(section, key)| (key, section)));
            if let Some(help) = key.and_then(|(key, _)| help(key)) {
                let _ = writeln!(explained, "# {help}");
            }
            let _ = writeln!(explained, "{line}");
        }
        Ok(explained)
    }

    fn table(&self) -> Result<Table, SettingsError> {
        Table::try_from(self)
            .map_err(|error| SettingsError::Invalid { place: String::new(), reason: error.to_string() })
    }
}

/// A setting that has changed.
pub(crate) struct Change {
    /// Its name.
    pub key: &'static str,
    /// Its value now, or `none`.
    pub now: String,
    /// Its value before, or `none`.
    pub then: String,
}

#[cfg(all(test, feature = "cli"))]
mod tests;
