//! Times the mesh renderer, forward and backward, on all cores of the machine.
//!
//! `cargo bench -p relievo-mesh [-- WORD]` prints a table (only the rows whose name contains WORD): milliseconds, the
//! median of the repetitions that fit into about a second. The teapot of the reference tensors (2,464 faces, both sides),
//! from elevation 30, azimuth 30, 256x256 pixels of 2x2 samples. *fit*: the gradient of a squared distance to the view
//! from azimuth 0; *dense*: random numbers. Then spheres of more and more faces, larger images, and the other gradients.

use std::time::{Duration, Instant};

use relievo_check::golden::golden_sets;
use relievo_mesh::{
    Appearance, Camera, Faces, Gradient, Object, Outputs, Rendered, Renderer, Scene, points_from_angles,
    shapes,
};
use relievo_tensor::testing::random_tensor;
use relievo_tensor::{Result, Tape, Tensor};

type Failure = Box<dyn std::error::Error>;

fn camera(azimuth: f32) -> Result<Camera> {
    let [distance, elevation, azimuth] = [2.732, 30.0, azimuth].map(Tensor::scalar);
    Ok(Camera::looking_at_origin(points_from_angles(&distance, &elevation, &azimuth)?))
}

struct Task<'a> {
    name: String,
    renderer: Renderer,
    object: &'a Object,
    outputs: Outputs,
    /// From the image, what to differentiate.
    upstream: &'a dyn Fn(&Tensor) -> Result<Tensor>,
}

/// The one image that was asked for.
fn image(rendered: Rendered) -> Tensor {
    let Rendered { alpha, colour, depth, .. } = rendered;
    alpha.or(colour).or(depth).expect("an image was asked for")
}

/// Milliseconds of forward and backward: the medians, and the fastest.
fn time(task: &Task<'_>) -> Result<[[f64; 2]; 2]> {
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let first = image(task.renderer.render(&[Scene::new(task.object.clone(), camera(30.0)?)], task.outputs)?);
    let upstream = (task.upstream)(&first)?;
    while forward.len() < 5 || (start.elapsed() < Duration::from_secs(1) && forward.len() < 1000) {
        let tape = Tape::new();
        let mut object = task.object.clone();
        object.vertices = tape.watch(&object.vertices);
        if let Appearance::Cubes(cubes) = &mut object.appearance {
            *cubes = tape.watch(cubes);
        }
        let scenes = [Scene::new(object, camera(30.0)?)];
        let began = Instant::now();
        let image = image(task.renderer.render(&scenes, task.outputs)?);
        forward.push(began.elapsed());
        let seed = upstream.clone();
        let began = Instant::now();
        tape.backward_from(&[(&image, seed)])?;
        backward.push(began.elapsed());
    }
    Ok([forward, backward].map(|mut times| {
        times.sort();
        [times[times.len() / 2], times[0]].map(|time| time.as_secs_f64() * 1e3)
    }))
}

fn run() -> std::result::Result<(), Failure> {
    let word = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let sets = golden_sets("nmr")?;
    let set = sets.iter().find(|set| set.get("vertices").is_some()).ok_or("there is no file nmr*")?;
    let faces: Vec<[u32; 3]> =
        set.tensor("faces")?.values.as_chunks::<3>().0.iter().map(|face| face.map(|i| i as u32)).collect();
    let cubes = Tensor::new(&set.tensor("textures")?.values, [faces.len(), 2, 2, 2, 3])?;
    let teapot = Object {
        vertices: set.tensor("vertices")?.tensor(),
        faces: Faces::new(faces),
        appearance: Appearance::Cubes(cubes),
    };
    let renderer = Renderer::new(256, 256);
    let target = image(renderer.render(&[Scene::new(teapot.clone(), camera(0.0)?)], Outputs::SILHOUETTE)?);
    let fit = |image: &Tensor| {
        let difference: Vec<f32> =
            image.data().iter().zip(target.data()).map(|(a, b)| 2.0 * (a - b)).collect();
        Tensor::new(&difference, image.shape())
    };
    let dense = |image: &Tensor| Tensor::new(random_tensor(1, [image.numel()]).data(), image.shape());
    let spheres: Vec<Object> = [1, 3, 5, 7, 8]
        .map(shapes::icosphere)
        .iter()
        .map(|sphere| Object {
            vertices: Tensor::new(sphere.vertices.as_flattened(), [sphere.vertices.len(), 3])
                .expect("three numbers a vertex"),
            faces: Faces::new(sphere.faces.clone()),
            appearance: Appearance::White,
        })
        .collect();
    let task = |name: &str, object, outputs, upstream| Task {
        name: name.into(),
        renderer: renderer.clone(),
        object,
        outputs,
        upstream,
    };
    let mut tasks = vec![
        task("teapot, silhouette, fit", &teapot, Outputs::SILHOUETTE, &fit),
        task("teapot, silhouette, dense", &teapot, Outputs::SILHOUETTE, &dense),
        task("teapot, colour, dense", &teapot, Outputs::COLOUR, &dense),
        task("teapot, depth, dense", &teapot, Outputs::DEPTH, &dense),
    ];
    for sphere in &spheres {
        let name = format!("sphere of {} faces, silhouette, dense", sphere.faces.len());
        tasks.push(task(&name, sphere, Outputs::SILHOUETTE, &dense));
    }
    for side in [64, 512, 1024, 2048, 4096] {
        let name = format!("teapot, {side}x{side}, silhouette, dense");
        let renderer = Renderer::new(side, side);
        tasks.push(Task { renderer, ..task(&name, &teapot, Outputs::SILHOUETTE, &dense) });
    }
    for (gradient, what) in [
        (Gradient::EDGES, "edges"),
        (Gradient::Antialias, "antialias"),
        (Gradient::Soft { sigma: 1.0 }, "soft"),
    ] {
        for (object, of, outputs) in [
            (&teapot, "teapot".to_owned(), Outputs::SILHOUETTE),
            (&teapot, "teapot".to_owned(), Outputs::COLOUR),
            (&spheres[2], format!("sphere of {} faces", spheres[2].faces.len()), Outputs::SILHOUETTE),
            (&spheres[3], format!("sphere of {} faces", spheres[3].faces.len()), Outputs::SILHOUETTE),
            (&spheres[4], format!("sphere of {} faces", spheres[4].faces.len()), Outputs::SILHOUETTE),
        ] {
            let image = if outputs.colour { "colour" } else { "silhouette" };
            let name = format!("{of}, {image}, {what}");
            let renderer = Renderer { gradient, ..renderer.clone() };
            tasks.push(Task { renderer, ..task(&name, object, outputs, &dense) });
        }
    }
    println!("{} threads; ms (fastest), forward / backward / both\n", rayon::current_num_threads());
    for task in tasks.iter().filter(|task| task.name.contains(&word)) {
        let [forward, backward] = time(task)?;
        let both = [forward[0] + backward[0], forward[1] + backward[1]];
        let cells = [forward, backward, both].map(|[median, best]| format!(" {median:.2} ({best:.2}) |"));
        println!("| {} |{}", task.name, cells.concat());
    }
    Ok(())
}

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}
