//! The networks of Wu et al. 2020 (supplementary material, tables 5 to 7) for images of 64x64, and of larger
//! powers of two: each doubling of the size adds one level at the coarse end, as wide as the widest.
//!
//! Every normalisation has groups of four channels.

use relievo_tensor::ops::Activation::{self, LeakyRelu, Relu, Softplus};
use relievo_tensor::{ConvPolicy, Result, Tensor};

use crate::layers::{Layer, Network, ParameterInfo};

/// Channels in a group of every group normalisation.
pub(crate) const GROUP_CHANNELS: usize = 4;

/// Kernel, stride and padding of the convolutions that halve (or, transposed, double) the size.
const HALVE: [usize; 3] = [4, 2, 1];
/// Those of the convolution between 4x4 and 1x1.
const WHOLE: [usize; 3] = [4, 1, 0];
/// A 3x3 convolution that keeps the size.
const THREE: [usize; 3] = [3, 1, 1];
/// A 5x5 convolution that keeps the size.
const FIVE: [usize; 3] = [5, 1, 2];

/// Levels beyond those of a 64x64 image.
fn extra_levels(size: usize) -> usize {
    assert!(size.is_power_of_two() && size >= 64, "image sizes are powers of two from 64, not {size}");
    (size / 64).ilog2() as usize
}

fn normed(layer: Layer, channels: usize, activation: Activation) -> Layer {
    layer.norm(channels / GROUP_CHANNELS).then(activation)
}

/// From `inputs` channels to a code of `code` channels at 1x1: the first half of [`autoencoder`] and of the confidence
/// network.
fn compress(inputs: usize, width: usize, code: usize, size: usize) -> Vec<Layer> {
    let w = width;
    let mut layers = vec![
        normed(Layer::conv(inputs, w, HALVE), w, LeakyRelu),
        normed(Layer::conv(w, 2 * w, HALVE), 2 * w, LeakyRelu),
        normed(Layer::conv(2 * w, 4 * w, HALVE), 4 * w, LeakyRelu),
        Layer::conv(4 * w, 8 * w, HALVE).then(LeakyRelu),
    ];
    for _ in 0..extra_levels(size) {
        layers.push(Layer::conv(8 * w, 8 * w, HALVE).then(LeakyRelu));
    }
    layers.push(Layer::conv(8 * w, code, WHOLE).then(Relu));
    layers
}

/// The depth and albedo network: `[B,size,size,3]` to `[B,size,size,outputs]` through a code of `code` channels.
/// `width` is the number of channels at the first level (64 in the paper, with a code of 256).
///
/// # Panics
/// If `size` is not a power of two from 64.
pub fn autoencoder(
    name: &str,
    width: usize,
    code: usize,
    outputs: usize,
    size: usize,
    activation: Activation,
) -> Network {
    let w = width;
    let mut layers = compress(3, w, code, size);
    layers.push(Layer::deconv(code, 8 * w, WHOLE).then(Relu));
    layers.push(Layer::conv(8 * w, 8 * w, THREE).then(Relu));
    for _ in 0..extra_levels(size) {
        layers.push(Layer::deconv(8 * w, 8 * w, HALVE).then(Relu));
        layers.push(Layer::conv(8 * w, 8 * w, THREE).then(Relu));
    }
    for (from, to) in [(8 * w, 4 * w), (4 * w, 2 * w), (2 * w, w)] {
        layers.push(normed(Layer::deconv(from, to, HALVE), to, Relu));
        layers.push(normed(Layer::conv(to, to, THREE), to, Relu));
    }
    layers.push(Layer::UpsampleNearest);
    layers.push(normed(Layer::conv(w, w, THREE), w, Relu));
    layers.push(normed(Layer::conv(w, w, FIVE), w, Relu));
    layers.push(Layer::conv(w, outputs, FIVE).then(activation));
    Network::new(name, layers)
}

/// The light and viewpoint network: `[B,size,size,3]` to `[B,1,1,outputs]` in (-1, 1). `width` is 32 in the paper.
///
/// # Panics
/// If `size` is not a power of two from 64.
pub fn encoder(name: &str, width: usize, outputs: usize, size: usize) -> Network {
    let w = width;
    let mut layers = Vec::new();
    for (from, to) in [(3, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w)] {
        layers.push(Layer::conv(from, to, HALVE).then(Relu));
    }
    for _ in 0..extra_levels(size) {
        layers.push(Layer::conv(8 * w, 8 * w, HALVE).then(Relu));
    }
    layers.push(Layer::conv(8 * w, 8 * w, WHOLE).then(Relu));
    layers.push(Layer::conv(8 * w, outputs, [1, 1, 0]).then(Activation::Tanh));
    Network::new(name, layers)
}

/// The confidence network: a trunk, and a head for each of the two losses.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfidenceNetwork {
    trunk: Network,
    pixels: Network,
    features: Network,
}

impl ConfidenceNetwork {
    /// `inputs` channels (3, or 6 for a pair of images) to `outputs` scales for each of the two losses. `width` is 64 in
    /// the paper, with a code of 128.
    ///
    /// # Panics
    /// If `size` is not a power of two from 64.
    pub fn new(name: &str, [inputs, outputs]: [usize; 2], width: usize, code: usize, size: usize) -> Self {
        let w = width;
        let mut trunk = compress(inputs, w, code, size);
        trunk.push(Layer::deconv(code, 8 * w, WHOLE).then(Relu));
        for _ in 0..extra_levels(size) {
            trunk.push(Layer::deconv(8 * w, 8 * w, HALVE).then(Relu));
        }
        trunk.push(normed(Layer::deconv(8 * w, 4 * w, HALVE), 4 * w, Relu));
        trunk.push(normed(Layer::deconv(4 * w, 2 * w, HALVE), 2 * w, Relu));
        let pixels = vec![
            normed(Layer::deconv(2 * w, w, HALVE), w, Relu),
            normed(Layer::deconv(w, w, HALVE), w, Relu),
            Layer::conv(w, outputs, FIVE).then(Softplus),
        ];
        let features = vec![Layer::conv(2 * w, outputs, THREE).then(Softplus)];
        Self {
            trunk: Network::new(format!("{name}.trunk"), trunk),
            pixels: Network::new(format!("{name}.pixels"), pixels),
            features: Network::new(format!("{name}.features"), features),
        }
    }

    /// The parameters of the trunk, the head for pixels and the head for features, in this order.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        [&self.trunk, &self.pixels, &self.features].iter().flat_map(|part| part.parameters()).collect()
    }

    /// Confidence (the scale of the error, above 0) of the photometric loss `[B,S,S,outputs]` and of the perceptual loss
    /// `[B,S/4,S/4,outputs]` of x `[B,S,S,inputs]`. With two outputs channel 0 is for the image as seen, 1 for its
    /// reconstruction by symmetry.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward(&self, x: &Tensor, parameters: &[Tensor], policy: ConvPolicy) -> Result<(Tensor, Tensor)> {
        let (trunk, heads) = parameters.split_at(self.trunk.parameters().len().min(parameters.len()));
        let (pixels, features) = heads.split_at(self.pixels.parameters().len().min(heads.len()));
        let shared = self.trunk.run(x, trunk, policy)?;
        let pixels = self.pixels.forward(&shared, pixels, policy)?;
        Ok((pixels, self.features.forward(&shared, features, policy)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(parameters: &[ParameterInfo]) -> usize {
        parameters.iter().map(|parameter| parameter.shape.numel()).sum()
    }

    #[test]
    fn parameter_counts_are_the_papers() {
        assert_eq!(
            count(&autoencoder("depth", 64, 256, 1, 64, Activation::Identity).parameters()),
            12_979_648
        );
        assert_eq!(count(&autoencoder("albedo", 64, 256, 3, 64, Activation::Tanh).parameters()), 12_982_848);
        assert_eq!(count(&encoder("light", 32, 4, 64).parameters()), 1_739_264);
        assert_eq!(count(&encoder("view", 32, 6, 64).parameters()), 1_739_776);
        assert_eq!(count(&ConfidenceNetwork::new("confidence", [3, 2], 64, 128, 64).parameters()), 7_678_208);
        // Those of Ho et al. 2021.
        assert_eq!(count(&ConfidenceNetwork::new("confidence", [3, 1], 64, 128, 64).parameters()), 7_675_456);
        assert_eq!(count(&ConfidenceNetwork::new("pair", [6, 1], 64, 128, 64).parameters()), 7_678_528);
    }

    fn forward(network: &Network, size: usize) -> Tensor {
        let parameters: Vec<_> = network.parameters().iter().map(|info| info.initialise(0)).collect();
        network.forward(&Tensor::full([1, size, size, 3], 0.5), &parameters, ConvPolicy::default()).unwrap()
    }

    #[test]
    fn outputs_have_the_size_of_the_image() {
        for size in [64, 128] {
            let depth = forward(&autoencoder("depth", 16, 32, 1, size, Activation::Identity), size);
            assert_eq!(depth.shape(), [1, size, size, 1].into());
            assert_eq!(forward(&encoder("view", 16, 6, size), size).shape(), [1, 1, 1, 6].into());
            let network = ConfidenceNetwork::new("confidence", [3, 2], 16, 32, size);
            let parameters: Vec<_> = network.parameters().iter().map(|info| info.initialise(0)).collect();
            let (pixels, features) = network
                .forward(&Tensor::zeros([1, size, size, 3]), &parameters, ConvPolicy::default())
                .unwrap();
            assert_eq!(pixels.shape(), [1, size, size, 2].into());
            assert_eq!(features.shape(), [1, size / 4, size / 4, 2].into());
            assert!(pixels.data().iter().chain(features.data()).all(|&scale| scale > 0.0));
        }
    }

    #[test]
    fn a_network_names_what_is_missing() {
        let network = encoder("view", 16, 6, 64);
        let error = network.forward(&Tensor::zeros([1, 64, 64, 3]), &[], ConvPolicy::default()).unwrap_err();
        assert_eq!(error.to_string(), "network: view was given too few parameters");
    }

    #[test]
    fn parameters_depend_on_seed_and_name_alone() {
        let a = encoder("view", 16, 6, 64).parameters()[0].clone();
        let b = ParameterInfo { name: "light.0.weight".into(), ..a.clone() };
        assert_eq!(a.initialise(1).data(), a.initialise(1).data());
        assert_ne!(a.initialise(1).data(), a.initialise(2).data());
        assert_ne!(a.initialise(1).data(), b.initialise(1).data());
        let bound = (3.0f32 * 16.0).sqrt().recip();
        assert!(a.initialise(1).data().iter().all(|x| x.abs() <= bound));
    }
}
