//! Checks of what only a GPU's runtime has: the lowerings of convolutions, and kernels that compile.

use relievo_cuda::{Lowering, compile_check};
use relievo_require::{Requirement, skip};

use super::{distance, random_tensor};
use crate::cuda::{DevicePointer, Gpu, Kernels, Memory, Product, Relu};
use crate::ops::conv2d::extents;
use crate::ops::{Activation, Conv2dGeometry, cast};
use crate::{ConvPolicy, DataType, Device, Result, Tensor};

/// A product of a convolution on a GPU, of random numbers that are rounded to a type.
struct Case {
    gpu: &'static Gpu,
    geometry: Conv2dGeometry,
    product: Product,
    /// The operand that the product computes: of x, w and y.
    written: usize,
    rounded_to: DataType,
}

impl Case {
    /// A random tensor on the GPU, rounded, in a type.
    fn random<const N: usize>(&self, seed: u64, shape: [usize; N], data_type: DataType) -> Result<Tensor> {
        let values = random_tensor(seed, shape).to_device(Device::Cuda(self.gpu.ordinal()))?;
        cast(&cast(&values, self.rounded_to)?, data_type)
    }

    /// The result of a lowering, for the forward product with a bias and ReLU after it if asked for; `None` if the
    /// lowering does not apply.
    fn compute(
        &self,
        lowering: Lowering,
        relu: bool,
        data_type: DataType,
        tf32: bool,
    ) -> Result<Option<Vec<f32>>> {
        let geometry = &self.geometry;
        let [x, w, y] = [geometry.x_shape(), geometry.w_shape(), geometry.y_shape()];
        let mut operands =
            [self.random(0, x, data_type)?, self.random(1, w, data_type)?, self.random(2, y, data_type)?];
        let shape = operands[self.written].shape();
        let nothing = Tensor::full_on(operands[0].device(), shape, f32::NAN)?;
        operands[self.written] = cast(&nothing, data_type)?;
        let places: [Memory; 3] = operands.each_ref().map(|x| x.memory().expect("on the GPU").clone());
        let bias = self.random(3, [geometry.out_c()], data_type)?;
        let pass = || {
            let channels = [geometry.out_c(), geometry.y_elements()];
            Activation::Relu.replace_in(data_type, &places[2], bias.memory(), channels)
        };
        let relu = relu.then(|| Relu { bias: bias.memory(), pass: &pass });
        let policy = ConvPolicy { tf32, deterministic: false };
        let extents = extents(geometry);
        let (product, relu) = (self.product, relu.as_ref());
        let computed =
            self.gpu.convolve_lowered(lowering, product, &extents, data_type, policy, &places, relu)?;
        let result = operands[self.written].to_device(Device::Cpu)?;
        Ok(computed.then(|| result.data().to_vec()))
    }

    /// Asserts that every lowering that applies gives what the plain one gives. Returns how many applied.
    fn assert_lowerings_agree(&self, tf32: bool, tolerance: f64) -> Result<usize> {
        let mut compared = 0;
        for (lowering, relu) in [
            (Lowering::Flat, false),
            (Lowering::Padded, false),
            (Lowering::Fused, true),
            // A pass after other extents.
            (Lowering::Padded, true),
        ] {
            if relu && self.product != Product::Forward {
                continue;
            }
            let Some(found) = self.compute(lowering, relu, self.rounded_to, tf32)? else { continue };
            // In f32, of the rounded numbers: cuDNN need not have a plain lowering of all of these in all types.
            let right = self
                .compute(Lowering::Plain, relu, DataType::F32, false)?
                .expect("every product has the plain lowering in f32");
            let right: Vec<f64> = right.into_iter().map(f64::from).collect();
            let off = distance(&found, &right);
            // Written so that NaN fails.
            assert!(
                off <= tolerance,
                "{:?} of {:?}, {lowering:?}, in {:?}: off by {off}",
                self.product,
                self.geometry,
                self.rounded_to
            );
            compared += 1;
        }
        Ok(compared)
    }
}

/// Computes the three products of convolutions on GPU `ordinal` in every lowering that applies, and asserts that the
/// results are those of the plain lowering. Returns how many of 15 convolutions took a ReLU with them.
pub fn assert_lowerings_agree(ordinal: usize) -> usize {
    let check = || -> Result<usize> {
        let gpu = Gpu::get(ordinal)?;
        let mut compared = 0;
        for (rounded_to, tf32, tolerance) in
            [(DataType::F32, false, 1e-5), (DataType::F32, true, 2e-3), (DataType::Bf16, false, 5e-3)]
        {
            // A kernel that covers all; few channels in, out, in both; single pixels.
            for (x, w, stride, padding) in [
                ([2, 4, 4, 6], [16, 4, 4, 6], 1, 0),
                ([2, 7, 6, 3], [8, 3, 3, 3], 1, 1),
                ([2, 8, 8, 8], [1, 5, 5, 8], 1, 2),
                ([3, 8, 8, 5], [6, 4, 4, 5], 2, 1),
                ([3, 1, 1, 8], [2, 1, 1, 8], 1, 0),
            ] {
                let geometry = Conv2dGeometry::new(x, w, stride, padding)?;
                let products = [Product::InputGradient, Product::WeightGradient, Product::Forward];
                for (written, product) in products.into_iter().enumerate() {
                    let case = Case { gpu, geometry, product, written, rounded_to };
                    compared += case.assert_lowerings_agree(tf32, tolerance)?;
                }
            }
        }
        Ok(compared)
    };
    // The first can be flat, in all three types; all can be padded, where there are tensor cores, with a ReLU after the
    // forward product or not. A ReLU in one call with it is for cuDNN to grant.
    let (always, fused) = (3 * (3 + 5 + 5) + 5 + 5, 3 * 5);
    let compared = check().unwrap_or_else(|error| panic!("{error}"));
    assert!((always..=always + fused).contains(&compared), "{compared}");
    let granted = compared - always;
    println!("{granted} of {fused} convolutions take a ReLU with them");
    granted
}

/// Compiles files of kernels with NVIDIA's compiler, for the oldest and the newest GPUs they are meant for. Skipped where
/// NVRTC is not installed.
pub fn assert_kernels_compile(files: &[&Kernels], data_types: &[DataType]) {
    for (kernels, data_type) in files.iter().flat_map(|file| data_types.iter().map(move |one| (file, *one))) {
        for capability in [(8, 0), (9, 0)] {
            match compile_check(kernels, data_type, capability) {
                Some(Ok(size)) => assert!(size > 1000, "{}: only {size} bytes", kernels.name),
                Some(Err(message)) => panic!("{message}"),
                None => {
                    let reason = "NVRTC is not installed (pip install nvidia-cuda-nvrtc)";
                    return skip(Requirement::Nvrtc, reason);
                }
            }
        }
    }
}
