//! Errors of an image as a bank of filters sees them.

mod bank;
mod cpu;
mod cuda;

pub use bank::{Filter, FilterBank, Separable};
pub(crate) use cuda::KERNELS;

use super::compared::{Compared, elements};
use crate::{Backward, Context, Operation, Result, Tensor, apply};

/// For each scale of a bank, the mean absolute response of its filters to the error of the reconstruction:
/// `|f * (mask (reconstruction - target))|`, mean over the filters of that scale and over the channels, `[n,H,W,1]`
/// each, in the order of [`FilterBank::scales`].
///
/// reconstruction `[n,H,W,C]`, target `[B,H,W,C]` with n = B or 2 B (the same for both halves), mask `[B,H,W]` or
/// `[n,H,W]`, all f32; the bank on the same device. Beyond the mask and the image there is no error, so filters that
/// reach there see 0.
///
/// A convolution is linear: `f * reconstruction - f * target` is `f * (reconstruction - target)`, which needs half as
/// many filterings. Gradients flow to the reconstruction, none to target and mask; where a response is 0 its slope is 0.
///
/// # Errors
/// If the shapes do not fit.
pub fn filter_errors(
    reconstruction: &Tensor,
    target: &Tensor,
    mask: &Tensor,
    bank: &FilterBank,
) -> Result<Vec<Tensor>> {
    let operation = FilterErrors { bank: bank.clone() };
    apply(operation, &[reconstruction, &target.detach(), &mask.detach()])
}

struct FilterErrors {
    bank: FilterBank,
}

impl Operation for FilterErrors {
    fn name(&self) -> &'static str {
        "filter_errors"
    }

    fn flops(&self, inputs: &[&Tensor]) -> f64 {
        let taps = |taps: &Vec<f32>| taps.len();
        let along: usize = self.bank.alongs.iter().map(taps).sum();
        let down: usize = self.bank.products.iter().map(|(down, _)| down.len()).sum();
        2.0 * (along + down) as f64 * inputs[0].numel() as f64
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let compared = Compared::new(self.name(), inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        cpu::errors(&self.bank, compared, elements(inputs))
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs: Vec<&Tensor> = backward.saved.iter().collect();
        let compared = Compared::new(self.name(), &inputs)?;
        let mut gradient = Tensor::empty(inputs[0].shape());
        let slopes: Vec<Option<&[f32]>> =
            backward.gradients.iter().map(|slopes| slopes.as_ref().map(Tensor::data)).collect();
        cpu::gradient(&self.bank, compared, elements(&inputs), &slopes, gradient.data_mut());
        Ok(vec![Some(gradient), None, None])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let compared = Compared::new(self.name(), inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        cuda::errors(&self.bank, compared, [inputs[0], inputs[1], inputs[2]])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs: Vec<&Tensor> = backward.saved.iter().collect();
        let compared = Compared::new(self.name(), &inputs)?;
        let inputs = [inputs[0], inputs[1], inputs[2]];
        Ok(vec![Some(cuda::gradient(&self.bank, compared, inputs, backward.gradients)?), None, None])
    }
}

#[cfg(test)]
mod tests;
