//! Results out: images of what the model sees, sheets of them with captions, curves, 16-bit depth, meshes.
//!
//! Everything is drawn on a [`Canvas`], an RGB image in memory. Arrays of the model become one by a colour map
//! ([`depth_grey`], [`normals_rgb`], [`viridis`], [`Canvas::from_signed`]...), canvases are put together by [`Sheet`],
//! and [`Chart`] draws curves. [`SurfaceMesh`] is a surface with a canvas on it. What is written to disk appears there
//! whole or not at all: [`write_atomic`], and [`write_durable`] for what outlives a power cut. A [`FolderLock`] keeps two
//! programs from writing to one folder.

mod atomic;
mod canvas;
mod chart;
mod colour;
mod folder_lock;
mod mesh;
mod png;
mod sheet;
mod text;

pub use atomic::{WriteError, is_partial, remove_partial, write_atomic, write_durable};
pub use canvas::{Canvas, Colour};
pub use chart::Chart;
pub use colour::{Range, depth_grey, normals_rgb, shading_grey, viridis};
pub use folder_lock::{FolderLock, FolderLocked};
pub use mesh::{Lighting, SurfaceMesh};
pub use png::DepthScale;
pub use sheet::Sheet;
