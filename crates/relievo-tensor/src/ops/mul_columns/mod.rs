//! Columns times constant factors, which turn a network's outputs in [-1, 1] into quantities with units.

mod cuda;

pub(crate) use cuda::KERNELS;

use rayon::prelude::*;

use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

struct MulColumns {
    /// One factor for every column.
    factors: Vec<f32>,
}

/// x `[B,C]` with every column multiplied by its factor. Gradient: dy times the factors.
///
/// # Errors
/// If the number of columns is not that of the factors.
pub fn mul_columns(x: &Tensor, factors: &[f32]) -> Result<Tensor> {
    apply_one(MulColumns { factors: factors.to_vec() }, &[x])
}

impl MulColumns {
    fn check(&self, x: &Tensor) -> Result<()> {
        let [_, columns] = x.dims(self.name())?;
        if columns == self.factors.len() {
            return Ok(());
        }
        let detail = format!("{} factors for a tensor of shape {}", self.factors.len(), x.shape());
        Err(Error::shape(self.name(), detail))
    }

    fn scaled(&self, x: &Tensor) -> Tensor {
        let mut y = Tensor::empty(x.shape());
        // Thousands of elements at most: a task takes many rows.
        const ROWS: usize = 1024;
        let chunk = ROWS * self.factors.len().max(1);
        y.data_mut().par_chunks_mut(chunk).zip(x.data().par_chunks(chunk)).for_each(|(y, x)| {
            for ((y, x), factor) in y.iter_mut().zip(x).zip(self.factors.iter().cycle()) {
                *y = x * factor;
            }
        });
        y
    }
}

impl Operation for MulColumns {
    fn name(&self) -> &'static str {
        "mul_columns"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs[0])?;
        Ok(vec![self.scaled(inputs[0])])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.scaled(backward.gradient()))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs[0])?;
        Ok(vec![cuda::scaled(&self.factors, inputs[0])?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cuda::scaled(&self.factors, backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tolerance, assert_gradients, random_tensor};

    #[test]
    fn each_column_has_its_factor() {
        let x = Tensor::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3]).unwrap();
        assert_eq!(mul_columns(&x, &[1.0, 10.0, -1.0]).unwrap().data(), [1.0, 20.0, -3.0, 4.0, 50.0, -6.0]);
        let error = mul_columns(&x, &[1.0]).unwrap_err().to_string();
        assert_eq!(error, "mul_columns: 1 factors for a tensor of shape [2, 3]");
        let tolerance = Tolerance { norm: 1e-6, element: 1e-6 };
        assert_gradients(&[random_tensor(1, [2, 3])], 0.25, tolerance, |x| {
            mul_columns(&x[0], &[1.0, 3.0, 0.0])
        });
    }
}
