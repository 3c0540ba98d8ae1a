//! Layers, initialisation, the networks, VGG16 features.
//!
//! A [`Network`] is a list of layers without parameters. Its parameters are a plain list of tensors in the order in which
//! the layers use them, so that the optimiser, a checkpoint and a tape share one flat list.
//!
//! ```rust
//! use relievo_nets::encoder;
//! use relievo_tensor::{ConvPolicy, Tensor};
//!
//! // Four numbers of a light from an image of 64x64 pixels.
//! let network = encoder("light", 8, 4, 64);
//! let parameters: Vec<Tensor> = network.parameters().iter().map(|info| info.initialise(0)).collect();
//! let light = network.forward(&Tensor::zeros([2, 64, 64, 3]), &parameters, ConvPolicy::default())?;
//! assert_eq!(light.shape(), [2, 1, 1, 4].into());
//! # Ok::<(), relievo_tensor::Error>(())
//! ```

mod architectures;
mod layers;
mod unet;
mod vgg;

/// All files of kernels of this crate: for a test that compiles them.
#[doc(hidden)]
pub fn kernels() -> Vec<&'static relievo_tensor::cuda::Kernels> {
    vec![&vgg::KERNELS]
}

pub use architectures::{ConfidenceNetwork, autoencoder, encoder};
pub use layers::{Initialisation, Layer, Network, ParameterInfo};
pub use unet::UNet;
pub use vgg::{FeatureDepth, VGG16_WEIGHTS, Vgg, VggError};
