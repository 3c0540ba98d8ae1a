//! Layers, initialisation, the five networks, VGG16 features.
//!
//! A [`Network`] is a list of layers: what to do, without the numbers. Its parameters are a plain list of tensors
//! in the order the layers use them, so that the optimiser, a checkpoint and a tape all see the same flat list.

mod architectures;
mod layers;
mod vgg;

pub use architectures::{ConfidenceNetwork, autoencoder, encoder};
pub use layers::{Initialisation, Layer, Network, ParameterInfo};
pub use vgg::{Vgg, VggError};
