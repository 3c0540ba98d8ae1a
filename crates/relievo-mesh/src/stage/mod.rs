//! Images of a mesh file: a mesh on a stage, a camera that goes around it, light from the side.
//!
//! The renderer of this crate keeps the conventions of the published one: axes are left-handed, faces are lit as a whole,
//! cameras stand where numbers say. A [`Stage`] is what people expect of a mesh file instead: it is seen as in any viewer
//! ([`Orbit`]), fits into the frame, and curved surfaces are lit smoothly.
//!
//! ```
//! use relievo_mesh::shapes;
//! use relievo_mesh::stage::{Light, Look, Orbit, Shot, Stage, Wanted};
//!
//! let stage = Stage::new(&shapes::teapot(8), &Look::default())?;
//! let shot = Shot { width: 96, height: 64, samples: 2 };
//! let orbit = stage.framed(&[Orbit::default()], shot.aspect())?[0];
//! let shown = stage.shoot(&orbit, shot, Light::default(), Wanted { colour: true, depth: true, ..Wanted::default() })?;
//! assert_eq!(shown.over([1.0; 3]).len(), 64 * 96 * 3);
//! // The middle of the image shows the pot, its corner nothing.
//! assert!(shown.depth[32 * 96 + 48] < orbit.distance.unwrap() as f32 && shown.depth[0].is_nan());
//! # Ok::<(), relievo_mesh::stage::StageError>(())
//! ```

#[cfg(feature = "files")]
mod cameras;
mod crease;
mod orbit;
mod shoot;
#[cfg(test)]
mod tests;

#[cfg(feature = "files")]
pub use cameras::CameraFileError;
pub use orbit::{CalibratedCamera, Orbit};
pub use shoot::{Light, Shot, Shown, Wanted};

use relievo_tensor::{Error, Tensor};

use crate::mesh::{Mesh, MeshError};
use crate::{Appearance, Object};
use orbit::Placed;

/// A mesh that cannot be shown, or a camera that sees nothing of it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// Parts of the mesh do not fit together.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// There are no triangles.
    #[error(
        "the mesh has {0} vertices and no faces; points alone cannot be drawn, so make a surface of them first"
    )]
    NoFaces(usize),
    /// No triangle has three finite corners.
    #[error("none of the {0} faces of the mesh has finite vertices; export it again")]
    NotFinite(usize),
    /// A number of the camera or the light is out of range.
    #[error("{what} must be {range}, not {value}")]
    Number {
        /// What it is of.
        what: &'static str,
        /// The numbers that may be.
        range: &'static str,
        /// The number.
        value: f64,
    },
    /// An image of impossible size.
    #[error(
        "an image has 1 to {LONGEST} pixels a side and 1 to {MOST_SAMPLES} samples along a pixel, not {width}x{height} and {samples}"
    )]
    Size {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Along each side of a pixel.
        samples: usize,
    },
    /// Not enough memory for an image.
    #[error("there is not enough memory for an image of {width}x{height} pixels; a smaller one may fit")]
    OutOfMemory {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// The renderer's own error.
    #[error(transparent)]
    Render(#[from] Error),
}

/// The longest side of an image in pixels.
pub const LONGEST: usize = 16_384;

/// The most samples along a side of a pixel.
pub const MOST_SAMPLES: usize = 16;

/// The share of the frame that a mesh fills.
const FILLED: f64 = 0.9;

/// How a mesh looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Images, vertex colours and materials are shown, rather than one colour all over.
    pub textured: bool,
    /// The colour of faces without one, sRGB in 0..=1.
    pub colour: [f32; 3],
    /// Faces that meet at a smaller angle, in degrees, are lit as one curved surface; 0 shows every face flat.
    pub crease_angle: f64,
}

impl Default for Look {
    fn default() -> Self {
        Self { textured: true, colour: [0.85, 0.83, 0.80], crease_angle: 40.0 }
    }
}

/// A mesh that is ready to be shown.
#[derive(Clone, Debug)]
pub struct Stage {
    objects: Vec<Object>,
    /// Vertices of faces, in the stage's units: the longest side of the bounding box spans [-1, 1].
    points: Vec<[f32; 3]>,
    /// The middle of the bounding box.
    middle: [f64; 3],
    /// One unit of the stage in the mesh's.
    unit: f64,
    /// The face of the mesh of each face that is drawn.
    face_of: Vec<u32>,
    left_out: usize,
    flat: bool,
}

impl Stage {
    /// Puts a mesh on a stage. Faces with a vertex that is not finite are left out ([`Stage::left_out`]).
    ///
    /// # Errors
    /// If the mesh is not sound or has no face that can be drawn.
    pub fn new(mesh: &Mesh, look: &Look) -> Result<Self, StageError> {
        mesh.check()?;
        if mesh.faces.is_empty() {
            return Err(StageError::NoFaces(mesh.vertices.len()));
        }
        let is_finite = |face: &usize| {
            let mut corners = mesh.faces[*face].iter().flat_map(|corner| mesh.vertices[*corner as usize]);
            corners.all(f32::is_finite)
        };
        let mut kept: Vec<usize> = (0..mesh.faces.len()).filter(is_finite).collect();
        if kept.is_empty() {
            return Err(StageError::NotFinite(mesh.faces.len()));
        }
        let left_out = mesh.faces.len() - kept.len();
        // The order in which `Object::of_mesh` takes them.
        kept.sort_by_key(|face| mesh.face_materials.get(*face).copied().flatten());
        let mut drawn = part(mesh, &kept);
        if !look.textured {
            drawn = Mesh::new(drawn.vertices, drawn.faces);
        }
        let flat = look.crease_angle <= 0.0;
        if !flat {
            drawn = crease::split_at_creases(drawn, look.crease_angle);
        }
        let (points, middle, unit) = normalised(&drawn);
        let vertices = Tensor::new(points.as_flattened(), [points.len(), 3])?;
        let mut objects = Object::of_mesh(&drawn, &vertices)?;
        for object in &mut objects {
            if matches!(object.appearance, Appearance::White) {
                let colours = vec![look.colour; points.len()];
                let colours = Tensor::new(colours.as_flattened(), [points.len(), 3])?;
                object.appearance = Appearance::VertexColours(colours);
            }
        }
        let face_of = kept.iter().map(|face| *face as u32).collect();
        Ok(Self { objects, points, middle, unit, face_of, left_out, flat })
    }

    /// How many faces are left out because they have a vertex that is not finite.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The middle of the mesh's bounding box, in its own units.
    pub fn middle(&self) -> [f64; 3] {
        self.middle
    }

    /// Half the longest side of the mesh's bounding box, in its own units.
    pub fn extent(&self) -> f64 {
        self.unit
    }

    /// The orbits with targets and distances: what is `None` becomes the middle of the mesh, and one distance for all of
    /// them, the least at which the mesh fits into the frame of every one. `aspect` is the images' width over their height.
    ///
    /// # Errors
    /// If a number is out of range.
    pub fn framed(&self, orbits: &[Orbit], aspect: f64) -> Result<Vec<Orbit>, StageError> {
        let mut distance: f64 = 0.01;
        for orbit in orbits {
            check(orbit)?;
            let target = orbit.target.map_or([0.0; 3], |target| self.on_stage(target));
            let (axes, tangents) = (orbit.axes(), orbit.tangents(aspect));
            for point in &self.points {
                let from_target: [f64; 3] = std::array::from_fn(|i| f64::from(point[i]) - target[i]);
                let [x, y, z] = axes.map(|axis| dot(axis, from_target));
                let across = (x.abs() / tangents[0]).max(y.abs() / tangents[1]);
                distance = distance.max(across / FILLED - z);
            }
        }
        let complete = |orbit: &Orbit| Orbit {
            distance: Some(orbit.distance.unwrap_or(distance * self.unit)),
            target: Some(orbit.target.unwrap_or(self.middle)),
            ..*orbit
        };
        Ok(orbits.iter().map(complete).collect())
    }

    fn on_stage(&self, point: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|axis| (point[axis] - self.middle[axis]) / self.unit)
    }

    /// The camera of an orbit in OpenCV's conventions, for images of `width` and `height` pixels.
    ///
    /// # Errors
    /// If a number is out of range.
    pub fn calibrated(&self, orbit: &Orbit, size: [usize; 2]) -> Result<CalibratedCamera, StageError> {
        let aspect = size[0] as f64 / size[1] as f64;
        let orbit = self.framed(std::slice::from_ref(orbit), aspect)?[0];
        let axes = orbit.axes();
        let mut translation = axes.map(|axis| -dot(axis, orbit.target.unwrap_or(self.middle)));
        translation[2] += orbit.distance.unwrap_or(self.unit);
        let [half_width, half_height] = size.map(|side| side as f64 / 2.0);
        let focal = half_height / orbit.tangents(aspect)[1];
        let matrix = [[focal, 0.0, half_width - 0.5], [0.0, focal, half_height - 0.5], [0.0, 0.0, 1.0]];
        Ok(CalibratedCamera { matrix, rotation: axes, translation, distortion: [0.0; 5], size })
    }

    /// A calibrated camera on the stage, for images of `width` and `height` pixels.
    fn place(&self, camera: &CalibratedCamera, size: [usize; 2]) -> Result<Placed, StageError> {
        let numbers = [
            camera.matrix.as_flattened(),
            camera.rotation.as_flattened(),
            &camera.translation,
            &camera.distortion,
        ];
        if let Some(value) = numbers.into_iter().flatten().find(|value| !value.is_finite()) {
            return Err(StageError::Number { what: "numbers of a camera", range: "finite", value: *value });
        }
        if camera.size.contains(&0) {
            return Err(StageError::Size { width: camera.size[0], height: camera.size[1], samples: 1 });
        }
        let camera = camera.resized(size).moved(self.middle, self.unit);
        let mut matrix = camera.matrix;
        // Pixel i spans i to i + 1 here.
        matrix[..2].iter_mut().for_each(|row| row[2] += 0.5);
        Ok(self.placed(camera.rotation, camera.translation, matrix, camera.distortion))
    }

    fn placed(
        &self,
        rotation: [[f64; 3]; 3],
        translation: [f64; 3],
        matrix: [[f64; 3]; 3],
        distortion: [f64; 5],
    ) -> Placed {
        let depth = |point: &[f32; 3]| dot(rotation[2], point.map(f64::from)) + translation[2];
        let depths =
            self.points.iter().map(depth).fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], depth| {
                [low.min(depth), high.max(depth)]
            });
        Placed { rotation, translation, matrix, distortion, depths }
    }
}

fn check(orbit: &Orbit) -> Result<(), StageError> {
    let number = |what, range, value| Err(StageError::Number { what, range, value });
    let target = orbit.target.unwrap_or_default();
    for (what, value) in [
        ("the azimuth", orbit.azimuth),
        ("the elevation", orbit.elevation),
        ("the point to look at", target.iter().sum()),
    ] {
        if !value.is_finite() {
            return number(what, "a finite number", value);
        }
    }
    if !(orbit.field_of_view > 0.0 && orbit.field_of_view < 180.0) {
        return number("the field of view", "above 0 and below 180 degrees", orbit.field_of_view);
    }
    match orbit.distance {
        Some(distance) if !(distance > 0.0 && distance.is_finite()) => {
            number("the distance of the camera", "above 0", distance)
        }
        _ => Ok(()),
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// The mesh of these faces alone, with the vertices that they use.
fn part(mesh: &Mesh, faces: &[usize]) -> Mesh {
    let mut number = vec![u32::MAX; mesh.vertices.len()];
    let mut part = Mesh { name: mesh.name.clone(), materials: mesh.materials.clone(), ..Mesh::default() };
    let colours = mesh.vertex_colours.as_ref();
    let mut kept_colours = Vec::new();
    for &face in faces {
        part.faces.push(mesh.faces[face].map(|corner| {
            let number = &mut number[corner as usize];
            if *number == u32::MAX {
                *number = part.vertices.len() as u32;
                part.vertices.push(mesh.vertices[corner as usize]);
                kept_colours.extend(colours.map(|colours| colours[corner as usize]));
            }
            *number
        }));
    }
    part.vertex_colours = colours.map(|_| kept_colours);
    part.texture_coordinates = mesh.texture_coordinates.as_ref().map(|texture| crate::TextureCoordinates {
        coordinates: texture.coordinates.clone(),
        faces: faces.iter().map(|face| texture.faces[*face]).collect(),
    });
    if !mesh.face_materials.is_empty() {
        part.face_materials = faces.iter().map(|face| mesh.face_materials[*face]).collect();
    }
    part
}

/// Vertices whose bounding box is about the origin and has a longest side of 2, its middle and half that side before.
fn normalised(mesh: &Mesh) -> (Vec<[f32; 3]>, [f64; 3], f64) {
    let [low, high] = mesh.bounds().unwrap_or_default().map(|corner| corner.map(f64::from));
    let middle: [f64; 3] = std::array::from_fn(|axis| (low[axis] + high[axis]) / 2.0);
    let half = (0..3).map(|axis| high[axis] - low[axis]).fold(0.0, f64::max) / 2.0;
    let unit = if half > 0.0 { half } else { 1.0 };
    let points = mesh
        .vertices
        .iter()
        .map(|vertex| std::array::from_fn(|axis| ((f64::from(vertex[axis]) - middle[axis]) / unit) as f32));
    (points.collect(), middle, unit)
}
