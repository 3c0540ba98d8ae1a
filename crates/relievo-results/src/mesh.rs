//! The surface of a picture as a mesh: its files and how they are recorded.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use relievo_data::Picture;
use relievo_export::{Canvas, Lighting, SurfaceMesh};
use relievo_model::{FRAME, object_level};
use serde::Serialize;

use crate::{Part, ResultsError};

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
    /// Colour in the light of the picture: viewers show it as it is
    Shaded,
    /// The picture's own pixels, mirrored where it does not show the surface: viewers show them as they are
    Picture,
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
/// square picture that the model saw, of any size. `None` if the depth makes no surface.
pub(crate) fn write(
    part: &Part<'_>,
    texture: Texture,
    seen: &Picture,
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
    let (picture, lighting) = match texture {
        Texture::Albedo => (enlarged(&part.albedo()), Lighting::Viewer),
        Texture::Shaded => (enlarged(&part.canonical_picture()), Lighting::InTexture),
        Texture::Picture => {
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
    mesh.write_glb(&glb, &title, &picture, lighting)?;
    mesh.write_obj(&obj, &picture)?;
    Ok(Some(Mesh {
        gltf: name(&glb),
        obj: name(&obj),
        texture,
        vertices: mesh.positions().len(),
        triangles: mesh.triangles().len(),
    }))
}

/// By a whole factor to at least [`LEAST_TEXTURE`] rows.
fn enlarged(picture: &Canvas) -> Canvas {
    let size = picture.width() * LEAST_TEXTURE.div_ceil(picture.width());
    picture.resized(size, size)
}
