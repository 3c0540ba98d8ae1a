//! Every distinct convolution of the five networks and of VGG16 up to conv3_3, for 64x64 images.

/// A layer, by the convolution that it is or is the adjoint of.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    /// The network and level.
    pub name: &'static str,
    /// Whether the layer is the transposed convolution.
    pub transposed: bool,
    /// Height and width of the convolution's input (the larger image).
    pub size: usize,
    /// Channels of the convolution's input.
    pub in_c: usize,
    /// Channels of the convolution's output.
    pub out_c: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Padding.
    pub padding: usize,
}

const fn conv(name: &'static str, size: usize, channels: [usize; 2], ksp: [usize; 3]) -> Layer {
    let [in_c, out_c] = channels;
    let [kernel, stride, padding] = ksp;
    Layer { name, transposed: false, size, in_c, out_c, kernel, stride, padding }
}

/// `size` and `channels` of the output and input, as the layer has them: input channels first.
const fn deconv(name: &'static str, out_size: usize, channels: [usize; 2], ksp: [usize; 3]) -> Layer {
    let [out_c, in_c] = channels;
    let [kernel, stride, padding] = ksp;
    Layer { name, transposed: true, size: out_size, in_c, out_c, kernel, stride, padding }
}

/// The layers, in the order of the networks.
pub const LAYERS: &[Layer] = &[
    conv("depth conv 4/2", 64, [3, 64], [4, 2, 1]),
    conv("depth conv 4/2", 32, [64, 128], [4, 2, 1]),
    conv("depth conv 4/2", 16, [128, 256], [4, 2, 1]),
    conv("depth conv 4/2", 8, [256, 512], [4, 2, 1]),
    conv("depth conv 4/1", 4, [512, 256], [4, 1, 0]),
    deconv("depth deconv 4/1", 4, [256, 512], [4, 1, 0]),
    conv("depth conv 3", 4, [512, 512], [3, 1, 1]),
    deconv("depth deconv 4/2", 8, [512, 256], [4, 2, 1]),
    conv("depth conv 3", 8, [256, 256], [3, 1, 1]),
    deconv("depth deconv 4/2", 16, [256, 128], [4, 2, 1]),
    conv("depth conv 3", 16, [128, 128], [3, 1, 1]),
    deconv("depth deconv 4/2", 32, [128, 64], [4, 2, 1]),
    conv("depth conv 3", 32, [64, 64], [3, 1, 1]),
    conv("depth conv 3", 64, [64, 64], [3, 1, 1]),
    conv("depth conv 5", 64, [64, 64], [5, 1, 2]),
    conv("depth conv 5", 64, [64, 1], [5, 1, 2]),
    conv("albedo conv 5", 64, [64, 3], [5, 1, 2]),
    conv("light conv 4/2", 64, [3, 32], [4, 2, 1]),
    conv("light conv 4/2", 32, [32, 64], [4, 2, 1]),
    conv("light conv 4/2", 16, [64, 128], [4, 2, 1]),
    conv("light conv 4/2", 8, [128, 256], [4, 2, 1]),
    conv("light conv 4/1", 4, [256, 256], [4, 1, 0]),
    conv("light conv 1", 1, [256, 4], [1, 1, 0]),
    conv("view conv 1", 1, [256, 6], [1, 1, 0]),
    conv("confidence conv 4/1", 4, [512, 128], [4, 1, 0]),
    deconv("confidence deconv 4/1", 4, [128, 512], [4, 1, 0]),
    deconv("confidence deconv 4/2", 64, [64, 64], [4, 2, 1]),
    conv("confidence conv 5", 64, [64, 2], [5, 1, 2]),
    conv("confidence conv 3", 16, [128, 2], [3, 1, 1]),
    conv("vgg conv1_1", 64, [3, 64], [3, 1, 1]),
    conv("vgg conv2_1", 32, [64, 128], [3, 1, 1]),
    conv("vgg conv2_2", 32, [128, 128], [3, 1, 1]),
    conv("vgg conv3_1", 16, [128, 256], [3, 1, 1]),
    conv("vgg conv3_2", 16, [256, 256], [3, 1, 1]),
];
