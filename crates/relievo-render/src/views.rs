//! Pictures of a textured surface from elsewhere: turntables, sheets, pretty pictures. Without gradients.
//!
//! The surface grid is moved, projected and rasterised in bands as in [`crate::rasterise_depth`]; a sample takes its
//! colour from the cell of the grid it lies in.

use rayon::prelude::*;
use relievo_tensor::{Error, Result, Tensor};

use crate::motion::Motion;
use crate::rasterise::{BAND, Surface, cell_row_extents, project, triangles};
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
    /// Rows and columns of the views. The field of view stays, so a larger size shows the same more finely.
    pub size: usize,
    /// Supersampling, near and far, pixel centres; at the views' size.
    pub raster: RasterSettings,
    /// Interpolation of the colours.
    pub texture: Texture,
    /// What is seen beside the surface, in [-1, 1].
    pub background: [f32; 3],
    /// Triangles steeper than this are left out: those whose corners' depths differ by more than this many times the
    /// distance of neighbouring grid points. Such triangles stretch a few pixels over a jump in depth (the border, an
    /// occlusion). `None` keeps all.
    pub steepest: Option<f32>,
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
            raster: RasterSettings { pixel_centre: 0.0, ..RasterSettings::default() },
            texture: Texture::Bilinear,
            background: [1.0; 3],
            steepest: None,
            crop: 0,
        }
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
        let shown = shown_triangles(depth, settings);
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
    let camera = Camera { size: settings.size, ..settings.camera };
    let mut screen = vec![[0.0; 3]; points.len()];
    project(&points, &camera, settings.raster.supersampling, &mut screen);
    screen
}

/// Which triangles, by number, are shown.
fn shown_triangles(depth: &[f32], settings: &ViewSettings) -> Vec<bool> {
    let size = settings.camera.size;
    let inside = |cell: usize| (settings.crop..(size - 1).saturating_sub(settings.crop)).contains(&cell);
    let is_flat = |corners: &[usize; 3]| {
        let [a, b, c] = corners.map(|corner| depth[corner]);
        let (near, far) = (a.min(b).min(c), a.max(b).max(c));
        settings.steepest.is_none_or(|steepest| far - near <= steepest * near / settings.camera.focal())
    };
    let cells = (0..size - 1).flat_map(|row| (0..size - 1).map(move |column| (row, column)));
    let of_cell = |(row, column)| {
        triangles(size, row, column).map(|corners| inside(row) && inside(column) && is_flat(&corners))
    };
    cells.flat_map(of_cell).collect()
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
