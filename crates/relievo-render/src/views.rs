//! Pictures of a textured surface from elsewhere, for people: sheets and panels. Without gradients.
//!
//! The surface grid is moved, projected and rasterised in bands as in [`crate::rasterise_depth`]; a sample takes its
//! colour from the cell of the grid it lies in.

use rayon::prelude::*;
use relievo_tensor::{Error, Result, Tensor};

use crate::motion::Motion;
use crate::rasterise::{BAND, Surface, cell_row_extents, project};
use crate::{Camera, RasterSettings};

/// How a sample's colour follows from those of the four corners of its cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Texture {
    /// Bilinear interpolation of the picture.
    #[default]
    Bilinear,
    /// Linear interpolation over the triangle, with two of its corners' colours exchanged: the colours at (v+1,u) and
    /// (v,u+1) both end up at the other's place. That is what the authors' program does, and why edges look frayed
    /// in its views. For comparison with it.
    Original,
}

/// How views are rendered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewSettings {
    /// The camera of the canonical view; its size is that of picture and depth.
    pub camera: Camera,
    /// Rows and columns of the views.
    pub size: usize,
    /// Field of view of the views. With the camera's own, what is turned may reach out of them.
    pub field_of_view_degrees: f32,
    /// Supersampling, near and far, pixel centres; at the views' size.
    pub raster: RasterSettings,
    /// Interpolation of the colours.
    pub texture: Texture,
    /// What is seen beside the surface, in [-1, 1].
    pub background: [f32; 3],
    /// Cells left out along each side of the grid.
    pub crop: usize,
}

impl ViewSettings {
    /// Every triangle on white, at the size of the picture and in register with it: the view that moves nothing is
    /// the picture.
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

    /// As [`ViewSettings::new`], with a field of view that has room for turned objects: what fills the picture is wider, and nearer
    /// at one side, when it is turned.
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
    /// `[B, V, size, size, 3]` in the picture's range, on the background.
    pub pictures: Tensor,
    /// How much of each pixel the surface covers, `[B, V, size, size]` in [0, 1].
    pub coverage: Tensor,
}

/// Renders every picture's surface from every viewpoint.
///
/// `picture` `[B, S, S, 3]` and `depth` `[B, S, S]` canonical, S the camera's size; `views` as everywhere: the surface
/// is moved by `P' = R (P - c) + c + t`, angles about x, y, z in radians, then a translation; a positive angle about y
/// turns what faces the camera to the left. Views are clamped to [-1, 1].
///
/// # Errors
/// If picture or depth has not the camera's size, or a size or the supersampling is 0.
pub fn render_views(
    picture: &Tensor,
    depth: &Tensor,
    views: &[[f32; 6]],
    settings: &ViewSettings,
) -> Result<Views> {
    const NAME: &str = "render_views";
    let (from, to) = (settings.camera.size, settings.size);
    let per_pixel = settings.raster.supersampling;
    let batch = settings.camera.pictures(NAME, depth)?;
    if settings.camera.pictures_of(NAME, picture, 3)? != batch {
        let detail = format!("pictures {} and depths {} do not fit", picture.shape(), depth.shape());
        return Err(Error::shape(NAME, detail));
    }
    if from < 2 || to == 0 || per_pixel == 0 {
        let detail =
            format!("cannot render {from}x{from} points as {to}x{to} pixels of {per_pixel}^2 samples");
        return Err(Error::shape(NAME, detail));
    }
    let mut pictures = Tensor::scratch([batch, views.len(), to, to, 3]);
    let mut coverage = Tensor::scratch([batch, views.len(), to, to]);
    let outputs =
        pictures.data_mut().par_chunks_mut(to * to * 3).zip(coverage.data_mut().par_chunks_mut(to * to));
    outputs.enumerate().for_each(|(number, (pictures, coverage))| {
        let (picture_number, view) = (number / views.len(), number % views.len());
        let depth = &depth.data()[picture_number * from * from..][..from * from];
        let colours = &picture.data().as_chunks::<3>().0[picture_number * from * from..][..from * from];
        let screen = moved_screen(depth, &Motion::new(views[view]), settings);
        let surface = Surface { screen: &screen, extents: &cell_row_extents(&screen, from), size: from };
        let shown = shown_triangles(settings);
        let bands = pictures.par_chunks_mut(BAND * to * 3).zip(coverage.par_chunks_mut(BAND * to));
        bands.enumerate().for_each(|(band, (pictures, coverage))| {
            let first = band * BAND;
            paint_band(&surface, (colours, &shown), settings, first, pictures.as_chunks_mut().0, coverage);
        });
    });
    Ok(Views { pictures, coverage })
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

/// Which triangles, by number, are shown.
fn shown_triangles(settings: &ViewSettings) -> Vec<bool> {
    let cells = settings.camera.size - 1;
    let inside = |cell: usize| (settings.crop..cells.saturating_sub(settings.crop)).contains(&cell);
    let rows = (0..cells).flat_map(|row| (0..cells).map(move |column| inside(row) && inside(column)));
    rows.flat_map(|shown| [shown; 2]).collect()
}

/// The shares of a cell's corners, (v,u) (v,u+1) (v+1,u) (v+1,u+1), in the colour of a sample with the weights `w` on
/// the surface of its first or second triangle.
fn shares(texture: Texture, second: bool, w: [f32; 3]) -> [f32; 4] {
    match (texture, second) {
        (Texture::Original, false) => [w[0], w[1], w[2], 0.0],
        (Texture::Original, true) => [0.0, w[1], w[0], w[2]],
        (Texture::Bilinear, _) => {
            let (right, down) = if second { (w[0] + w[2], w[1] + w[2]) } else { (w[2], w[1]) };
            let (left, up) = (1.0 - right, 1.0 - down);
            [left * up, right * up, left * down, right * down]
        }
    }
}

/// Paints a band of one view: `pictures` and `coverage` are its rows of pixels, from row `first` on.
fn paint_band(
    surface: &Surface<'_>,
    (colours, shown): (&[[f32; 3]], &[bool]),
    settings: &ViewSettings,
    first: usize,
    pictures: &mut [[f32; 3]],
    coverage: &mut [f32],
) {
    let per_pixel = settings.raster.supersampling;
    let raster = settings.raster.raster(settings.size);
    let rows = first * per_pixel..(first + coverage.len() / settings.size) * per_pixel;
    let mut buffer = vec![settings.raster.far; rows.len() * raster.columns];
    let mut painted = vec![settings.background; buffer.len()];
    surface.visit_band(&raster, &rows, |number, indices, corners, sample| {
        let place = (sample.row - rows.start) * raster.columns + sample.column;
        if shown[number] && sample.depth > settings.raster.near && sample.depth < buffer[place] {
            buffer[place] = sample.depth;
            let weights = sample.surface_weights(corners.map(|corner| corner[2]));
            // The first triangle's first corner is the cell's, the second's second the one below it.
            let second = number % 2 == 1;
            let corner = if second { indices[1] - surface.size } else { indices[0] };
            let cell = [corner, corner + 1, corner + surface.size, corner + surface.size + 1];
            let shares = shares(settings.texture, second, weights);
            painted[place] = std::array::from_fn(|channel| {
                cell.iter().zip(shares).map(|(&index, share)| share * colours[index][channel]).sum()
            });
        }
    });
    let share = 1.0 / (per_pixel * per_pixel) as f32;
    for (pixel, (colour, coverage)) in pictures.iter_mut().zip(coverage).enumerate() {
        let (row, column) = (pixel / settings.size, pixel % settings.size);
        let mut sum = [0.0; 3];
        let mut covered = 0;
        for sample_row in row * per_pixel..(row + 1) * per_pixel {
            for place in
                (column * per_pixel..(column + 1) * per_pixel).map(|c| sample_row * raster.columns + c)
            {
                covered += usize::from(buffer[place] < settings.raster.far);
                sum.iter_mut().zip(painted[place]).for_each(|(sum, value)| *sum += value);
            }
        }
        *colour = sum.map(|sum| (sum * share).clamp(-1.0, 1.0));
        *coverage = covered as f32 * share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::relief;
    use relievo_tensor::differences::{assert_independent_of_threads, random_tensor};

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
    fn the_view_that_moves_nothing_is_the_picture_at_any_size() {
        let (picture, depth) = (ramps(2), relief(2, SIZE, 1.0, 0.08));
        for size in [SIZE, 58] {
            let settings = ViewSettings { size, ..settings() };
            let views = render_views(&picture, &depth, &[[0.0; 6]], &settings).unwrap();
            assert_eq!(&views.pictures.shape()[..], [2, 1, size, size, 3]);
            let along = |i: usize| i as f32 / (size as f32 - 1.0) * 1.6 - 0.8;
            for (i, pixel) in views.pictures.data().as_chunks::<3>().0.iter().enumerate() {
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
        let (mut picture, mut depth) =
            (Tensor::full([1, SIZE, SIZE, 3], 0.5), Tensor::full([1, SIZE, SIZE], 1.0));
        for row in middle - 2..middle + 2 {
            for column in middle - 2..middle + 2 {
                depth.data_mut()[row * SIZE + column] = 0.95;
                picture.data_mut()[(row * SIZE + column) * 3] = -1.0;
            }
        }
        let angles = [-0.4, 0.0, 0.4].map(|angle| [0.0, angle, 0.0, 0.0, 0.0, 0.0]);
        let views = render_views(&picture, &depth, &angles, &settings()).unwrap();
        let places: Vec<f32> = views
            .pictures
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
    fn what_the_surface_leaves_free_is_background() {
        let settings = ViewSettings { background: [0.1, 0.2, 0.3], crop: 4, ..settings() };
        let depth = Tensor::full([1, SIZE, SIZE], 1.0);
        let views = render_views(&ramps(1), &depth, &[[0.0; 6]], &settings).unwrap();
        let at = |row: usize, column: usize| {
            let place = row * SIZE + column;
            (views.pictures.data().as_chunks::<3>().0[place], views.coverage.data()[place])
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
    fn a_wider_view_shows_the_same_smaller_with_room_around() {
        let (picture, depth) = (ramps(1), Tensor::full([1, SIZE, SIZE], 1.0));
        let half = |degrees: f32| (degrees.to_radians() / 2.0).tan();
        let settings = settings();
        // Half as large.
        let wide = 2.0 * (2.0 * half(settings.field_of_view_degrees)).atan().to_degrees();
        let settings = ViewSettings { size: 2 * SIZE, field_of_view_degrees: wide, ..settings };
        let views = render_views(&picture, &depth, &[[0.0; 6]], &settings).unwrap();
        let covered: f32 = views.coverage.data().iter().sum();
        assert!((covered - (SIZE * SIZE) as f32).abs() < 0.5 * SIZE as f32, "{covered}");
        assert_eq!(views.coverage.data()[SIZE * 2 * SIZE + SIZE], 1.0);
        assert!(views.coverage.data()[..2 * SIZE * (SIZE / 2 - 1)].iter().all(|covered| *covered == 0.0));
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let (picture, depth) = (random_tensor(30, [2, SIZE, SIZE, 3]), relief(2, SIZE, 1.0, 0.05));
        let views = [[0.1, 0.7, 0.0, 0.0, 0.01, 0.0], [0.0, -0.3, 0.2, 0.0, 0.0, 0.05]];
        for settings in [ViewSettings { size: 50, ..settings() }, ViewSettings::original(Camera::new(SIZE))] {
            assert_independent_of_threads(|| {
                let views = render_views(&picture, &depth, &views, &settings).unwrap();
                vec![views.pictures, views.coverage]
            });
        }
    }

    #[test]
    fn pictures_and_depths_must_fit() {
        let error = render_views(&ramps(2), &relief(1, SIZE, 1.0, 0.1), &[], &settings()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "render_views: pictures [2, 20, 20, 3] and depths [1, 20, 20] do not fit"
        );
    }
}
