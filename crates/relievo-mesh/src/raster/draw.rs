//! Coverage and visibility: which face every sample shows.
//!
//! Faces are prepared in parallel and sorted into tiles, each tile's list counted before it is filled, so that none is ever
//! dropped. Threads take bands of tiles. Within a tile faces are drawn in the order of their numbers, eight samples at a
//! time, and a sample changes hands only to a face that is nearer: of equals the lower number stays.

use rayon::prelude::*;
use relievo_tensor::vectorised;

use super::geometry::Geometry;
use super::samples::{Samples, place};
use super::triangle::{Triangle, clamp_to_unit};

/// Rows of samples in a tile; threads share a raster by bands of so many.
const TILE_ROWS: usize = 32;
/// Columns of samples in a tile: its depths and numbers fit into a core's cache.
const TILE_COLUMNS: usize = 512;
/// Samples that are tested together.
const LANES: usize = 8;
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
                draw_tile(
                    &faces,
                    tiles.of(band * across + tile),
                    samples,
                    [rows, columns],
                    near,
                    &places,
                    target,
                );
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

vectorised! {
    fn draw_tile(
        faces: &[Boxed],
        list: &[u32],
        samples: Samples,
        tile: [[usize; 2]; 2],
        near: f32,
        places: &[f32],
        target: Target<'_>,
    ) {
        let Target { depth, numbers, stride } = target;
        let [rows, columns] = tile;
        for face in list {
            let Boxed { triangle, columns: across, rows: down } = &faces[*face as usize];
            let first = across[0].max(columns[0]) / LANES * LANES;
            let end = across[1].min(columns[1]) + 1;
            for row in down[0].max(rows[0])..=down[1].min(rows[1]) {
                let line = (row - rows[0]) * stride;
                let [depth, numbers] = [&mut *depth, &mut *numbers].map(|all| &mut all[line..line + stride]);
                draw_row(triangle, place(row, samples.rows), row as f32, [first, end], near, places, depth, numbers);
            }
        }
    }
}

/// Draws the blocks of samples from `span[0]` on, a multiple of [`LANES`], up to `span[1]` of one row.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn draw_row(
    triangle: &Triangle,
    y: f32,
    row: f32,
    span: [usize; 2],
    near: f32,
    places: &[f32],
    depth: &mut [f32],
    numbers: &mut [f32],
) {
    let Triangle { x: tx, y: ty, z, px, py, slopes, .. } = triangle;
    let edges: [[f32; 3]; 3] = [(0, 1), (1, 2), (2, 0)]
        .map(|(a, b): (usize, usize)| [(y - ty[a]) * (tx[b] - tx[a]), tx[a], ty[b] - ty[a]]);
    let inverse_z = z.map(|z| 1.0 / z);
    let along = slopes.map(|slope| slope[1] * (row - py[0]));
    let number = triangle.number as f32;
    let blocks = places.as_chunks::<LANES>().0;
    let (depth, numbers) = (depth.as_chunks_mut::<LANES>().0, numbers.as_chunks_mut::<LANES>().0);
    for block in span[0] / LANES..span[1].div_ceil(LANES) {
        let places = &blocks[block];
        let mut inside = [0u32; LANES];
        for lane in 0..LANES {
            let within = |[constant, from, slope]: [f32; 3]| constant >= (places[lane] - from) * slope;
            inside[lane] = u32::from(within(edges[0]) & within(edges[1]) & within(edges[2]));
        }
        if inside == [0; LANES] {
            continue;
        }
        let (depth, numbers) = (&mut depth[block], &mut numbers[block]);
        for lane in 0..LANES {
            let dx = (block * LANES + lane) as f32 - px[0];
            let b = slopes[0][0] * dx + along[0];
            let c = slopes[1][0] * dx + along[1];
            let [a, b, c] = [clamp_to_unit(1.0 - b - c), clamp_to_unit(b), clamp_to_unit(c)];
            let d = (a + b + c) / (a * inverse_z[0] + b * inverse_z[1] + c * inverse_z[2]);
            let wins = (inside[lane] != 0) & (d > near) & (d < depth[lane]);
            depth[lane] = if wins { d } else { depth[lane] };
            numbers[lane] = if wins { number } else { numbers[lane] };
        }
    }
}
