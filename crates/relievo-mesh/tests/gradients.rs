//! Every gradient against differences of the exact image, and what must hold for any of them.

use relievo_mesh::{
    Agreement, Appearance, Camera, CheckOptions, Faces, Gradient, Lens, Lights, Mesh, Object, Outputs,
    Rendered, Renderer, Scene, check_gradient, shapes,
};
use relievo_tensor::testing::random_tensor;
use relievo_tensor::{Result, Tensor, ops::weighted_elements_sum};

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
