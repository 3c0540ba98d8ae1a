//! Planes `[height, width]` correlated with short kernels, along their rows or down their columns. Outside a plane
//! everything is 0.

use super::vectorised::vectorised;

/// Which way a kernel is laid over a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The correlation itself: tap t of n lies over the place t - n / 2.
    Forward,
    /// Its adjoint, which takes gradients back: the kernel reversed.
    Back,
}

vectorised! {
    /// Adds to each row of `to` the row of `from` correlated with `taps`, an odd number of them.
    pub fn add_along(to: &mut [f32], from: &[f32], width: usize, taps: &[f32], way: Way) {
        for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(width)) {
            for (at, tap) in taps.iter().enumerate() {
                let (first, before, length) = overlap(width, taps.len(), at, way);
                for (to, from) in to[first..first + length].iter_mut().zip(&from[before..before + length]) {
                    *to += tap * from;
                }
            }
        }
    }

    /// The same down the columns.
    pub fn add_down(to: &mut [f32], from: &[f32], width: usize, taps: &[f32], way: Way) {
        let height = from.len() / width;
        for (at, tap) in taps.iter().enumerate() {
            let (first, before, length) = overlap(height, taps.len(), at, way);
            let to = &mut to[first * width..(first + length) * width];
            for (to, from) in to.iter_mut().zip(&from[before * width..(before + length) * width]) {
                *to += tap * from;
            }
        }
    }
}

/// Where a tap takes from and puts to on a line of `extent` places: the first place of each, and their number.
#[inline(always)]
fn overlap(extent: usize, taps: usize, at: usize, way: Way) -> (usize, usize, usize) {
    let radius = taps / 2;
    let at = if way == Way::Forward { at } else { taps - 1 - at };
    let (first, before) = (radius.saturating_sub(at), at.saturating_sub(radius));
    let length = extent.saturating_sub(first.max(before));
    if length == 0 { (0, 0, 0) } else { (first, before, length) }
}

/// Places on either side of the middle that a Gaussian of this standard deviation has.
pub fn radius_of(deviation: f32) -> usize {
    (3.0 * deviation).ceil() as usize
}

/// A Gaussian that is 1 in the middle, up to three standard deviations.
pub fn gaussian(deviation: f32) -> Vec<f32> {
    let radius = radius_of(deviation) as isize;
    (-radius..=radius).map(|at| (-0.5 * (at as f32 / deviation).powi(2)).exp()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_tensor;

    #[test]
    fn correlations_are_their_definition_and_adjoints_of_each_other() {
        for (height, width, taps) in [(5, 7, 3), (4, 3, 9), (1, 6, 5), (6, 1, 1)] {
            let [x, y] = [1, 2].map(|seed| random_tensor(seed, [height * width]));
            let kernel = random_tensor(3, [taps]);
            let at = |row: isize, column: isize| {
                let is_in = (0..height as isize).contains(&row) && (0..width as isize).contains(&column);
                if is_in { x.data()[row as usize * width + column as usize] } else { 0.0 }
            };
            for is_down in [false, true] {
                let add = |to: &mut [f32], from: &[f32], way| {
                    let add = if is_down { add_down } else { add_along };
                    add(to, from, width, kernel.data(), way);
                };
                let (mut found, mut back) = (vec![0.0; height * width], vec![0.0; height * width]);
                add(&mut found, x.data(), Way::Forward);
                add(&mut back, y.data(), Way::Back);
                for (place, found) in found.iter().enumerate() {
                    let (row, column) = ((place / width) as isize, (place % width) as isize);
                    let right: f32 = (0..taps as isize)
                        .map(|tap| {
                            let shift = tap - taps as isize / 2;
                            let (down, along) = if is_down { (shift, 0) } else { (0, shift) };
                            kernel.data()[tap as usize] * at(row + down, column + along)
                        })
                        .sum();
                    assert!((found - right).abs() < 1e-5, "{found}, {right}");
                }
                let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                assert!((product(&found, y.data()) - product(x.data(), &back)).abs() < 1e-4);
            }
        }
    }
}
