//! The same operation on several devices and on several numbers of threads.

use super::{distance, random_tensor};
use crate::ops::cast;
use crate::{DataType, Device, Result, Tape, Tensor};

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
