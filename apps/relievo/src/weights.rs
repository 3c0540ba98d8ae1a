//! Which weights a command uses.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use relievo_model::{ComputeSettings, Model, Preset};
use relievo_train::Provenance;
use relievo_train::{EmbeddedWeights, RunFolder};

/// The weights that come with the program, by name, the usual ones first; MODEL_CARD.md tells what they are.
#[cfg(feature = "weights")]
const EMBEDDED_WEIGHTS: &[(&str, &[u8])] = &[
    ("faces", include_bytes!("../../../assets/weights/faces.safetensors")),
    (SYNTHETIC, include_bytes!("../../../assets/weights/faces-synthetic.safetensors")),
    ("cats", include_bytes!("../../../assets/weights/cats.safetensors")),
];
/// A program built without the feature `weights` has none.
#[cfg(not(feature = "weights"))]
const EMBEDDED_WEIGHTS: &[(&str, &[u8])] = &[];

/// For `--initial-weights`.
pub const KNOWN: EmbeddedWeights = EmbeddedWeights(EMBEDDED_WEIGHTS);

/// The name of those that learned from synthetic heads alone.
pub const SYNTHETIC: &str = "faces-synthetic";

/// Whether any come with it.
pub const EMBEDDED: bool = !EMBEDDED_WEIGHTS.is_empty();

/// A model, and what is known of it.
pub struct Loaded {
    pub model: Model,
    /// Where it was found.
    pub origin: String,
    /// The run it was trained in, if its file says.
    pub provenance: Option<Provenance>,
}

impl Loaded {
    /// What the model is of, if it says that it is of something other than human faces.
    pub fn other_object(&self) -> Option<&'static str> {
        match self.provenance.as_ref()?.preset()? {
            Preset::Face | Preset::SyntheticFace => None,
            Preset::Cat => Some("cats"),
            Preset::Car => Some("cars"),
        }
    }
}

/// The model in a weights file, a checkpoint, the folder of a run, or of a name; without any the usual one of those
/// that come with the program.
pub fn load(path: Option<&Path>) -> anyhow::Result<Loaded> {
    let (bytes, origin) = read(path)?;
    Ok(Loaded {
        model: Model::from_safetensors(&bytes, &origin)?,
        provenance: Provenance::read(&bytes),
        origin,
    })
}

/// The bytes of weights, and where they were found. A file or a run goes before a name.
pub fn read(path: Option<&Path>) -> anyhow::Result<(Cow<'static, [u8]>, String)> {
    let names = || EMBEDDED_WEIGHTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let named = match path {
        None => EMBEDDED_WEIGHTS.first(),
        // A folder of that name may be one of images.
        Some(path) if path.is_file() || RunFolder::open(path).is_ok() => None,
        Some(path) => EMBEDDED_WEIGHTS.iter().find(|(name, _)| Path::new(name) == path),
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

#[cfg(all(test, feature = "weights"))]
mod tests {
    use relievo_data::Source;
    use relievo_synth::Heads;
    use relievo_tensor::Tensor;

    use super::*;

    /// The share of the power of the middle of depth maps `[size,size]` that lies at the highest frequency along rows
    /// and columns, where neighbours alternate.
    fn share_of_alternation(depths: &[f32], size: usize) -> f64 {
        const LENGTH: usize = 32;
        let first = (size - LENGTH) / 2;
        let (mut alternating, mut all) = (0.0, 0.0);
        for depth in depths.chunks_exact(size * size) {
            for line in first..first + LENGTH {
                for step in [1, size] {
                    let start = line * (size + 1 - step) + first * step;
                    let values: Vec<f64> =
                        (0..LENGTH).map(|at| f64::from(depth[start + at * step])).collect();
                    let mean = values.iter().sum::<f64>() / LENGTH as f64;
                    let mut sum = 0.0;
                    for (at, value) in values.iter().enumerate() {
                        let window = 0.5 - 0.5 * (std::f64::consts::TAU * at as f64 / LENGTH as f64).cos();
                        let x = window * (value - mean);
                        sum += if at % 2 == 0 { x } else { -x };
                        all += x * x;
                    }
                    alternating += sum * sum / LENGTH as f64;
                }
            }
        }
        alternating / all
    }

    #[test]
    fn depth_has_no_checkerboard() {
        // The measure itself: half of the power of this one alternates, a third of which the window spreads to other
        // frequencies.
        let waves: Vec<f32> = (0..64 * 64)
            .map(|at| {
                let (row, column) = (at / 64, at % 64);
                let slow = (std::f32::consts::TAU * (row + column) as f32 / 8.0).sin() * 2.0_f32.sqrt();
                slow + if (row + column) % 2 == 0 { 1.0 } else { -1.0 }
            })
            .collect();
        let share = share_of_alternation(&waves, 64);
        assert!((share - 0.5 * 2.0 / 3.0).abs() < 0.01, "{share}");

        let heads = Heads::range(1, 0, 8);
        let images =
            (0..8).flat_map(|index| heads.sample(index, 64).unwrap().image.signed().collect::<Vec<f32>>());
        let images = Tensor::new(&images.collect::<Vec<f32>>(), [8, 64, 64, 3]).unwrap();
        for (name, _) in EMBEDDED_WEIGHTS {
            let prediction = load(Some(Path::new(name))).unwrap().model.predict(&images).unwrap();
            let share = share_of_alternation(prediction.smooth_depth.data(), 64);
            assert!(share < 1e-4, "{name}: {share}");
        }
    }
}
