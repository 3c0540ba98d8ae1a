//! The weighted sum of a few numbers: how loss terms become one loss. Too small for threads.

mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

struct WeightedElementsSum {
    weights: Vec<f32>,
}

/// The sum of the elements of `x` times as many constant `weights`, in row-major order: a scalar. Gradient of x: the
/// weights times the output's gradient.
///
/// # Errors
/// If there are not as many weights as elements.
pub fn weighted_elements_sum(x: &Tensor, weights: &[f32]) -> Result<Tensor> {
    apply_one(WeightedElementsSum { weights: weights.to_vec() }, &[x])
}

impl WeightedElementsSum {
    fn check(&self, x: &Tensor) -> Result<()> {
        if x.numel() == self.weights.len() {
            return Ok(());
        }
        let detail = format!("{} weights for the shape {}", self.weights.len(), x.shape());
        Err(Error::shape(self.name(), detail))
    }
}

impl Operation for WeightedElementsSum {
    fn name(&self) -> &'static str {
        "weighted_elements_sum"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let x = inputs[0];
        self.check(x)?;
        context.save(x);
        Ok(vec![Tensor::scalar(x.data().iter().zip(&self.weights).map(|(x, weight)| x * weight).sum())])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient().item()?;
        let dx: Vec<f32> = self.weights.iter().map(|weight| weight * dy).collect();
        Ok(vec![Some(Tensor::new(&dx, backward.saved[0].shape())?)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs[0])?;
        context.save(inputs[0]);
        Ok(vec![cuda::forward(&self.weights, inputs[0])?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cuda::backward(&self.weights, &backward.saved[0], backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn elements_are_weighed() {
        let tape = Tape::new();
        let x = tape.watch(&Tensor::new(&[1.0, 2.0], [2]).unwrap());
        let y = weighted_elements_sum(&x, &[3.0, 0.5]).unwrap();
        assert_eq!(y.item().unwrap(), 4.0);
        assert_eq!(tape.backward(&y).unwrap().get(&x).unwrap().data(), [3.0, 0.5]);
        assert!(weighted_elements_sum(&x, &[1.0]).is_err());
    }
}
