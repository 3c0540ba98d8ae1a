//! What is drawn on one image: the parts, numbered through.

use std::ops::Range;
use std::sync::Arc;

use relievo_tensor::{Error, Result};

use super::samples::Samples;
use super::triangle::Triangle;
use crate::Faces;

/// Faces of one object, with vertices of their own.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub faces: Faces,
    /// What the faces are pieces of, where some were cut; otherwise each is itself.
    pub pieces: Option<Arc<[Piece]>>,
    pub vertices: usize,
}

/// A piece of a face that was cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Piece {
    /// The face.
    pub face: u32,
    /// Its three barycentric coordinates on the surface, at each corner of the piece; `None` for a whole face.
    pub corners: Option<[[f32; 3]; 3]>,
}

/// All faces of one image.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    parts: Vec<Part>,
    /// First vertex and first face of each part, and the totals.
    starts: Vec<[usize; 2]>,
    /// Whether every face has a back, drawn with its corners reversed. Backs are numbered behind all fronts.
    backs: bool,
}

/// Where a number leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub part: usize,
    /// Index in the part's faces.
    pub face: usize,
    pub back: bool,
}

/// Numbers of faces are stored as f32, which is exact up to here.
const MOST_FACES: usize = 1 << 24;

impl Geometry {
    pub fn new(parts: Vec<Part>, backs: bool) -> Result<Self> {
        let mut starts = vec![[0, 0]];
        for part in &parts {
            part.faces.check("render", part.vertices)?;
            let [vertices, faces] = starts[starts.len() - 1];
            starts.push([vertices + part.vertices, faces + part.faces.len()]);
        }
        let geometry = Self { parts, starts, backs };
        if geometry.numbers() > MOST_FACES {
            let detail = format!("{} faces with both sides, of at most {MOST_FACES}", geometry.numbers());
            return Err(Error::shape("render", detail));
        }
        Ok(geometry)
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn totals(&self) -> [usize; 2] {
        self.starts[self.parts.len()]
    }

    /// All vertices of all parts.
    pub fn vertices(&self) -> usize {
        self.totals()[0]
    }

    /// All faces, without their backs.
    pub fn faces(&self) -> usize {
        self.totals()[1]
    }

    /// Whether faces are seen from behind, too.
    pub fn has_backs(&self) -> bool {
        self.backs
    }

    /// All faces, with their backs where they have them.
    pub fn numbers(&self) -> usize {
        self.faces() * if self.backs { 2 } else { 1 }
    }

    /// The vertices of a part among all.
    pub fn part_vertices(&self, part: usize) -> Range<usize> {
        self.starts[part][0]..self.starts[part + 1][0]
    }

    #[inline(always)]
    pub fn place(&self, number: usize) -> Place {
        let faces = self.totals()[1];
        let (back, index) = if number >= faces { (true, number - faces) } else { (false, number) };
        let part = match self.parts.len() {
            1 => 0,
            _ => self.starts.partition_point(|start| start[1] <= index) - 1,
        };
        Place { part, face: index - self.starts[part][1], back }
    }

    /// Indices of a face's corners among all vertices, in the order in which it is seen from the front.
    #[inline(always)]
    pub fn corners(&self, number: usize) -> [usize; 3] {
        let Place { part, face, back } = self.place(number);
        let first = self.starts[part][0];
        let [a, b, c] = self.parts[part].faces.as_slice()[face].map(|index| first + index as usize);
        if back { [c, b, a] } else { [a, b, c] }
    }

    /// The face on the screen; `None` if it is not drawn.
    #[inline(always)]
    pub fn triangle(&self, number: usize, screen: &[[f32; 3]], samples: Samples) -> Option<Triangle> {
        let corners = self.corners(number).map(|index| screen[index]);
        Triangle::new(number as u32, corners, samples)
    }

    /// The face that is a position's, before cuts, and what of its barycentric coordinates a sample with the weights `weights`
    /// on the surface has. In the order of the face's own corners, for a back, too.
    #[inline(always)]
    pub fn on_face(&self, place: Place, weights: [f32; 3]) -> (usize, [f32; 3]) {
        let [a, b, c] = weights;
        let weights = if place.back { [c, b, a] } else { [a, b, c] };
        match &self.parts[place.part].pieces {
            None => (place.face, weights),
            Some(pieces) => {
                let Piece { face, corners } = pieces[place.face];
                let weights = corners.map_or(weights, |corners| {
                    std::array::from_fn(|k| (0..3).map(|corner| weights[corner] * corners[corner][k]).sum())
                });
                (face as usize, weights)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(faces: usize) -> Part {
        Part { faces: Faces::new(vec![[0, 1, 2]; faces]), pieces: None, vertices: 3 }
    }

    #[test]
    fn parts_are_numbered_through_and_backs_come_last() {
        let geometry = Geometry::new(vec![part(2), part(0), part(3)], true).unwrap();
        assert_eq!((geometry.vertices(), geometry.numbers()), (9, 10));
        let places: Vec<_> = (0..10).map(|n| geometry.place(n)).map(|p| (p.part, p.face, p.back)).collect();
        let fronts = [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)];
        let all: Vec<_> =
            [false, true].iter().flat_map(|back| fronts.map(|(part, face)| (part, face, *back))).collect();
        assert_eq!(places, all);
        assert_eq!((geometry.corners(2), geometry.corners(9)), ([6, 7, 8], [8, 7, 6]));
    }

    #[test]
    fn more_faces_than_can_be_numbered_are_refused() {
        let most = Geometry::new(vec![part(MOST_FACES / 2)], true);
        assert!(most.is_ok());
        let error = Geometry::new(vec![part(MOST_FACES / 2 + 1)], true).unwrap_err().to_string();
        assert!(error.starts_with("render: 16777218 faces"), "{error}");
    }
}
