//! What tests of operations share: finite differences of gradients, random tensors, pools of threads. Public for
//! the tests of the crates that define operations of their own.

use crate::cuda::{Gpu, Kernels, Lowering, Product, Relu, compile_check};
use crate::ops::{Conv2dGeometry, cast};
use crate::{DataType, Device, Random, Result, Tape, Tensor};

/// A tensor of numbers uniform in [-1, 1), the same ones for the same seed.
pub fn random_tensor<const N: usize>(seed: u64, shape: [usize; N]) -> Tensor {
    let random = Random::new(seed, 0);
    let elements: Vec<f32> =
        (0..shape.iter().product::<usize>()).map(|i| 2.0 * random.uniform(i as u64) - 1.0).collect();
    Tensor::new(&elements, shape).expect("as many numbers as the shape has elements")
}

/// A tensor of random multiples of 2^-bits in [-1, 1]: two of them are equal or at least that far apart, so that a
/// difference with a smaller step does not meet the kink of |a - b| but where a = b, in the middle of it.
pub fn random_multiples<const N: usize>(seed: u64, shape: [usize; N], bits: u32) -> Tensor {
    let unit = (1u32 << bits) as f32;
    let elements: Vec<f32> =
        random_tensor(seed, shape).data().iter().map(|x| (x * unit).round() / unit).collect();
    Tensor::new(&elements, shape).expect("as many numbers as the shape has elements")
}

/// The 2-norm of `got - right`, relative to that of `right` (absolute where that is zero).
pub fn distance(got: &[f32], right: &[f64]) -> f64 {
    assert_eq!(got.len(), right.len(), "the lengths differ");
    let off: f64 = got.iter().zip(right).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let all: f64 = right.iter().map(|b| b * b).sum();
    if all > 0.0 { (off / all).sqrt() } else { off.sqrt() }
}

/// For every input, how far its gradient is from central differences, as [`distance`] has it.
///
/// The function differentiated is the sum of the output's elements times fixed random numbers. `step` should be a
/// power of two, so that moving an input rounds nothing. Where the output has a kink between the ends of a step,
/// the difference is not the gradient: choose inputs that are away from kinks, or allow for it.
pub fn gradient_errors(
    inputs: &[Tensor],
    step: f32,
    operation: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<f64>> {
    let tape = Tape::new();
    let variables: Vec<Tensor> = inputs.iter().map(|input| tape.watch(input)).collect();
    let output = operation(&variables)?;
    let factors = random_tensor(0x5eed, [output.numel()]).with_shape(output.shape());
    let gradients = tape.backward_from(&[(&output, factors.clone())])?;
    let objective = |inputs: &[Tensor]| -> Result<f64> {
        let output = operation(inputs)?;
        Ok(output.data().iter().zip(factors.data()).map(|(y, f)| f64::from(*y) * f64::from(*f)).sum())
    };
    let mut moved = inputs.to_vec();
    let mut errors = Vec::with_capacity(inputs.len());
    for (index, variable) in variables.iter().enumerate() {
        let mut differences = Vec::with_capacity(variable.numel());
        for element in 0..variable.numel() {
            let middle = inputs[index].data()[element];
            let mut at = |value: f32| {
                moved[index].data_mut()[element] = value;
                objective(&moved)
            };
            let difference = at(middle + step)? - at(middle - step)?;
            at(middle)?;
            differences.push(difference / (2.0 * f64::from(step)));
        }
        let none = Tensor::zeros(variable.shape());
        errors.push(distance(gradients.get(variable).unwrap_or(&none).data(), &differences));
    }
    Ok(errors)
}

/// Runs `compute` on pools of one, two, three and seven threads and asserts that every bit of what it gives is the
/// same.
pub fn assert_independent_of_threads(compute: impl Fn() -> Vec<Tensor> + Sync) {
    let on = |threads: usize| -> Vec<Vec<u32>> {
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
        let tensors = pool.install(&compute);
        tensors.iter().map(|tensor| tensor.data().iter().map(|x| x.to_bits()).collect()).collect()
    };
    let one = on(1);
    for threads in [2, 3, 7] {
        assert!(on(threads) == one, "{threads} threads give another result than one");
    }
}

/// [`assert_independent_of_threads`] for an operation's output and the gradients of its inputs.
pub fn assert_operation_independent_of_threads(
    inputs: &[Tensor],
    operation: impl Fn(&[Tensor]) -> Result<Tensor> + Sync,
) {
    assert_independent_of_threads(|| {
        let tape = Tape::new();
        let variables: Vec<Tensor> = inputs.iter().map(|input| tape.watch(input)).collect();
        let output = operation(&variables).expect("the inputs fit");
        let factors = random_tensor(0x5eed, [output.numel()]).with_shape(output.shape());
        let mut gradients = tape.backward_from(&[(&output, factors)]).expect("the output is on the tape");
        let gradients = variables.iter().filter_map(|variable| gradients.take(variable));
        std::iter::once(output.detach()).chain(gradients).collect()
    });
}

/// Runs `operation` on the CPU and on `device`, and asserts that its output and the gradients of all inputs are within
/// `tolerance` of each other, as [`distance`] has it.
///
/// `operation` gets the inputs (f32, on the device) and the type that activations are to be stored as there: it casts
/// with [`crate::ops::cast`] what is an activation. On the CPU that type is f32.
pub fn assert_devices_agree(
    device: Device,
    data_type: DataType,
    tolerance: f64,
    inputs: &[Tensor],
    operation: impl Fn(&[Tensor], DataType) -> Result<Tensor>,
) {
    let run = |device: Device, data_type: DataType| -> Result<Vec<Tensor>> {
        let tape = Tape::new();
        let variables = inputs
            .iter()
            .map(|input| Ok(tape.watch(&input.to_device(device)?)))
            .collect::<Result<Vec<Tensor>>>()?;
        let output = cast(&operation(&variables, data_type)?, DataType::F32)?;
        let factors = random_tensor(0x5eed, [output.numel()]).with_shape(output.shape()).to_device(device)?;
        let mut gradients = tape.backward_from(&[(&output, factors)])?;
        let mut all = vec![output.to_device(Device::Cpu)?];
        for variable in &variables {
            let gradient = match gradients.take(variable) {
                Some(gradient) => gradient.to_device(Device::Cpu)?,
                None => Tensor::zeros(variable.shape()),
            };
            all.push(gradient);
        }
        Ok(all)
    };
    let right = run(Device::Cpu, DataType::F32).expect("the operation runs on the CPU");
    let found = run(device, data_type).unwrap_or_else(|error| panic!("{error}"));
    for (index, (found, right)) in found.iter().zip(&right).enumerate() {
        assert_eq!(found.shape(), right.shape());
        let wide: Vec<f64> = right.data().iter().map(|x| f64::from(*x)).collect();
        let off = distance(found.data(), &wide);
        let what = if index == 0 { "the output".to_owned() } else { format!("gradient {}", index - 1) };
        // Written so that NaN fails.
        assert!(off <= tolerance, "{what} on {device} in {data_type:?} is off by {off} (limit {tolerance})");
    }
}

/// Computes the three products of convolutions on GPU `ordinal` in every lowering there is for them, and asserts that the
/// results are those of the plain lowering. Gives back how many of 15 convolutions took a ReLU with them.
pub fn assert_forms_agree(ordinal: usize) -> usize {
    let check = || -> Result<usize> {
        let gpu = Gpu::get(ordinal)?;
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
                            let rounded = cast(&operand.to_device(gpu.device())?, data_type)?;
                            operands.push(cast(&rounded, types.0)?);
                        }
                        let pointers =
                            [0, 1, 2].map(|index: usize| operands[index].gpu_pointer().unwrap_or(0));
                        let bias = random_tensor(3, [geometry.out_c]);
                        let bias = cast(&cast(&bias.to_device(gpu.device())?, data_type)?, types.0)?;
                        let relu = relu.then(|| Relu { bias: bias.gpu_pointer() });
                        let computed =
                            gpu.convolve_in_form(lowering, product, &geometry, types, pointers, relu)?;
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
    // The first can be flat, in all three types; all can be padded, where there are matrix units, with a ReLU after the
    // forward product or not. A ReLU in one call with it is for cuDNN to grant.
    let (always, fused) = (3 * (3 + 5 + 5) + 5 + 5, 3 * 5);
    let compared = check().unwrap_or_else(|error| panic!("{error}"));
    assert!((always..=always + fused).contains(&compared), "{compared}");
    let granted = compared - always;
    println!("{granted} of {fused} convolutions take a ReLU with them");
    granted
}

/// Compiles files of kernels with NVIDIA's compiler, for the oldest and the newest GPUs they are meant for. Says that
/// it was skipped where NVRTC is not installed.
pub fn assert_kernels_compile(files: &[&Kernels], data_types: &[DataType]) {
    for (kernels, data_type) in files.iter().flat_map(|file| data_types.iter().map(move |one| (file, *one))) {
        for capability in [(8, 0), (9, 0)] {
            match compile_check(kernels, data_type, capability) {
                Some(Ok(size)) => assert!(size > 1000, "{}: only {size} bytes", kernels.name),
                Some(Err(message)) => panic!("{message}"),
                None => return println!("skipped: NVRTC is not installed (pip install nvidia-cuda-nvrtc)"),
            }
        }
    }
}
