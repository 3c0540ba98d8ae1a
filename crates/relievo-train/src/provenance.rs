//! The origin of weights: the run that made them, and the images that it held out.

use std::sync::Arc;

use relievo_data::{Registry, Source, SourceError, SourceSpec, Split};
use relievo_model::{ModelSettings, Preset, RUN_KEY};
use relievo_tensor::safetensors::SafetensorsFile;

use crate::checkpoint::{PROGRESS_KEY, Progress};
use crate::settings::DataSettings;

/// The run that weights come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// The progress of the run when they were saved.
    pub progress: Progress,
    /// The settings of the run, as TOML.
    pub settings: String,
}

/// The entries of a weights file's metadata that [`Provenance::read`] reads.
pub(crate) fn provenance_notes(progress: &Progress, settings: &str) -> [(String, String); 2] {
    let progress = serde_json::to_string(progress).expect("progress is plain numbers");
    [(RUN_KEY.to_owned(), settings.to_owned()), (PROGRESS_KEY.to_owned(), progress)]
}

impl Provenance {
    /// Reads it from the bytes of a weights file or a checkpoint; `None` if they name no run.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let file = SafetensorsFile::open(bytes).ok()?;
        let progress = serde_json::from_str(file.metadata(PROGRESS_KEY)?).ok()?;
        Some(Self { progress, settings: file.metadata(RUN_KEY)?.to_owned() })
    }

    /// The recipe of the run, and with it the kind of object that its images show. The other settings need not be
    /// ones that this version knows; `None` if there is no such preset.
    pub fn preset(&self) -> Option<Preset> {
        Preset::in_run(&self.settings)
    }

    /// The model settings of the run; weights may be packed without what only training needs. `None` if this version does
    /// not know one of the settings.
    pub fn model(&self) -> Option<ModelSettings> {
        let mut settings: toml::Table = self.settings.parse().ok()?;
        settings.remove("model")?.try_into().ok()
    }

    /// The images that the run held out: of its own sources or, if any are given, of `sources` in their place. `registry`
    /// opens the generated ones.
    ///
    /// # Errors
    /// If the run's settings cannot be read, the images cannot be opened, or they are not those of the run.
    pub fn held_out(
        &self,
        sources: &[SourceSpec],
        registry: &Registry<DataSettings>,
    ) -> Result<Arc<dyn Source>, HeldOutError> {
        let unknown = |error: toml::de::Error| HeldOutError::Unknown(error.message().to_owned());
        let mut settings: toml::Table = self.settings.parse().map_err(unknown)?;
        let section = settings.remove("data").unwrap_or(toml::Table::new().into());
        let mut data: DataSettings = section.try_into().map_err(unknown)?;
        if !sources.is_empty() {
            data.source = sources.to_vec();
        }
        let Progress { images: then, names_checksum: checksum, .. } = self.progress;
        let others = |now| HeldOutError::OtherImages { then, now };
        // Of too few images all would be held out.
        let split = data.split(data.open(registry)?).map_err(|_| others(0))?;
        let Split { train, validation } = split;
        if (train.len(), names_checksum(&train)) != (then, checksum) {
            return Err(others(train.len()));
        }
        if validation.is_empty() {
            return Err(HeldOutError::Nothing);
        }
        Ok(Arc::new(validation))
    }
}

/// Why the images that a run held out cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeldOutError {
    /// Settings of another version.
    #[error("the settings of the run cannot be read: {0}")]
    Unknown(String),
    /// The images cannot be read.
    #[error(transparent)]
    Open(#[from] SourceError),
    /// Other images than those of the run.
    #[error(
        "these are not the images of the run: it learned from {then}, and of these it would have from {now}, or from others"
    )]
    OtherImages {
        /// Number of images it learned from.
        then: u64,
        /// Number of images it would learn from.
        now: u64,
    },
    /// The run learned from all its images.
    #[error("the run held out nothing")]
    Nothing,
}

/// A checksum over the names of images, in their order.
pub(crate) fn names_checksum(images: &dyn Source) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for index in 0..images.len() {
        hasher.update(images.name(index).as_bytes());
        hasher.update(&[0]);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use relievo_model::Model;

    use super::*;
    use crate::checkpoint::tests::{small, written};

    #[test]
    fn weights_and_checkpoints_say_where_they_come_from() {
        let (model, _, progress) = small();
        let expected = Some(Provenance { progress, settings: "settings".into() });
        let weights = model.to_safetensors_with(provenance_notes(&progress, "settings")).unwrap();
        assert_eq!(Provenance::read(&weights), expected);
        assert_eq!(Provenance::read(&written()), expected);
        assert_eq!(Provenance::read(&model.to_safetensors().unwrap()), None);
        assert_eq!(Model::from_safetensors(&weights, "weights").unwrap().settings(), model.settings());
    }

    #[test]
    fn preset_and_model_are_told_whatever_else_stands_in_the_settings() {
        let of = |settings: &str| Provenance { progress: small().2, settings: settings.into() }.preset();
        assert_eq!(of("preset = \"cat\"\n[train]\nsetting-of-tomorrow = 3\n"), Some(Preset::Cat));
        assert_eq!(of("# a comment\npreset = \"synthetic-face\""), Some(Preset::SyntheticFace));
        let model = |settings: &str| Provenance { progress: small().2, settings: settings.into() }.model();
        let settings = ModelSettings { smoothness_weight: 0.5, ..ModelSettings::default() };
        let text = "preset = \"face\"\n[model]\nsmoothness-weight = 0.5\n[train]\nsetting-of-tomorrow = 3\n";
        assert_eq!(model(text), Some(settings));
        for unknown in ["", "[model]\nsetting-of-tomorrow = 3\n", "not TOML"] {
            assert_eq!(model(unknown), None, "{unknown}");
        }
        for unknown in ["", "preset = 3", "preset = \"horse\"", "[data]\npreset = \"cat\"", "not TOML"] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }
}
