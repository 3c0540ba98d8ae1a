//! A uniform cubic B-spline over an image: a smooth field of few numbers, without creases where cells meet.

use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

/// A field of so many rows and columns of cells over `size` rows and columns of pixels, at least one and two. The corners
/// of the field are those of the image.
#[derive(Clone, Copy)]
pub(crate) struct Spline {
    pub cells: usize,
    pub size: usize,
}

/// The field `[1,S,S,1]` of [control points](Spline::points) `[1,P,P]`, rows first. Gradient of the points: each pixel's,
/// by the point's share in it.
///
/// # Errors
/// If there are others than those points, or fewer than one cell or two pixels.
pub(crate) fn spline(points: &Tensor, spline: Spline) -> Result<Tensor> {
    apply_one(spline, &[points])
}

/// The first of four control points around a row or column of pixels, and their shares in it.
type Knot = (usize, [f32; 4]);

impl Spline {
    /// Control points along one axis.
    pub fn points(&self) -> usize {
        self.cells + 3
    }

    fn knots(&self) -> Vec<Knot> {
        let knot = |index: usize| {
            let place = index as f32 / (self.size - 1) as f32 * self.cells as f32;
            let cell = (place as usize).min(self.cells - 1);
            let t = place - cell as f32;
            let (t2, t3) = (t * t, t * t * t);
            let shares = [(1.0 - t).powi(3), 3.0 * t3 - 6.0 * t2 + 4.0, 3.0 * (t + t2 - t3) + 1.0, t3];
            (cell, shares.map(|share| share / 6.0))
        };
        (0..self.size).map(knot).collect()
    }
}

impl Operation for Spline {
    fn name(&self) -> &'static str {
        "spline"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let (points, size, along) = (inputs[0], self.size, self.points());
        if *points.shape() != [1, along, along] || self.cells < 1 || size < 2 {
            let Self { cells, .. } = self;
            let detail =
                format!("control points {} for {cells} cells, {size} rows of pixels", points.shape());
            return Err(Error::shape(self.name(), detail));
        }
        let knots = self.knots();
        // Along the rows of points, then down.
        let rows = points.data().chunks_exact(along);
        let lines: Vec<f32> = rows
            .flat_map(|row| {
                let at = |&(first, shares): &Knot| {
                    row[first..].iter().zip(shares).map(|(x, share)| share * x).sum()
                };
                knots.iter().map(at).collect::<Vec<f32>>()
            })
            .collect();
        let mut field = Tensor::zeros([1, size, size, 1]);
        for (row, (first, shares)) in field.data_mut().chunks_exact_mut(size).zip(&knots) {
            for (line, share) in lines.chunks_exact(size).skip(*first).zip(shares) {
                row.iter_mut().zip(line).for_each(|(sum, x)| *sum += share * x);
            }
        }
        Ok(vec![field])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (size, along, knots) = (self.size, self.points(), self.knots());
        let mut lines = vec![0.0; along * size];
        for (dy, (first, shares)) in backward.gradient().data().chunks_exact(size).zip(&knots) {
            for (line, share) in lines.chunks_exact_mut(size).skip(*first).zip(shares) {
                line.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += share * dy);
            }
        }
        let mut dpoints = Tensor::zeros([1, along, along]);
        for (row, line) in dpoints.data_mut().chunks_exact_mut(along).zip(lines.chunks_exact(size)) {
            for (dy, (first, shares)) in line.iter().zip(&knots) {
                row[*first..].iter_mut().zip(shares).for_each(|(sum, share)| *sum += share * dy);
            }
        }
        Ok(vec![Some(dpoints)])
    }
}

#[cfg(test)]
mod tests {
    use relievo_tensor::testing::{Tolerance, assert_gradients, random_tensor};

    use super::*;

    const CELLS: usize = 7;
    const POINTS: usize = CELLS + 3;

    const TOLERANCE: Tolerance = Tolerance { norm: 1e-3, element: 1e-3 };

    #[test]
    fn a_field_is_smooth_and_reaches_the_corners() {
        let field = |value: &dyn Fn(f32, f32) -> f32| -> Vec<f32> {
            let points = (0..POINTS * POINTS).map(|point| {
                // The point between two cells, or the middle of the one before the first and behind the last.
                let [row, column] = [point / POINTS, point % POINTS].map(|place| place as f32 - 1.0);
                value(row, column)
            });
            let points = Tensor::new(&points.collect::<Vec<_>>(), [1, POINTS, POINTS]).unwrap();
            spline(&points, Spline { cells: CELLS, size: 64 }).unwrap().data().to_vec()
        };
        for (pixel, value) in field(&|row, column| 2.0 * row - column + 3.0).iter().enumerate() {
            let [row, column] = [pixel / 64, pixel % 64].map(|place| place as f32 * CELLS as f32 / 63.0);
            let right = 2.0 * row - column + 3.0;
            assert!((value - right).abs() < 1e-4, "{pixel}: {value} for {right}");
        }
        // Of a single point at the height 1: its slope has no jumps, and changes by at most 2 in the length of a cell.
        let bump = field(&|row, column| f32::from(row == 3.0 && column == 4.0));
        let step = CELLS as f32 / 63.0;
        for line in bump.chunks_exact(64) {
            let slopes: Vec<f32> = line.windows(2).map(|pair| (pair[1] - pair[0]) / step).collect();
            assert!(slopes.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 2.0 * step));
        }
        assert!(bump.iter().fold(0.0f32, |largest, value| largest.max(*value)) > 0.4);
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for cells in [1, CELLS, 15] {
            let (field, points) = (Spline { cells, size: 24 }, random_tensor(3, [1, cells + 3, cells + 3]));
            assert_gradients(&[points], 1.0 / 64.0, TOLERANCE, |x| spline(&x[0], field));
        }
    }

    #[test]
    fn other_points_are_refused() {
        let refused =
            |points: [usize; 3], cells, size| spline(&Tensor::zeros(points), Spline { cells, size }).is_err();
        assert!(refused([1, 4, 4], CELLS, 64));
        assert!(refused([1, POINTS, POINTS], CELLS, 1));
        assert!(refused([1, 3, 3], 0, 64));
    }
}
