//! Activations: as an operation of their own, and as the last step of fused operations.

pub(crate) mod cpu;
mod cuda;
mod functions;

pub(crate) use cpu::{Curve, with_curve};
pub(crate) use cuda::KERNELS;
pub(crate) use functions::ln;

use rayon::prelude::*;

use crate::{Backward, Context, Operation, Result, Tensor, apply_one};

/// A function applied to every element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// y = x.
    #[default]
    Identity,
    /// y = max(x, 0); slope 0 at 0.
    Relu,
    /// y = x above zero, 0.2 x below; slope 0.2 at 0.
    LeakyRelu,
    /// y = tanh x.
    Tanh,
    /// y = ln(1 + e^x), and x itself above 20.
    Softplus,
}

/// Elements a thread takes at a time: three arrays of them fit the first-level cache.
const BLOCK: usize = 2048;

impl Activation {
    /// y at x.
    #[cfg(test)]
    pub(crate) fn value(self, x: f32) -> f32 {
        with_curve!(self, C => C::value(x))
    }

    /// dy/dx at x.
    pub(crate) fn slope(self, x: f32) -> f32 {
        with_curve!(self, C => C::slope(x))
    }

    /// dy/dx where the output is y: every activation here can be differentiated knowing its output alone.
    #[cfg(test)]
    fn slope_from_output(self, y: f32) -> f32 {
        with_curve!(self, C => C::slope_from_output(y))
    }

    /// Replaces each x by its y. Vectorised, on the calling thread: for fused operations to call on a block that
    /// is still in the cache.
    pub(crate) fn apply(self, values: &mut [f32]) {
        if self != Activation::Identity {
            with_curve!(self, C => cpu::apply::<C>(values));
        }
    }

    /// `dx = dy * slope`, from the outputs y. Vectorised, on the calling thread.
    pub(crate) fn pull_back(self, y: &[f32], dy: &[f32], dx: &mut [f32]) {
        debug_assert!(y.len() == dy.len() && y.len() == dx.len());
        with_curve!(self, C => cpu::pull_back::<C>(y, dy, dx));
    }

    /// The gradient before the activation, from its output `y` and the gradient `dy` of that, on the CPU. On all
    /// threads.
    pub(crate) fn gradient(self, y: &Tensor, dy: &Tensor) -> Tensor {
        if self == Activation::Identity {
            return dy.detach();
        }
        let mut dx = Tensor::empty(dy.shape());
        let blocks = y.data().par_chunks(BLOCK).zip(dy.data().par_chunks(BLOCK));
        dx.data_mut().par_chunks_mut(BLOCK).zip(blocks).for_each(|(dx, (y, dy))| self.pull_back(y, dy, dx));
        dx
    }
}

/// The activation of every element of `x`, of any shape. Gradient: dy times the slope, found from the output.
///
/// # Errors
/// If a GPU fails.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    apply_one(activation, &[x])
}

impl Operation for Activation {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let x = inputs[0];
        let mut y = Tensor::empty(x.shape());
        y.data_mut().par_chunks_mut(BLOCK).zip(x.data().par_chunks(BLOCK)).for_each(|(y, x)| {
            y.copy_from_slice(x);
            self.apply(y);
        });
        context.save(&y);
        Ok(vec![y])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.gradient(&backward.saved[0], backward.gradient()))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let y = self.apply_cuda(inputs[0])?;
        context.save(&y);
        Ok(vec![y])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.gradient_cuda(&backward.saved[0], backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, distance, random_tensor,
    };

    const ALL: [Activation; 5] = [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu,
        Activation::Tanh,
        Activation::Softplus,
    ];

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Identity => x,
            Activation::Relu => x.max(0.0),
            Activation::LeakyRelu => x.max(0.2 * x),
            Activation::Tanh => x.tanh(),
            Activation::Softplus => x.exp().ln_1p(),
        }
    }

    #[test]
    fn values_and_slopes_agree_with_f64() {
        for activation in ALL {
            for i in -4000..4000 {
                // Never 0, where two of them have a kink.
                let x = (i as f32 + 0.5) / 100.0;
                let (value, wide) = (f64::from(activation.value(x)), f64::from(x));
                let right = exact(activation, wide);
                assert!((value - right).abs() <= 4e-7 * right.abs(), "{activation:?} at {x}: {value}");
                let step = 1e-6;
                let slope = (exact(activation, wide + step) - exact(activation, wide - step)) / (2.0 * step);
                // 1 - y^2 is known no better than y.
                let floor = if activation == Activation::Tanh { 3e-7 } else { 3e-9 };
                let tolerance = 1e-6 * slope.abs() + floor;
                let found = [activation.slope(x), activation.slope_from_output(activation.value(x))];
                for found in found.map(f64::from) {
                    assert!((found - slope).abs() < tolerance, "{activation:?}: slope {found} at {x}");
                }
            }
        }
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        for activation in ALL {
            let x = [random_tensor(1, [3, 5, 7])];
            let tolerance = Tolerance { norm: 2e-3, element: 2e-3 };
            assert_gradients(&x, 1.0 / 1024.0, tolerance, |x| activate(&x[0], activation));
            assert_operation_independent_of_threads(&[random_tensor(2, [9999])], |x| {
                activate(&x[0], activation)
            });
        }
    }

    #[test]
    fn at_the_kink_and_beyond_the_range() {
        let slopes = ALL.map(|activation| activation.slope(0.0));
        assert_eq!(slopes, [1.0, 0.0, 0.2, 1.0, 0.5]);
        for activation in ALL {
            assert!(activation.value(f32::NAN).is_nan(), "{activation:?}");
            let slope = activation.slope_from_output(f32::NAN);
            assert!(slope.is_nan() || slope == 1.0, "{activation:?}: {slope}");
            for x in [-1e30, -100.0, 100.0, 1e30] {
                let y = activation.value(x);
                assert!(y.is_finite() && activation.slope(x).is_finite(), "{activation:?}");
                assert_eq!(activation.slope_from_output(y), activation.slope(x), "{activation:?}");
            }
        }
        let tape = Tape::new();
        let x = tape.watch(&Tensor::full([0, 3], 1.0));
        assert_eq!(activate(&x, Activation::Tanh).unwrap().numel(), 0);
    }

    #[test]
    fn blocks_agree_with_single_values() {
        let x = random_tensor(3, [77]);
        for activation in ALL {
            let mut y = x.data().to_vec();
            activation.apply(&mut y);
            let one_by_one: Vec<f64> = x.data().iter().map(|x| f64::from(activation.value(*x))).collect();
            assert_eq!(distance(&y, &one_by_one), 0.0);
        }
    }
}
