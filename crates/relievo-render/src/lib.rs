//! From depth to picture: camera, surface grid, normals, shading, rasteriser, warp.
//!
//! A picture is explained as a surface (a depth per pixel, seen by one fixed [`Camera`]), its albedo, a light and a
//! viewpoint. The canonical picture is the albedo under the light ([`light_from_raw`], [`normals`],
//! [`diffuse_shading`], [`shade`]); the reconstruction is the canonical picture seen from the viewpoint
//! ([`move_points`], [`rasterise_depth`], [`sampling_grid`], put together in [`Scene::reconstruct`]). All of it is differentiable in depth, albedo, light and
//! viewpoint. [`render_views`] shows the surface from elsewhere, without gradients.
//!
//! Every operation is a kernel (a pure function on slices) wrapped in a [`relievo_tensor::Operation`]. Work is shared
//! out by pictures and rows, and no sum depends on who computed which part: results are the same on any number of
//! threads. Where a batch of pictures meets fewer lights or viewpoints, picture `i` takes number `i % n`: both halves
//! of a batch doubled by mirroring share theirs, and the gradients of the halves add up.
//!
//! Source: Wu, Rupprecht and Vedaldi, *Unsupervised Learning of Probably Symmetric Deformable 3D Objects from Images
//! in the Wild* (2020), section 3; the rasteriser after Kato, Ushiku and Harada, *Neural 3D Mesh Renderer* (2018).

mod camera;
mod depth;
mod grid;
mod lift;
mod light;
mod mask;
mod motion;
mod normals;
mod rasterise;
mod reconstruction;
mod shading;
pub mod triangle;
mod views;

pub use camera::Camera;
pub use depth::{DepthRange, clamp_depth, depth_from_raw, set_border};
pub use grid::sampling_grid;
pub use lift::lift;
pub use light::{LightRange, light_from_raw};
pub use mask::{apply_mask, visible_mask};
pub use motion::{Motion, PIVOT, move_points, rotation};
pub use normals::normals;
pub use rasterise::{RasterSettings, rasterise_depth};
pub use reconstruction::{Reconstruction, Scene};
pub use shading::{diffuse_shading, shade};
pub use views::{ViewSettings, Views, render_views};

use relievo_tensor::{Error, Result};

/// Checks that `pictures` can be shared out over `few` lights or viewpoints.
fn check_shared(operation: &'static str, pictures: usize, few: usize, what: &str) -> Result<()> {
    if few == 0 || !pictures.is_multiple_of(few) {
        let detail = format!("{pictures} pictures cannot be shared out over {few} {what}");
        return Err(Error::shape(operation, detail));
    }
    Ok(())
}
