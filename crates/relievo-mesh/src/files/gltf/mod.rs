//! glTF 2.0, read as JSON or in its binary form (GLB), written in the latter.
//!
//! Source: Khronos Group, *glTF 2.0 Specification*. The JSON is read as plain values rather than through the types of the
//! crate `gltf`: its accessors panic on some files, its types take a hundred bytes for each byte of a hostile file, and
//! errors here can name the value. The tests have that crate read what is written.

mod accessor;
mod json;
mod read;
mod write;

pub(super) use read::read;

const FLOAT: u64 = 5126;
const UNSIGNED_INT: u64 = 5125;
const ARRAY_BUFFER: u64 = 34962;
const ELEMENT_ARRAY_BUFFER: u64 = 34963;
const CLAMP_TO_EDGE: u64 = 33071;
const MIRRORED_REPEAT: u64 = 33648;
const REPEAT: u64 = 10497;
