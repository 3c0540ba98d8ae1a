//! The depth of a moved surface grid in the input view: a z-buffer over the grid's triangles, with a gradient.
//!
//! The grid's corners are projected once per image. The image is then rasterised in independent bands of rows: a band takes
//! the cells whose rows can reach it, in order, and every triangle visits only the samples within its bounding box, a
//! handful. The nearest triangle wins a sample, the first of several at the same depth. So an image costs O(S^2), a single
//! image keeps several cores busy, and the result does not depend on the bands.
//!
//! In the backward pass every sample contributes to the triangle that won it. Under perspective 1/depth is an affine
//! function q of the place on the screen; with the barycentric weights w and the gradient G of a sample's depth D, the
//! triangle's sums `A_k = sum G D^2 w_k` give its corners' gradients: `A_k grad q` on the screen and `A_k / z_k^2` in
//! depth. The forward pass saves the winner and `D^2 w_k` of each sample, so that triangles are not visited again. The
//! original clamps the weights to [0, 1] and renormalises them; within the triangle that only removes rounding, so it is not
//! part of the gradient. Each image is summed in a fixed order.

mod cuda;

pub(crate) use cuda::KERNELS;

use std::ops::Range;

use rayon::prelude::*;
use relievo_tensor::{Backward, Buffer, Context, Error, Operation, Result, Tensor, apply_one};

use crate::Camera;
use crate::triangle::{Raster, Sample};

/// Parameters of [`rasterise_depth`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RasterSettings {
    /// Samples per pixel along each axis; a pixel's depth is the mean of its samples.
    pub supersampling: usize,
    /// The near plane: nothing at this depth or nearer is visible.
    pub near: f32,
    /// The far plane: nothing at this depth or farther is visible. Also the depth of a sample without a triangle.
    pub far: f32,
    /// The coordinate of the middle of pixel 0, in pixels. 0.5 is the original: its renderer counts pixels by their edges
    /// but is given coordinates that count their centres, so a pixel's depth is that of the surface half a pixel to the
    /// right of and below the place that [`crate::sampling_grid`] assumes. 0 agrees with the grid.
    pub pixel_centre: f32,
}

impl Default for RasterSettings {
    fn default() -> Self {
        Self { supersampling: 2, near: 0.1, far: 10.0, pixel_centre: 0.5 }
    }
}

impl RasterSettings {
    /// The raster of samples of an image; its unit is the distance between two samples.
    pub(crate) fn raster(&self, size: usize) -> Raster {
        let samples = size * self.supersampling;
        let offset = 0.5 + self.supersampling as f32 * (self.pixel_centre - 0.5);
        Raster { columns: samples, rows: samples, offset }
    }
}

/// The depth of a surface grid as seen by the camera.
///
/// `points` `[B, S, S, 3]`, S the camera's size: every cell of the grid is two triangles, (v,u) (v+1,u) (v,u+1) and
/// (v,u+1) (v+1,u) (v+1,u+1), visible from both sides; triangles with a corner behind the camera are left out. Result
/// `[B, S, S]`: per sample the perspective-correct depth `1 / sum(w_k / z_k)` of the nearest triangle, `far` without
/// one, then the mean over the pixel's samples, clamped to `limits`, least first: [`DepthRange::widened`] brings the
/// background to where [`crate::sampling_grid`] masks it. Gradient: exact in x, y and z of the corners, which sample
/// belongs to which triangle held constant; none from pixels that were clamped. Source: Kato et al. 2018 for the
/// rasteriser, Wu et al. 2020, section 3.3.
///
/// [`DepthRange::widened`]: crate::DepthRange::widened
///
/// # Errors
/// If `points` does not have the camera's size, the supersampling is 0, or the image is too large to number its triangles.
pub fn rasterise_depth(
    points: &Tensor,
    camera: Camera,
    settings: RasterSettings,
    limits: [f32; 2],
) -> Result<Tensor> {
    apply_one(RasteriseDepth { camera, settings, limits }, &[points])
}

struct RasteriseDepth {
    camera: Camera,
    settings: RasterSettings,
    limits: [f32; 2],
}

/// Rows of pixels in a band. Cells at a band's edge are processed twice, so bands must not be too thin.
pub(crate) const BAND: usize = 16;

/// The record of a sample for the gradient: the number of the triangle that won it, then `D^2 w_k` of its depth and its
/// weights.
type Won = [f32; 4];

/// The record of samples without a triangle, and of those of a clamped pixel, whose triangles receive no gradient.
const NOBODY: Won = [-1.0, 0.0, 0.0, 0.0];

/// Triangles are numbered in f32, which is exact up to here.
const MOST_TRIANGLES: usize = 1 << 24;

/// The two triangles of the cell at (`row`, `column`): indices into the grid's corners.
pub(crate) fn triangles(size: usize, row: usize, column: usize) -> [[usize; 3]; 2] {
    let corner = row * size + column;
    [[corner, corner + size, corner + 1], [corner + 1, corner + size, corner + size + 1]]
}

/// The number of the first of the two triangles of a cell.
fn first_triangle(size: usize, row: usize, column: usize) -> usize {
    2 * (row * (size - 1) + column)
}

/// Focal length and centre of the camera in units of samples.
fn in_samples(camera: &Camera, samples_per_pixel: usize) -> [f32; 2] {
    [camera.focal(), camera.centre()].map(|pixels| samples_per_pixel as f32 * pixels)
}

/// Projects points to `[x in samples, y in samples, depth]`.
pub(crate) fn project(
    points: &[[f32; 3]],
    camera: &Camera,
    samples_per_pixel: usize,
    screen: &mut [[f32; 3]],
) {
    let [focal, centre] = in_samples(camera, samples_per_pixel);
    for (place, [x, y, z]) in screen.iter_mut().zip(points) {
        *place = [focal * x / z + centre, focal * y / z + centre, *z];
    }
}

/// The least and the greatest y of every row of cells, which decide the bands that it can reach. NaNs are ignored, as are
/// the triangles they belong to.
pub(crate) fn cell_row_extents(screen: &[[f32; 3]], size: usize) -> Vec<[f32; 2]> {
    let of_row = |row: &[[f32; 3]]| {
        row.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], p| [low.min(p[1]), high.max(p[1])])
    };
    let rows: Vec<[f32; 2]> = screen.chunks_exact(size).map(of_row).collect();
    rows.windows(2).map(|pair| [pair[0][0].min(pair[1][0]), pair[0][1].max(pair[1][1])]).collect()
}

/// One image's grid on the screen.
pub(crate) struct Surface<'a> {
    /// Corners as [`project`] gives them, `size` in a row.
    pub screen: &'a [[f32; 3]],
    /// The result of [`cell_row_extents`].
    pub extents: &'a [[f32; 2]],
    /// Rows and columns of corners.
    pub size: usize,
}

impl Surface<'_> {
    /// Calls `visit(number of the triangle, its corners' indices, their places, sample)` for every sample of the rows
    /// `rows` that a triangle covers, triangle by triangle in order.
    pub fn visit_band(
        &self,
        raster: &Raster,
        rows: &Range<usize>,
        mut visit: impl FnMut(usize, &[usize; 3], &[[f32; 3]; 3], Sample),
    ) {
        let [top, bottom] = [rows.start, rows.end - 1].map(|row| row as f32 + raster.offset);
        for (row, [low, high]) in self.extents.iter().enumerate() {
            if *low > bottom || *high < top {
                continue;
            }
            for column in 0..self.size - 1 {
                let first = first_triangle(self.size, row, column);
                for (half, indices) in triangles(self.size, row, column).iter().enumerate() {
                    let corners = indices.map(|index| self.screen[index]);
                    raster.visit_rows(&corners, rows.clone(), |sample| {
                        visit(first + half, indices, &corners, sample);
                    });
                }
            }
        }
    }
}

/// Fills the z-buffer of the sample rows `rows` of one image, and the records of its samples.
fn fill_band(
    surface: &Surface<'_>,
    settings: &RasterSettings,
    rows: Range<usize>,
    buffer: &mut [f32],
    won: &mut [Won],
) {
    let raster = settings.raster(surface.size);
    buffer.fill(settings.far);
    won.fill(NOBODY);
    surface.visit_band(&raster, &rows, |number, _, _, Sample { column, row, weights, depth }| {
        let place = (row - rows.start) * raster.columns + column;
        if depth > settings.near && depth < buffer[place] {
            buffer[place] = depth;
            let [a, b, c] = weights.map(|weight| depth * depth * weight);
            won[place] = [number as f32, a, b, c];
        }
    });
}

/// Means over squares of samples: one row of pixels from its rows of samples.
fn mean_row(samples: &[f32], supersampling: usize, pixels: &mut [f32]) {
    let columns = pixels.len() * supersampling;
    let share = 1.0 / (supersampling * supersampling) as f32;
    for (column, pixel) in pixels.iter_mut().enumerate() {
        let squares =
            samples.chunks_exact(columns).map(|row| &row[column * supersampling..][..supersampling]);
        *pixel = squares.flatten().sum::<f32>() * share;
    }
}

/// Clamps a row of pixels. Samples of a clamped pixel are marked as background, so that they receive no gradient.
fn clamp_row(pixels: &mut [f32], [low, high]: [f32; 2], won: &mut [Won], supersampling: usize) {
    let columns = pixels.len() * supersampling;
    for (column, pixel) in pixels.iter_mut().enumerate() {
        if !(low..=high).contains(pixel) {
            *pixel = pixel.max(low).min(high);
            for row in won.chunks_exact_mut(columns) {
                row[column * supersampling..][..supersampling].fill(NOBODY);
            }
        }
    }
}

/// Gradients of one triangle's corners on the screen and in depth (`[x, y, z]` in units of samples), from its sums A.
fn corner_gradients(corners: &[[f32; 3]; 3], sums: [f64; 3]) -> [[f32; 3]; 3] {
    let [a, b, c] = corners.map(|[x, y, z]| [f64::from(x), f64::from(y), 1.0 / f64::from(z)]);
    let [ab, ac] = [b, c].map(|p| [p[0] - a[0], p[1] - a[1], p[2] - a[2]]);
    let inverse_area = 1.0 / (ab[0] * ac[1] - ab[1] * ac[0]);
    let along_x = (ab[2] * ac[1] - ac[2] * ab[1]) * inverse_area;
    let along_y = (ac[2] * ab[0] - ab[2] * ac[0]) * inverse_area;
    let inverse_z = [a[2], b[2], c[2]];
    std::array::from_fn(|k| {
        [sums[k] * along_x, sums[k] * along_y, sums[k] * inverse_z[k] * inverse_z[k]].map(|g| g as f32)
    })
}

/// One image's gradient in its corners on the screen, from the records of its samples and their gradients. `sums` has a
/// number for each triangle.
fn screen_gradients(
    screen: &[[f32; 3]],
    size: usize,
    won: &[Won],
    sample_gradient: impl Fn(usize) -> f32,
    sums: &mut [[f64; 3]],
    gradients: &mut [[f32; 3]],
) {
    sums.fill([0.0; 3]);
    gradients.fill([0.0; 3]);
    for (sample, [number, shares @ ..]) in won.iter().enumerate() {
        if *number >= 0.0 {
            let g = sample_gradient(sample);
            let sums = &mut sums[*number as usize];
            sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += f64::from(g * share));
        }
    }
    let cells = (0..size - 1).flat_map(|row| (0..size - 1).map(move |column| triangles(size, row, column)));
    for (indices, sums) in cells.flatten().zip(sums) {
        if *sums != [0.0; 3] {
            let corners = indices.map(|corner| screen[corner]);
            for (corner, gradient) in indices.into_iter().zip(corner_gradients(&corners, *sums)) {
                gradients[corner].iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
            }
        }
    }
}

impl RasteriseDepth {
    /// The number of images.
    fn check(&self, points: &Tensor) -> Result<usize> {
        let (size, per_pixel) = (self.camera.size, self.settings.supersampling);
        let batch = self.camera.images_of(self.name(), points, 3)?;
        if 2 * size * size > MOST_TRIANGLES || per_pixel == 0 {
            let detail = format!("cannot rasterise {size}x{size} pixels with supersampling {per_pixel}");
            return Err(Error::shape(self.name(), detail));
        }
        Ok(batch)
    }

    /// The projected corners of all images.
    fn screen(&self, points: &Tensor) -> Buffer {
        let row = self.camera.size * 3;
        let mut screen = Buffer::empty(points.numel());
        screen.par_chunks_mut(row).zip(points.data().par_chunks(row)).for_each(|(screen, points)| {
            let screen = screen.as_chunks_mut().0;
            project(points.as_chunks().0, &self.camera, self.settings.supersampling, screen);
        });
        screen
    }
}

impl Operation for RasteriseDepth {
    fn name(&self) -> &'static str {
        "rasterise_depth"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs[0])?;
        let (size, per_pixel) = (self.camera.size, self.settings.supersampling);
        let screen = self.screen(inputs[0]);
        let raster = self.settings.raster(size);
        let mut depth = Tensor::empty([batch, size, size]);
        let mut won = Tensor::empty([batch, raster.rows, raster.columns, 4]);
        let images = depth.data_mut().par_chunks_mut(size * size);
        let images =
            images.zip(won.data_mut().as_chunks_mut().0.par_chunks_mut(raster.rows * raster.columns));
        images.zip(screen.par_chunks(size * size * 3)).for_each(|((depth, won), screen)| {
            let screen = screen.as_chunks::<3>().0;
            let surface = Surface { screen, extents: &cell_row_extents(screen, size), size };
            let bands = depth.par_chunks_mut(BAND * size);
            let bands = bands.zip(won.par_chunks_mut(BAND * per_pixel * raster.columns)).enumerate();
            bands.for_each(|(band, (depth, won))| {
                let first = band * BAND * per_pixel;
                let rows = first..first + won.len() / raster.columns;
                let mut buffer = Buffer::empty(won.len());
                fill_band(&surface, &self.settings, rows, &mut buffer, won);
                let row = per_pixel * raster.columns;
                let samples = buffer.chunks_exact(row).zip(won.chunks_exact_mut(row));
                for (pixels, (samples, won)) in depth.chunks_exact_mut(size).zip(samples) {
                    mean_row(samples, per_pixel, pixels);
                    clamp_row(pixels, self.limits, won, per_pixel);
                }
            });
        });
        context.save(inputs[0]);
        context.save(&won);
        Ok(vec![depth])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (points, won, dy) = (&backward.saved[0], backward.saved[1].data(), backward.gradient().data());
        let (size, per_pixel) = (self.camera.size, self.settings.supersampling);
        let raster = self.settings.raster(size);
        let share = 1.0 / (per_pixel * per_pixel) as f32;
        let screen = self.screen(points);
        let [focal, _] = in_samples(&self.camera, per_pixel);
        let pixels = size * size;
        let mut dpoints = Tensor::empty(points.shape());
        let images = dpoints.data_mut().par_chunks_mut(pixels * 3).zip(points.data().par_chunks(pixels * 3));
        let images = images.zip(screen.par_chunks(pixels * 3)).zip(dy.par_chunks(pixels));
        let images = images.zip(won.as_chunks().0.par_chunks(raster.rows * raster.columns));
        let sums = || vec![[0.0; 3]; 2 * (size - 1) * (size - 1)];
        images.for_each_init(sums, |sums, ((((dpoints, points), screen), dy), won)| {
            let of_sample = |sample: usize| {
                let [row, column] = [sample / raster.columns, sample % raster.columns];
                dy[row / per_pixel * size + column / per_pixel] * share
            };
            let (dpoints, points) = (dpoints.as_chunks_mut::<3>().0, points.as_chunks::<3>().0);
            screen_gradients(screen.as_chunks().0, size, won, of_sample, sums, dpoints);
            for (g, [x, y, z]) in dpoints.iter_mut().zip(points) {
                // A corner that only belongs to invisible triangles has no gradient; its coordinates may not be finite.
                if *g != [0.0; 3] {
                    let slope = focal / z;
                    *g = [g[0] * slope, g[1] * slope, g[2] - (g[0] * x + g[1] * y) / z * slope];
                }
            }
        });
        Ok(vec![Some(dpoints)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs[0])?;
        let (depth, winners) = cuda::forward(self, inputs[0], batch, context.is_recording())?;
        context.save(inputs[0]);
        winners.iter().for_each(|winners| context.save(winners));
        Ok(vec![depth])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cuda::backward(self, backward)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::motion::Motion;
    use crate::testing::{relief, views, wide_camera};
    use crate::triangle::Triangle;
    use crate::{move_surface, sampling_grid};
    use relievo_tensor::testing::{Tolerance, assert_gradients, assert_operation_independent_of_threads};

    const SETTINGS: RasterSettings =
        RasterSettings { supersampling: 2, near: 0.1, far: 10.0, pixel_centre: 0.5 };

    const UNLIMITED: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

    /// The surface as it is, not moved.
    fn unmoved(depth: &Tensor, camera: Camera) -> Tensor {
        move_surface(depth, &Tensor::zeros([1, 6]), camera).unwrap()
    }

    /// Every sample asks every triangle, in order.
    fn by_brute_force(points: &[[f32; 3]], camera: Camera, settings: RasterSettings) -> Vec<f32> {
        let size = camera.size;
        let raster = settings.raster(size);
        let mut screen = vec![[0.0; 3]; points.len()];
        project(points, &camera, settings.supersampling, &mut screen);
        let cells = (0..size - 1).flat_map(|row| (0..size - 1).map(move |column| (row, column)));
        let all: Vec<[[f32; 3]; 3]> = cells
            .flat_map(|(row, column)| triangles(size, row, column))
            .map(|t| t.map(|c| screen[c]))
            .collect();
        let mut samples = vec![settings.far; raster.rows * raster.columns];
        for (i, nearest) in samples.iter_mut().enumerate() {
            let [y, x] = [i / raster.columns, i % raster.columns].map(|i| raster.place(i));
            for triangle in all.iter().filter_map(Triangle::new) {
                if let Some((_, depth)) = triangle.at(&triangle.line(y), x)
                    && depth > settings.near
                    && depth < *nearest
                {
                    *nearest = depth;
                }
            }
        }
        let mut depth = vec![0.0; size * size];
        let rows = samples.chunks_exact(settings.supersampling * raster.columns);
        for (pixels, samples) in depth.chunks_exact_mut(size).zip(rows) {
            mean_row(samples, settings.supersampling, pixels);
        }
        depth
    }

    #[test]
    fn agrees_with_brute_force_bit_for_bit() {
        // Folded over itself by large angles; sizes that are and are not multiples of the band.
        for (size, angle, settings) in [
            (16, 0.3, SETTINGS),
            (19, 1.4, SETTINGS),
            (18, 0.8, RasterSettings { supersampling: 3, pixel_centre: 0.0, ..SETTINGS }),
            (17, 1.0, RasterSettings { supersampling: 1, near: 0.95, far: 1.05, ..SETTINGS }),
        ] {
            let camera = Camera::new(size);
            let moved = move_surface(&relief(3, size, 1.0, 0.03), &views(3, angle), camera).unwrap();
            let depth = rasterise_depth(&moved, camera, settings, UNLIMITED).unwrap();
            for (depth, points) in
                depth.data().chunks(size * size).zip(moved.data().as_chunks().0.chunks(size * size))
            {
                assert_eq!(depth, by_brute_force(points, camera, settings));
            }
        }
    }

    #[test]
    fn the_background_is_far_and_nothing_nearer_than_near_is_seen() {
        let camera = Camera::new(8);
        let points = unmoved(&Tensor::full([1, 8, 8], 1.0), camera);
        let all_far = |points: &Tensor, settings| {
            rasterise_depth(points, camera, settings, UNLIMITED)
                .unwrap()
                .data()
                .iter()
                .all(|d| *d == settings.far)
        };
        let shifted = |[x, z]: [f32; 2]| {
            let view = Tensor::new(&[0.0, 0.0, 0.0, x, 0.0, z], [1, 6]).unwrap();
            move_surface(&Tensor::full([1, 8, 8], 1.0), &view, camera).unwrap()
        };
        assert!(all_far(&shifted([9.0, 0.0]), SETTINGS));
        assert!(all_far(&points, RasterSettings { near: 1.0, ..SETTINGS }));
        assert!(all_far(&points, RasterSettings { far: 1.0, ..SETTINGS }));
        assert!(all_far(&shifted([0.0, -3.0]), SETTINGS));
    }

    #[test]
    fn corners_that_are_not_numbers_cost_their_triangles_only() {
        let camera = Camera::new(8);
        let mut points = unmoved(&Tensor::full([1, 8, 8], 1.0), camera);
        points.data_mut()[(3 * 8 + 4) * 3] = f32::NAN;
        points.data_mut()[(6 * 8 + 1) * 3 + 1] = f32::INFINITY;
        let tape = relievo_tensor::Tape::new();
        let points = tape.watch(&points);
        let depth = rasterise_depth(&points, camera, SETTINGS, UNLIMITED).unwrap();
        assert_eq!(depth.data()[0], 1.0);
        assert!(depth.data()[3 * 8 + 4] > 1.0 && depth.data().iter().all(|d| d.is_finite()));
        let gradients = tape.backward(&depth).unwrap();
        assert!(gradients.get(&points).unwrap().data().iter().all(|g| g.is_finite()));
    }

    /// A plane has a 1/depth that is linear over the image. Here it changes per column and row by `slopes` and is 1
    /// in the middle.
    fn inverse_depth(camera: Camera, slopes: [f32; 2], [u, v]: [f32; 2]) -> f32 {
        1.0 + slopes[0] * (u - camera.centre()) + slopes[1] * (v - camera.centre())
    }

    /// Its depth.
    fn plane(camera: Camera, slopes: [f32; 2]) -> Tensor {
        let size = camera.size;
        let pixels = (0..size * size).map(|i| [(i % size) as f32, (i / size) as f32]);
        let depths: Vec<f32> = pixels.map(|pixel| 1.0 / inverse_depth(camera, slopes, pixel)).collect();
        Tensor::new(&depths, [1, size, size]).unwrap()
    }

    #[test]
    fn samples_lie_where_the_pixel_centre_says() {
        let (camera, slopes) = (Camera::new(10), [0.02, 0.01]);
        for pixel_centre in [0.0, 0.5] {
            let settings = RasterSettings { pixel_centre, ..SETTINGS };
            let depth =
                rasterise_depth(&unmoved(&plane(camera, slopes), camera), camera, settings, UNLIMITED)
                    .unwrap();
            for (row, column) in [(1, 1), (4, 7), (8, 3)] {
                // Two samples along each axis, a quarter of a pixel to either side of the centre.
                let at = |i: usize| [-0.25, 0.25].map(|aside| i as f32 + pixel_centre + aside);
                let samples =
                    at(row).map(|v| at(column).map(|u| 1.0 / inverse_depth(camera, slopes, [u, v])));
                let mean = samples.as_flattened().iter().sum::<f32>() / 4.0;
                assert!((depth.data()[row * 10 + column] - mean).abs() < 2e-6);
            }
        }
    }

    #[test]
    fn a_centre_of_zero_agrees_with_the_sampling_grid_and_the_originals_is_half_a_pixel_off() {
        // The plane moved and seen: traced back, the middle pixel's point must lie on the plane it came from.
        let (camera, slopes) = (Camera::new(33), [0.004, -0.002]);
        let view = Tensor::new(&[0.1, 0.5, -0.1, 0.0, 0.0, 0.0], [1, 6]).unwrap();
        let moved = move_surface(&plane(camera, slopes), &view, camera).unwrap();
        let motion = &Motion::from_views(&view)[0];
        let off_by = |pixel_centre: f32| {
            let settings = RasterSettings { pixel_centre, ..SETTINGS };
            let depth = rasterise_depth(&moved, camera, settings, UNLIMITED).unwrap();
            let back = motion.apply_inverse(camera.lift(16.0, 16.0, depth.data()[16 * 33 + 16]));
            let [u, v] = camera.project(back);
            assert!(u.max(v) < 32.0 && u.min(v) > 0.0, "{u} {v}");
            let [grid, _] = sampling_grid(&depth, &view, camera, f32::INFINITY, 1).unwrap();
            let grid = grid.data().as_chunks::<2>().0[16 * 33 + 16];
            assert!((grid[0] * 16.0 + 16.0 - u).abs() < 1e-4);
            (back[2] - 1.0 / inverse_depth(camera, slopes, [u, v])).abs()
        };
        assert!(off_by(0.0) < 1e-5, "{}", off_by(0.0));
        assert!(off_by(0.5) > 5e-4, "{}", off_by(0.5));
    }

    #[test]
    fn gradients_of_one_cell_are_those_of_differences() {
        // Two triangles much larger than the image: no sample changes hands.
        let camera = wide_camera(2);
        let corners = [-3.0, -2.6, 1.3, 2.9, -3.2, 1.1, -2.8, 3.1, 0.9, 3.3, 2.7, 1.2];
        let points = Tensor::new(&corners, [1, 2, 2, 3]).unwrap();
        let run = |x: &[Tensor]| rasterise_depth(&x[0], camera, SETTINGS, UNLIMITED);
        assert_gradients(&[points], 1.0 / 128.0, Tolerance { norm: 1e-3, element: 1e-3 }, run);
    }

    #[test]
    fn gradients_of_a_surface_are_those_of_differences() {
        // Larger than the image, so that no silhouette is in it: the depth is continuous in the points, and where
        // an edge within the surface passes a sample during a step, only its slope changes.
        let camera = wide_camera(7);
        let mut points = unmoved(&relief(2, 7, 1.0, 0.05), camera);
        points.data_mut().as_chunks_mut::<3>().0.iter_mut().for_each(|[x, y, _]| {
            *x *= 1.35;
            *y *= 1.35;
        });
        let settings = RasterSettings { pixel_centre: 0.0, ..SETTINGS };
        assert!(
            rasterise_depth(&points, camera, settings, UNLIMITED).unwrap().data().iter().all(|d| *d < 2.0)
        );
        let run = |x: &[Tensor]| rasterise_depth(&x[0], camera, settings, UNLIMITED);
        // Where an edge passes a sample during a step, the difference is a mean of two slopes.
        assert_gradients(&[points], 1.0 / 1024.0, Tolerance { norm: 1e-2, element: 6e-2 }, run);
    }

    #[test]
    fn what_is_clamped_has_no_gradient() {
        // Steps of depth from column to column, seen from the front.
        let camera = Camera::new(8);
        let depths: Vec<f32> = (0..64).map(|i| 0.9 + 0.03 * (i % 8) as f32).collect();
        let tape = relievo_tensor::Tape::new();
        let points = tape.watch(&unmoved(&Tensor::new(&depths, [1, 8, 8]).unwrap(), camera));
        let settings = RasterSettings { pixel_centre: 0.0, ..SETTINGS };
        let run = |limits| rasterise_depth(&points, camera, settings, limits).unwrap();
        let (free, clamped) = (run(UNLIMITED), run([0.95, 1.05]));
        let inside: Vec<bool> = free.data().iter().map(|depth| (0.95..=1.05).contains(depth)).collect();
        assert!(inside.contains(&true) && inside.contains(&false));
        for (clamped, free) in clamped.data().iter().zip(free.data()) {
            assert_eq!(*clamped, free.clamp(0.95, 1.05));
        }
        // The gradient of the clamped depth is that of the free one from the pixels that were not clamped.
        let seed = |inside: &[bool]| {
            let seed: Vec<f32> = inside.iter().map(|inside| f32::from(u8::from(*inside))).collect();
            Tensor::new(&seed, [1, 8, 8]).unwrap()
        };
        let of_clamped = tape.backward_from(&[(&clamped, seed(&[true; 64]))]).unwrap().take(&points).unwrap();
        let of_free = tape.backward_from(&[(&run(UNLIMITED), seed(&inside))]).unwrap().take(&points).unwrap();
        assert_eq!(of_clamped.data(), of_free.data());
        assert!(of_free.data().iter().any(|g| *g != 0.0));
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let camera = Camera::new(40);
        let inputs = [relief(2, 40, 1.0, 0.05), views(2, 0.7)];
        assert_operation_independent_of_threads(&inputs, |x| {
            rasterise_depth(&move_surface(&x[0], &x[1], camera)?, camera, SETTINGS, [0.95, 1.05])
        });
    }

    #[test]
    fn what_cannot_be_rasterised_is_refused() {
        let settings = RasterSettings { supersampling: 0, ..SETTINGS };
        let error =
            rasterise_depth(&Tensor::zeros([1, 4, 4, 3]), Camera::new(4), settings, UNLIMITED).unwrap_err();
        assert_eq!(error.to_string(), "rasterise_depth: cannot rasterise 4x4 pixels with supersampling 0");
    }
}
