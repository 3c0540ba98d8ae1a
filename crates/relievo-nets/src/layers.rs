//! A network as a list of layers, its parameters and their initialisation.

use relievo_tensor::ops::{
    Activation, ConvParams, cast, conv_transpose2d, conv2d, group_norm, upsample_conv2d,
};
use relievo_tensor::{ConvPolicy, DataType, Error, Random, Result, Shape, Tensor};

/// Added to the variance in group normalisation, as in PyTorch.
pub(crate) const NORM_EPSILON: f32 = 1e-5;

/// One layer: a convolution with its normalisation and activation, or an upsampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layer {
    /// A convolution without bias, an optional group normalisation, and the activation.
    Convolution {
        /// Whether it is a transposed convolution.
        transposed: bool,
        /// Input channels.
        inputs: usize,
        /// Output channels.
        outputs: usize,
        /// Height and width of the kernel.
        kernel: usize,
        /// Pixels from one position to the next.
        stride: usize,
        /// Zeros around the input (rows cut off the output when transposed).
        padding: usize,
        /// Groups of the group normalisation, if there is one.
        norm_groups: Option<usize>,
        /// Applied last.
        activation: Activation,
    },
    /// Nearest upsampling by two. A 3x3 convolution that keeps the size must follow: the two are computed together.
    UpsampleNearest,
}

impl Layer {
    /// A convolution with kernel/stride/padding, no normalisation and no activation.
    pub fn conv(inputs: usize, outputs: usize, [kernel, stride, padding]: [usize; 3]) -> Self {
        let (transposed, norm_groups, activation) = (false, None, Activation::Identity);
        Self::Convolution { transposed, inputs, outputs, kernel, stride, padding, norm_groups, activation }
    }

    /// A transposed convolution with kernel/stride/padding, no normalisation and no activation.
    pub fn deconv(inputs: usize, outputs: usize, geometry: [usize; 3]) -> Self {
        let mut layer = Self::conv(inputs, outputs, geometry);
        if let Self::Convolution { transposed, .. } = &mut layer {
            *transposed = true;
        }
        layer
    }

    /// The convolution followed by group normalisation.
    pub fn norm(mut self, groups: usize) -> Self {
        if let Self::Convolution { norm_groups, .. } = &mut self {
            *norm_groups = Some(groups);
        }
        self
    }

    /// The convolution followed by an activation.
    pub fn then(mut self, then: Activation) -> Self {
        if let Self::Convolution { activation, .. } = &mut self {
            *activation = then;
        }
        self
    }
}

/// The distribution of a parameter before training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initialisation {
    /// Uniform in +-1 / sqrt(fan_in).
    Uniform {
        /// The inputs that each output depends on, as PyTorch counts them: `in*k*k`, and `out*k*k` when transposed.
        fan_in: usize,
    },
    /// Every element the same.
    Constant(f32),
}

/// A parameter's name, shape and initialisation.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterInfo {
    /// `NETWORK.LAYER.weight`, `NETWORK.LAYER.norm.weight` or `NETWORK.LAYER.norm.bias`, layers counted from 0.
    pub name: String,
    /// `[out,k,k,in]` for convolutions, `[in,k,k,out]` for transposed ones, `[channels]` for normalisations.
    pub shape: Shape,
    /// Its values before training.
    pub initialisation: Initialisation,
    /// Whether it belongs to a transposed convolution.
    pub transposed: bool,
}

impl ParameterInfo {
    /// The initial parameter: a function of the seed and the parameter's name alone.
    pub fn initialise(&self, seed: u64) -> Tensor {
        let mut tensor = Tensor::empty(self.shape);
        match self.initialisation {
            Initialisation::Constant(value) => tensor.data_mut().fill(value),
            Initialisation::Uniform { fan_in } => {
                let random = Random::named(seed, &self.name);
                let bound = (fan_in as f32).sqrt().recip();
                for (index, element) in tensor.data_mut().iter_mut().enumerate() {
                    *element = (2.0 * random.uniform(index as u64) - 1.0) * bound;
                }
            }
        }
        tensor
    }
}

/// A sequence of layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    name: String,
    layers: Vec<Layer>,
}

impl Network {
    /// A network of these layers. `name` is the first part of its parameters' names.
    pub fn new(name: impl Into<String>, layers: Vec<Layer>) -> Self {
        Self { name: name.into(), layers }
    }

    /// Its parameters in the order [`Network::forward`] takes them.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        let mut all = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let &Layer::Convolution { transposed, inputs, outputs, kernel, norm_groups, .. } = layer else {
                continue;
            };
            let (shape, fan_in) = if transposed {
                ([inputs, kernel, kernel, outputs], outputs * kernel * kernel)
            } else {
                ([outputs, kernel, kernel, inputs], inputs * kernel * kernel)
            };
            let mut push = |suffix: &str, shape: Shape, initialisation| {
                let name = format!("{}.{index}.{suffix}", self.name);
                all.push(ParameterInfo { name, shape, initialisation, transposed });
            };
            push("weight", shape.into(), Initialisation::Uniform { fan_in });
            if norm_groups.is_some() {
                push("norm.weight", [outputs].into(), Initialisation::Constant(1.0));
                push("norm.bias", [outputs].into(), Initialisation::Constant(0.0));
            }
        }
        all
    }

    /// Runs the layers on `x [B,H,W,C]` with `parameters` in the order of [`Network::parameters`]. The output is f32; its
    /// height, width and channels follow from the layers. Activations have the type of the weights, bf16 or f32; after a
    /// convolution with f32 weights they are f32. Parameters of normalisations are f32. `policy` says how exactly a GPU
    /// computes the convolutions.
    ///
    /// # Errors
    /// If there are too few or too many parameters, or shapes or types do not fit.
    pub fn forward(&self, x: &Tensor, parameters: &[Tensor], policy: ConvPolicy) -> Result<Tensor> {
        cast(&self.run(x, parameters, policy)?, DataType::F32)
    }

    /// [`Network::forward`] with an output of the last convolution's type.
    pub(crate) fn run(&self, x: &Tensor, parameters: &[Tensor], policy: ConvPolicy) -> Result<Tensor> {
        let mut x = x.clone();
        let mut parameters = parameters.iter();
        let mut next = || {
            let missing = || Error::shape("network", format!("{} was given too few parameters", self.name));
            parameters.next().ok_or_else(missing)
        };
        let mut upsample = false;
        for layer in &self.layers {
            match *layer {
                Layer::UpsampleNearest => upsample = true,
                Layer::Convolution { transposed, stride, padding, norm_groups, activation, .. } => {
                    let weight = next()?;
                    if x.data_type() == DataType::F32 {
                        x = cast(&x, weight.data_type())?;
                    }
                    // With a normalisation between, the activation belongs to the normalisation.
                    let own = if norm_groups.is_some() { Activation::Identity } else { activation };
                    let params = ConvParams { stride, padding, activation: own, policy };
                    let y = match (std::mem::take(&mut upsample), transposed) {
                        (true, false) => upsample_conv2d(&x, weight, params)?,
                        (false, true) => conv_transpose2d(&x, weight, None, params)?,
                        (false, false) => conv2d(&x, weight, None, params)?,
                        (true, true) => return Err(self.upsample_without_convolution()),
                    };
                    x = match norm_groups {
                        Some(groups) => group_norm(&y, next()?, next()?, groups, NORM_EPSILON, activation)?,
                        None => y,
                    };
                }
            }
        }
        if upsample {
            return Err(self.upsample_without_convolution());
        }
        if parameters.next().is_some() {
            return Err(Error::shape("network", format!("{} was given too many parameters", self.name)));
        }
        Ok(x)
    }

    fn upsample_without_convolution(&self) -> Error {
        Error::shape("network", format!("{}: an upsampling must be followed by a 3x3 convolution", self.name))
    }
}
