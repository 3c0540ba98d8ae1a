//! Reading glTF: nodes, primitives and materials in the order in which they refer to each other, so in one file.

use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use super::accessor::{Accessor, Views};
use super::json::At;
use super::{CLAMP_TO_EDGE, MIRRORED_REPEAT, REPEAT};
use crate::files::images::Images;
use crate::files::{Fault, MeshFormat, Place, ReadError, Resolver, srgb_from_linear};
use crate::mesh::{Image, Material, Mesh, TextureCoordinates, Wrap};

/// Extensions that may be required: those that are read, and those that only concern looks that a mesh does not have.
const KNOWN: [&str; 6] = [
    "KHR_mesh_quantization",
    "KHR_texture_transform",
    "EXT_texture_webp",
    "KHR_lights_punctual",
    "KHR_animation_pointer",
    "KHR_xmp_json_ld",
];
const KNOWN_PREFIX: &str = "KHR_materials_";

/// Vertices and faces that any file may have, and beyond that for each of its bytes. A file that draws one mesh often can
/// have more than it has bytes.
const FREE_ELEMENTS: usize = 1 << 21;
const ELEMENTS_EACH: usize = 2;

/// What drawing a primitive costs of that, however small it is.
const PRIMITIVE: usize = 32;

/// A 4x4 matrix by columns.
type Matrix = [f64; 16];

const IDENTITY: Matrix = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];

pub(in crate::files) fn read(
    bytes: &[u8],
    format: MeshFormat,
    resolver: &mut Resolver<'_>,
) -> Result<Mesh, ReadError> {
    let (json, chunk) = match format {
        MeshFormat::Glb => container(bytes)?,
        _ => (bytes, None),
    };
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
    let root: Value = serde_json::from_slice(json).map_err(|error| {
        Fault::Unexpected { expected: "JSON", found: error.to_string() }.at(Place::Line(error.line()))
    })?;
    let root = At::root(&root);
    check_version(&root)?;
    let buffers = load_buffers(&root, chunk, resolver)?;
    let size = buffers.iter().map(|buffer| buffer.len()).sum::<usize>().saturating_add(bytes.len());
    let mut reader = Reader {
        views: Buffers { root: root.clone(), buffers: &buffers },
        root,
        resolver,
        images: Images::default(),
        limit: FREE_ELEMENTS.saturating_add(size.saturating_mul(ELEMENTS_EACH)),
        spent: 0,
        mesh: Mesh::default(),
        colours: vec![],
        texture: TextureCoordinates::default(),
        materials: HashMap::new(),
        vertices_of: HashMap::new(),
        places_of: HashMap::new(),
    };
    reader.scene()?;
    Ok(reader.finish())
}

/// The JSON and the binary chunk of a GLB file.
fn container(bytes: &[u8]) -> Result<(&[u8], Option<&[u8]>), ReadError> {
    let truncated = |what| Fault::Truncated(what).at(Place::Byte(bytes.len()));
    let word = |at: usize| -> Option<usize> {
        Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().expect("four bytes")) as usize)
    };
    if !bytes.starts_with(b"glTF") {
        return Err(Fault::unexpected("glTF", &bytes[..bytes.len().min(4)]).at(Place::Byte(0)));
    }
    let (Some(version), Some(_)) = (word(4), word(8)) else { return Err(truncated("the header")) };
    if version != 2 {
        return Err(other_version(version.to_string()).at(Place::Byte(4)));
    }
    let mut chunks = [None; 2];
    let mut at = 12;
    while let (Some(length), Some(kind)) = (word(at), bytes.get(at + 4..at + 8)) {
        let content = at.checked_add(8).and_then(|start| bytes.get(start..start.checked_add(length)?));
        let content = content.ok_or_else(|| truncated("a chunk"))?;
        let which = match kind {
            b"JSON" => Some(0),
            b"BIN\0" => Some(1),
            _ => None,
        };
        if let Some(which) = which {
            chunks[which].get_or_insert(content);
        }
        at += 8 + length;
    }
    let json = chunks[0].ok_or_else(|| truncated("the JSON chunk"))?;
    Ok((json, chunks[1]))
}

fn other_version(version: String) -> Fault {
    let what = format!("version {version} of glTF");
    Fault::Unsupported { what, advice: "convert it to version 2.0" }
}

fn check_version(root: &At<'_>) -> Result<(), ReadError> {
    let asset = root.get("asset").ok_or_else(|| root.missing("asset with a version"))?;
    let version = asset.text("version")?.ok_or_else(|| asset.missing("version"))?;
    if !version.starts_with("2.") {
        return Err(asset.error(other_version(version.chars().take(20).collect())));
    }
    for extension in root.items("extensionsRequired")? {
        let name = extension.value.as_str().ok_or_else(|| extension.unexpected("a name"))?;
        if !KNOWN.contains(&name) && !name.starts_with(KNOWN_PREFIX) {
            let what = format!("the extension {}", name.chars().take(60).collect::<String>());
            let advice = "save the mesh without compression, or without this extension";
            return Err(extension.error(Fault::Unsupported { what, advice }));
        }
    }
    Ok(())
}

/// The bytes of a buffer. Buffers of the same file share them.
enum Bytes<'a> {
    Chunk(&'a [u8]),
    Loaded(Rc<Vec<u8>>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Chunk(bytes) => bytes,
            Self::Loaded(bytes) => bytes,
        }
    }
}

fn load_buffers<'a>(
    root: &At<'_>,
    chunk: Option<&'a [u8]>,
    resolver: &mut Resolver<'_>,
) -> Result<Vec<Bytes<'a>>, ReadError> {
    let mut named: HashMap<String, Rc<Vec<u8>>> = HashMap::new();
    let mut buffers = Vec::new();
    for (at, buffer) in root.items("buffers")?.iter().enumerate() {
        let bytes = match buffer.text("uri")? {
            None if at == 0 => Bytes::Chunk(chunk.ok_or_else(|| buffer.missing("uri, or a binary chunk"))?),
            None => return Err(buffer.missing("uri")),
            Some(uri) => Bytes::Loaded(match embedded(uri) {
                Some(bytes) => Rc::new(bytes.ok_or_else(|| buffer.unexpected("a data URI in base64"))?),
                None => {
                    let name = percent_decoded(uri);
                    match named.get(&name) {
                        Some(bytes) => Rc::clone(bytes),
                        None => {
                            let bytes = resolver(&name).and_then(|bytes| {
                                bytes.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
                            });
                            let missing =
                                |reason| buffer.error(Fault::Missing { name: name.clone(), reason });
                            let bytes = Rc::new(bytes.map_err(missing)?);
                            named.insert(name, Rc::clone(&bytes));
                            bytes
                        }
                    }
                }
            }),
        };
        if buffer.optional("byteLength")?.is_some_and(|length| length > bytes.len()) {
            return Err(buffer.error(Fault::Truncated("the buffer")));
        }
        buffers.push(bytes);
    }
    Ok(buffers)
}

/// The content of a data URI: none for another URI, `Some(None)` if it is broken.
fn embedded(uri: &str) -> Option<Option<Vec<u8>>> {
    let data = uri.strip_prefix("data:")?;
    let Some((kind, content)) = data.split_once(',') else { return Some(None) };
    if kind.ends_with(";base64") { Some(base64(content.as_bytes())) } else { Some(None) }
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for quartet in text.chunks(4) {
        let mut bits = 0_u32;
        for &letter in quartet {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        match quartet.len() {
            4 => bytes.extend(&bits.to_be_bytes()[1..]),
            3 => bytes.extend(&(bits << 6).to_be_bytes()[1..3]),
            2 => bytes.push((bits << 12).to_be_bytes()[1]),
            _ => return None,
        }
    }
    Some(bytes)
}

fn percent_decoded(uri: &str) -> String {
    let mut bytes = Vec::with_capacity(uri.len());
    let mut rest = uri.as_bytes();
    while let [first, after @ ..] = rest {
        let code = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = code.and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Buffers<'d> {
    root: At<'d>,
    buffers: &'d [Bytes<'d>],
}

impl<'d> Views<'d> for Buffers<'d> {
    fn view(&self, at: &At<'_>, index: usize) -> Result<(&'d [u8], Option<usize>), ReadError> {
        let view = item(&self.root, at, "bufferViews", index)?;
        let buffer = view.required("buffer")?;
        let fault = || Fault::Index { what: "buffers", index: buffer as i64, count: self.buffers.len() };
        let bytes: &'d [u8] = self.buffers.get(buffer).ok_or_else(|| view.error(fault()))?;
        let start = view.optional("byteOffset")?.unwrap_or(0);
        let end = start.checked_add(view.required("byteLength")?);
        let bytes = end.and_then(|end| bytes.get(start..end));
        let bytes = bytes.ok_or_else(|| view.error(Fault::Truncated("the buffer of a view")))?;
        Ok((bytes, view.optional("byteStride")?))
    }
}

/// What `at` names by its number in a list of the root.
fn item<'a>(root: &At<'a>, at: &At<'_>, list: &'static str, index: usize) -> Result<At<'a>, ReadError> {
    root.item(list, index).ok_or_else(|| {
        let count = root.value.get(list).and_then(Value::as_array).map_or(0, Vec::len);
        at.error(Fault::Index { what: list, index: index as i64, count })
    })
}

/// How a material's texture is laid on: the set of coordinates, offset, rotation and scale.
#[derive(Clone, Copy)]
struct Placement {
    set: usize,
    offset: [f64; 2],
    rotation: f64,
    scale: [f64; 2],
}

impl Placement {
    const PLAIN: Self = Self { set: 0, offset: [0.0; 2], rotation: 0.0, scale: [1.0; 2] };

    /// From glTF's coordinates, v downwards, to those of a mesh.
    fn apply(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        if self.offset == [0.0; 2] && self.rotation == 0.0 && self.scale == [1.0; 2] {
            return [u, 1.0 - v];
        }
        let [u, v] = [f64::from(u) * self.scale[0], f64::from(v) * self.scale[1]];
        let (sine, cosine) = self.rotation.sin_cos();
        let [x, y] = [cosine * u + sine * v + self.offset[0], cosine * v - sine * u + self.offset[1]];
        [x as f32, (1.0 - y) as f32]
    }

    fn bits(&self) -> [u64; 5] {
        [self.offset[0], self.offset[1], self.rotation, self.scale[0], self.scale[1]].map(f64::to_bits)
    }
}

struct Reader<'d, 'r, 's> {
    root: At<'d>,
    views: Buffers<'d>,
    resolver: &'r mut Resolver<'s>,
    images: Images,
    /// Elements that the mesh may have, and those that it has.
    limit: usize,
    spent: usize,
    mesh: Mesh,
    /// Empty if no vertex has a colour.
    colours: Vec<[f32; 3]>,
    texture: TextureCoordinates,
    materials: HashMap<usize, (u32, Placement)>,
    /// First vertex and number of vertices by accessors of positions and colours, for the node at hand.
    vertices_of: HashMap<(usize, Option<usize>), (u32, usize)>,
    /// First coordinate and number of coordinates by accessor and placement.
    places_of: HashMap<(usize, [u64; 5]), (u32, usize)>,
}

impl<'d> Reader<'d, '_, '_> {
    fn scene(&mut self) -> Result<(), ReadError> {
        let nodes = self.root.items("nodes")?;
        let scenes = self.root.items("scenes")?;
        let mut stack: Vec<(usize, Matrix)> = Vec::new();
        let children = |at: &At<'d>, key: &str| -> Result<Vec<usize>, ReadError> {
            at.items(key)?.iter().map(|child| child.number()).collect()
        };
        if scenes.is_empty() {
            let mut is_child = vec![false; nodes.len()];
            for node in &nodes {
                for child in children(node, "children")? {
                    if let Some(is_child) = is_child.get_mut(child) {
                        *is_child = true;
                    }
                }
            }
            let roots = (0..nodes.len()).filter(|&node| !is_child[node]);
            stack.extend(roots.map(|node| (node, IDENTITY)));
        } else {
            let scene = self.root.optional("scene")?.unwrap_or(0);
            let scene = item(&self.root, &self.root, "scenes", scene)?;
            stack.extend(children(&scene, "nodes")?.into_iter().map(|node| (node, IDENTITY)));
        }
        stack.reverse();
        if nodes.is_empty() {
            for mesh in self.root.items("meshes")? {
                self.mesh(&mesh, &IDENTITY)?;
            }
        }
        let mut visited = vec![false; nodes.len()];
        while let Some((index, above)) = stack.pop() {
            let node = item(&self.root, &self.root, "nodes", index)?;
            if std::mem::replace(&mut visited[index], true) {
                return Err(node.error(Fault::Unexpected {
                    expected: "a node with one parent",
                    found: "a second parent, or itself as a descendant".into(),
                }));
            }
            let world = product(&above, &local(&node)?);
            let below = children(&node, "children")?;
            stack.extend(below.into_iter().rev().map(|child| (child, world)));
            if let Some(mesh) = node.optional("mesh")? {
                let mesh = item(&self.root, &node, "meshes", mesh)?;
                if self.mesh.name.is_empty() {
                    let name = node.text("name")?.or(mesh.text("name")?).unwrap_or_default();
                    name.clone_into(&mut self.mesh.name);
                }
                // A skinned mesh stands where its joints put it: in its own frame, if they are at rest.
                let is_skinned = node.get("skin").is_some();
                self.mesh(&mesh, if is_skinned { &IDENTITY } else { &world })?;
            }
        }
        Ok(())
    }

    fn mesh(&mut self, mesh: &At<'d>, world: &Matrix) -> Result<(), ReadError> {
        self.vertices_of.clear();
        for primitive in mesh.items("primitives")? {
            self.spend(&primitive, PRIMITIVE)?;
            self.primitive(&primitive, world)?;
        }
        Ok(())
    }

    fn spend(&mut self, at: &At<'_>, count: usize) -> Result<(), ReadError> {
        self.spent = self.spent.saturating_add(count);
        if self.spent > self.limit {
            return Err(at.error(Fault::TooLarge { what: "vertices and faces", limit: self.limit }));
        }
        Ok(())
    }

    fn accessor(&self, at: &At<'_>, index: usize) -> Result<(At<'d>, Accessor<'d>), ReadError> {
        let at = item(&self.root, at, "accessors", index)?;
        let accessor = Accessor::parse(&at, &self.views)?;
        Ok((at, accessor))
    }

    /// An accessor of vectors of at least N numbers.
    fn vectors<const N: usize>(&mut self, at: &At<'_>, index: usize) -> Result<Vec<[f32; N]>, ReadError> {
        let (accessor_at, accessor) = self.accessor(at, index)?;
        if accessor.width < N {
            return Err(accessor_at.unexpected("vectors of more numbers"));
        }
        self.spend(&accessor_at, accessor.count)?;
        Ok(accessor.floats())
    }

    fn primitive(&mut self, at: &At<'d>, world: &Matrix) -> Result<(), ReadError> {
        let mode = at.optional("mode")?.unwrap_or(4);
        let Some(attributes) = at.get("attributes") else { return Err(at.missing("attributes")) };
        let Some(positions) = attributes.optional("POSITION")? else { return Ok(()) };
        // Points and lines have no faces.
        if mode < 4 {
            return Ok(());
        }
        let (start, count) = self.vertices(&attributes, positions, world)?;
        let corners = match at.optional("indices")? {
            None => {
                self.spend(at, count)?;
                (0..count as u32).collect()
            }
            Some(indices) => {
                let (indices_at, accessor) = self.accessor(at, indices)?;
                self.spend(&indices_at, accessor.count)?;
                accessor.indices().ok_or_else(|| indices_at.unexpected("indices"))?
            }
        };
        if let Some(&index) = corners.iter().find(|&&corner| corner as usize >= count) {
            return Err(at.error(Fault::Index { what: "vertex", index: i64::from(index), count }));
        }
        let (material, placement) = match at.optional("material")? {
            Some(material) => {
                let (material, placement) = self.material(at, material)?;
                (Some(material), placement)
            }
            None => (None, Placement::PLAIN),
        };
        let places = match attributes.optional(&format!("TEXCOORD_{}", placement.set))? {
            Some(accessor) => {
                let (places, of) = self.places(&attributes, accessor, placement)?;
                if of < count {
                    return Err(attributes.error(Fault::Index {
                        what: "TEXCOORD",
                        index: of as i64,
                        count: of,
                    }));
                }
                Some(places)
            }
            None => None,
        };
        let mirrored = determinant(world) < 0.0;
        for mut face in triangles(&corners, mode) {
            if mirrored {
                face.swap(1, 2);
            }
            self.mesh.faces.push(face.map(|corner| start + corner));
            self.mesh.face_materials.push(material);
            self.texture.faces.push(places.map(|places| face.map(|corner| places + corner)));
        }
        Ok(())
    }

    /// Adds vertices in the frame of the scene, unless they are there already.
    fn vertices(
        &mut self,
        attributes: &At<'d>,
        positions: usize,
        world: &Matrix,
    ) -> Result<(u32, usize), ReadError> {
        let colours = attributes.optional("COLOR_0")?;
        if let Some(&found) = self.vertices_of.get(&(positions, colours)) {
            return Ok(found);
        }
        let values = self.vectors::<3>(attributes, positions)?;
        let range = (self.mesh.vertices.len() as u32, values.len());
        if self.mesh.vertices.len() + values.len() > u32::MAX as usize {
            let limit = u32::MAX as usize;
            return Err(attributes.error(Fault::TooLarge { what: "vertices", limit }));
        }
        self.mesh.vertices.extend(values.into_iter().map(|position| transformed(world, position)));
        if let Some(colours) = colours {
            self.colours.resize(range.0 as usize, [1.0; 3]);
            let values = self.vectors::<3>(attributes, colours)?;
            self.colours.extend(values.into_iter().take(range.1).map(|colour| colour.map(srgb_from_linear)));
        }
        if !self.colours.is_empty() {
            self.colours.resize(self.mesh.vertices.len(), [1.0; 3]);
        }
        self.vertices_of.insert((positions, colours), range);
        Ok(range)
    }

    fn places(
        &mut self,
        attributes: &At<'d>,
        accessor: usize,
        placement: Placement,
    ) -> Result<(u32, usize), ReadError> {
        let key = (accessor, placement.bits());
        if let Some(&found) = self.places_of.get(&key) {
            return Ok(found);
        }
        let values = self.vectors::<2>(attributes, accessor)?;
        let range = (self.texture.coordinates.len() as u32, values.len());
        if self.texture.coordinates.len() + values.len() > u32::MAX as usize {
            let limit = u32::MAX as usize;
            return Err(attributes.error(Fault::TooLarge { what: "texture coordinates", limit }));
        }
        self.texture.coordinates.extend(values.into_iter().map(|place| placement.apply(place)));
        self.places_of.insert(key, range);
        Ok(range)
    }

    /// The number of a material in the mesh, and where its texture goes.
    fn material(&mut self, at: &At<'_>, index: usize) -> Result<(u32, Placement), ReadError> {
        if let Some(&found) = self.materials.get(&index) {
            return Ok(found);
        }
        let at = item(&self.root, at, "materials", index)?;
        let extension = at.get("extensions").and_then(|all| all.get("KHR_materials_pbrSpecularGlossiness"));
        let (model, colour, texture) = match extension {
            Some(model) => (Some(model), "diffuseFactor", "diffuseTexture"),
            None => (at.get("pbrMetallicRoughness"), "baseColorFactor", "baseColorTexture"),
        };
        let factor = model.as_ref().map_or(Ok(None), |model| model.numbers::<4>(colour))?.unwrap_or([1.0; 4]);
        let mut material = Material {
            name: at.text("name")?.unwrap_or_default().to_owned(),
            colour: [factor[0], factor[1], factor[2]].map(|value| srgb_from_linear(value as f32)),
            unlit: at.get("extensions").is_some_and(|all| all.get("KHR_materials_unlit").is_some()),
            double_sided: at.get("doubleSided").is_some_and(|both| both.value.as_bool() == Some(true)),
            ..Material::default()
        };
        let mut placement = Placement::PLAIN;
        if let Some(info) = model.and_then(|model| model.get(texture)) {
            placement.set = info.optional("texCoord")?.unwrap_or(0);
            let texture = item(&self.root, &info, "textures", info.required("index")?)?;
            if let Some(transform) = info.get("extensions").and_then(|all| all.get("KHR_texture_transform")) {
                placement.set = transform.optional("texCoord")?.unwrap_or(placement.set);
                placement.offset = transform.numbers("offset")?.unwrap_or(placement.offset);
                placement.scale = transform.numbers("scale")?.unwrap_or(placement.scale);
                let rotation = transform.get("rotation").and_then(|rotation| rotation.value.as_f64());
                placement.rotation = rotation.unwrap_or(0.0);
            }
            material.wrap = self.wrap(&texture)?;
            material.image = self.image(&texture)?;
        }
        let found = (self.mesh.materials.len() as u32, placement);
        self.mesh.materials.push(material);
        self.materials.insert(index, found);
        Ok(found)
    }

    fn wrap(&self, texture: &At<'d>) -> Result<[Wrap; 2], ReadError> {
        let Some(sampler) = texture.optional("sampler")? else { return Ok(Default::default()) };
        let sampler = item(&self.root, texture, "samplers", sampler)?;
        let wrap = |key: &str| -> Result<Wrap, ReadError> {
            let code = sampler.optional(key)?.map_or(REPEAT, |code| code as u64);
            Ok(match code {
                CLAMP_TO_EDGE => Wrap::ClampToEdge,
                MIRRORED_REPEAT => Wrap::MirroredRepeat,
                _ => Wrap::Repeat,
            })
        };
        Ok([wrap("wrapS")?, wrap("wrapT")?])
    }

    fn image(&mut self, texture: &At<'d>) -> Result<Option<Arc<Image>>, ReadError> {
        let webp = texture.get("extensions").and_then(|all| all.get("EXT_texture_webp"));
        let source = webp.as_ref().map_or(Ok(None), |webp| webp.optional("source"))?;
        let Some(source) = source.or(texture.optional("source")?) else {
            let what = "a texture in KTX2 (KHR_texture_basisu)".into();
            return Err(texture.error(Fault::Unsupported { what, advice: "save it with PNG or JPEG" }));
        };
        let image = item(&self.root, texture, "images", source)?;
        let (name, bytes): (String, Option<Vec<u8>>) = match image.text("uri")? {
            Some(uri) => match embedded(uri) {
                Some(bytes) => {
                    let name = format!("images[{source}]");
                    if let Some(found) = self.images.get(&name) {
                        return Ok(Some(found));
                    }
                    (name, Some(bytes.ok_or_else(|| image.unexpected("a data URI in base64"))?))
                }
                None => {
                    let name = percent_decoded(uri);
                    if let Some(found) = self.images.get(&name) {
                        return Ok(Some(found));
                    }
                    let bytes = (self.resolver)(&name);
                    let missing = |reason| image.error(Fault::Missing { name: name.clone(), reason });
                    let bytes = bytes.map_err(missing)?;
                    (name, bytes)
                }
            },
            None => {
                let view = image.required("bufferView")?;
                let name = format!("bufferViews[{view}]");
                if let Some(found) = self.images.get(&name) {
                    return Ok(Some(found));
                }
                let (bytes, _) = self.views.view(&image, view)?;
                return self.images.decode(&name, bytes).map(Some).map_err(|fault| image.error(fault));
            }
        };
        let Some(bytes) = bytes else { return Ok(None) };
        self.images.decode(&name, &bytes).map(Some).map_err(|fault| image.error(fault))
    }

    fn finish(self) -> Mesh {
        let Self { mut mesh, colours, texture, .. } = self;
        mesh.vertex_colours = (!colours.is_empty()).then_some(colours);
        let has_places = texture.faces.iter().any(Option::is_some);
        mesh.texture_coordinates = has_places.then_some(texture);
        if mesh.materials.is_empty() {
            mesh.face_materials = vec![];
        }
        // Writers split vertices where texture coordinates or normals differ.
        mesh.merge_vertices();
        mesh
    }
}

/// The faces of a primitive: separate triangles, a strip or a fan.
fn triangles(corners: &[u32], mode: usize) -> Vec<[u32; 3]> {
    let has_area = |face: &[u32; 3]| face[0] != face[1] && face[1] != face[2] && face[2] != face[0];
    match mode {
        5 => {
            let faces = corners.windows(3).enumerate().map(|(at, face)| {
                // Every other one is turned.
                if at % 2 == 0 { [face[0], face[1], face[2]] } else { [face[1], face[0], face[2]] }
            });
            // Strips repeat corners to jump.
            faces.filter(has_area).collect()
        }
        6 => {
            let Some((first, rest)) = corners.split_first() else { return vec![] };
            rest.windows(2).map(|pair| [*first, pair[0], pair[1]]).filter(has_area).collect()
        }
        _ => corners.as_chunks::<3>().0.to_vec(),
    }
}

/// The transform of a node: a matrix, or scale, rotation and translation.
fn local(node: &At<'_>) -> Result<Matrix, ReadError> {
    if let Some(matrix) = node.numbers::<16>("matrix")? {
        return Ok(matrix);
    }
    let [tx, ty, tz] = node.numbers("translation")?.unwrap_or([0.0; 3]);
    let [x, y, z, w] = node.numbers("rotation")?.unwrap_or([0.0, 0.0, 0.0, 1.0]);
    let [sx, sy, sz] = node.numbers("scale")?.unwrap_or([1.0; 3]);
    Ok([
        sx * (1.0 - 2.0 * (y * y + z * z)),
        sx * 2.0 * (x * y + z * w),
        sx * 2.0 * (x * z - y * w),
        0.0,
        sy * 2.0 * (x * y - z * w),
        sy * (1.0 - 2.0 * (x * x + z * z)),
        sy * 2.0 * (y * z + x * w),
        0.0,
        sz * 2.0 * (x * z + y * w),
        sz * 2.0 * (y * z - x * w),
        sz * (1.0 - 2.0 * (x * x + y * y)),
        0.0,
        tx,
        ty,
        tz,
        1.0,
    ])
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|at| (0..4).map(|k| a[at % 4 + 4 * k] * b[at / 4 * 4 + k]).sum())
}

fn transformed(matrix: &Matrix, position: [f32; 3]) -> [f32; 3] {
    if *matrix == IDENTITY {
        return position;
    }
    let [x, y, z] = position.map(f64::from);
    std::array::from_fn(|row| {
        (matrix[row] * x + matrix[4 + row] * y + matrix[8 + row] * z + matrix[12 + row]) as f32
    })
}

fn determinant(m: &Matrix) -> f64 {
    m[0] * (m[5] * m[10] - m[6] * m[9]) - m[4] * (m[1] * m[10] - m[2] * m[9])
        + m[8] * (m[1] * m[6] - m[2] * m[5])
}
