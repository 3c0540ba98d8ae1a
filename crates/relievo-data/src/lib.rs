//! Pictures in: the source trait, folders, tar shards, background decoding, augmentation.
//!
//! A [`Source`] is a numbered set of pictures, found on disk or made by a program. Everything that consumes
//! pictures asks for number `index` at `size` x `size` pixels and does not care where it comes from.

mod sample;

pub use sample::{Light, Picture, Sample, SampleError, Source, Truth};
