//! Colours that are known in places, continued smoothly everywhere: pull-push.
//!
//! Source: Gortler, Grzeszczuk, Szeliski and Cohen, *The Lumigraph* (1996), section 3.4.

use rayon::prelude::*;
use relievo_tensor::{Error, Result, Tensor};

use crate::visibility::{Enlarged, sample};

/// Rows and columns to which colours are averaged first: what is continued is smooth, so finer detail is not needed.
const COARSE: usize = 64;

/// Continues colours of a square grid of `side` rows as far as they are known: `row` writes those of a row, and as the fourth
/// number, from 0 to 1, how well each is known. Everywhere on the grid, then; zero if nothing is known.
pub(crate) fn filled(side: usize, row: impl Fn(usize, &mut [[f32; 4]]) + Sync) -> Enlarged<4> {
    let steps = side.div_ceil(COARSE).max(1);
    let coarse = side.div_ceil(steps);
    let mut sums = vec![[0.0; 4]; coarse * coarse];
    sums.par_chunks_mut(coarse.max(1)).enumerate().for_each(|(number, sums)| {
        let mut colours = vec![[0.0; 4]; side];
        for number in number * steps..side.min((number + 1) * steps) {
            row(number, &mut colours);
            for (colours, sum) in colours.chunks(steps).zip(sums.iter_mut()) {
                for &[red, green, blue, weight] in colours.iter().filter(|colour| colour[3] > 0.0) {
                    let weighed = [weight * red, weight * green, weight * blue, weight];
                    sum.iter_mut().zip(weighed).for_each(|(sum, value)| *sum += value);
                }
            }
        }
    });
    let grid = Sparse::from_sums(coarse, &sums, (steps * steps) as f32);
    let places: Vec<f32> = (0..side).map(|at| (at as f32 + 0.5) / steps as f32 - 0.5).collect();
    let pushed: Vec<[f32; 4]> =
        grid.pushed().iter().map(|&[red, green, blue]| [red, green, blue, 0.0]).collect();
    Enlarged::new(&pushed, coarse, &places)
}

/// Depth in the view of the image, continued smoothly to where no surface is seen: the same numbers where `mask` is set.
/// `depth` and `mask` `[B,S,S]`, on the CPU. Images without any surface stay as they are.
///
/// A model turns its surface, and at the edges of the image, which the turned surface leaves uncovered, depth is far
/// behind everything. What is there is still the object, and nearly always as far away as its nearest visible part.
///
/// # Errors
/// If the shapes differ.
pub fn continued_depth(depth: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let [batch, side, width] = depth.dims("continued depth")?;
    if mask.shape() != depth.shape() || side != width {
        let detail = format!("depth {} and mask {}", depth.shape(), mask.shape());
        return Err(Error::shape("continued depth", detail));
    }
    let mut continued = depth.clone();
    let images =
        continued.data_mut().chunks_mut((side * side).max(1)).zip(mask.data().chunks((side * side).max(1)));
    images.take(batch).par_bridge().for_each(|(depth, mask)| {
        let is_seen = |at: usize| mask[at] > 0.5;
        if !(0..mask.len()).any(is_seen) || (0..mask.len()).all(is_seen) {
            return;
        }
        let known = Sparse {
            side,
            colours: depth.iter().map(|depth| [*depth; 3]).collect(),
            weights: (0..mask.len()).map(|at| f32::from(is_seen(at))).collect(),
        };
        let everywhere = known.pushed();
        (0..mask.len()).filter(|at| !is_seen(*at)).for_each(|at| depth[at] = everywhere[at][0]);
    });
    Ok(continued)
}

/// Weighted colours on a square grid, `side` rows of `side`.
struct Sparse {
    side: usize,
    /// Weighted means.
    colours: Vec<[f32; 3]>,
    /// From 0, nothing is known, to 1.
    weights: Vec<f32>,
}

impl Sparse {
    /// From sums of weighted colours and weights, of which `full` is all there can be.
    fn from_sums(side: usize, sums: &[[f32; 4]], full: f32) -> Self {
        let colour = |[r, g, b, weight]: &[f32; 4]| match *weight {
            0.0 => [0.0; 3],
            weight => [r / weight, g / weight, b / weight],
        };
        let weights = sums.iter().map(|sum| (sum[3] / full).min(1.0)).collect();
        Self { side, colours: sums.iter().map(colour).collect(), weights }
    }

    /// Half as many rows.
    fn pulled(&self) -> Self {
        let side = self.side.div_ceil(2);
        let mut sums = vec![[0.0; 4]; side * side];
        for (place, (colour, weight)) in self.colours.iter().zip(&self.weights).enumerate() {
            add(&mut sums[place / self.side / 2 * side + place % self.side / 2], *colour, *weight);
        }
        // One known place is enough for the four: what is coarser is only asked where nothing finer is known.
        Self::from_sums(side, &sums, 1.0)
    }

    /// What is known, and elsewhere what the coarser grids know.
    fn pushed(self) -> Vec<[f32; 3]> {
        if self.side <= 1 {
            return self.colours;
        }
        let coarser = self.pulled();
        let side = coarser.side;
        let coarser = coarser.pushed();
        (0..self.side * self.side)
            .map(|place| {
                let at = [place % self.side, place / self.side].map(|at| (at as f32 - 0.5) / 2.0);
                let around = sample(&coarser, side, at);
                let weight = self.weights[place];
                std::array::from_fn(|i| weight * self.colours[place][i] + (1.0 - weight) * around[i])
            })
            .collect()
    }
}

fn add(sum: &mut [f32; 4], colour: [f32; 3], weight: f32) {
    sum.iter_mut().zip(colour).for_each(|(sum, value)| *sum += weight * value);
    sum[3] += weight;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`filled`], row after row.
    fn all(
        side: usize,
        colour: impl Fn(usize) -> f32 + Sync,
        weight: impl Fn(usize) -> f32 + Sync,
    ) -> Vec<Vec<[f32; 4]>> {
        let filled = filled(side, |_, colours| {
            for (at, here) in colours.iter_mut().enumerate() {
                *here = [colour(at), colour(at), colour(at), weight(at)];
            }
        });
        (0..side).map(|row| filled.row(row)).collect()
    }

    #[test]
    fn known_colours_stay_and_unknown_ones_lie_between() {
        // Known at the left and at the right edge.
        const SIDE: usize = 128;
        let colour = |column: usize| if column < 8 { 1.0 } else { 3.0 };
        let filled = all(SIDE, colour, |column| f32::from(!(8..SIDE - 8).contains(&column)));
        for row in filled {
            assert!((row[3][0] - 1.0).abs() < 1e-5 && (row[SIDE - 4][2] - 3.0).abs() < 1e-5);
            assert!((row[SIDE / 2][1] - 2.0).abs() < 0.05, "{:?}", row[SIDE / 2]);
            assert!(row.windows(2).all(|pair| (pair[1][1] - pair[0][1]).abs() < 0.25), "no step");
        }
    }

    #[test]
    fn depth_goes_on_where_no_surface_is_seen() {
        const SIDE: usize = 16;
        let seen = |at: usize| at / SIDE < 12;
        let slope = |at: usize| 1.0 + 0.01 * (at % SIDE) as f32;
        let all = |value: &dyn Fn(usize) -> f32| {
            let values: Vec<f32> = (0..2 * SIDE * SIDE).map(|at| value(at % (SIDE * SIDE))).collect();
            Tensor::new(&values, [2, SIDE, SIDE]).unwrap()
        };
        let depth = all(&|at| if seen(at) { slope(at) } else { 9.0 });
        let continued = continued_depth(&depth, &all(&|at| f32::from(seen(at)))).unwrap();
        for (at, value) in continued.data().iter().enumerate() {
            let at = at % (SIDE * SIDE);
            if seen(at) {
                assert_eq!(*value, slope(at));
            } else {
                assert!((value - slope(at)).abs() < 0.04, "{at}: {value}");
            }
        }
        let nothing = continued_depth(&depth, &all(&|_| 0.0)).unwrap();
        assert_eq!(nothing.data(), depth.data(), "nothing is known");
        assert!(continued_depth(&depth, &Tensor::zeros([1, SIDE, SIDE])).is_err());
    }

    #[test]
    fn nothing_known_is_zero_everywhere() {
        assert!(all(20, |_| 5.0, |_| 0.0).concat().iter().all(|colour| *colour == [0.0; 4]));
    }
}
