//! The viewpoint as a rigid motion of the surface in front of a camera that stays.

mod cuda;

pub(crate) use cuda::{KERNELS, view_gradient, view_sums};

use rayon::prelude::*;
use relievo_mesh::vector::{self, dot, sub};
use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

use crate::{Camera, check_shared, check_type, sums_of_shared};

/// The point about which a viewpoint rotates: on the optical axis at the middle of the depths.
pub(crate) const PIVOT: [f32; 3] = [0.0, 0.0, 1.0];

/// Numbers of a viewpoint: rotations about x, y, z in radians, translations along x, y, z.
pub(crate) const VIEW: usize = 6;

type Matrix = [[f64; 3]; 3];

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

/// The rotations about x, y and z of which a viewpoint consists, and their derivatives in the angle.
fn axis_rotations(angles: [f32; 3]) -> ([Matrix; 3], [Matrix; 3]) {
    let [(sx, cx), (sy, cy), (sz, cz)] = angles.map(|angle| f64::from(angle).sin_cos());
    let rotations = [
        [[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]],
        [[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]],
        [[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]],
    ];
    let derivatives = [
        [[0.0, 0.0, 0.0], [0.0, -sx, -cx], [0.0, cx, -sx]],
        [[-sy, 0.0, cy], [0.0, 0.0, 0.0], [-cy, 0.0, -sy]],
        [[-sz, -cz, 0.0], [cz, -sz, 0.0], [0.0, 0.0, 0.0]],
    ];
    (rotations, derivatives)
}

/// `R = Rz Ry Rx`.
fn compose([x, y, z]: [&Matrix; 3]) -> Matrix {
    product(z, &product(y, x))
}

/// The rotation matrix `R = Rz Ry Rx` of three angles in radians, rows first: it turns column vectors.
pub(crate) fn rotation(angles: [f32; 3]) -> [[f32; 3]; 3] {
    let ([x, y, z], _) = axis_rotations(angles);
    compose([&x, &y, &z]).map(|row| row.map(|r| r as f32))
}

/// A viewpoint, prepared for moving points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motion {
    /// The rotation about (0, 0, 1).
    pub rotation: [[f32; 3]; 3],
    /// Added after the rotation, in distances from the camera to the object.
    pub translation: [f32; 3],
}

impl Motion {
    /// The motion of a viewpoint: three angles in radians, three lengths.
    pub fn new(view: [f32; 6]) -> Self {
        let [x, y, z, tx, ty, tz] = view;
        Self { rotation: rotation([x, y, z]), translation: [tx, ty, tz] }
    }

    /// The motions of a tensor `[B, 6]`.
    pub(crate) fn from_views(views: &Tensor) -> Vec<Self> {
        let six = |view: &[f32]| std::array::from_fn(|i| view[i]);
        views.data().chunks_exact(VIEW).map(|view| Self::new(six(view))).collect()
    }

    /// `R (P - c) + c + t`.
    pub fn apply(&self, point: [f32; 3]) -> [f32; 3] {
        let q = sub(point, PIVOT);
        std::array::from_fn(|i| dot(self.rotation[i], q) + PIVOT[i] + self.translation[i])
    }

    /// `R^T (P - t - c) + c`: undoes [`Motion::apply`].
    pub(crate) fn apply_inverse(&self, point: [f32; 3]) -> [f32; 3] {
        let q = sub(sub(point, self.translation), PIVOT);
        let turned = self.rotate_back(q);
        std::array::from_fn(|i| turned[i] + PIVOT[i])
    }

    /// `R v`.
    pub(crate) fn rotate(&self, v: [f32; 3]) -> [f32; 3] {
        vector::apply(&self.rotation, v)
    }

    /// `R^T v`.
    pub(crate) fn rotate_back(&self, v: [f32; 3]) -> [f32; 3] {
        vector::apply_transposed(&self.rotation, v)
    }
}

/// Sums over points of the gradient in a motion's twelve numbers.
#[derive(Clone, Copy, Default)]
pub(crate) struct MotionGradient {
    rotation: Matrix,
    translation: [f64; 3],
}

impl MotionGradient {
    /// Adds a point of [`Motion::apply`]: `gradient` is that of the moved point.
    pub(crate) fn add(&mut self, point: [f32; 3], gradient: [f32; 3]) {
        let q = sub(point, PIVOT);
        for (i, g) in gradient.into_iter().enumerate() {
            self.translation[i] += f64::from(g);
            for (sum, q) in self.rotation[i].iter_mut().zip(q) {
                *sum += f64::from(g * q);
            }
        }
    }

    /// Adds a point of [`Motion::apply_inverse`]: `gradient` is that of the moved point, `turned` that of the point.
    pub(crate) fn add_inverse(
        &mut self,
        motion: &Motion,
        point: [f32; 3],
        gradient: [f32; 3],
        turned: [f32; 3],
    ) {
        let q = sub(sub(point, motion.translation), PIVOT);
        for i in 0..3 {
            self.translation[i] -= f64::from(turned[i]);
            for (sum, g) in self.rotation[i].iter_mut().zip(gradient) {
                *sum += f64::from(q[i] * g);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        for i in 0..3 {
            self.translation[i] += other.translation[i];
            for j in 0..3 {
                self.rotation[i][j] += other.rotation[i][j];
            }
        }
    }

    /// The gradient in the viewpoint's six numbers.
    fn view_gradient(&self, view: &[f32]) -> [f32; VIEW] {
        let ([x, y, z], [dx, dy, dz]) = axis_rotations([view[0], view[1], view[2]]);
        let along = |derivative: Matrix| -> f32 {
            let terms = self.rotation.iter().flatten().zip(derivative.iter().flatten());
            terms.map(|(g, d)| g * d).sum::<f64>() as f32
        };
        let [tx, ty, tz] = self.translation.map(|t| t as f32);
        [
            along(compose([&dx, &y, &z])),
            along(compose([&x, &dy, &z])),
            along(compose([&x, &y, &dz])),
            tx,
            ty,
            tz,
        ]
    }

    /// The gradient `[B, 6]` of the views, from the sums of every row of every image, in their order.
    pub(crate) fn view_gradients(rows: &[Self], rows_per_image: usize, views: &Tensor) -> Tensor {
        let sums = sums_of_shared(rows, rows_per_image, views.numel() / VIEW, Self::merge);
        let mut gradient = Tensor::empty(views.shape());
        let pairs = gradient.data_mut().chunks_exact_mut(VIEW).zip(views.data().chunks_exact(VIEW));
        for ((gradient, view), sum) in pairs.zip(&sums) {
            gradient.copy_from_slice(&sum.view_gradient(view));
        }
        gradient
    }
}

/// Checks that `views` is `[B, 6]` of f32 with a B that divides the number of images.
pub(crate) fn check_views(operation: &'static str, images: usize, views: &Tensor) -> Result<()> {
    check_type(operation, &[views])?;
    match views.dims::<2>(operation)? {
        [count, VIEW] => check_shared(operation, images, count, "viewpoints"),
        _ => {
            Err(Error::shape(operation, format!("needs viewpoints [B, 6], got the shape {}", views.shape())))
        }
    }
}

/// `map` of every pixel's point and its image's motion: `[B, S, S, C]`, from depths `[B, S, S]` and views `[B', 6]`. One task
/// for each row.
pub(crate) fn map_points<const C: usize>(
    camera: Camera,
    depth: &Tensor,
    views: &Tensor,
    batch: usize,
    map: impl Fn(&Motion, [f32; 3]) -> [f32; C] + Sync,
) -> Tensor {
    let (size, slopes) = (camera.size, camera.slopes());
    let motions = Motion::from_views(views);
    let mut mapped = Tensor::empty([batch, size, size, C]);
    let lines = mapped.data_mut().par_chunks_mut(size * C).zip(depth.data().par_chunks(size));
    lines.enumerate().for_each(|(line, (mapped, depth))| {
        let motion = &motions[line / size % motions.len()];
        let y = slopes[line % size];
        for ((mapped, depth), x) in mapped.as_chunks_mut::<C>().0.iter_mut().zip(depth).zip(&slopes) {
            *mapped = map(motion, [depth * x, depth * y, *depth]);
        }
    });
    mapped
}

/// The gradients of [`map_points`] in depths and views, the two tensors saved. `gradient` gives that of a point from the
/// output's, and adds the point to the sums of the motion if the views' gradient is wanted.
pub(crate) fn differentiate_points<const C: usize>(
    camera: Camera,
    backward: &Backward<'_>,
    gradient: impl Fn(&Motion, [f32; 3], &[f32; C], Option<&mut MotionGradient>) -> [f32; 3] + Sync,
) -> Vec<Option<Tensor>> {
    let (depth, views) = (&backward.saved[0], &backward.saved[1]);
    let (size, slopes) = (camera.size, camera.slopes());
    let motions = Motion::from_views(views);
    let mut ddepth = Tensor::empty(depth.shape());
    let lines = depth.data().par_chunks(size).zip(backward.gradient().data().par_chunks(size * C));
    let lines = ddepth.data_mut().par_chunks_mut(size).zip(lines).enumerate();
    let sums: Vec<MotionGradient> = lines
        .map(|(line, (ddepth, (depth, dy)))| {
            let motion = &motions[line / size % motions.len()];
            let y = slopes[line % size];
            let mut sum = MotionGradient::default();
            let pairs = depth.iter().zip(dy.as_chunks::<C>().0).zip(&slopes);
            for (ddepth, ((depth, dy), x)) in ddepth.iter_mut().zip(pairs) {
                let sum = backward.wants(1).then_some(&mut sum);
                let dpoint = gradient(motion, [depth * x, depth * y, *depth], dy, sum);
                *ddepth = dpoint[0] * x + dpoint[1] * y + dpoint[2];
            }
            sum
        })
        .collect();
    let dviews = backward.wants(1).then(|| MotionGradient::view_gradients(&sums, size, views));
    vec![backward.wants(0).then_some(ddepth), dviews]
}

/// The surface grid of a depth map, moved by the image's viewpoint: pixel (u, v) of depth d is the point `P = d ((u -
/// c) / f, (v - c) / f, 1)` of the canonical view, and `P' = R (P - p) + p + t` with p = (0, 0, 1) and R =
/// Rz Ry Rx where it is seen.
///
/// `depth` `[B, S, S]`, S the camera's size; `view` `[B', 6]`, radians and lengths, B' a divisor of B (image i takes
/// view `i % B'`); result `[B, S, S, 3]`. Gradient in the depth: the output's gradient turned by R^T, times the pixel's
/// ray; in the view: exact, summed over the image in f64. Source: Wu et al. 2020, section 3.3.
///
/// # Errors
/// If the shapes do not fit each other or the camera.
pub fn move_surface(depth: &Tensor, view: &Tensor, camera: Camera) -> Result<Tensor> {
    apply_one(MoveSurface { camera }, &[depth, view])
}

struct MoveSurface {
    camera: Camera,
}

impl MoveSurface {
    /// The number of images.
    fn check(&self, inputs: &[&Tensor]) -> Result<usize> {
        let batch = self.camera.images(self.name(), inputs[0])?;
        check_views(self.name(), batch, inputs[1])?;
        Ok(batch)
    }
}

impl Operation for MoveSurface {
    fn name(&self) -> &'static str {
        "move_surface"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![map_points(self.camera, inputs[0], inputs[1], batch, Motion::apply)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(differentiate_points(self.camera, backward, |motion, point, dy: &[f32; 3], sum| {
            if let Some(sum) = sum {
                sum.add(point, *dy);
            }
            motion.rotate_back(*dy)
        }))
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![cuda::forward(self, [inputs[0], inputs[1]], batch)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        cuda::backward(self, backward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{relief, views, wide_camera};
    use relievo_tensor::Tape;
    use relievo_tensor::testing::{Tolerance, assert_gradients, assert_operation_independent_of_threads};

    #[test]
    fn rotations_are_orthonormal_and_right_handed() {
        for view in views(8, 1.5).data().chunks_exact(6) {
            let r = rotation([view[0], view[1], view[2]]);
            for i in 0..3 {
                for j in 0..3 {
                    assert!((dot(r[i], r[j]) - f32::from(i == j)).abs() < 1e-6);
                }
                let [a, b, c] = [r[i], r[(i + 1) % 3], r[(i + 2) % 3]];
                assert!((dot(vector::cross(a, b), c) - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn the_rotation_about_x_comes_first() {
        // A quarter about x takes y to z, then a quarter about y takes that z to x.
        let quarter = std::f32::consts::FRAC_PI_2;
        let r = rotation([quarter, quarter, 0.0]);
        let turned: [f32; 3] = std::array::from_fn(|i| dot(r[i], [0.0, 1.0, 0.0]));
        assert!(turned.iter().zip([1.0, 0.0, 0.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{turned:?}");
    }

    #[test]
    fn every_point_projects_to_its_pixel_where_nothing_moves() {
        let camera = wide_camera(6);
        let depth = relief(2, 6, 1.0, 0.2);
        let points = move_surface(&depth, &Tensor::zeros([1, 6]), camera).unwrap();
        for (i, (point, depth)) in points.data().as_chunks::<3>().0.iter().zip(depth.data()).enumerate() {
            let [u, v] = camera.project(*point);
            assert!((u - (i % 6) as f32).abs() < 1e-5 && (v - (i / 6 % 6) as f32).abs() < 1e-5);
            assert!((point[2] - depth).abs() < 1e-6);
        }
    }

    #[test]
    fn points_moved_and_moved_back_return() {
        let (camera, depth, views) = (wide_camera(6), relief(4, 6, 1.0, 0.3), views(2, 1.0));
        let moved = move_surface(&depth, &views, camera).unwrap();
        for (i, (moved, depth)) in moved.data().as_chunks::<3>().0.iter().zip(depth.data()).enumerate() {
            let point = camera.lift((i % 6) as f32, (i / 6 % 6) as f32, *depth);
            // Images 0 and 2 share view 0.
            let motion = &Motion::from_views(&views)[i / 36 % 2];
            assert!(moved.iter().zip(point).any(|(a, b)| (a - b).abs() > 0.01));
            assert!(motion.apply_inverse(*moved).iter().zip(point).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        // Two views for four images: gradients of those that share a view add up.
        let (camera, inputs) = (wide_camera(5), [relief(4, 5, 1.0, 0.2), views(2, 1.0)]);
        let run = |x: &[Tensor]| move_surface(&x[0], &x[1], camera);
        assert_gradients(&inputs, 1.0 / 64.0, Tolerance { norm: 1e-3, element: 1e-3 }, run);
        assert_operation_independent_of_threads(&inputs, run);
    }

    #[test]
    fn a_view_off_the_tape_gets_no_gradient() {
        let tape = Tape::new();
        let depth = tape.watch(&relief(1, 4, 1.0, 0.2));
        let moved = move_surface(&depth, &views(1, 0.5), wide_camera(4)).unwrap();
        assert!(tape.backward(&moved).unwrap().get(&depth).is_some());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refusal = |depth: [usize; 3], views: usize| {
            move_surface(&Tensor::zeros(depth), &Tensor::zeros([views, 6]), wide_camera(4))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refusal([3, 4, 4], 2), "move_surface: 3 images cannot be shared out over 2 viewpoints");
        assert_eq!(
            refusal([1, 5, 5], 1),
            "move_surface: a camera of 4x4 pixels and a tensor of shape [1, 5, 5]"
        );
    }
}
