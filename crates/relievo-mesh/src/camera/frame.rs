//! The axes of a camera that looks at something.

use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor};

use crate::check::{as_matrix, as_vector, shape};
use crate::cuda::on_host;
use crate::vector::{Vector, add, cross, length, normalise, normalise_gradient, scale, sub};

/// The rotation `[3, 3]` from the world into the camera at `eye` that looks at the position `at`; all inputs `[3]`.
///
/// Its rows are X = n(up x Z), Y = n(Z x X) and Z = n(at - eye), n(v) = v / max(|v|, 1e-5). Gradient: exact in all three.
/// Source: Kato et al. 2018, the published code's `look_at`.
///
/// # Errors
/// If a shape is another, a number is not finite, `eye` and `at` are the same, or `up` is parallel to the view.
pub fn look_at_rotation(eye: &Tensor, at: &Tensor, up: &Tensor) -> Result<Tensor> {
    on_host(Frame, &[at, up, eye])
}

/// [`look_at_rotation`] for a camera that looks along `direction`.
///
/// # Errors
/// As [`look_at_rotation`].
pub fn look_rotation(direction: &Tensor, up: &Tensor) -> Result<Tensor> {
    on_host(Frame, &[direction, up])
}

/// Inputs: a direction and up; or a target, up, and the eye.
struct Frame;

/// The unnormalised axes.
struct Axes {
    x: Vector,
    y: Vector,
    z: Vector,
}

impl Axes {
    fn new(forward: Vector, up: Vector) -> Self {
        let unit_z = normalise(forward);
        let x = cross(up, unit_z);
        Self { x, y: cross(unit_z, normalise(x)), z: forward }
    }
}

/// The direction of the view.
fn forward(inputs: &[Tensor]) -> Vector {
    let towards = as_vector(&inputs[0]);
    inputs.get(2).map_or(towards, |eye| sub(towards, as_vector(eye)))
}

impl Operation for Frame {
    fn name(&self) -> &'static str {
        "look_at"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        for (input, what) in inputs.iter().zip(["the target", "up", "eye"]) {
            shape(self.name(), what, input, &[3])?;
        }
        let owned: Vec<Tensor> = inputs.iter().map(|input| input.detach()).collect();
        let (view, up) = (forward(&owned), as_vector(inputs[1]));
        if !view.iter().chain(&up).all(|x| x.is_finite()) {
            let detail = format!("the view {view:?} or up {up:?} is not finite");
            return Err(Error::shape(self.name(), detail));
        }
        if length(view) <= 1e-5 {
            return Err(Error::shape(self.name(), "the camera looks at its own place; move eye or target"));
        }
        let axes = Axes::new(view, up);
        if length(axes.x) <= 1e-5 * length(up).max(1.0) {
            let detail = format!("up {up:?} is parallel to the view {view:?}; choose another");
            return Err(Error::shape(self.name(), detail));
        }
        inputs.iter().for_each(|input| context.save(input));
        let rotation = [axes.x, axes.y, axes.z].map(normalise);
        Ok(vec![Tensor::new(rotation.as_flattened(), [3, 3])?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let up = as_vector(&backward.saved[1]);
        let axes = Axes::new(forward(backward.saved), up);
        let [gx, gy, gz] = as_matrix(backward.gradient());
        let [x, z] = [axes.x, axes.z].map(normalise);
        let gy = normalise_gradient(axes.y, gy);
        let gx = normalise_gradient(axes.x, add(gx, cross(gy, z)));
        let gz = add(gz, add(cross(x, gy), cross(gx, up)));
        let gz = normalise_gradient(axes.z, gz);
        let vector = |v: Vector| Tensor::new(&v, [3]).map(Some);
        let mut gradients = vec![vector(gz)?, vector(cross(z, gx))?];
        if backward.saved.len() == 3 {
            gradients.push(vector(scale(gz, -1.0))?);
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::testing::{Tolerance, assert_gradients};

    fn vector(v: Vector) -> Tensor {
        Tensor::new(&v, [3]).unwrap()
    }

    #[test]
    fn the_axes_are_left_handed_with_z_away_from_the_viewer() {
        let rotation =
            look_at_rotation(&vector([0.0, 0.0, -3.0]), &vector([0.0; 3]), &vector([0.0, 1.0, 0.0])).unwrap();
        assert_eq!(rotation.data(), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        // From the right, x goes towards what is away.
        let rotation = look_rotation(&vector([-2.0, 0.0, 0.0]), &vector([0.0, 1.0, 0.0])).unwrap();
        assert_eq!(rotation.data(), [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0]);
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let inputs = [[0.3, -1.25, -2.5], [0.125, 0.5, 0.25], [0.25, 1.5, -0.375]].map(vector);
        let tolerance = Tolerance { norm: 1e-3, element: 1e-3 };
        assert_gradients(&inputs, 1.0 / 64.0, tolerance, |x| look_at_rotation(&x[0], &x[1], &x[2]));
        assert_gradients(&inputs[1..], 1.0 / 256.0, tolerance, |x| look_rotation(&x[0], &x[1]));
    }

    #[test]
    fn cameras_without_axes_are_refused() {
        let message =
            |eye, up| look_at_rotation(&vector(eye), &vector([0.0; 3]), &vector(up)).unwrap_err().to_string();
        let parallel = message([0.0, 2.0, 0.0], [0.0, 1.0, 0.0]);
        assert!(parallel.starts_with("look_at: up [0.0, 1.0, 0.0] is parallel to the view"), "{parallel}");
        assert!(message([0.0, 0.0, 2.0], [0.0; 3]).contains("parallel"));
        assert!(message([0.0; 3], [0.0, 1.0, 0.0]).contains("its own place"));
        assert!(message([f32::NAN, 0.0, 1.0], [0.0, 1.0, 0.0]).contains("not finite"));
    }
}
