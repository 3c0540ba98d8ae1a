//! Writing GLB.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use relievo_files::{WriteError, write_atomic};
use serde_json::{Value, json};

use super::{
    ARRAY_BUFFER, CLAMP_TO_EDGE, ELEMENT_ARRAY_BUFFER, FLOAT, MIRRORED_REPEAT, REPEAT, UNSIGNED_INT,
};
use crate::files::{checked, linear_from_srgb};
use crate::mesh::{Mesh, Wrap};

impl Mesh {
    /// Writes a GLB file, whole or not at all: positions, texture coordinates, vertex colours, and materials with their
    /// images. A vertex with several texture coordinates becomes several vertices, which [`Mesh::open`] merges again.
    ///
    /// # Errors
    /// If the mesh is not sound ([`Mesh::check`]), has no faces or a vertex that is not finite, which glTF cannot hold,
    /// or the file cannot be written.
    pub fn write_glb(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        write_atomic(path, |file| file.write_all(&self.to_glb()?))
    }

    /// The file of [`Mesh::write_glb`] in memory.
    ///
    /// # Errors
    /// As [`Mesh::write_glb`], and for more than 4 GiB.
    pub fn to_glb(&self) -> io::Result<Vec<u8>> {
        checked(self)?;
        if self.faces.is_empty() {
            return Err(io::Error::other("a mesh without faces cannot be glTF; PLY holds it"));
        }
        let finite = |vertex: &[f32; 3]| vertex.iter().all(|value| value.is_finite());
        if let Some(vertex) = self.vertices.iter().position(|vertex| !finite(vertex)) {
            let reason =
                format!("vertex {vertex} is not finite, which glTF forbids; remove its faces and it");
            return Err(io::Error::other(reason));
        }
        let split = Split::new(self);
        let mut file = File::default();
        let attributes = file.attributes(self, &split);
        let mut primitives = Vec::new();
        for (group, corners) in &split.groups {
            let view =
                file.view(corners.iter().flat_map(|corner| corner.to_le_bytes()), Some(ELEMENT_ARRAY_BUFFER));
            let indices = file.accessor(json!({
                "bufferView": view, "componentType": UNSIGNED_INT, "type": "SCALAR", "count": corners.len()
            }));
            let mut attributes = attributes.clone();
            if !group.has_places {
                attributes.as_object_mut().expect("an object").remove("TEXCOORD_0");
            }
            let mut primitive = json!({"attributes": attributes, "indices": indices});
            if let Some(material) = group.material {
                primitive["material"] = json!(material);
            }
            primitives.push(primitive);
        }
        file.materials(self)?;
        file.pack(&self.name, primitives)
    }
}

/// The faces that one primitive can have.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Group {
    material: Option<u32>,
    has_places: bool,
}

/// Vertices with one texture coordinate each.
struct Split {
    /// The vertices of the mesh, in order, then the further copies of those on seams.
    vertices: Vec<u32>,
    /// The texture coordinate of each; `None` where no face has one.
    places: Vec<Option<u32>>,
    /// The corners of the faces of each group, in order of their first face.
    groups: Vec<(Group, Vec<u32>)>,
}

impl Split {
    fn new(mesh: &Mesh) -> Self {
        let count = mesh.vertices.len();
        let mut split =
            Self { vertices: (0..count as u32).collect(), places: vec![None; count], groups: vec![] };
        let mut copies = HashMap::new();
        let mut numbers = HashMap::new();
        for (face, corners) in mesh.faces.iter().enumerate() {
            let places = mesh.texture_coordinates.as_ref().and_then(|texture| texture.faces[face]);
            let material = mesh.face_materials.get(face).copied().flatten();
            let group = Group { material, has_places: places.is_some() };
            let number = *numbers.entry(group).or_insert_with(|| {
                split.groups.push((group, vec![]));
                split.groups.len() - 1
            });
            for (at, &vertex) in corners.iter().enumerate() {
                let corner = match places.map(|places| places[at]) {
                    None => vertex,
                    Some(place) if *split.places[vertex as usize].get_or_insert(place) == place => vertex,
                    Some(place) => *copies.entry((vertex, place)).or_insert_with(|| {
                        split.vertices.push(vertex);
                        split.places.push(Some(place));
                        split.vertices.len() as u32 - 1
                    }),
                };
                split.groups[number].1.push(corner);
            }
        }
        split
    }
}

/// A file in the making: its binary buffer and the lists of its JSON.
#[derive(Default)]
struct File {
    binary: Vec<u8>,
    views: Vec<Value>,
    accessors: Vec<Value>,
    materials: Vec<Value>,
    textures: Vec<Value>,
    samplers: Vec<Value>,
    images: Vec<Value>,
}

impl File {
    /// Appends a view at a multiple of four bytes and returns its number.
    fn view(&mut self, bytes: impl Iterator<Item = u8>, target: Option<u64>) -> usize {
        let start = self.binary.len();
        self.binary.extend(bytes);
        let mut view = json!({"buffer": 0, "byteOffset": start, "byteLength": self.binary.len() - start});
        if let Some(target) = target {
            view["target"] = json!(target);
        }
        self.views.push(view);
        pad(&mut self.binary, 0);
        self.views.len() - 1
    }

    fn accessor(&mut self, accessor: Value) -> usize {
        self.accessors.push(accessor);
        self.accessors.len() - 1
    }

    fn vectors<const N: usize>(&mut self, rows: &[[f32; N]]) -> usize {
        let view =
            self.view(rows.as_flattened().iter().flat_map(|value| value.to_le_bytes()), Some(ARRAY_BUFFER));
        let kind = format!("VEC{N}");
        self.accessor(json!({"bufferView": view, "componentType": FLOAT, "type": kind, "count": rows.len()}))
    }

    fn attributes(&mut self, mesh: &Mesh, split: &Split) -> Value {
        let rows = |list: &[[f32; 3]]| -> Vec<[f32; 3]> {
            split.vertices.iter().map(|&vertex| list[vertex as usize]).collect()
        };
        let positions = self.vectors(&rows(&mesh.vertices));
        let [low, high] = mesh.bounds().expect("there are vertices, all finite");
        self.accessors[positions]["min"] = json!(low);
        self.accessors[positions]["max"] = json!(high);
        let mut attributes = json!({"POSITION": positions});
        if let Some(normals) = &mesh.normals {
            attributes["NORMAL"] = json!(self.vectors(&rows(normals)));
        }
        if let Some(texture) = &mesh.texture_coordinates {
            // glTF counts v from the top.
            let place = |place: &Option<u32>| {
                let [u, v] = place.map_or([0.0; 2], |place| texture.coordinates[place as usize]);
                [u, 1.0 - v]
            };
            attributes["TEXCOORD_0"] =
                json!(self.vectors(&split.places.iter().map(place).collect::<Vec<_>>()));
        }
        if let Some(colours) = &mesh.vertex_colours {
            let linear: Vec<_> =
                rows(colours).into_iter().map(|colour| colour.map(linear_from_srgb)).collect();
            attributes["COLOR_0"] = json!(self.vectors(&linear));
        }
        attributes
    }

    fn materials(&mut self, mesh: &Mesh) -> io::Result<()> {
        let mut images = HashMap::new();
        for material in &mesh.materials {
            let [r, g, b] = material.colour.map(linear_from_srgb);
            let mut model =
                json!({"baseColorFactor": [r, g, b, 1.0], "metallicFactor": 0.0, "roughnessFactor": 1.0});
            if let Some(image) = &material.image {
                let image = match images.get(&Arc::as_ptr(image)) {
                    Some(&image) => image,
                    None => {
                        let view = self.view(image.png()?.into_iter(), None);
                        self.images.push(json!({"mimeType": "image/png", "bufferView": view}));
                        images.insert(Arc::as_ptr(image), self.images.len() - 1);
                        self.images.len() - 1
                    }
                };
                let [s, t] = material.wrap.map(|wrap| match wrap {
                    Wrap::Repeat => REPEAT,
                    Wrap::MirroredRepeat => MIRRORED_REPEAT,
                    Wrap::ClampToEdge | Wrap::ClampToBorder => CLAMP_TO_EDGE,
                });
                // Linear, between pixels and between sizes.
                self.samplers.push(json!({"magFilter": 9729, "minFilter": 9987, "wrapS": s, "wrapT": t}));
                self.textures.push(json!({"source": image, "sampler": self.samplers.len() - 1}));
                model["baseColorTexture"] = json!({"index": self.textures.len() - 1});
            }
            let mut entry = json!({"pbrMetallicRoughness": model});
            if !material.name.is_empty() {
                entry["name"] = json!(material.name);
            }
            if material.double_sided {
                entry["doubleSided"] = json!(true);
            }
            if material.unlit {
                entry["extensions"] = json!({"KHR_materials_unlit": {}});
            }
            self.materials.push(entry);
        }
        Ok(())
    }

    /// The file: header, JSON chunk, binary chunk.
    fn pack(self, name: &str, primitives: Vec<Value>) -> io::Result<Vec<u8>> {
        let mut root = json!({
            "asset": {"version": "2.0", "generator": concat!("relievo ", env!("CARGO_PKG_VERSION"))},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": primitives}],
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": self.binary.len()}],
        });
        if !name.is_empty() {
            root["nodes"][0]["name"] = json!(name);
            root["meshes"][0]["name"] = json!(name);
        }
        if self.materials.iter().any(|material| material.get("extensions").is_some()) {
            root["extensionsUsed"] = json!(["KHR_materials_unlit"]);
        }
        // Lists must not be empty.
        let lists = [
            ("materials", self.materials),
            ("textures", self.textures),
            ("samplers", self.samplers),
            ("images", self.images),
        ];
        for (key, list) in lists {
            if !list.is_empty() {
                root[key] = Value::Array(list);
            }
        }
        let mut text = root.to_string().into_bytes();
        pad(&mut text, b' ');
        let total = 12 + 8 + text.len() + 8 + self.binary.len();
        let total = u32::try_from(total).map_err(|_| io::Error::other("GLB files hold at most 4 GiB"))?;
        let mut file = Vec::with_capacity(total as usize);
        file.extend(b"glTF");
        file.extend(2_u32.to_le_bytes());
        file.extend(total.to_le_bytes());
        for (kind, content) in [(b"JSON", text), (b"BIN\0", self.binary)] {
            file.extend((content.len() as u32).to_le_bytes());
            file.extend(kind);
            file.extend(content);
        }
        Ok(file)
    }
}

/// Pads to a multiple of four bytes.
fn pad(bytes: &mut Vec<u8>, filler: u8) {
    bytes.resize(bytes.len().next_multiple_of(4), filler);
}
