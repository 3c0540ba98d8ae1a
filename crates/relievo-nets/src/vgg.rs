//! VGG16 up to relu3_3: the features of the perceptual loss (Simonyan and Zisserman 2015).
//!
//! The weights are those of the original, in the repository at half precision. They were trained on images in
//! BGR order, 0..255, minus the mean colour. The images here are RGB in [-1,1], so `CaffeInput` converts them: it
//! cannot be folded into the first convolution, whose zero padding means "the mean colour". The division of the
//! features by 58.395 is folded into the last layer: a ReLU passes a positive factor through.

mod cuda;

pub(crate) use cuda::KERNELS;

use relievo_tensor::ops::{Activation, ConvParams, cast, conv2d, max_pool, weighted_sum};
use relievo_tensor::safetensors::{Entry, SafetensorsFile, serialize};
use relievo_tensor::{
    Backward, Context, ConvPolicy, DataType, Device, Error, Operation, Random, Result, Tensor, apply_one,
};

/// The embedded weights, a safetensors file: conv1_1 to conv3_3 in half precision (`assets/README.md` says whose they are).
pub static VGG16_WEIGHTS: &[u8] = include_bytes!("../assets/vgg16-conv1_1-conv3_3-f16.safetensors");

/// The convolutions in order; `None` is a 2x2 max pooling.
const LAYERS: [Option<&str>; 9] = [
    Some("conv1_1"),
    Some("conv1_2"),
    None,
    Some("conv2_1"),
    Some("conv2_2"),
    None,
    Some("conv3_1"),
    Some("conv3_2"),
    Some("conv3_3"),
];

/// The mean colour of ImageNet in BGR order, 0..255.
const MEAN_BGR: [f32; 3] = [103.939, 116.779, 123.68];

/// The divisor of features: 255 times the mean standard deviation of ImageNet's colours.
const FEATURE_SCALE: f32 = 58.395;

/// An error of reading the weights.
#[derive(Debug, thiserror::Error)]
pub enum VggError {
    /// The file is damaged. If it is the embedded one, the program was built from a damaged checkout.
    #[error(
        "the VGG16 weights are damaged ({0}); if they are the embedded ones, restore crates/relievo-nets/assets and build again"
    )]
    Damaged(String),
}

/// Where features are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeatureDepth {
    /// After relu1_2: edges and colours, at the images' size, 64 channels.
    Relu12,
    /// After relu2_2: textures, at half of their size, 128 channels.
    Relu22,
    /// After relu3_3: parts, at a quarter of their size, 256 channels.
    Relu33,
}

impl FeatureDepth {
    /// The convolution before it.
    fn layer(self) -> &'static str {
        match self {
            Self::Relu12 => "conv1_2",
            Self::Relu22 => "conv2_2",
            Self::Relu33 => "conv3_3",
        }
    }

    /// How many times smaller features are than the images.
    pub fn reduction(self) -> usize {
        match self {
            Self::Relu12 => 1,
            Self::Relu22 => 2,
            Self::Relu33 => 4,
        }
    }
}

/// The feature network. Its weights are constants unless [`Vgg::from_parameters`] was given variables of a tape.
pub struct Vgg {
    /// Weight `[out,3,3,in]` and bias `[out]` of each convolution in order.
    convolutions: Vec<(Tensor, Tensor)>,
    policy: ConvPolicy,
    /// Ascending.
    depths: Vec<FeatureDepth>,
}

impl Vgg {
    /// The network with the embedded weights.
    ///
    /// # Errors
    /// If the embedded file is damaged.
    pub fn new() -> std::result::Result<Self, VggError> {
        Self::from_safetensors(VGG16_WEIGHTS)
    }

    /// The network with other weights: a file with the names and layout of the embedded one, f16 or f32.
    ///
    /// # Errors
    /// If the file lacks a layer or holds it in another shape or precision.
    pub fn from_safetensors(bytes: &[u8]) -> std::result::Result<Self, VggError> {
        let damaged = VggError::Damaged;
        let file = SafetensorsFile::open(bytes).map_err(|error| damaged(error.to_string()))?;
        let read = |name: String| file.numbers(&name).map_err(|error| damaged(error.to_string()));
        let mut convolutions = Vec::new();
        for name in LAYERS.into_iter().flatten() {
            let (weight, shape) = read(format!("{name}.weight"))?;
            let (bias, _) = read(format!("{name}.bias"))?;
            let &[outputs, inputs, 3, 3] = shape.as_slice() else {
                return Err(damaged(format!("{name}.weight has the shape {shape:?}")));
            };
            let scale = if name == "conv3_3" { FEATURE_SCALE.recip() } else { 1.0 };
            let mut last = Tensor::empty([outputs, 3, 3, inputs]);
            for (o, filter) in last.data_mut().chunks_exact_mut(9 * inputs).enumerate() {
                for tap in 0..9 {
                    for i in 0..inputs {
                        filter[tap * inputs + i] = scale * weight[(o * inputs + i) * 9 + tap];
                    }
                }
            }
            let bias: Vec<f32> = bias.iter().map(|b| b * scale).collect();
            let bias = Tensor::new(&bias, [outputs]).map_err(|error| damaged(error.to_string()))?;
            convolutions.push((last, bias));
        }
        Ok(Self::from_convolutions(convolutions))
    }

    fn from_convolutions(convolutions: Vec<(Tensor, Tensor)>) -> Self {
        Self { convolutions, policy: ConvPolicy::default(), depths: vec![FeatureDepth::Relu33] }
    }

    /// Sets how exactly a GPU computes the features.
    pub fn set_conv_policy(&mut self, policy: ConvPolicy) {
        self.policy = policy;
    }

    /// The network with random weights: uniform, with a variance that keeps the size of activations from layer to layer (He
    /// et al. 2015), and biases of zero.
    pub fn untrained(seed: u64) -> Self {
        const CHANNELS: [usize; 8] = [3, 64, 64, 128, 128, 256, 256, 256];
        let convolution = |(name, channels): (&str, &[usize])| {
            let [inputs, outputs] = [channels[0], channels[1]];
            let random = Random::named(seed, name);
            // Inputs of the first layer reach about 127, those of the others are about 1.
            let unit = if inputs == 3 { 127.5 } else { 1.0 };
            let bound = (6.0 / (9 * inputs) as f32).sqrt() / unit;
            let mut weight = Tensor::empty([outputs, 3, 3, inputs]);
            for (index, element) in weight.data_mut().iter_mut().enumerate() {
                *element = (2.0 * random.uniform(index as u64) - 1.0) * bound;
            }
            (weight, Tensor::zeros([outputs]))
        };
        let convolutions = LAYERS.into_iter().flatten().zip(CHANNELS.windows(2)).map(convolution).collect();
        Self::from_convolutions(convolutions)
    }

    /// The weight `[out,3,3,in]` and the bias `[out]` of each layer, in order.
    pub fn parameters(&self) -> Vec<Tensor> {
        self.convolutions.iter().flat_map(|(weight, bias)| [weight.clone(), bias.clone()]).collect()
    }

    /// The network with other parameters, in the order of [`Vgg::parameters`]: for instance variables of a tape, to compute
    /// their gradients.
    ///
    /// # Errors
    /// If there are too few or too many parameters.
    pub fn from_parameters(parameters: &[Tensor]) -> Result<Self> {
        let (pairs, rest) = parameters.as_chunks::<2>();
        if pairs.len() != LAYERS.iter().flatten().count() || !rest.is_empty() {
            return Err(Error::shape("vgg", format!("{} parameters", parameters.len())));
        }
        let pair = |[weight, bias]: &[Tensor; 2]| (weight.clone(), bias.clone());
        Ok(Self::from_convolutions(pairs.iter().map(pair).collect()))
    }

    /// The same network with its features multiplied by `factor`, above 0: a ReLU passes a positive factor through.
    ///
    /// # Errors
    /// If the parameters are on a GPU that fails.
    pub fn scaled(&self, factor: f32) -> Result<Self> {
        let mut convolutions = self.convolutions.clone();
        if let Some((weight, bias)) = convolutions.last_mut() {
            for tensor in [weight, bias] {
                *tensor = tensor.to_device(Device::Cpu)?;
                tensor.data_mut().iter_mut().for_each(|element| *element *= factor);
            }
        }
        Ok(Self::from_convolutions(convolutions))
    }

    /// A file for [`Vgg::from_safetensors`], with notes (names and texts) in its metadata.
    ///
    /// # Errors
    /// If the parameters are on a GPU that fails.
    pub fn to_safetensors(&self, notes: impl IntoIterator<Item = (String, String)>) -> Result<Vec<u8>> {
        let mut tensors = Vec::new();
        for (name, (weight, bias)) in LAYERS.into_iter().flatten().zip(&self.convolutions) {
            let scale = if name == "conv3_3" { FEATURE_SCALE } else { 1.0 };
            let (weight, bias) = (weight.to_device(Device::Cpu)?, bias.to_device(Device::Cpu)?);
            let [outputs, _, _, inputs] = weight.dims("vgg")?;
            let from = weight.data();
            let weights = (0..outputs * inputs * 9).map(|at| {
                let (o, i, tap) = (at / (9 * inputs), at / 9 % inputs, at % 9);
                from[(o * 9 + tap) * inputs + i] * scale
            });
            let weights: Vec<f32> = weights.collect();
            let biases: Vec<f32> = bias.data().iter().map(|bias| bias * scale).collect();
            tensors.push(Entry::f32(format!("{name}.weight"), &[outputs, inputs, 3, 3], &weights));
            tensors.push(Entry::f32(format!("{name}.bias"), &[outputs], &biases));
        }
        let notes = notes.into_iter().collect();
        Ok(serialize(&tensors, notes).expect("tensors have distinct names and whole bytes"))
    }

    /// The same network on a device; on a GPU, weights, biases and features have the type `data_type`.
    ///
    /// # Errors
    /// If the device is missing or out of memory.
    pub fn to_device(&self, device: Device, data_type: DataType) -> Result<Self> {
        let moved = |(weight, bias): &(Tensor, Tensor)| {
            Ok((cast(&weight.to_device(device)?, data_type)?, cast(&bias.to_device(device)?, data_type)?))
        };
        let convolutions = self.convolutions.iter().map(moved).collect::<Result<_>>()?;
        Ok(Self { convolutions, depths: self.depths.clone(), ..*self })
    }

    /// Sets where [`Vgg::all_features`] takes features; relu3_3 alone if this is never called.
    pub fn set_depths(&mut self, depths: &[FeatureDepth]) {
        self.depths = depths.to_vec();
        self.depths.sort_unstable();
        self.depths.dedup();
    }

    /// Where [`Vgg::all_features`] takes features, ascending.
    pub fn depths(&self) -> &[FeatureDepth] {
        &self.depths
    }

    /// relu3_3 / 58.395 of `images [B,H,W,3]` (f32) in [-1,1], H and W divisible by 4: `[B,H/4,W/4,256]`, of the
    /// weights' type.
    ///
    /// # Errors
    /// If the shape or type does not fit.
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        Ok(self.features_at(images, &[FeatureDepth::Relu33])?.remove(0))
    }

    /// The features of `images`, as in [`Vgg::features`], at the [depths](Vgg::set_depths) that are asked for, all divided
    /// by 58.395. Layers behind the last depth are not computed.
    ///
    /// # Errors
    /// If the shape or type does not fit.
    pub fn all_features(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        self.features_at(images, &self.depths)
    }

    fn features_at(&self, images: &Tensor, depths: &[FeatureDepth]) -> Result<Vec<Tensor>> {
        let data_type = self.convolutions.first().map_or(DataType::F32, |(weight, _)| weight.data_type());
        let mut x = apply_one(CaffeInput { data_type }, &[images])?;
        let mut convolutions = self.convolutions.iter();
        let mut found = Vec::with_capacity(depths.len());
        for layer in LAYERS {
            if found.len() == depths.len() {
                break;
            }
            x = match (layer, layer.and_then(|_| convolutions.next())) {
                (Some(_), Some((weight, bias))) => conv2d(
                    &x,
                    weight,
                    Some(bias),
                    ConvParams { policy: self.policy, ..ConvParams::new(1, 1, Activation::Relu) },
                )?,
                _ => max_pool(&x, 2)?,
            };
            match depths.iter().find(|depth| Some(depth.layer()) == layer) {
                // The divisor is in its weights.
                Some(FeatureDepth::Relu33) => found.push(x.clone()),
                Some(_) => found.push(weighted_sum(&[(FEATURE_SCALE.recip(), &x)])?),
                None => {}
            }
        }
        Ok(found)
    }
}

/// From RGB in [-1,1] to BGR in 0..255 minus the mean colour, `[B,H,W,3]` both. Gradient: 127.5 times the output's,
/// channels reversed.
struct CaffeInput {
    /// The type of the output; the input and its gradient are f32.
    data_type: DataType,
}

impl CaffeInput {
    /// What is added to the channels of the output.
    const OFFSET: [f32; 3] = [127.5 - MEAN_BGR[0], 127.5 - MEAN_BGR[1], 127.5 - MEAN_BGR[2]];

    fn check(&self, images: &Tensor) -> Result<()> {
        let [_, _, _, channels] = images.dims(self.name())?;
        if channels == 3 && images.data_type() == DataType::F32 {
            return Ok(());
        }
        let (shape, data_type) = (images.shape(), images.data_type());
        Err(Error::shape(self.name(), format!("needs images [B,H,W,3] of F32, got {shape} of {data_type:?}")))
    }

    fn reverse(x: &Tensor, offset: [f32; 3]) -> Tensor {
        let mut y = Tensor::empty(x.shape());
        for (y, x) in y.data_mut().chunks_exact_mut(3).zip(x.data().chunks_exact(3)) {
            for channel in 0..3 {
                y[channel] = 127.5 * x[2 - channel] + offset[channel];
            }
        }
        y
    }
}

impl Operation for CaffeInput {
    fn name(&self) -> &'static str {
        "vgg_input"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs[0])?;
        Ok(vec![Self::reverse(inputs[0], Self::OFFSET)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(Self::reverse(backward.gradient(), [0.0; 3]))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs[0])?;
        Ok(vec![cuda::forward(inputs[0], self.data_type, Self::OFFSET)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cuda::backward(backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_survives_its_file_and_is_scaled_as_a_whole() {
        let vgg = Vgg::untrained(3).scaled(2.5).unwrap();
        let bytes = vgg.to_safetensors([("note".to_owned(), "text".to_owned())]).unwrap();
        let again = Vgg::from_safetensors(&bytes).unwrap();
        let images = relievo_tensor::testing::random_tensor(1, [1, 16, 16, 3]);
        let of = |vgg: &Vgg| vgg.features(&images).unwrap();
        let [one, other, plain] = [of(&vgg), of(&again), of(&Vgg::untrained(3))];
        assert_eq!(one.shape(), [1, 4, 4, 256].into());
        // Rounding of the last layer's weights, which are stored multiplied by a number that is no power of two.
        for ((a, b), c) in one.data().iter().zip(other.data()).zip(plain.data()) {
            let near = |x: f32| (a - x).abs() < 1e-5 * (1.0 + a.abs());
            assert!(near(*b) && near(2.5 * c), "{a}, {b}, {c}");
        }
        // What goes through keeps its size within an order of magnitude.
        let square = plain.data().iter().map(|x| x * x).sum::<f32>() / plain.numel() as f32;
        assert!((0.01..10.0).contains(&square), "{square}");
        assert_eq!(SafetensorsFile::open(&bytes).unwrap().metadata("note"), Some("text"));
    }

    #[test]
    fn features_of_several_depths_are_those_of_one_run() {
        let mut vgg = Vgg::untrained(3);
        let images = relievo_tensor::testing::random_tensor(1, [1, 16, 16, 3]);
        let deepest = vgg.features(&images).unwrap();
        vgg.set_depths(&[FeatureDepth::Relu33, FeatureDepth::Relu12, FeatureDepth::Relu22]);
        let all = vgg.all_features(&images).unwrap();
        let shapes: Vec<_> = all.iter().map(|features| features.shape().to_vec()).collect();
        assert_eq!(shapes, [[1, 16, 16, 64], [1, 8, 8, 128], [1, 4, 4, 256]]);
        for (depth, features) in vgg.depths().iter().zip(&all) {
            assert_eq!(16 / depth.reduction(), features.shape()[1]);
        }
        assert_eq!(all[2].data(), deepest.data());
        // Deeper layers have no part in it.
        let mut shallow = vgg.parameters();
        shallow[4..].iter_mut().for_each(|parameter| *parameter = Tensor::full(parameter.shape(), f32::NAN));
        let mut shallow = Vgg::from_parameters(&shallow).unwrap();
        shallow.set_depths(&[FeatureDepth::Relu12]);
        let [features] = shallow.all_features(&images).unwrap().try_into().unwrap();
        assert_eq!(features.data(), all[0].data());
        // The first two layers by hand, at a place inside: the definition with the divisor.
        let unscaled = Vgg::untrained(3).convolutions[..2].iter().fold(
            apply_one(CaffeInput { data_type: DataType::F32 }, &[&images]).unwrap(),
            |x, (weight, bias)| {
                conv2d(&x, weight, Some(bias), ConvParams::new(1, 1, Activation::Relu)).unwrap()
            },
        );
        assert!(unscaled.data().iter().zip(all[0].data()).all(|(a, b)| (a / 58.395 - b).abs() < 1e-6));
    }

    #[test]
    fn gradients_reach_weights_that_are_on_a_tape() {
        let tape = relievo_tensor::Tape::new();
        let watched: Vec<Tensor> = Vgg::untrained(1).parameters().iter().map(|p| tape.watch(p)).collect();
        let images = relievo_tensor::testing::random_tensor(1, [1, 8, 8, 3]);
        let features = Vgg::from_parameters(&watched).unwrap().features(&images).unwrap();
        let gradients = tape.backward_from(&[(&features, Tensor::full(features.shape(), 1.0))]).unwrap();
        assert!(watched.iter().all(|p| gradients.get(p).unwrap().data().iter().any(|g| *g != 0.0)));
        assert!(Vgg::from_parameters(&watched[1..]).is_err());
    }
}
