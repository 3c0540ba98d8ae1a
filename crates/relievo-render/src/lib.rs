//! From depth to picture: camera, surface grid, normals, shading, rasteriser, warp.

pub mod triangle;
