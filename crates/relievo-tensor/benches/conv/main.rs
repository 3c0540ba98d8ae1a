//! Times the convolutions of the networks on the CPU.
//!
//! `cargo bench -p relievo-tensor --bench conv [-- BATCH..] [FILTER..]`: a table with, for each layer whose name contains
//! a filter and for each batch (1 and 16 if none is named), milliseconds and GFLOP/s of the textbook's operations for
//! forward, input gradient and weight gradient. The fastest of several runs.

mod layers;

use std::time::{Duration, Instant};

use layers::{LAYERS, Layer};
use relievo_tensor::SimdLevel;
use relievo_tensor::ops::Conv2dGeometry;
use relievo_tensor::testing::conv2d;

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
        SimdLevel::best(),
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    for batch in batches {
        println!("\nbatch {batch}: ms (GFLOP/s)");
        println!("{:40} {:>18} {:>18} {:>18}", "layer", "forward", "input gradient", "weight gradient");
        let mut totals = [0.0; 3];
        for layer in LAYERS {
            let g = geometry(layer, batch)?;
            let name = format!(
                "{} {}->{} @{}",
                layer.name,
                if layer.transposed { g.out_c() } else { g.in_c() },
                if layer.transposed { g.in_c() } else { g.out_c() },
                g.in_h(),
            );
            if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
                continue;
            }
            let noise = |len: usize| -> Vec<f32> {
                (0..len).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 504.0).collect()
            };
            let (x, w, dy) = (noise(g.x_elements()), noise(g.w_elements()), noise(g.y_elements()));
            let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
            let y_seconds = fastest(|| conv2d::forward(&g, &x, &w, &mut y));
            let dx_seconds = fastest(|| conv2d::input_gradient(&g, &dy, &w, &mut dx));
            let dw_seconds = fastest(|| conv2d::weight_gradient(&g, &x, &dy, &mut dw));
            let columns = if layer.transposed {
                [dx_seconds, y_seconds, dw_seconds]
            } else {
                [y_seconds, dx_seconds, dw_seconds]
            };
            print!("{name:40}");
            for (seconds, total) in columns.iter().zip(&mut totals) {
                let text = format!("{:.3} ({:.0})", seconds * 1e3, g.flops() / seconds / 1e9);
                print!(" {text:>18}");
                *total += seconds * 1e3;
            }
            println!();
        }
        print!("{:40}", "all of these");
        for total in totals {
            print!(" {total:>18.2}");
        }
        println!();
    }
    Ok(())
}
