//! Teeth: one curved sheet behind the lips, painted as two rows with a dark gap between them.
//!
//! The head model's mouth is an empty bag as deep as the head; what is seen between parted lips is this sheet. It has
//! no targets: it is placed behind the finished lips, and its lower row follows the jaw.

use crate::asset::{HeadModel, Region};
use crate::sheet::{Sheet, grid};

/// Sheet's place on the base head: rows from the top, heights in decimetres. The gap is between the third and the
/// fourth.
const ROWS: [f32; 6] = [6.78, 6.68, UPPER_EDGE, LOWER_EDGE, 6.47, 6.42];
pub(crate) const UPPER_EDGE: f32 = 6.562;
pub(crate) const LOWER_EDGE: f32 = 6.550;
const COLUMNS: usize = 13;
const HALF_WIDTH: f32 = 0.26;
/// Depth of the sheet's middle on the base head.
const FRONT: f32 = 1.44;

/// The sheet at rest, row by row.
pub(crate) fn sheet() -> Sheet {
    let vertices = ROWS
        .iter()
        .flat_map(|&y| {
            (0..COLUMNS).map(move |column| {
                // Below the lips the sheet draws in and back, to stay inside the chin.
                let below = (LOWER_EDGE - y).max(0.0);
                let half_width = HALF_WIDTH - 0.7 * below;
                let x = half_width * (column as f32 / (COLUMNS - 1) as f32 * 2.0 - 1.0);
                [x, y, FRONT - 1.9 * x * x - 0.6 * below]
            })
        })
        .collect();
    Sheet { vertices, triangles: grid(ROWS.len(), COLUMNS) }
}

/// Moves the sheet behind the lips. `shaped` are the head's vertices before its expression, `points` after it, and
/// `jaw` says how far the jaw is open, 0 to 1.
pub(crate) fn place(model: &HeadModel, shaped: &[[f32; 3]], points: &mut [[f32; 3]], jaw: f32) {
    // The lining of the lips, close to where they meet.
    let lining: Vec<usize> = (0..model.head_vertices)
        .filter(|&v| {
            let [x, y, z] = model.vertices[v];
            model.masks[v][Region::InsideMouth as usize] > 0.9
                && x.abs() < 0.15
                && (y - 6.62).abs() < 0.09
                && z > 1.4
        })
        .collect();
    let mean = |of: &dyn Fn(usize) -> f32| lining.iter().map(|&v| of(v)).sum::<f32>() / lining.len() as f32;
    let [x, y, z] = [0, 1, 2].map(|axis| mean(&|v| shaped[v][axis] - model.vertices[v][axis]));
    // Lips that draw back must not let the teeth through.
    let pressed = mean(&|v| points[v][2] - model.vertices[v][2]).min(z);
    let spread = |of: &[[f32; 3]]| mean(&|v| of[v][0].abs());
    let wider = spread(shaped) / spread(&model.vertices);
    for vertex in model.teeth.clone() {
        let rest = model.vertices[vertex];
        let drop = if rest[1] <= LOWER_EDGE { 0.3 * jaw } else { 0.0 };
        points[vertex] = [rest[0] * wider + x, rest[1] + y - drop, rest[2] + pressed - 0.4 * drop];
    }
}
