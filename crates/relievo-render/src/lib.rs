//! From depth to image: camera, surface grid, normals, shading, rasteriser, warp.
//!
//! An image is explained as a surface (a depth per pixel, seen by one fixed [`Camera`]), its albedo, a light and a
//! viewpoint. The canonical image is the albedo under the light ([`light_from_raw`], [`diffuse_shading`], [`shade`]);
//! the reconstruction is the canonical image seen from the viewpoint ([`move_surface`], [`rasterise_depth`],
//! [`sampling_grid`], put together in [`Scene::reconstruct`]). All of it is differentiable in depth, albedo, light and
//! viewpoint. [`render_views`] shows the surface from elsewhere, without gradients.
//!
//! Every operation is a kernel (a pure function on slices) wrapped in a [`relievo_tensor::Operation`]. Work is shared
//! out by images and rows, and no sum depends on who computed which part: results are the same on any number of
//! threads. An operation's folder has its contract and the CPU's side in `mod.rs`, the launches for GPUs in `cuda.rs`,
//! the kernels in `kernel.cu`; what those share is in `cuda.rs` and `common.cuh` here. On a GPU, too, sums have a fixed
//! order, and of the same points the rasteriser makes the same depths to the bit. [`render_views`] is for the CPU.
//! Where a batch of images meets fewer lights or viewpoints, image `i` takes number `i % n`: both halves of a batch
//! doubled by mirroring share theirs, and the gradients of the halves add up.
//!
//! Source: Wu, Rupprecht and Vedaldi, *Unsupervised Learning of Probably Symmetric Deformable 3D Objects from Images in
//! the Wild* (2020), section 3; the rasteriser after Kato, Ushiku and Harada, *Neural 3D Mesh Renderer* (2018).

mod camera;
mod cuda;
mod depth;
mod grid;
mod light;
mod motion;
mod normals;
mod rasterise;
mod reconstruction;
mod shading;
pub mod triangle;
mod views;

pub use camera::Camera;
pub use depth::{DepthRange, DepthSettings, Doubling, canonical_depth};
pub use grid::sampling_grid;
pub use light::{LightRange, light_from_raw};
pub use motion::{Motion, PIVOT, move_surface, rotation};
pub use normals::normals;
pub use rasterise::{RasterSettings, rasterise_depth};
pub use reconstruction::{Reconstruction, Scene};
pub use shading::{diffuse_shading, shade};
pub use views::{Texture, ViewSettings, Views, render_views};

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{DataType, Error, Result, Tensor};

/// All files of kernels of this crate: for a test that compiles them.
#[doc(hidden)]
pub fn kernels() -> Vec<&'static Kernels> {
    vec![
        &depth::KERNELS,
        &grid::KERNELS,
        &light::KERNELS,
        &motion::KERNELS,
        &rasterise::KERNELS,
        &shading::KERNELS,
    ]
}

/// Checks that `images` can be shared out over `few` lights or viewpoints.
fn check_shared(operation: &'static str, images: usize, few: usize, what: &str) -> Result<()> {
    if few == 0 || !images.is_multiple_of(few) {
        let detail = format!("{images} images cannot be shared out over {few} {what}");
        return Err(Error::shape(operation, detail));
    }
    Ok(())
}

/// Checks that the inputs are f32: the renderer has no other kernels.
fn check_type(operation: &'static str, inputs: &[&Tensor]) -> Result<()> {
    match inputs.iter().find(|input| input.data_type() != DataType::F32) {
        Some(other) => {
            let detail = format!("needs f32, got {:?} of shape {}", other.data_type(), other.shape());
            Err(Error::shape(operation, detail))
        }
        None => Ok(()),
    }
}

/// What the tests share.
#[cfg(test)]
mod testing {
    use relievo_tensor::Tensor;
    use relievo_tensor::differences::random_tensor;

    use crate::Camera;

    /// A camera so wide that everything about the surface is of the size of one: differences are exact to f32.
    pub fn wide_camera(size: usize) -> Camera {
        Camera { size, field_of_view_degrees: 50.0 }
    }

    /// Rolling depths around `middle`, another surface for every image.
    pub fn relief(batch: usize, size: usize, middle: f32, height: f32) -> Tensor {
        let of_pixel = |i: usize| {
            let place = |i: usize| 4.0 * i as f32 / size as f32;
            let (x, y, image) = (place(i % size), place(i / size % size), (i / size / size) as f32);
            middle + height * (1.3 * x + image).sin() * (0.9 * y + 0.4 * x - 2.0 * image).cos()
        };
        let depths: Vec<f32> = (0..batch * size * size).map(of_pixel).collect();
        Tensor::new(&depths, [batch, size, size]).unwrap()
    }

    /// Viewpoints with angles within `angle` and translations within 0.1.
    pub fn views(count: usize, angle: f32) -> Tensor {
        let mut views = random_tensor(77, [count, 6]);
        for view in views.data_mut().chunks_exact_mut(6) {
            view[..3].iter_mut().for_each(|x| *x *= angle);
            view[3..].iter_mut().for_each(|x| *x *= 0.1);
        }
        views
    }
}
