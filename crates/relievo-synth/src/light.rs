//! The light of an image, within the model's ranges.

use relievo_data::Light;

use crate::random::Draws;
use crate::variation::Variation;

/// Draws a light. The direction is (x, y, 1) / norm in the canonical frame, with |x| and |y| at most 1, as the model
/// parametrises it: y > 0 comes from above, x > 0 from the image's left. A photographer exposes for the skin:
/// `skin_brightness` is its albedo's greatest channel, and its image stays below white.
pub(crate) fn draw(skin_brightness: f32, variation: &Variation, draws: &mut Draws) -> Light {
    let x = if draws.chance(0.55) { draws.between(-1.0, 1.0) } else { 0.35 * draws.bell() };
    let y = 0.2 + variation.elevation_spread * draws.bell();
    let [x, y] = [x, y].map(|c| c.clamp(-1.0, 1.0));
    let length = (x * x + y * y + 1.0).sqrt();
    // The brightest shading, and how much of it comes from everywhere.
    let brightest = (draws.between(0.74, 1.04) / skin_brightness.max(0.5)).min(1.5);
    let share = draws.between(0.2, 0.75);
    Light {
        ambient: (brightest * share).min(1.0),
        diffuse: (brightest * (1.0 - share)).min(1.0),
        direction: [x / length, y / length, 1.0 / length],
    }
}
