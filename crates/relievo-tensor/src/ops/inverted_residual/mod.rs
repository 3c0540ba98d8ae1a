//! The inverted residual block of MobileNetV2, whole: one pixel's channels expanded, filtered one by one, and mixed.
//!
//! The expanded image has six times the channels of what goes in and out. Layer by layer it is written to memory and read
//! again twice; here a few of its channels at a time exist for three rows of a strip of columns, in the first-level cache
//! (`cpu.rs`).

mod cpu;
mod kernels;

use self::cpu::Packed;
use crate::ops::conv2d::Conv2dGeometry;
use crate::{Device, Error, Result, SimdLevel, Tensor};

const NAME: &str = "inverted residual";

/// The weights and biases of a block.
#[derive(Clone, Copy)]
pub struct InvertedResidualLayers<'a> {
    /// `[hidden,1,1,inputs]` and `[hidden]`; `[hidden,3,3,inputs]` for the convolution before a network's first block, with a
    /// stride of 2 and padding of 1.
    pub expand: [&'a Tensor; 2],
    /// `[3,3,hidden]` and `[hidden]`.
    pub depthwise: [&'a Tensor; 2],
    /// `[outputs,1,1,hidden]` and `[outputs]`.
    pub project: [&'a Tensor; 2],
}

/// A block with its weights packed for the instruction set of this machine.
///
/// A convolution of 1x1 (or that of 3x3 before the first block) with ReLU, a depthwise convolution of 3x3 with padding 1
/// and ReLU, a convolution of 1x1, and the input added to the result of a stride of 1 that has as many channels. Source:
/// Sandler et al. 2018, *MobileNetV2*, section 3.3, with ReLU in place of ReLU6. Without gradient and on the CPU: it is for
/// networks that learn no more, the face detector's.
pub struct InvertedResidual {
    packed: Packed,
    inputs: usize,
    hidden: usize,
    outputs: usize,
    stride: usize,
}

impl InvertedResidual {
    /// The block with these weights, for a depthwise stride of 1 or 2.
    ///
    /// # Errors
    /// If the shapes do not fit each other, the stride is another, or a tensor is not on the CPU.
    pub fn new(layers: InvertedResidualLayers<'_>, stride: usize) -> Result<Self> {
        Self::at(SimdLevel::best(), layers, stride)
    }

    fn at(level: SimdLevel, layers: InvertedResidualLayers<'_>, stride: usize) -> Result<Self> {
        let InvertedResidualLayers { expand, depthwise, project } = layers;
        let all = [expand, depthwise, project].into_iter().flatten();
        if all.clone().any(|tensor| tensor.device() != Device::Cpu) {
            return Err(Error::shape(NAME, "a tensor that is not on the CPU"));
        }
        let [rows, columns, hidden] = depthwise[0].dims(NAME)?;
        let inputs = expand[0].dims::<4>(NAME)?[3];
        let outputs = project[0].dims::<4>(NAME)?[0];
        let fits = [rows, columns] == [kernels::KERNEL; 2]
            && [1, kernels::KERNEL].iter().any(|k| *expand[0].shape() == [hidden, *k, *k, inputs])
            && *expand[1].shape() == [hidden]
            && *depthwise[1].shape() == [hidden]
            && *project[0].shape() == [outputs, 1, 1, hidden]
            && *project[1].shape() == [outputs];
        if !fits || !(1..=2).contains(&stride) || [inputs, hidden, outputs].contains(&0) {
            let shapes: Vec<String> = all.map(|tensor| tensor.shape().to_string()).collect();
            return Err(Error::shape(NAME, format!("{} with stride {stride} do not fit", shapes.join(", "))));
        }
        let packed = Packed::new(level, layers, [inputs, hidden, outputs]);
        Ok(Self { packed, inputs, hidden, outputs, stride })
    }

    /// The result `[B, ceil(H / stride), ceil(W / stride), outputs]` for `x [B,H,W,inputs]`; H and W count half if the block
    /// begins with a convolution of 3x3.
    ///
    /// # Errors
    /// If x has other channels, no pixels, or is not on the CPU.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if x.device() != Device::Cpu {
            return Err(Error::shape(NAME, "a tensor that is not on the CPU"));
        }
        let [batch, rows, columns, channels] = x.dims(NAME)?;
        if channels != self.inputs {
            let detail = format!("an image of shape {} for {} channels", x.shape(), self.inputs);
            return Err(Error::shape(NAME, detail));
        }
        let kernel = [self.hidden, kernels::KERNEL, kernels::KERNEL, self.hidden];
        let expanded = [rows, columns].map(|extent| extent.div_ceil(self.packed.expansion_stride()));
        let g = Conv2dGeometry::new([batch, expanded[0], expanded[1], self.hidden], kernel, self.stride, 1)?;
        let mut y = Tensor::empty([batch, g.out_h(), g.out_w(), self.outputs]);
        cpu::forward(&self.packed, &g, x.data(), [rows, columns], y.data_mut());
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Activation, ConvParams, conv2d, weighted_sum};
    use crate::testing::{assert_independent_of_threads, distance, random_tensor};

    struct Weights {
        expand: [Tensor; 2],
        depthwise: [Tensor; 2],
        project: [Tensor; 2],
    }

    impl Weights {
        fn random(kernel: usize, [inputs, hidden, outputs]: [usize; 3]) -> Self {
            Self {
                expand: [random_tensor(1, [hidden, kernel, kernel, inputs]), random_tensor(2, [hidden])],
                depthwise: [random_tensor(3, [3, 3, hidden]), random_tensor(4, [hidden])],
                project: [random_tensor(5, [outputs, 1, 1, hidden]), random_tensor(6, [outputs])],
            }
        }

        fn layers(&self) -> InvertedResidualLayers<'_> {
            InvertedResidualLayers {
                expand: self.expand.each_ref(),
                depthwise: self.depthwise.each_ref(),
                project: self.project.each_ref(),
            }
        }

        /// Layer by layer.
        fn forward(&self, x: &Tensor, stride: usize) -> Tensor {
            let params = |stride, padding, activation| ConvParams::new(stride, padding, activation);
            let [w, bias] = &self.expand;
            let (before, padding) = if w.shape()[1] == 1 { (1, 0) } else { (2, 1) };
            let expanded = conv2d(x, w, Some(bias), params(before, padding, Activation::Relu)).unwrap();
            let [w, bias] = &self.depthwise;
            let hidden = bias.numel();
            // The depthwise filter as one that sees all channels, with zeros between different ones.
            let mut all = Tensor::zeros([hidden, 3, 3, hidden]);
            for (at, value) in w.data().iter().enumerate() {
                let (tap, channel) = (at / hidden, at % hidden);
                all.data_mut()[(channel * 9 + tap) * hidden + channel] = *value;
            }
            let filtered = conv2d(&expanded, &all, Some(bias), params(stride, 1, Activation::Relu)).unwrap();
            let [w, bias] = &self.project;
            let y = conv2d(&filtered, w, Some(bias), params(1, 0, Activation::Identity)).unwrap();
            if x.shape() == y.shape() { weighted_sum(&[(1.0, x), (1.0, &y)]).unwrap() } else { y }
        }
    }

    /// Channels that fill vectors and that do not, one block of hidden channels and several; strips and bands of one pixel,
    /// of many, and cut off; odd and even extents.
    const CASES: [([usize; 3], [usize; 3], usize); 8] = [
        ([1, 1, 1], [3, 7, 2], 1),
        ([2, 5, 4], [8, 48, 8], 1),
        ([1, 9, 70], [16, 96, 24], 2),
        ([1, 50, 37], [24, 144, 24], 1),
        ([1, 6, 8], [32, 32, 16], 1),
        ([1, 8, 7], [5, 200, 40], 2),
        ([1, 3, 33], [96, 576, 160], 2),
        ([2, 2, 2], [11, 11, 11], 1),
    ];

    /// Blocks after a convolution of 3x3: single pixels, odd and even extents, several strips.
    const CONVOLVED: [([usize; 3], [usize; 3], usize); 6] = [
        ([1, 1, 1], [3, 7, 2], 1),
        ([1, 2, 3], [3, 32, 16], 1),
        ([2, 13, 12], [3, 32, 16], 1),
        ([1, 12, 13], [2, 60, 16], 2),
        ([1, 31, 150], [3, 32, 16], 1),
        ([1, 64, 96], [3, 32, 16], 1),
    ];

    #[test]
    fn is_what_its_layers_are_one_after_the_other() {
        let cases = CASES.map(|case| (1, case)).into_iter().chain(CONVOLVED.map(|case| (3, case)));
        for (kernel, ([batch, rows, columns], channels, stride)) in cases {
            let weights = Weights::random(kernel, channels);
            let x = random_tensor(7, [batch, rows, columns, channels[0]]);
            let right = weights.forward(&x, stride);
            let exact: Vec<f64> = right.data().iter().map(|y| f64::from(*y)).collect();
            for level in SimdLevel::available() {
                let block = InvertedResidual::at(level, weights.layers(), stride).unwrap();
                let y = block.forward(&x).unwrap();
                assert_eq!(y.shape(), right.shape());
                let off = distance(y.data(), &exact);
                assert!(off < 2e-6, "{level:?}, {} {channels:?} {stride}: off by {off}", x.shape());
                assert_independent_of_threads(|| vec![block.forward(&x).unwrap()]);
            }
        }
    }

    #[test]
    fn numbers_that_are_none_are_not_lost() {
        let weights = Weights::random(1, [8, 48, 8]);
        let mut x = random_tensor(7, [1, 8, 8, 8]);
        x.data_mut()[(3 * 8 + 4) * 8] = f32::NAN;
        for level in SimdLevel::available() {
            let y = InvertedResidual::at(level, weights.layers(), 1).unwrap().forward(&x).unwrap();
            let broken = |row: usize, column: usize| y.data()[(row * 8 + column) * 8].is_nan();
            assert!(broken(2, 3) && broken(3, 4) && broken(4, 5) && !broken(1, 4) && !broken(3, 6));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let weights = Weights::random(1, [3, 7, 2]);
        let message = |layers, stride| InvertedResidual::new(layers, stride).err().unwrap().to_string();
        let layers = weights.layers();
        assert!(message(layers, 3).contains("with stride 3 do not fit"));
        let expand = [layers.project[0], layers.expand[1]];
        assert!(message(InvertedResidualLayers { expand, ..layers }, 1).contains("do not fit"));
        let depthwise = [layers.depthwise[0], layers.project[1]];
        assert!(message(InvertedResidualLayers { depthwise, ..layers }, 1).contains("do not fit"));
        let block = InvertedResidual::new(layers, 1).unwrap();
        assert!(block.forward(&Tensor::zeros([1, 4, 4, 4])).is_err());
        assert!(block.forward(&Tensor::zeros([1, 0, 4, 3])).is_err());
    }
}
