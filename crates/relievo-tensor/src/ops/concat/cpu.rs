//! Rows copied one after the other: memory is the limit, not the core.

use super::Rows;

/// The places of input `part` in the result's rows.
fn places(Rows { lengths, .. }: Rows, part: usize) -> std::ops::Range<usize> {
    if part == 0 { 0..lengths[0] } else { lengths[0]..lengths[0] + lengths[1] }
}

/// Copies input `part` to its places in y.
pub fn put(rows: Rows, part: usize, x: &[f32], y: &mut [f32]) {
    let (length, places) = (rows.lengths[part], places(rows, part));
    if length == 0 {
        return;
    }
    let whole = rows.lengths.iter().sum();
    for (y, x) in y.chunks_exact_mut(whole).zip(x.chunks_exact(length)) {
        y[places.clone()].copy_from_slice(x);
    }
}

/// Copies what y has at the places of input `part` to dx.
pub fn take(rows: Rows, part: usize, dy: &[f32], dx: &mut [f32]) {
    let (length, places) = (rows.lengths[part], places(rows, part));
    if length == 0 {
        return;
    }
    let whole = rows.lengths.iter().sum();
    for (dy, dx) in dy.chunks_exact(whole).zip(dx.chunks_exact_mut(length)) {
        dx.copy_from_slice(&dy[places.clone()]);
    }
}
