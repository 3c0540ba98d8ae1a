//! Packs the weights of a run as they ship ([`Model::to_packed_safetensors`]). The settings of the run stay in the notes, where
//! `relievo info` finds what the weights were trained with.
//!
//!     cargo run --release -p relievo-model --example pack_weights -- RUN/model.safetensors NAME.safetensors

use std::error::Error;

use relievo_model::Model;
use relievo_tensor::safetensors::SafetensorsFile;

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
    let mut notes = SafetensorsFile::open(&bytes)?.into_metadata();
    // Whoever reads the notes has other folders.
    for note in notes.values_mut() {
        let names = note.lines().map(|line| {
            let holds_paths = line.starts_with("source = ") || line.starts_with("initial-weights = ");
            if holds_paths { without_folders(line) } else { line.to_owned() }
        });
        *note = names.collect::<Vec<_>>().join("\n");
    }
    let packed = model.to_packed_safetensors(notes)?;
    // What was written must be a model.
    Model::from_safetensors(&packed, to)?;
    std::fs::write(to, &packed)?;
    println!("{to}: {:.1} MiB", packed.len() as f64 / f64::from(1 << 20));
    Ok(())
}
