//! Maps averaged under a Gaussian window.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, DataType, Error, Operation, Result, Tensor, apply_one};

/// The mean of `maps [B,H,W,C]` (f32) around each pixel, weighted by a Gaussian of that standard deviation (in pixels, up to
/// three of them on each side); at the border over the pixels that exist. `[B,H,W,C]`; with 0 the maps themselves.
/// Gradient: the adjoint.
///
/// # Errors
/// If maps do not have four axes or are not f32, or the deviation is below 0 or no number.
pub fn gaussian_mean(maps: &Tensor, deviation: f32) -> Result<Tensor> {
    if deviation == 0.0 {
        return Ok(maps.clone());
    }
    apply_one(GaussianMean { deviation }, &[maps])
}

struct GaussianMean {
    deviation: f32,
}

impl GaussianMean {
    fn check(&self, maps: &Tensor) -> Result<[usize; 4]> {
        let extents = maps.dims(self.name())?;
        if maps.data_type() == DataType::F32 && self.deviation > 0.0 && self.deviation.is_finite() {
            return Ok(extents);
        }
        let (kind, deviation) = (maps.data_type(), self.deviation);
        Err(Error::shape(self.name(), format!("maps of {kind:?} and a standard deviation of {deviation}")))
    }
}

impl Operation for GaussianMean {
    fn name(&self) -> &'static str {
        "gaussian_mean"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let extents = self.check(inputs[0])?;
        let mut means = Tensor::empty(inputs[0].shape());
        cpu::means(extents, self.deviation, inputs[0].data(), means.data_mut());
        Ok(vec![means])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        let mut gradient = Tensor::empty(dy.shape());
        cpu::adjoint(dy.dims(self.name())?, self.deviation, dy.data(), gradient.data_mut());
        Ok(vec![Some(gradient)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let extents = self.check(inputs[0])?;
        Ok(vec![cuda::means(extents, self.deviation, inputs[0], false)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let dy = backward.gradient();
        Ok(vec![Some(cuda::means(dy.dims(self.name())?, self.deviation, dy, true)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    #[test]
    fn even_maps_stay_and_a_point_becomes_a_window() {
        let even = gaussian_mean(&Tensor::full([1, 6, 9, 2], 0.7), 2.0).unwrap();
        assert!(even.data().iter().all(|x| (x - 0.7).abs() < 1e-6));
        let mut point = Tensor::zeros([1, 21, 21, 1]);
        point.data_mut()[10 * 21 + 10] = 1.0;
        let window = gaussian_mean(&point, 1.5).unwrap();
        let at = |down: usize, along: usize| window.data()[(10 + down) * 21 + 10 + along];
        assert!((window.data().iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!((at(2, 1) / at(0, 0) - (-0.5f32 * 5.0 / 2.25).exp()).abs() < 1e-6);
        assert_eq!(at(6, 0), 0.0);
        assert!(gaussian_mean(&point, f32::NAN).is_err() && gaussian_mean(&point, -1.0).is_err());
        assert_eq!(gaussian_mean(&point, 0.0).unwrap().data(), point.data());
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        for (shape, deviation) in [([2, 5, 7, 2], 1.0), ([1, 3, 2, 1], 4.0)] {
            let tolerance = Tolerance { norm: 1e-3, element: 1e-3 };
            assert_gradients(&[random_tensor(1, shape)], 0.25, tolerance, |x| {
                gaussian_mean(&x[0], deviation)
            });
        }
        assert_operation_independent_of_threads(&[random_tensor(2, [5, 17, 13, 2])], |x| {
            gaussian_mean(&x[0], 2.0)
        });
    }
}
