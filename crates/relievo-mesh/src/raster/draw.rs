//! Coverage and visibility: which face every sample shows.
//!
//! Faces are prepared in parallel and sorted into tiles, each tile's list counted before it is filled, so that none is ever
//! dropped. Threads take bands of tiles. Within a tile faces are drawn in the order of their numbers, eight samples at a
//! time, and a sample changes hands only to a face that is nearer: of equals the lower number stays.

use rayon::prelude::*;

use super::geometry::Geometry;
use super::samples::{Samples, place};
use super::triangle::Triangle;
use crate::lanes::{LANES, Lanes, Work, run};

/// Rows of samples in a tile; threads share a raster by bands of so many.
const TILE_ROWS: usize = 32;
/// Columns of samples in a tile: its depths and numbers fit into a core's cache.
const TILE_COLUMNS: usize = 512;
/// Faces that a thread prepares at a time.
const CHUNK: usize = 2048;

/// A face with the samples it can cover.
struct Boxed {
    triangle: Triangle,
    columns: [usize; 2],
    rows: [usize; 2],
}

/// Lists of what falls into each of a number of bins, in one array.
pub(crate) struct Bins {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Bins {
    /// Sorts `items` into `bins` bins; `of_item` calls its argument for each bin of an item. The order is kept.
    pub fn new(items: usize, bins: usize, mut of_item: impl FnMut(usize, &mut dyn FnMut(usize))) -> Self {
        let mut starts = vec![0u32; bins + 1];
        for item in 0..items {
            of_item(item, &mut |bin| starts[bin + 1] += 1);
        }
        for bin in 0..bins {
            starts[bin + 1] += starts[bin];
        }
        let mut sorted = vec![0; starts[bins] as usize];
        let mut next = starts.clone();
        for item in 0..items {
            of_item(item, &mut |bin| {
                sorted[next[bin] as usize] = item as u32;
                next[bin] += 1;
            });
        }
        Self { starts, items: sorted }
    }

    pub fn of(&self, bin: usize) -> &[u32] {
        &self.items[self.starts[bin] as usize..self.starts[bin + 1] as usize]
    }
}

/// What is drawn into: depths and numbers of faces of some rows, `stride` samples from row to row.
struct Target<'a> {
    depth: &'a mut [f32],
    numbers: &'a mut [f32],
    stride: usize,
}

/// Draws one image: the number of the face that each sample shows, -1 where there is none, and the samples' depths if there
/// is room for them. `screen` are all vertices.
pub(crate) fn draw(
    geometry: &Geometry,
    screen: &[[f32; 3]],
    samples: Samples,
    [near, far]: [f32; 2],
    numbers: &mut [f32],
    depth: Option<&mut [f32]>,
) {
    let boxed = |number: usize| {
        let triangle = geometry.triangle(number, screen, samples)?;
        let [columns, rows] = triangle.bounds(samples)?;
        Some(Boxed { triangle, columns, rows })
    };
    let all = geometry.numbers();
    let chunks: Vec<Vec<Boxed>> = (0..all.div_ceil(CHUNK))
        .into_par_iter()
        .map(|chunk| (chunk * CHUNK..((chunk + 1) * CHUNK).min(all)).filter_map(boxed).collect())
        .collect();
    let faces: Vec<Boxed> = chunks.into_iter().flatten().collect();
    let across = samples.columns.div_ceil(TILE_COLUMNS);
    let tiles = Bins::new(faces.len(), across * samples.rows.div_ceil(TILE_ROWS), |face, add| {
        let Boxed { columns, rows, .. } = &faces[face];
        for band in rows[0] / TILE_ROWS..=rows[1] / TILE_ROWS {
            (columns[0] / TILE_COLUMNS..=columns[1] / TILE_COLUMNS)
                .for_each(|tile| add(band * across + tile));
        }
    });
    let stride = samples.columns.next_multiple_of(LANES);
    let places: Vec<f32> = (0..stride).map(|column| place(column, samples.columns)).collect();
    let band_of =
        |scratch: &mut [Vec<f32>; 2], band: usize, numbers: &mut [f32], depth: Option<&mut [f32]>| {
            let [best, shown] = scratch;
            best.fill(far);
            shown.fill(-1.0);
            let rows = [band * TILE_ROWS, band * TILE_ROWS + numbers.len() / samples.columns - 1];
            for tile in 0..across {
                let columns = [tile * TILE_COLUMNS, (tile + 1) * TILE_COLUMNS - 1];
                let target = Target { depth: best, numbers: shown, stride };
                let list = tiles.of(band * across + tile);
                run(DrawTile { faces: &faces, list, samples, rows, columns, near, places: &places, target });
            }
            let copy = |to: &mut [f32], from: &[f32]| {
                let rows = to.chunks_exact_mut(samples.columns).zip(from.chunks_exact(stride));
                rows.for_each(|(to, from)| to.copy_from_slice(&from[..samples.columns]));
            };
            copy(numbers, shown);
            depth.into_iter().for_each(|depth| copy(depth, best));
        };
    let scratch = || [(); 2].map(|()| vec![0.0; TILE_ROWS * stride]);
    let bands = numbers.par_chunks_mut(TILE_ROWS * samples.columns).enumerate();
    match depth {
        None => {
            bands.for_each_init(scratch, |scratch, (band, numbers)| band_of(scratch, band, numbers, None))
        }
        Some(depth) => bands
            .zip(depth.par_chunks_mut(TILE_ROWS * samples.columns))
            .for_each_init(scratch, |scratch, ((band, numbers), depth)| {
                band_of(scratch, band, numbers, Some(depth))
            }),
    }
}

/// The faces of a list, drawn into a tile.
struct DrawTile<'a> {
    faces: &'a [Boxed],
    list: &'a [u32],
    samples: Samples,
    /// First and last row and column of the tile.
    rows: [usize; 2],
    columns: [usize; 2],
    near: f32,
    /// Places of the columns on the screen.
    places: &'a [f32],
    target: Target<'a>,
}

impl Work for DrawTile<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Target { depth, numbers, stride } = self.target;
        for face in self.list {
            let Boxed { triangle, columns, rows } = &self.faces[*face as usize];
            let first = columns[0].max(self.columns[0]) / LANES * LANES;
            let last = columns[1].min(self.columns[1]);
            for row in rows[0].max(self.rows[0])..=rows[1].min(self.rows[1]) {
                let line = (row - self.rows[0]) * stride;
                let (depth, numbers) = (&mut depth[line..line + stride], &mut numbers[line..line + stride]);
                let at = [place(row, self.samples.rows), row as f32];
                draw_row(l, triangle, at, [first, last], self.near, self.places, depth, numbers);
            }
        }
    }
}

/// Which of some samples of a row lie inside an edge: its value where it does not depend on x, where it starts, its slope.
#[inline(always)]
fn within<L: Lanes>(l: L, [constant, from, slope]: [f32; 3], x: L::V) -> L::M {
    l.ge(l.splat(constant), l.mul(l.sub(x, l.splat(from)), l.splat(slope)))
}

/// Clamped to [0, 1]; 0 for NaN. As [`Triangle::weights`] has it.
#[inline(always)]
fn clamp_to_unit<L: Lanes>(l: L, w: L::V) -> L::V {
    let (zero, one) = (l.splat(0.0), l.splat(1.0));
    let w = l.select(l.gt(w, zero), w, zero);
    l.select(l.gt(one, w), w, one)
}

/// Draws the samples of one row from `span[0]` on, a multiple of [`LANES`], to `span[1]` or somewhat further. `at` is the
/// place of the row on the screen and its number.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn draw_row<L: Lanes>(
    l: L,
    triangle: &Triangle,
    [y, row]: [f32; 2],
    span: [usize; 2],
    near: f32,
    places: &[f32],
    depth: &mut [f32],
    numbers: &mut [f32],
) {
    let Triangle { x: tx, y: ty, z, px, py, slopes, .. } = triangle;
    let edges = [(0, 1), (1, 2), (2, 0)];
    let edges = edges.map(|(a, b): (usize, usize)| [(y - ty[a]) * (tx[b] - tx[a]), tx[a], ty[b] - ty[a]]);
    let inverse_z = [l.splat(1.0 / z[0]), l.splat(1.0 / z[1]), l.splat(1.0 / z[2])];
    let dy = row - py[0];
    let along = [l.splat(slopes[0][1] * dy), l.splat(slopes[1][1] * dy)];
    let across = [l.splat(slopes[0][0]), l.splat(slopes[1][0])];
    let (start, number, near) = (l.splat(px[0]), l.splat(triangle.number as f32), l.splat(near));
    let one = l.splat(1.0);
    let mut first = span[0];
    while first <= span[1] {
        let x = l.load(places, first);
        let inside = l.and(l.and(within(l, edges[0], x), within(l, edges[1], x)), within(l, edges[2], x));
        if l.any(inside) {
            let dx = l.sub(l.from(first as f32), start);
            let b = l.add(l.mul(across[0], dx), along[0]);
            let c = l.add(l.mul(across[1], dx), along[1]);
            let a = clamp_to_unit(l, l.sub(l.sub(one, b), c));
            let (b, c) = (clamp_to_unit(l, b), clamp_to_unit(l, c));
            let over_z = l.add(l.add(l.mul(a, inverse_z[0]), l.mul(b, inverse_z[1])), l.mul(c, inverse_z[2]));
            let d = l.div(l.add(l.add(a, b), c), over_z);
            let best = l.load(depth, first);
            let wins = l.and(inside, l.and(l.gt(d, near), l.gt(best, d)));
            l.store(depth, first, l.select(wins, d, best));
            l.store(numbers, first, l.select(wins, number, l.load(numbers, first)));
        }
        first += LANES;
    }
}
