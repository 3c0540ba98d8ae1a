//! Where an image shows a surface, and how much its pixels are to be trusted there.
//!
//! The surface is rendered into the image with its own coordinates for colours, finer than the model's pixels: a place
//! is seen if its pixel shows that place. Pixels near an edge between a near and a far part of the surface are not
//! used, since the model's outline of a turned head is not exactly the image's and background would be taken for skin;
//! nor are pixels that see the surface at a grazing angle.

use rayon::prelude::*;
use relievo_render::{Camera, Motion, RasterSettings, ViewSettings, render_views};
use relievo_tensor::{Result, Tensor, vectorised};

/// Samples of the map of what is seen for each pixel of the model, along each axis.
const FINE: usize = 4;

/// Cosines between normal and line of sight from which on a point counts as seen, and wholly so: at a grazing angle a
/// pixel is stretched over much surface.
const GRAZING: [f32; 2] = [0.15, 0.5];

/// Distances from what a pixel shows to the nearest depth edge, in pixels of the model, from which on it counts and
/// wholly so: edges are where the model's outline and the image's differ.
const MARGIN: [f32; 2] = [0.5, 2.5];

/// Pixels of the canonical view between what neighbouring samples see, above which the surface is torn there.
const TORN: f32 = 1.5;

/// Least rows of a map that a thread takes at a time.
const LEAST_ROWS: usize = 16;

/// A place of the canonical view in the image: column and row in pixels of the model, and how much the pixel there is to be
/// trusted to show the place, 0 to 1.
pub(crate) type Seen = [f32; 3];

/// Places of the canonical view in the image, row by row. Tensors, because those reuse their memory.
pub(crate) struct Visibility {
    /// [`Seen`] for each place.
    pub seen: Tensor,
    /// The cosines between normals and lines of sight: 1 where the surface is seen straight on; 0 outside the image and behind
    /// the surface.
    pub facing: Tensor,
}

/// Where the image shows the places `[u, v]` of the canonical view, u and v among `places` (0 to S-1), row by row.
/// `depth [S,S]` is canonical, `normals [S,S,3]` are its normals.
///
/// # Errors
/// If the renderer refuses the depth.
pub(crate) fn visibility(
    camera: Camera,
    depth: &[f32],
    normals: &[f32],
    view: [f32; 6],
    places: &[f32],
) -> Result<Visibility> {
    let size = camera.size;
    let last = size as f32 - 1.0;
    let map = SeenMap::new(camera, depth, view)?;
    let motion = Motion::new(view);
    let slopes: Vec<f32> = places.iter().map(|place| (place - camera.centre()) / camera.focal()).collect();
    let depth = Enlarged::new(depth.as_chunks::<1>().0, size, places);
    let normals = [0, 1, 2].map(|axis| {
        let along: Vec<[f32; 1]> = normals.as_chunks::<3>().0.iter().map(|normal| [normal[axis]]).collect();
        Enlarged::new(&along, size, places)
    });
    let count = places.len();
    let mut visibility =
        Visibility { seen: Tensor::empty([count, count, 3]), facing: Tensor::empty([count, count]) };
    let seen: &mut [Seen] = visibility.seen.data_mut().as_chunks_mut().0;
    let facing = visibility.facing.data_mut().par_chunks_mut(count.max(1));
    let rows = seen.par_chunks_mut(count.max(1)).zip(facing);
    rows.enumerate().for_each_init(
        || Located::of(places.len()),
        |located, (row, (all, all_facing))| {
            let depth = depth.row(row);
            let normals = normals.each_ref().map(|normals| normals.row(row));
            let normals = normals.each_ref().map(|normals| normals.as_flattened());
            locate(&motion, camera, &slopes, slopes[row], depth.as_flattened(), normals, located);
            let Located { columns, rows, facing, straight } = located;
            for (column, seen) in all.iter_mut().enumerate() {
                let at = [columns[column], rows[column]];
                let is_inside = at.iter().all(|place| (0.0..=last).contains(place));
                let (weight, facing) = match is_inside {
                    true => {
                        let trust = map.trust(at, [places[column], places[row]]);
                        (trust * straight[column], facing[column].max(0.0))
                    }
                    false => (0.0, 0.0),
                };
                (*seen, all_facing[column]) = ([at[0], at[1], weight], facing);
            }
        },
    );
    Ok(visibility)
}

/// Where a row of places of the canonical view lies in the image.
struct Located {
    /// In pixels of the model.
    columns: Vec<f32>,
    rows: Vec<f32>,
    /// As in [`Visibility`].
    facing: Vec<f32>,
    /// How much that is to be trusted.
    straight: Vec<f32>,
}

impl Located {
    fn of(count: usize) -> Self {
        let [columns, rows, facing, straight] = [0; 4].map(|_| vec![0.0; count]);
        Self { columns, rows, facing, straight }
    }
}

vectorised! {
    /// Locates a row of places with these slopes of their lines of sight, depths and normals (x, y, z).
    fn locate(
        motion: &Motion,
        camera: Camera,
        slopes: &[f32],
        slope: f32,
        depth: &[f32],
        normals: [&[f32]; 3],
        located: &mut Located,
    ) {
        let (focal, centre, count) = (camera.focal(), camera.centre(), slopes.len());
        let (depth, [nx, ny, nz]) = (&depth[..count], normals.map(|normals| &normals[..count]));
        let Located { columns, rows, facing, straight } = located;
        let (columns, rows) = (&mut columns[..count], &mut rows[..count]);
        let (facing, straight) = (&mut facing[..count], &mut straight[..count]);
        let Motion { rotation: [a, b, c], translation: [tx, ty, tz] } = *motion;
        for at in 0..count {
            // `Motion::apply`, by hand: only what is inlined is compiled along with this.
            let q = [depth[at] * slopes[at], depth[at] * slope, depth[at] - 1.0];
            let point = [dot(a, q) + tx, dot(b, q) + ty, dot(c, q) + 1.0 + tz];
            columns[at] = focal * point[0] / point[2] + centre;
            rows[at] = focal * point[1] / point[2] + centre;
            let normal = [nx[at], ny[at], nz[at]];
            let turned = [dot(a, normal), dot(b, normal), dot(c, normal)];
            facing[at] = dot(turned, point) / dot(point, point).sqrt();
            straight[at] = smooth_step(facing[at], GRAZING);
        }
    }
}

/// What the image shows where: a finer z-buffer.
struct SeenMap {
    side: usize,
    /// Samples of the map for each pixel of the model.
    scale: f32,
    /// The place of the canonical view that is seen; not a number where none is.
    places: Vec<[f32; 2]>,
    /// How much what lies so far from the nearest edge is to be trusted.
    clear: Vec<f32>,
}

impl SeenMap {
    fn new(camera: Camera, depth: &[f32], view: [f32; 6]) -> Result<Self> {
        let size = camera.size;
        let side = FINE * (size - 1) + 1;
        let scale = (side - 1) as f32 / (size - 1) as f32;
        // Rendered colours lie in [-1,1].
        let along = |at: usize| at as f32 / (size - 1) as f32 * 2.0 - 1.0;
        let coordinates: Vec<[f32; 3]> =
            (0..size * size).map(|at| [along(at % size), along(at / size), 0.0]).collect();
        let settings = ViewSettings {
            size: side,
            raster: RasterSettings { supersampling: 1, pixel_centre: 0.0, ..RasterSettings::default() },
            crop: 0,
            ..ViewSettings::new(camera)
        };
        let image = Tensor::new(coordinates.as_flattened(), [1, size, size, 3])?;
        let depth = Tensor::new(depth, [1, size, size])?;
        let views = render_views(&[&image], &depth, &[view], &settings)?;
        let last = (size - 1) as f32;
        let places: Vec<[f32; 2]> = (views.images[0].data().chunks_exact(3))
            .zip(views.coverage.data())
            .map(|(seen, covered)| match covered {
                0.0 => [f32::NAN; 2],
                _ => [0, 1].map(|axis| (seen[axis] + 1.0) / 2.0 * last),
            })
            .collect();
        // Not where nothing is seen: there the grid ends, not the object.
        let torn = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).abs().max((a[1] - b[1]).abs()) >= TORN;
        let edge = |at: usize| {
            let (row, column) = (at / side, at % side);
            (column + 1 < side && torn(places[at], places[at + 1]))
                || (row + 1 < side && torn(places[at], places[at + side]))
        };
        let mut margin: Vec<f32> =
            (0..side * side).map(|at| if edge(at) { 0.0 } else { f32::INFINITY }).collect();
        spread_distances(&mut margin, side);
        let clear = margin.iter().map(|distance| smooth_step(distance / scale, MARGIN)).collect();
        Ok(Self { side, scale, places, clear })
    }

    /// How much the pixel at `at` shows the place of the canonical view.
    fn trust(&self, at: [f32; 2], place: [f32; 2]) -> f32 {
        let [column, row] = at.map(|x| nearest(x * self.scale).min(self.side - 1));
        let sample = row * self.side + column;
        let [u, v] = self.places[sample];
        let off = (u - place[0]).abs().max((v - place[1]).abs());
        if off < TORN { self.clear[sample] } else { 0.0 }
    }
}

/// The whole number nearest to one that is not below 0, as `round` has it, which is a function call.
fn nearest(x: f32) -> usize {
    let low = x as i32;
    (low + i32::from(x - low as f32 >= 0.5)) as usize
}

/// Distances to the nearest zero, in two passes, along rows, columns and diagonals.
fn spread_distances(distances: &mut [f32], side: usize) {
    // From the row before, which begins and ends with a place that is in no row, then along the row.
    let pass = |before: &mut [f32], row: &mut [f32], backwards: bool| {
        for (at, distance) in row.iter_mut().enumerate() {
            let diagonal = before[at].min(before[at + 2]) + std::f32::consts::SQRT_2;
            *distance = distance.min(diagonal).min(before[at + 1] + 1.0);
        }
        let along = |last: f32, distance: &mut f32| {
            *distance = distance.min(last + 1.0);
            *distance
        };
        match backwards {
            false => row.iter_mut().fold(f32::INFINITY, along),
            true => row.iter_mut().rev().fold(f32::INFINITY, along),
        };
        before[1..=side].copy_from_slice(row);
    };
    let nothing = vec![f32::INFINITY; side + 2];
    let mut before = nothing.clone();
    distances.chunks_exact_mut(side).for_each(|row| pass(&mut before, row, false));
    let mut before = nothing;
    distances.chunks_exact_mut(side).rev().for_each(|row| pass(&mut before, row, true));
}

#[inline(always)]
fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// 0 below the first edge, 1 above the second, smooth between.
#[inline(always)]
pub(crate) fn smooth_step(x: f32, [low, high]: [f32; 2]) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A place along an axis between two of `size` pixels: their numbers, and the share of the second. At the border the
/// border's.
#[derive(Clone, Copy)]
struct Between {
    low: usize,
    high: usize,
    share: f32,
}

impl Between {
    #[inline(always)]
    fn new(place: f32, size: usize) -> Self {
        let place = place.clamp(0.0, size as f32 - 1.0);
        // By way of i32, for which the processor has an instruction.
        let low = (place as i32 as usize).min(size.saturating_sub(2));
        Self { low, high: (low + 1).min(size - 1), share: place - low as i32 as f32 }
    }

    #[inline(always)]
    fn mix<const C: usize>(&self, [low, high]: [[f32; C]; 2]) -> [f32; C] {
        std::array::from_fn(|i| (1.0 - self.share) * low[i] + self.share * high[i])
    }
}

/// A map of `size` x `size` at a place (column, row) between its pixels; at the border the border's.
pub(crate) fn sample<const C: usize>(map: &[[f32; C]], size: usize, place: [f32; 2]) -> [f32; C] {
    let [column, row] = place.map(|place| Between::new(place, size));
    let along = |row: usize| column.mix([column.low, column.high].map(|column| map[row * size + column]));
    row.mix([row.low, row.high].map(along))
}

/// A map of `size` x `size` at all pairs of a row and a column among some places, as [`sample`] has it.
pub(crate) struct Enlarged<const C: usize> {
    rows: Vec<Between>,
    /// The map's rows at the places along them.
    lines: Vec<[f32; C]>,
}

impl<const C: usize> Enlarged<C> {
    pub fn new(map: &[[f32; C]], size: usize, places: &[f32]) -> Self {
        let places: Vec<Between> = places.iter().map(|place| Between::new(*place, size)).collect();
        let mut lines = vec![[0.0; C]; size * places.len()];
        let rows = lines.par_chunks_mut(places.len().max(1)).zip(map.par_chunks_exact(size));
        rows.with_min_len(LEAST_ROWS).for_each(|(line, row)| {
            for (mixed, place) in line.iter_mut().zip(&places) {
                *mixed = place.mix([row[place.low], row[place.high]]);
            }
        });
        Self { rows: places, lines }
    }

    /// The row at the place of this number.
    pub fn row(&self, number: usize) -> Vec<[f32; C]> {
        let mut mixed = vec![[0.0; C]; self.rows.len()];
        self.write_row(number, &mut mixed);
        mixed
    }

    /// Writes the row at the place of this number.
    pub fn write_row(&self, number: usize, mixed: &mut [[f32; C]]) {
        let columns = self.rows.len();
        let row = self.rows[number];
        let [low, high] = [row.low, row.high].map(|line| &self.lines[line * columns..][..columns]);
        let pairs = low.as_flattened().iter().zip(high.as_flattened());
        for (mixed, (low, high)) in mixed.as_flattened_mut().iter_mut().zip(pairs) {
            *mixed = (1.0 - row.share) * low + row.share * high;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelSettings;

    const SIZE: usize = 64;

    fn seen(depth: &[f32], view: [f32; 6]) -> Vec<Seen> {
        let normals = [0.0, 0.0, 1.0].repeat(SIZE * SIZE);
        let places: Vec<f32> = (0..SIZE).map(|at| at as f32).collect();
        visibility(ModelSettings::default().camera(), depth, &normals, view, &places)
            .unwrap()
            .seen
            .data()
            .as_chunks()
            .0
            .to_vec()
    }

    #[test]
    fn a_flat_surface_from_the_front_is_seen_where_it_is() {
        let all = seen(&[1.0; SIZE * SIZE], [0.0; 6]);
        for row in 1..SIZE - 1 {
            for column in 1..SIZE - 1 {
                let [x, y, weight] = all[row * SIZE + column];
                let off = (x - column as f32).abs().max((y - row as f32).abs());
                assert!(off < 1e-3 && weight == 1.0, "{row} {column}: {x} {y} {weight}");
            }
        }
    }

    #[test]
    fn what_a_nearer_part_hides_is_not_seen_nor_trusted_beside_it() {
        // The left half stands out and is turned before the right one.
        let depth: Vec<f32> = (0..SIZE * SIZE).map(|at| if at % SIZE < 32 { 0.9 } else { 1.0 }).collect();
        let all = seen(&depth, [0.0, -0.4, 0.0, 0.0, 0.0, 0.0]);
        let weight = |column: usize| all[31 * SIZE + column][2];
        assert!([34, 38, 42].map(weight).iter().all(|weight| *weight == 0.0), "hidden");
        assert!(weight(31) < 0.1, "at the edge: {}", weight(31));
        assert!(weight(12) == 1.0 && weight(57) == 1.0, "{} {}", weight(12), weight(57));
    }

    #[test]
    fn distances_are_those_to_the_nearest_zero() {
        let mut distances = vec![f32::INFINITY; 49];
        distances[24] = 0.0;
        spread_distances(&mut distances, 7);
        assert_eq!((distances[21], distances[3]), (3.0, 3.0));
        assert!((distances[0] - 3.0 * std::f32::consts::SQRT_2).abs() < 1e-5);
    }
}
