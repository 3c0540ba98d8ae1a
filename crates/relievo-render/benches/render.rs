//! Times every operation of the renderer, forward and backward, on all cores of the machine.
//!
//! `cargo bench -p relievo-render [-- WORD]` prints a table (only the rows whose name contains WORD): milliseconds,
//! the median of the repetitions that fit into about 0.3 s. Forward is timed while it is recorded, as in training.

use std::time::{Duration, Instant};

use relievo_render::{
    Camera, DepthRange, DepthSettings, Doubling, LightRange, RasterSettings, Scene, canonical_depth,
    diffuse_shading, light_from_raw, move_surface, rasterise_depth, sampling_grid, shade,
};
use relievo_tensor::{Result, Tape, Tensor};

const RANGE: DepthRange = DepthRange { min: 0.9, max: 1.1 };

type Chain = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;
type Row = (&'static str, Vec<Tensor>, Chain);

fn row(name: &'static str, inputs: &[&Tensor], chain: impl Fn(&[Tensor]) -> Result<Tensor> + 'static) -> Row {
    (name, inputs.iter().map(|&input| input.clone()).collect(), Box::new(chain))
}

/// A dome in front of a plane, with some relief.
fn depth(batch: usize, size: usize) -> Result<Tensor> {
    let of_pixel = |i: usize| {
        let place = |i: usize| 2.0 * i as f32 / (size as f32 - 1.0) - 1.0;
        let (x, y) = (place(i % size), place(i / size % size));
        let dome = (0.7 - x * x - y * y).max(0.0) * 0.15;
        1.04 - dome - 0.01 * (7.0 * x).sin() * (9.0 * y + (i / size / size) as f32).cos()
    };
    Tensor::new(&(0..batch * size * size).map(of_pixel).collect::<Vec<_>>(), [batch, size, size])
}

/// Turned by up to half a radian about x and y.
fn views(batch: usize) -> Result<Tensor> {
    let of_number = |i: usize| match i % 6 {
        0 | 1 => 0.5 * (i as f32 * 2.4).sin(),
        2 => 0.1 * (i as f32).sin(),
        _ => 0.03 * (i as f32 * 1.7).cos(),
    };
    Tensor::new(&(0..batch * 6).map(of_number).collect::<Vec<_>>(), [batch, 6])
}

/// Name, inputs and operation of every row.
fn rows(batch: usize, size: usize) -> Result<Vec<Row>> {
    let camera = Camera::new(size);
    let settings = RasterSettings::default();
    let (depth, views) = (depth(batch, size)?, views(batch)?);
    let raw = Tensor::full([batch, 4], 0.2);
    let light = light_from_raw(&raw, LightRange::default())?;
    let [_, diffuse] = diffuse_shading(&depth, &light, camera)?;
    let albedo = Tensor::full([batch, size, size, 3], 0.3);
    let moved = move_surface(&depth, &views, camera)?;
    let shape = DepthSettings { range: RANGE, dome: 0.7, border_depth: 1.04, doubling: Doubling::Single };
    let limits @ [_, far] = RANGE.widened();
    Ok(vec![
        row("canonical_depth", &[&depth], move |x| Ok(canonical_depth(&x[0], shape)?[1].clone())),
        row("diffuse_shading", &[&depth, &light], move |x| {
            Ok(diffuse_shading(&x[0], &x[1], camera)?[1].clone())
        }),
        row("shade", &[&albedo, &diffuse, &light], |x| shade(&x[0], &x[1], &x[2])),
        row("move_surface", &[&depth, &views], move |x| move_surface(&x[0], &x[1], camera)),
        row("rasterise_depth", &[&moved], move |x| rasterise_depth(&x[0], camera, settings, limits)),
        row("sampling_grid", &[&depth, &views], move |x| {
            Ok(sampling_grid(&x[0], &x[1], camera, far, 1)?[0].clone())
        }),
        row("canonical image", &[&depth, &raw, &albedo], move |x| {
            let [_, canonical] = canonical_depth(&x[0], shape)?;
            let light = light_from_raw(&x[1], LightRange::default())?;
            let [_, diffuse] = diffuse_shading(&canonical, &light, camera)?;
            shade(&x[2], &diffuse, &light)
        }),
        row("reconstruction", &[&albedo, &depth, &views], move |x| {
            let scene = Scene { camera, depth_range: RANGE, raster: settings };
            Ok(scene.reconstruct(&x[0], &x[1], &x[2], 1)?.image)
        }),
    ])
}

/// Median milliseconds of forward and backward.
fn time(inputs: &[Tensor], chain: &Chain) -> Result<[f64; 2]> {
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while forward.len() < 5 || (start.elapsed() < Duration::from_millis(300) && forward.len() < 500) {
        let tape = Tape::new();
        let watched: Vec<Tensor> = inputs.iter().map(|input| tape.watch(input)).collect();
        let began = Instant::now();
        let result = chain(&watched)?;
        forward.push(began.elapsed());
        let seed = Tensor::full(result.shape(), 1.0);
        let began = Instant::now();
        tape.backward_from(&[(&result, seed)])?;
        backward.push(began.elapsed());
    }
    Ok([forward, backward].map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    }))
}

fn main() -> Result<()> {
    let word = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!("{} threads; ms, forward / backward", rayon::current_num_threads());
    for size in [64, 128] {
        let batches = [1, 16, 32];
        println!("\n| {size}x{size} | batch 1 | batch 16 | batch 32 |\n|---|---|---|---|");
        let tables = batches.map(|batch| rows(batch, size));
        let [one, sixteen, thirty_two] = tables;
        for ((a, b), c) in one?.iter().zip(&sixteen?).zip(&thirty_two?) {
            if !a.0.contains(&word) {
                continue;
            }
            let mut cells = String::new();
            for (_, inputs, chain) in [a, b, c] {
                let [forward, backward] = time(inputs, chain)?;
                cells += &format!(" {forward:.2} / {backward:.2} |");
            }
            println!("| {} |{cells}", a.0);
        }
    }
    Ok(())
}
