//! Settings files and command lines as tables that are merged.

use std::path::{Path, PathBuf};

use relievo_model::Preset;
#[cfg(feature = "cli")]
use relievo_settings::Invalid;
use toml::{Table, Value};

#[cfg(feature = "cli")]
use super::ON_THE_COMMAND_LINE;
use super::{Settings, SettingsError};

/// The settings that a command line gives, not those that it leaves at their defaults.
#[derive(Debug, Clone)]
pub struct GivenSettings(pub(super) Table);

#[cfg(feature = "cli")]
impl GivenSettings {
    /// Those of `settings` that `matches`, from which clap made them, say are given.
    ///
    /// # Errors
    /// If a whole number is too large for TOML.
    pub fn from_matches(settings: &Settings, matches: &clap::ArgMatches) -> Result<Self, SettingsError> {
        use clap::parser::ValueSource;

        let is_given =
            |key: &str| matches.value_source(&key.replace('-', "_")) == Some(ValueSource::CommandLine);
        let given = |table: Table| -> Table { table.into_iter().filter(|(key, _)| is_given(key)).collect() };
        settings.check_integers().map_err(|Invalid { reason, .. }| SettingsError::Invalid {
            place: ON_THE_COMMAND_LINE.into(),
            reason,
        })?;
        let mut layer = Table::new();
        for (key, value) in settings.table()? {
            match value {
                Value::Table(section) => {
                    layer.insert(key, Value::Table(given(section)));
                }
                _ if is_given(&key) => {
                    layer.insert(key, value);
                }
                _ => {}
            }
        }
        Ok(Self(layer))
    }
}

/// Overwrites the values of `below` with those of `above`.
pub(super) fn merge(below: &mut Table, above: &Table) {
    for (key, value) in above {
        match (below.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Whether the table or one of its sections has a key.
pub(super) fn has_key(table: &Table, key: &str) -> bool {
    table.contains_key(key)
        || table.values().filter_map(Value::as_table).any(|section| section.contains_key(key))
}

/// Gives the settings of an older file the names of today, so that the layers agree on their keys.
pub(super) fn rename_old_keys(table: &mut Table) {
    for (section, setting) in Settings::declared() {
        if let Some(old) = setting.formerly
            && let Some(section) = table.get_mut(section).and_then(Value::as_table_mut)
            && let Some(value) = section.remove(old)
        {
            section.insert(setting.name.to_owned(), value);
        }
    }
}

/// A settings file as a layer.
pub(super) struct FileLayer {
    pub path: PathBuf,
    text: String,
    pub table: Table,
    pub preset: Option<Preset>,
}

impl FileLayer {
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        Self::parse(path, relievo_files::read_to_string(path)?)
    }

    pub fn parse(path: &Path, text: String) -> Result<Self, SettingsError> {
        let path = path.to_owned();
        // Once into the struct, for its types and its unknown keys, which are reported with their lines; and once
        // into a table, because only that knows which keys are there.
        let parsed =
            toml::from_str::<Settings>(&text).and_then(|settings| Ok((settings, text.parse::<Table>()?)));
        match parsed {
            Ok((settings, mut table)) => {
                rename_old_keys(&mut table);
                let preset = table.contains_key("preset").then_some(settings.preset);
                Ok(Self { path, text, table, preset })
            }
            Err(error) => {
                Err(SettingsError::Malformed { path, reason: error.to_string().trim_end().to_owned() })
            }
        }
    }

    /// File and line in which a key stands, for the beginning of a message.
    pub fn place(&self, key: &str) -> String {
        let is_key = |line: &str| {
            let is_value =
                |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
            // A list of tables.
            let is_table = |line: &str| line.starts_with("[[") && line.contains(&format!(".{key}]]"));
            is_value(line.trim_start()) || is_table(line.trim_start())
        };
        match self.text.lines().position(is_key) {
            Some(line) => format!("{}, line {}: ", self.path.display(), line + 1),
            None => String::new(),
        }
    }
}
