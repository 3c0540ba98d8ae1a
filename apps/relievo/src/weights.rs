//! Which weights a command uses.

use std::path::Path;

use anyhow::bail;
use relievo::{EMBEDDED_WEIGHTS, LoadedWeights, Weights};
use relievo_model::{ComputeSettings, Model};
use relievo_train::Provenance;
use relievo_train::{EmbeddedWeights, RunFolder};

/// Whether any weights come with the program; MODEL_CARD.md says what they are.
pub const EMBEDDED: bool = cfg!(feature = "weights-synthetic");

/// For `--initial-weights`.
pub static KNOWN: EmbeddedWeights = EmbeddedWeights(EMBEDDED_WEIGHTS);

/// A model, and what is known of it.
pub struct Loaded {
    pub model: Model,
    /// Where it was found.
    pub origin: String,
    /// The run it was trained in, if its file says.
    pub provenance: Option<Provenance>,
}

/// The weights in a file, a checkpoint, the folder of a run, or of a name, in this order; without any the usual ones of
/// those that come with the program.
pub fn choose(path: Option<&Path>) -> anyhow::Result<Weights> {
    let Some(path) = path else {
        if EMBEDDED {
            return Ok(Weights::default());
        }
        bail!(
            "this program was built without weights: name a weights file or the folder of a run with --model, or build \
             it with the feature `weights`"
        );
    };
    if path.is_file() {
        return Ok(path.into());
    }
    // A folder of that name may be one of images.
    match (RunFolder::open(path), path.to_str().and_then(Weights::named)) {
        (Ok(run), _) => Ok(Weights::File(run.model())),
        (Err(_), Some(named)) => Ok(named),
        (Err(error), None) if path.is_dir() => Err(error.into()),
        (Err(_), None) => Ok(path.into()),
    }
}

/// The model of [`choose`].
pub fn load(path: Option<&Path>) -> anyhow::Result<Loaded> {
    let (bytes, origin) = choose(path)?.read()?;
    let provenance = Provenance::read(&bytes);
    let LoadedWeights { model, origin, .. } = Weights::Bytes { bytes, origin }.load()?;
    Ok(Loaded { model, origin, provenance })
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
