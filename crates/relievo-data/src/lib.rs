//! Images in: decoding to sRGB, folders and archives, sources, background decoding, augmentation.
//!
//! - [`Image::decode`] makes 8-bit sRGB of a file's bytes; [`Image::decode_with`] says what happened on the way.
//! - [`Images`] finds the images in folders and archives, and says what it left out and why.
//! - A [`Source`] is a numbered set of images, on disk or generated. Everything that consumes images asks for number
//!   `index` at `size` x `size` pixels and does not care where it comes from. A [`Loader`] makes batches of one.
//!
//! ```
//! use relievo_data::{Images, Source};
//!
//! # let folder = tempfile::tempdir()?;
//! # let header = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0\0\0\0\0\x04\0\0\0";
//! # std::fs::write(folder.path().join("red.bmp"), [&header[..], &[0; 18], &[255, 0]].concat())?;
//! # std::fs::write(folder.path().join("phone.heic"), "")?;
//! let images = Images::open(&[folder.path()])?;
//! assert_eq!((images.len(), images.name(0).as_str()), (1, "red.bmp"));
//! assert_eq!(images.sample(0, 2)?.image.pixels, [255, 0, 0].repeat(4));
//! assert!(images.left_out()[0].to_string().starts_with("left out: 1 HEIC image, which is not read (phone.heic)"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cache;
mod crop;
mod decode;
mod flip;
mod images;
mod jitter;
mod joined;
mod left_out;
mod loader;
mod memory;
pub mod naming;
mod objects;
mod open;
#[cfg(test)]
mod plain;
mod registry;
mod resample;
mod sample;
mod shard;
mod split;

pub use cache::{CacheBudget, Cached};
pub use decode::{DecodeError, DecodeOptions, Decoded, Note};
pub use images::{CROPS, Images, OpenError};
pub use jitter::Jitter;
pub use left_out::{LeftOut, LeftOutReason};
pub use loader::{Batch, LoadError, Loader, LoaderOptions, Position, Training};
pub use memory::{Reservation, reserve_memory};
pub use objects::Objects;
pub use registry::{Registry, SYNTHETIC, SourceError, SourceSpec};
pub use resample::Rectangle;
pub use sample::{FacePoints, Image, Light, Sample, SampleError, Source, Truth, WithoutTruth};
pub use split::{Holdout, Split, SplitError, Subset};
