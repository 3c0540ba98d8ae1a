//! Far samples of a line together: what they pull an edge with, from a few numbers for each block of them.
//!
//! A sample at x pulls an end with p / (slope (x - t)), where t is the crossing, moved by eps / |slope| away from the sample.
//! Over a block of samples around c, all of them far from t, sum p / (x - t) = 1/d sum_k (-1)^k m_k / d^k with d = c - t and
//! the moments m_k = sum p (x - c)^k: the multipole expansion of Greengard and Rokhlin (1987) in one dimension. Beyond
//! [`NEAR`] samples eight terms leave less than a millionth. Without it the cost of an image grows with the cube of its side.

use std::ops::Range;

use super::lines::Crossing;
use crate::lanes::{LANES, Lanes};

/// Samples of a block.
const BLOCK: usize = 64;
/// A block is far beyond so many samples.
const NEAR: usize = 160;
/// With fewer far blocks than these, samples are taken one by one.
const LEAST_BLOCKS: usize = 8;
/// Terms of the expansion.
const TERMS: usize = 8;

/// The moments of some lines, in units of half a block.
pub(super) struct Far {
    blocks: usize,
    /// By term, by line, by block.
    moments: [Vec<f32>; TERMS],
}

impl Far {
    /// Room for `lines` lines of `length` samples.
    pub fn new(lines: usize, length: usize) -> Self {
        let blocks = length.div_ceil(BLOCK);
        // None where hardly a place of a line has enough of them.
        let room = if blocks < 2 * LEAST_BLOCKS { 0 } else { lines * (blocks + LANES) };
        Self { blocks, moments: [(); TERMS].map(|()| vec![0.0; room]) }
    }

    fn is_used(&self) -> bool {
        self.blocks >= 2 * LEAST_BLOCKS
    }

    fn line(&self, line: usize) -> Range<usize> {
        line * (self.blocks + LANES)..(line + 1) * (self.blocks + LANES)
    }

    /// Takes the pulls of a line, ascending by place.
    pub fn gather(&mut self, line: usize, places: &[f32], pulls: &[f32]) {
        if !self.is_used() {
            return;
        }
        let all = self.line(line);
        self.moments.iter_mut().for_each(|moments| moments[all.clone()].fill(0.0));
        let mut from = 0;
        while from < places.len() {
            let block = places[from] as usize / BLOCK;
            let (centre, end) = (centre(block), ((block + 1) * BLOCK) as f32);
            let mut sums = [0.0; TERMS];
            while from < places.len() && places[from] < end {
                let along = (places[from] - centre) * (2.0 / BLOCK as f32);
                let mut term = pulls[from];
                for sum in &mut sums {
                    *sum += term;
                    term *= -along;
                }
                from += 1;
            }
            self.moments.iter_mut().zip(sums).for_each(|(moments, sum)| moments[all.start + block] = sum);
        }
    }

    /// The blocks beyond `inner` that are far, if they are enough; and the first place behind them or before them, where near
    /// ones end.
    pub fn beyond(&self, inner: usize, up: bool) -> Option<(Range<usize>, usize)> {
        if !self.is_used() {
            return None;
        }
        let (blocks, border) = match up {
            true => {
                let first = (inner + 1 + NEAR).div_ceil(BLOCK);
                (first..self.blocks.max(first), first * BLOCK)
            }
            false => {
                let last = inner.saturating_sub(NEAR) / BLOCK;
                (0..last, last * BLOCK)
            }
        };
        (blocks.len() >= LEAST_BLOCKS).then_some((blocks, border))
    }

    /// The sum of pull / D for both ends over blocks of a line, which lie `up` from the crossing or down.
    #[inline(always)]
    pub fn sum<L: Lanes>(
        &self,
        l: L,
        line: usize,
        blocks: Range<usize>,
        up: bool,
        crossing: &Crossing,
    ) -> [f32; 2] {
        let Crossing { at, slopes, eps } = *crossing;
        let all = self.line(line);
        let moments: [&[f32]; TERMS] = std::array::from_fn(|term| &self.moments[term][all.clone()]);
        let shifted = slopes.map(|slope| if up { at - eps / slope.abs() } else { at + eps / slope.abs() });
        let origins = [l.splat(shifted[0]), l.splat(shifted[1])];
        let (unit, one, zero) = (l.splat(BLOCK as f32 / 2.0), l.splat(1.0), l.splat(0.0));
        let mut sums = [zero, zero];
        let mut first = blocks.start;
        while first < blocks.end {
            let is_there = l.gt(l.splat((blocks.end - first) as f32), l.from(0.0));
            // Beyond the end numbers may be anything; they are not taken.
            let centres = l.add(l.mul(l.from(first as f32), l.splat(BLOCK as f32)), l.splat(centre(0)));
            for end in 0..2 {
                let inverse = l.div(one, l.sub(centres, origins[end]));
                let by = l.mul(unit, inverse);
                let mut series = l.load(moments[TERMS - 1], first);
                for term in (0..TERMS - 1).rev() {
                    series = l.add(l.load(moments[term], first), l.mul(by, series));
                }
                sums[end] = l.add(sums[end], l.select(is_there, l.mul(series, inverse), zero));
            }
            first += LANES;
        }
        [l.sum(sums[0]) / slopes[0], l.sum(sums[1]) / slopes[1]]
    }
}

/// The middle of a block.
fn centre(block: usize) -> f32 {
    (block * BLOCK) as f32 + (BLOCK - 1) as f32 / 2.0
}

#[cfg(test)]
mod tests {
    use relievo_tensor::testing::random_tensor;

    use super::*;
    use crate::lanes::{Work, run};

    struct Sum<'a>(&'a Far, usize, bool, Crossing);

    impl Work for Sum<'_> {
        type Out = ([f32; 2], usize);

        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Out {
            let Self(far, inner, up, crossing) = self;
            let (blocks, border) = far.beyond(inner, up).unwrap();
            (far.sum(l, 1, blocks, up, &crossing), border)
        }
    }

    #[test]
    fn far_blocks_pull_as_their_samples_do() {
        for length in [2000, 8192] {
            let random = random_tensor(1, [length]);
            let pulled = (0..length).filter(|at| random.data()[*at] > 0.3);
            let places: Vec<f32> = pulled.clone().map(|at| at as f32).collect();
            let pulls: Vec<f32> = pulled.map(|at| random.data()[at]).collect();
            let mut far = Far::new(2, length);
            far.gather(1, &places, &pulls);
            for (inner, up) in [(3, true), (length / 3, true), (length / 2, false), (length - 2, false)] {
                let at = inner as f32 + if up { 0.4 } else { -0.4 };
                let crossing = Crossing { at, slopes: [0.01, -0.0003], eps: 1e-4 };
                let (found, border) = run(Sum(&far, inner, up, crossing));
                let mut right = [0.0f64; 2];
                for (place, pull) in places.iter().zip(&pulls) {
                    if (*place as usize >= border) != up {
                        continue;
                    }
                    for (right, slope) in right.iter_mut().zip(crossing.slopes) {
                        let d = f64::from(slope) * f64::from(place - at);
                        *right += f64::from(*pull) / (d + 1e-4f64.copysign(d));
                    }
                }
                for (found, right) in found.into_iter().zip(right) {
                    let off = (f64::from(found) - right).abs() / right.abs();
                    assert!(off < 2e-6, "{length}, {inner}, {up}: {found} {right}");
                }
            }
        }
        assert!(Far::new(2, 2000).beyond(1990, true).is_none() && Far::new(1, 300).beyond(1, true).is_none());
    }
}
