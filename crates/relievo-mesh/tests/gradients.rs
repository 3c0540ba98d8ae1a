//! Every gradient against differences of the exact image, and what must hold for any of them.

use relievo_mesh::{
    Agreement, Appearance, Camera, CheckOptions, DepthMean, Faces, Gradient, Lens, Lights, Mesh, Object,
    Outputs, Rendered, Renderer, Scene, check_gradient, shapes,
};
use relievo_tensor::ops::{ConcatAxis, concat, reshape, weighted_elements_sum};
use relievo_tensor::testing::{Tolerance, assert_gradients, distance, random_tensor};
use relievo_tensor::{Result, Tape, Tensor};

fn object(mesh: &Mesh) -> Object {
    let vertices = Tensor::new(mesh.vertices.as_flattened(), [mesh.vertices.len(), 3]).unwrap();
    Object { vertices, faces: Faces::new(mesh.faces.clone()), appearance: Appearance::White }
}

/// A lumpy sphere of 80 faces that fills most of the image, turned so that no edge is parallel to an axis.
fn lumpy(seed: u64) -> Object {
    let mut sphere = shapes::lumpy_sphere(1, 0.3, seed);
    for vertex in &mut sphere.vertices {
        let [x, y, z] = *vertex;
        let (sine, cosine) = (0.3 + seed as f32).sin_cos();
        *vertex = [0.6 * (cosine * x - sine * z) + 0.05, 0.6 * (y + 0.2 * x), 0.6 * (sine * x + cosine * z)];
    }
    object(&sphere)
}

/// A colour for each face.
fn colour_per_face(object: Object) -> Object {
    let faces = object.faces.len();
    let colours = random_tensor(5, [faces, 3]);
    let mut cubes = Vec::with_capacity(faces * 24);
    for colour in colours.data().as_chunks::<3>().0 {
        (0..8).for_each(|_| cubes.extend(colour.map(|c| 0.5 + 0.5 * c)));
    }
    let cubes = Tensor::new(&cubes, [faces, 2, 2, 2, 3]).unwrap();
    Object { appearance: Appearance::Cubes(cubes), ..object }
}

/// Smooth weights of an image: a sum of a few waves.
fn smooth(seed: u64, [width, height]: [usize; 2], channels: usize) -> Vec<f32> {
    let waves = random_tensor(seed, [5 * channels, 4]);
    let mut weights = Vec::with_capacity(width * height * channels);
    for pixel in 0..width * height {
        let (x, y) = ((pixel % width) as f32 / width as f32, (pixel / width) as f32 / height as f32);
        for waves in waves.data().as_chunks::<4>().0.chunks_exact(5) {
            let wave = |[a, b, phase, strength]: &[f32; 4]| {
                strength * (10.0 * a * x + 10.0 * b * y + 3.0 * phase).sin()
            };
            weights.push(waves.iter().map(wave).sum());
        }
    }
    weights
}

fn weighted(images: &Rendered, size: [usize; 2]) -> Result<Tensor> {
    let Rendered { alpha, colour, depth, .. } = images;
    let image = [alpha, colour, depth].into_iter().flatten().next().expect("an image");
    let channels = image.numel() / size[0] / size[1];
    weighted_elements_sum(image, &smooth(11, size, channels))
}

fn camera() -> Camera {
    Camera { lens: Lens::Orthographic, ..Camera::default() }
}

fn agreement(gradient: Gradient, object: Object, outputs: Outputs, options: CheckOptions) -> Agreement {
    let renderer = Renderer { gradient, ..Renderer::new(64, 64) };
    let scene = Scene { lights: Lights::none(), ..Scene::new(object, camera()) };
    check_gradient(&renderer, &scene, outputs, options, |images| weighted(images, [64, 64])).unwrap()
}

/// Of shapes without a face that is seen edge-on: such a face turns over within the step of the differences.
const SHAPES: std::ops::RangeInclusive<u64> = 3..=5;

#[test]
fn edges_are_the_derivative_of_the_exact_image() {
    for seed in SHAPES {
        // Colour takes longer.
        let fewer = CheckOptions { supersampling: 16, vertices: 21, ..CheckOptions::default() };
        let silhouette =
            agreement(Gradient::EDGES, lumpy(seed), Outputs::SILHOUETTE, CheckOptions::default());
        let colour = agreement(Gradient::EDGES, colour_per_face(lumpy(seed)), Outputs::COLOUR, fewer);
        for (what, Agreement { cosine, length_ratio, .. }) in [("silhouette", silhouette), ("colour", colour)]
        {
            assert!(cosine >= 0.998, "{what} {seed}: cosine {cosine}");
            assert!((length_ratio - 1.0).abs() < 0.02, "{what} {seed}: length {length_ratio}");
        }
    }
}

/// Triangles that hide each other, none of them on top of a sample or near it.
fn triangles() -> Object {
    let places = [
        [-0.73, -0.61, 0.1],
        [0.67, -0.43, 0.0],
        [-0.11, 0.71, -0.2],
        [-0.37, -0.83, 0.3],
        [0.79, 0.23, 0.4],
        [-0.53, 0.41, -0.1],
    ];
    let faces = vec![[0, 1, 2], [3, 4, 5]];
    let colours = [[0.9, 0.2, 0.1], [0.1, 0.8, 0.3]].map(|colour: [f32; 3]| [colour; 8]);
    let cubes = Tensor::new(colours.as_flattened().as_flattened(), [2, 2, 2, 2, 3]).unwrap();
    Object { appearance: Appearance::Cubes(cubes), ..object(&Mesh::new(places.to_vec(), faces)) }
}

/// The images that change with the gradient have exact derivatives of their own.
#[test]
fn soft_and_antialiased_images_have_their_own_derivatives() {
    let soft = [0.3, 2.0].map(|sigma| Gradient::Soft { sigma });
    for gradient in soft.into_iter().chain([Gradient::Antialias]) {
        for anti_aliasing in [false, true] {
            let background = Tensor::new(&[0.3, 0.4, 0.9], [3]).unwrap();
            let renderer = Renderer { gradient, anti_aliasing, background, ..Renderer::new(12, 9) };
            let image = |x: &[Tensor]| {
                let object = Object { vertices: x[0].clone(), ..triangles() };
                let scene = Scene { lights: Lights::none(), ..Scene::new(object, Camera::default()) };
                let Rendered { alpha, colour, .. } = renderer.render(&[scene], Outputs::RGBA)?;
                let [alpha, colour] = [alpha, colour].map(|image| image.expect("it was asked for"));
                concat(&reshape(&alpha, [1, 108])?, &reshape(&colour, [3, 108])?, ConcatAxis::Batch)
            };
            let step = if gradient == Gradient::Antialias { 1.0 / 2048.0 } else { 1.0 / 1024.0 };
            let tolerance = Tolerance { norm: 5e-3, element: 1e-2 };
            println!("{gradient:?} {anti_aliasing}");
            assert_gradients(&[triangles().vertices], step, tolerance, image);
        }
    }
}

/// A wedge on the floor, whose broad end is behind the camera: both of its long edges are cut.
#[test]
fn every_gradient_goes_through_the_cut() {
    let corners = [[-3.0, -1.0, -6.0], [3.0, -1.0, -6.0], [0.5, -1.0, 10.0]];
    let floor = Mesh::new(corners.to_vec(), vec![[0, 1, 2]]);
    let camera = Camera {
        lens: Lens::Perspective { half_angle: Tensor::scalar(45.0) },
        ..Camera::looking_at_origin(Tensor::new(&[0.0, 0.0, -2.0], [3]).unwrap())
    };
    let scene = Scene::new(object(&floor), camera);
    let sampled = Gradient::EdgesSampled { per_edge: 400, seed: 3 };
    for gradient in
        [Gradient::EDGES, sampled, Gradient::Kato, Gradient::Antialias, Gradient::Soft { sigma: 0.5 }]
    {
        let renderer = Renderer { gradient, ..Renderer::new(40, 32) };
        let loss = |images: &Rendered| weighted(images, [40, 32]);
        let Agreement { cosine, gradients, .. } =
            check_gradient(&renderer, &scene, Outputs::SILHOUETTE, CheckOptions::default(), loss).unwrap();
        let of_corners = gradients[0].data().as_chunks::<3>().0;
        assert!(of_corners.iter().all(|g| g.iter().all(|x| x.is_finite() && *x != 0.0)), "{gradient:?}");
        let least = match gradient {
            Gradient::Edges { .. } => 0.998,
            Gradient::Kato => 0.3,
            _ => 0.95,
        };
        println!("{gradient:?}: {cosine}");
        assert!(cosine >= least, "{gradient:?}: cosine {cosine}");
    }
}

/// Depth jumps at silhouettes: by how much depends on what an uncovered sample counts for.
#[test]
fn edges_are_the_derivative_of_depth() {
    for depth_mean in [DepthMean::All, DepthMean::Covered { background: 2.0 }] {
        let renderer = Renderer { gradient: Gradient::EDGES, depth_mean, far: 5.0, ..Renderer::new(64, 64) };
        let scene = Scene::new(lumpy(4), camera());
        // Where hardly anything is covered the mean of what is covered jumps.
        let loss = |images: &Rendered| {
            let [alpha, depth] = [&images.alpha, &images.depth].map(|image| image.as_ref().unwrap());
            let shares = alpha.data().iter().map(|alpha| f32::from(*alpha > 0.4));
            let weights: Vec<f32> = smooth(11, [64, 64], 1).iter().zip(shares).map(|(w, s)| w * s).collect();
            weighted_elements_sum(depth, &weights)
        };
        let options = CheckOptions { supersampling: 16, ..CheckOptions::default() };
        let outputs = Outputs { alpha: true, ..Outputs::DEPTH };
        let Agreement { cosine, length_ratio, .. } =
            check_gradient(&renderer, &scene, outputs, options, loss).unwrap();
        println!("{depth_mean:?}: {cosine} {length_ratio}");
        assert!(cosine >= 0.998, "{depth_mean:?}: cosine {cosine}");
    }
}

/// The estimate scatters about the integral, and less with more points.
#[test]
fn sampled_edges_tend_to_the_integral() {
    let gradient = |gradient: Gradient| {
        let tape = Tape::new();
        let mut object = colour_per_face(lumpy(3));
        object.vertices = tape.watch(&object.vertices);
        let vertices = object.vertices.clone();
        let renderer = Renderer { gradient, ..Renderer::new(64, 64) };
        let images = renderer.render(&[Scene::new(object, camera())], Outputs::RGBA).unwrap();
        let loss = weighted(&images, [64, 64]).unwrap();
        tape.backward(&loss).unwrap().get(&vertices).unwrap().clone()
    };
    let exact = gradient(Gradient::Edges { midpoints: 4 });
    let right: Vec<f64> = exact.data().iter().map(|x| f64::from(*x)).collect();
    let off = |per_edge, seed| distance(gradient(Gradient::EdgesSampled { per_edge, seed }).data(), &right);
    let [few, other, many] = [off(4, 1), off(4, 2), off(256, 1)];
    println!("{few} {other} {many}");
    assert!(many < 0.02 && few > 2.0 * many && few != other, "{few} {other} {many}");
}

/// A square of two colours beside each other, of one mesh and of two that share nothing: moving the seam is the same.
#[test]
fn seams_do_not_tear_surfaces() {
    let [a, b, c, d] = [[-0.5, -0.4, 0.0], [0.1, -0.6, 0.0], [0.6, 0.5, 0.0], [-0.2, 0.7, 0.0]];
    let whole = object(&Mesh::new(vec![a, b, c, d], vec![[0, 1, 2], [0, 2, 3]]));
    let apart = object(&Mesh::new(vec![a, b, c, a, c, d], vec![[0, 1, 2], [3, 4, 5]]));
    let gradient = |gradient: Gradient, object: &Object, copies: [&[usize]; 4]| -> Vec<f32> {
        let tape = Tape::new();
        let mut object = colour_per_face(object.clone());
        object.vertices = tape.watch(&object.vertices);
        let vertices = object.vertices.clone();
        let renderer = Renderer { gradient, ..Renderer::new(20, 20) };
        let scene = Scene { lights: Lights::none(), ..Scene::new(object, camera()) };
        let images = renderer.render(&[scene], Outputs { colour: true, ..Outputs::NONE }).unwrap();
        let gradients = tape.backward(&weighted(&images, [20, 20]).unwrap()).unwrap();
        let found = gradients.get(&vertices).unwrap().data();
        // Of copies of a vertex the sum.
        let of = |copies: &[usize], axis: usize| copies.iter().map(|copy| found[3 * copy + axis]).sum();
        copies.iter().flat_map(|copies| (0..3).map(move |axis| of(copies, axis))).collect()
    };
    for kind in [Gradient::EDGES, Gradient::Antialias] {
        let one = gradient(kind, &whole, [&[0], &[1], &[2], &[3]]);
        let two = gradient(kind, &apart, [&[0, 3], &[1], &[2, 4], &[5]]);
        assert!(one.iter().any(|g| *g != 0.0));
        for (one, two) in one.iter().zip(two) {
            assert!((one - two).abs() < 1e-4, "{kind:?}: {one} {two}");
        }
    }
}

#[test]
fn impossible_settings_are_refused() {
    let message = |gradient: Gradient| {
        let renderer = Renderer { gradient, ..Renderer::new(4, 4) };
        renderer.render(&[Scene::new(lumpy(1), camera())], Outputs::RGBA).unwrap_err().to_string()
    };
    assert!(message(Gradient::Edges { midpoints: 0 }).contains("at least one midpoint"));
    assert!(message(Gradient::EdgesSampled { per_edge: 0, seed: 0 }).contains("at least one point"));
    for sigma in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(message(Gradient::Soft { sigma }).contains("sigma must be above 0"));
    }
    let check = |options: CheckOptions, outputs: Outputs| {
        let scene = Scene::new(lumpy(1), camera());
        let error =
            check_gradient(&Renderer::new(4, 4), &scene, outputs, options, |_| Ok(Tensor::zeros([1])));
        error.unwrap_err().to_string()
    };
    let options = CheckOptions::default();
    assert!(check(CheckOptions { supersampling: 0, ..options }, Outputs::RGBA).contains("supersampling"));
    assert!(check(CheckOptions { step: f32::NAN, ..options }, Outputs::RGBA).contains("step"));
    assert!(check(options, Outputs { faces: true, ..Outputs::RGBA }).contains("only alpha, colour"));
    assert!(check(options, Outputs::NONE).contains("at least one"));
}
