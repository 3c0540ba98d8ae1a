//! Where a model's weights come from.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use relievo_model::{Model, Preset};

use crate::Error;

/// The weights that are embedded, by name, the usual ones first: those of the crates `relievo-weights-research`
/// (feature `weights-research`) and `relievo-weights-synthetic` (feature `weights-synthetic`).
pub static EMBEDDED_WEIGHTS: &[(&str, &[u8])] = &[
    #[cfg(feature = "weights-research")]
    ("faces", &relievo_weights_research::FACES),
    #[cfg(feature = "weights-synthetic")]
    ("faces-synthetic", &relievo_weights_synthetic::FACES_SYNTHETIC),
    #[cfg(feature = "weights-research")]
    ("cats", &relievo_weights_research::CATS),
];

/// The weights of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weights {
    /// Human faces, learned from photographs: for research only. Needs the feature `weights-research`.
    Faces,
    /// Human faces, learned from synthetic heads alone. Needs the feature `weights-synthetic` (on by default).
    FacesSynthetic,
    /// Cats' faces, learned from photographs: for research only. Needs the feature `weights-research`.
    Cats,
    /// A weights file or a checkpoint of a training run.
    File(PathBuf),
    /// The bytes of a weights file.
    Bytes {
        /// The file's content.
        bytes: Cow<'static, [u8]>,
        /// What error messages call it.
        origin: String,
    },
}

impl Default for Weights {
    /// [`Weights::Faces`] if they are embedded, else [`Weights::FacesSynthetic`].
    fn default() -> Self {
        if cfg!(feature = "weights-research") { Self::Faces } else { Self::FacesSynthetic }
    }
}

impl Weights {
    /// The embedded weights of that name (`faces`, `faces-synthetic`, `cats`), if this build has them.
    pub fn named(name: &str) -> Option<Self> {
        let known = [Self::Faces, Self::FacesSynthetic, Self::Cats];
        let is_embedded = EMBEDDED_WEIGHTS.iter().any(|(embedded, _)| *embedded == name);
        known.into_iter().find(|weights| is_embedded && weights.name() == Some(name))
    }

    /// The name of embedded weights.
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Faces => Some("faces"),
            Self::FacesSynthetic => Some("faces-synthetic"),
            Self::Cats => Some("cats"),
            Self::File(_) | Self::Bytes { .. } => None,
        }
    }

    /// The bytes of the weights file, and what to call it in messages.
    ///
    /// # Errors
    /// If the file cannot be read, or the weights are not embedded in this build.
    pub fn read(&self) -> Result<(Cow<'static, [u8]>, String), Error> {
        match self {
            Self::File(path) => {
                let bytes = fs::read(path)
                    .map_err(|source| Error::UnreadableWeights { path: path.clone(), source })?;
                Ok((bytes.into(), path.display().to_string()))
            }
            Self::Bytes { bytes, origin } => Ok((bytes.clone(), origin.clone())),
            Self::Faces | Self::FacesSynthetic | Self::Cats => {
                let name = self.name().unwrap_or_default();
                let is_synthetic = *self == Self::FacesSynthetic;
                let feature = if is_synthetic { "weights-synthetic" } else { "weights-research" };
                let found = EMBEDDED_WEIGHTS.iter().find(|(embedded, _)| *embedded == name);
                let (_, bytes) = found.ok_or(Error::NotEmbedded { name, feature })?;
                Ok((Cow::Borrowed(*bytes), format!("{name} (in the program)")))
            }
        }
    }

    /// Reads the weights and makes the model, on the CPU.
    ///
    /// # Errors
    /// As [`Weights::read`], or if the bytes are no weights file.
    pub fn load(&self) -> Result<LoadedWeights, Error> {
        let (bytes, origin) = self.read()?;
        let model = Model::from_safetensors(&bytes, &origin)?;
        Ok(LoadedWeights { model, category: Category::from_weights(&bytes), origin })
    }
}

impl From<&Path> for Weights {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

/// A model read from weights.
#[non_exhaustive]
pub struct LoadedWeights {
    /// The model, on the CPU.
    pub model: Model,
    /// What its images show; [`Category::HumanFaces`] if the file does not say.
    pub category: Category,
    /// Where the weights came from.
    pub origin: String,
}

/// What a model's images show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Category {
    /// Human faces, which the detector finds in photographs.
    #[default]
    HumanFaces,
    /// Cats' faces.
    Cats,
    /// Cars.
    Cars,
}

impl Category {
    /// By the preset of the run that the weights were trained in, which their file names.
    fn from_weights(bytes: &[u8]) -> Self {
        match Preset::in_weights(bytes) {
            Some(Preset::Cat | Preset::LemulCat) => Self::Cats,
            Some(Preset::Car) => Self::Cars,
            Some(
                Preset::Face
                | Preset::SyntheticFace
                | Preset::LemulCasia
                | Preset::LemulCeleba
                | Preset::LemulSynthetic,
            )
            | None => Self::HumanFaces,
        }
    }
}

impl fmt::Display for Category {
    /// In the plural.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HumanFaces => "human faces",
            Self::Cats => "cats",
            Self::Cars => "cars",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_weights_load_by_name_and_say_what_they_are_of() {
        for (name, _) in EMBEDDED_WEIGHTS {
            let loaded = Weights::named(name).unwrap().load().unwrap();
            let is_of_cats = *name == "cats";
            assert_eq!(loaded.category == Category::Cats, is_of_cats, "{name}");
            assert_eq!(loaded.origin, format!("{name} (in the program)"));
        }
        assert_eq!(Weights::named("horses"), None);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = Weights::File("no/such.safetensors".into()).read().unwrap_err().to_string();
        assert!(error.starts_with("cannot read the weights no/such.safetensors: "), "{error}");
        #[cfg(not(feature = "weights-research"))]
        assert!(Weights::Cats.read().unwrap_err().to_string().contains("feature `weights-research`"));
        let bytes = Weights::Bytes { bytes: Cow::Borrowed(b"PNG"), origin: "upload".into() };
        assert!(bytes.load().err().unwrap().to_string().starts_with("upload: not a readable weights file"));
    }
}
