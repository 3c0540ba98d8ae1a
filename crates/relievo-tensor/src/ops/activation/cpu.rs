//! The activations as types, so that loops over them are compiled for each.

use super::functions::{exp, ln_1p, one_minus_exp, tanh};
use crate::ops::vectorised::vectorised;

/// An activation and its derivative. Implementations are `#[inline(always)]` and free of branches, for
/// vectorised loops.
pub trait Curve {
    /// y at x.
    fn value(x: f32) -> f32;
    /// dy/dx at x.
    fn slope(x: f32) -> f32;
    /// dy/dx where the output is y.
    fn slope_from_output(y: f32) -> f32;
}

pub struct Identity;
pub struct Relu;
pub struct LeakyRelu;
pub struct Tanh;
pub struct Softplus;

/// The slope of [`LeakyRelu`] below zero. Kernels have it too: `LEAKY_SLOPE` in `prelude.cuh`.
const LEAKY_SLOPE: f32 = 0.2;

/// Evaluates an expression with the type that stands for an [`super::Activation`].
macro_rules! with_curve {
    ($activation:expr, $curve:ident => $body:expr) => {
        match $activation {
            $crate::ops::Activation::Identity => {
                type $curve = $crate::ops::activation::cpu::Identity;
                $body
            }
            $crate::ops::Activation::Relu => {
                type $curve = $crate::ops::activation::cpu::Relu;
                $body
            }
            $crate::ops::Activation::LeakyRelu => {
                type $curve = $crate::ops::activation::cpu::LeakyRelu;
                $body
            }
            $crate::ops::Activation::Tanh => {
                type $curve = $crate::ops::activation::cpu::Tanh;
                $body
            }
            $crate::ops::Activation::Softplus => {
                type $curve = $crate::ops::activation::cpu::Softplus;
                $body
            }
        }
    };
}
pub(crate) use with_curve;

impl Curve for Identity {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn slope(_: f32) -> f32 {
        1.0
    }
    #[inline(always)]
    fn slope_from_output(_: f32) -> f32 {
        1.0
    }
}

// Comparisons are written so that NaN passes through, with slope 1: a broken network must not look like a quiet one.
impl Curve for Relu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        if x <= 0.0 { 0.0 } else { x }
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        if x <= 0.0 { 0.0 } else { 1.0 }
    }
    #[inline(always)]
    fn slope_from_output(y: f32) -> f32 {
        Self::slope(y)
    }
}

impl Curve for LeakyRelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        if x > 0.0 { x } else { LEAKY_SLOPE * x }
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        if x <= 0.0 { LEAKY_SLOPE } else { 1.0 }
    }
    #[inline(always)]
    fn slope_from_output(y: f32) -> f32 {
        // The output has the sign of the input.
        Self::slope(y)
    }
}

impl Curve for Tanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        tanh(x)
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        Self::slope_from_output(tanh(x))
    }
    #[inline(always)]
    fn slope_from_output(y: f32) -> f32 {
        (1.0 - y) * (1.0 + y)
    }
}

impl Curve for Softplus {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        let y = (if x < 0.0 { 0.0 } else { x }) + ln_1p(exp(-x.abs()));
        if x > 20.0 { x } else { y }
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let y = 1.0 / (1.0 + exp(-x));
        if x > 20.0 { 1.0 } else { y }
    }
    #[inline(always)]
    fn slope_from_output(y: f32) -> f32 {
        // sigmoid(x) = 1 - e^-y
        one_minus_exp(y)
    }
}

vectorised! {
    /// Replaces each x by its y.
    pub fn apply<C: Curve>(values: &mut [f32]) {
        for value in values {
            *value = C::value(*value);
        }
    }

    /// `dx = dy * slope`, from the outputs y.
    pub fn pull_back<C: Curve>(y: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
            *dx = dy * C::slope_from_output(*y);
        }
    }
}
