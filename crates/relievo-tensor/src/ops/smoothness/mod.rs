//! The smoothness of a depth map.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, Operation, Result, Tensor, apply_one};

struct Smoothness {
    /// The range of depths the result is relative to.
    range: f32,
}

/// `(mean |depth[v+1,u] - depth[v,u]| + mean |depth[v,u+1] - depth[v,u]|) / range`, over the whole batch: depth
/// `[B,H,W]`, range in the same unit, the result a scalar. An axis of one pixel has no differences and counts zero.
/// Gradient: the signs of the differences, zero where one is zero.
///
/// Source: the smoothness term of Wu, Rupprecht and Vedaldi's program (for cars).
///
/// # Errors
/// If depth does not have three axes.
pub fn smoothness(depth: &Tensor, range: f32) -> Result<Tensor> {
    apply_one(Smoothness { range }, &[depth])
}

impl Smoothness {
    /// The weight of one vertical and of one horizontal difference.
    fn weights(&self, [batch, height, width]: [usize; 3]) -> [f64; 2] {
        let differences =
            [batch * height.saturating_sub(1) * width, batch * height * width.saturating_sub(1)];
        differences.map(|count| if count == 0 { 0.0 } else { 1.0 / (count as f64 * f64::from(self.range)) })
    }
}

impl Operation for Smoothness {
    fn name(&self) -> &'static str {
        "smoothness"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let depth = inputs[0];
        let extents = depth.dims(self.name())?;
        let [down, along] = self.weights(extents);
        let [down_sum, along_sum] = cpu::absolute_differences(extents, depth.data());
        context.save(depth);
        Ok(vec![Tensor::scalar((down * down_sum + along * along_sum) as f32)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let depth = &backward.saved[0];
        let extents = depth.dims(self.name())?;
        let dy = f64::from(backward.gradient().item()?);
        let weights = self.weights(extents).map(|weight| (dy * weight) as f32);
        let mut gradient = Tensor::empty(depth.shape());
        cpu::gradient(extents, weights, depth.data(), gradient.data_mut());
        Ok(vec![Some(gradient)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let extents = inputs[0].dims(self.name())?;
        context.save(inputs[0]);
        Ok(vec![cuda::forward(extents, self.weights(extents), inputs[0])?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let depth = &backward.saved[0];
        let extents = depth.dims(self.name())?;
        Ok(vec![Some(cuda::backward(extents, self.weights(extents), depth, backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_multiples, random_tensor,
    };

    #[test]
    fn a_slope_has_its_slope() {
        // 2 per row, 3 per column, range 10.
        let depth: Vec<f32> = (0..12).map(|i| (2 * (i / 4) + 3 * (i % 4)) as f32).collect();
        let depth = Tensor::new(&[depth.clone(), depth].concat(), [2, 3, 4]).unwrap();
        assert_eq!(smoothness(&depth, 10.0).unwrap().item().unwrap(), 0.5);
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        for shape in [[2, 5, 7], [1, 1, 6], [3, 4, 1]] {
            let depth = [random_multiples(1, shape, 3)];
            let tolerance = Tolerance { norm: 1e-4, element: 1e-4 };
            assert_gradients(&depth, 1.0 / 32.0, tolerance, |x| smoothness(&x[0], 0.2));
        }
        assert_operation_independent_of_threads(&[random_tensor(2, [5, 31, 33])], |x| smoothness(&x[0], 0.2));
    }

    #[test]
    fn flat_and_tiny_maps_have_no_gradient() {
        for depth in [Tensor::full([2, 4, 4], 1.0), Tensor::full([1, 1, 1], 1.0)] {
            let tape = Tape::new();
            let depth = tape.watch(&depth);
            let y = smoothness(&depth, 0.2).unwrap();
            assert_eq!(y.item().unwrap(), 0.0);
            assert!(tape.backward(&y).unwrap().get(&depth).unwrap().data().iter().all(|dx| *dx == 0.0));
        }
    }
}
