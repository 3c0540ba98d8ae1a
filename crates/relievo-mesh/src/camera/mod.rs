//! Cameras: where they are, and how they project.

mod angles;
mod frame;
mod lens;
mod transform;

pub use angles::points_from_angles;
pub use frame::{look_at_rotation, look_rotation};
pub use lens::{orthographic, perspective, project};
pub use transform::{move_rigidly, view_from};

use relievo_tensor::{Error, Result, Tensor};

use crate::check::{as_matrix, shape};
use crate::cuda::on_device;
use crate::vector::{cross, dot};

/// A camera: a position and a lens. All tensors may be on a tape.
///
/// ```text
///        y  z (away from the viewer)            row 0, y = 1
///        | /                                  +-------------+
///        |/                            x = -1 |             | x = 1
///        +---- x (right)                      +-------------+
///   the camera's axes, left-handed             the image, y = -1 below
/// ```
///
/// A right-handed mesh seen by [`View::LookAt`] or [`View::Look`] is therefore **mirrored**, as in the renderer of Kato et
/// al.; one seen through [`Camera::from_opencv`], [`Camera::from_opengl`] or [`Camera::from_pytorch3d`] is not.
#[derive(Clone, Debug)]
pub struct Camera {
    /// Where the camera is, and how it is turned.
    pub view: View,
    /// How it projects.
    pub lens: Lens,
}

/// From the world to the camera's axes: x to the right, y up, z away from the viewer.
#[derive(Clone, Debug)]
pub enum View {
    /// A camera at a position that looks at another.
    LookAt {
        /// The camera's position `[3]`.
        eye: Tensor,
        /// What is in the middle of the image, `[3]`.
        at: Tensor,
        /// What points up in the image, `[3]`; not parallel to the view.
        up: Tensor,
    },
    /// A camera at a position that looks in a direction.
    Look {
        /// The camera's position `[3]`.
        eye: Tensor,
        /// The direction `[3]`, of any length.
        direction: Tensor,
        /// What points up in the image, `[3]`; not parallel to the direction.
        up: Tensor,
    },
    /// The camera sees v at R v + t.
    Rigid {
        /// R `[3, 3]`.
        rotation: Tensor,
        /// t `[3]`.
        translation: Tensor,
    },
}

/// From the camera's axes to the image.
#[derive(Clone, Debug)]
pub enum Lens {
    /// See [`perspective`].
    Perspective {
        /// **Half** the vertical field of view in degrees, one number.
        half_angle: Tensor,
    },
    /// See [`orthographic`]: y from -1 to 1 is seen.
    Orthographic,
    /// See [`project`]. The camera's y points **down** here, if the matrix is an ordinary one.
    Intrinsics {
        /// K `[3, 3]`.
        matrix: Tensor,
        /// (k1, k2, p1, p2, k3) `[5]`.
        distortion: Tensor,
        /// Width and height of the image in the units of K.
        size: [f32; 2],
    },
}

/// The default of half the field of view, in degrees.
const HALF_ANGLE: f32 = 30.0;

fn vector(v: [f32; 3]) -> Tensor {
    let mut tensor = Tensor::empty([3]);
    tensor.data_mut().copy_from_slice(&v);
    tensor
}

fn matrix(rows: [[f32; 3]; 3]) -> Tensor {
    let mut tensor = Tensor::empty([3, 3]);
    tensor.data_mut().copy_from_slice(rows.as_flattened());
    tensor
}

impl Default for Camera {
    /// At (0, 0, -(1 / tan 30 degrees + 1)), looking at the origin: the front of the cube from -1 to 1 fills the image.
    fn default() -> Self {
        Self::looking_at_origin(vector([0.0, 0.0, -(1.0 / HALF_ANGLE.to_radians().tan() + 1.0)]))
    }
}

impl Camera {
    /// A camera at `eye` `[3]` that looks at the origin, y up, with half a field of view of 30 degrees.
    pub fn looking_at_origin(eye: Tensor) -> Self {
        let (at, up) = (vector([0.0; 3]), vector([0.0, 1.0, 0.0]));
        let lens = Lens::Perspective { half_angle: Tensor::scalar(HALF_ANGLE) };
        Self { view: View::LookAt { eye, at, up }, lens }
    }

    /// A camera by its matrices, as the published code's `projection`: K `[3, 3]`, R `[3, 3]`, t `[3]`, distortion `[5]`
    /// (k1, k2, p1, p2, k3) and the size of the image in the units of K. The image's left border is u = 0: in OpenCV's
    /// units that is half a pixel off, see [`Camera::from_opencv`].
    pub fn from_matrices(
        matrix: Tensor,
        rotation: Tensor,
        translation: Tensor,
        distortion: Tensor,
        size: [f32; 2],
    ) -> Self {
        let view = View::Rigid { rotation, translation };
        Self { view, lens: Lens::Intrinsics { matrix, distortion, size } }
    }

    /// A camera as OpenCV has it: x to the right, y down, z away from the viewer, (0, 0) the **centre** of the first pixel.
    ///
    /// `size` is the width and height in pixels of the image that the matrix is for; the image that is drawn may have
    /// another. `distortion` are k1, k2, p1, p2, k3. The tensors in the result are new; watch those to get gradients.
    pub fn from_opencv(
        mut camera_matrix: [[f32; 3]; 3],
        rotation: [[f32; 3]; 3],
        translation: [f32; 3],
        distortion: [f32; 5],
        size: [f32; 2],
    ) -> Self {
        // Pixel i spans i to i + 1 here.
        camera_matrix[0][2] += 0.5;
        camera_matrix[1][2] += 0.5;
        let mut lens = Tensor::empty([5]);
        lens.data_mut().copy_from_slice(&distortion);
        Self::from_matrices(matrix(camera_matrix), matrix(rotation), vector(translation), lens, size)
    }

    /// A camera as OpenGL has it: `view` takes the world to eye space (x to the right, y up, looking along **-z**) and
    /// `projection` takes that to clip space; both act on columns, and are given by rows. Near and far are the renderer's.
    ///
    /// # Errors
    /// If `projection` is not a perspective (last row 0, 0, -1, 0), or `view` is not affine (last row 0, 0, 0, 1).
    pub fn from_opengl(view: [[f32; 4]; 4], projection: [[f32; 4]; 4]) -> Result<Self> {
        if view[3] != [0.0, 0.0, 0.0, 1.0] {
            let detail = format!("the last row of the view must be 0, 0, 0, 1, not {:?}", view[3]);
            return Err(Error::shape("from_opengl", detail));
        }
        if projection[3] != [0.0, 0.0, -1.0, 0.0] {
            let detail = format!("the last row of a perspective is 0, 0, -1, 0, not {:?}", projection[3]);
            return Err(Error::shape("from_opengl", detail));
        }
        // z points away here, and the matrix is for (u, v) in 0..2, v downwards: u = 1 + x, v = 1 - y.
        let away = |[a, b, c, _]: [f32; 4]| [a, b, c];
        let [x, y, z] = [away(view[0]), away(view[1]), away(view[2]).map(|e| -e)];
        let translation = [view[0][3], view[1][3], -view[2][3]];
        let [a, b] = [projection[0], projection[1]];
        let intrinsics = [[a[0], a[1], 1.0 - a[2]], [-b[0], -b[1], 1.0 + b[2]], [0.0, 0.0, 1.0]];
        Ok(Self::from_screen_matrix(intrinsics, [x, y, z], translation))
    }

    /// A camera as PyTorch3D has it: R and T of `PerspectiveCameras` (rows times R, plus T; x to the **left**, y up, z away
    /// from the viewer), `focal_length` and `principal_point` in its normalised coordinates, in which the shorter side of
    /// the image spans -1 to 1. For `FoVPerspectiveCameras` the focal length is 1 / tan(fov / 2), if the image is square.
    /// `size` is the width and height of the image.
    pub fn from_pytorch3d(
        rotation: [[f32; 3]; 3],
        translation: [f32; 3],
        focal_length: [f32; 2],
        principal_point: [f32; 2],
        size: [f32; 2],
    ) -> Self {
        let column = |i: usize| [rotation[0][i], rotation[1][i], rotation[2][i]];
        let turned = [column(0).map(|e| -e), column(1), column(2)];
        let moved = [-translation[0], translation[1], translation[2]];
        let shorter = size[0].min(size[1]);
        let [a, b] = size.map(|side| shorter / side);
        let intrinsics = [
            [focal_length[0] * a, 0.0, 1.0 - principal_point[0] * a],
            [0.0, -focal_length[1] * b, 1.0 - principal_point[1] * b],
            [0.0, 0.0, 1.0],
        ];
        Self::from_screen_matrix(intrinsics, turned, moved)
    }

    /// A camera whose matrix is for an image from 0 to 2.
    fn from_screen_matrix(intrinsics: [[f32; 3]; 3], rotation: [[f32; 3]; 3], translation: [f32; 3]) -> Self {
        let [rotation, intrinsics] = [rotation, intrinsics].map(matrix);
        Self::from_matrices(intrinsics, rotation, vector(translation), Tensor::zeros([5]), [2.0, 2.0])
    }

    /// Whether a right-handed mesh is seen mirrored, and so with the inside of faces turned to the viewer whose corners run
    /// counter-clockwise on the image.
    ///
    /// # Errors
    /// If a matrix is not `[3, 3]`.
    pub fn mirrors(&self) -> Result<bool> {
        let sign_of = |tensor: &Tensor, extent: usize| -> Result<bool> {
            shape("camera", "a matrix", tensor, &[3, 3])?;
            let tensor = tensor.to_device(relievo_tensor::Device::Cpu)?;
            let [a, b, c] = as_matrix(&tensor);
            Ok(if extent == 2 { a[0] * b[1] - a[1] * b[0] } else { dot(cross(a, b), c) } > 0.0)
        };
        let turns = match &self.view {
            View::Rigid { rotation, .. } => sign_of(rotation, 3)?,
            View::LookAt { .. } | View::Look { .. } => true,
        };
        // Rows of images go downwards, so a matrix with a positive determinant turns y around.
        Ok(turns
            == match &self.lens {
                Lens::Intrinsics { matrix, .. } => !sign_of(matrix, 2)?,
                Lens::Perspective { .. } | Lens::Orthographic => true,
            })
    }

    /// World vertices `[V, 3]` in the camera's axes. The camera may be on another device than they are.
    ///
    /// # Errors
    /// If a shape is another, or the view has no direction or no up.
    pub fn view(&self, vertices: &Tensor) -> Result<Tensor> {
        let there = |tensor: &Tensor| on_device(tensor, vertices.device());
        match &self.view {
            View::LookAt { eye, at, up } => {
                view_from(vertices, &there(&look_at_rotation(eye, at, up)?)?, &there(eye)?)
            }
            View::Look { eye, direction, up } => {
                view_from(vertices, &there(&look_rotation(direction, up)?)?, &there(eye)?)
            }
            View::Rigid { rotation, translation } => {
                move_rigidly(vertices, &there(rotation)?, &there(translation)?)
            }
        }
    }

    /// Vertices in the camera's axes `[V, 3]` on the screen `[V, 3]`: x and y from -1 to 1, y up, then the depth. `aspect`
    /// is the image's width over its height.
    ///
    /// # Errors
    /// If a shape is another, or the lens is impossible.
    pub fn project(&self, seen: &Tensor, aspect: f32) -> Result<Tensor> {
        match &self.lens {
            Lens::Perspective { half_angle } => perspective(seen, half_angle, aspect),
            Lens::Orthographic => orthographic(seen, aspect),
            Lens::Intrinsics { matrix, distortion, size } => {
                let there = |tensor: &Tensor| on_device(tensor, seen.device());
                project(seen, &there(matrix)?, &there(distortion)?, *size)
            }
        }
    }
}

#[cfg(test)]
mod tests;
