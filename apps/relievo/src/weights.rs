//! Which weights a command uses.

use std::fs;
use std::path::Path;

use anyhow::Context;
use relievo_model::{ComputeSettings, Model};
use relievo_train::RunFolder;

/// The model in a weights file, a checkpoint, or the folder of a run.
pub fn load(path: &Path) -> anyhow::Result<Model> {
    let (bytes, origin) = read(path)?;
    Ok(Model::from_safetensors(&bytes, &origin)?)
}

/// The bytes of a weights file, and where they were found.
pub fn read(path: &Path) -> anyhow::Result<(Vec<u8>, String)> {
    let file = if path.is_dir() { RunFolder::open(path)?.model() } else { path.to_owned() };
    let origin = file.display();
    let bytes = fs::read(&file).with_context(|| {
        format!("cannot read the weights {origin}; give a weights file or the folder of a run")
    })?;
    Ok((bytes, origin.to_string()))
}

/// As [`load`], on the device and in the precision asked for; without a path it says how to come by weights.
pub fn required(path: Option<&Path>, compute: &ComputeSettings) -> anyhow::Result<Model> {
    let path = path.context(
        "no weights: name a weights file or the folder of a run with --model; `relievo demo` trains small ones in a \
         few minutes, `relievo train` good ones in a longer time",
    )?;
    let mut model = load(path)?;
    compute.place(&mut model)?;
    Ok(model)
}
