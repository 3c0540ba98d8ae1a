//! The light: an ambient part everywhere and a diffuse part from one direction.

mod cuda;

pub(crate) use cuda::KERNELS;

use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

use crate::check_type;

/// Numbers of a light: ambient strength, diffuse strength, direction x, y, z.
pub(crate) const LIGHT: usize = 5;
const RAW: usize = 4;

/// The ranges of the two strengths, `[least, greatest]`, in units of full albedo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LightRange {
    /// Ambient strength, `[0, 1]` in the method.
    pub ambient: [f32; 2],
    /// Diffuse strength, `[0, 1]` in the method, `[0.5, 1]` for cars.
    pub diffuse: [f32; 2],
}

impl Default for LightRange {
    fn default() -> Self {
        Self { ambient: [0.0, 1.0], diffuse: [0.0, 1.0] }
    }
}

/// Lights from the light network's output.
///
/// `raw` `[B, 4]`, each in [-1, 1] (the network ends in tanh): two strengths, mapped to their ranges by
/// `least + (1 + x) / 2 * (greatest - least)`, and the direction's x and y, from which the direction is
/// `(x, y, 1) / norm`. Result `[B, 5]`: ambient a, diffuse b, direction. Gradient: strengths
/// `dy (greatest - least) / 2`; direction `(g - l (l.g)) / norm` in x and y, l the direction and g its gradient.
/// Source: Wu et al. 2020, section 3.3.
///
/// # Errors
/// If `raw` is not `[B, 4]`.
pub fn light_from_raw(raw: &Tensor, range: LightRange) -> Result<Tensor> {
    apply_one(LightFromRaw { range }, &[raw])
}

/// Number of lights in a tensor `[B, 5]` of f32.
pub(crate) fn lights(operation: &'static str, light: &Tensor) -> Result<usize> {
    check_type(operation, &[light])?;
    match light.dims::<2>(operation)? {
        [batch, LIGHT] => Ok(batch),
        _ => Err(Error::shape(operation, format!("needs lights [B, 5], got the shape {}", light.shape()))),
    }
}

struct LightFromRaw {
    range: LightRange,
}

/// The direction `(x, y, 1) / norm` and the norm.
fn direction(x: f32, y: f32) -> ([f32; 3], f32) {
    let norm = (x * x + y * y + 1.0).sqrt();
    ([x / norm, y / norm, 1.0 / norm], norm)
}

impl LightFromRaw {
    /// The number of lights.
    fn check(&self, raw: &Tensor) -> Result<usize> {
        check_type(self.name(), &[raw])?;
        match raw.dims::<2>(self.name())? {
            [batch, RAW] => Ok(batch),
            _ => Err(Error::shape(self.name(), format!("needs [B, {RAW}], got the shape {}", raw.shape()))),
        }
    }
}

impl Operation for LightFromRaw {
    fn name(&self) -> &'static str {
        "light_from_raw"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs[0])?;
        context.save(inputs[0]);
        let mut light = Tensor::empty([batch, LIGHT]);
        let into = |x: f32, [least, greatest]: [f32; 2]| least + (1.0 + x) / 2.0 * (greatest - least);
        for (light, raw) in light.data_mut().chunks_exact_mut(LIGHT).zip(inputs[0].data().chunks_exact(RAW)) {
            light[0] = into(raw[0], self.range.ambient);
            light[1] = into(raw[1], self.range.diffuse);
            light[2..].copy_from_slice(&direction(raw[2], raw[3]).0);
        }
        Ok(vec![light])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let raw = &backward.saved[0];
        let mut draw = Tensor::empty(raw.shape());
        let pairs = raw.data().chunks_exact(RAW).zip(backward.gradient().data().chunks_exact(LIGHT));
        for (draw, (raw, dy)) in draw.data_mut().chunks_exact_mut(RAW).zip(pairs) {
            let (l, norm) = direction(raw[2], raw[3]);
            let along = l[0] * dy[2] + l[1] * dy[3] + l[2] * dy[4];
            draw[0] = dy[0] * (self.range.ambient[1] - self.range.ambient[0]) / 2.0;
            draw[1] = dy[1] * (self.range.diffuse[1] - self.range.diffuse[0]) / 2.0;
            draw[2] = (dy[2] - l[0] * along) / norm;
            draw[3] = (dy[3] - l[1] * along) / norm;
        }
        Ok(vec![Some(draw)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs[0])?;
        context.save(inputs[0]);
        Ok(vec![cuda::forward(self.range, inputs[0], batch)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cuda::backward(self.range, &backward.saved[0], backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::testing::{Tolerance, assert_gradients, random_tensor};

    #[test]
    fn strengths_keep_their_ranges_and_directions_their_length() {
        let raw = Tensor::new(&[-1.0, 1.0, 0.0, 0.0, 1.0, -1.0, 0.6, -0.8], [2, 4]).unwrap();
        let range = LightRange { ambient: [0.1, 0.7], diffuse: [0.5, 1.0] };
        let light = light_from_raw(&raw, range).unwrap();
        let [first, second] = [0, 5].map(|at| &light.data()[at..at + 5]);
        assert_eq!(first, [0.1, 1.0, 0.0, 0.0, 1.0]);
        assert!((second[0] - 0.7).abs() < 1e-6 && second[1] == 0.5);
        let half = 0.5f32.sqrt();
        for (got, is) in second[2..].iter().zip([0.6 * half, -0.8 * half, half]) {
            assert!((got - is).abs() < 1e-6);
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let range = LightRange { ambient: [0.0, 1.0], diffuse: [0.5, 1.0] };
        let raw = random_tensor(5, [3, 4]);
        let tolerance = Tolerance { norm: 1e-3, element: 1e-3 };
        assert_gradients(&[raw], 1.0 / 64.0, tolerance, |x| light_from_raw(&x[0], range));
    }

    #[test]
    fn another_number_of_columns_is_refused() {
        let error = light_from_raw(&Tensor::zeros([2, 3]), LightRange::default()).unwrap_err().to_string();
        assert_eq!(error, "light_from_raw: needs [B, 4], got the shape [2, 3]");
    }
}
