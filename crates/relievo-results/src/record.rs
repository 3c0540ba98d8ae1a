//! What stands beside the images as JSON: light, viewpoint, and how to read a 16-bit depth image.
//!
//! Camera frame: x right, y down, z away from the camera; the unit is the distance from the camera to the object.

use relievo_export::DepthScale;
use serde::Serialize;

/// Shading = ambient + diffuse * max(0, normal . direction), seen from the front: the light turns with the object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Light {
    ambient: f32,
    diffuse: f32,
    /// Of length one, in the sign of the normals: (0, 0, 1) lights a plane that faces the camera in full.
    direction: [f32; 3],
}

impl From<relievo_data::Light> for Light {
    fn from(light: relievo_data::Light) -> Self {
        let relievo_data::Light { ambient, diffuse, direction } = light;
        Self { ambient, diffuse, direction }
    }
}

impl From<[f32; 5]> for Light {
    /// From the model's five numbers.
    fn from([ambient, diffuse, x, y, z]: [f32; 5]) -> Self {
        Self { ambient, diffuse, direction: [x, y, z] }
    }
}

/// How the object is turned and moved from the canonical view: P' = Rz Ry Rx (P - c) + c + t with c = (0, 0, 1).
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct View {
    /// About x, y, z.
    rotation_radians: [f32; 3],
    translation: [f32; 3],
}

impl From<[f32; 6]> for View {
    fn from([a, b, c, x, y, z]: [f32; 6]) -> Self {
        Self { rotation_radians: [a, b, c], translation: [x, y, z] }
    }
}

/// A 16-bit depth image: 0 is no surface, v from 1 to 65535 is the depth `min + (v - 1) / 65534 * (max - min)`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Depth {
    /// The image, relative to the file this stands in.
    file: String,
    min: f32,
    max: f32,
}

impl Depth {
    /// An image `file` whose numbers are to be read so.
    pub fn new(file: String, DepthScale { min, max }: DepthScale) -> Self {
        Self { file, min, max }
    }
}
