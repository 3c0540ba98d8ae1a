//! A differentiable renderer of triangle meshes: any mesh, on CPUs and GPUs, with gradients into vertices, textures,
//! lights and cameras.
//!
//! It implements Kato, Ushiku and Harada, *Neural 3D Mesh Renderer* (CVPR 2018), with the published code's results as
//! its reference.
//!
//! | to | there is |
//! |---|---|
//! | read and write mesh files | [`Mesh`], [`Mesh::open`], [`Mesh::write`] |
//! | show a mesh as viewers do, without gradients | [`stage`] |
//! | render scenes on a tape: silhouettes, colour, depth, normals, faces | [`Renderer`], [`Scene`], [`Object`], [`Outputs`] |
//! | say what a mesh looks like | [`Appearance`], [`Lights`]; [`Object::of_mesh`] from a file |
//! | place a camera | [`Camera`], which explains the axes; [`points_from_angles`] |
//! | choose how vertices learn of what edges uncover | [`Gradient`]; [`check_gradient`] compares it with differences |
//! | have a mesh to try things with | [`shapes`] |
//!
//! Whatever is on a GPU is rendered there: move vertices and colours with `Tensor::to_device`.
//!
//! A triangle, and what its silhouette asks of it:
//!
//! ```rust
//! use relievo_mesh::{Appearance, Camera, Faces, Object, Outputs, Renderer, Scene};
//! use relievo_tensor::{Tape, Tensor};
//!
//! let tape = Tape::new();
//! let corners = [-0.5, -0.5, 0.0, 0.5, -0.5, 0.0, 0.0, 0.5, 0.0];
//! let vertices = tape.watch(&Tensor::new(&corners, [3, 3])?);
//! let faces = Faces::new(vec![[0, 1, 2]]);
//! let object = Object { vertices: vertices.clone(), faces, appearance: Appearance::White };
//! let scene = Scene::new(object, Camera::default());
//! let silhouettes = Renderer::new(64, 64).render(&[scene], Outputs::SILHOUETTE)?.alpha.unwrap();
//! assert_eq!(silhouettes.shape(), [1, 64, 64].into());
//! // The triangle should cover less: its edges move inwards against the gradient.
//! let gradients = tape.backward(&silhouettes)?;
//! assert!(gradients.get(&vertices).unwrap().data()[0] < 0.0);
//! # Ok::<(), relievo_tensor::Error>(())
//! ```

mod attributes;
mod camera;
mod check;
mod clip;
mod cubes;
mod cuda;
mod faces;
#[cfg(feature = "files")]
pub mod files;
mod gradients;
mod lanes;
mod light;
mod mesh;
mod raster;
mod renderer;
mod resolve;
mod shade;
pub mod shapes;
pub mod stage;
pub mod triangle;
pub mod vector;

pub use attributes::Normals;
pub use camera::{
    Camera, Lens, View, look_at_rotation, look_rotation, move_rigidly, orthographic, perspective,
    points_from_angles, project, view_from,
};
pub use clip::BehindCamera;
pub use cubes::{CubeOptions, Filter, Wrapped};
pub use faces::Faces;
pub use gradients::{Agreement, CheckOptions, Gradient, check_gradient};
pub use light::{Ambient, Directional, Lights, light_faces};
pub use mesh::{Image, Material, Mesh, MeshError, TextureCoordinates, Wrap};
pub use renderer::{LitSide, Object, Outputs, Rendered, Renderer, Scene};
pub use resolve::DepthMean;
pub use shade::{Appearance, ImageTexture};

/// All files of kernels of this crate: for a test that compiles them.
#[doc(hidden)]
pub fn kernels() -> Vec<&'static relievo_tensor::cuda::Kernels> {
    cuda::files()
}
