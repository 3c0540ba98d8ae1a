//! How far mean and standard deviation of columns are from those of a prior. A few hundred numbers: too few for threads.

mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

/// What is expected of a column over a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColumnPrior {
    /// The column.
    pub column: usize,
    /// The mean, if one is expected.
    pub mean: Option<f32>,
    /// The standard deviation, above 0.
    pub deviation: f32,
}

/// The sum over priors of `(s / deviation - 1)^2` and, where a mean is expected, `((m - mean) / deviation)^2`, with m and
/// s the mean and the standard deviation (divided by the number) of the prior's column: a scalar.
///
/// `x` `[B,C]`; `counted` `[B]`: 1 for rows that count, 0 for others. With fewer than two that count the result is 0.
/// Gradient of x, exact: `2 (s / deviation - 1) / deviation * (x - m) / (n s)` and `2 (m - mean) / (deviation^2 n)`; 0 where s
/// is 0.
///
/// # Errors
/// If the shapes do not fit, there is no such column, or there are more than four priors.
pub fn column_prior_error(x: &Tensor, counted: &Tensor, priors: &[ColumnPrior]) -> Result<Tensor> {
    apply_one(ColumnPriorError { priors: priors.to_vec() }, &[x, &counted.detach()])
}

/// Most priors of one call.
const MOST: usize = 4;

struct ColumnPriorError {
    priors: Vec<ColumnPrior>,
}

/// Number, mean and standard deviation of a column's rows that count.
fn moments(x: &[f32], columns: usize, column: usize, counted: &[f32]) -> [f64; 3] {
    let rows = || x.iter().skip(column).step_by(columns).zip(counted);
    let count: f64 = counted.iter().map(|counted| f64::from(*counted)).sum();
    let mean = rows().map(|(x, counted)| f64::from(*x) * f64::from(*counted)).sum::<f64>() / count;
    let squares: f64 = rows().map(|(x, counted)| (f64::from(*x) - mean).powi(2) * f64::from(*counted)).sum();
    [count, mean, (squares / count).sqrt()]
}

impl ColumnPriorError {
    /// Rows and columns.
    fn check(&self, x: &Tensor, counted: &Tensor) -> Result<[usize; 2]> {
        let extents @ [rows, columns] = x.dims(self.name())?;
        let fits = *counted.shape() == [rows]
            && self.priors.len() <= MOST
            && self.priors.iter().all(|prior| prior.column < columns);
        if fits {
            return Ok(extents);
        }
        let (x, counted) = (x.shape(), counted.shape());
        let detail = format!("numbers of shape {x}, counted by {counted}, for {:?}", self.priors);
        Err(Error::shape(self.name(), detail))
    }
}

impl Operation for ColumnPriorError {
    fn name(&self) -> &'static str {
        "column_prior_error"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let [_, columns] = self.check(inputs[0], inputs[1])?;
        inputs.iter().for_each(|input| context.save(input));
        let of_prior = |prior: &ColumnPrior| {
            let [count, mean, deviation] = moments(inputs[0].data(), columns, prior.column, inputs[1].data());
            let expected = f64::from(prior.deviation);
            let off = prior.mean.map_or(0.0, |expected_mean| (mean - f64::from(expected_mean)) / expected);
            if count < 2.0 { 0.0 } else { (deviation / expected - 1.0).powi(2) + off * off }
        };
        Ok(vec![Tensor::scalar(self.priors.iter().map(of_prior).sum::<f64>() as f32)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [x, counted] = [&backward.saved[0], &backward.saved[1]];
        let [_, columns] = self.check(x, counted)?;
        let dy = f64::from(backward.gradient().item()?);
        let mut dx = x.zeros_like()?;
        for prior in &self.priors {
            let [count, mean, deviation] = moments(x.data(), columns, prior.column, counted.data());
            if count < 2.0 {
                continue;
            }
            let expected = f64::from(prior.deviation);
            let spread = if deviation > 0.0 {
                2.0 * (deviation / expected - 1.0) / expected / (count * deviation)
            } else {
                0.0
            };
            let off = prior.mean.map_or(0.0, |expected_mean| {
                2.0 * (mean - f64::from(expected_mean)) / (expected * expected * count)
            });
            let rows = dx.data_mut().iter_mut().zip(x.data()).skip(prior.column).step_by(columns);
            for ((dx, x), counted) in rows.zip(counted.data()) {
                *dx += (dy * f64::from(*counted) * (spread * (f64::from(*x) - mean) + off)) as f32;
            }
        }
        Ok(vec![Some(dx), None])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let extents = self.check(inputs[0], inputs[1])?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![cuda::forward(&self.priors, extents, [inputs[0], inputs[1]])?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs = [&backward.saved[0], &backward.saved[1]];
        let extents = self.check(inputs[0], inputs[1])?;
        Ok(vec![Some(cuda::backward(&self.priors, extents, inputs, backward.gradient())?), None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{Tolerance, assert_gradients, random_tensor};

    const PRIORS: [ColumnPrior; 2] = [
        ColumnPrior { column: 0, mean: None, deviation: 2.0 },
        ColumnPrior { column: 2, mean: Some(1.0), deviation: 0.5 },
    ];

    #[test]
    fn deviations_and_means_are_compared_over_the_rows_that_count() {
        // Column 0 deviates by 1 from 3, column 2 by 2 from 5; the third row does not count.
        let x = Tensor::new(&[2.0, 9.0, 3.0, 4.0, 9.0, 7.0, 100.0, 0.0, 100.0], [3, 3]).unwrap();
        let counted = Tensor::new(&[1.0, 1.0, 0.0], [3]).unwrap();
        let error = column_prior_error(&x, &counted, &PRIORS).unwrap().item().unwrap();
        assert_eq!(error, 0.25 + (9.0 + 64.0));
        let alone = Tensor::new(&[0.0, 1.0, 0.0], [3]).unwrap();
        assert_eq!(column_prior_error(&x, &alone, &PRIORS).unwrap().item().unwrap(), 0.0);
        let refusal = column_prior_error(&x, &alone, &[ColumnPrior { column: 3, ..PRIORS[0] }]);
        assert!(refusal.unwrap_err().to_string().starts_with("column_prior_error: numbers of shape [3, 3]"));
    }

    #[test]
    fn gradients_agree_with_differences() {
        let counted = Tensor::new(&[1.0, 1.0, 0.0, 1.0, 1.0], [5]).unwrap();
        let tolerance = Tolerance { norm: 1e-3, element: 1e-3 };
        assert_gradients(&[random_tensor(3, [5, 4])], 1.0 / 128.0, tolerance, |x| {
            column_prior_error(&x[0], &counted, &PRIORS)
        });
    }

    #[test]
    fn rows_that_are_all_alike_have_no_gradient_of_their_spread() {
        let tape = Tape::new();
        let x = tape.watch(&Tensor::full([4, 3], 1.0));
        let error = column_prior_error(&x, &Tensor::full([4], 1.0), &PRIORS).unwrap();
        assert_eq!(error.item().unwrap(), 2.0);
        assert!(tape.backward(&error).unwrap().get(&x).unwrap().data().iter().all(|dx| *dx == 0.0));
    }
}
