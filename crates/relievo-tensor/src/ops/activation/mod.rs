//! Activations: as an operation of their own, and as the last step of fused operations.

pub(crate) mod cpu;
mod functions;

pub(crate) use cpu::{Curve, with_curve};

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
    pub fn value(self, x: f32) -> f32 {
        with_curve!(self, C => C::value(x))
    }

    /// dy/dx at x.
    pub fn slope(self, x: f32) -> f32 {
        with_curve!(self, C => C::slope(x))
    }

    /// dy/dx where the output is y: every activation here can be differentiated knowing its output alone.
    pub fn slope_from_output(self, y: f32) -> f32 {
        with_curve!(self, C => C::slope_from_output(y))
    }

    /// Replaces each x by its y. Vectorised, on the calling thread: for fused operations to call on a block that
    /// is still in the cache.
    pub fn apply(self, values: &mut [f32]) {
        if self != Activation::Identity {
            with_curve!(self, C => cpu::apply::<C>(values));
        }
    }

    /// `dx = dy * slope`, from the outputs y. Vectorised, on the calling thread.
    pub fn pull_back(self, y: &[f32], dy: &[f32], dx: &mut [f32]) {
        debug_assert!(y.len() == dy.len() && y.len() == dx.len());
        with_curve!(self, C => cpu::pull_back::<C>(y, dy, dx));
    }

    /// The gradient before the activation, from its output `y` and the gradient `dy` of that. On all threads.
    pub fn gradient(self, y: &Tensor, dy: &Tensor) -> Tensor {
        if self == Activation::Identity {
            return dy.detach();
        }
        let mut dx = Tensor::scratch(dy.shape());
        let blocks = y.data().par_chunks(BLOCK).zip(dy.data().par_chunks(BLOCK));
        dx.data_mut().par_chunks_mut(BLOCK).zip(blocks).for_each(|(dx, (y, dy))| self.pull_back(y, dy, dx));
        dx
    }
}

/// The activation of every element of `x`, of any shape. Gradient: dy times the slope, found from the output.
///
/// # Errors
/// None of its own.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    apply_one(activation, &[x])
}

impl Operation for Activation {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let x = inputs[0];
        let mut y = Tensor::scratch(x.shape());
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
}
