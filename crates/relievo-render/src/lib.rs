//! From depth to image: camera, surface grid, normals, shading, rasteriser, warp.
//!
//! An image is decomposed into a surface (a depth per pixel, seen by one fixed [`Camera`]), its albedo, a light and a
//! viewpoint. The canonical image is the albedo under the light ([`light_from_raw`], [`diffuse_shading`], [`shade`]);
//! the reconstruction is the canonical image seen from the viewpoint ([`move_surface`], [`rasterise_depth`],
//! [`sampling_grid`], combined in [`Scene::reconstruct`]). All of it is differentiable in depth, albedo, light and
//! viewpoint. [`render_views`] renders the surface from other viewpoints, without gradients.
//!
//! ```rust
//! use relievo_render::{Camera, DepthRange, RasterSettings, Scene};
//! use relievo_tensor::{Tape, Tensor};
//!
//! let scene = Scene {
//!     camera: Camera::new(32),
//!     depth_range: DepthRange { min: 0.9, max: 1.1 },
//!     raster: RasterSettings::default(),
//! };
//! let tape = Tape::new();
//! let canonical = Tensor::full([1, 32, 32, 3], 0.5);
//! let depth = tape.watch(&Tensor::full([1, 32, 32], 1.0));
//! // Rotations about x, y, z in radians, then translations: turned by 0.2 about the vertical axis.
//! let viewpoint = Tensor::new(&[0.0, 0.2, 0.0, 0.0, 0.0, 0.0], [1, 6])?;
//! let seen = scene.reconstruct(&canonical, &depth, &viewpoint, 1)?;
//! assert_eq!(seen.image.shape(), [1, 32, 32, 3].into());
//! assert!(tape.backward(&seen.image)?.get(&depth).is_some());
//! # Ok::<(), relievo_tensor::Error>(())
//! ```
//!
//! Every operation is a pure function on slices, wrapped in a [`relievo_tensor::Operation`]. Threads share images and rows,
//! and the order of every sum is fixed: results are the same on any number of threads. An operation's folder has its
//! contract and its CPU implementation in `mod.rs`, the launches for GPUs in `cuda.rs`, the kernels in `kernel.cu`; `cuda.rs`
//! and `common.cuh` here have what those share. Which samples a triangle covers, with which weights and depths, is decided in
//! [`relievo_mesh::triangle`], which the renderer of meshes shares. On a GPU, too, sums have a fixed order, and the rasteriser computes the same
//! depths as on the CPU, bit for bit, from the same points. [`render_views`] is for the CPU. If a batch of images has fewer
//! lights or viewpoints, image `i` takes number `i % n`: both halves of a batch doubled by mirroring share theirs, and the
//! gradients of the halves add up.
//!
//! Source: Wu, Rupprecht and Vedaldi, *Unsupervised Learning of Probably Symmetric Deformable 3D Objects from Images in
//! the Wild* (2020), section 3; the rasteriser after Kato, Ushiku and Harada, *Neural 3D Mesh Renderer* (2018).

mod camera;
mod coverage;
mod cuda;
mod depth;
mod grid;
mod light;
mod motion;
mod normals;
mod rasterise;
mod reconstruction;
mod shading;
mod surface_error;
mod views;

pub use camera::Camera;
pub use coverage::uncovered;
pub use depth::{DepthRange, DepthSettings, Doubling, canonical_depth};
pub use grid::sampling_grid;
pub use light::{LightRange, light_from_raw};
pub use motion::{Motion, move_surface};
pub use normals::normals;
pub use rasterise::{RasterSettings, rasterise_depth};
pub use reconstruction::{Reconstruction, Scene, Traced};
pub use shading::{diffuse_shading, shade};
pub use surface_error::surface_error;
pub use views::{Texture, ViewSettings, Views, render_cut_views, render_views};

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{DataType, Error, Result, Tensor};

/// All files of kernels of this crate: for a test that compiles them.
#[doc(hidden)]
pub fn kernels() -> Vec<&'static Kernels> {
    vec![
        &coverage::KERNELS,
        &depth::KERNELS,
        &grid::KERNELS,
        &light::KERNELS,
        &motion::KERNELS,
        &rasterise::KERNELS,
        &shading::KERNELS,
        &surface_error::KERNELS,
    ]
}

/// Checks that `few` lights or viewpoints divide the number of images.
fn check_shared(operation: &'static str, images: usize, few: usize, what: &str) -> Result<()> {
    if few == 0 || !images.is_multiple_of(few) {
        let detail = format!("{images} images cannot be shared out over {few} {what}");
        return Err(Error::shape(operation, detail));
    }
    Ok(())
}

/// For each of `count` lights or viewpoints, the sum over the rows of the images that share it, in order.
fn sums_of_shared<T: Clone + Default>(
    rows: &[T],
    rows_per_image: usize,
    count: usize,
    add: impl Fn(&mut T, &T),
) -> Vec<T> {
    let mut sums = vec![T::default(); count];
    for (image, rows) in rows.chunks(rows_per_image).enumerate() {
        rows.iter().for_each(|row| add(&mut sums[image % count], row));
    }
    sums
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

/// Scenes of the tests.
#[cfg(test)]
mod testing {
    use relievo_tensor::Tensor;
    use relievo_tensor::testing::random_tensor;

    use crate::Camera;

    /// A camera so wide that all coordinates of the surface are about 1: differences are exact to f32.
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
