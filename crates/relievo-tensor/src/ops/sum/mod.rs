//! Sums of tensors of one shape.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, Device, Error, Operation, Result, Tensor, apply_one};

struct WeightedSum {
    weights: Vec<f32>,
}

/// `sum_i weight_i * x_i`, element by element, over tensors of one shape and type. Gradient of x_i: weight_i * dy.
///
/// # Errors
/// If there is no term or shapes or types differ.
pub fn weighted_sum(terms: &[(f32, &Tensor)]) -> Result<Tensor> {
    let tensors: Vec<&Tensor> = terms.iter().map(|term| term.1).collect();
    apply_one(WeightedSum { weights: terms.iter().map(|term| term.0).collect() }, &tensors)
}

/// Adds `addend` to `sum` in place, off the tape, to accumulate gradients.
///
/// # Errors
/// If numbers of elements or types differ, or a GPU fails.
pub fn add_into(sum: &mut Tensor, addend: &Tensor) -> Result<()> {
    if sum.numel() != addend.numel() || sum.data_type() != addend.data_type() {
        let [a, b] = [&*sum, addend].map(|tensor| format!("{} of {:?}", tensor.shape(), tensor.data_type()));
        return Err(Error::shape("add", format!("{a} and {b} cannot be added")));
    }
    match sum.device() {
        Device::Cpu => cpu::scale_add(sum.data_mut(), 1.0, addend.data()),
        Device::Cuda(_) => cuda::add_into(sum, addend)?,
    }
    Ok(())
}

impl WeightedSum {
    /// The first of the terms, which all have its shape.
    fn check<'a>(&self, inputs: &[&'a Tensor]) -> Result<&'a Tensor> {
        let Some(first) = inputs.first() else { return Err(Error::shape(self.name(), "no terms")) };
        if let Some(other) = inputs.iter().find(|input| input.shape() != first.shape()) {
            let detail = format!("shapes {} and {} differ", first.shape(), other.shape());
            return Err(Error::shape(self.name(), detail));
        }
        if let Some(other) = inputs.iter().find(|input| input.data_type() != first.data_type()) {
            let detail = format!("types {:?} and {:?} differ", first.data_type(), other.data_type());
            return Err(Error::shape(self.name(), detail));
        }
        Ok(first)
    }
}

impl Operation for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let first = self.check(inputs)?;
        let mut sum = Tensor::empty(first.shape());
        cpu::scale(sum.data_mut(), self.weights[0], first.data());
        for (weight, input) in self.weights.iter().zip(inputs).skip(1) {
            cpu::scale_add(sum.data_mut(), *weight, input.data());
        }
        Ok(vec![sum])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let scaled = |weight: f32| {
            if weight == 1.0 {
                return dy.clone();
            }
            let mut dx = Tensor::empty(dy.shape());
            cpu::scale(dx.data_mut(), weight, dy.data());
            dx
        };
        Ok(self.weights.iter().enumerate().map(|(i, w)| backward.wants(i).then(|| scaled(*w))).collect())
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        Ok(vec![cuda::forward(self, inputs, self.check(inputs)?)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        cuda::backward(self, backward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn weights_scale_values_and_gradients() {
        let tape = Tape::new();
        let x = tape.watch(&Tensor::new(&[1.0, 2.0], [2]).unwrap());
        let y = Tensor::new(&[10.0, 20.0], [2]).unwrap();
        let sum = weighted_sum(&[(2.0, &x), (0.5, &y), (1.0, &x)]).unwrap();
        assert_eq!(sum.data(), [8.0, 16.0]);
        assert_eq!(tape.backward(&sum).unwrap().get(&x).unwrap().data(), [3.0, 3.0]);
    }

    #[test]
    fn shapes_must_agree() {
        let error = weighted_sum(&[(1.0, &Tensor::zeros([2])), (1.0, &Tensor::zeros([3]))]).unwrap_err();
        assert_eq!(error.to_string(), "weighted_sum: shapes [2] and [3] differ");
    }
}
