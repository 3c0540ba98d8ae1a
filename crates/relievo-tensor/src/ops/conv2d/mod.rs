//! Convolution and transposed convolution, with an optional bias and activation.
//!
//! `geometry.rs` checks the extents, `cpu/` computes, `cuda.rs` calls cuDNN, `plain.rs` is the definition (the oracle of the
//! tests), `epilogue.rs` applies bias and activation to a sum before it is stored. The three products of
//! a convolution serve both operations: a transposed convolution's forward is the input gradient of the convolution it
//! is the adjoint of, and its input gradient is that convolution's forward.

#[cfg(any(test, feature = "testing"))]
pub mod bench;
pub(crate) mod cpu;
mod cuda;
mod epilogue;
mod geometry;
#[cfg(test)]
mod plain;

pub(crate) use cuda::KERNELS;
#[cfg(any(test, feature = "testing"))]
pub(crate) use cuda::extents;
use epilogue::{Epilogue, bias_gradient};
pub use geometry::Conv2dGeometry;

use crate::ops::activation::Activation;
use crate::{Backward, Context, ConvPolicy, Error, Operation, Result, Tensor, apply_one};

/// Parameters of [`conv2d`] and [`conv_transpose2d`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvParams {
    /// Pixels of the larger image (the input of a convolution, the output of a transposed one) between neighbours
    /// of the smaller, the same along both axes; at least 1.
    pub stride: usize,
    /// Zeros around a convolution's input; rows and columns cut off a transposed convolution's output. The same on
    /// all four sides.
    pub padding: usize,
    /// Applied to each output, after the bias.
    pub activation: Activation,
    /// How exactly a GPU computes.
    pub policy: ConvPolicy,
}

impl ConvParams {
    /// A convolution with these, by the default policy.
    pub const fn new(stride: usize, padding: usize, activation: Activation) -> Self {
        Self { stride, padding, activation, policy: ConvPolicy { tf32: false, deterministic: false } }
    }
}

/// The convolution (as in all of deep learning: the correlation) of `x [B,H,W,in]` with `w [out,kh,kw,in]`, zeros
/// outside x, plus `bias [out]`, activated:
/// `[B, (H + 2*padding - kh)/stride + 1, (W + 2*padding - kw)/stride + 1, out]`. All three are of one type; on a GPU x may be bf16 where the
/// others are f32, and the result is f32 then.
///
/// With z the value before the activation f, dz = dy * f'(z): gradient of x = the transposed convolution of dz with
/// w; of `w[o,r,s,c]` = the sum over b, i, j of `x[b, i*stride + r - padding, j*stride + s - padding, c] *
/// dz[b,i,j,o]`; of the bias = dz summed over pixels.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, params: ConvParams) -> Result<Tensor> {
    run(x, w, bias, params, false)
}

/// The transposed convolution of `x [B,H,W,in]` with `w [in,kh,kw,out]`, plus `bias [out]`, activated:
/// `[B, (H - 1)*stride + kh - 2*padding, (W - 1)*stride + kw - 2*padding, out]`.
///
/// Without bias and activation it is the adjoint of the convolution with the same weight. With dz as in [`conv2d`]:
/// gradient of x = that convolution of dz; of w = as in [`conv2d`] with x and dz in each other's place; of the bias =
/// dz summed over pixels.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv_transpose2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, params: ConvParams) -> Result<Tensor> {
    run(x, w, bias, params, true)
}

fn run(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    params: ConvParams,
    transposed: bool,
) -> Result<Tensor> {
    let operation = Convolution { params, transposed, has_bias: bias.is_some() };
    match bias {
        Some(bias) => apply_one(operation, &[x, w, bias]),
        None => apply_one(operation, &[x, w]),
    }
}

struct Convolution {
    params: ConvParams,
    transposed: bool,
    has_bias: bool,
}

impl Convolution {
    /// The convolution that this operation is, or whose adjoint it is.
    fn geometry(&self, x: &Tensor, w: &Tensor) -> Result<Conv2dGeometry> {
        let (x, w) = (x.dims(self.name())?, w.dims(self.name())?);
        let ConvParams { stride, padding, .. } = self.params;
        if self.transposed {
            Conv2dGeometry::adjoint(x, w, stride, padding)
        } else {
            Conv2dGeometry::new(x, w, stride, padding)
        }
    }

    /// The geometry and the extents of the output, if the inputs fit.
    fn check(&self, inputs: &[&Tensor]) -> Result<(Conv2dGeometry, [usize; 4])> {
        let g = self.geometry(inputs[0], inputs[1])?;
        let output = if self.transposed { g.x_shape() } else { g.y_shape() };
        if let Some(bias) = inputs.get(2).filter(|bias| *bias.shape() != output[3..]) {
            let detail = format!("a bias of shape {} for {} channels", bias.shape(), output[3]);
            return Err(Error::shape(self.name(), detail));
        }
        Ok((g, output))
    }
}

impl Operation for Convolution {
    fn name(&self) -> &'static str {
        if self.transposed { "conv_transpose2d" } else { "conv2d" }
    }

    fn flops(&self, inputs: &[&Tensor]) -> f64 {
        self.geometry(inputs[0], inputs[1]).map_or(0.0, |geometry| geometry.flops())
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let (x, w, bias) = (inputs[0], inputs[1], inputs.get(2));
        let (g, output) = self.check(inputs)?;
        let mut y = Tensor::empty(output);
        let epilogue = Epilogue { bias: bias.map(|bias| bias.data()), activation: self.params.activation };
        if self.transposed {
            cpu::input_gradient(&g, x.data(), w.data(), y.data_mut(), epilogue);
        } else {
            cpu::forward(&g, x.data(), w.data(), y.data_mut(), epilogue);
        }
        context.save(x);
        context.save(w);
        if self.params.activation != Activation::Identity {
            context.save(&y);
        }
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
            let mut dx = Tensor::empty(x.shape());
            if self.transposed {
                cpu::forward(&g, dz.data(), w.data(), dx.data_mut(), Epilogue::NONE);
            } else {
                cpu::input_gradient(&g, dz.data(), w.data(), dx.data_mut(), Epilogue::NONE);
            }
            dx
        });
        let dw = backward.wants(1).then(|| {
            let mut dw = Tensor::empty(w.shape());
            let (large, small) = if self.transposed { (&dz, x) } else { (x, &dz) };
            cpu::weight_gradient(&g, large.data(), small.data(), dw.data_mut());
            dw
        });
        let mut gradients = vec![dx, dw];
        if self.has_bias {
            gradients.push(backward.wants(2).then(|| {
                let mut db = Tensor::empty([dz.shape()[3]]);
                bias_gradient(dz.data(), db.data_mut());
                db
            }));
        }
        Ok(gradients)
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let (geometry, output) = self.check(inputs)?;
        let y = self.run_cuda(&geometry, inputs, output)?;
        context.save(inputs[0]);
        context.save(inputs[1]);
        if self.params.activation != Activation::Identity {
            context.save(&y);
        }
        Ok(vec![y])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        self.differentiate_cuda(backward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{Tolerance, assert_gradients, random_tensor};

    fn dot(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.shape(), b.shape());
        a.data().iter().zip(b.data()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    fn linear(stride: usize, padding: usize) -> ConvParams {
        ConvParams::new(stride, padding, Activation::Identity)
    }

    #[test]
    fn the_transposed_convolution_is_the_adjoint() {
        for (stride, padding) in [(1, 1), (2, 1), (1, 0), (2, 0)] {
            let (x, w) = (random_tensor(1, [2, 8, 6, 5]), random_tensor(2, [7, 4, 4, 5]));
            let conv = conv2d(&x, &w, None, linear(stride, padding)).unwrap();
            let y = random_tensor(3, conv.shape().dims::<4>().unwrap());
            let back = conv_transpose2d(&y, &w, None, linear(stride, padding)).unwrap();
            let (forth, back) = (dot(&conv, &y), dot(&back, &x));
            assert!((forth - back).abs() < 1e-4 * forth.abs().max(1.0), "{forth} and {back}");
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        type Run = fn(&Tensor, &Tensor, Option<&Tensor>, ConvParams) -> Result<Tensor>;
        let runs = [(conv2d as Run, [4, 4, 4, 3], 4), (conv_transpose2d as Run, [3, 4, 4, 5], 5)];
        for (run, weight, channels) in runs {
            for activation in
                [Activation::Identity, Activation::Softplus, Activation::Relu, Activation::LeakyRelu]
            {
                let params = ConvParams::new(2, 1, activation);
                let inputs =
                    [random_tensor(1, [2, 6, 6, 3]), random_tensor(2, weight), random_tensor(3, [channels])];
                // Where a kink lies between the ends of a step, the difference is a mean of two slopes.
                let tolerance = if matches!(activation, Activation::Relu | Activation::LeakyRelu) {
                    Tolerance { norm: 2e-2, element: 0.5 }
                } else {
                    Tolerance { norm: 1e-3, element: 1e-3 }
                };
                assert_gradients(&inputs, 1.0 / 512.0, tolerance, |x| run(&x[0], &x[1], Some(&x[2]), params));
            }
        }
    }

    #[test]
    fn only_wanted_gradients_are_computed() {
        let tape = Tape::new();
        let (x, w) = (tape.watch(&random_tensor(1, [1, 4, 4, 2])), random_tensor(2, [3, 3, 3, 2]));
        let y = conv2d(&x, &w, None, linear(1, 1)).unwrap();
        let gradients = tape.backward(&y).unwrap();
        assert!(gradients.get(&x).is_some() && gradients.get(&w).is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, w) = (random_tensor(1, [1, 4, 4, 2]), random_tensor(2, [3, 3, 3, 2]));
        let error = conv2d(&x, &w, Some(&Tensor::zeros([2])), linear(1, 1)).unwrap_err().to_string();
        assert_eq!(error, "conv2d: a bias of shape [2] for 3 channels");
        assert!(conv2d(&random_tensor(1, [1, 4, 4, 3]), &w, None, linear(1, 1)).is_err());
        assert!(conv2d(&Tensor::zeros([4]), &w, None, linear(1, 1)).is_err());
    }
}
