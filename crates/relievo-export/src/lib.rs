//! Drawing and file formats: sheets of images, charts, colour maps, 16-bit depth, animations.
//!
//! - A [`Canvas`] is an RGB image in memory. Maps of the model become one by a colour map ([`depth_grey`],
//!   [`normals_rgb`], [`viridis`], [`Canvas::from_signed`]); a [`Sheet`] arranges canvases with captions, and a
//!   [`Chart`] draws curves.
//! - Files appear whole or not at all (`relievo-files`). PNG files carry the mark of a result, unless they are to be read
//!   as photographs ([`Canvas::write_input_png`]).
//!
//! Meshes are written by `relievo-mesh`.
//!
//! ```
//! use relievo_export::{Range, depth_grey};
//!
//! // A dome that bulges towards the camera: near is light.
//! let size = 32;
//! let depth: Vec<f32> = (0..size * size)
//!     .map(|at| {
//!         let [x, y] = [at % size, at / size].map(|place| place as f32 / 15.5 - 1.0);
//!         0.95 + 0.1 * (x * x + y * y)
//!     })
//!     .collect();
//! let canvas = depth_grey(&depth, size, None, Range::robust(&depth, None));
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("dome.png");
//! canvas.write_png(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod animation;
mod canvas;
mod chart;
mod colour;
mod npy;
mod png;
mod sheet;
mod text;

pub use animation::Animation;
pub use canvas::{Canvas, Colour};
pub use chart::Chart;
pub use colour::{Range, depth_grey, normals_rgb, shading_grey, viridis};
pub use npy::write_npy;
pub use png::{DepthScale, write_rgba_png};
pub use sheet::Sheet;
