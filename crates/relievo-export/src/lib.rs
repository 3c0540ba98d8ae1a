//! Drawing and file formats: sheets of images, charts, colour maps, 16-bit depth, animations, meshes.
//!
//! - A [`Canvas`] is an RGB image in memory. Maps of the model become one by a colour map ([`depth_grey`],
//!   [`normals_rgb`], [`viridis`], [`Canvas::from_signed`]); a [`Sheet`] arranges canvases with captions, and a
//!   [`Chart`] draws curves.
//! - A [`SurfaceMesh`] is cut from a grid of points and written with a canvas as its texture.
//! - Files appear whole or not at all (`relievo-files`). PNG files carry the mark of a result, unless they are to be read
//!   as photographs ([`Canvas::write_input_png`]).
//!
//! A dome as a textured mesh:
//!
//! ```
//! use relievo_export::{Canvas, Lighting, SurfaceMesh};
//!
//! // Camera frame: x right, y down, z away from the camera; the dome bulges towards it.
//! let size = 32;
//! let points: Vec<[f32; 3]> = (0..size * size)
//!     .map(|at| {
//!         let [x, y] = [at % size, at / size].map(|place| place as f32 / 15.5 - 1.0);
//!         [0.1 * x, 0.1 * y, 0.95 + 0.1 * (x * x + y * y)]
//!     })
//!     .collect();
//! // Keep what is nearer than 1.04.
//! let level: Vec<f32> = points.iter().map(|[_, _, z]| 1.04 - z).collect();
//! let mesh = SurfaceMesh::from_grid(&points, &level, size, 1).expect("the dome is nearer than that");
//!
//! let skin = Canvas::new(64, 64, [224, 172, 105]);
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("dome.glb");
//! mesh.write_glb(&path, "dome", &skin, Lighting::Viewer)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod animation;
mod canvas;
mod chart;
mod colour;
mod mesh;
mod npy;
mod png;
mod sheet;
mod text;

pub use animation::Animation;
pub use canvas::{Canvas, Colour};
pub use chart::Chart;
pub use colour::{Range, depth_grey, normals_rgb, shading_grey, viridis};
pub use mesh::{Lighting, SurfaceMesh};
pub use npy::write_npy;
pub use png::{DepthScale, write_rgba_png};
pub use sheet::Sheet;
