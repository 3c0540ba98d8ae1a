//! Images of a textured surface from other viewpoints, for sheets and panels. Without gradients.
//!
//! The surface grid is moved, projected and rasterised in bands as in [`crate::rasterise_depth`]. First the nearest triangle
//! of every sample is found, then the colours at the sample's place in that triangle's cell: several images on one surface
//! cost little more than one, and hidden parts are not coloured.

use std::ops::Range;

use rayon::prelude::*;
use relievo_tensor::{Device, Error, Result, Tensor};

use crate::motion::Motion;
use crate::rasterise::{BAND, Surface, cell_row_extents, project};
use crate::{Camera, RasterSettings};

/// The interpolation of a sample's colour from the four corners of its cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Texture {
    /// Bilinear interpolation of the image, which may have more or fewer pixels than the grid has points.
    #[default]
    Bilinear,
    /// Linear interpolation over the triangle with the colours at (v+1,u) and (v,u+1) exchanged. The authors' program does
    /// this, which is why edges look frayed in its views. For comparison with it, and for images of the grid's size.
    Original,
}

/// Parameters of [`render_views`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewSettings {
    /// The camera of the canonical view; its size is that of the depth.
    pub camera: Camera,
    /// Rows and columns of the views.
    pub size: usize,
    /// Field of view of the views, in degrees. With that of the camera a rotated surface may leave the image.
    pub field_of_view_degrees: f32,
    /// Supersampling, near and far, pixel centres; at the views' size.
    pub raster: RasterSettings,
    /// Interpolation of the colours.
    pub texture: Texture,
    /// The background, in [-1, 1].
    pub background: [f32; 3],
    /// Cells left out along each side of the grid.
    pub crop: usize,
}

impl ViewSettings {
    /// Every triangle on white, at the size of the image and in register with it: the view without motion is the image
    /// itself.
    pub fn new(camera: Camera) -> Self {
        Self {
            camera,
            size: camera.size,
            field_of_view_degrees: camera.field_of_view_degrees,
            raster: RasterSettings { pixel_centre: 0.0, ..RasterSettings::default() },
            texture: Texture::Bilinear,
            background: [1.0; 3],
            crop: 0,
        }
    }

    /// As [`ViewSettings::new`], with a field of view that has room for rotated objects: an object that fills the image is
    /// wider, and nearer at one side, when it is rotated.
    pub fn with_room(camera: Camera) -> Self {
        Self { field_of_view_degrees: 1.1 * camera.field_of_view_degrees, ..Self::new(camera) }
    }

    /// As the authors' program renders its views.
    pub fn original(camera: Camera) -> Self {
        Self { raster: RasterSettings::default(), texture: Texture::Original, ..Self::new(camera) }
    }
}

/// Views of a batch of surfaces.
#[derive(Clone, Debug)]
pub struct Views {
    /// For each image `[B, V, size, size, 3]` in the image's range, on the background.
    pub images: Vec<Tensor>,
    /// How much of each pixel the surface covers, `[B, V, size, size]` in [0, 1].
    pub coverage: Tensor,
}

/// Renders every surface from every viewpoint, with each of `images` on it.
///
/// `depth` `[B, S, S]` canonical, S the camera's size; `images` `[B, T, T, 3]`, each with a T of its own: the first
/// and the last pixel of a row lie on the first and the last point of the grid. `views` as everywhere: the surface is
/// moved by `P' = R (P - c) + c + t`, angles about x, y, z in radians, then a translation; a positive angle about y
/// turns what faces the camera to the left. Views are clamped to [-1, 1].
///
/// # Errors
/// If the depth does not have the camera's size, an image does not fit or is on a GPU, or a size or the supersampling is 0.
pub fn render_views(
    images: &[&Tensor],
    depth: &Tensor,
    views: &[[f32; 6]],
    settings: &ViewSettings,
) -> Result<Views> {
    render(images, (depth, None), views, settings)
}

/// As [`render_views`], of the part of the surface in which `level` `[B, S, S]` is above 0; it is interpolated between the
/// points, so the cut is as smooth as it is.
///
/// # Errors
/// As [`render_views`], and if the level does not have the size of the depth.
pub fn render_cut_views(
    images: &[&Tensor],
    depth: &Tensor,
    level: &Tensor,
    views: &[[f32; 6]],
    settings: &ViewSettings,
) -> Result<Views> {
    render(images, (depth, Some(level)), views, settings)
}

fn render(
    images: &[&Tensor],
    (depth, level): (&Tensor, Option<&Tensor>),
    views: &[[f32; 6]],
    settings: &ViewSettings,
) -> Result<Views> {
    const NAME: &str = "render_views";
    let (from, to) = (settings.camera.size, settings.size);
    let per_pixel = settings.raster.supersampling;
    let batch = settings.camera.images(NAME, depth)?;
    if let Some(level) = level.filter(|level| level.shape() != depth.shape()) {
        let detail = format!("levels {} and depths {} do not fit", level.shape(), depth.shape());
        return Err(Error::shape(NAME, detail));
    }
    if let Some(there) =
        images.iter().copied().chain([depth]).chain(level).find(|tensor| tensor.device() != Device::Cpu)
    {
        return Err(Error::Device {
            device: there.device(),
            detail: "views are drawn by the CPU".to_owned(),
        });
    }
    let mut layers = Vec::new();
    for image in images {
        let camera = Camera { size: image.dims::<4>(NAME)?[1], ..settings.camera };
        let fits = settings.texture == Texture::Bilinear || camera.size == from;
        if camera.images_of(NAME, image, 3)? != batch || !fits {
            let detail = format!("images {} and depths {} do not fit", image.shape(), depth.shape());
            return Err(Error::shape(NAME, detail));
        }
        layers.push(Tensor::empty([batch, views.len(), to, to, 3]));
    }
    if to == 0 || per_pixel == 0 {
        let detail =
            format!("cannot render {from}x{from} points as {to}x{to} pixels of {per_pixel}^2 samples");
        return Err(Error::shape(NAME, detail));
    }
    let mut coverage = Tensor::empty([batch, views.len(), to, to]);
    // The rows of each layer, view after view and band after band.
    let mut rows: Vec<_> = layers.iter_mut().map(|layer| layer.data_mut().chunks_mut(to * to * 3)).collect();
    let parts: Vec<(Vec<&mut [f32]>, &mut [f32])> = coverage
        .data_mut()
        .chunks_mut(to * to)
        .map(|coverage| (rows.iter_mut().filter_map(Iterator::next).collect(), coverage))
        .collect();
    let images: Vec<Vec<Padded>> = images.iter().map(|image| padded(image)).collect();
    parts.into_par_iter().enumerate().for_each(|(number, (layers, coverage))| {
        let (surface_number, view) = (number / views.len(), number % views.len());
        let of_surface = surface_number * from * from..(surface_number + 1) * from * from;
        let level = level.map(|level| &level.data()[of_surface.clone()]);
        let depth = &depth.data()[of_surface];
        let colours: Vec<&[Padded]> = images
            .iter()
            .map(|image| {
                let pixels = image.len() / batch;
                &image[surface_number * pixels..][..pixels]
            })
            .collect();
        let screen = moved_screen(depth, &Motion::new(views[view]), settings);
        let cells = settings.crop..(from - 1).saturating_sub(settings.crop);
        let extents = cell_row_extents(&screen, from);
        let surface = Surface { screen: &screen, extents: &extents, size: from, cells };
        let mut rows: Vec<_> = layers.into_iter().map(|layer| layer.chunks_mut(BAND * to * 3)).collect();
        let bands: Vec<(Vec<&mut [f32]>, &mut [f32])> = coverage
            .chunks_mut(BAND * to)
            .map(|coverage| (rows.iter_mut().filter_map(Iterator::next).collect(), coverage))
            .collect();
        bands.into_par_iter().enumerate().for_each(|(band, (layers, coverage))| {
            let first = band * BAND;
            let hits = nearest(&surface, level, settings, first..first + coverage.len() / to);
            for (layer, colours) in layers.into_iter().zip(&colours) {
                paint(&hits, colours, settings, layer.as_chunks_mut().0);
            }
            cover(&hits, settings, coverage);
        });
    });
    Ok(Views { images: layers, coverage })
}

/// The moved surface grid on the views' screen.
fn moved_screen(depth: &[f32], motion: &Motion, settings: &ViewSettings) -> Vec<[f32; 3]> {
    let slopes = settings.camera.slopes();
    let size = slopes.len();
    let points = depth.iter().enumerate();
    let points: Vec<[f32; 3]> = points
        .map(|(i, depth)| motion.apply([depth * slopes[i % size], depth * slopes[i / size], *depth]))
        .collect();
    let camera = Camera { size: settings.size, field_of_view_degrees: settings.field_of_view_degrees };
    let mut screen = vec![[0.0; 3]; points.len()];
    project(&points, &camera, settings.raster.supersampling, &mut screen);
    screen
}

/// The triangle that a sample sees, and the place in it.
#[derive(Clone, Copy)]
struct Hit {
    /// Row and column of the triangle's cell; [`NOTHING`] if it sees none.
    cell: [u32; 2],
    /// Whether it is the second triangle of the cell.
    second: bool,
    /// The weights of the triangle's corners on the surface.
    weights: [f32; 3],
}

/// The cell of a sample that sees nothing.
const NOTHING: [u32; 2] = [u32::MAX; 2];

impl Hit {
    /// How far the place is to the right and below in its cell, in [0, 1].
    #[inline(always)]
    fn place_in_cell(&self) -> [f32; 2] {
        let w = self.weights;
        if self.second { [w[0] + w[2], w[1] + w[2]] } else { [w[2], w[1]] }
    }
}

impl Hit {
    /// The level of the place, of those of all points.
    fn level(&self, level: &[f32], size: usize) -> f32 {
        let ([right, down], [row, column]) = (self.place_in_cell(), self.cell.map(|at| at as usize));
        let at = |row: usize| {
            let [left, right_one] = [level[row * size + column], level[row * size + column + 1]];
            left + right * (right_one - left)
        };
        at(row) + down * (at(row + 1) - at(row))
    }
}

/// The hits of the samples of the rows of pixels `rows`, row by row, where `level` is above 0.
fn nearest(
    surface: &Surface<'_>,
    level: Option<&[f32]>,
    settings: &ViewSettings,
    rows: Range<usize>,
) -> Vec<Hit> {
    let per_pixel = settings.raster.supersampling;
    let raster = settings.raster.raster(settings.size);
    let rows = rows.start * per_pixel..rows.end * per_pixel;
    let mut depths = vec![settings.raster.far; rows.len() * raster.columns];
    let mut hits = vec![Hit { cell: NOTHING, second: false, weights: [0.0; 3] }; depths.len()];
    surface.visit_band(&raster, &rows, |number, cell, corners, sample| {
        let place = (sample.row - rows.start) * raster.columns + sample.column;
        if sample.depth > settings.raster.near && sample.depth < depths[place] {
            let weights = sample.surface_weights(corners.map(|corner| corner[2]));
            let hit = Hit { cell: cell.map(|at| at as u32), second: number % 2 == 1, weights };
            if level.is_none_or(|level| hit.level(level, surface.size) > 0.0) {
                depths[place] = sample.depth;
                hits[place] = hit;
            }
        }
    });
    hits
}

/// A colour and a number that is not used, so that it fills a vector register.
type Padded = [f32; 4];

/// The colours of an image.
fn padded(image: &Tensor) -> Vec<Padded> {
    image.data().as_chunks::<3>().0.iter().map(|&[r, g, b]| [r, g, b, 0.0]).collect()
}

/// The upper left one of four pixels, and the shares of all four.
type Mixture = (usize, [f32; 4]);

/// What a sample sees of an image of as many pixels as the grid has points.
#[inline(always)]
fn in_cell(hit: &Hit, size: usize, texture: Texture) -> Mixture {
    let w = hit.weights;
    let shares = match (texture, hit.second) {
        (Texture::Original, false) => [w[0], w[1], w[2], 0.0],
        (Texture::Original, true) => [0.0, w[1], w[0], w[2]],
        (Texture::Bilinear, _) => {
            let [right, down] = hit.place_in_cell();
            let (left, up) = (1.0 - right, 1.0 - down);
            [left * up, right * up, left * down, right * down]
        }
    };
    (hit.cell[0] as usize * size + hit.cell[1] as usize, shares)
}

/// The same of an image of `pixels` rows and columns, `scale` for each of the grid.
#[inline(always)]
fn in_image(hit: &Hit, pixels: usize, scale: f32) -> Mixture {
    let [right, down] = hit.place_in_cell();
    let split = |place: f32| {
        let place = (place * scale).clamp(0.0, (pixels - 1) as f32);
        // By way of i32, for which the processor has an instruction.
        let low = (place as i32 as usize).min(pixels - 2);
        (low, place - low as i32 as f32)
    };
    let [row, column] = hit.cell.map(|at| at as i32 as f32);
    let (column, right) = split(column + right);
    let (row, down) = split(row + down);
    let (left, up) = (1.0 - right, 1.0 - down);
    (row * pixels + column, [left * up, right * up, left * down, right * down])
}

/// For each of some rows of pixels: the pixels, and the rows of their samples.
fn rows_with_samples<'p, T>(
    hits: &'p [Hit],
    settings: &ViewSettings,
    pixels: &'p mut [T],
) -> impl Iterator<Item = (&'p mut [T], &'p [Hit])> {
    let (size, per_pixel) = (settings.size, settings.raster.supersampling);
    pixels.chunks_exact_mut(size).zip(hits.chunks_exact(size * per_pixel * per_pixel))
}

/// The samples of the pixel of a column, of those of a row of pixels.
#[inline(always)]
fn samples_of<'h>(
    hits: &'h [Hit],
    settings: &ViewSettings,
    column: usize,
) -> impl Iterator<Item = &'h [Hit]> {
    let per_pixel = settings.raster.supersampling;
    let columns = settings.size * per_pixel;
    (0..per_pixel).map(move |row| &hits[row * columns + column * per_pixel..][..per_pixel])
}

/// Paints rows of pixels of one view.
fn paint(hits: &[Hit], colours: &[Padded], settings: &ViewSettings, pixels: &mut [[f32; 3]]) {
    let (size, side) = (settings.camera.size, colours.len().isqrt());
    if side == size {
        paint_by(hits, (colours, side), settings, pixels, |hit| in_cell(hit, size, settings.texture));
    } else {
        let scale = (side - 1) as f32 / (size - 1) as f32;
        paint_by(hits, (colours, side), settings, pixels, |hit| in_image(hit, side, scale));
    }
}

/// Paints what samples see of an image, of so many rows and columns.
#[inline(always)]
fn paint_by(
    hits: &[Hit],
    (colours, side): (&[Padded], usize),
    settings: &ViewSettings,
    pixels: &mut [[f32; 3]],
    mixture: impl Fn(&Hit) -> Mixture,
) {
    let share = 1.0 / (settings.raster.supersampling as f32).powi(2);
    let [r, g, b] = settings.background;
    for (pixels, hits) in rows_with_samples(hits, settings, pixels) {
        for (column, pixel) in pixels.iter_mut().enumerate() {
            let mut sum = [0.0; 4];
            for row in samples_of(hits, settings, column) {
                for hit in row {
                    let mut colour = [r, g, b, 0.0];
                    if hit.cell != NOTHING {
                        let (corner, shares) = mixture(hit);
                        let (upper, lower) = (&colours[corner..][..2], &colours[corner + side..][..2]);
                        colour = [0.0; 4];
                        add_share(&mut colour, shares[0], upper[0]);
                        add_share(&mut colour, shares[1], upper[1]);
                        add_share(&mut colour, shares[2], lower[0]);
                        add_share(&mut colour, shares[3], lower[1]);
                    }
                    add_share(&mut sum, 1.0, colour);
                }
            }
            let [r, g, b, _] = sum;
            *pixel = [r, g, b].map(|sum| (sum * share).clamp(-1.0, 1.0));
        }
    }
}

#[inline(always)]
fn add_share(sum: &mut Padded, share: f32, colour: Padded) {
    for i in 0..4 {
        sum[i] += share * colour[i];
    }
}

/// How much of each pixel the surface covers.
fn cover(hits: &[Hit], settings: &ViewSettings, coverage: &mut [f32]) {
    let share = 1.0 / (settings.raster.supersampling as f32).powi(2);
    for (coverage, hits) in rows_with_samples(hits, settings, coverage) {
        for (column, coverage) in coverage.iter_mut().enumerate() {
            let mut count = 0;
            for row in samples_of(hits, settings, column) {
                count += row.iter().filter(|hit| hit.cell != NOTHING).count();
            }
            *coverage = count as f32 * share;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::relief;
    use relievo_tensor::testing::{assert_independent_of_threads, random_tensor};

    const SIZE: usize = 20;

    /// Red grows to the right and green downwards, linearly.
    fn ramps(batch: usize) -> Tensor {
        let along = |i: usize| i as f32 / (SIZE as f32 - 1.0) * 1.6 - 0.8;
        let pixels = (0..batch * SIZE * SIZE).map(|i| [along(i % SIZE), along(i / SIZE % SIZE), 0.3]);
        Tensor::new(pixels.collect::<Vec<_>>().as_flattened(), [batch, SIZE, SIZE, 3]).unwrap()
    }

    fn settings() -> ViewSettings {
        ViewSettings::new(Camera::new(SIZE))
    }

    #[test]
    fn the_view_that_moves_nothing_is_the_image_at_any_size() {
        let (image, depth) = (ramps(2), relief(2, SIZE, 1.0, 0.08));
        for size in [SIZE, 58] {
            let settings = ViewSettings { size, ..settings() };
            let views = render_views(&[&image], &depth, &[[0.0; 6]], &settings).unwrap();
            assert_eq!(&views.images[0].shape()[..], [2, 1, size, size, 3]);
            let along = |i: usize| i as f32 / (size as f32 - 1.0) * 1.6 - 0.8;
            for (i, pixel) in views.images[0].data().as_chunks::<3>().0.iter().enumerate() {
                let (row, column) = (i / size % size, i % size);
                if (1..size - 1).contains(&row) && (1..size - 1).contains(&column) {
                    let is = [along(column), along(row), 0.3];
                    assert!(
                        pixel.iter().zip(is).all(|(a, b)| (a - b).abs() < 1e-3),
                        "{row} {column} {pixel:?}"
                    );
                    assert_eq!(views.coverage.data()[i], 1.0);
                }
            }
        }
    }

    #[test]
    fn a_positive_angle_about_y_turns_the_front_to_the_left() {
        // A dark spot on a bump towards the camera in the middle.
        let middle = SIZE / 2;
        let (mut image, mut depth) =
            (Tensor::full([1, SIZE, SIZE, 3], 0.5), Tensor::full([1, SIZE, SIZE], 1.0));
        for row in middle - 2..middle + 2 {
            for column in middle - 2..middle + 2 {
                depth.data_mut()[row * SIZE + column] = 0.95;
                image.data_mut()[(row * SIZE + column) * 3] = -1.0;
            }
        }
        let angles = [-0.4, 0.0, 0.4].map(|angle| [0.0, angle, 0.0, 0.0, 0.0, 0.0]);
        let views = render_views(&[&image], &depth, &angles, &settings()).unwrap();
        let places: Vec<f32> = views.images[0]
            .data()
            .chunks(SIZE * SIZE * 3)
            .map(|view| {
                let dark = view.chunks(3).enumerate().filter(|(_, pixel)| pixel[0] < 0.0);
                let columns: Vec<f32> = dark.map(|(i, _)| (i % SIZE) as f32).collect();
                columns.iter().sum::<f32>() / columns.len() as f32
            })
            .collect();
        assert!(places[0] > places[1] + 1.0 && places[1] > places[2] + 1.0, "{places:?}");
    }

    #[test]
    fn a_surface_is_cut_where_its_level_is_zero() {
        let (image, depth) = (ramps(2), Tensor::full([2, SIZE, SIZE], 1.0));
        // Above 0 in the left third of the first surface, and everywhere on the second.
        let edge = SIZE as f32 / 3.0;
        let level = (0..2 * SIZE * SIZE)
            .map(|at| if at < SIZE * SIZE { edge - (at % SIZE) as f32 } else { 1.0 })
            .collect::<Vec<_>>();
        let level = Tensor::new(&level, [2, SIZE, SIZE]).unwrap();
        let settings = settings();
        let whole = render_views(&[&image], &depth, &[[0.0; 6]], &settings).unwrap();
        let cut = render_cut_views(&[&image], &depth, &level, &[[0.0; 6]], &settings).unwrap();
        let (first, second) = cut.coverage.data().split_at(SIZE * SIZE);
        assert_eq!(second, &whole.coverage.data()[SIZE * SIZE..]);
        for row in first.chunks(SIZE).skip(1).take(SIZE - 2) {
            let covered: f32 = row[1..].iter().sum();
            assert!((covered - (edge - 0.5)).abs() < 0.3, "{covered} of {edge}");
        }
        let error = render_cut_views(&[&image], &depth, &Tensor::zeros([2, 3, 3]), &[], &settings);
        assert!(error.unwrap_err().to_string().contains("do not fit"));
    }

    #[test]
    fn what_the_surface_leaves_free_is_background() {
        let settings = ViewSettings { background: [0.1, 0.2, 0.3], crop: 4, ..settings() };
        let depth = Tensor::full([1, SIZE, SIZE], 1.0);
        let views = render_views(&[&ramps(1)], &depth, &[[0.0; 6]], &settings).unwrap();
        let at = |row: usize, column: usize| {
            let place = row * SIZE + column;
            (views.images[0].data().as_chunks::<3>().0[place], views.coverage.data()[place])
        };
        let close = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        for (row, column) in [(0, 0), (10, 3), (10, 16), (19, 10)] {
            let (colour, coverage) = at(row, column);
            assert!(close(colour, settings.background) && coverage == 0.0, "{row} {column}");
        }
        assert_eq!(at(10, 10).1, 1.0);
        // Cell 4 is the first: half of the samples of pixel 4 lie on it.
        assert_eq!(at(10, 4).1, 0.5);
    }

    #[test]
    fn images_of_any_size_lie_on_one_surface() {
        let depth = relief(1, SIZE, 1.0, 0.05);
        // The same ramps, of three times as many pixels.
        const FINE: usize = 3 * SIZE - 2;
        let along = |i: usize| i as f32 / (FINE as f32 - 1.0) * 1.6 - 0.8;
        let pixels = (0..FINE * FINE).map(|i| [along(i % FINE), along(i / FINE), 0.3]);
        let fine = Tensor::new(pixels.collect::<Vec<_>>().as_flattened(), [1, FINE, FINE, 3]).unwrap();
        let view = [0.1, 0.6, 0.05, 0.0, 0.0, 0.0];
        let settings = ViewSettings { size: 50, ..settings() };
        let views = render_views(&[&ramps(1), &fine], &depth, &[view], &settings).unwrap();
        let alone = render_views(&[&ramps(1)], &depth, &[view], &settings).unwrap();
        assert_eq!(views.images[0].data(), alone.images[0].data());
        assert_eq!(views.coverage.data(), alone.coverage.data());
        for (fine, coarse) in views.images[1].data().iter().zip(alone.images[0].data()) {
            assert!((fine - coarse).abs() < 1e-4, "{fine} {coarse}");
        }
        let original = ViewSettings { texture: Texture::Original, ..settings };
        assert!(render_views(&[&fine], &depth, &[view], &original).is_err());
    }

    #[test]
    fn a_wider_view_shows_the_same_smaller_with_room_around() {
        let (image, depth) = (ramps(1), Tensor::full([1, SIZE, SIZE], 1.0));
        let half = |degrees: f32| (degrees.to_radians() / 2.0).tan();
        let settings = settings();
        // Half as large.
        let wide = 2.0 * (2.0 * half(settings.field_of_view_degrees)).atan().to_degrees();
        let settings = ViewSettings { size: 2 * SIZE, field_of_view_degrees: wide, ..settings };
        let views = render_views(&[&image], &depth, &[[0.0; 6]], &settings).unwrap();
        let covered: f32 = views.coverage.data().iter().sum();
        assert!((covered - (SIZE * SIZE) as f32).abs() < 0.5 * SIZE as f32, "{covered}");
        assert_eq!(views.coverage.data()[SIZE * 2 * SIZE + SIZE], 1.0);
        assert!(views.coverage.data()[..2 * SIZE * (SIZE / 2 - 1)].iter().all(|covered| *covered == 0.0));
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let (image, depth) = (random_tensor(30, [2, SIZE, SIZE, 3]), relief(2, SIZE, 1.0, 0.05));
        let views = [[0.1, 0.7, 0.0, 0.0, 0.01, 0.0], [0.0, -0.3, 0.2, 0.0, 0.0, 0.05]];
        for settings in [ViewSettings { size: 50, ..settings() }, ViewSettings::original(Camera::new(SIZE))] {
            assert_independent_of_threads(|| {
                let views = render_views(&[&image], &depth, &views, &settings).unwrap();
                [views.images, vec![views.coverage]].concat()
            });
        }
    }

    #[test]
    fn images_and_depths_must_fit() {
        let error = render_views(&[&ramps(2)], &relief(1, SIZE, 1.0, 0.1), &[], &settings()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "render_views: images [2, 20, 20, 3] and depths [1, 20, 20] do not fit"
        );
    }
}
