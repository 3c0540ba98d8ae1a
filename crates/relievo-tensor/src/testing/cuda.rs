//! Checks of what only a GPU's runtime has: the lowerings of convolutions, and kernels that compile.

use relievo_cuda::{Lowering, compile_check};
use relievo_require::{Requirement, skip};

use super::{distance, random_tensor};
use crate::cuda::{DevicePointer, Gpu, Kernels, Memory, Product, Relu};
use crate::ops::conv2d::extents;
use crate::ops::{Activation, Conv2dGeometry, cast};
use crate::{ConvPolicy, DataType, Device, Result, Tensor};

/// Computes the three products of convolutions on GPU `ordinal` in every lowering that applies, and asserts that the
/// results are those of the plain lowering. Returns how many of 15 convolutions took a ReLU with them.
pub fn assert_lowerings_agree(ordinal: usize) -> usize {
    let check = || -> Result<usize> {
        let (gpu, device) = (Gpu::get(ordinal)?, Device::Cuda(ordinal));
        let mut compared = 0;
        for (data_type, tf32, tolerance) in
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
                for (written, product) in [Product::InputGradient, Product::WeightGradient, Product::Forward]
                    .into_iter()
                    .enumerate()
                {
                    let result = |lowering: Lowering,
                                  relu: bool,
                                  types: (DataType, bool)|
                     -> Result<Option<Vec<f32>>> {
                        let mut operands = Vec::new();
                        for (index, shape) in [x, w, geometry.y_shape()].into_iter().enumerate() {
                            let mut operand = random_tensor(index as u64, shape);
                            if index == written {
                                operand.data_mut().fill(f32::NAN);
                            }
                            let rounded = cast(&operand.to_device(device)?, data_type)?;
                            operands.push(cast(&rounded, types.0)?);
                        }
                        let memory = |tensor: &Tensor| tensor.memory().expect("on the GPU").clone();
                        let places: [Memory; 3] = [0, 1, 2].map(|index: usize| memory(&operands[index]));
                        let bias = random_tensor(3, [geometry.out_c()]);
                        let bias = cast(&cast(&bias.to_device(device)?, data_type)?, types.0)?;
                        let pass = || {
                            let channels = [geometry.out_c(), geometry.y_elements()];
                            Activation::Relu.replace_in(types.0, &places[2], bias.memory(), channels)
                        };
                        let relu = relu.then(|| Relu { bias: bias.memory(), pass: &pass });
                        let policy = ConvPolicy { tf32: types.1, deterministic: false };
                        let computed = gpu.convolve_lowered(
                            lowering,
                            product,
                            &extents(&geometry),
                            types.0,
                            policy,
                            &places,
                            relu.as_ref(),
                        )?;
                        let result = operands[written].to_device(Device::Cpu)?;
                        Ok(computed.then(|| result.data().to_vec()))
                    };
                    // In f32, of the rounded numbers: cuDNN need not have a plain lowering of all of these in all types.
                    let right = |relu: bool| -> Result<Vec<f64>> {
                        let right = result(Lowering::Plain, relu, (DataType::F32, false))?
                            .expect("every product has the plain lowering in f32");
                        Ok(right.into_iter().map(f64::from).collect())
                    };
                    for (lowering, relu) in [
                        (Lowering::Flat, false),
                        (Lowering::Padded, false),
                        (Lowering::Fused, true),
                        // A pass after other extents.
                        (Lowering::Padded, true),
                    ] {
                        if relu && product != Product::Forward {
                            continue;
                        }
                        let Some(found) = result(lowering, relu, (data_type, tf32))? else { continue };
                        let right = right(relu)?;
                        let off = distance(&found, &right);
                        // Written so that NaN fails.
                        assert!(
                            off <= tolerance,
                            "{product:?} of {geometry:?}, {lowering:?}, in {data_type:?}: off by {off}"
                        );
                        compared += 1;
                    }
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
