//! A uniform cubic B-spline over an image: a smooth field of few numbers, without creases where cells meet.

use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

/// Rows and columns of cells. The corners of the field are those of the image.
const CELLS: usize = 7;
/// Control points along one axis.
pub(crate) const POINTS: usize = CELLS + 3;

/// The field `[1,S,S,1]` of control points `[1,POINTS,POINTS]`, rows first. Gradient of the points: each pixel's, by the
/// point's share in it.
///
/// # Errors
/// If there are others than those points, or fewer than two pixels.
pub(crate) fn spline(points: &Tensor, size: usize) -> Result<Tensor> {
    apply_one(Spline { size }, &[points])
}

struct Spline {
    size: usize,
}

/// The first of four control points around a row or column of pixels, and their shares in it.
type Knot = (usize, [f32; 4]);

impl Spline {
    fn knots(&self) -> Vec<Knot> {
        let knot = |index: usize| {
            let place = index as f32 / (self.size - 1) as f32 * CELLS as f32;
            let cell = (place as usize).min(CELLS - 1);
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
        let (points, size) = (inputs[0], self.size);
        if *points.shape() != [1, POINTS, POINTS] || size < 2 {
            let detail = format!("control points {} for {size} rows of pixels", points.shape());
            return Err(Error::shape(self.name(), detail));
        }
        let knots = self.knots();
        // Along the rows of points, then down.
        let rows = points.data().chunks_exact(POINTS);
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
        let (size, knots) = (self.size, self.knots());
        let mut lines = vec![0.0; POINTS * size];
        for (dy, (first, shares)) in backward.gradient().data().chunks_exact(size).zip(&knots) {
            for (line, share) in lines.chunks_exact_mut(size).skip(*first).zip(shares) {
                line.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += share * dy);
            }
        }
        let mut dpoints = Tensor::zeros([1, POINTS, POINTS]);
        for (row, line) in dpoints.data_mut().chunks_exact_mut(POINTS).zip(lines.chunks_exact(size)) {
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
            spline(&points, 64).unwrap().data().to_vec()
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
        let points = random_tensor(3, [1, POINTS, POINTS]);
        assert_gradients(&[points], 1.0 / 64.0, TOLERANCE, |x| spline(&x[0], 24));
    }

    #[test]
    fn other_points_are_refused() {
        assert!(spline(&Tensor::zeros([1, 4, 4]), 64).is_err());
        assert!(spline(&Tensor::zeros([1, POINTS, POINTS]), 1).is_err());
    }
}
