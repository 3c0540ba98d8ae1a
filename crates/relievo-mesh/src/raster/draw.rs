//! Coverage and visibility: which face every sample shows.
//!
//! Faces that may cover a sample are found in parallel and sorted into tiles, each tile's list counted before it is filled, so
//! that none is ever dropped. Threads take bands of tiles. Within a tile faces are drawn in the order of their numbers, eight
//! samples at a time, and a sample changes hands only to a face that is nearer: of equals the lower number stays.
//!
//! A face whose box holds no sample costs one look at its corners. Of others twelve bytes are kept; each tile prepares the
//! face again, which takes less time than to write and read what was prepared. The lists of all tiles together have at most
//! [`LISTED`] entries a face, whatever the size of the image (see [`Tiles`]).

use rayon::prelude::*;

use super::geometry::Geometry;
use super::samples::{Samples, in_samples, place};
use super::triangle::{Triangle, bounds_if_seen};
use crate::lanes::{LANES, Lanes, Work, run};

/// Rows of samples in a tile; threads share a raster by bands of so many.
const TILE_ROWS: usize = 32;
/// Columns of samples in a tile: its depths and numbers fit into a core's cache.
const TILE_COLUMNS: usize = 512;
/// Faces that a thread prepares at a time.
const CHUNK: usize = 4096;
/// Entries of all tiles' lists: so many a face, and so many that it does not matter.
const LISTED: usize = 4;
const FREELY_LISTED: usize = 1 << 18;

/// A face with the samples it can cover: first and last column and row. An image has at most 32,768 of either.
#[derive(Clone, Copy)]
struct Boxed {
    number: u32,
    columns: [u16; 2],
    rows: [u16; 2],
}

/// Parts of items that threads sort into bins, at most, and items of each, at least.
const BINNED_TOGETHER: usize = 8;
const LEAST_BINNED: usize = 1 << 14;

/// Lists of what falls into each of a number of bins, in one array.
pub(crate) struct Bins {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Bins {
    /// Sorts `items` into `bins` bins; `bins_of` has those of an item. The order is kept.
    pub fn new<B: Iterator<Item = usize>>(
        items: usize,
        bins: usize,
        bins_of: impl Fn(usize) -> B + Sync,
    ) -> Self {
        let each = items.div_ceil(BINNED_TOGETHER).max(LEAST_BINNED);
        if items <= each {
            return Self::of_items(0..items, bins, &bins_of);
        }
        // Threads sort parts of the items; then each bin takes its lists of all parts in turn.
        let parts: Vec<Self> = (0..items.div_ceil(each))
            .into_par_iter()
            .map(|part| Self::of_items(part * each..((part + 1) * each).min(items), bins, &bins_of))
            .collect();
        let mut starts = vec![0u32; bins + 1];
        for bin in 0..bins {
            let own: usize = parts.iter().map(|part| part.of(bin).len()).sum();
            starts[bin + 1] = starts[bin] + own as u32;
        }
        let mut sorted = vec![0; starts[bins] as usize];
        let (mut rest, mut blocks) = (&mut sorted[..], Vec::new());
        let together = bins.div_ceil(BINNED_TOGETHER).max(1);
        for first in (0..bins).step_by(together) {
            let end = (first + together).min(bins);
            let (own, others) = rest.split_at_mut((starts[end] - starts[first]) as usize);
            rest = others;
            blocks.push((first..end, own));
        }
        blocks.into_par_iter().for_each(|(bins, mut to)| {
            for list in bins.flat_map(|bin| parts.iter().map(move |part| part.of(bin))) {
                let (own, others) = to.split_at_mut(list.len());
                own.copy_from_slice(list);
                to = others;
            }
        });
        Self { starts, items: sorted }
    }

    /// The same for some of the items, by one thread.
    fn of_items<B: Iterator<Item = usize>>(
        items: std::ops::Range<usize>,
        bins: usize,
        bins_of: &impl Fn(usize) -> B,
    ) -> Self {
        let mut starts = vec![0u32; bins + 1];
        for item in items.clone() {
            bins_of(item).for_each(|bin| starts[bin + 1] += 1);
        }
        for bin in 0..bins {
            starts[bin + 1] += starts[bin];
        }
        let mut sorted = vec![0; starts[bins] as usize];
        let mut next = starts.clone();
        for item in items {
            for bin in bins_of(item) {
                sorted[next[bin] as usize] = item as u32;
                next[bin] += 1;
            }
        }
        Self { starts, items: sorted }
    }

    pub fn of(&self, bin: usize) -> &[u32] {
        &self.items[self.starts[bin] as usize..self.starts[bin + 1] as usize]
    }
}

/// The faces of each tile. Where the lists would be too long, because many faces cover many tiles, `2^coarse` by `2^coarse`
/// tiles share one: a face that misses a tile draws nothing in it.
struct Tiles {
    bins: Bins,
    coarse: u32,
    /// Lists in a row.
    across: usize,
}

impl Tiles {
    fn new(faces: &[Boxed], samples: Samples) -> Self {
        let spans = |face: &Boxed, coarse: u32| {
            let of = |[first, last]: [u16; 2], length: usize| {
                let list = length << coarse;
                [usize::from(first) / list, usize::from(last) / list]
            };
            [of(face.rows, TILE_ROWS), of(face.columns, TILE_COLUMNS)]
        };
        let entries = |coarse: u32| -> u64 {
            let of_face = |face| spans(face, coarse).map(|[first, last]| (last - first + 1) as u64);
            faces.par_iter().with_min_len(CHUNK).map(of_face).map(|[down, across]| down * across).sum()
        };
        let most = (FREELY_LISTED + LISTED * faces.len()) as u64;
        // 32,768 samples are 2^10 tiles: then there is one list.
        let coarse = (0..10).find(|coarse| entries(*coarse) <= most).unwrap_or(10);
        let [down, across] = [(samples.rows, TILE_ROWS), (samples.columns, TILE_COLUMNS)]
            .map(|(all, length)| all.div_ceil(length << coarse));
        let bins = Bins::new(faces.len(), down * across, |face| {
            let [[top, bottom], [left, right]] = spans(&faces[face], coarse);
            (top..=bottom).flat_map(move |row| (left..=right).map(move |column| row * across + column))
        });
        Self { bins, coarse, across }
    }

    /// The faces of a tile, as indices, in order; some may miss it.
    fn of(&self, band: usize, tile: usize) -> &[u32] {
        self.bins.of((band >> self.coarse) * self.across + (tile >> self.coarse))
    }
}

/// Adds a face to a list if it may cover a sample.
#[inline(always)]
fn add_boxed(list: &mut Vec<Boxed>, number: usize, corners: [[f32; 3]; 3], samples: Samples) {
    if let Some([columns, rows]) = bounds_if_seen(corners, samples) {
        let [columns, rows] = [columns, rows].map(|range| range.map(|index| index as u16));
        list.push(Boxed { number: number as u32, columns, rows });
    }
}

/// The faces that may cover a sample, in the order of their numbers.
fn boxed(geometry: &Geometry, screen: &[[f32; 3]], samples: Samples) -> Vec<Boxed> {
    let (faces, backs) = (geometry.faces(), geometry.has_backs());
    let of_chunk = |chunk: usize| {
        let [mut fronts, mut behind] = [(); 2].map(|()| Vec::new());
        for face in chunk * CHUNK..((chunk + 1) * CHUNK).min(faces) {
            let [a, b, c] = geometry.corners(face).map(|index| screen[index]);
            add_boxed(&mut fronts, face, [a, b, c], samples);
            if backs {
                add_boxed(&mut behind, faces + face, [c, b, a], samples);
            }
        }
        [fronts, behind]
    };
    let chunks: Vec<[Vec<Boxed>; 2]> = (0..faces.div_ceil(CHUNK)).into_par_iter().map(of_chunk).collect();
    let mut all = Vec::with_capacity(chunks.iter().flatten().map(Vec::len).sum());
    (0..2).for_each(|side| chunks.iter().for_each(|chunk| all.extend_from_slice(&chunk[side])));
    all
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
    let faces = boxed(geometry, screen, samples);
    let tiles = Tiles::new(&faces, samples);
    let stride = samples.columns.next_multiple_of(LANES);
    let places: Vec<f32> = (0..stride).map(|column| place(column, samples.columns)).collect();
    let band_of =
        |scratch: &mut [Vec<f32>; 2], band: usize, numbers: &mut [f32], depth: Option<&mut [f32]>| {
            let [best, shown] = scratch;
            best.fill(far);
            shown.fill(-1.0);
            let rows = [band * TILE_ROWS, band * TILE_ROWS + numbers.len() / samples.columns - 1];
            for tile in 0..samples.columns.div_ceil(TILE_COLUMNS) {
                let columns = [tile * TILE_COLUMNS, (tile + 1) * TILE_COLUMNS - 1];
                let target = Target { depth: best, numbers: shown, stride };
                let (geometry, faces, list, places) = (geometry, &faces, tiles.of(band, tile), &places);
                run(DrawTile { geometry, screen, faces, list, samples, rows, columns, near, places, target });
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
    geometry: &'a Geometry,
    screen: &'a [[f32; 3]],
    faces: &'a [Boxed],
    list: &'a [u32],
    samples: Samples,
    /// First and last row and column of the tile.
    rows: [usize; 2],
    columns: [usize; 2],
    near: f32,
    /// Positions of the columns on the screen.
    places: &'a [f32],
    target: Target<'a>,
}

impl Work for DrawTile<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Target { depth, numbers, stride } = self.target;
        for face in self.list {
            let Boxed { number, columns, rows } = self.faces[*face as usize];
            let [columns, rows] = [columns, rows].map(|range| range.map(usize::from));
            let [first, last] = [columns[0].max(self.columns[0]), columns[1].min(self.columns[1])];
            let [top, bottom] = [rows[0].max(self.rows[0]), rows[1].min(self.rows[1])];
            if first > last || top > bottom {
                continue;
            }
            let Some(triangle) = self.geometry.triangle(number as usize, self.screen, self.samples) else {
                continue;
            };
            let spans = (last - first >= WIDE).then(|| Spans::new(&triangle, self.samples.columns));
            for row in top..=bottom {
                let line = (row - self.rows[0]) * stride;
                let (depth, numbers) = (&mut depth[line..line + stride], &mut numbers[line..line + stride]);
                let at = [place(row, self.samples.rows), row as f32];
                let [first, last] = match &spans {
                    Some(spans) => spans.of_row(at[0], [first, last]),
                    None => [first, last],
                };
                let span = [first / LANES * LANES, last];
                draw_row(l, &triangle, at, span, self.near, self.places, depth, numbers);
            }
        }
    }
}

/// Boxes of so many columns are narrowed row by row.
const WIDE: usize = 2 * LANES;

/// Between which columns a face lies in a row, so that the cost of a large face is that of the samples it covers and not of
/// its box.
struct Spans {
    /// Of each edge that bounds rows: a corner, how x changes with y, and whether the face lies to its left.
    edges: [Option<([f32; 2], f32, bool)>; 3],
    columns: usize,
}

impl Spans {
    #[inline(always)]
    fn new(Triangle { x, y, .. }: &Triangle, columns: usize) -> Self {
        let edge = |a: usize, b: usize| {
            let [dx, dy] = [x[b] - x[a], y[b] - y[a]];
            (dy != 0.0).then_some(([x[a], y[a]], dx / dy, dy > 0.0))
        };
        Self { edges: [edge(0, 1), edge(1, 2), edge(2, 0)], columns }
    }

    /// The part of the columns `first..=last` that may be covered in the row at `y` on the screen; the first is greater than
    /// the last if there is none. Wider by much more than what rounding may do: the test of the edges decides.
    #[inline(always)]
    fn of_row(&self, y: f32, [first, last]: [usize; 2]) -> [usize; 2] {
        let (mut low, mut high) = (first as f32, last as f32);
        for ([from_x, from_y], slope, leftwards) in self.edges.into_iter().flatten() {
            let by = (y - from_y) * slope;
            let slack = 2e-6 + 2e-6 * by.abs();
            // Comparisons with NaN, of vast coordinates, are false and leave the span as it is.
            if leftwards {
                let limit = in_samples(from_x + by + slack, self.columns);
                high = if limit < high { limit } else { high };
            } else {
                let limit = in_samples(from_x + by - slack, self.columns);
                low = if limit > low { limit } else { low };
            }
        }
        // Conversion rounds towards zero and saturates.
        [low as usize, if high < 0.0 { 0 } else { high as usize + 1 }.min(last)]
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
/// position of the row on the screen and its number.
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

#[cfg(test)]
mod tests {
    use relievo_tensor::testing::random_tensor;

    use super::*;
    use crate::Faces;
    use crate::raster::Part;

    /// By the definition: all faces in order at every sample.
    fn by_definition(
        geometry: &Geometry,
        screen: &[[f32; 3]],
        samples: Samples,
        [near, far]: [f32; 2],
    ) -> [Vec<f32>; 2] {
        let mut images = [vec![-1.0; samples.count()], vec![far; samples.count()]];
        let triangles = (0..geometry.numbers()).filter_map(|n| geometry.triangle(n, screen, samples));
        for triangle in triangles {
            let [numbers, depths] = &mut images;
            for (sample, (shown, best)) in numbers.iter_mut().zip(depths).enumerate() {
                let (column, row) = (sample % samples.columns, sample / samples.columns);
                let [x, y] = [place(column, samples.columns), place(row, samples.rows)];
                let inside = [(0, 1), (1, 2), (2, 0)].iter().all(|&(a, b): &(usize, usize)| {
                    let Triangle { x: tx, y: ty, .. } = &triangle;
                    (y - ty[a]) * (tx[b] - tx[a]) >= (x - tx[a]) * (ty[b] - ty[a])
                });
                let (_, depth) = triangle.weights(column, row);
                if inside && depth > near && depth < *best {
                    [*shown, *best] = [triangle.number as f32, depth];
                }
            }
        }
        images
    }

    /// Faces of all sizes, most of them slivers; with vast coordinates and equal depths among them.
    fn any_faces(seed: u64, count: usize) -> (Geometry, Vec<[f32; 3]>) {
        let numbers = random_tensor(seed, [count, 10]);
        let of_face = |r: &[f32]| {
            let size = [0.01, 0.3, 3.0, 1e6][(r[9].abs() * 3.99) as usize];
            let flat = if r[8] > 0.0 { 1.0 } else { 0.02 };
            let depth = |k: usize| if r[7] > 0.5 { 2.0 } else { 2.0 + 1.5 * r[k] };
            let corner = |x: usize, y: usize, z: usize| {
                [1.1 * r[0] + size * r[x], 1.1 * r[1] + flat * size * r[y] + 0.3 * size * r[x], depth(z)]
            };
            [corner(2, 3, 4), corner(4, 5, 6), corner(6, 2, 3)]
        };
        let screen: Vec<[f32; 3]> = numbers.data().chunks_exact(10).flat_map(of_face).collect();
        let faces: Vec<[u32; 3]> = (0..count as u32).map(|face| [0, 1, 2].map(|k| 3 * face + k)).collect();
        let part = Part { faces: Faces::new(faces), pieces: None, vertices: screen.len() };
        (Geometry::new(vec![part], true).unwrap(), screen)
    }

    #[test]
    fn every_sample_shows_what_the_definition_says() {
        // One sample; many tiles across, and down; a number of columns that is no multiple of the lanes.
        for (seed, [columns, rows]) in [[1, 1], [37, 21], [1203, 18], [9, 150]].into_iter().enumerate() {
            let samples = Samples { columns, rows };
            let (geometry, screen) = any_faces(seed as u64, 300);
            let mut found = [vec![0.0; samples.count()], vec![0.0; samples.count()]];
            let [numbers, depth] = &mut found;
            draw(&geometry, &screen, samples, [0.6, 3.4], numbers, Some(depth));
            let right = by_definition(&geometry, &screen, samples, [0.6, 3.4]);
            assert!(found == right, "{columns}x{rows}");
        }
    }

    #[test]
    fn bins_keep_the_order_however_many_items_there_are() {
        for items in [0, 5, LEAST_BINNED + 1, 9 * LEAST_BINNED + 7] {
            let bins_of = |item: usize| [item * 31 % 97, item * 7 % 97].into_iter().take(item % 3);
            let bins = Bins::new(items, 97, bins_of);
            for bin in 0..97 {
                let right =
                    (0..items).flat_map(|item| bins_of(item).filter(|b| *b == bin).map(move |_| item as u32));
                assert!(right.eq(bins.of(bin).iter().copied()), "{items}, {bin}");
            }
        }
    }

    #[test]
    fn lists_of_tiles_are_bounded_and_have_every_face() {
        let samples = Samples { columns: 32_768, rows: 32_768 };
        let boxed = |number: u32, columns, rows| Boxed { number, columns, rows };
        for whole in [1, 5, 200] {
            let mut faces: Vec<Boxed> =
                (0..whole).map(|number| boxed(number, [0, 32_767], [0, 32_767])).collect();
            faces.push(boxed(whole, [600, 601], [31, 32]));
            let tiles = Tiles::new(&faces, samples);
            assert!(tiles.bins.items.len() <= FREELY_LISTED + LISTED * faces.len());
            for (band, tile) in [(0, 0), (0, 1), (1, 1), (1023, 63)] {
                let list = tiles.of(band, tile);
                assert!(list.is_sorted() && list.len() >= whole as usize);
                assert_eq!(list[..whole as usize], (0..whole).collect::<Vec<_>>());
                assert!(!(band < 2 && tile == 1) || list.last() == Some(&whole));
            }
        }
    }
}
