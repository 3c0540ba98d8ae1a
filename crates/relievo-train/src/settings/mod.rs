//! Everything that can be chosen about a run: one struct is the TOML file, the command line and the documentation.
//!
//! Layers, each over the one before: the defaults, the preset's recipe, a TOML file, the options given on the command
//! line. A layer is a TOML table, so that every layer is merged in the same way whatever the type of a setting.

mod data;
mod layers;
mod train;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, Command};
use relievo_data::SourceSpec;
use relievo_model::{ComputeSettings, ModelSettings, Preset, Supervision};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use data::{DataSettings, HeldOut};
pub use train::{EmbeddedWeights, TrainSettings};

use layers::{FileLayer, given_options, has_key, merge};

/// The beginning of a message about an option.
const ON_THE_COMMAND_LINE: &str = "on the command line: ";

/// The settings of a run. The sections of the TOML file are the fields.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The recipe everything starts from; other settings change single points of it
    #[arg(long, value_enum, default_value_t = Preset::Face)]
    pub preset: Preset,
    /// The images.
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

impl Default for Settings {
    fn default() -> Self {
        Self::from_preset(Preset::Face)
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
    Invalid {
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
        for source in &mut self.data.source {
            if let SourceSpec::Path(path) = source {
                // A path that is not Unicode stays as it is: TOML could not hold it.
                let found = absolute(path).filter(|path| path.to_str().is_some());
                *path = found.unwrap_or_else(|| path.clone());
            }
        }
        let files = [&mut self.train.initial_weights, &mut self.train.perceptual_features];
        let known = self.train.embedded_weights;
        for file in files.into_iter().flatten().filter(|file| file.is_file() || known.find(file).is_none()) {
            *file = absolute(file).unwrap_or_else(|| file.clone());
        }
    }

    /// The recipe of a preset.
    pub fn from_preset(preset: Preset) -> Self {
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
        Self::from_layers(file.map(FileLayer::read).transpose()?, command_line)
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
        Self::from_layers(Some(FileLayer::parse(path, text.to_owned())?), command_line)
    }

    fn from_layers(
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
        let mut merged = Self::from_preset(preset).table()?;
        for layer in [file.as_ref().map(|file| &file.table), given.as_ref()].into_iter().flatten() {
            merge(&mut merged, layer);
        }
        let settings: Self = merged.try_into().map_err(|error: toml::de::Error| SettingsError::Invalid {
            place: String::new(),
            reason: error.message().to_owned(),
        })?;
        settings.check().map_err(|error| match error {
            SettingsError::Invalid { reason, .. } => {
                let key = reason.split(' ').next().unwrap_or_default();
                let place = if given.as_ref().is_some_and(|given| has_key(given, key)) {
                    ON_THE_COMMAND_LINE.to_owned()
                } else {
                    file.as_ref().map_or_else(String::new, |file| file.place(key))
                };
                SettingsError::Invalid { place, reason }
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
            if !self.data.is_generated() {
                return Err(
                    "supervision is depth; it needs images whose depth is known: the source synthetic".into(),
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
        problem.map_err(|reason| SettingsError::Invalid { place: String::new(), reason })
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
            ("albedo-width", model.albedo_width.unwrap_or(0) as u64),
            ("albedo-code", model.albedo_code.unwrap_or(0) as u64),
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
            ("preview-images", train.preview_images as u64),
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
            .map_err(|error| SettingsError::Invalid { place: String::new(), reason: error.to_string() })?;
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
            .map_err(|error| SettingsError::Invalid { place: String::new(), reason: error.to_string() })
    }
}

/// A command that has the options of [`Settings`] and nothing else.
fn command() -> Command {
    Settings::augment_args(Command::new("settings"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use clap::{FromArgMatches, Parser};
    use relievo_data::{Registry, SYNTHETIC, Source};
    use relievo_synth::Heads;

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
        assert_eq!(cat, Settings::from_preset(Preset::Cat));
        assert_eq!((cat.train.epochs, cat.train.full_flip_epochs), (200, 10));

        let file =
            "preset = \"car\"\n[train]\nepochs = 7\nlearning-rate = 0.001\n[data]\nsource = [\"cars\"]\n";
        let car = layered(Some(file), &["--epochs", "9", "--border-depth", "1.02"]).unwrap();
        assert_eq!(car.model, ModelSettings { border_depth: 1.02, ..Preset::Car.model() });
        assert_eq!((car.train.epochs, car.train.learning_rate), (9, 0.001));
        assert_eq!(car.data.source, [SourceSpec::from("cars")]);
        // An option that repeats the default is given all the same.
        assert_eq!(layered(Some(file), &["--epochs", "30"]).unwrap().train.epochs, 30);
        let given = layered(Some(file), &["faces", "more"]).unwrap().data.source;
        assert_eq!(given, ["faces", "more"].map(SourceSpec::from));
    }

    #[test]
    fn settings_survive_the_file_and_are_explained_in_it() {
        for preset in [Preset::Face, Preset::Cat, Preset::Car] {
            let mut settings = Settings::from_preset(preset);
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
    fn old_names_of_settings_are_still_read() {
        let file = "[train]\naverage-decay = 0.5\npreview-pictures = 3\n";
        let settings = layered(Some(file), &["--average-decay", "0.25"]).unwrap();
        assert_eq!((settings.train.ema_decay, settings.train.preview_images), (0.25, 3));
        assert!(settings.to_toml().unwrap().contains("\nema-decay = 0.25\n"));
    }

    #[test]
    fn heads_may_stand_beside_images() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), [1]).unwrap();
        let path = folder.path().to_str().unwrap();
        let data = |line: &[&str]| layered(None, line).unwrap().data;
        let heads = |data: &DataSettings, _: &str| -> Result<Arc<dyn Source>, String> {
            Ok(Arc::new(Heads::range(data.synthetic_seed, 0, data.synthetic_count)))
        };
        let registry = Registry::default().register(SYNTHETIC, heads);
        let both = data(&[SYNTHETIC, path, "--synthetic-count", "3"]);
        assert!(!both.is_generated());
        let joined = both.open(&registry).unwrap();
        let names: Vec<String> = (0..joined.len()).map(|index| joined.name(index)).collect();
        assert_eq!(
            (names.len(), names[0].as_str(), joined.sample(2, 64).unwrap().truth.is_some()),
            (4, "a.png", true)
        );
        assert_eq!(data(&[path]).open(&registry).unwrap().len(), 1);
        assert!(data(&[SYNTHETIC]).is_generated());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            ["--validation", "1.5"],
            ["--learning-rate", "NaN"],
            ["--beta2", "1"],
            ["--ema-decay", "1"],
            ["--jitter", "1"],
            ["--roll", "181"],
            ["--pitch-spread", "21"],
            ["--pitch-spread", "NaN"],
            ["--elevation-spread", "2.5"],
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
