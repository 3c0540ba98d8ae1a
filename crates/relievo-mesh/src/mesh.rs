//! A mesh as files hold it.

use std::collections::HashMap;
use std::sync::Arc;

/// A triangle mesh with what files say about its looks. The renderer's tensors are made from it.
///
/// Colours are sRGB values in `0..=1`, as in images; those of glTF, which are linear, are converted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mesh {
    /// The name of the object, empty where the file has none.
    pub name: String,
    /// Positions, in the file's own units and axes.
    pub vertices: Vec<[f32; 3]>,
    /// Triangles as indices into `vertices`.
    pub faces: Vec<[u32; 3]>,
    /// A unit normal per vertex, for viewers: they are written but not read, and the renderer computes its own from faces.
    pub normals: Option<Vec<[f32; 3]>>,
    /// A colour per vertex.
    pub vertex_colours: Option<Vec<[f32; 3]>>,
    /// Where the corners of faces lie in images.
    pub texture_coordinates: Option<TextureCoordinates>,
    /// The materials that `face_materials` names.
    pub materials: Vec<Material>,
    /// The material of each face, as an index into `materials`; `None` for faces without one. Empty if no face has a
    /// material, otherwise one entry per face.
    pub face_materials: Vec<Option<u32>>,
}

/// Texture coordinates of the corners of faces. Faces index them apart from positions, so that a vertex on a seam has
/// several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextureCoordinates {
    /// (u, v), v upwards: (0, 0) is the lower left corner of the image.
    pub coordinates: Vec<[f32; 2]>,
    /// For each face of the mesh three indices into `coordinates`; `None` for faces without coordinates.
    pub faces: Vec<Option<[u32; 3]>>,
}

/// What a face looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Material {
    /// The name by which faces refer to it.
    pub name: String,
    /// Diffuse colour. Images are multiplied by it. A material read from MTL with an image has white here: there the
    /// image replaces `Kd`, because many files have arbitrary values beside a `map_Kd`.
    pub colour: [f32; 3],
    /// The image that covers its faces (`map_Kd`, `baseColorTexture`).
    pub image: Option<Arc<Image>>,
    /// How the image continues beyond [0, 1] along u and along v.
    pub wrap: [Wrap; 2],
    /// Viewers show the colours as they are, without light (glTF: `KHR_materials_unlit`).
    pub unlit: bool,
    /// Viewers show both sides of its faces (glTF: `doubleSided`).
    pub double_sided: bool,
}

impl Default for Material {
    /// White, without a name or an image.
    fn default() -> Self {
        Self {
            name: String::new(),
            colour: [1.0; 3],
            image: None,
            wrap: Default::default(),
            unlit: false,
            double_sided: false,
        }
    }
}

/// How an image continues beyond [0, 1].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Wrap {
    /// It repeats.
    #[default]
    Repeat,
    /// It repeats, and every other copy is mirrored.
    MirroredRepeat,
    /// Its outermost pixels continue.
    ClampToEdge,
    /// It is surrounded by black.
    ClampToBorder,
}

impl Wrap {
    /// The coordinate in [0, 1] at which the image is sampled, or `None` for the black of [`Wrap::ClampToBorder`].
    /// Coordinates in [0, 1], both ends included, stay as they are. A coordinate that is not finite is taken for 0.
    pub fn apply(self, coordinate: f32) -> Option<f32> {
        if (0.0..=1.0).contains(&coordinate) {
            return Some(coordinate);
        }
        if !coordinate.is_finite() {
            return Some(0.0);
        }
        match self {
            // The difference of a tiny negative number and -1 rounds to 1.
            Self::Repeat => Some(coordinate - coordinate.floor()),
            Self::MirroredRepeat => {
                let place = coordinate.rem_euclid(2.0);
                Some(if place > 1.0 { 2.0 - place } else { place })
            }
            Self::ClampToEdge => Some(coordinate.clamp(0.0, 1.0)),
            Self::ClampToBorder => None,
        }
    }
}

/// An 8-bit sRGB image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes, row by row from the top.
    pub rgb: Vec<u8>,
}

/// A mesh whose parts do not fit together, or that does not suit the task.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// A face names something that is not there.
    #[error("face {face} names {what} {index}, but there are {count} of them, counted from 0")]
    Index {
        /// The face.
        face: usize,
        /// A vertex, a texture coordinate or a material.
        what: &'static str,
        /// The index.
        index: u32,
        /// How many there are.
        count: usize,
    },
    /// A list has another length than the one it belongs to.
    #[error("there are {found} {what} for {expected} {of}; give one for each")]
    Length {
        /// The list.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The list that it belongs to.
        of: &'static str,
        /// The length of that.
        expected: usize,
    },
    /// An image without pixels, or with another number of bytes than its size says.
    #[error(
        "the image of material {material:?} has {bytes} bytes, {width}x{height} pixels of three bytes are needed"
    )]
    Image {
        /// The name of the material.
        material: String,
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// The length of `rgb`.
        bytes: usize,
    },
    /// The side of texture cubes is below 2, or too large for the number of faces.
    #[error(
        "texture cubes of side {0} are impossible for {1} faces; sides from 2 to 64 are, as far as memory permits"
    )]
    CubeSize(usize, usize),
    /// Texture cubes have another shape than the mesh needs.
    #[error(
        "texture cubes have the shape {found}, but a mesh of {faces} faces needs [{faces},t,t,t,3] with t of at least 2"
    )]
    CubeShape {
        /// The shape.
        found: String,
        /// The number of faces.
        faces: usize,
    },
    /// More faces than the tiles of one image.
    #[error("{0} faces do not fit into one image of tiles; {1} do")]
    TooManyFaces(usize, usize),
}

impl Mesh {
    /// A mesh of vertices and faces only.
    pub fn new(vertices: Vec<[f32; 3]>, faces: Vec<[u32; 3]>) -> Self {
        Self { vertices, faces, ..Self::default() }
    }

    /// Checks that every index names something and that lists have the lengths they must have. Meshes from files pass;
    /// positions need not be finite.
    ///
    /// # Errors
    /// Names the first thing that does not fit.
    pub fn check(&self) -> Result<(), MeshError> {
        let length = |what, found, of, expected| {
            if found == expected { Ok(()) } else { Err(MeshError::Length { what, found, of, expected }) }
        };
        let index = |face, what, index: u32, count| {
            if (index as usize) < count { Ok(()) } else { Err(MeshError::Index { face, what, index, count }) }
        };
        for (face, corners) in self.faces.iter().enumerate() {
            corners.iter().try_for_each(|&corner| index(face, "vertex", corner, self.vertices.len()))?;
        }
        if let Some(normals) = &self.normals {
            length("normals", normals.len(), "vertices", self.vertices.len())?;
        }
        if let Some(colours) = &self.vertex_colours {
            length("vertex colours", colours.len(), "vertices", self.vertices.len())?;
        }
        if let Some(texture) = &self.texture_coordinates {
            length("entries of texture coordinates", texture.faces.len(), "faces", self.faces.len())?;
            for (face, corners) in texture.faces.iter().enumerate() {
                let mut corners = corners.iter().flatten();
                let count = texture.coordinates.len();
                corners.try_for_each(|&corner| index(face, "texture coordinate", corner, count))?;
            }
        }
        if !self.face_materials.is_empty() {
            length("entries of face materials", self.face_materials.len(), "faces", self.faces.len())?;
            for (face, material) in self.face_materials.iter().enumerate() {
                material
                    .map_or(Ok(()), |material| index(face, "material", material, self.materials.len()))?;
            }
        }
        for Material { name, image, .. } in &self.materials {
            if let Some(image) = image {
                let Image { width, height, ref rgb } = **image;
                let needed = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
                if width == 0 || height == 0 || needed != Some(rgb.len()) {
                    let (material, bytes) = (name.clone(), rgb.len());
                    return Err(MeshError::Image { material, width, height, bytes });
                }
            }
        }
        Ok(())
    }

    /// The material of a face.
    pub fn material(&self, face: usize) -> Option<&Material> {
        self.face_materials.get(face).copied().flatten().and_then(|index| self.materials.get(index as usize))
    }

    /// Minimum and maximum of x, y, z over the vertices that are finite; `None` if there are none.
    pub fn bounds(&self) -> Option<[[f32; 3]; 2]> {
        let mut finite = self.vertices.iter().filter(|vertex| vertex.iter().all(|value| value.is_finite()));
        let first = *finite.next()?;
        let choose =
            |a: [f32; 3], b: &[f32; 3], of: fn(f32, f32) -> f32| std::array::from_fn(|i| of(a[i], b[i]));
        Some(finite.fold([first; 2], |[low, high], vertex| {
            [choose(low, vertex, f32::min), choose(high, vertex, f32::max)]
        }))
    }

    /// Moves and scales the mesh as the Neural 3D Mesh Renderer does on loading: the centre of its bounding box becomes
    /// the origin, and the longest side spans [-1, 1]. In the arithmetic of the original, so that results are equal to
    /// the bit: v -= minimum per axis; v /= max |v|, one number; v *= 2; v -= (maximum per axis)/2.
    ///
    /// Vertices that are not finite take no part in it. A mesh of no extent moves to the origin.
    pub fn normalise(&mut self) {
        let Some([low, high]) = self.bounds() else { return };
        if (0..3).any(|axis| !(high[axis] - low[axis]).is_finite()) {
            // The extent overflows; a power of two changes no digit.
            self.vertices.as_flattened_mut().iter_mut().for_each(|value| *value *= 0.25);
            return self.normalise();
        }
        let largest = (0..3).map(|axis| high[axis] - low[axis]).fold(0.0, f32::max);
        let scale = |value: f32| if largest > 0.0 { value / largest * 2.0 } else { 0.0 };
        let half: [f32; 3] = std::array::from_fn(|axis| scale(high[axis] - low[axis]) / 2.0);
        for vertex in &mut self.vertices {
            *vertex = std::array::from_fn(|axis| scale(vertex[axis] - low[axis]) - half[axis]);
        }
    }

    /// Merges vertices of equal position and colour, so that faces on both sides of a seam share them. Texture
    /// coordinates stay apart. Vertices keep the order in which they first appear; normals are those of the first.
    ///
    /// # Panics
    /// If a face names a vertex that does not exist ([`Mesh::check`]).
    pub fn merge_vertices(&mut self) {
        let colours = self.vertex_colours.as_deref().filter(|colours| colours.len() == self.vertices.len());
        let mut seen = HashMap::with_capacity(self.vertices.len());
        let mut kept = Vec::with_capacity(self.vertices.len());
        let mut renumbered = Vec::with_capacity(self.vertices.len());
        for (at, vertex) in self.vertices.iter().enumerate() {
            // Adding zero makes -0 and 0 equal.
            let bits = |value: [f32; 3]| value.map(|value| (value + 0.0).to_bits());
            let key = (bits(*vertex), colours.map(|colours| bits(colours[at])));
            let number = *seen.entry(key).or_insert_with(|| {
                kept.push(at);
                kept.len() as u32 - 1
            });
            renumbered.push(number);
        }
        if kept.len() == self.vertices.len() {
            return;
        }
        let colours = colours.map(|colours| kept.iter().map(|&at| colours[at]).collect());
        self.vertex_colours = colours;
        let normals = self.normals.take().filter(|normals| normals.len() == self.vertices.len());
        self.normals = normals.map(|normals| kept.iter().map(|&at| normals[at]).collect());
        self.vertices = kept.iter().map(|&at| self.vertices[at]).collect();
        for corner in self.faces.as_flattened_mut() {
            *corner = renumbered[*corner as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_side_spans_two_about_the_origin() {
        let mut mesh = Mesh::new(vec![[1.0, 2.0, 3.0], [5.0, 4.0, 3.0], [f32::NAN, 0.0, 0.0]], vec![]);
        mesh.normalise();
        assert_eq!(mesh.vertices[..2], [[-1.0, -0.5, 0.0], [1.0, 0.5, 0.0]]);
        assert!(mesh.vertices[2][0].is_nan());
        let mut point = Mesh::new(vec![[7.0; 3]; 2], vec![]);
        point.normalise();
        assert_eq!(point.vertices, [[0.0; 3]; 2]);
        Mesh::default().normalise();
    }

    #[test]
    fn wraps_follow_their_definitions() {
        let all = [Wrap::Repeat, Wrap::MirroredRepeat, Wrap::ClampToEdge, Wrap::ClampToBorder];
        for inside in [0.0, 0.25, 1.0] {
            assert!(all.iter().all(|wrap| wrap.apply(inside) == Some(inside)));
        }
        let at = |coordinate| all.map(|wrap| wrap.apply(coordinate));
        assert_eq!(at(1.25), [Some(0.25), Some(0.75), Some(1.0), None]);
        assert_eq!(at(-0.25), [Some(0.75), Some(0.25), Some(0.0), None]);
        assert_eq!(at(-1.25), [Some(0.75), Some(0.75), Some(0.0), None]);
        assert_eq!(at(2.25), [Some(0.25), Some(0.25), Some(1.0), None]);
        assert_eq!(at(f32::NAN), [Some(0.0); 4]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let good = Mesh::new(vec![[0.0; 3]; 3], vec![[0, 1, 2]]);
        good.check().unwrap();
        let broken = |change: fn(&mut Mesh)| {
            let mut mesh = good.clone();
            change(&mut mesh);
            mesh.check().unwrap_err().to_string()
        };
        type Change = fn(&mut Mesh);
        let cases: [(Change, &str); 5] = [
            (|mesh| mesh.faces[0][2] = 3, "face 0 names vertex 3, but there are 3"),
            (|mesh| mesh.vertex_colours = Some(vec![]), "0 vertex colours for 3 vertices"),
            (|mesh| mesh.texture_coordinates = Some(TextureCoordinates::default()), "for 1 faces"),
            (|mesh| mesh.face_materials = vec![Some(0)], "material 0, but there are 0"),
            (
                |mesh| {
                    let image = Some(Arc::new(Image { width: 2, height: 1, rgb: vec![0; 5] }));
                    mesh.materials.push(Material { name: "wood".into(), image, ..Material::default() });
                },
                "\"wood\" has 5 bytes",
            ),
        ];
        for (change, expected) in cases {
            let message = broken(change);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn seams_are_merged_where_position_and_colour_agree() {
        let [a, b, c] = [[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
        let mut mesh = Mesh::new(vec![a, b, c, b, [-0.0; 3], [1.0, 1.0, 0.0]], vec![[0, 1, 2], [4, 3, 5]]);
        let mut coloured = mesh.clone();
        mesh.merge_vertices();
        assert_eq!((mesh.vertices.len(), &mesh.faces[..]), (4, &[[0, 1, 2], [0, 1, 3]][..]));
        coloured.vertex_colours = Some((0..6).map(|at| [at as f32; 3]).collect());
        coloured.merge_vertices();
        assert_eq!(coloured.vertices.len(), 6);
    }

    proptest! {
        #[test]
        fn normalised_meshes_fill_their_box(
            vertices in prop::collection::vec(prop::array::uniform3(-3e38_f32..3e38), 2..20),
        ) {
            let mut mesh = Mesh::new(vertices, vec![]);
            mesh.normalise();
            let [low, high] = mesh.bounds().unwrap();
            let longest = (0..3).map(|axis| high[axis] - low[axis]).fold(0.0, f32::max);
            prop_assert!((longest - 2.0).abs() < 1e-6);
            prop_assert!((0..3).all(|axis| (high[axis] + low[axis]).abs() < 1e-6));
        }
    }
}
