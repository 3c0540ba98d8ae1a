//! What a file and a command line say, as tables that can be laid over each other.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use relievo_model::Preset;
use toml::{Table, Value};

use super::{ON_THE_COMMAND_LINE, Settings, SettingsError};

/// The settings given on the command line, not by default, as a layer.
pub(super) fn given_options(settings: &Settings, matches: &ArgMatches) -> Result<Table, SettingsError> {
    let given = |key: &str| {
        matches.value_source(&key.replace('-', "_")).is_some_and(|source| source == ValueSource::CommandLine)
    };
    let keep = |table: Table| -> Table { table.into_iter().filter(|(key, _)| given(key)).collect() };
    let mut layer = Table::new();
    settings
        .check_integers()
        .map_err(|reason| SettingsError::Invalid { place: ON_THE_COMMAND_LINE.into(), reason })?;
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

/// Puts what `above` says over what `below` says.
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

/// Settings that had another name in version 0.1, each with its old one: files with the old names are still read.
const RENAMED: [(&str, &str); 2] = [("average-decay", "ema-decay"), ("preview-pictures", "preview-images")];

/// Gives the settings of an older file the names of today, so that the layers agree on their keys.
fn rename_old_keys(table: &mut Table) {
    for section in table.iter_mut().filter_map(|(_, value)| value.as_table_mut()) {
        for (old, new) in RENAMED {
            if let Some(value) = section.remove(old) {
                section.insert(new.to_owned(), value);
            }
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
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, text),
            Err(source) => Err(SettingsError::Unreadable { path: path.to_owned(), source }),
        }
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
        let is_key = |line: &&str| {
            line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        match self.text.lines().position(|line| is_key(&line)) {
            Some(line) => format!("{}, line {}: ", self.path.display(), line + 1),
            None => String::new(),
        }
    }
}
