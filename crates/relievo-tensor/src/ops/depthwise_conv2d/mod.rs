//! Depthwise convolution: every channel with a kernel of its own, an optional bias and activation on the way out.

mod cpu;

use crate::ops::conv2d::{Conv2dGeometry, ConvParams};
use crate::{Device, Error, Result, Tensor};

const NAME: &str = "depthwise_conv2d";

/// The convolution (the correlation, as in [`conv2d`](crate::ops::conv2d())) of each channel of `x [B,H,W,C]` with its
/// own kernel in `w [kh,kw,C]`, zeros outside x, plus `bias [C]`, activated: `[B, (H + 2*padding - kh)/stride + 1, (W +
/// 2*padding - kw)/stride + 1, C]`. Source: Howard et al. 2017, *MobileNets*, equation 3.
///
/// Without gradient and on the CPU: it is for networks that learn no more, the face detector's.
///
/// # Errors
/// If the shapes do not fit, or a tensor is not on the CPU.
pub fn depthwise_conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, params: ConvParams) -> Result<Tensor> {
    if [x, w].into_iter().chain(bias).any(|tensor| tensor.device() != Device::Cpu) {
        return Err(Error::shape(NAME, "a tensor that is not on the CPU"));
    }
    let [kernel_h, kernel_w, channels] = w.dims(NAME)?;
    let g = Conv2dGeometry::new(
        x.dims(NAME)?,
        [channels, kernel_h, kernel_w, channels],
        params.stride,
        params.padding,
    )?;
    if let Some(bias) = bias.filter(|bias| *bias.shape() != [channels]) {
        return Err(Error::shape(NAME, format!("a bias of shape {} for {channels} channels", bias.shape())));
    }
    let mut y = Tensor::empty(g.y_shape());
    let bias = bias.map(|bias| bias.data());
    cpu::forward(&g, x.data(), w.data(), bias, params.activation, y.data_mut());
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Activation, conv2d};
    use crate::testing::{assert_independent_of_threads, distance, random_tensor};

    fn params(stride: usize, padding: usize, activation: Activation) -> ConvParams {
        ConvParams::new(stride, padding, activation)
    }

    /// Odd and even extents, channels that fill no block of lanes and several, kernels that are not square, padding
    /// wider than a kernel.
    const CASES: [([usize; 4], [usize; 3], usize, usize); 7] = [
        ([2, 6, 5, 3], [3, 3, 3], 1, 1),
        ([1, 7, 8, 37], [3, 3, 37], 2, 1),
        ([2, 5, 6, 16], [2, 3, 16], 1, 0),
        ([1, 1, 1, 5], [3, 3, 5], 2, 1),
        ([1, 4, 4, 70], [1, 1, 70], 3, 0),
        ([1, 3, 2, 4], [2, 2, 4], 2, 3),
        ([1, 6, 9, 8], [5, 5, 8], 1, 2),
    ];

    #[test]
    fn is_the_convolution_whose_kernels_see_one_channel_each() {
        for (x, w, stride, padding) in CASES {
            let c = w[2];
            let (x, w, bias) = (random_tensor(1, x), random_tensor(2, w), random_tensor(3, [c]));
            for activation in [Activation::Identity, Activation::Relu, Activation::Tanh] {
                let params = params(stride, padding, activation);
                let y = depthwise_conv2d(&x, &w, Some(&bias), params).unwrap();
                let taps = w.shape()[0] * w.shape()[1];
                let mut full = Tensor::zeros([c, w.shape()[0], w.shape()[1], c]);
                for (at, value) in w.data().iter().enumerate() {
                    let (tap, channel) = (at / c, at % c);
                    full.data_mut()[(channel * taps + tap) * c + channel] = *value;
                }
                let right = conv2d(&x, &full, Some(&bias), params).unwrap();
                let exact: Vec<f64> = right.data().iter().map(|y| f64::from(*y)).collect();
                assert_eq!(y.shape(), right.shape());
                let off = distance(y.data(), &exact);
                assert!(off < 1e-6, "{:?} {params:?}: off by {off}", x.shape());
                assert_independent_of_threads(|| {
                    vec![depthwise_conv2d(&x, &w, Some(&bias), params).unwrap()]
                });
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, w) = (Tensor::zeros([1, 4, 4, 2]), Tensor::zeros([3, 3, 2]));
        let message = |x: &Tensor, w: &Tensor, bias: Option<&Tensor>, stride, padding| {
            let params = params(stride, padding, Activation::Identity);
            depthwise_conv2d(x, w, bias, params).unwrap_err().to_string()
        };
        let error = message(&x, &w, Some(&Tensor::zeros([3])), 1, 1);
        assert_eq!(error, "depthwise_conv2d: a bias of shape [3] for 2 channels");
        assert!(message(&x, &Tensor::zeros([3, 3, 3]), None, 1, 1).contains("input's channels"));
        assert!(message(&x, &Tensor::zeros([5, 5, 2]), None, 1, 0).contains("larger than the padded input"));
        assert!(message(&x, &w, None, 0, 1).contains("no extent may be zero"));
        assert!(message(&Tensor::zeros([4, 4]), &w, None, 1, 1).contains("4 axes"));
    }
}
