//! Positions on a sphere.

use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor};

use crate::check::{floats, matrix_of, vector_of};
use crate::cuda::on_host;

/// The position `[3]` at `distance` from the origin, `elevation` above the plane y = 0 and `azimuth` around the vertical axis:
/// (d cos e sin a, d sin e, -d cos e cos a). Each input has one number, angles in degrees. Computed in f64. Gradient: exact
/// in all three. Source: Kato et al. 2018, the published code's `get_points_from_angles`.
///
/// # Errors
/// If an input does not have one number.
pub fn points_from_angles(distance: &Tensor, elevation: &Tensor, azimuth: &Tensor) -> Result<Tensor> {
    on_host(PointsFromAngles, &[distance, elevation, azimuth])
}

struct PointsFromAngles;

impl Operation for PointsFromAngles {
    fn name(&self) -> &'static str {
        "points_from_angles"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        floats(self.name(), inputs)?;
        if let Some(other) = inputs.iter().find(|input| input.numel() != 1) {
            let detail = format!("needs one number each, got the shape {}", other.shape());
            return Err(Error::shape(self.name(), detail));
        }
        inputs.iter().for_each(|input| context.save(input));
        let [d, e, a] = [0, 1, 2].map(|i| f64::from(inputs[i].data()[0]));
        let (e, a) = (e.to_radians(), a.to_radians());
        Ok(vec![vector_of([d * e.cos() * a.sin(), d * e.sin(), -d * e.cos() * a.cos()])])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [d, e, a] = [0, 1, 2].map(|i| f64::from(backward.saved[i].data()[0]));
        let (e, a) = (e.to_radians(), a.to_radians());
        let g = [0, 1, 2].map(|i| f64::from(backward.gradient().data()[i]));
        let along = |v: [f64; 3]| v[0] * g[0] + v[1] * g[1] + v[2] * g[2];
        let degree = std::f64::consts::PI / 180.0;
        let by = [
            along([e.cos() * a.sin(), e.sin(), -e.cos() * a.cos()]),
            d * along([-e.sin() * a.sin(), e.cos(), e.sin() * a.cos()]) * degree,
            d * along([e.cos() * a.cos(), 0.0, e.cos() * a.sin()]) * degree,
        ];
        Ok(by.iter().zip(backward.saved).map(|(by, input)| Some(matrix_of(&[*by], &input.shape()))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::testing::{Tolerance, assert_gradients};

    #[test]
    fn angles_are_degrees_from_the_front() {
        let at = |d, e, a| {
            let place = points_from_angles(&Tensor::scalar(d), &Tensor::scalar(e), &Tensor::scalar(a));
            place.unwrap().data().to_vec()
        };
        let near = |got: Vec<f32>, is: [f32; 3]| {
            assert!(got.iter().zip(is).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {is:?}");
        };
        near(at(2.0, 0.0, 0.0), [0.0, 0.0, -2.0]);
        near(at(2.0, 0.0, 90.0), [2.0, 0.0, 0.0]);
        near(at(2.0, 90.0, 10.0), [0.0, 2.0, 0.0]);
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let inputs = [2.5, 30.0, -70.0].map(Tensor::scalar);
        let tolerance = Tolerance { norm: 1e-3, element: 1e-3 };
        assert_gradients(&inputs, 0.5, tolerance, |x| points_from_angles(&x[0], &x[1], &x[2]));
    }
}
