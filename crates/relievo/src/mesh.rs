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

/// A textured surface: x right, y up, z towards the viewer, in units of the distance from the camera to the object,
/// which viewers take for metres.
#[derive(Debug, Clone)]
pub struct Mesh {
    surface: relievo_mesh::Mesh,
    texture: Canvas,
}

impl Mesh {
    pub(crate) fn new(face: &Reconstruction, texture: Texture) -> Result<Self> {
        let camera = face.settings.camera();
        let depth = face.canonical_depth().values();
        let size = camera.size;
        let slopes = camera.slopes();
        let point =
            |(at, depth): (usize, &f32)| [depth * slopes[at % size], depth * slopes[at / size], *depth];
        let points: Vec<[f32; 3]> = depth.iter().enumerate().map(point).collect();
        let mut surface = shapes::relief(&points, &object_level(depth, &face.settings), size, FRAME)
            .ok_or(Error::NoSurface)?;
        let (texture, unlit) = match texture {
            Texture::Albedo => (enlarged(&face.draw_albedo()), false),
            Texture::Photograph | Texture::Shaded => {
                // A texture is laid over the pixels of the maps, from edge to edge.
                let side = LEAST_TEXTURE.max(size);
                let places: Vec<f32> =
                    (0..side).map(|at| (at as f32 + 0.5) * size as f32 / side as f32 - 0.5).collect();
                let colours = face.photograph_texture(&places)?;
                match texture {
                    Texture::Shaded => (Canvas::from_signed(&colours.lit(), side), true),
                    _ => (Canvas::from_signed(&colours.even(), side), false),
                }
            }
        };
        let image = Image { width: texture.width(), height: texture.height(), rgb: texture.bytes().to_vec() };
        surface.materials = vec![Material {
            name: "surface".into(),
            image: Some(Arc::new(image)),
            wrap: [Wrap::ClampToEdge; 2],
            unlit,
            // The surface is open, so its inside is seen from behind.
            double_sided: true,
            ..Material::default()
        }];
        surface.face_materials = vec![Some(0); surface.faces.len()];
        Ok(Self { surface, texture })
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
