//! What must hold for any scene: batches equal single images, vertices land on their pixels, nothing panics, and every
//! number that comes out is one.

use proptest::prelude::*;
use relievo_mesh::{
    Appearance, BehindCamera, Camera, DepthMean, Faces, Gradient, Lens, Lights, Mesh, Object, Outputs,
    Rendered, Renderer, Scene, View, shapes,
};
use relievo_tensor::testing::{assert_independent_of_threads, random_tensor};
use relievo_tensor::{Tape, Tensor};

fn object(mesh: &Mesh) -> Object {
    let vertices = Tensor::new(mesh.vertices.as_flattened(), [mesh.vertices.len(), 3]).unwrap();
    Object { vertices, faces: Faces::new(mesh.faces.clone()), appearance: Appearance::White }
}

/// Coloured spheres of several sizes, scaled and moved.
fn objects(seed: u64, count: usize) -> Vec<Object> {
    let of = |i: usize| {
        let mut object = object(&shapes::icosphere(1 + i as u32 % 2));
        let number = |k: u64| random_tensor(seed + i as u64, [8]).data()[k as usize];
        let vertices = object.vertices.data_mut().as_chunks_mut::<3>().0;
        for vertex in vertices.iter_mut() {
            *vertex = std::array::from_fn(|k| 0.6 * number(k as u64) + (0.5 + 0.2 * number(3)) * vertex[k]);
        }
        let faces = object.faces.len();
        object.appearance = match i % 3 {
            0 => Appearance::Cubes(random_tensor(seed + 100, [faces, 3, 3, 3, 3])),
            1 => Appearance::VertexColours(random_tensor(seed + 101, [object.vertices.shape()[0], 3])),
            _ => Appearance::White,
        };
        object
    };
    (0..count).map(of).collect()
}

/// All images of the scenes, and the gradients of all vertices and colours of the sum of the images times random numbers, by
/// image and object.
fn render(renderer: &Renderer, scenes: &[Scene]) -> (Vec<Tensor>, Vec<Vec<Tensor>>) {
    let tape = Tape::new();
    let mut watched = Vec::new();
    let mut own = scenes.to_vec();
    for scene in &mut own {
        let mut of_scene = Vec::new();
        for object in &mut scene.objects {
            object.vertices = tape.watch(&object.vertices);
            of_scene.push(object.vertices.clone());
            if let Appearance::Cubes(colours) | Appearance::VertexColours(colours) = &mut object.appearance {
                *colours = tape.watch(colours);
                of_scene.push(colours.clone());
            }
        }
        watched.push(of_scene);
    }
    let Rendered { alpha, colour, depth, .. } = renderer.render(&own, Outputs::RGBA_DEPTH).unwrap();
    let images: Vec<Tensor> = [alpha, colour, depth].into_iter().flatten().collect();
    let seed = |image: &Tensor| {
        // The same numbers for each image of a batch.
        let each = image.numel() / scenes.len();
        let numbers = random_tensor(7, [each]);
        Tensor::new(&numbers.data().repeat(scenes.len()), image.shape()).unwrap()
    };
    let seeds: Vec<(&Tensor, Tensor)> =
        images.iter().filter(|image| image.is_recorded()).map(|image| (image, seed(image))).collect();
    let gradients = if seeds.is_empty() { None } else { Some(tape.backward_from(&seeds).unwrap()) };
    let of = |tensor: &Tensor| {
        let found = gradients.as_ref().and_then(|gradients| gradients.get(tensor));
        found.cloned().unwrap_or_else(|| Tensor::zeros(tensor.shape()))
    };
    let gradients = watched.iter().map(|scene| scene.iter().map(of).collect()).collect();
    (images.iter().map(Tensor::detach).collect(), gradients)
}

fn assert_finite(what: &str, tensor: &Tensor) {
    let bad = tensor.data().iter().position(|x| !x.is_finite());
    assert!(bad.is_none(), "{what} has {} at {bad:?}", tensor.data()[bad.unwrap_or(0)]);
}

fn assert_all_finite((images, gradients): &(Vec<Tensor>, Vec<Vec<Tensor>>)) {
    images.iter().for_each(|image| assert_finite("an image", image));
    gradients.iter().flatten().for_each(|gradient| assert_finite("a gradient", gradient));
}

fn eye(x: f32, y: f32, z: f32) -> Tensor {
    Tensor::new(&[x, y, z], [3]).unwrap()
}

const GRADIENTS: [Gradient; 6] = [
    Gradient::Kato,
    Gradient::EDGES,
    Gradient::Edges { midpoints: 2 },
    Gradient::EdgesSampled { per_edge: 3, seed: 1 },
    Gradient::Antialias,
    Gradient::Soft { sigma: 0.7 },
];

#[test]
fn batches_of_one_to_five_equal_single_images() {
    GRADIENTS.into_iter().for_each(assert_batches_equal_single_images);
}

fn assert_batches_equal_single_images(gradient: Gradient) {
    let renderer = Renderer { gradient, ..Renderer::new(40, 24) };
    let scene = |i: usize| {
        let camera = Camera::looking_at_origin(eye(i as f32 - 2.0, 0.5, -2.5));
        Scene { objects: objects(10 * i as u64, i % 4), camera, lights: Lights::default() }
    };
    let single: Vec<_> = (0..5).map(|i| render(&renderer, &[scene(i)])).collect();
    for count in 1..=5 {
        let scenes: Vec<Scene> = (0..count).map(scene).collect();
        let (images, gradients) = render(&renderer, &scenes);
        for (i, (of_image, of_scene)) in single.iter().take(count).enumerate() {
            for (all, one) in images.iter().zip(of_image) {
                assert_eq!(&all.data()[i * one.numel()..(i + 1) * one.numel()], one.data());
            }
            for (got, right) in gradients[i].iter().zip(&of_scene[0]) {
                assert_eq!(got.data(), right.data());
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let camera = Camera::looking_at_origin(eye(0.3, 0.8, -2.5));
    let scene = Scene { objects: objects(3, 3), camera, lights: Lights::default() };
    for gradient in GRADIENTS {
        let depth_mean = DepthMean::Covered { background: 5.0 };
        let renderer = Renderer { depth_mean, gradient, ..Renderer::new(70, 50) };
        assert_independent_of_threads(|| {
            let (images, gradients) = render(&renderer, &[scene.clone(), scene.clone()]);
            images.into_iter().chain(gradients.into_iter().flatten()).collect()
        });
    }
}

#[test]
fn scenes_without_anything_are_background() {
    let background = Tensor::new(&[0.25, 0.5, 0.75], [3]).unwrap();
    let renderer = Renderer { background, ..Renderer::new(5, 3) };
    let nothing = Object {
        vertices: Tensor::zeros([0, 3]),
        faces: Faces::new(vec![]),
        appearance: Appearance::Cubes(Tensor::zeros([0, 2, 2, 2, 3])),
    };
    for objects in [vec![], vec![nothing.clone()], vec![nothing.clone(), nothing]] {
        let scene = Scene { objects, camera: Camera::default(), lights: Lights::default() };
        let (images, _) = render(&renderer, &[scene]);
        assert!(images[0].data().iter().all(|alpha| *alpha == 0.0));
        assert!(images[1].data().as_chunks::<3>().0.iter().all(|colour| *colour == [0.25, 0.5, 0.75]));
        assert!(images[2].data().iter().all(|depth| *depth == 100.0));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let sphere = object(&shapes::icosphere(0));
    let message = |renderer: &Renderer, object: Object| {
        let scene = Scene::new(object, Camera::default());
        renderer.render(&[scene], Outputs::RGBA_DEPTH).unwrap_err().to_string()
    };
    let renderer = Renderer::new(4, 4);
    let cubes = Appearance::Cubes(Tensor::zeros([20, 1, 1, 1, 3]));
    let error = message(&renderer, Object { appearance: cubes, ..sphere.clone() });
    assert!(error.contains("[20, t, t, t, 3] with t >= 2"), "{error}");
    let error = message(&renderer, Object { faces: Faces::new(vec![[0, 1, 12]]), ..sphere.clone() });
    assert!(error.contains("vertex 12"), "{error}");
    assert!(message(&Renderer::new(0, 4), sphere.clone()).contains("0x4"));
    assert!(message(&Renderer::new(4, 16_385), sphere.clone()).contains("4x16385"));
    assert!(message(&Renderer { near: 0.0, ..Renderer::new(4, 4) }, sphere.clone()).contains("near"));
    assert!(renderer.render(&[], Outputs::RGBA_DEPTH).is_err());
}

/// A camera inside a closed surface sees it everywhere.
#[test]
fn faces_around_the_camera_are_cut() {
    let sphere = object(&shapes::icosphere(2));
    let mut camera = Camera::looking_at_origin(eye(0.1, 0.05, -0.2));
    camera.lens = Lens::Perspective { half_angle: Tensor::scalar(50.0) };
    let scene = Scene::new(sphere, camera);
    for gradient in GRADIENTS {
        let renderer = Renderer { gradient, ..Renderer::new(48, 32) };
        let found = render(&renderer, std::slice::from_ref(&scene));
        assert_all_finite(&found);
        // Where two soft faces meet, they leave a quarter.
        let least = if matches!(gradient, Gradient::Soft { .. }) { 0.74 } else { 1.0 };
        assert!(found.0[0].data().iter().all(|alpha| (least..=1.0).contains(alpha)), "{gradient:?}");
        assert!(found.0[2].data().iter().all(|depth| (0.1..1.3).contains(depth)));
        let renderer = Renderer { behind_camera: BehindCamera::Drop, ..renderer };
        assert_all_finite(&render(&renderer, std::slice::from_ref(&scene)));
    }
}

/// The floor reaches from behind the camera to far away: depth and its gradient where it is cut.
#[test]
fn gradients_go_through_the_cut() {
    let corners = [[-50.0, -1.0, -20.0], [50.0, -1.0, -20.0], [0.0, -1.0, 60.0]];
    let floor = Mesh::new(corners.to_vec(), vec![[0, 1, 2]]);
    let renderer = Renderer { anti_aliasing: false, ..Renderer::new(9, 9) };
    let mut camera = Camera::looking_at_origin(eye(0.0, 0.0, -2.0));
    camera.lens = Lens::Perspective { half_angle: Tensor::scalar(45.0) };
    let depth_at = |vertices: &Tensor| {
        let scene = Scene::new(Object { vertices: vertices.clone(), ..object(&floor) }, camera.clone());
        renderer.render(&[scene], Outputs::DEPTH).unwrap().depth.unwrap()
    };
    let tape = Tape::new();
    let vertices = tape.watch(&object(&floor).vertices);
    let depth = depth_at(&vertices);
    // The row below the middle but two: y = -6/9 of the depth. The floor is 1 below the eye.
    let pixel = 7 * 9 + 4;
    assert!((depth.data()[pixel] - 1.5).abs() < 1e-5, "{}", depth.data()[pixel]);
    let mut upstream = Tensor::zeros(depth.shape());
    upstream.data_mut()[pixel] = 1.0;
    let gradients = tape.backward_from(&[(&depth, upstream)]).unwrap();
    let gradient = gradients.get(&vertices).unwrap();
    let step = 1.0 / 32.0;
    for index in 0..9 {
        let moved = |by: f32| {
            let mut moved = vertices.detach();
            moved.data_mut()[index] += by;
            depth_at(&moved).data()[pixel]
        };
        let difference = (moved(step) - moved(-step)) / (2.0 * step);
        let got = gradient.data()[index];
        assert!((got - difference).abs() < 2e-3 * (1.0 + difference.abs()), "{index}: {got} {difference}");
    }
}

#[test]
fn a_million_faces_are_drawn() {
    let sphere = shapes::icosphere(8);
    assert!(sphere.faces.len() > 1_000_000);
    let renderer = Renderer::new(64, 64);
    let mut camera = Camera::looking_at_origin(eye(0.0, 0.0, -3.0));
    camera.lens = Lens::Orthographic;
    let found = render(&renderer, &[Scene::new(object(&sphere), camera)]);
    assert_all_finite(&found);
    let area: f32 = found.0[0].data().iter().sum::<f32>() / 1024.0;
    assert!((area - std::f32::consts::PI).abs() < 0.01, "{area}");
}

/// Cameras of every kind that see the origin from a distance of about 3, as one number decides.
fn any_camera() -> impl Strategy<Value = Camera> {
    let unit = -1.0f32..1.0;
    (0..5, [unit.clone(), unit.clone(), unit.clone()], 20.0f32..60.0).prop_map(|(kind, [a, b, c], angle)| {
        let at = Tensor::new(&[0.2 * a, 0.2 * b, 0.2 * c], [3]).unwrap();
        let up = eye(0.1, 1.0, 0.2);
        let look = View::LookAt { eye: eye(2.0 * a, b, -2.5 + c), at, up };
        let (sine, cosine) = a.sin_cos();
        let rotation = [[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]];
        let focal = 1.0 / angle.to_radians().tan();
        match kind {
            0 => Camera { view: look, lens: Lens::Perspective { half_angle: Tensor::scalar(angle) } },
            1 => Camera { view: look, lens: Lens::Orthographic },
            2 => {
                let matrix = [[100.0 * focal, 0.0, 99.5], [0.0, 100.0 * focal, 70.0], [0.0, 0.0, 1.0]];
                let lens = [0.05 * b, 0.01, 0.01 * c, 0.0, 0.0];
                Camera::from_opencv(matrix, rotation, [0.1 * b, 0.1, 3.0 + c], lens, [200.0, 150.0])
            }
            3 => {
                let [x, y, z] = rotation;
                let view = [
                    [x[0], x[1], x[2], 0.1 * b],
                    [y[0], y[1], y[2], 0.1],
                    [z[0], z[1], z[2], -3.0 - c],
                    [0.0, 0.0, 0.0, 1.0],
                ];
                let projection = [
                    [focal, 0.0, 0.0, 0.0],
                    [0.0, focal, 0.1, 0.0],
                    [0.0, 0.0, -1.0, -0.2],
                    [0.0, 0.0, -1.0, 0.0],
                ];
                Camera::from_opengl(view, projection).unwrap()
            }
            _ => {
                Camera::from_pytorch3d(rotation, [0.1 * b, 0.1, 3.0 + c], [focal; 2], [0.0, 0.1], [3.0, 2.0])
            }
        }
    })
}

/// Numbers that files and optimisers come up with.
fn any_number() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -2.0f32..2.0,
        1 => prop::sample::select(vec![
            0.0, -0.0, 1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40, 1e20, -1e10, 1e4,
        ]),
        1 => any::<f32>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A small triangle about a point covers the pixel that the camera says the point is on, and no other but its neighbours.
    #[test]
    fn a_projected_vertex_lands_on_its_pixel(
        camera in any_camera(),
        point in [-0.4f32..0.4, -0.4f32..0.4, -0.4f32..0.4],
        width in 1usize..90,
        height in 1usize..90,
    ) {
        let around = |axis: usize, by: f32| { let mut p = point; p[axis] += by; p };
        // An octahedron, so that it is seen from everywhere; a pixel large or more.
        let size = 24.0 / width.min(height) as f32;
        let corners: Vec<[f32; 3]> = (0..3).flat_map(|axis| [around(axis, size), around(axis, -size)]).collect();
        let mut faces = Vec::new();
        for x in [0, 1] { for y in [2, 3] { for z in [4, 5] { faces.push([x, y, z]); } } }
        let mesh = Mesh::new(corners, faces);
        let renderer = Renderer::new(width, height);
        let scene = Scene::new(object(&mesh), camera.clone());
        let alpha = renderer.render(&[scene], Outputs::SILHOUETTE).unwrap().alpha.unwrap();
        let seen = camera.view(&Tensor::new(&point, [1, 3]).unwrap()).unwrap();
        let screen = camera.project(&seen, width as f32 / height as f32).unwrap();
        let [x, y] = [(screen.data()[0] + 1.0) / 2.0 * width as f32, (1.0 - screen.data()[1]) / 2.0 * height as f32];
        if (0.0..width as f32).contains(&x) && (0.0..height as f32).contains(&y) {
            let covered = alpha.data()[y as usize * width + x as usize];
            prop_assert!(covered > 0.0, "({x}, {y}) of {width}x{height} is not covered");
        }
    }

    #[test]
    fn nothing_panics_and_every_number_is_one(
        numbers in prop::collection::vec(any_number(), 30),
        faces in prop::collection::vec([0u32..10, 0u32..10, 0u32..10], 0..20),
        camera in any_camera(),
        kind in 0..3,
        anti_aliasing in any::<bool>(),
        drop in any::<bool>(),
        fill_back in any::<bool>(),
        gradient in prop::sample::select(GRADIENTS.to_vec()),
    ) {
        let vertices = Tensor::new(&numbers, [10, 3]).unwrap();
        let appearance = match kind {
            0 => Appearance::White,
            1 => Appearance::Cubes(random_tensor(1, [faces.len(), 2, 2, 2, 3])),
            _ => Appearance::VertexColours(random_tensor(2, [10, 3])),
        };
        let scene = Scene::new(Object { vertices, faces: Faces::new(faces), appearance }, camera);
        let renderer = Renderer {
            anti_aliasing,
            fill_back,
            gradient,
            behind_camera: if drop { BehindCamera::Drop } else { BehindCamera::Cut },
            ..Renderer::new(13, 10)
        };
        assert_all_finite(&render(&renderer, &[scene]));
    }
}
