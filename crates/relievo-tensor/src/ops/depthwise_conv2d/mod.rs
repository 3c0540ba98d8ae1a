//! Depthwise convolution: every channel with a kernel of its own, an optional bias and activation on the way out.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::ops::activation::Activation;
use crate::ops::conv2d::{Conv2dGeometry, ConvParams, bias_gradient};
use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

/// The convolution (the correlation, as in [`conv2d`](crate::ops::conv2d())) of each channel of `x [B,H,W,C]` with its
/// own kernel in `w [kh,kw,C]`, zeros outside x, plus `bias [C]`, activated:
/// `[B, (H + 2*padding - kh)/stride + 1, (W + 2*padding - kw)/stride + 1, C]`.
///
/// With z the value before the activation f, dz = dy * f'(z): gradient of `x[b,v,u,c]` = the sum of `w[r,s,c] *
/// dz[b,i,j,c]` over all i, j, r, s with i*stride + r - padding = v and j*stride + s - padding = u; of `w[r,s,c]` = the
/// sum over b, i, j of `x[b, i*stride + r - padding, j*stride + s - padding, c] * dz[b,i,j,c]`; of the bias = dz summed
/// over pixels. Source: Howard et al. 2017, *MobileNets*, equation 3.
///
/// # Errors
/// If the shapes do not fit.
pub fn depthwise_conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, params: ConvParams) -> Result<Tensor> {
    let operation = DepthwiseConvolution { params, has_bias: bias.is_some() };
    match bias {
        Some(bias) => apply_one(operation, &[x, w, bias]),
        None => apply_one(operation, &[x, w]),
    }
}

struct DepthwiseConvolution {
    params: ConvParams,
    has_bias: bool,
}

impl DepthwiseConvolution {
    /// The extents, with as many channels out as in.
    fn geometry(&self, x: &Tensor, w: &Tensor) -> Result<Conv2dGeometry> {
        let [kernel_h, kernel_w, channels] = w.axes(self.name())?;
        let [batch, in_h, in_w, in_c] = x.axes(self.name())?;
        let ConvParams { stride, padding, .. } = self.params;
        let refuse = |why: &str| {
            let shapes = format!("input {}, weight {}", x.shape(), w.shape());
            Err(Error::shape(self.name(), format!("{shapes}, stride {stride}, padding {padding}: {why}")))
        };
        if x.elements() == 0 || w.elements() == 0 || stride == 0 {
            return refuse("no extent may be zero");
        }
        if in_c != channels {
            return refuse("the weight's last axis must be the input's channels");
        }
        if in_h + 2 * padding < kernel_h || in_w + 2 * padding < kernel_w {
            return refuse("the kernel is larger than the padded input");
        }
        let out_h = (in_h + 2 * padding - kernel_h) / stride + 1;
        let out_w = (in_w + 2 * padding - kernel_w) / stride + 1;
        let out_c = in_c;
        Ok(Conv2dGeometry {
            batch,
            in_h,
            in_w,
            in_c,
            out_h,
            out_w,
            out_c,
            kernel_h,
            kernel_w,
            stride,
            padding,
        })
    }

    fn check(&self, inputs: &[&Tensor]) -> Result<Conv2dGeometry> {
        let g = self.geometry(inputs[0], inputs[1])?;
        if let Some(bias) = inputs.get(2).filter(|bias| *bias.shape() != [g.in_c]) {
            let detail = format!("a bias of shape {} for {} channels", bias.shape(), g.in_c);
            return Err(Error::shape(self.name(), detail));
        }
        Ok(g)
    }

    /// Keeps what the backward pass needs.
    fn save(&self, inputs: &[&Tensor], y: &Tensor, context: &mut Context) {
        context.save(inputs[0]);
        context.save(inputs[1]);
        if self.params.activation != Activation::Identity {
            context.save(y);
        }
    }
}

impl Operation for DepthwiseConvolution {
    fn name(&self) -> &'static str {
        "depthwise_conv2d"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let g = self.check(inputs)?;
        let mut y = Tensor::scratch(g.y_shape());
        let bias = inputs.get(2).map(|bias| bias.data());
        let (x, w) = (inputs[0].data(), inputs[1].data());
        cpu::forward(&g, x, w, bias, self.params.activation, y.data_mut());
        self.save(inputs, &y, context);
        Ok(vec![y])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (x, w) = (&backward.saved[0], &backward.saved[1]);
        let g = self.geometry(x, w)?;
        let dy = backward.gradient();
        let dz = match backward.saved.get(2) {
            None => dy.clone(),
            Some(y) => self.params.activation.gradient(y, dy),
        };
        let dx = backward.wants(0).then(|| {
            let mut dx = Tensor::scratch(x.shape());
            cpu::input_gradient(&g, dz.data(), w.data(), dx.data_mut());
            dx
        });
        let dw = backward.wants(1).then(|| {
            let mut dw = Tensor::scratch(w.shape());
            cpu::weight_gradient(&g, x.data(), dz.data(), dw.data_mut());
            dw
        });
        let mut gradients = vec![dx, dw];
        if self.has_bias {
            gradients.push(backward.wants(2).then(|| {
                let mut db = Tensor::scratch([g.in_c]);
                bias_gradient(dz.data(), db.data_mut());
                db
            }));
        }
        Ok(gradients)
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let g = self.check(inputs)?;
        let y = cuda::forward(&g, inputs, self.params.activation)?;
        self.save(inputs, &y, context);
        Ok(vec![y])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (x, w) = (&backward.saved[0], &backward.saved[1]);
        let g = self.geometry(x, w)?;
        let dy = backward.gradient();
        let dz = match backward.saved.get(2) {
            None => dy.detach(),
            Some(y) => self.params.activation.gradient_cuda(y, dy)?,
        };
        let mut gradients = vec![
            backward.wants(0).then(|| cuda::input_gradient(&g, &dz, w)).transpose()?,
            backward.wants(1).then(|| cuda::weight_gradient(&g, x, &dz)).transpose()?,
        ];
        if self.has_bias {
            gradients.push(backward.wants(2).then(|| cuda::bias_gradient(&dz)).transpose()?);
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::{
        assert_operation_independent_of_threads, distance, gradient_errors, random_tensor,
    };
    use crate::ops::conv2d;

    fn params(stride: usize, padding: usize, activation: Activation) -> ConvParams {
        ConvParams { stride, padding, activation }
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
            }
        }
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        for (x, w, stride, padding) in CASES {
            let inputs = [random_tensor(1, x), random_tensor(2, w), random_tensor(3, [w[2]])];
            // Softplus has no kink for a difference to meet.
            for (activation, step, tolerance) in
                [(Activation::Identity, 0.25, 1e-5), (Activation::Softplus, 1.0 / 64.0, 1e-3)]
            {
                let params = params(stride, padding, activation);
                let run = |x: &[Tensor]| depthwise_conv2d(&x[0], &x[1], Some(&x[2]), params);
                let errors = gradient_errors(&inputs, step, run).unwrap();
                assert!(errors.iter().all(|error| *error < tolerance), "{x:?} {params:?}: {errors:?}");
                assert_operation_independent_of_threads(&inputs, run);
            }
        }
        let inputs = [random_tensor(1, [1, 5, 5, 4]), random_tensor(2, [3, 3, 4])];
        let run = |x: &[Tensor]| depthwise_conv2d(&x[0], &x[1], None, params(1, 1, Activation::Identity));
        assert!(gradient_errors(&inputs, 0.25, run).unwrap().iter().all(|error| *error < 1e-5));
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
