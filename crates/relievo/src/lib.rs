//! 3D from single photographs: an image in, reconstructions out.
//!
//! A [`Reconstructor`] holds models and a face detector. It finds the faces in an [`Image`] and gives a
//! [`Reconstruction`] for each: depth, normals, albedo, light and viewpoint as views of the model's own memory, and from
//! those a [`Mesh`], renderings from any side under any light, or files.
//!
//! ```
//! use relievo::{Camera, Image, Light, Reconstructor, Texture, Weights};
//! # use relievo_data::Source;
//! # let folder = tempfile::tempdir()?;
//! # let photograph = folder.path().join("photo.jpg");
//! # let head = relievo_synth::Heads::range(1, 0, 1).sample(0, 160)?.image;
//! # let mut canvas = relievo::Canvas::new(320, 320, [128; 3]);
//! # canvas.paste(&relievo::Canvas::from_rgb8(&head.pixels, 160), 80, 80);
//! # canvas.write_png(&photograph)?;
//! # std::env::set_current_dir(&folder)?;
//!
//! let reconstructor = Reconstructor::builder().weights(Weights::FacesSynthetic).build()?;
//! let faces = reconstructor.reconstruct(&Image::open("photo.jpg")?)?; // one per face, the largest first
//! let face = &faces[0];
//! let nose = face.depth().get(32, 32);
//! face.mesh(Texture::Photograph)?.write_glb("face.glb")?;
//! let side = face.render(&Camera::yaw(30.0), Light::from_angles(45.0, 30.0), 512)?;
//! # assert!(nose.is_some_and(|depth| (0.9..1.1).contains(depth)) && side.width == 512);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Reconstructor::reconstruct_batch`] takes many images, in bounded memory and on all cores. Nothing is printed, and
//! nothing is written unless it is asked for. Results do not depend on the number of threads.
//!
//! # Weights
//! [`Weights::FacesSynthetic`] is embedded by default. [`Weights::Faces`] and [`Weights::Cats`] learned from photographs
//! that are for non-commercial research only, and so are they: the feature `weights-research` embeds them. Weights that
//! you train yourself come by [`Weights::File`] or [`Weights::Bytes`].
//!
//! # Which weights
//! Where no weights are named, what an image shows decides (feature `weights-research`, which embeds the router): human
//! faces go to [`Weights::default`], cats' faces, wherever they are in a photograph, to [`Weights::Cats`], and images of
//! [`Categories`] of the user's own to their models. What is none of these is refused with [`Error::NothingKnown`]. Without
//! the feature human faces are all that is known.
//!
//! # Coordinates
//! x right, y down, z away from the camera; the unit is the distance from the camera to the object. Meshes are the
//! exception: y up and z towards the viewer, as their formats want it.

mod batch;
mod camera;
mod categories;
mod error;
mod lighting;
mod map;
mod mesh;
mod naming;
mod output;
mod page;
mod panel;
mod paths;
mod quality;
mod reconstruction;
mod reconstructor;
mod record;
mod relief;
mod results_folder;
mod routing;
mod together;
mod weights;

pub use batch::{Batch, ImageInput};
pub use camera::Camera;
pub use categories::{Categories, CategoriesError};
pub use error::Error;
pub use lighting::{Environment, Lighting};
pub use map::Map;
pub use mesh::{Mesh, MeshOptions, Texture};
pub use naming::ResultNames;
pub use output::{OutputFormat, OutputOptions};
pub use panel::contact_sheet;
pub use paths::{CameraPath, LightPath};
pub use quality::{Doubt, Quality};
pub use reconstruction::{Reconstruction, Viewpoint};
pub use reconstructor::{Builder, Framing, Reconstructor};
pub use record::{Depth, LightRecord, ViewRecord};
pub use relief::{Relief, ReliefOptions};
pub use relievo_data::naming::stem as result_stem;
pub use relievo_data::{Image, Light, SampleError};
pub use relievo_detect::{FaceLocation, FaceSelection};
pub use relievo_export::{Animation, Canvas};
pub use relievo_model::{ComputeSettings, DeviceChoice, Precision};
pub use relievo_tensor::Device;
pub use results_folder::{FolderError, ResultsFolder};
pub use routing::Route;
pub use together::{MOST_TOGETHER, Photograph, Together};
pub use weights::{Category, EMBEDDED_WEIGHTS, LoadedWeights, Weights};

/// What most calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests;
