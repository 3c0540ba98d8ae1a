//! From the camera onto the screen.

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

use crate::check::{as_matrix, as_vectors, floats, matrix_of, shape, vectors};
use crate::cuda::{camera as gpu, on_device};

/// Vertices on the screen, of a perspective whose **half** field of view is `half_angle` (one number, degrees).
///
/// `seen` `[V, 3]` in the camera's axes; result `[V, 3]`: x / (z tan a) / `aspect`, y / (z tan a), z. `aspect` is the width
/// of the image over its height: the angle is the vertical one. Gradient: exact in `seen` and `half_angle`. Source: Kato
/// et al. 2018, the published code's `perspective`.
///
/// # Errors
/// If a shape is another, or the angle is not between 0 and 90 degrees.
pub fn perspective(seen: &Tensor, half_angle: &Tensor, aspect: f32) -> Result<Tensor> {
    floats("perspective", &[half_angle])?;
    let angle = half_angle.item()?;
    if !(angle > 0.0 && angle < 90.0) {
        let detail = format!("half the field of view must be between 0 and 90 degrees, not {angle}");
        return Err(Error::shape("perspective", detail));
    }
    apply_one(Perspective { aspect, angle }, &[seen, &on_device(half_angle, seen.device())?])
}

/// Vertices on the screen, seen from infinitely far: x / `aspect`, y, z. Gradient: exact.
///
/// # Errors
/// If `seen` is not `[V, 3]`.
pub fn orthographic(seen: &Tensor, aspect: f32) -> Result<Tensor> {
    apply_one(Orthographic { aspect }, &[seen])
}

/// Vertices on the screen, seen by a camera of the matrix `intrinsics` `[3, 3]` with a lens of the distortion coefficients
/// `distortion` `[5]` (k1, k2, p1, p2, k3).
///
/// With x = X / (Z + 1e-9), y likewise, r2 = x^2 + y^2 and g = 1 + k1 r2 + k2 r2^2 + k3 r2^3: x" = x g + 2 p1 x y +
/// p2 (r2 + 2 x^2), y" = y g + p1 (r2 + 2 y^2) + 2 p2 x y, and (u, v) are the first two rows of K (x", y", 1). The image
/// spans u from 0 to `size[0]` and v, downwards, from 0 to `size[1]`: result `[V, 3]`: 2 u / width - 1, 1 - 2 v / height, Z.
/// Gradient: exact in all three. Source: Kato et al. 2018, the published code's `projection`.
///
/// # Errors
/// If a shape is another, or a size is not positive.
pub fn project(seen: &Tensor, intrinsics: &Tensor, distortion: &Tensor, size: [f32; 2]) -> Result<Tensor> {
    apply_one(Project { size }, &[seen, intrinsics, distortion])
}

/// Screen positions of all vertices.
fn map(seen: &Tensor, place: impl Fn([f32; 3]) -> [f32; 3] + Sync) -> Tensor {
    let mut screen = Tensor::empty(seen.shape());
    let pairs = screen.data_mut().as_chunks_mut::<3>().0.par_iter_mut().with_min_len(1 << 14);
    pairs.zip(as_vectors(seen)).for_each(|(to, from)| *to = place(*from));
    screen
}

/// Gradients of all vertices. One that no visible face has may be anywhere, also where the derivative does not exist.
fn map_gradients(
    seen: &Tensor,
    gradient: &Tensor,
    mut each: impl FnMut([f32; 3], [f32; 3]) -> [f32; 3],
) -> Tensor {
    let mut result = Tensor::empty(seen.shape());
    let pairs = as_vectors(seen).iter().zip(as_vectors(gradient));
    for (to, (from, g)) in result.data_mut().as_chunks_mut::<3>().0.iter_mut().zip(pairs) {
        *to = if *g == [0.0; 3] { [0.0; 3] } else { each(*from, *g) };
    }
    result
}

struct Perspective {
    aspect: f32,
    /// In degrees, also the second input, which has the gradient.
    angle: f32,
}

impl Perspective {
    /// The tangent of the angle.
    fn width(&self) -> f32 {
        self.angle.to_radians().tan()
    }

    /// The derivative of 1 / width by the angle.
    fn slope(&self) -> f64 {
        -1.0 / f64::from(self.angle.to_radians().sin()).powi(2) * (std::f64::consts::PI / 180.0)
    }
}

impl Operation for Perspective {
    fn name(&self) -> &'static str {
        "perspective"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        vectors(self.name(), "vertices", inputs[0])?;
        inputs.iter().for_each(|input| context.save(input));
        let (width, aspect) = (self.width(), self.aspect);
        Ok(vec![map(inputs[0], |[x, y, z]| [x / z / width / aspect, y / z / width, z])])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (seen, angle) = (&backward.saved[0], &backward.saved[1]);
        let width = self.width();
        let mut of_inverse_width = 0.0;
        let dseen = map_gradients(seen, backward.gradient(), |[x, y, z], [gx, gy, gz]| {
            let gx = gx / self.aspect;
            let along = (gx * x + gy * y) / z;
            of_inverse_width += f64::from(along);
            [gx / z / width, gy / z / width, gz - along / z / width]
        });
        Ok(vec![Some(dseen), Some(matrix_of(&[of_inverse_width * self.slope()], &angle.shape()))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        vectors(self.name(), "vertices", inputs[0])?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![gpu::perspective(inputs[0], self.width(), self.aspect)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        gpu::perspective_gradients(backward, [self.width(), self.aspect, self.slope() as f32])
    }
}

struct Orthographic {
    aspect: f32,
}

impl Operation for Orthographic {
    fn name(&self) -> &'static str {
        "orthographic"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        vectors(self.name(), "vertices", inputs[0])?;
        Ok(vec![map(inputs[0], |[x, y, z]| [x / self.aspect, y, z])])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(map(backward.gradient(), |[x, y, z]| [x / self.aspect, y, z]))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        vectors(self.name(), "vertices", inputs[0])?;
        Ok(vec![gpu::orthographic(inputs[0], self.aspect)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(gpu::orthographic(backward.gradient(), self.aspect)?)])
    }
}

struct Project {
    size: [f32; 2],
}

/// A point of the plane at distance 1, and what the lens makes of it.
struct Distorted {
    place: [f32; 2],
    /// Square of the distance from the axis.
    r2: f32,
    /// The radial factor and its derivative by `r2`.
    radial: [f32; 2],
    to: [f32; 2],
}

impl Distorted {
    #[inline(always)]
    fn new([k1, k2, p1, p2, k3]: [f32; 5], [x, y, z]: [f32; 3]) -> Self {
        let [x, y] = [x / (z + 1e-9), y / (z + 1e-9)];
        let r2 = x * x + y * y;
        let g = 1.0 + k1 * r2 + k2 * r2 * r2 + k3 * r2 * r2 * r2;
        let slope = k1 + 2.0 * k2 * r2 + 3.0 * k3 * r2 * r2;
        let to = [
            x * g + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * g + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        ];
        Self { place: [x, y], r2, radial: [g, slope], to }
    }
}

fn coefficients(tensor: &Tensor) -> [f32; 5] {
    std::array::from_fn(|i| tensor.data()[i])
}

impl Project {
    fn check(&self, inputs: &[&Tensor]) -> Result<()> {
        vectors(self.name(), "vertices", inputs[0])?;
        shape(self.name(), "the intrinsics", inputs[1], &[3, 3])?;
        shape(self.name(), "the distortion", inputs[2], &[5])?;
        if !self.size.iter().all(|size| *size > 0.0 && size.is_finite()) {
            let detail = format!("the image must have a size, not {:?}", self.size);
            return Err(Error::shape(self.name(), detail));
        }
        Ok(())
    }
}

impl Operation for Project {
    fn name(&self) -> &'static str {
        "project"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        let ([row_u, row_v, _], distortion) = (as_matrix(inputs[1]), coefficients(inputs[2]));
        let [width, height] = self.size;
        Ok(vec![map(inputs[0], |seen| {
            let [x, y] = Distorted::new(distortion, seen).to;
            let [u, v] = [row_u, row_v].map(|row| row[0] * x + row[1] * y + row[2]);
            [2.0 * (u - width / 2.0) / width, 2.0 * ((height - v) - height / 2.0) / height, seen[2]]
        })])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [seen, intrinsics, distortion] = [0, 1, 2].map(|input| &backward.saved[input]);
        let ([row_u, row_v, _], lens) = (as_matrix(intrinsics), coefficients(distortion));
        let [_, _, p1, p2, _] = lens;
        let (mut of_intrinsics, mut of_lens) = ([0.0f64; 9], [0.0f64; 5]);
        let dseen = map_gradients(seen, backward.gradient(), |point, [gx, gy, gz]| {
            let Distorted { place: [x, y], r2, radial: [g, slope], to } = Distorted::new(lens, point);
            let [gu, gv] = [2.0 / self.size[0] * gx, -2.0 / self.size[1] * gy];
            for (row, g) in [gu, gv].into_iter().enumerate() {
                for (column, by) in [to[0], to[1], 1.0].into_iter().enumerate() {
                    of_intrinsics[3 * row + column] += f64::from(g * by);
                }
            }
            let [ga, gb] = [0, 1].map(|i| row_u[i] * gu + row_v[i] * gv);
            let along = ga * x + gb * y;
            let by_coefficient = [
                along * r2,
                along * r2 * r2,
                ga * 2.0 * x * y + gb * (r2 + 2.0 * y * y),
                ga * (r2 + 2.0 * x * x) + gb * 2.0 * x * y,
                along * r2 * r2 * r2,
            ];
            of_lens.iter_mut().zip(by_coefficient).for_each(|(sum, by)| *sum += f64::from(by));
            let mixed = 2.0 * x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y;
            let gx = ga * (g + 2.0 * x * x * slope + 2.0 * p1 * y + 6.0 * p2 * x) + gb * mixed;
            let gy = ga * mixed + gb * (g + 2.0 * y * y * slope + 6.0 * p1 * y + 2.0 * p2 * x);
            let z = point[2] + 1e-9;
            [gx / z, gy / z, gz - (gx * x + gy * y) / z]
        });
        let dintrinsics = matrix_of(&of_intrinsics, &[3, 3]);
        Ok(vec![Some(dseen), Some(dintrinsics), Some(matrix_of(&of_lens, &[5]))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![gpu::project(inputs, self.size)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        gpu::project_gradients(backward, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::testing::{Tolerance, assert_gradients, random_tensor};

    /// Points between depths 1.5 and 2.5.
    fn points() -> Tensor {
        let mut points = random_tensor(4, [6, 3]);
        points.data_mut().iter_mut().skip(2).step_by(3).for_each(|z| *z = 2.0 + 0.5 * *z);
        points
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let tolerance = Tolerance { norm: 1e-3, element: 1e-3 };
        let angle = Tensor::scalar(25.0);
        assert_gradients(&[points(), angle], 1.0 / 64.0, tolerance, |x| perspective(&x[0], &x[1], 1.5));
        assert_gradients(&[points()], 1.0 / 64.0, tolerance, |x| orthographic(&x[0], 0.5));
        let intrinsics = [300.0, 8.0, 170.0, 0.0, 280.0, 110.0, 0.0, 0.0, 1.0];
        let distortion = [-0.25, 0.125, 0.02, -0.03, 0.05];
        let inputs =
            [points(), Tensor::new(&intrinsics, [3, 3]).unwrap(), Tensor::new(&distortion, [5]).unwrap()];
        let wide = Tolerance { norm: 2e-3, element: 2e-3 };
        assert_gradients(&inputs, 1.0 / 64.0, wide, |x| project(&x[0], &x[1], &x[2], [320.0, 240.0]));
    }

    #[test]
    fn a_vertex_without_gradient_may_lie_in_the_plane_of_the_eye() {
        let tape = relievo_tensor::Tape::new();
        let seen = tape.watch(&Tensor::new(&[0.0, 0.0, 0.0, 1.0, 1.0, 2.0], [2, 3]).unwrap());
        let screen = perspective(&seen, &Tensor::scalar(45.0), 1.0).unwrap();
        let only_second = Tensor::new(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0], [2, 3]).unwrap();
        let gradients = tape.backward_from(&[(&screen, only_second)]).unwrap();
        let gradient = gradients.get(&seen).unwrap().data();
        assert_eq!(gradient[..3], [0.0; 3]);
        assert!(gradient.iter().all(|g| g.is_finite()) && gradient[3] == 0.5);
    }

    #[test]
    fn impossible_lenses_are_refused() {
        let message = |angle| perspective(&points(), &Tensor::scalar(angle), 1.0).unwrap_err().to_string();
        assert!(message(0.0).contains("between 0 and 90 degrees, not 0"));
        assert!(message(90.0).contains("between") && message(f32::NAN).contains("between"));
    }
}
