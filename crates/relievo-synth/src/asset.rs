//! The head model, as the crate carries it.
//!
//! Layout of `assets/head_model.bin.gz` after decompression, little endian: the line `RELIEVO-HEAD-1`; u32
//! vertices, u32 triangles, f32 step; f32 positions `[vertices, 3]`; u8 masks `[5, vertices]` (face, lips, eyelids,
//! ears, inside of the mouth); u16 corners `[triangles, 3]`; u8 part per triangle (0 skin, 1 left eye, 2 right eye).
//! Then four bases (macro, shape, asymmetry, expression), each u32 targets, and per target: u8 length and name; the
//! number of vertices that move; their indices; their displacements in x, then y, then z, in steps. These integers are
//! differences to the one before (from 0 in each list), zigzag, seven bits a byte. `examples/pack_head_model.rs`
//! writes it. Unit decimetre, x to the viewer's right, y up, z towards the viewer.

use std::{io::Read, ops::Range};

use flate2::read::GzDecoder;

static PACKED: &[u8] = include_bytes!("../assets/head_model.bin.gz");

/// A linear displacement of some vertices.
pub(crate) struct Target {
    pub name: String,
    moves: Vec<Move>,
}

/// One vertex's displacement, in steps.
struct Move {
    vertex: u16,
    by: [i16; 3],
}

/// A mesh and the ways in which it varies.
pub(crate) struct HeadModel {
    /// Base positions, decimetres.
    pub vertices: Vec<[f32; 3]>,
    /// The surface spread out for textures, decimetres; see `head::wrap`.
    pub wraps: Vec<[f32; 2]>,
    /// Region masks per vertex, in [0, 1], indexed by [`Region`].
    pub masks: Vec<[f32; 5]>,
    pub triangles: Vec<[u16; 3]>,
    pub parts: Vec<Part>,
    /// Vertices that the bases move: the first ones. Sheets that the file does not have follow.
    pub head_vertices: usize,
    pub teeth: Range<usize>,
    /// The hair's curtain, which not every head has.
    pub curtain: Range<usize>,
    pub macros: Vec<Target>,
    pub shapes: Vec<Target>,
    pub asymmetries: Vec<Target>,
    pub expressions: Vec<Target>,
    step: f32,
}

/// What a triangle belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Skin,
    LeftEye,
    RightEye,
    Teeth,
    Curtain,
}

/// Index into a vertex's masks; 0 is the face as a whole.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Region {
    Lips = 1,
    Eyelids,
    Ears,
    InsideMouth,
}

impl HeadModel {
    /// The embedded model as it is packed: without teeth and curtain, and not yet spread out.
    pub fn unpack() -> Self {
        let mut bytes = Vec::new();
        GzDecoder::new(PACKED).read_to_end(&mut bytes).expect("the embedded head model decompresses");
        Self::decode(&mut Reader { bytes: &bytes })
    }

    /// Adds `weight` times a target to positions.
    pub fn displace(&self, positions: &mut [[f32; 3]], target: &Target, weight: f32) {
        let scale = weight * self.step;
        for Move { vertex, by } in &target.moves {
            let position = &mut positions[usize::from(*vertex)];
            for axis in 0..3 {
                position[axis] += scale * f32::from(by[axis]);
            }
        }
    }

    /// The file is part of the program, so anything wrong with it is a bug and panics.
    fn decode(reader: &mut Reader) -> Self {
        assert_eq!(reader.take(15), b"RELIEVO-HEAD-1\n");
        let vertex_count = reader.u32() as usize;
        let triangle_count = reader.u32() as usize;
        let step = reader.f32();
        let vertices = (0..vertex_count).map(|_| std::array::from_fn(|_| reader.f32())).collect();
        let mut masks = vec![[0.0; 5]; vertex_count];
        for region in 0..5 {
            for (mask, &byte) in masks.iter_mut().zip(reader.take(vertex_count)) {
                mask[region] = f32::from(byte) / 255.0;
            }
        }
        let triangles = reader
            .take(triangle_count * 6)
            .chunks_exact(6)
            .map(|corners| std::array::from_fn(|k| u16::from_le_bytes([corners[2 * k], corners[2 * k + 1]])))
            .collect();
        let parts = (reader.take(triangle_count).iter())
            .map(|&part| [Part::Skin, Part::LeftEye, Part::RightEye][usize::from(part)])
            .collect();
        let [macros, shapes, asymmetries, expressions] = std::array::from_fn(|_| reader.basis());
        assert!(reader.bytes.is_empty(), "the head model has been read to its end");
        Self {
            vertices,
            wraps: Vec::new(),
            masks,
            triangles,
            parts,
            head_vertices: vertex_count,
            teeth: 0..0,
            curtain: 0..0,
            macros,
            shapes,
            asymmetries,
            expressions,
            step,
        }
    }
}

/// Takes values off the front of a slice.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        front
    }

    fn word(&mut self) -> [u8; 4] {
        std::array::from_fn(|_| self.take(1)[0])
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.word())
    }

    fn f32(&mut self) -> f32 {
        f32::from_le_bytes(self.word())
    }

    fn integer(&mut self) -> i32 {
        let mut value = 0u32;
        for shift in (0..).step_by(7) {
            let byte = self.take(1)[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        (value >> 1) as i32 ^ -((value & 1) as i32)
    }

    /// Running sums of `count` integers.
    fn integers(&mut self, count: usize) -> Vec<i16> {
        let mut sum = 0;
        (0..count)
            .map(|_| {
                sum += self.integer();
                i16::try_from(sum).expect("displacements and indices fit 16 bits")
            })
            .collect()
    }

    fn basis(&mut self) -> Vec<Target> {
        (0..self.u32()).map(|_| self.target()).collect()
    }

    fn target(&mut self) -> Target {
        let length = usize::from(self.take(1)[0]);
        let name = String::from_utf8(self.take(length).to_vec()).expect("names are UTF-8");
        let count = self.integer() as usize;
        let indices = self.integers(count);
        let [x, y, z] = std::array::from_fn(|_| self.integers(count));
        let moves = (0..count).map(|k| Move { vertex: indices[k] as u16, by: [x[k], y[k], z[k]] }).collect();
        Target { name, moves }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packed_model_is_whole() {
        let model = HeadModel::unpack();
        assert_eq!(model.head_vertices, 4710);
        assert_eq!([model.vertices.len(), model.triangles.len()], [model.masks.len(), model.parts.len()]);
        assert_eq!([model.macros.len(), model.expressions.len()], [18, 99]);
        assert!(model.triangles.as_flattened().iter().all(|&v| usize::from(v) < model.vertices.len()));
        for basis in [&model.macros, &model.shapes, &model.asymmetries, &model.expressions] {
            for target in basis {
                assert!(!target.moves.is_empty(), "{} moves nothing", target.name);
                assert!(target.moves.iter().all(|m| usize::from(m.vertex) < 4710), "{}", target.name);
            }
        }
    }
}
