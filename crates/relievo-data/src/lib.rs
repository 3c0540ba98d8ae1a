//! Pictures in: the source trait, folders, tar shards, background decoding, augmentation.
//!
//! A [`Source`] is a numbered set of pictures, found on disk or made by a program. Everything that consumes
//! pictures asks for number `index` at `size` x `size` pixels and does not care where it comes from.

mod cache;
mod crop;
mod decode;
mod flip;
mod jitter;
mod joined;
mod loader;
mod pictures;
mod sample;
mod shard;
mod split;

pub use cache::{CacheBudget, Cached};
pub use decode::Rectangle;
pub use jitter::Jitter;
pub use joined::Joined;
pub use loader::{Batch, LoadError, Loader, LoaderOptions, Position, Training};
pub use pictures::{CROPS, OpenError, Pictures};
pub use sample::{Light, Picture, Sample, SampleError, Source, Truth, WithoutTruth};
pub use split::{Holdout, Split, SplitError, Subset};
