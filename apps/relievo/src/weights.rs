//! Which weights a command uses.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use anyhow::Context;
use relievo_model::{ComputeSettings, Model};
use relievo_train::RunFolder;

/// The weights that come with the program and their name; MODEL_CARD.md tells what they are.
#[cfg(feature = "weights")]
const COME_WITH_IT: Option<(&str, &[u8])> =
    Some(("faces-synthetic", include_bytes!("../../../assets/weights/faces-synthetic.safetensors")));
/// A program built without the feature `weights` has none.
#[cfg(not(feature = "weights"))]
const COME_WITH_IT: Option<(&str, &[u8])> = None;

/// Whether any come with it.
pub const EMBEDDED: bool = COME_WITH_IT.is_some();

/// The model in a weights file, a checkpoint, or the folder of a run; without a path the one that comes with the program.
pub fn load(path: Option<&Path>) -> anyhow::Result<Model> {
    let (bytes, origin) = read(path)?;
    Ok(Model::from_safetensors(&bytes, &origin)?)
}

/// The bytes of a weights file, and where they were found.
pub fn read(path: Option<&Path>) -> anyhow::Result<(Cow<'static, [u8]>, String)> {
    let Some(path) = path else {
        let (name, bytes) = COME_WITH_IT.context(
            "this program was built without weights: name a weights file or the folder of a run with --model, or build \
             it with the feature `weights`",
        )?;
        return Ok((bytes.into(), format!("{name} (in the program)")));
    };
    let file = if path.is_dir() { RunFolder::open(path)?.model() } else { path.to_owned() };
    let origin = file.display();
    let bytes = fs::read(&file).with_context(|| {
        format!("cannot read the weights {origin}; give a weights file or the folder of a run")
    })?;
    Ok((bytes.into(), origin.to_string()))
}

/// As [`load`], on the device and in the precision asked for.
pub fn placed(path: Option<&Path>, compute: &ComputeSettings) -> anyhow::Result<Model> {
    let mut model = load(path)?;
    compute.place(&mut model)?;
    Ok(model)
}
