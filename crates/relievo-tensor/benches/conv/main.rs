//! Times the convolutions of the networks, plain (im2col and the `gemm` crate) against fast.
//!
//! `cargo bench -p relievo-tensor --features plain-convolution --bench conv [-- BATCH..] [FILTER..]`: a table with, for
//! each layer whose name contains a filter and for each batch (1 and 16 if none is named), milliseconds and GFLOP/s of
//! the textbook's operations for forward, input gradient and weight gradient. The fastest of several runs.

mod layers;

use std::time::{Duration, Instant};

use layers::{LAYERS, Layer};
use relievo_tensor::ops::conv2d::{Conv2dGeometry, Epilogue, cpu, plain};

/// Wall-clock time of the fastest run, in seconds.
fn fastest(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut best = f64::INFINITY;
    for round in 0.. {
        let before = Instant::now();
        run();
        best = best.min(before.elapsed().as_secs_f64());
        if round >= 2 && start.elapsed() > Duration::from_millis(100) {
            break;
        }
    }
    best
}

fn geometry(layer: &Layer, batch: usize) -> Result<Conv2dGeometry, relievo_tensor::Error> {
    let Layer { size, in_c, out_c, kernel, stride, padding, .. } = *layer;
    Conv2dGeometry::new([batch, size, size, in_c], [out_c, kernel, kernel, in_c], stride, padding)
}

fn main() -> Result<(), relievo_tensor::Error> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let mut batches: Vec<usize> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    if batches.is_empty() {
        batches = vec![1, 16];
    }
    let filters: Vec<&String> = arguments.iter().filter(|a| a.parse::<usize>().is_err()).collect();
    println!(
        "{:?}, {} threads",
        cpu::Level::best(),
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    for batch in batches {
        println!("\nbatch {batch}: ms (GFLOP/s), plain > fast");
        println!("{:40} {:>32} {:>32} {:>32}", "layer", "forward", "input gradient", "weight gradient");
        let mut totals = [[0.0; 2]; 3];
        for layer in LAYERS {
            let g = geometry(layer, batch)?;
            let name = format!(
                "{} {}->{} @{}",
                layer.name,
                if layer.transposed { g.out_c } else { g.in_c },
                if layer.transposed { g.in_c } else { g.out_c },
                g.in_h,
            );
            if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
                continue;
            }
            let noise = |len: usize| -> Vec<f32> {
                (0..len).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 504.0).collect()
            };
            let (x, w, dy) = (noise(g.x_elements()), noise(g.w_elements()), noise(g.y_elements()));
            let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
            let y_of = |y: &mut [f32], fast: bool| {
                fastest(|| match fast {
                    false => plain::forward(&g, &x, &w, y),
                    true => cpu::forward(&g, &x, &w, y, Epilogue::NONE),
                })
            };
            let dx_of = |dx: &mut [f32], fast: bool| {
                fastest(|| match fast {
                    false => plain::input_gradient(&g, &dy, &w, dx),
                    true => cpu::input_gradient(&g, &dy, &w, dx, Epilogue::NONE),
                })
            };
            let dw_of = |dw: &mut [f32], fast: bool| {
                fastest(|| match fast {
                    false => plain::weight_gradient(&g, &x, &dy, dw),
                    true => cpu::weight_gradient(&g, &x, &dy, dw),
                })
            };
            let (y_ms, dx_ms) =
                ([y_of(&mut y, false), y_of(&mut y, true)], [dx_of(&mut dx, false), dx_of(&mut dx, true)]);
            let dw_ms = [dw_of(&mut dw, false), dw_of(&mut dw, true)];
            let columns = if layer.transposed { [dx_ms, y_ms, dw_ms] } else { [y_ms, dx_ms, dw_ms] };
            print!("{name:40}");
            for (column, total) in columns.iter().zip(&mut totals) {
                let rate = |seconds: f64| g.flops() / seconds / 1e9;
                let text = format!(
                    "{:.3} ({:.0}) > {:.3} ({:.0})",
                    column[0] * 1e3,
                    rate(column[0]),
                    column[1] * 1e3,
                    rate(column[1])
                );
                print!(" {text:>32}");
                total[0] += column[0] * 1e3;
                total[1] += column[1] * 1e3;
            }
            println!();
        }
        print!("{:40}", "all of these");
        for total in totals {
            print!(" {:>32}", format!("{:.2} > {:.2}", total[0], total[1]));
        }
        println!();
    }
    Ok(())
}
