//! The router's network: plain convolutions with bias, three of which halve the image, so that a place of the output
//! stands for eight pixels and sees 87. No normalisation: a place must not answer differently because of what is far
//! away.

use relievo_tensor::ops::{Activation, ConvParams, conv2d, weighted_sum};
use relievo_tensor::safetensors::{Entry, ReadError, SafetensorsFile, quantise};
use relievo_tensor::{Random, Result, Tensor};

/// Pixels between places of the output. Place i lies at pixel 8 i.
pub(crate) const STRIDE: usize = 8;

/// Numbers that describe a place: the space in which categories are told apart.
pub const FEATURES: usize = 64;

/// Numbers of the frame at each place: offset of its middle (x, y) in strides, ln of its side over [`SIDE`].
pub(crate) const FRAME: usize = 3;

/// Side of an object that the frame's last number is 0 for, in pixels.
pub(crate) const SIDE: f32 = 32.0;

/// A convolution of 3x3: channels in, channels out, stride. One of stride 1 is added to its input.
const LAYERS: [[usize; 3]; 7] =
    [[3, 16, 2], [16, 32, 2], [32, 32, 1], [32, 64, 2], [64, 64, 1], [64, 64, 1], [64, FEATURES, 1]];

/// The network's parameters, in the order of its layers: weight and bias of each, then weight and bias of the frame.
#[derive(Clone)]
pub(crate) struct Network {
    pub parameters: Vec<Tensor>,
}

/// What the network says of images `[B,H,W,3]`.
pub(crate) struct Output {
    /// `[B,H/8,W/8,64]`, at least 0.
    pub features: Tensor,
    /// `[B,H/8,W/8,3]`.
    pub frames: Tensor,
}

impl Network {
    /// Before training (He et al. 2015, equation 10, for layers with ReLU; those that are added to their input begin at half
    /// of it, because their inputs add up).
    pub fn initial(seed: u64) -> Self {
        let mut parameters = Vec::new();
        for (number, [inputs, outputs, stride]) in LAYERS.into_iter().enumerate() {
            let damping = if stride == 1 { 0.5 } else { 1.0 };
            let bound = damping * (6.0 / (9 * inputs) as f32).sqrt();
            parameters.push(uniform(seed, number, [outputs, 3, 3, inputs], bound));
            parameters.push(Tensor::zeros([outputs]));
        }
        parameters.push(uniform(seed, LAYERS.len(), [FRAME, 1, 1, FEATURES], 0.05));
        parameters.push(Tensor::zeros([FRAME]));
        Self { parameters }
    }

    /// The output for images `[B,H,W,3]` in \[-1,1\] with these parameters, which may be on a tape. Beyond the images is
    /// grey (0).
    pub fn forward(parameters: &[Tensor], images: &Tensor) -> Result<Output> {
        let mut x = images.clone();
        for (layer, [inputs, outputs, stride]) in parameters.chunks_exact(2).zip(LAYERS) {
            let y = conv2d(&x, &layer[0], Some(&layer[1]), ConvParams::new(stride, 1, Activation::Relu))?;
            x = if stride == 1 && inputs == outputs { weighted_sum(&[(1.0, &x), (1.0, &y)])? } else { y };
        }
        let [weight, bias] = [&parameters[2 * LAYERS.len()], &parameters[2 * LAYERS.len() + 1]];
        let frames = conv2d(&x, weight, Some(bias), ConvParams::new(1, 0, Activation::Identity))?;
        Ok(Output { features: x, frames })
    }

    /// From a file of [`Network::entries`].
    pub fn read(file: &SafetensorsFile<'_>) -> std::result::Result<Self, ReadError> {
        let shapes = Self::initial(0).parameters.into_iter().map(|parameter| parameter.shape());
        let parameters = shapes.zip(names()).map(|(shape, name)| file.tensor(&name, shape));
        Ok(Self { parameters: parameters.collect::<std::result::Result<_, _>>()? })
    }

    /// Weights in integers of 8 bits with a scale for each channel, biases in f32.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |(parameter, name): (&Tensor, String)| {
            let shape = parameter.shape();
            if name.ends_with("bias") {
                return vec![Entry::f32(name, &shape, parameter.data())];
            }
            quantise(&name, &shape, parameter.data()).to_vec()
        };
        self.parameters.iter().zip(names()).flat_map(entry).collect()
    }
}

/// The parameters' names, in their order.
fn names() -> impl Iterator<Item = String> {
    let layers = (0..LAYERS.len()).map(|number| format!("layer.{number}")).chain(["frame".to_owned()]);
    layers.flat_map(|layer| [format!("{layer}.weight"), format!("{layer}.bias")])
}

fn uniform(seed: u64, number: usize, shape: [usize; 4], bound: f32) -> Tensor {
    let random = Random::new(seed, number as u64);
    let mut tensor = Tensor::zeros(shape);
    for (at, value) in tensor.data_mut().iter_mut().enumerate() {
        *value = bound * (2.0 * random.uniform(at as u64) - 1.0);
    }
    tensor
}
