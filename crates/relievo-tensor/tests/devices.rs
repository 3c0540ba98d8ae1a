//! Every operation on a GPU against the same on the CPU: outputs and gradients, in f32 and bf16. On the GPU named by
//! RELIEVO_DEVICE if there is one, else on the emulator.

use relievo_tensor::cuda::{self, ForkedStreams, Graph, Kernels};
use relievo_tensor::ops::{
    Activation, AdamStep, ConvParams, DeviceAdam, NonFinite, activate, cast, concat_flipped,
    conv_transpose2d, conv2d, ema_update, grid_sample, group_norm, max_pool, mul_columns, perceptual_loss,
    photometric_loss, reshape, scale_all, smoothness, squared_norm, upsample_conv2d, weighted_elements_sum,
    weighted_sum,
};
use relievo_tensor::testing::{
    assert_devices_agree, assert_lowerings_agree, distance, random_multiples, random_tensor,
};
use relievo_tensor::transfer::{Download, UploadQueue};
use relievo_tensor::{ConvPolicy, DataType, Device, Error, Result, Tape, Tensor};

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
fn what_was_sent_may_change_at_once() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let mut x = random_tensor(1, [5000]);
    let sent = x.data().to_vec();
    let there = x.to_device(Device::Cuda(ordinal)).unwrap();
    x.data_mut().fill(-3.0);
    assert_eq!(there.to_device(Device::Cpu).unwrap().data(), sent);
}

#[test]
fn bf16_is_the_nearest_with_ties_to_even() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let x = [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -3.0e-39, f32::INFINITY, 3.4e38, f32::NAN];
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

/// What is not a number passes through every activation and its slope, on every device: a broken network must not look
/// like a quiet one.
#[test]
fn slopes_of_what_is_not_a_number() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    for activation in [Activation::Relu, Activation::LeakyRelu, Activation::Tanh, Activation::Softplus] {
        let slopes = |device: Device| -> Vec<f32> {
            let tape = Tape::new();
            let x = Tensor::new(&[f32::NAN, -1.0, 0.0, 1.0], [4]).unwrap();
            let x = tape.watch(&x.to_device(device).unwrap());
            let y = activate(&x, activation).unwrap();
            assert!(y.to_device(Device::Cpu).unwrap().data()[0].is_nan(), "{activation:?} on {device}");
            let slopes = tape.backward(&y).unwrap().take(&x).unwrap().to_device(Device::Cpu).unwrap();
            slopes.data().to_vec()
        };
        for (there, here) in slopes(Device::Cuda(ordinal)).into_iter().zip(slopes(Device::Cpu)) {
            let same = there.is_nan() && here.is_nan() || (there - here).abs() < 1e-6;
            assert!(same, "{activation:?}: {there} on the GPU, {here} on the CPU");
        }
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
        let params = ConvParams::new(stride, padding, Activation::Softplus);
        let inputs =
            [random_tensor(1, [2, 8, 8, 5]), random_tensor(2, [6, kernel, kernel, 5]), random_tensor(3, [6])];
        agree(&inputs, |x, real| {
            conv2d(&cast(&x[0], real)?, &cast(&x[1], real)?, Some(&cast(&x[2], real)?), params)
        });
        // Weights of f32 whatever the images are.
        agree(&inputs, |x, real| conv2d(&cast(&x[0], real)?, &x[1], Some(&x[2]), params));
        let inputs =
            [random_tensor(1, [2, 4, 4, 6]), random_tensor(2, [6, kernel, kernel, 5]), random_tensor(3, [5])];
        agree(&inputs, |x, real| {
            conv_transpose2d(&cast(&x[0], real)?, &cast(&x[1], real)?, Some(&cast(&x[2], real)?), params)
        });
        agree(&inputs, |x, real| conv_transpose2d(&cast(&x[0], real)?, &x[1], Some(&x[2]), params));
    }
    // More pixels and channels than a block of the bias's gradient takes; biases by fours.
    let params = ConvParams::new(1, 0, Activation::Softplus);
    let inputs = [random_tensor(1, [2, 24, 24, 5]), random_tensor(2, [36, 1, 1, 5]), random_tensor(3, [36])];
    agree(&inputs, |x, real| {
        conv2d(&cast(&x[0], real)?, &cast(&x[1], real)?, Some(&cast(&x[2], real)?), params)
    });
}

/// A weight gradient sums over all pixels of a batch, 262,144 in training: in bf16 nothing but its factors and the result
/// may be rounded. As large as in training on a GPU, and small on the emulator.
#[test]
fn weight_gradients_of_many_pixels_are_summed_in_f32() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let is_real = std::env::var_os("RELIEVO_DEVICE").is_some();
    let (batch, side, channels) = if is_real { (64, 64, 64) } else { (2, 16, 8) };
    for (kernel, stride, padding) in [(3, 1, 1), (4, 2, 1)] {
        let params = ConvParams::new(stride, padding, Activation::Identity);
        let out = side / stride;
        let rounded = |seed: u64, shape: [usize; 4]| {
            cast(&random_tensor(seed, shape).to_device(Device::Cuda(ordinal)).unwrap(), DataType::Bf16)
                .unwrap()
        };
        let x = rounded(1, [batch, side, side, channels]);
        let w = rounded(2, [channels, kernel, kernel, channels]);
        let dy = rounded(3, [batch, out, out, channels]);
        let gradient = |data_type: DataType| {
            let [x, w, dy] = [&x, &w, &dy].map(|tensor| cast(tensor, data_type).unwrap());
            let tape = Tape::new();
            let w = tape.watch(&w);
            let y = conv2d(&x, &w, None, params).unwrap();
            let gradient = tape.backward_from(&[(&y, dy)]).unwrap().take(&w).unwrap();
            cast(&gradient, DataType::F32).unwrap().to_device(Device::Cpu).unwrap()
        };
        let right: Vec<f64> = gradient(DataType::F32).data().iter().map(|x| f64::from(*x)).collect();
        let off = distance(gradient(DataType::Bf16).data(), &right);
        println!("{kernel}x{kernel}: off by {off:.1e}");
        // A result of 8 bits is off by 0.2 % at most.
        assert!(off < 4e-3, "{kernel}x{kernel}, stride {stride}: off by {off}");
    }
}

#[test]
fn convolutions_in_other_lowerings() {
    if let Some(ordinal) = relievo_cuda_emulator::test_gpu() {
        let with_relu = assert_lowerings_agree(ordinal);
        // What a GPU's cuDNN can do is not for this test to say.
        assert!(with_relu == 15 || std::env::var_os("RELIEVO_DEVICE").is_some(), "{with_relu}");
    }
}

#[test]
fn tensors_are_fetched_together() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let here = [random_tensor(1, [4, 3, 5]), random_tensor(2, [3, 7])];
    let there = here.each_ref().map(|x| x.to_device(Device::Cuda(ordinal)).unwrap());
    let half = cast(&there[0], DataType::Bf16).unwrap();
    let mut fetch = Download::new(ordinal).unwrap();
    for count in [2, 3, 1, 0] {
        let fetched = fetch.first(&[&there[0], &half, &there[1]], count).unwrap();
        assert!(fetched.iter().all(|x| x.device() == Device::Cpu && x.shape()[0] == count));
        let rounded = half.to_device(Device::Cpu).unwrap();
        for (fetched, whole) in fetched.iter().zip([&here[0], &rounded, &here[1]]) {
            assert_eq!(fetched.data(), &whole.data()[..fetched.numel()]);
        }
    }
    assert!(fetch.first(&[&there[0], &there[1]], 4).is_err(), "the second has three entries");
    assert!(fetch.first(&[&here[0]], 1).is_err(), "not on the GPU");
}

#[test]
fn a_graph_is_replayed_on_new_images() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let batches: Vec<Tensor> = (0..5).map(|seed| random_tensor(seed, [2, 3, 4])).collect();
    let mut feed = UploadQueue::new(ordinal, [2, 3, 4]).unwrap();
    let mut images = batches[0].to_device(device).unwrap();
    let work = |x: &Tensor| weighted_sum(&[(2.0, &activate(x, Activation::Relu)?), (-1.0, x)]);
    // Once before, so that kernels are compiled.
    work(&images).unwrap();
    let mut graph = Graph::capture(ordinal, || work(&images)).unwrap();
    feed.put(&batches[0]).unwrap();
    for batch in 0..batches.len() {
        if let Some(next) = batches.get(batch + 1) {
            feed.put(next).unwrap();
            assert!(feed.put(next).is_err(), "only two slots");
        }
        feed.take(&mut images).unwrap();
        graph.replay().unwrap();
        let found = graph.outputs().to_device(Device::Cpu).unwrap();
        assert_eq!(found.data(), work(&batches[batch]).unwrap().data(), "batch {batch}");
    }
    assert!(feed.take(&mut images).is_err());
}

/// Chains of three convolutions that take the same image, on forked streams or one after the other: their outputs, and the
/// gradients of weights and image. The inputs are the image and three weights for each chain.
fn chains(inputs: &[Tensor], side_by_side: bool) -> Result<Vec<Tensor>> {
    // Bits are compared.
    let policy = ConvPolicy { deterministic: true, ..ConvPolicy::default() };
    let params = ConvParams { policy, ..ConvParams::new(1, 1, Activation::Relu) };
    let tape = Tape::new();
    let watched: Vec<Tensor> = inputs.iter().map(|input| tape.watch(input)).collect();
    let (image, weights) = (&watched[0], &watched[1..]);
    let mut streams = ForkedStreams::on(image.device().ordinal().filter(|_| side_by_side))?;
    let outputs = weights.chunks(3).map(|weights| {
        streams.fork(|| weights.iter().try_fold(image.clone(), |x, weight| conv2d(&x, weight, None, params)))
    });
    let outputs: Vec<Tensor> = outputs.collect::<Result<_>>()?;
    streams.join()?;
    let terms: Vec<(f32, &Tensor)> = (1..).zip(&outputs).map(|(n, x)| (1.0 / n as f32, x)).collect();
    let total = weighted_sum(&terms)?;
    let gradients = tape.backward_from(&[(&total, total.detach())])?;
    let gradients = watched.iter().map(|x| gradients.get(x).cloned().unwrap());
    Ok(outputs.iter().map(Tensor::detach).chain(gradients).collect())
}

#[test]
fn forked_streams_change_nothing_but_the_time() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let mut inputs = vec![random_tensor(0, [2, 8, 8, 8]).to_device(device).unwrap()];
    // Eight chains: there is no limit to the streams.
    inputs.extend((1..25).map(|seed| random_tensor(seed, [8, 3, 3, 8]).to_device(device).unwrap()));
    let right: Vec<Tensor> = (chains(&inputs, false).unwrap().iter())
        .map(|tensor| tensor.to_device(Device::Cpu).unwrap())
        .collect();
    // Several times: blocks come back from streams and are used elsewhere.
    for _ in 0..3 {
        assert_same_bits(&chains(&inputs, true).unwrap(), &right);
    }
    let mut graph = Graph::capture(ordinal, || chains(&inputs, true)).unwrap();
    for _ in 0..4 {
        graph.replay().unwrap();
        assert_same_bits(graph.outputs(), &right);
        chains(&inputs, true).unwrap();
    }
}

#[test]
fn a_stream_keeps_off_what_another_stream_made() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let x = random_tensor(1, [4, 4]).to_device(device).unwrap();
    let mut streams = ForkedStreams::on(Some(ordinal)).unwrap();
    let y = streams.fork(|| activate(&x, Activation::Relu)).unwrap();
    let refusal = streams.fork(|| activate(&y, Activation::Tanh)).unwrap_err().to_string();
    assert!(refusal.contains("made on another forked stream"), "{refusal}");
    streams.join().unwrap();
    activate(&y, Activation::Tanh).unwrap();
}

#[test]
fn a_graph_owns_what_its_work_uses() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    // A size that no other test uses, so that nobody takes the blocks from the pool in between.
    let x = random_tensor(1, [7, 5003]);
    let right = activate(&x, Activation::Relu).unwrap();
    let there = x.to_device(device).unwrap();
    activate(&there, Activation::Relu).unwrap();
    let mut graph = Graph::capture(ordinal, || activate(&there, Activation::Relu)).unwrap();
    drop(there);
    // Whoever asks for memory of this size now gets other memory.
    let others: Vec<Tensor> = (0..4).map(|_| Tensor::full_on(device, [7, 5003], -7.0).unwrap()).collect();
    for _ in 0..2 {
        graph.replay().unwrap();
        assert_eq!(graph.outputs().to_device(Device::Cpu).unwrap().data(), right.data());
    }
    // What was made in the capture outlives the graph where somebody holds it.
    let result = graph.outputs().clone();
    drop(graph);
    let more: Vec<Tensor> = (0..4).map(|_| Tensor::full_on(device, [7, 5003], 5.0).unwrap()).collect();
    assert_eq!(result.to_device(Device::Cpu).unwrap().data(), right.data());
    for (tensors, value) in [(others, -7.0), (more, 5.0)] {
        for tensor in tensors {
            assert!(tensor.to_device(Device::Cpu).unwrap().data().iter().all(|x| *x == value));
        }
    }
}

/// Work that is captured may wait for other threads, and those may drop tensors.
#[test]
fn a_tensor_is_dropped_while_another_thread_captures() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let x = random_tensor(1, [6, 4001]).to_device(device).unwrap();
    activate(&x, Activation::Relu).unwrap();
    let dropped = random_tensor(2, [6, 4001]).to_device(device).unwrap();
    let graph = Graph::capture(ordinal, || {
        std::thread::scope(|scope| scope.spawn(move || drop(dropped)).join()).unwrap();
        activate(&x, Activation::Relu)
    });
    let mut graph = graph.unwrap();
    graph.replay().unwrap();
    let right = activate(&x, Activation::Relu).unwrap().to_device(Device::Cpu).unwrap();
    assert_eq!(graph.outputs().to_device(Device::Cpu).unwrap().data(), right.data());
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

static SUMS: Kernels = Kernels {
    name: "test",
    source:
        "extern \"C\" __global__ void add(real* y, const real* a, const real* b, float factor, int count) {
        int i = thread_number();
        if (i < count) store(y + i, load(a + i) + factor * load(b + i));
    }",
};

/// Another file of the same name.
static PRODUCTS: Kernels = Kernels {
    name: "test",
    source:
        "extern \"C\" __global__ void add(real* y, const real* a, const real* b, float factor, int count) {
        int i = thread_number();
        if (i < count) store(y + i, load(a + i) * factor * load(b + i));
    }",
};

#[test]
fn files_of_kernels_of_one_name_are_two_files() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let [a, b] = [1, 2].map(|seed| random_tensor(seed, [300]));
    let there = [&a, &b].map(|x| x.to_device(device).unwrap());
    let run = |kernels: &'static Kernels| {
        let mut y = there[0].zeros_like().unwrap();
        let launch = cuda::launch(device, kernels, "add", DataType::F32).unwrap();
        launch.output(&mut y).input(&there[0]).input(&there[1]).float(2.0).int(300).elements(300).unwrap();
        y.to_device(Device::Cpu).unwrap()
    };
    let (sums, products) = (run(&SUMS), run(&PRODUCTS));
    for (i, (a, b)) in a.data().iter().zip(b.data()).enumerate() {
        assert_eq!([sums.data()[i], products.data()[i]], [a + 2.0 * b, a * 2.0 * b]);
    }
}

/// With too few arguments the driver would read past ours, in main memory.
#[test]
fn a_launch_with_other_arguments_than_the_kernels_is_refused() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let x = random_tensor(1, [300]);
    let (a, mut y) = (x.to_device(device).unwrap(), x.to_device(device).unwrap());
    let half = cast(&a, DataType::Bf16).unwrap();
    let launch = || cuda::launch(device, &SUMS, "add", DataType::F32).unwrap();
    let refusals = [
        (
            launch().output(&mut y).input(&a).input(&a).float(2.0).elements(300),
            "4 arguments for a kernel that takes 5",
        ),
        (
            launch().output(&mut y).input(&a).input(&a).float(2.0).int(300).int(1).elements(300),
            "takes 5 arguments",
        ),
        (launch().output(&mut y).input(&a).input(&a).int(2).int(300).elements(300), "argument 3 is Int"),
        (launch().input(&a).input(&a).input(&a).float(2.0).int(300).elements(300), "argument 0 is Input"),
        (
            launch().output(&mut y).output(&mut a.clone()).input(&a).float(2.0).int(300).elements(300),
            "argument 1 is Output",
        ),
        (
            launch().output(&mut y).input(&half).input(&a).float(2.0).int(300).elements(300),
            "argument 1 is Input(Some(Bf16))",
        ),
        (
            launch().output(&mut y).input(&a).input(&a).structure(2.0f64).int(300).elements(300),
            "argument 3 is Structure",
        ),
        (
            launch().output(&mut y).input(&x).input(&a).float(2.0).int(300).elements(300),
            "tensor [300] is on the CPU",
        ),
        (
            launch().output(&mut y).input(&a).input(&a).float(2.0).int(1 << 31).elements(300),
            "more than a kernel can count",
        ),
        (
            launch()
                .output(&mut y)
                .input(&a)
                .input(&a)
                .float(2.0)
                .int(300)
                .blocks([1 << 40, 1 << 20, 1 << 20], 1 << 10),
            "cannot launch",
        ),
    ];
    for (refused, reason) in refusals {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let error = cuda::launch(device, &SUMS, "subtract", DataType::F32).err().unwrap().to_string();
    assert_eq!(error, format!("{device}: test has no kernel subtract"));
    assert!(cuda::launch(Device::Cpu, &SUMS, "add", DataType::F32).is_err());
    // Nothing ran, and the GPU is as before.
    assert_eq!(y.to_device(Device::Cpu).unwrap().data(), x.data());
}

/// `scale * x + offset`.
fn moved(x: &Tensor, scale: f32, offset: f32) -> Tensor {
    let elements: Vec<f32> = x.data().iter().map(|x| scale * x + offset).collect();
    Tensor::new(&elements, x.shape()).unwrap()
}

#[test]
fn group_normalisations() {
    // Odd sizes, one group, groups of one channel, channels that are no multiple of four, more columns than a block has
    // threads, several blocks for an image; as many pixels as a block does by itself, and one more row. Elements are
    // exact in bf16, so that kinks lie in the same places.
    for (shape, groups) in [
        ([3, 8, 8, 16], 4),
        ([2, 5, 7, 6], 2),
        ([2, 4, 3, 5], 1),
        ([2, 3, 3, 8], 8),
        ([1, 2, 3, 7], 7),
        ([2, 3, 2, 300], 25),
        ([2, 3, 3, 1040], 260),
        ([2, 31, 33, 64], 16),
        ([2, 32, 32, 24], 2),
        ([2, 32, 33, 64], 16),
        ([2, 16, 4, 48], 1),
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

#[test]
fn small_operations() {
    agree(&[random_tensor(1, [7, 3])], |x, real| reshape(&cast(&x[0], real)?, [3, 7, 1]));
    for count in [1, 5, 300] {
        let weights = random_tensor(2, [count]);
        agree(&[random_tensor(1, [count])], |x, real| {
            weighted_elements_sum(&cast(&x[0], real)?, weights.data())
        });
    }
    for columns in [1, 6, 300] {
        let factors = random_tensor(2, [columns]);
        agree(&[random_tensor(1, [9, columns])], |x, real| mul_columns(&cast(&x[0], real)?, factors.data()));
    }
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let there = random_tensor(1, [2, 3]).to_device(Device::Cuda(ordinal)).unwrap();
    for refused in
        [reshape(&there, [5]), weighted_elements_sum(&there, &[1.0]), mul_columns(&there, &[1.0, 2.0])]
    {
        assert!(matches!(refused, Err(Error::Shape { .. })));
    }
}

#[test]
fn smoothness_of_depth() {
    // Few different depths: some differences are zero, and bf16 has them all.
    for shape in [[2, 5, 7], [3, 40, 50], [1, 1, 6], [3, 4, 1], [2, 1, 1]] {
        agree(&[random_multiples(1, shape, 3)], |x, real| smoothness(&cast(&x[0], real)?, 0.2));
    }
}

/// Parameters of Adam's tests: more than go with one launch, one larger than a block, one without elements.
fn parameters(seed: u64) -> Vec<Tensor> {
    let lengths = (0..70).map(|i| match i {
        3 => 40_003,
        9 => 0,
        _ => 1 + 37 * i % 101,
    });
    (0..).zip(lengths).map(|(i, length)| random_tensor(1000 * seed + i, [length])).collect()
}

fn sent(tensors: &[Tensor], device: Device) -> Vec<Tensor> {
    tensors.iter().map(|tensor| tensor.to_device(device).unwrap()).collect()
}

fn rule(step: u64) -> AdamStep {
    AdamStep { learning_rate: 1e-2 / step as f64, weight_decay: 5e-4, step, ..AdamStep::default() }
}

#[track_caller]
fn assert_same_bits(there: &[Tensor], here: &[Tensor]) {
    for (there, here) in there.iter().zip(here) {
        assert_eq!(there.to_device(Device::Cpu).unwrap().data(), here.data());
    }
}

#[test]
fn adam_directed_by_the_host() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let mut here = [parameters(0), parameters(0), parameters(0)];
    here[1..].iter_mut().flatten().for_each(|moment| moment.data_mut().fill(0.0));
    let mut there = here.each_ref().map(|tensors| sent(tensors, device));
    for step in 1..=3 {
        let mut gradients = [parameters(step), sent(&parameters(step), device)];
        let norms = gradients.each_ref().map(|gradients| squared_norm(gradients).unwrap());
        assert!((norms[0] / norms[1] - 1.0).abs() < 1e-13, "{norms:?}");
        // One of them in bf16.
        gradients[1][4] = cast(&gradients[1][4], DataType::Bf16).unwrap();
        gradients.iter_mut().for_each(|gradients| scale_all(gradients, 0.5).unwrap());
        gradients[0][4] = gradients[1][4].to_device(Device::Cpu).unwrap();
        assert_same_bits(&gradients[1], &gradients[0]);
        for ([p, m, v], gradients) in [&mut here, &mut there].into_iter().zip(&gradients) {
            rule(step).apply(p, gradients, m, v).unwrap();
        }
    }
    // To the last bit, since every operation is rounded as on the CPU.
    for (there, here) in there.iter().zip(&here) {
        assert_same_bits(there, here);
    }
    let [p, m, v] = &mut there;
    assert!(rule(1).apply(p, &parameters(1), m, v).unwrap_err().to_string().contains("on cuda:0 and on cpu"));
    let mut gradients = sent(&parameters(1), device);
    scale_all(&mut gradients[69..], f32::INFINITY).unwrap();
    assert_eq!(squared_norm(&gradients).unwrap(), f64::INFINITY);
    scale_all(&mut gradients[3..4], f32::NAN).unwrap();
    assert!(squared_norm(&gradients).unwrap().is_nan());
    assert_eq!(squared_norm(&[]).unwrap(), 0.0);
}

/// What the host does with a gradient that is too long, and the step.
fn clipped_step([p, m, v]: &mut [Vec<Tensor>; 3], mut gradients: Vec<Tensor>, clip: f64, step: u64) -> f64 {
    let norm = squared_norm(&gradients).unwrap().sqrt();
    if norm > clip {
        scale_all(&mut gradients, (clip / norm) as f32).unwrap();
    }
    rule(step).apply(p, &gradients, m, v).unwrap();
    norm
}

#[test]
fn running_means() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let mut here = parameters(0);
    let mut there = sent(&here, device);
    for step in 1..=3 {
        ema_update(&mut here, &parameters(step), 0.1).unwrap();
        ema_update(&mut there, &sent(&parameters(step), device), 0.1).unwrap();
    }
    assert_same_bits(&there, &here);
    let shared = there[66].clone();
    let error = ema_update(&mut there, &sent(&parameters(4), device), 0.1).unwrap_err().to_string();
    assert_eq!(error, "ema_update: tensor 66 shares its memory with another tensor");
    drop(shared);
    assert_same_bits(&there, &here);
}

#[test]
fn adam_by_itself_in_a_graph() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let mut here = [parameters(0), parameters(0), parameters(0)];
    here[1..].iter_mut().flatten().for_each(|moment| moment.data_mut().fill(0.0));
    let [mut p, mut m, mut v] = here.each_ref().map(|tensors| sent(tensors, device));
    // Of every other parameter, as far as there are any.
    let copy = |(index, p): (usize, &Tensor)| (index % 2 == 1).then(|| cast(p, DataType::Bf16).unwrap());
    let mut copies: Vec<Option<Tensor>> = p.iter().enumerate().map(copy).collect();
    let assert_copies = |p: &[Tensor], copies: &[Option<Tensor>]| {
        for (p, copy) in p.iter().zip(copies).filter_map(|(p, copy)| Some((p, copy.as_ref()?))) {
            let right = cast(p, DataType::Bf16).unwrap().to_device(Device::Cpu).unwrap();
            assert_same_bits(std::slice::from_ref(copy), &[right]);
        }
    };
    let mut gradients = sent(&parameters(1), device);
    let mut loss = Tensor::scalar(1.0).to_device(device).unwrap();
    // Between the norms of gradients scaled by 1 and by 0.5.
    let clip = 0.75 * squared_norm(&parameters(1)).unwrap().sqrt();
    let mut adam = DeviceAdam::new(device, clip).unwrap();
    assert!(adam.step(&mut p, &gradients, &mut m, &mut v, &mut copies, &loss).is_err(), "not prepared");

    adam.prepare(&rule(1)).unwrap();
    adam.step(&mut p, &gradients, &mut m, &mut v, &mut copies, &loss).unwrap();
    assert_copies(&p, &copies);
    let norm = clipped_step(&mut here, parameters(1), clip, 1);
    let state = adam.state().unwrap();
    assert!((state.gradient_norm / norm - 1.0).abs() < 1e-13 && norm > clip);
    assert_eq!((state.taken, state.stopped), (1, None));

    let shared = p[5].clone();
    let error = adam.step(&mut p, &gradients, &mut m, &mut v, &mut copies, &loss).unwrap_err().to_string();
    assert!(error.contains("parameter 5, a moment or a copy of it shares"), "{error}");
    drop(shared);
    let error =
        adam.step(&mut p, &gradients, &mut m, &mut v, &mut copies[1..], &loss).unwrap_err().to_string();
    assert_eq!(error, "adam: 69 copies of 70 parameters");
    let mut others = copies.clone();
    others.swap(1, 5);
    let error = adam.step(&mut p, &gradients, &mut m, &mut v, &mut others, &loss).unwrap_err().to_string();
    assert!(error.contains("the copy of parameter 1 has the shape"), "{error}");
    drop(others);

    let captured =
        Graph::capture(ordinal, || adam.step(&mut p, &gradients, &mut m, &mut v, &mut copies, &loss));
    let mut graph = captured.unwrap();
    assert_eq!(adam.state().unwrap().taken, 1);
    for step in 2..=5 {
        let mut new = parameters(step);
        if step % 2 == 0 {
            scale_all(&mut new, 0.5).unwrap();
        }
        for (gradient, new) in gradients.iter_mut().zip(&new) {
            gradient.copy_from(new).unwrap();
        }
        adam.prepare(&rule(step)).unwrap();
        graph.replay().unwrap();
        let norm = clipped_step(&mut here, new, clip, step);
        let state = adam.state().unwrap();
        assert!((state.gradient_norm / norm - 1.0).abs() < 1e-13);
        assert_eq!((state.taken, state.stopped, norm > clip), (step, None, step % 2 == 1));
    }
    assert_same_bits(&p, &here[0]);
    assert_same_bits(&m, &here[1]);
    assert_same_bits(&v, &here[2]);
    assert_copies(&p, &copies);

    // From the first number that is not finite on, nothing changes.
    let mut broken = parameters(6)[66].clone();
    broken.data_mut()[0] = f32::NAN;
    gradients[66].copy_from(&broken).unwrap();
    for step in 6..9 {
        adam.prepare(&rule(step)).unwrap();
        graph.replay().unwrap();
        gradients[66].copy_from(&parameters(6)[66]).unwrap();
        let state = adam.state().unwrap();
        assert_eq!((state.taken, state.stopped), (5, Some(NonFinite::Gradient(66))));
        assert!(state.gradient_norm.is_nan());
    }
    assert_same_bits(&p, &here[0]);
    assert_same_bits(&m, &here[1]);
    assert_same_bits(&v, &here[2]);
    assert_copies(&p, &copies);

    let mut adam = DeviceAdam::new(device, 0.0).unwrap();
    adam.prepare(&rule(1)).unwrap();
    loss.copy_from(&Tensor::scalar(f32::INFINITY)).unwrap();
    adam.step(&mut p, &gradients, &mut m, &mut v, &mut [], &loss).unwrap();
    let state = adam.state().unwrap();
    assert_eq!((state.taken, state.stopped), (0, Some(NonFinite::Loss)));
    assert!(state.gradient_norm.is_finite());
    assert_same_bits(&p, &here[0]);
}

#[test]
fn max_pools() {
    // Multiples of 1/4: many windows have two maxima.
    for (shape, size) in
        [([2, 4, 6, 8], 2), ([2, 5, 7, 5], 2), ([3, 7, 3, 4], 3), ([1, 9, 8, 12], 4), ([2, 3, 3, 1], 1)]
    {
        agree(&[random_multiples(1, shape, 2)], |x, real| max_pool(&cast(&x[0], real)?, size));
    }
}

#[test]
fn convolutions_of_enlarged_images() {
    for [batch, h, w, inputs, outputs] in [[2, 3, 5, 4, 7], [1, 8, 8, 16, 16], [2, 4, 2, 3, 1]] {
        let inputs = [random_tensor(1, [batch, h, w, inputs]), random_tensor(2, [outputs, 3, 3, inputs])];
        agree(&inputs, |x, real| {
            let params = ConvParams::new(1, 1, Activation::Identity);
            upsample_conv2d(&cast(&x[0], real)?, &cast(&x[1], real)?, params)
        });
    }
}

#[test]
fn doubled_batches() {
    for shape in [[2, 3, 5, 4], [1, 4, 6, 3], [3, 2, 1, 8]] {
        for mirror in [true, false] {
            let x = [random_tensor(1, shape)];
            agree(&x, |x, real| concat_flipped(&cast(&x[0], real)?, mirror));
        }
    }
    agree(&[random_tensor(1, [2, 5, 7])], |x, real| concat_flipped(&cast(&x[0], real)?, true));
    agree(&[random_tensor(1, [3, 6])], |x, real| concat_flipped(&cast(&x[0], real)?, false));
    agree(&[random_tensor(1, [5])], |x, real| concat_flipped(&cast(&x[0], real)?, false));
}

#[test]
fn sampling() {
    for ([batch, height, width, channels], [rows, columns]) in
        [([2, 5, 7, 3], [6, 4]), ([1, 8, 8, 1], [8, 8]), ([3, 2, 9, 5], [1, 40])]
    {
        // Beyond the image on all sides, and many places to a pixel. f32 only: that is all it is used for.
        let inputs = [
            random_tensor(1, [batch, height, width, channels]),
            moved(&random_tensor(2, [batch, rows, columns, 2]), 1.4, 0.0),
        ];
        agree(&inputs, |x, _| grid_sample(&x[0], &x[1], None));
        let mask: Vec<f32> = (0..rows * columns).map(|i| [0.0, 1.0, 0.5][i * 7 % 3]).collect();
        let mask = Tensor::new(&mask, [1, rows, columns]).unwrap();
        agree(&inputs, |x, _| grid_sample(&x[0], &x[1], Some(&mask.to_device(x[0].device())?)));
        // As they are, and off the tape, each of the two.
        agree(&inputs[..1], |x, _| grid_sample(&x[0], &inputs[1].to_device(x[0].device())?, None));
        agree(&inputs[1..], |x, _| grid_sample(&inputs[0].to_device(x[0].device())?, &x[0], None));
    }
    // All places at one pixel, with a mask that makes each of the terms large: their sum has room in fixed point.
    let places = Tensor::full([1, 12, 12, 2], 0.1);
    let mask = Tensor::full([1, 12, 12], 1e6);
    agree(&[random_tensor(1, [1, 4, 4, 3])], |x, _| {
        let [places, mask] = [&places, &mask].map(|tensor| tensor.to_device(x[0].device()));
        grid_sample(&x[0], &places?, Some(&mask?))
    });
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let image = random_tensor(1, [1, 4, 4, 3]).to_device(Device::Cuda(ordinal)).unwrap();
    let nowhere = Tensor::new(&[f32::NAN, 0.0, 9.0, 1e30], [1, 1, 2, 2]).unwrap();
    let sampled = grid_sample(&image, &nowhere.to_device(Device::Cuda(ordinal)).unwrap(), None).unwrap();
    let sampled = sampled.to_device(Device::Cpu).unwrap();
    assert!(sampled.data()[..3].iter().all(|x| x.is_nan()) && sampled.data()[3..] == [0.0; 3]);
}

#[test]
fn likelihood_losses() {
    let positive = |seed, shape: [usize; 4], floor| {
        let values: Vec<f32> = random_tensor(seed, shape).data().iter().map(|x| x.abs() + floor).collect();
        Tensor::new(&values, shape).unwrap()
    };
    // Few channels, some that are no multiple of a warp, many pixels.
    for [b, h, w, c] in [[2, 5, 7, 3], [1, 4, 4, 40], [2, 24, 24, 1], [1, 3, 5, 256]] {
        let mask = reshape(&positive(3, [b, h, w, 1], 0.0), [b, h, w]).unwrap();
        // Multiples of 1/8 are the same numbers in bf16, so that no difference changes its sign.
        let inputs = [
            random_multiples(1, [2 * b, h, w, c], 3),
            random_multiples(2, [b, h, w, c], 3),
            positive(4, [b, h, w, 2], 0.05),
        ];
        for loss in [photometric_loss, perceptual_loss] {
            let there = |x: &Tensor| mask.to_device(x.device());
            agree(&inputs, |x, real| {
                loss(&cast(&x[0], real)?, &cast(&x[1].detach(), real)?, &there(&x[0])?, Some(&x[2]))
            });
            agree(&inputs[..2], |x, real| {
                loss(&cast(&x[0], real)?, &cast(&x[1].detach(), real)?, &there(&x[0])?, None)
            });
        }
    }
    // Nothing seen: losses and gradients of zero.
    let inputs =
        [random_tensor(1, [2, 4, 4, 3]), random_tensor(2, [1, 4, 4, 3]), positive(4, [1, 4, 4, 2], 0.1)];
    agree(&inputs, |x, _| {
        let mask = Tensor::full_on(x[0].device(), [1, 4, 4], 0.0)?;
        photometric_loss(&x[0], &x[1].detach(), &mask, Some(&x[2]))
    });
}

#[test]
fn every_run_gives_the_same_bits() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    // Sums over many blocks, and many places to a pixel.
    let run = || {
        let device = Device::Cuda(ordinal);
        let tape = Tape::new();
        let watch = |x: &Tensor| Ok::<Tensor, Error>(tape.watch(&x.to_device(device)?));
        let image = watch(&random_tensor(1, [3, 20, 21, 8]))?;
        let weight = watch(&random_tensor(2, [8]))?;
        let grid = watch(&random_tensor(3, [3, 40, 41, 2]))?;
        let target = random_tensor(4, [3, 20, 21, 8]).to_device(device)?;
        let mask = Tensor::full([3, 20, 21], 0.5).to_device(device)?;
        let normal = group_norm(&image, &weight, &weight, 2, 1e-5, Activation::LeakyRelu)?;
        let sampled = grid_sample(&normal, &grid, None)?;
        let loss = photometric_loss(&concat_flipped(&normal, true)?, &target, &mask, None)?;
        let factors = random_tensor(5, [3, 40, 41, 8]).to_device(device)?;
        let ones = Tensor::full([2], 1.0).to_device(device)?;
        let mut gradients = tape.backward_from(&[(&sampled, factors), (&loss, ones)])?;
        let gradients = [&image, &weight, &grid].map(|x| gradients.take(x).expect("all were used"));
        [loss].iter().chain(&gradients).map(|x| x.to_device(Device::Cpu)).collect::<Result<Vec<Tensor>>>()
    };
    let first = run().unwrap();
    for _ in 0..4 {
        assert_same_bits(&run().unwrap(), &first);
    }
}

#[test]
fn types_that_kernels_do_not_take_are_refused() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let narrow = |shape: [usize; 4]| {
        cast(&random_tensor(1, shape).to_device(Device::Cuda(ordinal)).unwrap(), DataType::Bf16).unwrap()
    };
    let x = narrow([1, 2, 2, 2]);
    let parameter = reshape(&narrow([1, 1, 1, 2]), [2]).unwrap();
    assert!(grid_sample(&x, &x, None).is_err());
    assert!(group_norm(&x, &parameter, &parameter, 1, 1e-5, Activation::Relu).is_err());
}
