//! Copies, captured graphs, forked streams and launches of kernels.

use relievo_tensor::cuda::{self, ForkedStreams, Graph, Kernels};
use relievo_tensor::ops::{Activation, ConvParams, activate, cast, conv2d, weighted_sum};
use relievo_tensor::testing::random_tensor;
use relievo_tensor::transfer::{Download, UploadQueue};
use relievo_tensor::{ConvPolicy, DataType, Device, Result, Tape, Tensor};

use super::assert_same_bits;

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

/// Dropped memory goes to whoever asks next, in any thread; not before a launch that reads it is queued.
#[test]
fn what_is_dropped_before_its_launch_is_still_there() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    let a = random_tensor(1, [300]);
    let mut y = Tensor::empty_on(device, DataType::F32, [300]).unwrap();
    let begun = cuda::launch(device, &SUMS, "add", DataType::F32).unwrap().output(&mut y);
    let begun = {
        let dropped = a.to_device(device).unwrap();
        begun.input(&dropped).input(&dropped)
    };
    let others: Vec<Tensor> =
        (0..8).map(|seed| random_tensor(2 + seed, [300]).to_device(device).unwrap()).collect();
    begun.float(2.0).int(300).elements(300).unwrap();
    drop(others);
    for (y, a) in y.to_device(Device::Cpu).unwrap().data().iter().zip(a.data()) {
        assert_eq!(*y, a + 2.0 * a);
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
