//! Which weights a command uses.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use relievo_model::{ComputeSettings, Model, Preset};
use relievo_train::RunFolder;
use relievo_train::checkpoint::Provenance;

/// The weights that come with the program, by name, the usual ones first; MODEL_CARD.md tells what they are.
#[cfg(feature = "weights")]
const COME_WITH_IT: &[(&str, &[u8])] = &[
    ("faces", include_bytes!("../../../assets/weights/faces.safetensors")),
    (SYNTHETIC, include_bytes!("../../../assets/weights/faces-synthetic.safetensors")),
    ("cats", include_bytes!("../../../assets/weights/cats.safetensors")),
];
/// A program built without the feature `weights` has none.
#[cfg(not(feature = "weights"))]
const COME_WITH_IT: &[(&str, &[u8])] = &[];

/// The name of those that learned from synthetic heads alone.
pub const SYNTHETIC: &str = "faces-synthetic";

/// Whether any come with it.
pub const EMBEDDED: bool = !COME_WITH_IT.is_empty();

/// A model, and what is known of it.
pub struct Loaded {
    pub model: Model,
    /// Where it was found.
    pub origin: String,
    /// The recipe it was trained by, if its file says.
    preset: Option<Preset>,
}

impl Loaded {
    /// What the model is of, if it says that it is of something other than human faces.
    pub fn other_object(&self) -> Option<&'static str> {
        match self.preset? {
            Preset::Face | Preset::SyntheticFace => None,
            Preset::Cat => Some("cats"),
            Preset::Car => Some("cars"),
        }
    }
}

/// The model in a weights file, a checkpoint, the folder of a run, or of a name; without any the usual one of those that
/// come with the program.
pub fn load(path: Option<&Path>) -> anyhow::Result<Loaded> {
    let (bytes, origin) = read(path)?;
    let preset = Provenance::read(&bytes).and_then(|provenance| provenance.preset());
    Ok(Loaded { model: Model::from_safetensors(&bytes, &origin)?, origin, preset })
}

/// The bytes of weights, and where they were found. What exists goes before a name.
pub fn read(path: Option<&Path>) -> anyhow::Result<(Cow<'static, [u8]>, String)> {
    let names = || COME_WITH_IT.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let named = match path {
        None => COME_WITH_IT.first(),
        Some(path) if path.exists() => None,
        Some(path) => COME_WITH_IT.iter().find(|(name, _)| Path::new(name) == path),
    };
    if let Some((name, bytes)) = named {
        return Ok(((*bytes).into(), format!("{name} (in the program)")));
    }
    let Some(path) = path else {
        bail!(
            "this program was built without weights: name a weights file or the folder of a run with --model, or build \
             it with the feature `weights`"
        );
    };
    let file = if path.is_dir() { RunFolder::open(path)?.model() } else { path.to_owned() };
    let origin = file.display();
    let bytes = fs::read(&file).with_context(|| {
        let known = if EMBEDDED { format!(", or one of {}", names()) } else { String::new() };
        format!("cannot read the weights {origin}; give a weights file, the folder of a run{known}")
    })?;
    Ok((bytes.into(), origin.to_string()))
}

/// As [`load`], on the device and in the precision asked for.
pub fn placed(path: Option<&Path>, compute: &ComputeSettings) -> anyhow::Result<Loaded> {
    let mut loaded = load(path)?;
    compute.place(&mut loaded.model)?;
    Ok(loaded)
}
