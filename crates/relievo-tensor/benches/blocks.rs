//! Times the layers of a MobileNetV2 that looks for faces, the inverted residual blocks foremost:
//! `cargo bench -p relievo-tensor --bench blocks [-- WIDTH HEIGHT]` (384 and 256 if none are named).
//!
//! Each row is the fastest of several runs on all threads of the pool (RAYON_NUM_THREADS), with GFLOP/s of the textbook's
//! operations, a multiplication and an addition each.

use std::hint::black_box;
use std::time::{Duration, Instant};

use relievo_tensor::ops::{
    Activation, ConvParams, InvertedResidual, InvertedResidualLayers, conv_transpose2d, conv2d,
};
use relievo_tensor::testing::random_tensor;
use relievo_tensor::{Result, SimdLevel};

/// Blocks: channels in, channels out, expansion, stride, and how many alike follow each other. The first has the stem,
/// a convolution of 3x3 with a stride of 2, in place of one of 1x1.
const BLOCKS: [[usize; 5]; 12] = [
    [3, 16, 0, 1, 1],
    [16, 24, 6, 2, 1],
    [24, 24, 6, 1, 1],
    [24, 32, 6, 2, 1],
    [32, 32, 6, 1, 2],
    [32, 64, 6, 2, 1],
    [64, 64, 6, 1, 3],
    [64, 96, 6, 1, 1],
    [96, 96, 6, 1, 2],
    [96, 160, 6, 2, 1],
    [160, 160, 6, 1, 2],
    [160, 320, 6, 1, 1],
];

/// Hidden channels of the first block.
const STEM: usize = 32;

/// Convolutions: pixels of the image to one of their input, channels in, out, kernel, stride; and whether transposed.
const LAYERS: [(&str, usize, [usize; 4], bool); 8] = [
    ("top", 32, [320, 24, 1, 1], false),
    ("up", 32, [24, 24, 2, 2], true),
    ("lateral", 16, [96, 24, 1, 1], false),
    ("lateral", 8, [32, 24, 1, 1], false),
    ("up", 8, [24, 24, 2, 2], true),
    ("lateral", 4, [24, 24, 1, 1], false),
    ("neck", 4, [24, 24, 3, 1], false),
    ("heads", 4, [24, 15, 1, 1], false),
];

/// The time of the fastest run, in seconds.
fn fastest(mut run: impl FnMut()) -> f64 {
    run();
    let (begin, mut best, mut count) = (Instant::now(), f64::INFINITY, 0);
    while count < 5 || begin.elapsed() < Duration::from_millis(300) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
        count += 1;
    }
    best
}

fn row(what: &str, products: usize, seconds: f64) {
    println!("{what:<44} {:>8.3} ms {:>8.1} GFLOP/s", seconds * 1e3, products as f64 * 2e-9 / seconds);
}

fn main() -> Result<()> {
    let extents: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let [width, height] = if let [width, height] = extents[..] { [width, height] } else { [384, 256] };
    println!("{:?}, {} threads, {width}x{height}", SimdLevel::best(), rayon::current_num_threads());
    let (mut total, mut all_products) = (0.0, 0);
    let mut shrunk = 1;
    for [inputs, outputs, expansion, stride, count] in BLOCKS {
        let is_first = expansion == 0;
        let hidden = if is_first { STEM } else { inputs * expansion };
        let kernel = if is_first { 3 } else { 1 };
        let [rows, columns] = [height, width].map(|extent| extent / shrunk);
        let x = random_tensor(1, [1, rows, columns, inputs]);
        let expand = [random_tensor(2, [hidden, kernel, kernel, inputs]), random_tensor(3, [hidden])];
        let depthwise = [random_tensor(4, [3, 3, hidden]), random_tensor(5, [hidden])];
        let project = [random_tensor(6, [outputs, 1, 1, hidden]), random_tensor(7, [outputs])];
        let layers = InvertedResidualLayers {
            expand: expand.each_ref(),
            depthwise: depthwise.each_ref(),
            project: project.each_ref(),
        };
        let block = InvertedResidual::new(layers, stride)?;
        let seconds = fastest(|| {
            black_box(block.forward(&x)).expect("the shapes fit");
        });
        let expanded = if is_first { rows * columns / 4 } else { rows * columns };
        shrunk *= if is_first { 2 } else { stride };
        let after = expanded / stride / stride;
        let products = expanded * kernel * kernel * inputs * hidden + after * hidden * (9 + outputs);
        total += seconds * count as f64;
        all_products += products * count;
        row(
            &format!("block {inputs} to {outputs}, {columns}x{rows} / {stride}, {count} times"),
            products,
            seconds,
        );
    }
    for (name, shrunk, [inputs, outputs, kernel, stride], transposed) in LAYERS {
        let [rows, columns] = [height, width].map(|extent| extent / shrunk);
        let x = random_tensor(1, [1, rows, columns, inputs]);
        let bias = random_tensor(3, [outputs]);
        let (seconds, products);
        if transposed {
            let weight = random_tensor(2, [inputs, kernel, kernel, outputs]);
            let params = ConvParams::new(stride, 0, Activation::Relu);
            seconds = fastest(|| {
                black_box(conv_transpose2d(&x, &weight, Some(&bias), params)).expect("the shapes fit");
            });
            products = rows * columns * inputs * outputs * kernel * kernel;
        } else {
            let weight = random_tensor(2, [outputs, kernel, kernel, inputs]);
            let params = ConvParams::new(stride, kernel / 2, Activation::Relu);
            seconds = fastest(|| {
                black_box(conv2d(&x, &weight, Some(&bias), params)).expect("the shapes fit");
            });
            products = rows * columns / stride / stride * inputs * outputs * kernel * kernel;
        }
        total += seconds;
        all_products += products;
        row(
            &format!("{name} {inputs} to {outputs}, {kernel}x{kernel}, {columns}x{rows} / {stride}"),
            products,
            seconds,
        );
    }
    row("all", all_products, total);
    Ok(())
}
