//! Compares the gradients: with differences of the exact image, and by how a sphere becomes a teapot with them.
//!
//! `cargo run --release -p relievo-mesh --example gradients [-- FIGURE.png]` prints the tables of docs/mesh.md and draws the
//! figure. One to two minutes on two cores.

use std::time::Instant;

use relievo_export::Chart;
use relievo_mesh::{
    Agreement, Appearance, Camera, CheckOptions, Faces, Gradient, Lens, Lights, Mesh, Object, Outputs,
    Rendered, Renderer, Scene, check_gradient, points_from_angles, shapes,
};
use relievo_tensor::ops::weighted_elements_sum;
use relievo_tensor::{Random, Result, Tape, Tensor};

/// Pixels along a side of the images.
const SIZE: usize = 64;

fn object(mesh: &Mesh) -> Result<Object> {
    let vertices = Tensor::new(mesh.vertices.as_flattened(), [mesh.vertices.len(), 3])?;
    Ok(Object { vertices, faces: Faces::new(mesh.faces.clone()), appearance: Appearance::White })
}

/// Lumpy spheres of 80 faces that fill most of the image.
fn lumpy_sphere(seed: u64) -> Mesh {
    let mut sphere = shapes::lumpy_sphere(1, 0.3, seed);
    let (sine, cosine) = (0.3 + seed as f32).sin_cos();
    for vertex in &mut sphere.vertices {
        let [x, y, z] = *vertex;
        *vertex = [0.6 * (cosine * x - sine * z) + 0.05, 0.6 * (y + 0.2 * x), 0.6 * (sine * x + cosine * z)];
    }
    sphere
}

/// A colour for each face.
fn colours(faces: usize) -> Result<Appearance> {
    let random = Random::new(5, 0);
    let colour = |face: usize| [0, 1, 2].map(|channel| random.uniform((3 * face + channel) as u64));
    let cubes: Vec<[[f32; 3]; 8]> = (0..faces).map(|face| [colour(face); 8]).collect();
    Ok(Appearance::Cubes(Tensor::new(cubes.as_flattened().as_flattened(), [faces, 2, 2, 2, 3])?))
}

/// Smooth weights of an image: a sum of a few waves for each channel.
fn smooth(channels: usize) -> Vec<f32> {
    let random = Random::new(11, 0);
    let number = |index: usize| 2.0 * random.uniform(index as u64) - 1.0;
    let mut weights = Vec::with_capacity(SIZE * SIZE * channels);
    for pixel in 0..SIZE * SIZE {
        let [x, y] = [pixel % SIZE, pixel / SIZE].map(|at| at as f32 / SIZE as f32);
        for channel in 0..channels {
            let wave = |wave: usize| {
                let [a, b, phase, strength] = [0, 1, 2, 3].map(|k| number((channel * 5 + wave) * 4 + k));
                strength * (10.0 * (a * x + b * y) + 3.0 * phase).sin()
            };
            weights.push((0..5).map(wave).sum());
        }
    }
    weights
}

/// Prints one row of the first table: cosine and length ratio for each shape.
fn compare(name: &str, gradient: Gradient, anti_aliasing: bool, coloured: bool) -> Result<()> {
    let mut row = format!("| {name} |");
    for seed in 3..=5 {
        let mut object = object(&lumpy_sphere(seed))?;
        let mut options = CheckOptions::default();
        if coloured {
            object.appearance = colours(object.faces.len())?;
            options.supersampling = 16;
        }
        let camera = Camera { lens: Lens::Orthographic, ..Camera::default() };
        let scene = Scene { lights: Lights::none(), ..Scene::new(object, camera) };
        let renderer = Renderer { gradient, anti_aliasing, ..Renderer::new(SIZE, SIZE) };
        let outputs = if coloured { Outputs::COLOUR } else { Outputs::SILHOUETTE };
        let loss = |images: &Rendered| {
            let image = images.alpha.as_ref().or(images.colour.as_ref()).expect("one was asked for");
            weighted_elements_sum(image, &smooth(if coloured { 3 } else { 1 }))
        };
        let Agreement { cosine, length_ratio, .. } =
            check_gradient(&renderer, &scene, outputs, options, loss)?;
        row += &format!(" {cosine:.4}; {length_ratio:.2} |");
    }
    println!("{row}");
    Ok(())
}

fn compare_all() -> Result<()> {
    println!("| silhouette | shape 1 | shape 2 | shape 3 |\n|---|---|---|---|");
    compare("`edges`, one midpoint", Gradient::EDGES, true, false)?;
    compare("`edges`, two", Gradient::Edges { midpoints: 2 }, true, false)?;
    compare("`edges-sampled`, 8 an edge", Gradient::EdgesSampled { per_edge: 8, seed: 1 }, true, false)?;
    compare("`antialias`", Gradient::Antialias, false, false)?;
    compare("`antialias`, 2x2 samples", Gradient::Antialias, true, false)?;
    for (sigma, published) in [(0.101, "1e-5"), (0.32, "1e-4"), (1.012, "1e-3")] {
        let name = format!("`soft`, sigma {sigma:.2} (SoftRas: {published})");
        compare(&name, Gradient::Soft { sigma }, false, false)?;
    }
    compare("`kato`", Gradient::Kato, true, false)?;
    println!("\n| colour constant per face | shape 1 | shape 2 | shape 3 |\n|---|---|---|---|");
    compare("`edges`, one midpoint", Gradient::EDGES, true, true)?;
    compare("`antialias`", Gradient::Antialias, false, true)?;
    compare("`soft`, sigma 0.32", Gradient::Soft { sigma: 0.32 }, false, true)?;
    compare("`kato`", Gradient::Kato, true, true)
}

/// `(1 + 10 L)^-1`, L the Laplacian of a mesh: with it in front of the vertices, whole parts move instead of single ones
/// (Nicolet, Jacobson, Jakob, *Large Steps in Inverse Rendering of Geometry*, 2021).
struct Smoother {
    neighbours: Vec<Vec<u32>>,
}

impl Smoother {
    fn new(mesh: &Mesh) -> Self {
        let mut neighbours = vec![Vec::new(); mesh.vertices.len()];
        for [a, b, c] in &mesh.faces {
            for (from, to) in [(a, b), (b, c), (c, a)] {
                // The other face of an edge has it the other way round.
                neighbours[*from as usize].push(*to);
            }
        }
        Self { neighbours }
    }

    fn undo(&self, x: &[f64]) -> Vec<f64> {
        let of_vertex = |(vertex, around): (usize, &Vec<u32>)| {
            let at = |vertex: usize, axis: usize| x[3 * vertex + axis];
            let sum = |axis: usize| around.iter().map(|other| at(*other as usize, axis)).sum::<f64>();
            [0, 1, 2]
                .map(|axis| at(vertex, axis) + 10.0 * (around.len() as f64 * at(vertex, axis) - sum(axis)))
        };
        self.neighbours.iter().enumerate().flat_map(of_vertex).collect()
    }

    /// By conjugate gradients.
    fn apply(&self, right: &[f64]) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (mut x, mut rest, mut way) = (vec![0.0; right.len()], right.to_vec(), right.to_vec());
        let first = dot(&rest, &rest);
        let mut square = first;
        while square > 1e-14 * first {
            let image = self.undo(&way);
            let step = square / dot(&way, &image);
            for i in 0..x.len() {
                x[i] += step * way[i];
                rest[i] -= step * image[i];
            }
            let next = dot(&rest, &rest);
            way.iter_mut().zip(&rest).for_each(|(way, rest)| *way = rest + next / square * *way);
            square = next;
        }
        x
    }
}

/// Steps of each run, and before the change from one gradient to another.
const STEPS: usize = 200;
const CHANGE: usize = 40;
const RATE: f64 = 0.05;

/// The sphere at first.
#[derive(Clone, Copy)]
struct Start {
    radius: f64,
    /// How far it is beside the teapot's middle.
    aside: f64,
}

/// The teapot from eight sides.
fn cameras() -> Result<Vec<Camera>> {
    let camera = |k: u8| {
        let [distance, elevation, azimuth] = [2.732, 20.0, 45.0 * f32::from(k)].map(Tensor::scalar);
        Ok(Camera::looking_at_origin(points_from_angles(&distance, &elevation, &azimuth)?))
    };
    (0..8).map(camera).collect()
}

fn silhouettes(renderer: &Renderer, object: &Object) -> Result<Tensor> {
    let scene = |camera| Scene::new(object.clone(), camera);
    let scenes: Vec<Scene> = cameras()?.into_iter().map(scene).collect();
    Ok(renderer.render(&scenes, Outputs::SILHOUETTE)?.alpha.expect("it was asked for"))
}

/// One less the intersection over union, of all views.
fn missed(image: &Tensor, target: &Tensor) -> f64 {
    let pairs = || image.data().iter().zip(target.data()).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    1.0 - pairs().map(|(a, b)| a * b).sum::<f64>() / pairs().map(|(a, b)| a + b - a * b).sum::<f64>()
}

/// Deforms a sphere by the squared distance of silhouettes, with Adam; the gradient of each step. What is missed after each
/// step, by the hard-edged image.
fn deform(target: &Tensor, start: Start, gradient: impl Fn(usize) -> Gradient) -> Result<Vec<f64>> {
    let sphere = shapes::icosphere(3);
    let smoother = Smoother::new(&sphere);
    let mut place = object(&sphere)?;
    let offset = [start.aside, 0.0, 0.0];
    let place_of = |vertex: &[f32; 3]| [0, 1, 2].map(|k| start.radius * f64::from(vertex[k]) + offset[k]);
    let start: Vec<f64> = sphere.vertices.iter().flat_map(place_of).collect();
    let mut hidden = smoother.undo(&start);
    let mut moments = vec![[0.0f64; 2]; hidden.len()];
    let (mut course, mut count) = (Vec::with_capacity(STEPS + 1), 0);
    for step in 0..=STEPS {
        let places: Vec<f32> = smoother.apply(&hidden).iter().map(|x| *x as f32).collect();
        let tape = Tape::new();
        place.vertices = tape.watch(&Tensor::new(&places, [sphere.vertices.len(), 3])?);
        let hard = Renderer::new(SIZE, SIZE);
        course.push(missed(&silhouettes(&hard, &place)?, target));
        let renderer = Renderer { gradient: gradient(step), ..hard };
        let image = silhouettes(&renderer, &place)?;
        let error: Vec<f32> = image.data().iter().zip(target.data()).map(|(a, b)| 2.0 * (a - b)).collect();
        let gradients = tape.backward_from(&[(&image, Tensor::new(&error, image.shape())?)])?;
        let found = gradients.get(&place.vertices).expect("the vertices are watched");
        let found: Vec<f64> = found.data().iter().map(|g| f64::from(*g)).collect();
        if step > 0 && gradient(step) != gradient(step - 1) {
            // The gradients differ in length: what Adam knows of one is wrong for the other.
            (count, moments) = (0, vec![[0.0; 2]; hidden.len()]);
        }
        count += 1;
        for ((x, g), [m, v]) in hidden.iter_mut().zip(smoother.apply(&found)).zip(&mut moments) {
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            let [m, v] = [*m / (1.0 - 0.9f64.powi(count)), *v / (1.0 - 0.999f64.powi(count))];
            *x -= RATE * m / (v.sqrt() + 1e-8);
        }
    }
    Ok(course)
}

/// Prints the course of all gradients from one start, and draws it.
fn converge(name: &str, start: Start, figure: Option<String>) -> Outcome {
    let mut teapot = shapes::teapot(6);
    teapot.normalise();
    let target = silhouettes(&Renderer::new(SIZE, SIZE), &object(&teapot)?)?;
    let steps = [0, 10, 20, 40, 60, 100, 200];
    println!(
        "\n| 1 - IoU, {name}, after steps |{} ms a step |",
        steps.map(|step| format!(" {step} |")).concat()
    );
    println!("|---|{}---|", "---|".repeat(steps.len()));
    let mut chart = Chart::new(format!("A teapot from eight silhouettes: {name}"), "step", "1 - IoU");
    let soft = Gradient::Soft { sigma: 1.0 };
    let runs = [
        ("kato", [Gradient::Kato; 2]),
        ("edges", [Gradient::EDGES; 2]),
        ("kato, then edges", [Gradient::Kato, Gradient::EDGES]),
        ("soft, then edges", [soft, Gradient::EDGES]),
        ("antialias", [Gradient::Antialias; 2]),
    ];
    for (name, [first, then]) in runs {
        let began = Instant::now();
        let course = deform(&target, start, |step| if step < CHANGE { first } else { then })?;
        let each = began.elapsed().as_secs_f64() * 1e3 / course.len() as f64;
        let cells = steps.map(|step| format!(" {:.4} |", course[step]));
        println!("| {name} |{} {each:.0} |", cells.concat());
        chart = chart.curve(name, course.iter().enumerate().map(|(step, missed)| [step as f64, *missed]));
    }
    if let Some(path) = figure {
        chart.draw(900, 560).write_png(path)?;
    }
    Ok(())
}

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    compare_all()?;
    converge("from a sphere as large", Start { radius: 0.6, aside: 0.0 }, std::env::args().nth(1))?;
    converge("from a small sphere beside it", Start { radius: 0.2, aside: 1.1 }, None)
}
