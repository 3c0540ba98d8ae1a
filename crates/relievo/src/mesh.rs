//! The visible part of an object as a textured mesh.

use std::io;
use std::path::Path;
use std::sync::Arc;

use relievo_export::Canvas;
use relievo_mesh::{Image, Material, Wrap, shapes};
use relievo_model::{FRAME, object_level};
use serde::Serialize;

use crate::{Error, Reconstruction, Result};

/// Least rows and columns of a texture. Viewers interpolate linearly between its pixels, which shows as a grid of
/// diamonds when those are the network's 64x64; enlarged by cubic interpolation it looks smooth.
pub(crate) const LEAST_TEXTURE: usize = 512;

/// What is seen on a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum Texture {
    /// The photograph's own pixels without its light, the mirrored ones or the learned albedo where it
    /// does not show the surface: viewers light it
    #[default]
    #[cfg_attr(feature = "cli", value(aliases = ["picture", "image"]))]
    Photograph,
    /// The same in the light of the photograph: viewers show it as it is
    Shaded,
    /// The learned albedo: viewers light it
    Albedo,
}

/// What a mesh is made like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeshOptions {
    /// What is seen on it.
    pub texture: Texture,
    /// About how many triangles it has: the surface is sampled more finely or more coarsely, smoothly between the pixels of
    /// the depth. `None` is two for each of those pixels.
    pub triangles: Option<u32>,
}

impl From<Texture> for MeshOptions {
    fn from(texture: Texture) -> Self {
        Self { texture, ..Self::default() }
    }
}

/// The points that a mesh is made of.
struct Grid {
    /// Rows and columns.
    size: usize,
    /// Camera frame: x right, y down, z away.
    points: Vec<[f32; 3]>,
    /// Above 0 on the object.
    level: Vec<f32>,
    /// Cells at each side that are left out.
    inset: usize,
    /// Where it begins in the maps, and pixels of the maps from one of its points to the next.
    place: [f32; 2],
}

impl Grid {
    /// A point for each pixel of the maps.
    fn of_pixels(face: &Reconstruction) -> Self {
        let camera = face.settings.camera();
        let (depth, size, slopes) = (face.canonical_depth().values(), camera.size, camera.slopes());
        let point =
            |(at, depth): (usize, &f32)| [depth * slopes[at % size], depth * slopes[at / size], *depth];
        Self {
            size,
            points: depth.iter().enumerate().map(point).collect(),
            level: object_level(depth, &face.settings),
            inset: FRAME,
            place: [0.0, 1.0],
        }
    }

    /// Other points on the same surface, so that a mesh of `there` triangles has about `wanted`.
    fn resampled(&self, there: usize, wanted: u32) -> Self {
        let cells = (self.size - 1 - 2 * self.inset) as f32;
        let size = (cells * (f64::from(wanted) / there as f64).sqrt() as f32) as usize;
        let size = size.clamp(LEAST_CELLS, MOST_CELLS) + 1;
        let step = cells / (size - 1) as f32;
        let at = |index: usize| self.inset as f32 + index as f32 * step;
        let places = || (0..size * size).map(|number| [at(number / size), at(number % size)]);
        Self {
            size,
            points: places().map(|place| cubic(&self.points, self.size, place)).collect(),
            level: places().map(|place| linear(&self.level, self.size, place)).collect(),
            inset: 0,
            place: [self.inset as f32, step],
        }
    }

    /// The mesh of what is inside, with places in an image that covers `size` pixels of the maps from edge to edge.
    fn surface(&self, size: usize) -> Option<relievo_mesh::Mesh> {
        let mut surface = shapes::relief(&self.points, &self.level, self.size, self.inset)?;
        if self.place == [0.0, 1.0] {
            return Some(surface);
        }
        let [first, step] = self.place;
        // From pixel centres of an image of the grid's size to those of the maps'.
        let moved = |place: f32| ((place * self.size as f32 - 0.5) * step + first + 0.5) / size as f32;
        for place in surface.texture_coordinates.iter_mut().flat_map(|texture| &mut texture.coordinates) {
            *place = place.map(moved);
        }
        Some(surface)
    }
}

/// Cells along a side of a resampled grid.
const LEAST_CELLS: usize = 4;
const MOST_CELLS: usize = 2048;

/// A value of a map of `size` rows and columns at a row and a column: interpolated linearly.
pub(crate) fn linear(values: &[f32], size: usize, place: [f32; 2]) -> f32 {
    let split = |place: f32| {
        let low = (place as usize).min(size - 2);
        (low, place - low as f32)
    };
    let [(row, down), (column, right)] = place.map(split);
    let at = |row: usize, column: usize| values[row * size + column];
    let along = |row: usize| at(row, column) + right * (at(row, column + 1) - at(row, column));
    let (above, below) = (along(row), along(row + 1));
    above + down * (below - above)
}

/// A point of a grid of `size` rows and columns at a row and a column: by Catmull and Rom's cubic curves, which pass
/// through the points of the grid and have no edges there. Beyond the grid its outermost points continue.
pub(crate) fn cubic(points: &[[f32; 3]], size: usize, place: [f32; 2]) -> [f32; 3] {
    let split = |place: f32| {
        let low = (place as usize).min(size - 2);
        let t = place - low as f32;
        let shares = [
            t * (t * (1.0 - 0.5 * t) - 0.5),
            t * t * (1.5 * t - 2.5) + 1.0,
            t * (t * (2.0 - 1.5 * t) + 0.5),
            t * t * (0.5 * t - 0.5),
        ];
        (low, shares)
    };
    let [(row, down), (column, right)] = place.map(split);
    let clamped = |low: usize, step: usize| (low + step).saturating_sub(1).min(size - 1);
    let mut point = [0.0; 3];
    for (i, of_row) in down.into_iter().enumerate() {
        for (j, of_column) in right.into_iter().enumerate() {
            let corner = points[clamped(row, i) * size + clamped(column, j)];
            point = std::array::from_fn(|axis| point[axis] + of_row * of_column * corner[axis]);
        }
    }
    point
}

/// A textured surface: x right, y up, z towards the viewer, in units of the distance from the camera to the object,
/// which viewers take for metres.
#[derive(Debug, Clone)]
pub struct Mesh {
    surface: relievo_mesh::Mesh,
    texture: Canvas,
    /// The light that the texture's colours are under, the same everywhere; `None` if they have the photograph's in them.
    light: Option<f32>,
}

impl Mesh {
    pub(crate) fn new(face: &Reconstruction, options: MeshOptions) -> Result<Self> {
        let size = face.size();
        let grid = Grid::of_pixels(face);
        let mut surface = grid.surface(size).ok_or(Error::NoSurface)?;
        if let Some(wanted) = options.triangles {
            surface = grid.resampled(surface.faces.len(), wanted).surface(size).ok_or(Error::NoSurface)?;
        }
        let texture = options.texture;
        let (texture, light) = match texture {
            Texture::Albedo => (enlarged(&face.draw_albedo()), Some(1.0)),
            Texture::Photograph | Texture::Shaded => {
                // A texture is laid over the pixels of the maps, from edge to edge.
                let side = LEAST_TEXTURE.max(size);
                let places: Vec<f32> =
                    (0..side).map(|at| (at as f32 + 0.5) * size as f32 / side as f32 - 0.5).collect();
                let colours = face.photograph_texture(&places)?;
                match texture {
                    Texture::Shaded => (Canvas::from_signed(&colours.lit(), side), None),
                    _ => (Canvas::from_signed(&colours.even(), side), Some(colours.mean_light())),
                }
            }
        };
        let image = Image { width: texture.width(), height: texture.height(), rgb: texture.bytes().to_vec() };
        surface.materials = vec![Material {
            name: "surface".into(),
            image: Some(Arc::new(image)),
            wrap: [Wrap::ClampToEdge; 2],
            unlit: light.is_none(),
            // The surface is open, so its inside is seen from behind.
            double_sided: true,
            ..Material::default()
        }];
        surface.face_materials = vec![Some(0); surface.faces.len()];
        Ok(Self { surface, texture, light })
    }

    /// Corners (x, y, z).
    pub fn positions(&self) -> &[[f32; 3]] {
        &self.surface.vertices
    }

    /// Three corners each, by number, counter-clockwise as seen from outside.
    pub fn triangles(&self) -> &[[u32; 3]] {
        &self.surface.faces
    }

    /// The image on the surface.
    pub fn texture(&self) -> &Canvas {
        &self.texture
    }

    /// A binary glTF file (GLB) in memory, with the texture in it; `name` is what viewers call the object.
    ///
    /// # Errors
    /// If the texture cannot be encoded.
    pub fn to_glb(&self, name: &str) -> io::Result<Vec<u8>> {
        self.named(name).to_glb()
    }

    /// Writes a binary glTF file (GLB), whole or not at all; viewers call the object by the file's name.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_glb(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        Ok(self.named(&stem(path)).write_glb(path)?)
    }

    /// Writes a Wavefront file `NAME.obj` with its material `NAME.mtl` and its texture `NAME.texture.png` beside it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_obj(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        Ok(self.named(&stem(path)).write_obj(path)?)
    }

    /// Writes a PLY file (binary) whose vertices have the colours of the texture; more of them show more of it
    /// ([`MeshOptions::triangles`]).
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_ply(&self, path: impl AsRef<Path>) -> Result<()> {
        let coloured = relievo_mesh::Mesh {
            vertex_colours: Some(self.vertex_colours()),
            ..relievo_mesh::Mesh::new(self.surface.vertices.clone(), self.surface.faces.clone())
        };
        Ok(coloured.write_ply(path)?)
    }

    /// Writes an STL file (binary) in millimetres: a face is about life-size. The surface is open, so it has no volume to
    /// print.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_stl(&self, path: impl AsRef<Path>) -> Result<()> {
        let vertices = self.surface.vertices.iter().map(|vertex| vertex.map(|metres| 1e3 * metres)).collect();
        Ok(relievo_mesh::Mesh::new(vertices, self.surface.faces.clone()).write_stl(path)?)
    }

    /// Where each vertex lies in the texture: (0, 0) is its upper left corner, (1, 1) its lower right.
    pub fn texture_coordinates(&self) -> impl Iterator<Item = [f32; 2]> {
        // Vertices of a relief and their places are numbered alike.
        let texture = self.surface.texture_coordinates.iter();
        texture.flat_map(|texture| &texture.coordinates).map(|[right, up]| [*right, 1.0 - up])
    }

    /// What a light is divided by before it is put on the texture; `None` if the texture has its light in it.
    pub(crate) fn light(&self) -> Option<f32> {
        self.light
    }

    /// The texture's colours at the vertices, sRGB in \[0,1\].
    fn vertex_colours(&self) -> Vec<[f32; 3]> {
        let (width, height) = (self.texture.width(), self.texture.height());
        let pixels = self.texture.bytes().as_chunks::<3>().0;
        let colour = |place: [f32; 2]| {
            let split = |share: f32, count: usize| {
                let place = (share * count as f32 - 0.5).clamp(0.0, (count - 1) as f32);
                let low = (place as usize).min(count.saturating_sub(2));
                (low, (low + 1).min(count - 1), place - low as f32)
            };
            let (left, right, x) = split(place[0], width);
            let (top, bottom, y) = split(place[1], height);
            std::array::from_fn(|channel| {
                let at = |row: usize, column: usize| f32::from(pixels[row * width + column][channel]);
                let along = |row: usize| at(row, left) + x * (at(row, right) - at(row, left));
                (along(top) + y * (along(bottom) - along(top))) / 255.0
            })
        };
        self.texture_coordinates().map(colour).collect()
    }

    fn named(&self, name: &str) -> relievo_mesh::Mesh {
        relievo_mesh::Mesh { name: name.to_owned(), ..self.surface.clone() }
    }
}

/// What viewers call the object of a file.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// By a whole factor to at least [`LEAST_TEXTURE`] rows.
fn enlarged(image: &Canvas) -> Canvas {
    let size = image.width() * LEAST_TEXTURE.div_ceil(image.width());
    image.resized(size, size)
}
