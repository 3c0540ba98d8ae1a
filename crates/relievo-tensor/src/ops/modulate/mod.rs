//! Feature-wise linear modulation (FiLM, Perez et al. 2018) with the activation that follows it, in one operation: how
//! a network of images is told something that is no image.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::ops::Activation;
use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

struct Modulate {
    activation: Activation,
}

/// `y = activation(x * (1 + scale) + shift)`, with a scale and a shift for each image and channel.
///
/// x `[B,H,W,C]`; modulation `[B,2C]`, f32: the scales of an image's channels, then their shifts; y `[B,H,W,C]` of the type
/// of x. With g = dy * activation', found from y: dx = g (1 + scale), dscale = sum of g x and dshift = sum of g, over the
/// image's pixels. Source: Perez et al., *FiLM: Visual Reasoning with a General Conditioning Layer* (AAAI 2018), equation 2,
/// with the scale counted from 1.
///
/// # Errors
/// If the shapes do not fit, there is nothing in x, or a GPU fails.
pub fn modulate(x: &Tensor, modulation: &Tensor, activation: Activation) -> Result<Tensor> {
    apply_one(Modulate { activation }, &[x, modulation])
}

/// How the elements of x are divided.
#[derive(Clone, Copy)]
struct Layout {
    images: usize,
    /// Pixels of an image.
    pixels: usize,
    channels: usize,
}

impl Modulate {
    fn layout(&self, x: &Tensor, modulation: &Tensor) -> Result<Layout> {
        let [images, height, width, channels] = x.dims(self.name())?;
        if modulation.dims(self.name())? != [images, 2 * channels] || x.numel() == 0 {
            let detail = format!("a modulation of shape {} for x {}", modulation.shape(), x.shape());
            return Err(Error::shape(self.name(), detail));
        }
        Ok(Layout { images, pixels: height * width, channels })
    }
}

impl Operation for Modulate {
    fn name(&self) -> &'static str {
        "modulate"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let &[x, modulation] = inputs else { unreachable!("modulate passes two inputs") };
        let layout = self.layout(x, modulation)?;
        let mut y = Tensor::empty(x.shape());
        cpu::forward(layout, self.activation, [x.data(), modulation.data()], y.data_mut());
        for tensor in [x, modulation, &y] {
            context.save(tensor);
        }
        Ok(vec![y])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [x, modulation, y] = backward.saved else { unreachable!("three tensors were saved") };
        let layout = self.layout(x, modulation)?;
        let mut dx = backward.wants(0).then(|| Tensor::empty(x.shape()));
        let mut dmodulation = Tensor::empty(modulation.shape());
        let data = [x.data(), modulation.data(), y.data(), backward.gradient().data()];
        let out = dx.as_mut().map(Tensor::data_mut);
        cpu::backward(layout, self.activation, data, out, dmodulation.data_mut());
        Ok(vec![dx, Some(dmodulation)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let &[x, modulation] = inputs else { unreachable!("modulate passes two inputs") };
        let y = cuda::forward(self.layout(x, modulation)?, self.activation, x, modulation)?;
        for tensor in [x, modulation, &y] {
            context.save(tensor);
        }
        Ok(vec![y])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let layout = self.layout(&backward.saved[0], &backward.saved[1])?;
        cuda::backward(layout, self.activation, backward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, distance, random_tensor,
    };

    #[test]
    fn each_channel_of_each_image_has_its_own_line() {
        let x = Tensor::new(&[1.0, 2.0, -3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [2, 1, 2, 2]).unwrap();
        let modulation = Tensor::new(&[0.0, 1.0, 0.5, -1.0, -1.0, 2.0, 9.0, 0.0], [2, 4]).unwrap();
        let y = modulate(&x, &modulation, Activation::Relu).unwrap();
        assert_eq!(y.data(), [1.5, 3.0, 0.0, 7.0, 9.0, 18.0, 9.0, 24.0]);
    }

    #[test]
    fn agrees_with_the_definition() {
        // One pixel, odd sizes, several chunks of an image.
        for shape in [[2, 1, 1, 5], [3, 5, 7, 6], [2, 33, 31, 48]] {
            let [images, height, width, channels] = shape;
            for activation in [Activation::Identity, Activation::LeakyRelu, Activation::Softplus] {
                let x = random_tensor(1, shape);
                let modulation = random_tensor(2, [images, 2 * channels]);
                let dy = random_tensor(3, shape);
                let [mut y, mut dx] = [vec![0.0; x.numel()], vec![0.0; x.numel()]];
                let mut dmodulation = vec![0.0; modulation.numel()];
                for i in 0..x.numel() {
                    let at = i / (height * width * channels) * 2 * channels + i % channels;
                    let value = |tensor: &Tensor, at: usize| f64::from(tensor.data()[at]);
                    let factor = 1.0 + value(&modulation, at);
                    let before = value(&x, i) * factor + value(&modulation, at + channels);
                    y[i] = f64::from(activation.value(before as f32));
                    let g = value(&dy, i) * f64::from(activation.slope(before as f32));
                    dx[i] = g * factor;
                    dmodulation[at] += g * value(&x, i);
                    dmodulation[at + channels] += g;
                }
                let tape = Tape::new();
                let variables = [&x, &modulation].map(|tensor| tape.watch(tensor));
                let found = modulate(&variables[0], &variables[1], activation).unwrap();
                let gradients = tape.backward_from(&[(&found, dy)]).unwrap();
                let [found_dx, found_dm] = variables.each_ref().map(|v| gradients.get(v).unwrap().data());
                for (found, right) in [(found.data(), &y), (found_dx, &dx), (found_dm, &dmodulation)] {
                    let off = distance(found, right);
                    assert!(off < 2e-6, "{activation:?}, {shape:?}: off by {off}");
                }
            }
        }
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        let inputs = [random_tensor(1, [2, 4, 3, 6]), random_tensor(2, [2, 12])];
        let tolerance = Tolerance { norm: 1e-3, element: 1e-3 };
        assert_gradients(&inputs, 1.0 / 256.0, tolerance, |x| modulate(&x[0], &x[1], Activation::Softplus));
        let inputs = [random_tensor(1, [3, 40, 41, 32]), random_tensor(2, [3, 64])];
        assert_operation_independent_of_threads(&inputs, |x| modulate(&x[0], &x[1], Activation::LeakyRelu));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = Tensor::zeros([2, 3, 3, 4]);
        let error = modulate(&x, &Tensor::zeros([2, 4]), Activation::Relu).unwrap_err().to_string();
        assert_eq!(error, "modulate: a modulation of shape [2, 4] for x [2, 3, 3, 4]");
        assert!(modulate(&x, &Tensor::zeros([1, 8]), Activation::Relu).is_err());
        let nothing = modulate(&Tensor::zeros([2, 0, 3, 4]), &Tensor::zeros([2, 8]), Activation::Relu);
        assert!(nothing.is_err());
    }
}
