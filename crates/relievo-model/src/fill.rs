//! Colours that are known in places, continued smoothly everywhere: pull-push.
//!
//! Source: Gortler, Grzeszczuk, Szeliski and Cohen, *The Lumigraph* (1996), section 3.4.

/// Rows and columns to which colours are averaged first: what is continued is smooth, so finer detail is not needed.
const COARSE: usize = 64;

/// Colours everywhere on a square grid, by interpolation of a coarser one, `steps` places to each of its.
pub(crate) struct Filled {
    side: usize,
    steps: usize,
    colours: Vec<[f32; 3]>,
}

/// Continues what `colour` gives for places of a grid `[side, side]`, as far as `weights` (0 to 1) says it is known.
/// Zero everywhere if nothing is.
pub(crate) fn filled(side: usize, colour: impl Fn(usize) -> [f32; 3], weights: &[f32]) -> Filled {
    let steps = side.div_ceil(COARSE).max(1);
    let coarse = side.div_ceil(steps);
    let mut sums = vec![[0.0; 4]; coarse * coarse];
    for (place, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        let sum = &mut sums[place / side / steps * coarse + place % side / steps];
        add(sum, colour(place), weight);
    }
    let grid = Sparse::from_sums(coarse, &sums, (steps * steps) as f32);
    Filled { side: coarse, steps, colours: grid.pushed() }
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
                let at = [place / self.side, place % self.side].map(|at| (at as f32 - 0.5) / 2.0);
                let around = bilinear(&coarser, side, at);
                let weight = self.weights[place];
                std::array::from_fn(|i| weight * self.colours[place][i] + (1.0 - weight) * around[i])
            })
            .collect()
    }
}

impl Filled {
    /// At a place of the fine grid.
    pub fn at(&self, row: usize, column: usize) -> [f32; 3] {
        let coarse = |at: usize| (at as f32 + 0.5) / self.steps as f32 - 0.5;
        bilinear(&self.colours, self.side, [coarse(row), coarse(column)])
    }
}

fn add(sum: &mut [f32; 4], colour: [f32; 3], weight: f32) {
    sum.iter_mut().zip(colour).for_each(|(sum, value)| *sum += weight * value);
    sum[3] += weight;
}

/// Between the four places around (row, column); beyond the border the border's.
fn bilinear(colours: &[[f32; 3]], side: usize, at: [f32; 2]) -> [f32; 3] {
    let [(row, down), (column, right)] = at.map(|x| {
        let x = x.clamp(0.0, (side - 1) as f32);
        let low = x as usize;
        (low, x - low as f32)
    });
    let [below, beside] = [row, column].map(|at| (at + 1).min(side - 1));
    let corner = |row: usize, column: usize, i: usize| colours[row * side + column][i];
    std::array::from_fn(|i| {
        let upper = (1.0 - right) * corner(row, column, i) + right * corner(row, beside, i);
        let lower = (1.0 - right) * corner(below, column, i) + right * corner(below, beside, i);
        (1.0 - down) * upper + down * lower
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours_stay_and_unknown_ones_lie_between() {
        // Known at the left and at the right edge.
        const SIDE: usize = 128;
        let weights: Vec<f32> =
            (0..SIDE * SIDE).map(|at| f32::from(!(8..SIDE - 8).contains(&(at % SIDE)))).collect();
        let filled = filled(SIDE, |at| [if at % SIDE < 8 { 1.0 } else { 3.0 }; 3], &weights);
        for row in 0..SIDE {
            assert!(
                (filled.at(row, 3)[0] - 1.0).abs() < 1e-5 && (filled.at(row, SIDE - 4)[2] - 3.0).abs() < 1e-5
            );
            let line: Vec<f32> = (0..SIDE).map(|column| filled.at(row, column)[1]).collect();
            assert!((line[SIDE / 2] - 2.0).abs() < 0.05, "{}", line[SIDE / 2]);
            assert!(line.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.25), "no step");
        }
    }

    #[test]
    fn nothing_known_is_zero_everywhere() {
        let filled = filled(20, |_| [5.0; 3], &[0.0; 400]);
        assert!((0..20).all(|at| filled.at(at, 19 - at) == [0.0; 3]));
    }
}
