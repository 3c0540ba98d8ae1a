//! From depth to picture: camera, surface grid, normals, shading, rasteriser, warp.
