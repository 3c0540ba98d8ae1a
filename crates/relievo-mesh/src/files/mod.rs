//! Mesh files: OBJ with MTL and images, glTF, PLY and STL in; OBJ, GLB, PLY and STL out.
//!
//! [`Mesh::open`] reads a file and those that it names, [`Mesh::write`] writes one. Files are not trusted: damaged or
//! hostile ones are errors that say where and what, and memory stays within a small multiple of what was read
//! ([`Mesh::from_bytes`]).
//!
//! | | read | written |
//! |---|---|---|
//! | OBJ | `v` with colours, `vt`, `f` (polygons as fans, negative indices), `usemtl`, `mtllib`; MTL: `Kd`, `map_Kd` with its options | all but wraps other than repeat and clamp |
//! | glTF, GLB | all scenes' triangles with node transforms, texture coordinates, vertex colours, base colours and their images, both sides or one, `KHR_materials_unlit`; sparse and quantised accessors, `KHR_texture_transform`, `KHR_materials_pbrSpecularGlossiness`, `EXT_texture_webp` | GLB, all |
//! | PLY | text and binary, vertex colours, texture coordinates of vertices or of corners, the image of a `comment TextureFile` | binary; no images |
//! | STL | text and binary | binary |
//!
//! Normals are written to OBJ and GLB but not read: the renderer computes them. Skins and morph targets of glTF are not applied.
//!
//! ```
//! use relievo_mesh::{CubeOptions, Mesh, shapes};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("teapot.obj");
//! shapes::teapot(8).write(&path)?;
//! let mut mesh = Mesh::open(&path)?;
//! mesh.normalise();
//! let cubes = mesh.texture_cubes(&CubeOptions::default())?;
//! assert_eq!(cubes.shape(), [mesh.faces.len(), 4, 4, 4, 3].into());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod gltf;
mod images;
mod obj;
mod ply;
mod stl;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use relievo_files::WriteError;

use crate::mesh::{Mesh, MeshError};

/// A kind of mesh file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MeshFormat {
    /// Wavefront OBJ.
    Obj,
    /// glTF 2.0 in one binary file.
    Glb,
    /// glTF 2.0 as JSON.
    Gltf,
    /// Stanford PLY.
    Ply,
    /// STL, of stereolithography.
    Stl,
}

impl MeshFormat {
    /// The format of a file: by its first bytes where these are certain, otherwise by the extension of its name.
    pub fn of(path: &Path, bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"glTF") {
            return Some(Self::Glb);
        }
        if bytes.starts_with(b"ply\n") || bytes.starts_with(b"ply\r") {
            return Some(Self::Ply);
        }
        Self::of_extension(path)
    }

    fn of_extension(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "obj" => Self::Obj,
            "glb" => Self::Glb,
            "gltf" => Self::Gltf,
            "ply" => Self::Ply,
            "stl" => Self::Stl,
            _ => return None,
        })
    }
}

/// A mesh file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}{place}: {fault}", shown(.path))]
pub struct ReadError {
    /// The file with the fault, which may be one that the mesh names. Empty for bytes in memory.
    pub path: PathBuf,
    /// Where in it.
    pub place: Place,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

/// Where in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    #[default]
    File,
    /// A line, counted from 1.
    Line(usize),
    /// A byte, counted from 0.
    Byte(usize),
    /// A value of glTF's JSON.
    Json(String),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The system cannot read it.
    #[error("{0}")]
    Unreadable(io::Error),
    /// Neither its content nor its name is that of a mesh.
    #[error("it is not a mesh of a known kind; convert it to OBJ, GLB, glTF, PLY or STL")]
    UnknownFormat,
    /// A file that it names cannot be read.
    #[error("it names {name:?}, which cannot be read ({reason}); put that file beside it")]
    Missing {
        /// The name.
        name: String,
        /// What the system says.
        reason: io::Error,
    },
    /// An image cannot be decoded.
    #[error("image {name:?} cannot be used ({reason}); replace it")]
    Image {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Something else was expected there.
    #[error("{expected} expected, found {found:?}")]
    Unexpected {
        /// What belongs there.
        expected: &'static str,
        /// The beginning of what is there.
        found: String,
    },
    /// An index of something that is not there.
    #[error("{what} {index} does not exist; there are {count}")]
    Index {
        /// A vertex, a texture coordinate, a part of glTF.
        what: &'static str,
        /// The index as in the file.
        index: i64,
        /// How many there are.
        count: usize,
    },
    /// The file ends before all is there that it announces.
    #[error("the file ends within {0}; it is damaged or was not copied completely")]
    Truncated(&'static str),
    /// A part of the format that is not read here.
    #[error("{what} cannot be read here; {advice}")]
    Unsupported {
        /// The part.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// More of something than a file of its size may have.
    #[error("it has more than {limit} {what}, which is too much for its size; split it")]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) => write!(f, ", line {line}"),
            Self::Byte(byte) => write!(f, ", byte {byte}"),
            Self::Json(path) => write!(f, ", {path}"),
        }
    }
}

fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() { "the mesh".to_owned() } else { path.display().to_string() }
}

impl Fault {
    /// Somewhere in the mesh's own file.
    fn at(self, place: Place) -> ReadError {
        ReadError { path: PathBuf::new(), place, fault: self }
    }

    fn unexpected(expected: &'static str, found: &[u8]) -> Self {
        let found = String::from_utf8_lossy(&found[..found.len().min(60)]).into_owned();
        Self::Unexpected { expected, found }
    }
}

/// Gives the bytes of a file that a mesh names (materials, images, buffers), by the name in the mesh. `None` leaves it
/// out: faces then have the material's plain colour, and glTF without its buffers is an error.
pub type Resolver<'a> = dyn FnMut(&str) -> io::Result<Option<Vec<u8>>> + 'a;

/// The resolver of [`Mesh::open`]: files by names relative to a folder. Backslashes separate folders as well, and a file
/// that is not where its name says is looked for in the folder itself, because many files carry the paths of the machine
/// they were made on.
pub fn beside(folder: &Path) -> impl FnMut(&str) -> io::Result<Option<Vec<u8>>> + use<> {
    let folder = folder.to_owned();
    move |name| {
        let slashed = name.replace('\\', "/");
        let last = slashed.rsplit('/').next().unwrap_or_default();
        let candidates = [name, &slashed, last].map(|name| folder.join(name));
        let found = candidates.iter().find(|path| path.is_file());
        let Some(found) = found else { return Err(io::ErrorKind::NotFound.into()) };
        std::fs::read(found).map(Some)
    }
}

impl Mesh {
    /// Reads a mesh file and the materials, images and buffers that it names. All objects in it become one mesh.
    ///
    /// # Errors
    /// Says in which file, on which line or at which byte, what is wrong. A material or image that is missing is an
    /// error too; [`Mesh::from_bytes`] can do without.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        let folder = path.parent().unwrap_or(Path::new(""));
        let named = |mut error: ReadError| {
            // A name relative to the mesh, or none.
            error.path =
                if error.path.as_os_str().is_empty() { path.into() } else { folder.join(error.path) };
            error
        };
        let bytes = std::fs::read(path).map_err(|error| named(Fault::Unreadable(error).at(Place::File)))?;
        let format = MeshFormat::of(path, &bytes);
        let format = format.ok_or_else(|| named(Fault::UnknownFormat.at(Place::File)))?;
        Self::from_bytes(&bytes, format, &mut beside(folder)).map_err(named)
    }

    /// As [`Mesh::open`], from memory. `resolver` gives the files that the mesh names: [`beside`] a folder, or those of
    /// an archive, or none (`&mut |_| Ok(None)`).
    ///
    /// Memory stays within about a hundred bytes for each byte of the mesh, plus 128 MiB where glTF repeats a mesh, plus
    /// decoded images: at most 16,384 pixels wide and high, 4,000 times their file's size, and 2 GiB in all.
    ///
    /// # Errors
    /// As [`Mesh::open`], without the path of the mesh.
    pub fn from_bytes(
        bytes: &[u8],
        format: MeshFormat,
        resolver: &mut Resolver<'_>,
    ) -> Result<Self, ReadError> {
        let mesh = match format {
            MeshFormat::Obj => obj::read(bytes, resolver),
            MeshFormat::Glb | MeshFormat::Gltf => gltf::read(bytes, format, resolver),
            MeshFormat::Ply => ply::read(bytes, resolver),
            MeshFormat::Stl => stl::read(bytes),
        }?;
        debug_assert_eq!(mesh.check(), Ok(()));
        Ok(mesh)
    }

    /// Writes a mesh file, whole or not at all, in the format that the extension of its name says: `.obj`
    /// ([`Mesh::write_obj`]), `.glb` ([`Mesh::write_glb`]), `.ply` ([`Mesh::write_ply`]) or `.stl` ([`Mesh::write_stl`]).
    ///
    /// # Errors
    /// If the extension is another one, the mesh is not sound ([`Mesh::check`]), or the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        let path = path.as_ref();
        match MeshFormat::of_extension(path) {
            Some(MeshFormat::Obj) => self.write_obj(path),
            Some(MeshFormat::Glb) => self.write_glb(path),
            Some(MeshFormat::Ply) => self.write_ply(path),
            Some(MeshFormat::Stl) => self.write_stl(path),
            _ => {
                let reason =
                    "meshes are written as .obj, .glb, .ply or .stl; choose one of these extensions".into();
                Err(WriteError { path: path.to_owned(), reason })
            }
        }
    }
}

/// A mesh that is not sound cannot be written.
fn checked(mesh: &Mesh) -> io::Result<()> {
    mesh.check().map_err(|error: MeshError| io::Error::other(error))
}

/// Moves the texture coordinates of one material's faces. Those that other faces use as well are copied.
fn transform_coordinates(mesh: &mut Mesh, material: u32, transform: impl Fn([f32; 2]) -> [f32; 2]) {
    let Some(texture) = &mut mesh.texture_coordinates else { return };
    let mut moved = HashMap::new();
    for (face, owner) in texture.faces.iter_mut().zip(&mesh.face_materials) {
        let Some(corners) = face.as_mut().filter(|_| *owner == Some(material)) else { continue };
        for corner in corners {
            *corner = *moved.entry(*corner).or_insert_with(|| {
                let place = texture.coordinates[*corner as usize];
                texture.coordinates.push(transform(place));
                texture.coordinates.len() as u32 - 1
            });
        }
    }
}

/// The nearest value in [0, 1]; 0 for what is not a number.
fn in_unit(value: f32) -> f32 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}

/// The sRGB value of linear light.
fn srgb_from_linear(linear: f32) -> f32 {
    let linear = f64::from(linear);
    let value = if linear <= 0.0031308 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
    in_unit(value as f32)
}

/// The linear light of an sRGB value.
fn linear_from_srgb(value: f32) -> f32 {
    let value = f64::from(value);
    let linear = if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) };
    in_unit(linear as f32)
}
