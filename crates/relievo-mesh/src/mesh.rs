//! A mesh as files hold it.

use std::sync::Arc;

/// A triangle mesh with what files say about its looks. The renderer's tensors are made from it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mesh {
    /// The name of the object, empty where the file has none.
    pub name: String,
    /// Positions, in the file's own units and axes.
    pub vertices: Vec<[f32; 3]>,
    /// Triangles as indices into `vertices`.
    pub faces: Vec<[u32; 3]>,
    /// A colour per vertex, linear or sRGB as the file has it, in `0..=1`.
    pub vertex_colours: Option<Vec<[f32; 3]>>,
    /// Where the corners of faces lie in pictures.
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
    /// (u, v), v upwards: (0, 0) is the lower left corner of the picture.
    pub coordinates: Vec<[f32; 2]>,
    /// For each face of the mesh three indices into `coordinates`; `None` for faces without coordinates.
    pub faces: Vec<Option<[u32; 3]>>,
}

/// What a face looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Material {
    /// The name by which faces refer to it.
    pub name: String,
    /// Diffuse colour (`Kd` of MTL, `baseColorFactor` of glTF), in `0..=1`.
    pub colour: [f32; 3],
    /// The picture that covers its faces (`map_Kd`, `baseColorTexture`).
    pub picture: Option<Arc<Picture>>,
}

/// An 8-bit sRGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes, row by row from the top.
    pub rgb: Vec<u8>,
}
