//! Layers, initialisation, the five networks, VGG16 features.
//!
//! A [`Network`] is a list of layers: what to do, without the numbers. Its parameters are a plain list of tensors
//! in the order the layers use them, so that the optimiser, a checkpoint and a tape all see the same flat list.

mod architectures;
mod layers;
mod stored;
mod vgg;

/// All files of kernels of this crate: for a test that compiles them.
#[doc(hidden)]
pub fn kernels() -> Vec<&'static relievo_tensor::cuda::Kernels> {
    vec![&vgg::KERNELS]
}

pub use architectures::{ConfidenceNetwork, autoencoder, encoder};
pub use layers::{Initialisation, Layer, Network, ParameterInfo};
pub use stored::StoredWeights;
pub use vgg::{Vgg, VggError};
