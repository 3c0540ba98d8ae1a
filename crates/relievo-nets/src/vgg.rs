//! VGG16 up to relu3_3: the features of the perceptual loss (Simonyan and Zisserman 2015).
//!
//! The weights are those of the original, in the repository at half precision. They were trained on pictures in
//! BGR order, 0..255, minus the mean colour. The pictures here are RGB in [-1,1], so `CaffeInput` converts them: it
//! cannot be folded into the first convolution, whose zero padding means "the mean colour". The division of the
//! features by 58.395 is folded into the last layer: a ReLU passes a positive factor through.

mod cuda;

pub(crate) use cuda::KERNELS;

use relievo_tensor::ops::{Activation, ConvParams, cast, conv2d, max_pool};
use relievo_tensor::{Backward, Context, DataType, Device, Error, Operation, Result, Tensor, apply_one};

use crate::stored::StoredWeights;

static WEIGHTS: &[u8] = include_bytes!("../../../assets/vgg/vgg16-conv1_1-conv3_3-f16.safetensors");

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

/// What features are divided by: 255 times the mean standard deviation of ImageNet's colours.
const FEATURE_SCALE: f32 = 58.395;

/// Why the features cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VggError {
    /// The file does not hold what it should; the embedded one: the program was built from a damaged checkout.
    #[error(
        "the VGG16 weights are damaged ({0}); if they are the embedded ones, restore assets/vgg and build again"
    )]
    Damaged(String),
}

/// The feature network. Its weights are fixed: no gradient reaches them.
pub struct Vgg {
    /// Weight `[out,3,3,in]` and bias `[out]` of each convolution in order.
    convolutions: Vec<(Tensor, Tensor)>,
}

impl Vgg {
    /// The features of the embedded weights.
    ///
    /// # Errors
    /// If the embedded file is damaged.
    pub fn new() -> std::result::Result<Self, VggError> {
        Self::from_safetensors(WEIGHTS)
    }

    /// The features of other weights: a file with the names and layout of the embedded one, f16 or f32.
    ///
    /// # Errors
    /// If the file lacks a layer or holds it in another shape or precision.
    pub fn from_safetensors(bytes: &[u8]) -> std::result::Result<Self, VggError> {
        let damaged = VggError::Damaged;
        let file = StoredWeights::open(bytes).map_err(damaged)?;
        let read = |name: String| file.numbers(&name).map_err(damaged);
        let mut convolutions = Vec::new();
        for name in LAYERS.into_iter().flatten() {
            let (weight, shape) = read(format!("{name}.weight"))?;
            let (bias, _) = read(format!("{name}.bias"))?;
            let &[outputs, inputs, 3, 3] = shape.as_slice() else {
                return Err(damaged(format!("{name}.weight has the shape {shape:?}")));
            };
            let scale = if name == "conv3_3" { FEATURE_SCALE.recip() } else { 1.0 };
            let mut last = Tensor::scratch([outputs, 3, 3, inputs]);
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
        Ok(Self { convolutions })
    }

    /// The same on a device; on a GPU, weights and features are stored as `data_type`. Biases stay f32.
    ///
    /// # Errors
    /// If the device is not there or out of memory.
    pub fn to_device(&self, device: Device, data_type: DataType) -> Result<Self> {
        let moved = |(weight, bias): &(Tensor, Tensor)| {
            Ok((cast(&weight.to_device(device)?, data_type)?, bias.to_device(device)?))
        };
        Ok(Self { convolutions: self.convolutions.iter().map(moved).collect::<Result<_>>()? })
    }

    /// relu3_3 / 58.395 of `pictures [B,H,W,3]` (f32) in [-1,1], H and W divisible by 4: `[B,H/4,W/4,256]`, of the
    /// weights' type.
    ///
    /// # Errors
    /// If the shape or type does not fit.
    pub fn features(&self, pictures: &Tensor) -> Result<Tensor> {
        let data_type = self.convolutions.first().map_or(DataType::F32, |(weight, _)| weight.data_type());
        let mut x = apply_one(CaffeInput { data_type }, &[pictures])?;
        let mut convolutions = self.convolutions.iter();
        for layer in LAYERS {
            x = match (layer, layer.and_then(|_| convolutions.next())) {
                (Some(_), Some((weight, bias))) => conv2d(
                    &x,
                    weight,
                    Some(bias),
                    ConvParams { stride: 1, padding: 1, activation: Activation::Relu },
                )?,
                _ => max_pool(&x, 2)?,
            };
        }
        Ok(x)
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

    fn check(&self, pictures: &Tensor) -> Result<()> {
        let [_, _, _, channels] = pictures.axes(self.name())?;
        if channels == 3 && pictures.data_type() == DataType::F32 {
            return Ok(());
        }
        let (shape, data_type) = (pictures.shape(), pictures.data_type());
        Err(Error::shape(
            self.name(),
            format!("needs pictures [B,H,W,3] of F32, got {shape} of {data_type:?}"),
        ))
    }

    fn reverse(x: &Tensor, offset: [f32; 3]) -> Tensor {
        let mut y = Tensor::scratch(x.shape());
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
