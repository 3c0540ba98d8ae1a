//! Pictures made: parametric heads with exact depth, a source like any other.

mod appearance;
mod asset;
mod background;
mod hair;
mod heads;
mod identity;
mod light;
mod picture;
mod pose;
mod random;
mod teeth;

pub use heads::Heads;
