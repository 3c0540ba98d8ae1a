//! Where the curtain of long hair hangs: a sheet around the head, open in front of the face.

use crate::sheet::{Sheet, grid};

const ROWS: usize = 16;
pub(crate) const COLUMNS: usize = 41;
/// Height of its upper edge, decimetres.
pub(crate) const TOP: f32 = 7.95;
/// z of the axis that the curtain hangs around, decimetres.
pub(crate) const MIDDLE: f32 = 0.45;
/// Half width of the curtain by height.
const HALF_WIDTH: [[f32; 2]; 7] =
    [[7.95, 0.64], [7.75, 0.74], [7.5, 0.83], [7.25, 0.92], [6.9, 0.94], [6.2, 0.93], [5.3, 1.02]];

/// Place of a vertex of the curtain: 0..1 from the top to the bottom, 0..1 from the right front around the back.
pub(crate) fn place(index: usize) -> (f32, f32) {
    let (row, column) = (index / COLUMNS, index % COLUMNS);
    (row as f32 / (ROWS - 1) as f32, column as f32 / (COLUMNS - 1) as f32)
}

/// Point at a height, `s` of the way around, of a curtain that begins `opening` radians from the front.
pub(crate) fn around(y: f32, s: f32, opening: f32) -> [f32; 3] {
    let below = HALF_WIDTH.iter().position(|k| k[0] < y).unwrap_or(HALF_WIDTH.len() - 1).max(1);
    let [[high, at_high], [low, at_low]] = [HALF_WIDTH[below - 1], HALF_WIDTH[below]];
    let half_width = at_low + (at_high - at_low) * ((y - low) / (high - low)).clamp(0.0, 1.0);
    let (sin, cos) = (opening + (std::f32::consts::TAU - 2.0 * opening) * s).sin_cos();
    [half_width * sin, y, MIDDLE + cos * if cos > 0.0 { 0.75 } else { 0.98 }]
}

/// The curtain as it hangs from the base head, row by row.
pub(crate) fn sheet() -> Sheet {
    let vertices = (0..ROWS * COLUMNS)
        .map(|index| {
            let (t, s) = place(index);
            around(TOP - t * (TOP - 5.4), s, 0.85)
        })
        .collect();
    Sheet { vertices, triangles: grid(ROWS, COLUMNS) }
}
