//! The synthetic heads that settings ask for.

use std::ops::Range;

use relievo_synth::{Heads, Variation};
use relievo_train::DataSettings;

/// Synthetic heads `numbers` as settings have them: their seed, how far they vary, and whether they are perturbed.
///
/// # Panics
/// If a spread is out of its range; [`relievo_train::Settings::check`] refuses those.
pub fn heads(data: &DataSettings, numbers: Range<u64>) -> Heads {
    let &DataSettings { synthetic_seed, synthetic_images, perturbed, .. } = data;
    let &DataSettings { pitch_spread, elevation_spread, asymmetry, .. } = data;
    let heads = Heads::range(synthetic_seed, numbers.start, numbers.end.saturating_sub(numbers.start));
    let heads = heads.images_of_each(synthetic_images);
    let heads = heads.varied(Variation { pitch_spread, elevation_spread, asymmetry });
    if perturbed { heads.perturbed() } else { heads }
}
