//! Times the operations that are bound by memory: `cargo bench -p relievo-tensor --bench ops`.
//!
//! Each row is the median of repeated runs on all threads of the pool (RAYON_NUM_THREADS). "GB/s" counts every array
//! that must be read or written once, so that it can be held against the first row, a plain copy.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use relievo_tensor::ops::{
    Activation, AdamStep, activate, grid_sample, group_norm, max_pool, photometric_loss,
};
use relievo_tensor::testing::random_tensor;
use relievo_tensor::{Tape, Tensor};

/// The median time of a run.
fn median(mut run: impl FnMut()) -> Duration {
    run();
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 5 || begin.elapsed() < Duration::from_millis(400) {
        let start = Instant::now();
        run();
        times.push(start.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

/// Prints a row: what ran, its time, and its traffic given the elements that must be moved.
fn row(what: &str, elements: usize, time: Duration) {
    let seconds = time.as_secs_f64();
    println!("{what:<52} {:>9.3} ms {:>7.1} GB/s", seconds * 1e3, elements as f64 * 4e-9 / seconds);
}

/// Times an operation without a tape, and its backward pass. `elements` moved forward and backward.
fn both(
    what: &str,
    inputs: &[Tensor],
    elements: [usize; 2],
    operation: impl Fn(&[Tensor]) -> relievo_tensor::Result<Tensor>,
) {
    let forward = median(|| {
        black_box(operation(inputs)).expect("the inputs fit");
    });
    row(what, elements[0], forward);
    let tape = Tape::new();
    let variables: Vec<Tensor> = inputs.iter().map(|input| tape.watch(input)).collect();
    let dy = random_tensor(9, [operation(inputs).expect("the inputs fit").numel()]);
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 5 || begin.elapsed() < Duration::from_millis(400) {
        let y = operation(&variables).expect("the inputs fit");
        let dy = Tensor::new(dy.data(), y.shape()).expect("as many elements as y");
        let start = Instant::now();
        black_box(tape.backward_from(&[(&y, dy)])).expect("y is on the tape");
        times.push(start.elapsed());
    }
    times.sort();
    row(&format!("{what}, backward"), elements[1], times[times.len() / 2]);
}

fn main() {
    println!("{} threads", rayon::current_num_threads());
    let (from, mut to) = (vec![1.0f32; 1 << 24], vec![0.0f32; 1 << 24]);
    let copy = median(|| {
        to.par_chunks_mut(1 << 14).zip(from.par_chunks(1 << 14)).for_each(|(a, b)| a.copy_from_slice(b))
    });
    row("copy 64 MiB", 2 << 24, copy);

    for [b, h, c, groups] in
        [[1, 64, 64, 16], [1, 16, 256, 64], [16, 64, 64, 16], [16, 32, 128, 32], [32, 64, 64, 16]]
    {
        let inputs = [random_tensor(1, [b, h, h, c]), random_tensor(2, [c]), random_tensor(3, [c])];
        let n = inputs[0].numel();
        both(&format!("group_norm + ReLU [{b},{h},{h},{c}]"), &inputs, [2 * n, 3 * n], |x| {
            group_norm(&x[0], &x[1], &x[2], groups, 1e-5, Activation::Relu)
        });
    }
    for b in [1, 32] {
        let inputs = [random_tensor(1, [b, 64, 64, 3]), random_tensor(2, [b, 64, 64, 2])];
        let places = b * 64 * 64;
        both(&format!("grid_sample [{b},64,64,3]"), &inputs, [8 * places, 13 * places], |x| {
            grid_sample(&x[0], &x[1], None)
        });
    }
    let x = [random_tensor(1, [16, 64, 64, 64])];
    let n = x[0].numel();
    both("max_pool 2 [16,64,64,64]", &x, [n + n / 4, 2 * n + n / 2], |x| max_pool(&x[0], 2));
    let x = [random_tensor(1, [16, 64, 64, 3])];
    let n = x[0].numel();
    for activation in [Activation::Tanh, Activation::Softplus] {
        both(&format!("{activation:?} [16,64,64,3]"), &x, [2 * n, 3 * n], |x| activate(&x[0], activation));
    }
    let (target, mask) = (random_tensor(2, [16, 64, 64, 3]), Tensor::full([16, 64, 64], 1.0));
    let inputs = [random_tensor(1, [32, 64, 64, 3]), Tensor::full([16, 64, 64, 2], 0.5)];
    both("photometric_loss [32,64,64,3]", &inputs, [4 * n, 6 * n], |x| {
        photometric_loss(&x[0], &target, &mask, Some(&x[1]), 1)
    });
    let state = || [Tensor::full([1 << 24], 0.5)];
    let (mut parameters, gradients, mut first, mut second) = (state(), state(), state(), state());
    let step = AdamStep::default();
    let adam =
        median(|| step.apply(&mut parameters, &gradients, &mut first, &mut second).expect("the lists fit"));
    row("Adam, 16.8 M parameters", 7 << 24, adam);
}
