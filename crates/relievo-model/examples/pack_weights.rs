//! Packs the weights of a run as they ship: in half precision, without the confidence network, which inference does not
//! use, and so without the perceptual loss, which means little without it. The settings of the run stay in the notes,
//! where `relievo info` finds what the weights were trained with.
//!
//!     cargo run --release -p relievo-model --example pack_weights -- RUN/model.safetensors NAME.safetensors

use std::error::Error;

use half::f16;
use relievo_model::{Model, ModelSettings, SETTINGS_KEY};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// A line of TOML with the names of files only where it quotes paths.
fn without_folders(line: &str) -> String {
    let name = |(at, part): (usize, &str)| match (at % 2, part.rsplit(['/', '\\']).next()) {
        (1, Some(name)) => name.to_owned(),
        _ => part.to_owned(),
    };
    line.split('"').enumerate().map(name).collect::<Vec<_>>().join("\"")
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        return Err("give the weights file and the file to write".into());
    };
    let bytes = std::fs::read(from)?;
    let model = Model::from_safetensors(&bytes, from)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
    let mut notes = metadata.metadata().clone().unwrap_or_default();
    // Whoever reads the notes has other folders.
    for note in notes.values_mut() {
        let names = note.lines().map(|line| {
            let holds_paths = line.starts_with("source = ") || line.starts_with("initial-weights = ");
            if holds_paths { without_folders(line) } else { line.to_owned() }
        });
        *note = names.collect::<Vec<_>>().join("\n");
    }
    let settings = ModelSettings { confidence: false, perceptual_weight: 0.0, ..model.settings().clone() };
    notes.insert(SETTINGS_KEY.to_owned(), serde_json::to_string(&settings)?);
    let parameters = model.parameter_infos().iter().zip(model.parameters());
    let halves: Vec<(_, Vec<u8>)> = parameters
        .filter(|(info, _)| !info.name.starts_with("confidence."))
        .map(|(info, tensor)| {
            (info, tensor.data().iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect())
        })
        .collect();
    let views = halves.iter().map(|(info, bytes)| {
        Ok((info.name.as_str(), TensorView::new(Dtype::F16, info.shape.to_vec(), bytes)?))
    });
    let packed = safetensors::serialize(views.collect::<Result<Vec<_>, Box<dyn Error>>>()?, Some(notes))?;
    // What was written must be a model.
    Model::from_safetensors(&packed, to)?;
    std::fs::write(to, &packed)?;
    println!("{to}: {:.1} MiB", packed.len() as f64 / f64::from(1 << 20));
    Ok(())
}
