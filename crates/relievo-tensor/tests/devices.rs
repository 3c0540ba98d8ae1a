//! Every operation on a GPU against the same on the CPU: outputs and gradients, in f32 and bf16. On the GPU named by
//! RELIEVO_DEVICE if there is one, else on the emulator.

use relievo_tensor::cuda::{Feed, Graph};
use relievo_tensor::differences::{assert_devices_agree, random_multiples, random_tensor};
use relievo_tensor::ops::{
    Activation, ConvParams, activate, cast, conv_transpose2d, conv2d, group_norm, weighted_sum,
};
use relievo_tensor::{DataType, Device, Result, Tensor};

/// Runs the comparison in both types.
fn agree(inputs: &[Tensor], operation: impl Fn(&[Tensor], DataType) -> Result<Tensor>) {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    for (data_type, tolerance) in [(DataType::F32, 2e-6), (DataType::Bf16, 1e-2)] {
        assert_devices_agree(Device::Cuda(ordinal), data_type, tolerance, inputs, &operation);
    }
}

#[test]
fn tensors_go_there_and_back() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let x = random_tensor(1, [3, 5, 7]);
    let there = x.to_device(Device::Cuda(ordinal)).unwrap();
    assert_eq!(there.to_device(Device::Cpu).unwrap().data(), x.data());
    // Writing to a shared tensor copies it first.
    let mut other = there.clone();
    other.clear().unwrap();
    assert_eq!(there.to_device(Device::Cpu).unwrap().data(), x.data());
    assert!(other.to_device(Device::Cpu).unwrap().data().iter().all(|x| *x == 0.0));
    let error = activate(&there, Activation::Relu).and_then(|y| weighted_sum(&[(1.0, &y), (1.0, &x)]));
    assert!(error.unwrap_err().to_string().contains("inputs on cuda:0 and on cpu"));
}

#[test]
fn bf16_is_the_nearest_with_ties_to_even() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let x = [1.0, 1.003_906_25, 1.011_718_75, -3.0e-39, f32::INFINITY, 3.4e38, f32::NAN];
    let x = Tensor::new(&x, [7]).unwrap().to_device(Device::Cuda(ordinal)).unwrap();
    let y = cast(&x, DataType::Bf16).unwrap().to_device(Device::Cpu).unwrap();
    assert_eq!(y.data()[..3], [1.0, 1.0, 1.015_625]);
    assert_eq!(y.data()[4..6], [f32::INFINITY, f32::INFINITY]);
    assert!(y.data()[3] < 0.0 && y.data()[6].is_nan());
}

#[test]
fn activations() {
    for activation in [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu,
        Activation::Tanh,
        Activation::Softplus,
    ] {
        agree(&[random_tensor(1, [3, 5, 7, 11])], |x, real| activate(&cast(&x[0], real)?, activation));
    }
}

#[test]
fn sums() {
    let inputs = [random_tensor(1, [3, 41]), random_tensor(2, [3, 41]), random_tensor(3, [3, 41])];
    agree(&inputs, |x, real| {
        let x = [cast(&x[0], real)?, cast(&x[1], real)?, cast(&x[2], real)?];
        weighted_sum(&[(2.0, &x[0]), (-0.5, &x[1]), (1.0, &x[2]), (1.0, &x[0])])
    });
}

#[test]
fn convolutions() {
    for (kernel, stride, padding) in [(4, 2, 1), (3, 1, 1), (5, 1, 2), (4, 1, 0), (1, 1, 0)] {
        // Softplus has no kink for a rounding to fall on the other side of.
        let params = ConvParams { stride, padding, activation: Activation::Softplus };
        let inputs =
            [random_tensor(1, [2, 8, 8, 5]), random_tensor(2, [6, kernel, kernel, 5]), random_tensor(3, [6])];
        agree(&inputs, |x, real| conv2d(&cast(&x[0], real)?, &cast(&x[1], real)?, Some(&x[2]), params));
        let inputs =
            [random_tensor(1, [2, 4, 4, 6]), random_tensor(2, [6, kernel, kernel, 5]), random_tensor(3, [5])];
        agree(&inputs, |x, real| {
            conv_transpose2d(&cast(&x[0], real)?, &cast(&x[1], real)?, Some(&x[2]), params)
        });
    }
}

#[test]
fn a_graph_is_replayed_on_new_pictures() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let batches: Vec<Tensor> = (0..5).map(|seed| random_tensor(seed, [2, 3, 4])).collect();
    let mut feed = Feed::new(ordinal, [2, 3, 4]).unwrap();
    let mut pictures = batches[0].to_device(device).unwrap();
    let work = |x: &Tensor| weighted_sum(&[(2.0, &activate(x, Activation::Relu)?), (-1.0, x)]);
    // Once before, so that kernels are compiled.
    work(&pictures).unwrap();
    let mut graph = Graph::capture(ordinal, || work(&pictures)).unwrap();
    feed.put(&batches[0]).unwrap();
    for batch in 0..batches.len() {
        if let Some(next) = batches.get(batch + 1) {
            feed.put(next).unwrap();
            assert!(feed.put(next).is_err(), "only two slots");
        }
        feed.take(&mut pictures).unwrap();
        graph.replay().unwrap();
        let found = graph.outputs().to_device(Device::Cpu).unwrap();
        assert_eq!(found.data(), work(&batches[batch]).unwrap().data(), "batch {batch}");
    }
    assert!(feed.take(&mut pictures).is_err());
}

#[test]
fn what_cannot_be_captured_is_refused_and_leaves_the_gpu_usable() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let x = random_tensor(1, [8]);
    let refused = Graph::capture(ordinal, || x.to_device(Device::Cuda(ordinal)));
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("cannot be captured"), "{message}");
    assert_eq!(x.to_device(Device::Cuda(ordinal)).unwrap().to_device(Device::Cpu).unwrap().data(), x.data());
}

/// `scale * x + offset`.
fn moved(x: &Tensor, scale: f32, offset: f32) -> Tensor {
    let elements: Vec<f32> = x.data().iter().map(|x| scale * x + offset).collect();
    Tensor::new(&elements, x.shape()).unwrap()
}

#[test]
fn group_normalisations() {
    // Odd sizes, one group, groups of one channel, channels that are no multiple of four, more columns than a block has
    // threads, several blocks for a picture. Elements are exact in bf16, so that kinks lie in the same places.
    for (shape, groups) in [
        ([3, 8, 8, 16], 4),
        ([2, 5, 7, 6], 2),
        ([2, 4, 3, 5], 1),
        ([2, 3, 3, 8], 8),
        ([1, 2, 3, 7], 7),
        ([2, 3, 2, 300], 25),
        ([2, 3, 3, 1040], 260),
        ([2, 31, 33, 64], 16),
        ([3, 1, 1, 8], 1),
    ] {
        let [.., channels] = shape;
        let x = random_multiples(1, shape, 6);
        // Far from zero, with a little of it left.
        let far = moved(&random_multiples(1, shape, 4), 8.0, 100.0);
        for (x, activation) in
            [(&x, Activation::Relu), (&x, Activation::Softplus), (&far, Activation::LeakyRelu)]
        {
            let weight = moved(&random_tensor(2, [channels]), 0.5, 1.0);
            let inputs = [x.clone(), weight, random_tensor(3, [channels])];
            agree(&inputs, |x, real| group_norm(&cast(&x[0], real)?, &x[1], &x[2], groups, 1e-5, activation));
        }
    }
    // Where squares have no digits left for the variance.
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let x = moved(&random_tensor(1, [2, 9, 8, 12]), 1.0, 10_000.0);
    let inputs = [x, random_tensor(2, [12]), random_tensor(3, [12])];
    assert_devices_agree(Device::Cuda(ordinal), DataType::F32, 1e-5, &inputs, |x, _| {
        group_norm(&x[0], &x[1], &x[2], 3, 1e-5, Activation::Identity)
    });
}
