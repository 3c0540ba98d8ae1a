//! Cameras for people: they go around a mesh and see it as it is, not mirrored.

use crate::Camera;

/// A camera that goes around a mesh.
///
/// Axes are those of OBJ and glTF files, **right-handed**: x to the right, y up, z towards the camera at azimuth 0. Nothing
/// is mirrored, unlike by the cameras of [`crate::View::LookAt`], which follow the published renderer.
///
/// ```text
///            y (up)
///            |     elevation: the camera rises
///            |
///            +------ x        azimuth 90: the camera is there
///           /
///          z                  azimuth 0: the camera is there
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orbit {
    /// How far the camera has gone around the y axis, in degrees: 0 in front, 90 on the side of +x.
    pub azimuth: f64,
    /// How far it is above the middle, in degrees; 90 looks down.
    pub elevation: f64,
    /// The whole vertical field of view, in degrees, above 0 and below 180.
    pub field_of_view: f64,
    /// From the point that it looks at, in the units of the mesh; `None` for as near as all of the mesh is seen.
    pub distance: Option<f64>,
    /// The point that it looks at, in the units of the mesh; `None` for the middle of the mesh.
    pub target: Option<[f64; 3]>,
}

impl Default for Orbit {
    /// From the front and a little above, with a lens that distorts little.
    fn default() -> Self {
        Self { azimuth: 30.0, elevation: 20.0, field_of_view: 30.0, distance: None, target: None }
    }
}

impl Orbit {
    /// The camera's axes: to the right, down, and away from the viewer.
    pub(super) fn axes(&self) -> [[f64; 3]; 3] {
        let ((sin_a, cos_a), (sin_e, cos_e)) =
            (self.azimuth.to_radians().sin_cos(), self.elevation.to_radians().sin_cos());
        [
            [cos_a, 0.0, -sin_a],
            [sin_e * sin_a, -cos_e, sin_e * cos_a],
            [-cos_e * sin_a, -sin_e, -cos_e * cos_a],
        ]
    }

    /// Half the field of view along x and y, as tangents.
    pub(super) fn tangents(&self, aspect: f64) -> [f64; 2] {
        let vertical = (self.field_of_view.to_radians() / 2.0).tan();
        [vertical * aspect, vertical]
    }
}

/// A calibrated camera, in the conventions of OpenCV: x to the right, y down, z away from the camera, pixel centres at
/// whole numbers. It sees the point p of the mesh, in the mesh's units, at R p + t.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibratedCamera {
    /// K, in pixels.
    pub matrix: [[f64; 3]; 3],
    /// R.
    pub rotation: [[f64; 3]; 3],
    /// t.
    pub translation: [f64; 3],
    /// k1, k2, p1, p2, k3.
    pub distortion: [f64; 5],
    /// Width and height in pixels of the image that K is for.
    pub size: [usize; 2],
}

impl CalibratedCamera {
    /// The camera for the renderer; it sees what OpenCV's sees.
    pub fn camera(&self) -> Camera {
        let narrow = |matrix: [[f64; 3]; 3]| matrix.map(|row| row.map(|value| value as f32));
        let size = self.size.map(|side| side as f32);
        let [matrix, rotation] = [narrow(self.matrix), narrow(self.rotation)];
        let translation = self.translation.map(|value| value as f32);
        Camera::from_opencv(matrix, rotation, translation, self.distortion.map(|value| value as f32), size)
    }

    /// The camera for images of another size, which show the same.
    #[must_use]
    pub fn resized(&self, size: [usize; 2]) -> Self {
        let mut resized = Self { size, ..self.clone() };
        for (axis, row) in resized.matrix[..2].iter_mut().enumerate() {
            let scale = size[axis] as f64 / self.size[axis] as f64;
            // Pixel i spans i - 1/2 to i + 1/2.
            row[2] += 0.5;
            row.iter_mut().for_each(|value| *value *= scale);
            row[2] -= 0.5;
        }
        resized
    }

    /// The camera that sees (p - middle) / unit where this one sees p.
    #[must_use]
    pub fn moved(&self, middle: [f64; 3], unit: f64) -> Self {
        let translation = std::array::from_fn(|row| {
            let along: f64 = self.rotation[row].iter().zip(middle).map(|(r, x)| r * x).sum();
            (along + self.translation[row]) / unit
        });
        Self { translation, ..self.clone() }
    }
}

/// A camera on a stage: where the mesh is seen at R v + t, v in the stage's units, and the lens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub rotation: [[f64; 3]; 3],
    pub translation: [f64; 3],
    /// For pixels that span i to i + 1.
    pub matrix: [[f64; 3]; 3],
    pub distortion: [f64; 5],
    /// Depths of the nearest and the furthest point of the mesh.
    pub depths: [f64; 2],
}

impl Placed {
    /// The camera of the window of samples at (`left`, `top`) of an image of so many samples along a side of a pixel.
    pub fn camera(&self, left: usize, top: usize, width: usize, height: usize, samples: usize) -> Camera {
        let scale = samples as f64;
        let mut matrix = self.matrix;
        matrix[..2].as_flattened_mut().iter_mut().for_each(|value| *value *= scale);
        matrix[0][2] -= left as f64;
        matrix[1][2] -= top as f64;
        let narrow = |matrix: [[f64; 3]; 3]| matrix.map(|row| row.map(|value| value as f32));
        let tensor = |values: &[f32], shape: &[usize]| {
            let mut tensor = relievo_tensor::Tensor::empty(shape);
            tensor.data_mut().copy_from_slice(values);
            tensor
        };
        Camera::from_matrices(
            tensor(narrow(matrix).as_flattened(), &[3, 3]),
            tensor(narrow(self.rotation).as_flattened(), &[3, 3]),
            tensor(&self.translation.map(|value| value as f32), &[3]),
            tensor(&self.distortion.map(|value| value as f32), &[5]),
            [width as f32, height as f32],
        )
    }
    /// A direction of the mesh in the camera's axes.
    pub fn seen(&self, direction: [f32; 3]) -> [f32; 3] {
        self.rotation.map(|row| {
            let along: f64 = row.iter().zip(direction).map(|(row, value)| row * f64::from(value)).sum();
            along as f32
        })
    }
}
