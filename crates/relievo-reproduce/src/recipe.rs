//! What of its settings makes a recipe.

use relievo_model::Method;
use relievo_train::{DataSettings, Settings, SettingsError};
use toml::{Table, Value};

use crate::error::ReproduceError;

/// Whether a recipe learns from single images of heads of the usual asymmetry; the rows of pairs change that.
pub(crate) fn is_of_single_images(recipe: &Settings) -> bool {
    let (data, usual) = (&recipe.data, DataSettings::default());
    recipe.model.method == Method::Unsup3d
        && (data.pairs, data.synthetic_images, data.asymmetry)
            == (usual.pairs, usual.synthetic_images, usual.asymmetry)
}

/// The settings that affect a row's numbers.
pub(crate) fn table(settings: &Settings) -> Result<Table, ReproduceError> {
    let text = settings.to_toml()?;
    let all: Table = text.parse().map_err(|error: toml::de::Error| SettingsError::Invalid {
        place: String::new(),
        reason: error.message().to_owned(),
    })?;
    let counts = |key: &String| Settings::is_compared(key);
    let of_section = |value: Value| match value {
        Value::Table(section) => Value::Table(section.into_iter().filter(|(key, _)| counts(key)).collect()),
        value => value,
    };
    Ok(all.into_iter().filter(|(key, _)| counts(key)).map(|(key, value)| (key, of_section(value))).collect())
}

/// The first setting in which two tables differ, and its values in both.
pub(crate) fn first_difference(a: &Table, b: &Table) -> Option<(String, [String; 2])> {
    let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    a.keys().chain(b.keys()).find_map(|key| match (a.get(key), b.get(key)) {
        (Some(Value::Table(a)), Some(Value::Table(b))) => first_difference(a, b),
        (a, b) if a != b => Some((key.clone(), [text(a), text(b)])),
        _ => None,
    })
}
