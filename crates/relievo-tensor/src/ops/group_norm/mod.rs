//! Group normalisation with the activation that follows it (Wu and He 2018), in one operation.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::ops::Activation;
use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

/// The parameters of a group normalisation.
struct GroupNorm {
    /// The number of groups of neighbouring channels.
    groups: usize,
    /// Added to the variance.
    eps: f32,
    /// Applied to the normalised, scaled and shifted values.
    activation: Activation,
}

/// `y = activation((x - mean) / sqrt(variance + eps) * weight + bias)`, mean and (biased) variance over the pixels
/// and channels of each image's group.
///
/// x `[B,H,W,C]`, weight and bias `[C]`, y `[B,H,W,C]`. With n = (x - mean) / sqrt(variance + eps),
/// g = dy * activation', means over the group: dbias = sum g, dweight = sum g n,
/// dx = (weight g - mean(weight g) - n mean(weight g n)) / sqrt(variance + eps).
/// Only x and the statistics are kept for the gradient; the activation's input is recomputed.
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
        let [_, h, w, channels] = x.dims("group_norm")?;
        if self.groups == 0 || channels % self.groups != 0 || x.numel() == 0 {
            let detail =
                format!("{} groups do not divide the channels of the shape {}", self.groups, x.shape());
            return Err(Error::shape("group_norm", detail));
        }
        Ok(cpu::Layout { positions: h * w, channels, groups: self.groups })
    }

    /// The layout of x, if weight and bias fit it.
    fn check(&self, [x, weight, bias]: [&Tensor; 3]) -> Result<cpu::Layout> {
        let layout = self.layout(x)?;
        for parameter in [weight, bias] {
            if parameter.dims("group_norm")? != [layout.channels] {
                let detail = format!("a weight or bias of shape {} for x {}", parameter.shape(), x.shape());
                return Err(Error::shape("group_norm", detail));
            }
        }
        Ok(layout)
    }
}

impl Operation for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let &[x, weight, bias] = inputs else { unreachable!("group_norm passes three inputs") };
        let layout = self.check([x, weight, bias])?;
        let mut y = Tensor::empty(x.shape());
        let mut statistics = Tensor::empty([x.shape()[0], self.groups, 2]);
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
        let mut dx = backward.wants(0).then(|| Tensor::empty(x.shape()));
        let mut dweight = Tensor::empty(weight.shape());
        let mut dbias = Tensor::empty(bias.shape());
        cpu::backward(
            self.layout(x)?,
            self.activation,
            [x.data(), weight.data(), bias.data(), statistics.data(), backward.gradient().data()],
            dx.as_mut().map(Tensor::data_mut),
            [dweight.data_mut(), dbias.data_mut()],
        );
        Ok(vec![dx, Some(dweight), Some(dbias)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let &[x, weight, bias] = inputs else { unreachable!("group_norm passes three inputs") };
        let (y, statistics) = cuda::forward(self, self.check([x, weight, bias])?, [x, weight, bias])?;
        for tensor in [x, weight, bias, &statistics] {
            context.save(tensor);
        }
        Ok(vec![y])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        cuda::backward(self, self.layout(&backward.saved[0])?, backward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, distance, random_tensor,
    };

    /// y, dx, dweight and dbias by the definition, in f64.
    fn naive(
        [x, weight, bias, dy]: [&Tensor; 4],
        groups: usize,
        eps: f64,
        activation: Activation,
    ) -> [Vec<f64>; 4] {
        let [batch, h, w, c] = x.dims("").unwrap();
        let per_group = c / groups;
        let [mut y, mut dx] = [vec![0.0; x.numel()], vec![0.0; x.numel()]];
        let [mut dweight, mut dbias] = [vec![0.0; c], vec![0.0; c]];
        let wide = |tensor: &Tensor, i: usize| f64::from(tensor.data()[i]);
        for image in 0..batch {
            for group in 0..groups {
                let places: Vec<(usize, usize)> = (0..h * w)
                    .flat_map(|p| (group * per_group..(group + 1) * per_group).map(move |c| (p, c)))
                    .map(|(p, channel)| ((image * h * w + p) * c + channel, channel))
                    .collect();
                let n = places.len() as f64;
                let mean = places.iter().map(|(i, _)| wide(x, *i)).sum::<f64>() / n;
                let variance = places.iter().map(|(i, _)| (wide(x, *i) - mean).powi(2)).sum::<f64>() / n;
                let deviation = (variance + eps).sqrt();
                let normal = |i: usize| (wide(x, i) - mean) / deviation;
                let g = |i: usize, c: usize| {
                    let before = normal(i) * wide(weight, c) + wide(bias, c);
                    wide(dy, i) * f64::from(activation.slope(before as f32))
                };
                let first = places.iter().map(|&(i, c)| wide(weight, c) * g(i, c)).sum::<f64>() / n;
                let second =
                    places.iter().map(|&(i, c)| wide(weight, c) * g(i, c) * normal(i)).sum::<f64>() / n;
                for (i, c) in places {
                    let before = normal(i) * wide(weight, c) + wide(bias, c);
                    y[i] = f64::from(activation.value(before as f32));
                    dx[i] = (wide(weight, c) * g(i, c) - first - normal(i) * second) / deviation;
                    dweight[c] += g(i, c) * normal(i);
                    dbias[c] += g(i, c);
                }
            }
        }
        [y, dx, dweight, dbias]
    }

    fn shifted(tensor: &Tensor, scale: f32, offset: f32) -> Tensor {
        let elements: Vec<f32> = tensor.data().iter().map(|x| x * scale + offset).collect();
        Tensor::new(&elements, tensor.shape()).unwrap()
    }

    #[test]
    fn agrees_with_the_definition() {
        // One group, a channel per group, odd sizes, several chunks, and values far from zero.
        for ([b, h, w, c], groups, offset) in [
            ([2, 3, 5, 6], 3, 0.0),
            ([1, 7, 1, 5], 1, 0.0),
            ([2, 4, 4, 4], 4, 0.0),
            ([2, 33, 31, 48], 12, 0.0),
            ([1, 16, 16, 8], 2, 100.0),
        ] {
            for activation in
                [Activation::Identity, Activation::Relu, Activation::LeakyRelu, Activation::Softplus]
            {
                let x = shifted(&random_tensor(1, [b, h, w, c]), 1.0, offset);
                let weight = shifted(&random_tensor(2, [c]), 0.5, 1.0);
                let (bias, dy) = (random_tensor(3, [c]), random_tensor(4, [b, h, w, c]));
                let tape = Tape::new();
                let variables = [&x, &weight, &bias].map(|tensor| tape.watch(tensor));
                let y = group_norm(&variables[0], &variables[1], &variables[2], groups, 1e-5, activation)
                    .unwrap();
                let gradients = tape.backward_from(&[(&y, dy.clone())]).unwrap();
                let right = naive([&x, &weight, &bias, &dy], groups, 1e-5, activation);
                let found = variables.each_ref().map(|variable| gradients.get(variable).unwrap().data());
                let found = [y.data(), found[0], found[1], found[2]];
                for (index, (found, right)) in found.into_iter().zip(&right).enumerate() {
                    // Far from zero, the rounding of x itself is what limits.
                    let tolerance = if offset == 0.0 { 2e-6 } else { 1e-4 };
                    let off = distance(found, right);
                    assert!(
                        off < tolerance,
                        "{activation:?}, {groups} groups, {h} x {w}, {index}: off by {off}"
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        let inputs = [random_tensor(1, [2, 4, 3, 6]), random_tensor(2, [6]), random_tensor(3, [6])];
        let run =
            |inputs: &[Tensor]| group_norm(&inputs[0], &inputs[1], &inputs[2], 2, 1e-5, Activation::Softplus);
        assert_gradients(&inputs, 1.0 / 256.0, Tolerance { norm: 1e-3, element: 1e-3 }, run);
        let inputs = [random_tensor(1, [3, 40, 41, 32]), random_tensor(2, [32]), random_tensor(3, [32])];
        assert_operation_independent_of_threads(&inputs, |inputs| {
            group_norm(&inputs[0], &inputs[1], &inputs[2], 8, 1e-5, Activation::Relu)
        });
    }

    #[test]
    fn a_constant_image_gives_the_bias() {
        let tape = Tape::new();
        let x = tape.watch(&Tensor::full([1, 4, 4, 2], 3.3));
        let (weight, bias) = (Tensor::full([2], 1.0), Tensor::new(&[0.5, -0.5], [2]).unwrap());
        let y = group_norm(&x, &weight, &bias, 1, 1e-5, Activation::LeakyRelu).unwrap();
        assert!(y.data().chunks(2).all(|y| (y[0] - 0.5).abs() < 1e-4 && (y[1] + 0.1).abs() < 1e-4));
        let gradients = tape.backward(&y).unwrap();
        assert!(gradients.get(&x).unwrap().data().iter().all(|dx| dx.is_finite()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, six, five) = (Tensor::zeros([1, 2, 2, 6]), Tensor::zeros([6]), Tensor::zeros([5]));
        let run = |x: &Tensor, weight: &Tensor, groups| {
            group_norm(x, weight, &six, groups, 1e-5, Activation::Relu).map_err(|error| error.to_string())
        };
        let error = "group_norm: 4 groups do not divide the channels of the shape [1, 2, 2, 6]";
        assert_eq!(run(&x, &six, 4).unwrap_err(), error);
        assert!(run(&x, &five, 3).is_err() && run(&x, &six, 0).is_err() && run(&six, &six, 1).is_err());
    }
}
