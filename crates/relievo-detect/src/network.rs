//! CenterFace: MobileNetV2 (Sandler et al. 2018, table 2, without its last layer) whose features at strides 32, 16, 8
//! and 4 are added up from coarse to fine, and at stride 4 one layer that says for every place whether a face has its
//! middle there, how large it is, and where its landmarks are. Batch normalisation is folded into the convolutions.

use relievo_tensor::ops::{
    Activation, ConvParams, InvertedResidual, InvertedResidualLayers, conv_transpose2d, conv2d, weighted_sum,
};
use relievo_tensor::safetensors::{ReadError, SafetensorsFile};
use relievo_tensor::{Result, Tensor};

/// Pixels between places of the output.
pub(crate) const STRIDE: usize = 4;

/// What height and width of the input must be multiples of: the stride of the coarsest features.
pub(crate) const MULTIPLE: usize = 32;

/// Numbers at each place of the output: heat before the sigmoid; ln of height and width / 4; offset of the middle (y,
/// x); five landmarks (y, x) as fractions of the box.
pub(crate) const OUTPUTS: usize = 15;

/// Channels of the features that are added up.
const FEATURES: usize = 24;

/// The inverted residual blocks: channels in, channels out, expansion, stride.
const BLOCKS: [[usize; 4]; 17] = [
    [32, 16, 1, 1],
    [16, 24, 6, 2],
    [24, 24, 6, 1],
    [24, 32, 6, 2],
    [32, 32, 6, 1],
    [32, 32, 6, 1],
    [32, 64, 6, 2],
    [64, 64, 6, 1],
    [64, 64, 6, 1],
    [64, 64, 6, 1],
    [64, 96, 6, 1],
    [96, 96, 6, 1],
    [96, 96, 6, 1],
    [96, 160, 6, 2],
    [160, 160, 6, 1],
    [160, 160, 6, 1],
    [160, 320, 6, 1],
];

/// The blocks whose outputs are added to coarser features: at strides 16, 8 and 4.
const LATERALS: [usize; 3] = [12, 5, 2];

/// Weight and bias.
struct Layer {
    weight: Tensor,
    bias: Tensor,
}

impl Layer {
    fn read<const N: usize>(
        file: &SafetensorsFile<'_>,
        name: &str,
        shape: [usize; N],
        outputs: usize,
    ) -> std::result::Result<Self, ReadError> {
        Ok(Self {
            weight: file.tensor(&format!("{name}.weight"), shape)?,
            bias: file.tensor(&format!("{name}.bias"), [outputs])?,
        })
    }

    fn both(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }

    fn convolve(&self, x: &Tensor, stride: usize, padding: usize, activation: Activation) -> Result<Tensor> {
        conv2d(x, &self.weight, Some(&self.bias), ConvParams::new(stride, padding, activation))
    }
}

/// Block `number`, with its weights in the order in which they are read. The first one, which does not expand, takes the
/// stem in: the stem's result, the largest of all, is never written.
fn block(
    file: &SafetensorsFile<'_>,
    number: usize,
    [inputs, outputs, expansion, stride]: [usize; 4],
) -> std::result::Result<InvertedResidual, ReadError> {
    let hidden = inputs * expansion;
    let name = |part: &str| format!("block.{number}.{part}");
    let expand = if number == 0 {
        Layer::read(file, "stem", [hidden, 3, 3, 3], hidden)?
    } else {
        Layer::read(file, &name("expand"), [hidden, 1, 1, inputs], hidden)?
    };
    let depthwise = Layer::read(file, &name("depthwise"), [3, 3, hidden], hidden)?;
    let project = Layer::read(file, &name("project"), [outputs, 1, 1, hidden], outputs)?;
    let layers = InvertedResidualLayers {
        expand: expand.both(),
        depthwise: depthwise.both(),
        project: project.both(),
    };
    Ok(InvertedResidual::new(layers, stride).expect("the shapes were checked when the layers were read"))
}

fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    weighted_sum(&[(1.0, a), (1.0, b)])
}

/// The network with its weights.
pub(crate) struct CenterFace {
    blocks: Vec<InvertedResidual>,
    top: Layer,
    /// For each of [`LATERALS`]: what doubles the coarser features, and what makes the block's output fit them.
    ups: Vec<[Layer; 2]>,
    neck: Layer,
    heads: Layer,
}

impl CenterFace {
    /// From a file as `assets/convert.py` writes it.
    ///
    /// # Errors
    /// What does not fit, without the file's name.
    pub fn from_safetensors(bytes: &[u8]) -> std::result::Result<Self, ReadError> {
        let file = &SafetensorsFile::open(bytes)?;
        let last = BLOCKS[BLOCKS.len() - 1][1];
        let up = |(level, block): (usize, usize)| {
            Ok([
                Layer::read(file, &format!("up.{level}"), [FEATURES, 2, 2, FEATURES], FEATURES)?,
                Layer::read(file, &format!("lateral.{level}"), [FEATURES, 1, 1, BLOCKS[block][1]], FEATURES)?,
            ])
        };
        Ok(Self {
            blocks: (BLOCKS.iter().enumerate())
                .map(|(number, extents)| block(file, number, *extents))
                .collect::<std::result::Result<_, ReadError>>()?,
            top: Layer::read(file, "top", [FEATURES, 1, 1, last], FEATURES)?,
            ups: LATERALS.into_iter().enumerate().map(up).collect::<std::result::Result<_, ReadError>>()?,
            neck: Layer::read(file, "neck", [FEATURES, 3, 3, FEATURES], FEATURES)?,
            heads: Layer::read(file, "heads", [OUTPUTS, 1, 1, FEATURES], OUTPUTS)?,
        })
    }

    /// The output `[B, H/4, W/4, 15]` for images `[B,H,W,3]`, RGB in 0..255, H and W multiples of 32.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = images.clone();
        let mut kept = Vec::with_capacity(LATERALS.len());
        for (number, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x)?;
            if LATERALS.contains(&number) {
                kept.push(x.clone());
            }
        }
        x = self.top.convolve(&x, 1, 0, Activation::Relu)?;
        let doubling = ConvParams::new(2, 0, Activation::Relu);
        for ([up, lateral], finer) in self.ups.iter().zip(kept.iter().rev()) {
            let coarser = conv_transpose2d(&x, &up.weight, Some(&up.bias), doubling)?;
            x = add(&coarser, &lateral.convolve(finer, 1, 0, Activation::Relu)?)?;
        }
        let x = self.neck.convolve(&x, 1, 1, Activation::Relu)?;
        self.heads.convolve(&x, 1, 0, Activation::Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEIGHT: usize = 64;
    const WIDTH: usize = 96;

    fn image() -> Tensor {
        let value = |at: usize| {
            let (c, u, v) = ((at % 3) as f64, (at / 3 % WIDTH) as f64, (at / 3 / WIDTH) as f64);
            let wave = (0.11 * u + 0.07 * v + 2.1 * c).sin() * (0.05 * u * (c + 1.0) - 0.03 * v).cos();
            (127.5 + 127.5 * wave) as f32
        };
        let values: Vec<f32> = (0..HEIGHT * WIDTH * 3).map(value).collect();
        Tensor::new(&values, [1, HEIGHT, WIDTH, 3]).unwrap()
    }

    /// What `assets/reference.py` prints for the image: the network as an ONNX graph of its own over the
    /// same weights, run by onnxruntime 1.32.0 in f32.
    const PLACES: [(usize, usize, [f32; OUTPUTS]); 3] = [
        (
            0,
            0,
            [
                -6.56648, 1.91344, 1.76237, 0.05391, -0.00015, 0.43243, 0.28925, 0.45177, 0.67122, 0.52381,
                0.40600, 0.66627, 0.19812, 0.67710, 0.53121,
            ],
        ),
        (
            7,
            11,
            [
                -5.50573, 2.13760, 2.00925, 0.00935, -0.04708, 0.39323, 0.26547, 0.37747, 0.65515, 0.58764,
                0.42581, 0.77217, 0.34732, 0.76041, 0.62104,
            ],
        ),
        (
            15,
            23,
            [
                -6.37513, 2.21038, 1.89455, -0.07917, -0.08202, 0.49082, 0.38438, 0.56643, 0.75448, 0.84423,
                0.50979, 0.83273, 0.34333, 0.89663, 0.60893,
            ],
        ),
    ];

    /// The mean size of each output over all places.
    const MEANS: [f32; OUTPUTS] = [
        5.55290, 1.95170, 1.77273, 0.04715, 0.04421, 0.37390, 0.33553, 0.37741, 0.73988, 0.57214, 0.52351,
        0.75418, 0.35752, 0.75845, 0.64814,
    ];

    #[test]
    fn agrees_with_another_implementation() {
        let weights = include_bytes!("../assets/centerface-f16.safetensors");
        let output = CenterFace::from_safetensors(weights).unwrap().forward(&image()).unwrap();
        let (rows, columns) = (HEIGHT / STRIDE, WIDTH / STRIDE);
        assert_eq!(*output.shape(), [1, rows, columns, OUTPUTS]);
        let (places, _) = output.data().as_chunks::<OUTPUTS>();
        for (row, column, right) in PLACES {
            for (got, right) in places[row * columns + column].iter().zip(right) {
                assert!((got - right).abs() < 1e-4, "at {row}, {column}: {got}, not {right}");
            }
        }
        for (number, right) in MEANS.into_iter().enumerate() {
            let mean = places.iter().map(|place| place[number].abs()).sum::<f32>() / places.len() as f32;
            assert!((mean - right).abs() < 1e-4, "output {number}: {mean}, not {right}");
        }
    }

    #[test]
    fn damaged_weights_are_told_from_good_ones() {
        let weights = include_bytes!("../assets/centerface-f16.safetensors");
        let message = |bytes: &[u8]| CenterFace::from_safetensors(bytes).err().unwrap().to_string();
        assert!(!message(&weights[..weights.len() / 2]).is_empty());
        let mut other = weights.to_vec();
        let name = b"block.3.expand.weight";
        let at = other.windows(name.len()).position(|bytes| bytes == name).unwrap();
        other[at + 6] = b'x';
        assert!(message(&other).contains("block.3.expand.weight"), "{}", message(&other));
    }
}
