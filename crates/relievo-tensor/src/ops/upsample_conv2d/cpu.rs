//! A task for each input channel, or output channel on the way back.

use std::ops::RangeInclusive;

use rayon::prelude::*;

/// The weights that folded weight `index` is the sum of, along one axis.
fn summed(index: usize) -> RangeInclusive<usize> {
    2usize.saturating_sub(index)..=(3 - index).min(2)
}

/// `folded [in,4,4,out]` from `w [out,3,3,in]`.
pub fn fold([outputs, inputs]: [usize; 2], w: &[f32], folded: &mut [f32]) {
    folded.par_chunks_mut((16 * outputs).max(1)).enumerate().for_each(|(input, folded)| {
        for (tap, folded) in folded.chunks_exact_mut(outputs).enumerate() {
            for (output, folded) in folded.iter_mut().enumerate() {
                let at = |row: usize, column: usize| w[((output * 3 + row) * 3 + column) * inputs + input];
                let row = |row| summed(tap % 4).map(|column| at(row, column)).sum::<f32>();
                *folded = summed(tap / 4).map(row).sum();
            }
        }
    });
}

/// The gradient of w from that of the folded weights.
pub fn unfold([outputs, inputs]: [usize; 2], dfolded: &[f32], dw: &mut [f32]) {
    dw.par_chunks_mut((9 * inputs).max(1)).enumerate().for_each(|(output, dw)| {
        for (tap, dw) in dw.chunks_exact_mut(inputs).enumerate() {
            // The folded weights that weight `index` is in are those two.
            let both = |index: usize| 2 - index..=3 - index;
            for (input, dw) in dw.iter_mut().enumerate() {
                let at =
                    |row: usize, column: usize| dfolded[((input * 4 + row) * 4 + column) * outputs + output];
                let row = |row| both(tap % 3).map(|column| at(row, column)).sum::<f32>();
                *dw = both(tap / 3).map(row).sum();
            }
        }
    });
}
