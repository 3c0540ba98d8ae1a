//! Images in: the source trait, folders, tar shards, background decoding, augmentation.
//!
//! A [`Source`] is a numbered set of images, found on disk or made by a program. Everything that consumes
//! images asks for number `index` at `size` x `size` pixels and does not care where it comes from.

mod cache;
mod crop;
mod decode;
mod flip;
mod images;
mod jitter;
mod joined;
mod loader;
mod open;
mod registry;
mod sample;
mod shard;
mod split;

pub use cache::{CacheBudget, Cached};
pub use decode::Rectangle;
pub use images::{CROPS, Images, OpenError};
pub use jitter::Jitter;
pub use joined::Joined;
pub use loader::{Batch, LoadError, Loader, LoaderOptions, Position, Training};
pub use registry::{Registry, SYNTHETIC, SourceError, SourceSpec};
pub use sample::{Image, Light, Sample, SampleError, Source, Truth, WithoutTruth};
pub use split::{Holdout, Split, SplitError, Subset};
