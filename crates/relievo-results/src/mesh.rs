//! The surface of an image as a mesh: its files and how they are recorded.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use relievo_data::Image;
use relievo_export::{Canvas, Lighting, SurfaceMesh};
use relievo_model::{FRAME, object_level};
use serde::Serialize;

use crate::{ImageResult, ResultsError};

/// Least rows and columns of a texture. Viewers interpolate linearly between its pixels, which shows as a grid of
/// diamonds when those are the network's 64x64; enlarged by cubic interpolation it looks smooth.
pub const LEAST_TEXTURE: usize = 512;

/// What is seen on a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Texture {
    /// Colour without light: viewers light it
    #[default]
    Albedo,
    /// Colour in the light of the image: viewers show it as it is
    Shaded,
    /// The image's own pixels, mirrored where it does not show the surface: viewers show them as they are
    #[value(alias = "picture")]
    Photograph,
}

/// The files of a mesh, relative to the file this stands in; x right, y up, z towards the viewer, in units of the
/// distance from the camera to the object, which viewers take for metres.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mesh {
    gltf: String,
    obj: String,
    texture: Texture,
    vertices: usize,
    triangles: usize,
}

/// Writes `NAME.glb`, `NAME.obj`, `NAME.mtl` and `NAME.texture.png`, `path` giving the path of an ending; `seen` is the
/// square image that the model saw, of any size. `None` if the depth makes no surface.
pub(crate) fn write(
    part: &ImageResult<'_>,
    texture: Texture,
    seen: &Image,
    path: impl Fn(&str) -> PathBuf,
) -> Result<Option<Mesh>, ResultsError> {
    let settings = part.settings();
    let (camera, depth) = (settings.camera(), part.of(&part.prediction().canonical_depth));
    let size = camera.size;
    let slopes = camera.slopes();
    let point = |(at, depth): (usize, &f32)| [depth * slopes[at % size], depth * slopes[at / size], *depth];
    let points: Vec<[f32; 3]> = depth.iter().enumerate().map(point).collect();
    let Some(mesh) = SurfaceMesh::from_grid(&points, &object_level(depth, settings), size, FRAME) else {
        // Those of an earlier call would pass for this one's.
        for ending in ["glb", "obj", "mtl", "texture.png"] {
            let _ = fs::remove_file(path(ending));
        }
        return Ok(None);
    };
    let (image, lighting) = match texture {
        Texture::Albedo => (enlarged(&part.albedo()), Lighting::Viewer),
        Texture::Shaded => (enlarged(&part.canonical_image()), Lighting::InTexture),
        Texture::Photograph => {
            // A texture is laid over the pixels of the maps, from edge to edge.
            let side = LEAST_TEXTURE.max(size);
            let places: Vec<f32> =
                (0..side).map(|at| (at as f32 + 0.5) * size as f32 / side as f32 - 0.5).collect();
            (Canvas::from_signed(&part.worn(seen, &places), side), Lighting::InTexture)
        }
    };
    let [glb, obj] = ["glb", "obj"].map(&path);
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let title = glb.file_stem().unwrap_or_default().to_string_lossy();
    mesh.write_glb(&glb, &title, &image, lighting)?;
    mesh.write_obj(&obj, &image)?;
    Ok(Some(Mesh {
        gltf: name(&glb),
        obj: name(&obj),
        texture,
        vertices: mesh.positions().len(),
        triangles: mesh.triangles().len(),
    }))
}

/// By a whole factor to at least [`LEAST_TEXTURE`] rows.
fn enlarged(image: &Canvas) -> Canvas {
    let size = image.width() * LEAST_TEXTURE.div_ceil(image.width());
    image.resized(size, size)
}
