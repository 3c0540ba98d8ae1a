//! The nearest face at any point of an image, exactly.
//!
//! Faces are sorted into square tiles that they touch, from near to far. A query tests the faces of its tile until the next
//! one begins behind the best so far.

use rayon::prelude::*;

use super::drawn::{Drawn, Flat, on_surface, turn};
use crate::raster::Bins;

/// Tiles along the longer side of an image, at most.
const MOST_TILES: usize = 128;
/// Pixels along a side of a tile, at least.
const LEAST_SIDE: usize = 4;

/// Tiles are made larger until their lists have at most so many entries, and so many for each face.
const FREELY_LISTED: usize = 1 << 22;
const LISTED: usize = 16;

/// What is seen at a point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    /// The face among [`Drawn::faces`].
    pub face: u32,
    pub depth: f64,
    /// Barycentric coordinates on the surface.
    pub weights: [f32; 3],
}

/// The faces of an image by tile.
pub(crate) struct Points<'a> {
    faces: &'a [Flat],
    near_far: [f64; 2],
    tiles: Bins,
    /// Pixels along a side of a tile.
    side: usize,
    /// Columns and rows of tiles.
    extents: [usize; 2],
}

impl<'a> Points<'a> {
    pub fn new(drawn: &'a Drawn, size: [usize; 2], near_far: [f32; 2]) -> Self {
        let faces = drawn.faces.as_slice();
        let mut side = size[0].max(size[1]).div_ceil(MOST_TILES).max(LEAST_SIDE);
        let extents = |side: usize| size.map(|pixels| pixels.div_ceil(side));
        // The tiles that a face's box covers: columns and rows, first and last.
        let spans = |face: usize, side: usize| {
            let (bounds, counts) = (faces[face].bounds(), extents(side));
            [0, 1].map(|axis| {
                let tile = |at: f64| ((at / side as f64).max(0.0) as usize).min(counts[axis] - 1);
                bounds[axis].map(tile)
            })
        };
        let entries = |side: usize| -> usize {
            let of_face =
                |face| spans(face, side).iter().map(|[first, last]| last - first + 1).product::<usize>();
            (0..faces.len()).into_par_iter().with_min_len(4096).map(of_face).sum()
        };
        while entries(side) > FREELY_LISTED + LISTED * faces.len() {
            side *= 2;
        }
        let extents = extents(side);
        let tiles = Bins::new(faces.len(), extents[0] * extents[1], |face| {
            let [[left, right], [bottom, top]] = spans(face, side);
            (bottom..=top).flat_map(move |row| {
                let touched =
                    (left..=right).filter(move |column| touches(&faces[face], [*column, row], side));
                touched.map(move |column| row * extents[0] + column)
            })
        });
        Self { faces, near_far: near_far.map(f64::from), tiles, side, extents }
    }

    /// The nearest face at a point, in pixels from the lower left corner; of equals the lower number. Points outside of the
    /// image see what is drawn in the tile next to them.
    pub fn nearest(&self, point: [f64; 2]) -> Option<Hit> {
        let [column, row] = [0, 1]
            .map(|axis| ((point[axis] / self.side as f64).max(0.0) as usize).min(self.extents[axis] - 1));
        let [near, far] = self.near_far;
        let mut best: Option<(u32, [f64; 3], f64)> = None;
        for face in self.tiles.of(row * self.extents[0] + column) {
            let flat = &self.faces[*face as usize];
            // Rounding may put a point somewhat before its face.
            if best.is_some_and(|(.., depth)| f64::from(flat.nearest()) * (1.0 - 1e-12) > depth) {
                break;
            }
            let Some((weights, depth)) = flat.hit(point) else { continue };
            let wins = best.is_none_or(|(other, _, least)| {
                depth < least || (depth == least && flat.number < self.faces[other as usize].number)
            });
            if wins && depth > near && depth < far {
                best = Some((*face, weights, depth));
            }
        }
        best.map(|(face, weights, depth)| Hit {
            face,
            depth,
            weights: on_surface(&self.faces[face as usize], weights, depth),
        })
    }
}

/// Whether a face may reach into a tile: false only if the tile lies on the outer side of one of its edges.
fn touches(flat: &Flat, [column, row]: [usize; 2], side: usize) -> bool {
    // A little larger, for points next to the tile and for rounding.
    let [x, y] = [column, row].map(|tile| [(tile * side) as f64 - 0.01, ((tile + 1) * side) as f64 + 0.01]);
    (0..3).all(|corner| {
        let (a, b) = (flat.at[corner], flat.at[(corner + 1) % 3]);
        // The corner of the tile that is furthest to the left of the edge.
        let best = [x[usize::from(b[1] < a[1])], y[usize::from(b[0] > a[0])]];
        turn(a, b, best) >= 0.0
    })
}
