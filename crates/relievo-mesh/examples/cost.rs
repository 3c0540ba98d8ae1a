//! Measures what a silhouette and its gradient cost, against the number of faces and of pixels, and draws it.
//!
//!     cargo run --release -p relievo-mesh --example cost -- docs/mesh-cost.svg
//!
//! Spheres of 80 to 1,310,720 faces at 256x256 pixels; a sphere of 5,120 faces at 64x64 to 4,096x4,096. The upstream gradient
//! is random, without zeros. Medians of the repetitions that fit into half a second, at least three, after one that does not
//! count. Run it on an idle machine.

use std::error::Error;
use std::time::{Duration, Instant};

use plotters::prelude::*;
use relievo_mesh::{Appearance, Camera, Faces, Object, Outputs, Renderer, Scene, shapes};
use relievo_tensor::{Random, Tape, Tensor};

/// Milliseconds.
struct Cost {
    /// Faces, or pixels of a side.
    of: f64,
    forward: f64,
    both: f64,
}

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("a name is needed: cost FIGURE.svg")?;
    println!("{} threads", rayon::current_num_threads());
    let mut by_faces = Vec::new();
    for subdivisions in [1, 2, 3, 4, 5, 6, 7, 8] {
        by_faces.push(cost(subdivisions, 256, 20 * 4usize.pow(subdivisions))?);
    }
    let mut by_pixels = Vec::new();
    for side in [64, 128, 256, 512, 1024, 2048, 4096] {
        by_pixels.push(cost(4, side, side)?);
    }
    draw(&path, &by_faces, &by_pixels)
}

/// The cost of a sphere on an image of `side` times `side` pixels, listed under `of`.
fn cost(subdivisions: u32, side: usize, of: usize) -> Result<Cost, Box<dyn Error>> {
    let sphere = shapes::icosphere(subdivisions);
    let object = Object {
        vertices: Tensor::new(sphere.vertices.as_flattened(), [sphere.vertices.len(), 3])?,
        faces: Faces::new(sphere.faces),
        appearance: Appearance::White,
    };
    let renderer = Renderer::new(side, side);
    let random = Random::new(1, 0);
    let numbers: Vec<f32> = (0..side * side).map(|at| 2.0 * random.uniform(at as u64) - 1.0).collect();
    let upstream = Tensor::new(&numbers, [1, side, side])?;
    let (mut forward, mut both) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while forward.len() < 4 || start.elapsed() < Duration::from_millis(500) {
        let tape = Tape::new();
        let vertices = tape.watch(&object.vertices);
        let scene = Scene::new(Object { vertices, ..object.clone() }, Camera::default());
        let began = Instant::now();
        let alpha = renderer.render(&[scene], Outputs::SILHOUETTE)?.alpha.ok_or("no silhouette")?;
        forward.push(began.elapsed().as_secs_f64() * 1e3);
        tape.backward_from(&[(&alpha, upstream.clone())])?;
        both.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let [forward, both] = [forward, both].map(|mut times| {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!("{of:>8}: forward {forward:8.2} ms, both {both:8.2} ms");
    Ok(Cost { of: of as f64, forward, both })
}

/// A power of ten with commas between thousands.
fn grouped(x: &f64) -> String {
    let digits = format!("{}", x.round());
    let comma = |(index, digit): (usize, char)| {
        let left = digits.len() - index;
        [(index > 0 && left.is_multiple_of(3)).then_some(','), Some(digit)].into_iter().flatten()
    };
    if *x < 1.0 { format!("{x}") } else { digits.chars().enumerate().flat_map(comma).collect() }
}

/// Both curves side by side, in logarithmic axes.
fn draw(path: &str, by_faces: &[Cost], by_pixels: &[Cost]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (900, 340)).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(450);
    let panels = [
        (left, by_faces, "faces, at 256x256 pixels", 50.0..2e6),
        (right, by_pixels, "pixels of a side, 5,120 faces", 50.0..6000.0),
    ];
    for (area, costs, what, range) in panels {
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(52)
            .build_cartesian_2d(range.log_scale(), (0.1..2000.0).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .x_desc(what)
            .y_desc("milliseconds")
            .label_style(("sans-serif", 13))
            .x_label_formatter(&grouped)
            .y_label_formatter(&grouped)
            .draw()?;
        let curves =
            [("forward", RGBColor(0x1f, 0x77, 0xb4)), ("forward and backward", RGBColor(0xd6, 0x27, 0x28))];
        for (number, (name, colour)) in curves.into_iter().enumerate() {
            let points = || costs.iter().map(|cost| (cost.of, [cost.forward, cost.both][number]));
            chart
                .draw_series(LineSeries::new(points(), colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            chart.draw_series(points().map(|point| Circle::new(point, 3, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .label_font(("sans-serif", 13))
            .draw()?;
    }
    root.present()?;
    println!("{path}");
    Ok(())
}
