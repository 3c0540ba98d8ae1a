//! A differentiable renderer of triangle meshes: any mesh, on CPUs and GPUs, with gradients into vertices, textures,
//! lights and cameras.
//!
//! It implements Kato, Ushiku and Harada, *Neural 3D Mesh Renderer* (CVPR 2018), with the published code's results as
//! its reference.

mod cubes;
mod mesh;
pub mod shapes;

pub use cubes::{CubeOptions, Filter, Wrapped};
pub use mesh::{Material, Mesh, MeshError, Picture, TextureCoordinates, Wrap};
