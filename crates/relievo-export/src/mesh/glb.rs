//! glTF 2.0 in its binary form, one file with mesh, material and texture.
//!
//! Source: Khronos Group, *glTF 2.0 Specification*, sections 3.6 to 3.9 and 4.4. The JSON is written here rather than
//! through a crate of types: it is one page that such types would not shorten, and the tests can then read it with an
//! independent reader (the crate `gltf`).

use std::io;
use std::path::Path;

use relievo_files::{WriteError, write_atomic};
use serde_json::{Value, json};

use super::SurfaceMesh;
use crate::canvas::Canvas;

/// Whether viewers light the surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lighting {
    /// They do: the texture is the albedo.
    Viewer,
    /// They do not: the texture contains the light and is displayed unchanged.
    InTexture,
}

const FLOAT: u32 = 5126;
const UNSIGNED_INT: u32 = 5125;
const ARRAY_BUFFER: u32 = 34962;
const ELEMENT_ARRAY_BUFFER: u32 = 34963;

impl SurfaceMesh {
    /// Writes a GLB file, whole or not at all. `name` is the object's name in viewers.
    ///
    /// # Errors
    /// See [`write_atomic`].
    pub fn write_glb(
        &self,
        path: impl AsRef<Path>,
        name: &str,
        texture: &Canvas,
        lighting: Lighting,
    ) -> Result<(), WriteError> {
        write_atomic(path, |file| file.write_all(&self.to_glb(name, texture, lighting)?))
    }

    /// The file of [`SurfaceMesh::write_glb`] in memory.
    ///
    /// # Errors
    /// If the texture has no pixels.
    pub fn to_glb(&self, name: &str, texture: &Canvas, lighting: Lighting) -> io::Result<Vec<u8>> {
        Ok(self.glb(name, &texture.png()?, lighting))
    }

    /// The bytes of a GLB file, with `png` (a PNG file) as its texture.
    fn glb(&self, name: &str, png: &[u8], lighting: Lighting) -> Vec<u8> {
        let mut binary = Binary::default();
        let positions = binary.push(floats(&self.positions), Some(ARRAY_BUFFER));
        let normals = binary.push(floats(&self.normals), Some(ARRAY_BUFFER));
        let texture_coordinates = binary.push(floats(&self.texture_coordinates), Some(ARRAY_BUFFER));
        let triangles = self.triangles.iter().flatten().flat_map(|corner| corner.to_le_bytes());
        let triangles = binary.push(triangles, Some(ELEMENT_ARRAY_BUFFER));
        let image = binary.push(png.iter().copied(), None);

        let corners = self.positions.len();
        let accessor = |view: usize, component: u32, kind: &str, count: usize| json!({"bufferView": view, "componentType": component, "type": kind, "count": count});
        let [low, high] = self.bounds();
        let mut positions = accessor(positions, FLOAT, "VEC3", corners);
        positions["min"] = json!(low);
        positions["max"] = json!(high);
        let mut material = json!({
            "name": "surface",
            "pbrMetallicRoughness": {
                "baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 1.0
            },
            // The surface is open, so its inside is seen from behind.
            "doubleSided": true,
        });
        let mut extensions: &[&str] = &[];
        if lighting == Lighting::InTexture {
            extensions = &["KHR_materials_unlit"];
            material["extensions"] = json!({"KHR_materials_unlit": {}});
        }
        let mut root = json!({
            "asset": {"version": "2.0", "generator": concat!("relievo ", env!("CARGO_PKG_VERSION"))},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"name": name, "mesh": 0}],
            "meshes": [{"name": name, "primitives": [{
                "attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}, "indices": 3, "material": 0
            }]}],
            "materials": [material],
            "textures": [{"source": 0, "sampler": 0}],
            "images": [{"mimeType": "image/png", "bufferView": image}],
            // Linear filtering with mipmaps; clamped to the edge.
            "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
            "accessors": [
                positions,
                accessor(normals, FLOAT, "VEC3", corners),
                accessor(texture_coordinates, FLOAT, "VEC2", corners),
                accessor(triangles, UNSIGNED_INT, "SCALAR", 3 * self.triangles.len()),
            ],
            "bufferViews": binary.views,
            "buffers": [{"byteLength": binary.bytes.len()}],
        });
        if !extensions.is_empty() {
            root["extensionsUsed"] = json!(extensions);
        }
        pack(&root, binary.bytes)
    }
}

/// The binary buffer and its views.
#[derive(Default)]
struct Binary {
    bytes: Vec<u8>,
    views: Vec<Value>,
}

impl Binary {
    /// Appends a view at a multiple of four bytes and returns its number.
    fn push(&mut self, bytes: impl Iterator<Item = u8>, target: Option<u32>) -> usize {
        let start = self.bytes.len();
        self.bytes.extend(bytes);
        let mut view = json!({"buffer": 0, "byteOffset": start, "byteLength": self.bytes.len() - start});
        if let Some(target) = target {
            view["target"] = json!(target);
        }
        self.views.push(view);
        pad(&mut self.bytes, 0);
        self.views.len() - 1
    }
}

fn floats<const N: usize>(rows: &[[f32; N]]) -> impl Iterator<Item = u8> {
    rows.as_flattened().iter().flat_map(|value| value.to_le_bytes())
}

/// Pads to a multiple of four bytes.
fn pad(bytes: &mut Vec<u8>, filler: u8) {
    bytes.resize(bytes.len().next_multiple_of(4), filler);
}

/// The file: header, JSON chunk, binary chunk.
fn pack(root: &Value, binary: Vec<u8>) -> Vec<u8> {
    let mut text = root.to_string().into_bytes();
    pad(&mut text, b' ');
    let mut file = b"glTF".to_vec();
    let total = 12 + 8 + text.len() + 8 + binary.len();
    for number in [2, total] {
        file.extend((number as u32).to_le_bytes());
    }
    for (kind, content) in [(b"JSON", text), (b"BIN\0", binary)] {
        file.extend((content.len() as u32).to_le_bytes());
        file.extend(kind);
        file.extend(content);
    }
    file
}

#[cfg(test)]
mod tests {
    use gltf::Semantic;
    use gltf::mesh::Mode;

    use super::super::testing::{mesh, texture};
    use super::*;

    fn written(lighting: Lighting) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a \"name\".glb");
        mesh().write_glb(&path, "a \"name\"", &texture(), lighting).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn another_reader_finds_what_was_written() {
        let bytes = written(Lighting::Viewer);
        assert!(bytes.len().is_multiple_of(4));
        // Validates on the way: indices, required fields, bounds of POSITION.
        let document = gltf::Gltf::from_slice(&bytes).unwrap();
        let binary = document.blob.as_deref().unwrap();
        assert_eq!(document.extensions_used().count(), 0);
        let node = document.default_scene().unwrap().nodes().next().unwrap();
        assert_eq!(node.name(), Some("a \"name\""));
        let primitive = node.mesh().unwrap().primitives().next().unwrap();
        assert_eq!(primitive.mode(), Mode::Triangles);

        let mesh = mesh();
        let reader = primitive.reader(|_| Some(binary));
        assert_eq!(reader.read_positions().unwrap().collect::<Vec<_>>(), mesh.positions);
        assert_eq!(reader.read_normals().unwrap().collect::<Vec<_>>(), mesh.normals);
        let places = reader.read_tex_coords(0).unwrap().into_f32().collect::<Vec<_>>();
        assert_eq!(places, mesh.texture_coordinates);
        let corners = reader.read_indices().unwrap().into_u32().collect::<Vec<_>>();
        assert_eq!(corners, mesh.triangles.as_flattened());

        let positions = primitive.get(&Semantic::Positions).unwrap();
        for (bound, expected) in [positions.min(), positions.max()].into_iter().zip(mesh.bounds()) {
            let bound: Vec<f32> =
                bound.unwrap().as_array().unwrap().iter().map(|b| b.as_f64().unwrap() as f32).collect();
            assert_eq!(bound, expected);
        }
        for view in document.views() {
            assert!(view.offset() % 4 == 0 && view.offset() + view.length() <= binary.len());
        }
    }

    #[test]
    fn the_texture_is_inside_and_whole() {
        let bytes = written(Lighting::Viewer);
        let document = gltf::Gltf::from_slice(&bytes).unwrap();
        let material = document.materials().next().unwrap();
        let texture_info = material.pbr_metallic_roughness().base_color_texture().unwrap();
        let gltf::image::Source::View { view, mime_type } = texture_info.texture().source().source() else {
            panic!("the image must be in the file")
        };
        assert_eq!((mime_type, texture_info.tex_coord(), material.double_sided()), ("image/png", 0, true));
        let png = &document.blob.as_deref().unwrap()[view.offset()..][..view.length()];
        assert_eq!(image::load_from_memory(png).unwrap().into_rgb8().into_raw(), texture().bytes());
    }

    #[test]
    fn a_lit_texture_is_not_lit_again() {
        for (lighting, unlit) in [(Lighting::Viewer, false), (Lighting::InTexture, true)] {
            let bytes = written(lighting);
            let document = gltf::Gltf::from_slice(&bytes).unwrap();
            assert_eq!(document.materials().next().unwrap().unlit(), unlit);
            assert_eq!(document.extensions_used().any(|name| name == "KHR_materials_unlit"), unlit);
        }
    }
}
