//! Meshes, textures and cameras fitted to images by the gradients of a renderer.
//!
//! Four tasks, those that Kato, Ushiku and Harada showed with their *Neural 3D Mesh Renderer* (CVPR 2018), each a function
//! with settings and a callback for every step:
//!
//! | function | finds | from |
//! |---|---|---|
//! | [`fit_vertices`] | vertices of a mesh | one silhouette |
//! | [`fit_shape`] | a closed surface, from a sphere | silhouettes of several views |
//! | [`fit_texture`] | colours of a mesh | images of several views |
//! | [`fit_camera`] | the place of the camera | one silhouette |
//!
//! All of them run [`Fit`], an optimiser with Adam, on losses that may be used alone ([`silhouette_error`], [`iou_error`],
//! [`laplacian_energy`], [`flatness_energy`]).
//!
//! A triangle is moved over another one:
//!
//! ```
//! use relievo_fit::{Fit, FitSettings, silhouette_error};
//! use relievo_mesh::{Appearance, Camera, Faces, Object, Outputs, Renderer, Scene};
//! use relievo_tensor::{Error, Tensor};
//!
//! let renderer = Renderer::new(32, 32);
//! let silhouette = |vertices: &Tensor| -> Result<Tensor, Error> {
//!     let faces = Faces::new(vec![[0, 1, 2]]);
//!     let object = Object { vertices: vertices.clone(), faces, appearance: Appearance::White };
//!     let scene = Scene::new(object, Camera::default());
//!     Ok(renderer.render(&[scene], Outputs::SILHOUETTE)?.alpha.expect("asked for"))
//! };
//! let wanted = silhouette(&Tensor::new(&[-0.2, -0.5, 0.0, 0.8, -0.5, 0.0, 0.3, 0.5, 0.0], [3, 3])?)?;
//! let start = Tensor::new(&[-0.5, -0.5, 0.0, 0.5, -0.5, 0.0, 0.0, 0.5, 0.0], [3, 3])?;
//!
//! let mut fit = Fit::new(vec![start], FitSettings { learning_rate: 0.02, ..FitSettings::default() })?;
//! let mut losses = Vec::new();
//! for _ in 0..60 {
//!     losses.push(fit.step(|parameters| silhouette_error(&silhouette(&parameters[0])?, &wanted))?);
//! }
//! assert!(losses[59] < losses[0] / 10.0);
//! # Ok::<(), relievo_tensor::Error>(())
//! ```

mod camera;
mod cuda;
mod energy;
mod error;
mod fit;
mod losses;
mod shape;
mod sphere;
mod texture;
mod vertices;

pub use camera::{CameraSettings, FittedCamera, fit_camera, starts_around};
pub use energy::{Edges, flatness_energy, laplacian_energy};
pub use error::FitError;
pub use fit::{Fit, FitSettings, Step};
pub use losses::{iou, iou_error, silhouette_error};
pub use shape::{FittedShape, ShapeSettings, View, fit_shape};
pub use sphere::enclosing_sphere;
pub use texture::{Paint, TextureSettings, TextureView, fit_texture};
pub use vertices::{VertexSettings, fit_vertices};

/// All files of kernels of this crate: for a test that compiles them.
#[doc(hidden)]
pub fn kernels() -> Vec<&'static relievo_tensor::cuda::Kernels> {
    cuda::files()
}

/// The programs in `docs/mesh.md`, which are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/mesh.md")]
mod documentation {}
