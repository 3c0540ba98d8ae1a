//! What tests of operations share: the gradient check, comparisons of devices and of numbers of threads, random tensors.
//! For the tests of this crate and of crates that define operations of their own; behind the feature `testing`.

mod cuda;
mod devices;
mod gradcheck;

pub use cuda::{assert_kernels_compile, assert_lowerings_agree};
pub use devices::{
    assert_devices_agree, assert_independent_of_threads, assert_operation_independent_of_threads,
};
pub use gradcheck::{Tolerance, assert_gradients};

pub use crate::ops::conv2d::bench as conv2d;
use crate::{Random, Tensor};

/// A tensor of numbers uniform in [-1, 1), the same ones for the same seed.
pub fn random_tensor<const N: usize>(seed: u64, shape: [usize; N]) -> Tensor {
    let random = Random::new(seed, 0);
    let elements: Vec<f32> =
        (0..shape.iter().product::<usize>()).map(|i| 2.0 * random.uniform(i as u64) - 1.0).collect();
    Tensor::new(&elements, shape).expect("as many numbers as the shape has elements")
}

/// A tensor of random multiples of 2^-bits in [-1, 1]: two of them are equal or at least that far apart, so that a
/// difference with a smaller step does not meet the kink of |a - b| but where a = b, in the middle of it.
pub fn random_multiples<const N: usize>(seed: u64, shape: [usize; N], bits: u32) -> Tensor {
    let unit = (1u32 << bits) as f32;
    let elements: Vec<f32> =
        random_tensor(seed, shape).data().iter().map(|x| (x * unit).round() / unit).collect();
    Tensor::new(&elements, shape).expect("as many numbers as the shape has elements")
}

/// The 2-norm of `got - right`, relative to that of `right` (absolute where that is zero).
pub fn distance(got: &[f32], right: &[f64]) -> f64 {
    assert_eq!(got.len(), right.len(), "the lengths differ");
    let off: f64 = got.iter().zip(right).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let all: f64 = right.iter().map(|b| b * b).sum();
    if all > 0.0 { (off / all).sqrt() } else { off.sqrt() }
}
