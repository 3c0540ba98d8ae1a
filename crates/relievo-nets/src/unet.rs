//! A U-Net (Ronneberger et al. 2015) that is told numbers by modulation (FiLM, Perez et al. 2018) at every level.

use relievo_tensor::ops::Activation::{Identity, LeakyRelu};
use relievo_tensor::ops::{
    Activation, ConcatAxis, ConvParams, concat, conv2d, group_norm, modulate, reshape, upsample_conv2d,
};
use relievo_tensor::{ConvPolicy, Error, Result, Tensor};

use crate::architectures::GROUP_CHANNELS;
use crate::layers::{Initialisation, NORM_EPSILON, ParameterInfo};

/// Channels at each level, in widths: the first has the image's size, each further one half of the size before.
const CHANNELS: [usize; 5] = [1, 2, 4, 6, 8];
/// Hidden units of the network that reads the condition, in widths.
const HIDDEN: usize = 4;

/// From images and a few numbers (the condition) to images.
///
/// At each of four levels two convolutions on the way down and two on the way up, each followed by group normalisation,
/// modulation by the condition and a leaky ReLU; the features of a level on the way down are joined to those on the way up.
/// Two fully connected layers read the condition, a further one for each convolution gives its scales and shifts. With 4
/// channels of images, 11 numbers, heads of 3 and 1 channels and a width of 16: 1.21 million parameters; 184 million
/// multiplications for an image of 64x64.
#[derive(Debug, Clone, PartialEq)]
pub struct UNet {
    name: String,
    inputs: usize,
    condition: usize,
    width: usize,
    heads: Vec<(usize, Activation)>,
}

/// What a block does to height and width.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Keep,
    Halve,
    Double,
}

/// A convolution with what follows it.
#[derive(Debug, Clone, Copy)]
struct Block {
    step: Step,
    inputs: usize,
    outputs: usize,
    /// The level of its output.
    level: usize,
    /// Whether the features of this level on the way down are joined to its output.
    joined: bool,
}

impl Block {
    fn kernel(self) -> usize {
        if self.step == Step::Halve { 4 } else { 3 }
    }
}

impl UNet {
    /// A network from images of `inputs` channels and `condition` numbers to an image for each head, with its channels
    /// and its activation. `width` is the number of channels at the finest level, a multiple of 4. `name` is the first
    /// part of the parameters' names.
    pub fn new(
        name: impl Into<String>,
        inputs: usize,
        condition: usize,
        width: usize,
        heads: Vec<(usize, Activation)>,
    ) -> Self {
        Self { name: name.into(), inputs, condition, width, heads }
    }

    /// The blocks in the order in which they are computed.
    fn blocks(&self) -> Vec<Block> {
        let channels = CHANNELS.map(|widths| widths * self.width);
        let block = |step, inputs, outputs, level, joined| Block { step, inputs, outputs, level, joined };
        let mut blocks = vec![block(Step::Keep, self.inputs, channels[0], 0, false)];
        for level in 1..CHANNELS.len() {
            blocks.push(block(Step::Halve, channels[level - 1], channels[level], level, false));
            blocks.push(block(Step::Keep, channels[level], channels[level], level, false));
        }
        for level in (0..CHANNELS.len() - 1).rev() {
            blocks.push(block(Step::Double, channels[level + 1], channels[level], level, true));
            blocks.push(block(Step::Keep, 2 * channels[level], channels[level], level, false));
        }
        blocks
    }

    /// Its parameters in the order [`UNet::forward`] takes them.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        let mut all = Vec::new();
        let mut push = |name: String, shape: &[usize], initialisation| {
            let name = format!("{}.{name}", self.name);
            let shape = match *shape {
                [channels] => [channels].into(),
                [outputs, height, width, inputs] => [outputs, height, width, inputs].into(),
                _ => unreachable!("convolutions have four axes, all else has one"),
            };
            all.push(ParameterInfo { name, shape, initialisation, transposed: false });
        };
        let hidden = HIDDEN * self.width;
        let zero = Initialisation::Constant(0.0);
        for (layer, inputs) in [self.condition, hidden].into_iter().enumerate() {
            let uniform = Initialisation::Uniform { fan_in: inputs };
            push(format!("condition.{layer}.weight"), &[hidden, 1, 1, inputs], uniform);
            push(format!("condition.{layer}.bias"), &[hidden], zero);
        }
        for (number, block) in self.blocks().into_iter().enumerate() {
            let (kernel, outputs) = (block.kernel(), block.outputs);
            let uniform = Initialisation::Uniform { fan_in: kernel * kernel * block.inputs };
            push(format!("{number}.weight"), &[outputs, kernel, kernel, block.inputs], uniform);
            push(format!("{number}.norm.weight"), &[outputs], Initialisation::Constant(1.0));
            push(format!("{number}.norm.bias"), &[outputs], zero);
            let uniform = Initialisation::Uniform { fan_in: hidden };
            push(format!("{number}.modulation.weight"), &[2 * outputs, 1, 1, hidden], uniform);
            push(format!("{number}.modulation.bias"), &[2 * outputs], zero);
        }
        for (number, (outputs, _)) in self.heads.iter().enumerate() {
            let uniform = Initialisation::Uniform { fan_in: 9 * self.width };
            push(format!("head.{number}.weight"), &[*outputs, 3, 3, self.width], uniform);
            push(format!("head.{number}.bias"), &[*outputs], zero);
        }
        all
    }

    /// Multiplications of the convolutions for an image of `size` x `size` pixels, a multiple of 16, by their definition:
    /// without the savings of Winograd's algorithm and of upsampling and convolving in one.
    pub fn multiplications(&self, size: usize) -> u64 {
        let of = |level: usize, kernel: usize, inputs: usize, outputs: usize| {
            let side = size >> level;
            (side * side * kernel * kernel * inputs * outputs) as u64
        };
        let blocks = self.blocks();
        let of_blocks =
            blocks.iter().map(|block| of(block.level, block.kernel(), block.inputs, block.outputs));
        of_blocks.chain(self.heads.iter().map(|(outputs, _)| of(0, 3, self.width, *outputs))).sum()
    }

    /// The heads' images `[B,S,S,outputs]` for `x [B,S,S,inputs]`, S a multiple of 16, and `condition [B,numbers]`, in f32.
    /// `policy` says how exactly a GPU computes the convolutions.
    ///
    /// # Errors
    /// If there are too few or too many parameters, or shapes do not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        condition: &Tensor,
        parameters: &[Tensor],
        policy: ConvPolicy,
    ) -> Result<Vec<Tensor>> {
        let [batch, height, width, _] = x.dims("U-Net")?;
        let smallest = 1 << (CHANNELS.len() - 1);
        if height % smallest != 0 || width % smallest != 0 {
            let detail = format!("height and width must be multiples of {smallest}, got {}", x.shape());
            return Err(Error::shape("U-Net", detail));
        }
        let expected = self.parameters().len();
        if parameters.len() != expected {
            let detail =
                format!("{} has {expected} parameters and was given {}", self.name, parameters.len());
            return Err(Error::shape("U-Net", detail));
        }
        let mut parameters = parameters.iter();
        let mut next = || parameters.next().expect("counted above");
        let params = |activation| ConvParams { policy, ..ConvParams::new(1, 0, activation) };

        let mut hidden = reshape(condition, [batch, 1, 1, self.condition])?;
        for _ in 0..2 {
            hidden = conv2d(&hidden, next(), Some(next()), params(LeakyRelu))?;
        }
        let mut x = x.clone();
        let mut levels: Vec<Tensor> = Vec::new();
        let blocks = self.blocks();
        let down = 1 + 2 * (CHANNELS.len() - 1);
        for (number, block) in blocks.into_iter().enumerate() {
            let weight = next();
            let same = ConvParams { padding: 1, ..params(Identity) };
            let y = match block.step {
                Step::Keep => conv2d(&x, weight, None, same)?,
                Step::Halve => conv2d(&x, weight, None, ConvParams { stride: 2, ..same })?,
                Step::Double => upsample_conv2d(&x, weight, same)?,
            };
            let groups = block.outputs / GROUP_CHANNELS;
            let y = group_norm(&y, next(), next(), groups, NORM_EPSILON, Identity)?;
            let modulation = conv2d(&hidden, next(), Some(next()), params(Identity))?;
            let modulation = reshape(&modulation, [batch, 2 * block.outputs])?;
            x = modulate(&y, &modulation, LeakyRelu)?;
            if number < down && block.step == Step::Keep && block.level + 1 < CHANNELS.len() {
                levels.push(x.clone());
            }
            if block.joined {
                let level = levels.pop().expect("each level was visited on the way down");
                x = concat(&x, &level, ConcatAxis::Channels)?;
            }
        }
        let head = |&(_, activation): &(usize, Activation)| {
            conv2d(&x, next(), Some(next()), ConvParams { padding: 1, ..params(activation) })
        };
        self.heads.iter().map(head).collect()
    }
}

#[cfg(test)]
mod tests {
    use relievo_tensor::Tape;
    use relievo_tensor::testing::{Tolerance, assert_gradients, random_tensor};

    use super::*;

    fn network(width: usize) -> UNet {
        UNet::new("renderer", 4, 11, width, vec![(3, Identity), (1, Activation::Tanh)])
    }

    fn parameters(network: &UNet) -> Vec<Tensor> {
        network.parameters().iter().map(|info| info.initialise(3)).collect()
    }

    #[test]
    fn sizes_are_those_that_are_documented() {
        let network = network(16);
        let count: usize = network.parameters().iter().map(|info| info.shape.numel()).sum();
        assert_eq!((count, network.multiplications(64)), (1_211_524, 183_697_408));
    }

    #[test]
    fn heads_have_the_size_of_the_image_and_depend_on_everything() {
        let network = network(4);
        let parameters = parameters(&network);
        let (x, condition) = (random_tensor(1, [2, 32, 48, 4]), random_tensor(2, [2, 11]));
        let tape = Tape::new();
        let watched: Vec<Tensor> =
            [&x, &condition].into_iter().chain(&parameters).map(|t| tape.watch(t)).collect();
        let heads = network.forward(&watched[0], &watched[1], &watched[2..], ConvPolicy::default()).unwrap();
        assert_eq!(heads[0].shape(), [2, 32, 48, 3].into());
        assert_eq!(heads[1].shape(), [2, 32, 48, 1].into());
        let seeds =
            [(&heads[0], random_tensor(4, [2, 32, 48, 3])), (&heads[1], random_tensor(5, [2, 32, 48, 1]))];
        let gradients = tape.backward_from(&seeds).unwrap();
        for (number, variable) in watched.iter().enumerate() {
            let gradient = gradients.get(variable).unwrap_or_else(|| panic!("no gradient of input {number}"));
            assert!(gradient.data().iter().any(|g| *g != 0.0), "input {number} has no influence");
        }
    }

    #[test]
    fn gradients_agree_with_differences() {
        let network = network(4);
        let parameters = parameters(&network);
        let inputs = [random_tensor(1, [1, 16, 16, 4]), random_tensor(2, [1, 11])];
        // Kinks of the ReLUs lie everywhere; small steps rarely cross them.
        let tolerance = Tolerance { norm: 3e-2, element: 3e-2 };
        assert_gradients(&inputs, 1.0 / 1024.0, tolerance, |x| {
            Ok(network.forward(&x[0], &x[1], &parameters, ConvPolicy::default())?.swap_remove(0))
        });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let network = network(4);
        let parameters = parameters(&network);
        let run = |side: usize, parameters: &[Tensor]| {
            let (x, condition) = (Tensor::zeros([1, side, side, 4]), Tensor::zeros([1, 11]));
            network.forward(&x, &condition, parameters, ConvPolicy::default()).unwrap_err().to_string()
        };
        assert_eq!(
            run(24, &parameters),
            "U-Net: height and width must be multiples of 16, got [1, 24, 24, 4]"
        );
        let few = run(16, &parameters[1..]);
        assert_eq!(
            few,
            format!(
                "U-Net: renderer has {} parameters and was given {}",
                parameters.len(),
                parameters.len() - 1
            )
        );
    }
}
