//! Group normalisation with the activation that follows it (Wu and He 2018), in one operation.

mod cpu;

use crate::ops::Activation;
use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

/// The parameters of a group normalisation.
struct GroupNorm {
    /// Into how many groups of neighbouring channels the channels are divided.
    groups: usize,
    /// Added to the variance.
    eps: f32,
    /// Applied to the normalised, scaled and shifted values.
    activation: Activation,
}

/// `y = activation((x - mean) / sqrt(variance + eps) * weight + bias)`, mean and (biased) variance over the pixels
/// and channels of each picture's group.
///
/// x `[B,H,W,C]`, weight and bias `[C]`, y `[B,H,W,C]`. With n = (x - mean) / sqrt(variance + eps),
/// g = dy * activation', means over the group: dbias = sum g, dweight = sum g n,
/// dx = (weight g - mean(weight g) - n mean(weight g n)) / sqrt(variance + eps).
/// Only x and the statistics are kept for the gradient; what went into the activation is computed again.
///
/// # Errors
/// If the shapes do not fit or the groups do not divide the channels.
pub fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f32,
    activation: Activation,
) -> Result<Tensor> {
    apply_one(GroupNorm { groups, eps, activation }, &[x, weight, bias])
}

impl GroupNorm {
    fn layout(&self, x: &Tensor) -> Result<cpu::Layout> {
        let [_, h, w, channels] = x.axes("group_norm")?;
        if self.groups == 0 || channels % self.groups != 0 || x.elements() == 0 {
            let detail =
                format!("{} groups do not divide the channels of the shape {}", self.groups, x.shape());
            return Err(Error::shape("group_norm", detail));
        }
        Ok(cpu::Layout { positions: h * w, channels, groups: self.groups })
    }
}

impl Operation for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let &[x, weight, bias] = inputs else { unreachable!("group_norm passes three inputs") };
        let layout = self.layout(x)?;
        for parameter in [weight, bias] {
            if parameter.axes("group_norm")? != [layout.channels] {
                let detail = format!("a weight or bias of shape {} for x {}", parameter.shape(), x.shape());
                return Err(Error::shape("group_norm", detail));
            }
        }
        let mut y = Tensor::scratch(x.shape());
        let mut statistics = Tensor::scratch([x.shape()[0], self.groups, 2]);
        cpu::forward(
            layout,
            self.activation,
            self.eps,
            [x.data(), weight.data(), bias.data()],
            y.data_mut(),
            statistics.data_mut(),
        );
        for tensor in [x, weight, bias, &statistics] {
            context.save(tensor);
        }
        Ok(vec![y])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [x, weight, bias, statistics] = backward.saved else { unreachable!("four tensors were saved") };
        let mut dx = backward.wants(0).then(|| Tensor::scratch(x.shape()));
        let mut dweight = Tensor::scratch(weight.shape());
        let mut dbias = Tensor::scratch(bias.shape());
        cpu::backward(
            self.layout(x)?,
            self.activation,
            [x.data(), weight.data(), bias.data(), statistics.data(), backward.gradient().data()],
            dx.as_mut().map(Tensor::data_mut),
            [dweight.data_mut(), dbias.data_mut()],
        );
        Ok(vec![dx, Some(dweight), Some(dbias)])
    }
}
