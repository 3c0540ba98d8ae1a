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
use relievo_mesh::triangle::{Raster, Sample};
use relievo_tensor::{Backward, Buffer, Context, Error, Operation, Result, Tensor, apply_one};

use crate::Camera;

/// Parameters of [`rasterise_depth`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RasterSettings {
    /// Samples per pixel along each axis; a pixel's depth is the mean of its samples.
    pub supersampling: usize,
    /// The near plane, in units of depth: nothing at this depth or nearer is visible.
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
    /// The rows and the columns of cells that are drawn.
    pub cells: Range<usize>,
}

impl Surface<'_> {
    /// Calls `visit(number of the triangle, row and column of its cell, its corners' places, sample)` for every sample of
    /// the rows `rows` that a triangle covers, triangle by triangle in order.
    pub fn visit_band(
        &self,
        raster: &Raster,
        rows: &Range<usize>,
        mut visit: impl FnMut(usize, [usize; 2], &[[f32; 3]; 3], Sample),
    ) {
        let [top, bottom] = [rows.start, rows.end - 1].map(|row| row as f32 + raster.offset);
        for row in self.cells.clone() {
            let [low, high] = self.extents[row];
            if low > bottom || high < top {
                continue;
            }
            for column in self.cells.clone() {
                let first = first_triangle(self.size, row, column);
                for (half, indices) in triangles(self.size, row, column).iter().enumerate() {
                    let corners = indices.map(|index| self.screen[index]);
                    raster.visit_rows(&corners, rows.clone(), |sample| {
                        visit(first + half, [row, column], &corners, sample);
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
/// Corners are given as `[x, y, 1 / z]`.
fn corner_gradients([a, b, c]: [[f64; 3]; 3], sums: [f64; 3]) -> [[f32; 3]; 3] {
    let [ab, ac] = [b, c].map(|p| [p[0] - a[0], p[1] - a[1], p[2] - a[2]]);
    let inverse_area = 1.0 / (ab[0] * ac[1] - ab[1] * ac[0]);
    let along_x = (ab[2] * ac[1] - ac[2] * ab[1]) * inverse_area;
    let along_y = (ac[2] * ab[0] - ab[2] * ac[0]) * inverse_area;
    let inverse_z = [a[2], b[2], c[2]];
    std::array::from_fn(|k| {
        [sums[k] * along_x, sums[k] * along_y, sums[k] * inverse_z[k] * inverse_z[k]].map(|g| g as f32)
    })
}

/// One image's gradient in its corners on the screen, from the records of its samples and the gradients `dy` of its pixels.
/// `sums` has a number for each triangle.
fn screen_gradients(
    screen: &[[f32; 3]],
    [size, per_pixel]: [usize; 2],
    won: &[Won],
    dy: &[f32],
    sums: &mut [[f64; 3]],
    gradients: &mut [[f32; 3]],
) {
    sums.fill([0.0; 3]);
    gradients.fill([0.0; 3]);
    let share = 1.0 / (per_pixel * per_pixel) as f32;
    for (row, won) in won.chunks_exact(size * per_pixel).enumerate() {
        let dy = &dy[row / per_pixel * size..][..size];
        for (won, dy) in won.chunks_exact(per_pixel).zip(dy) {
            let g = dy * share;
            for [number, shares @ ..] in won {
                if *number >= 0.0 {
                    let sums = &mut sums[*number as usize];
                    sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += f64::from(g * share));
                }
            }
        }
    }
    let corners: Vec<[f64; 3]> =
        screen.iter().map(|[x, y, z]| [f64::from(*x), f64::from(*y), 1.0 / f64::from(*z)]).collect();
    let cells = (0..size - 1).flat_map(|row| (0..size - 1).map(move |column| triangles(size, row, column)));
    for (indices, sums) in cells.flatten().zip(sums) {
        if *sums != [0.0; 3] {
            let of_corners = corner_gradients(indices.map(|corner| corners[corner]), *sums);
            for (corner, gradient) in indices.into_iter().zip(of_corners) {
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
            let surface =
                Surface { screen, extents: &cell_row_extents(screen, size), size, cells: 0..size - 1 };
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
        let screen = self.screen(points);
        let [focal, _] = in_samples(&self.camera, per_pixel);
        let pixels = size * size;
        let mut dpoints = Tensor::empty(points.shape());
        let images = dpoints.data_mut().par_chunks_mut(pixels * 3).zip(points.data().par_chunks(pixels * 3));
        let images = images.zip(screen.par_chunks(pixels * 3)).zip(dy.par_chunks(pixels));
        let images = images.zip(won.as_chunks().0.par_chunks(raster.rows * raster.columns));
        let sums = || vec![[0.0; 3]; 2 * (size - 1) * (size - 1)];
        images.for_each_init(sums, |sums, ((((dpoints, points), screen), dy), won)| {
            let (dpoints, points) = (dpoints.as_chunks_mut::<3>().0, points.as_chunks::<3>().0);
            screen_gradients(screen.as_chunks().0, [size, per_pixel], won, dy, sums, dpoints);
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
mod tests;
