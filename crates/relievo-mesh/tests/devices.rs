//! The renderer on a GPU against the CPU: images, and gradients of everything. On the GPU named by RELIEVO_DEVICE if there
//! is one, else on the emulator.

use std::sync::Arc;

use relievo_mesh::{
    Appearance, BehindCamera, Camera, DepthMean, Directional, Faces, Gradient, ImageTexture, Lens, Lights,
    LitSide, Mesh, Normals, Object, Outputs, Rendered, Renderer, Scene, View, Wrap, points_from_angles,
    shapes,
};
use relievo_tensor::testing::{distance, random_tensor};
use relievo_tensor::{Device, Result, Tape, Tensor};

const EVERYTHING: Outputs =
    Outputs { normals: Some(Normals::Smooth), positions: true, faces: true, ..Outputs::RGBA_DEPTH };

fn gpu() -> Option<Device> {
    relievo_cuda_emulator::test_gpu().map(Device::Cuda)
}

fn vector(x: f32, y: f32, z: f32) -> Tensor {
    Tensor::new(&[x, y, z], [3]).unwrap()
}

fn object(mesh: &Mesh) -> Object {
    let vertices = Tensor::new(mesh.vertices.as_flattened(), [mesh.vertices.len(), 3]).unwrap();
    Object { vertices, faces: Faces::new(mesh.faces.clone()), appearance: Appearance::White }
}

/// Spheres of several sizes with every kind of appearance, scaled and moved.
fn objects(seed: u64, count: usize) -> Vec<Object> {
    let of = |i: usize| {
        let mut object = object(&shapes::icosphere(1 + i as u32 % 2));
        let moved = random_tensor(seed + i as u64, [8]);
        for vertex in object.vertices.data_mut().as_chunks_mut::<3>().0 {
            *vertex =
                std::array::from_fn(|k| 0.6 * moved.data()[k] + (0.5 + 0.2 * moved.data()[3]) * vertex[k]);
        }
        let (faces, vertices) = (object.faces.len(), object.vertices.shape()[0]);
        object.appearance = match (seed as usize + i) % 4 {
            0 => Appearance::Cubes(random_tensor(seed + 100, [faces, 3, 3, 3, 3])),
            1 => Appearance::VertexColours(random_tensor(seed + 101, [vertices, 3])),
            2 => {
                let corners = random_tensor(seed, [faces, 6]);
                let of_face = |face: usize| {
                    let of = |k: usize| 1.8 * corners.data()[6 * face + k];
                    (!face.is_multiple_of(5)).then(|| [[of(0), of(1)], [of(2), of(3)], [of(4), of(5)]])
                };
                let wraps = [Wrap::Repeat, Wrap::MirroredRepeat, Wrap::ClampToEdge, Wrap::ClampToBorder];
                Appearance::Image(ImageTexture {
                    image: random_tensor(seed + 102, [5, 7, 3]),
                    corners: (0..faces).map(of_face).collect::<Vec<_>>().into(),
                    wrap: [wraps[seed as usize % 4], wraps[(seed as usize + 1) % 4]],
                })
            }
            _ => Appearance::White,
        };
        object
    };
    (0..count).map(of).collect()
}

fn lights() -> Lights {
    let mut lights = Lights::default();
    lights.ambient.colour = vector(0.5, 0.6, 0.7);
    lights.directional[0].direction = vector(0.3, 0.8, -0.4);
    lights.directional.push(Directional {
        intensity: Tensor::scalar(0.3),
        colour: vector(0.9, 0.2, 0.1),
        direction: vector(-0.5, 0.1, -0.6),
    });
    lights
}

/// The tensors of a scene that have gradients.
fn tensors(scene: &mut Scene) -> Vec<&mut Tensor> {
    let mut all = Vec::new();
    for object in &mut scene.objects {
        all.push(&mut object.vertices);
        match &mut object.appearance {
            Appearance::Cubes(tensor) | Appearance::VertexColours(tensor) => all.push(tensor),
            Appearance::Image(texture) => all.push(&mut texture.image),
            Appearance::White => {}
        }
    }
    match &mut scene.camera.view {
        View::LookAt { eye, at, up } => all.extend([eye, at, up]),
        View::Look { eye, direction, up } => all.extend([eye, direction, up]),
        View::Rigid { rotation, translation } => all.extend([rotation, translation]),
    }
    match &mut scene.camera.lens {
        Lens::Perspective { half_angle } => all.push(half_angle),
        Lens::Orthographic => {}
        Lens::Intrinsics { matrix, distortion, .. } => all.extend([matrix, distortion]),
    }
    let Lights { ambient, directional } = &mut scene.lights;
    all.extend([&mut ambient.intensity, &mut ambient.colour]);
    directional.iter_mut().for_each(|light| {
        all.extend([&mut light.intensity, &mut light.colour, &mut light.direction]);
    });
    all
}

/// The images that were asked for.
fn images(rendered: Rendered) -> Vec<Tensor> {
    let Rendered { alpha, colour, depth, normals, positions, face_index, barycentrics } = rendered;
    [alpha, colour, depth, normals, positions, face_index, barycentrics].into_iter().flatten().collect()
}

/// All images, and the gradients of all tensors of the scenes and of the background; as they are on a device, objects and
/// `together` all else, too.
fn render(
    renderer: &Renderer,
    scenes: &[Scene],
    outputs: Outputs,
    device: Device,
    together: bool,
) -> Result<[Vec<Tensor>; 2]> {
    let tape = Tape::new();
    let mut watched = Vec::new();
    let mut own = scenes.to_vec();
    for scene in &mut own {
        let of_objects: usize = scene
            .objects
            .iter()
            .map(|object| if matches!(object.appearance, Appearance::White) { 1 } else { 2 })
            .sum();
        for (index, tensor) in tensors(scene).into_iter().enumerate() {
            let there = if together || index < of_objects { device } else { Device::Cpu };
            *tensor = tape.watch(&tensor.to_device(there)?);
            watched.push(tensor.clone());
        }
    }
    let background = tape.watch(&renderer.background);
    watched.push(background.clone());
    let renderer = Renderer { background, ..renderer.clone() };
    let images = images(renderer.render(&own, outputs)?);
    let seeds = images.iter().filter(|image| image.is_recorded());
    let seeds = seeds
        .map(|image| {
            let random = random_tensor(7, [image.numel()]);
            Ok((image, Tensor::new(random.data(), image.shape())?.to_device(image.device())?))
        })
        .collect::<Result<Vec<(&Tensor, Tensor)>>>()?;
    let gradients = tape.backward_from(&seeds)?;
    let of = |tensor: &Tensor| match gradients.get(tensor) {
        Some(gradient) => {
            assert_eq!((gradient.device(), gradient.shape()), (tensor.device(), tensor.shape()));
            gradient.to_device(Device::Cpu)
        }
        None => Ok(Tensor::zeros(tensor.shape())),
    };
    let gradients = watched.iter().map(of).collect::<Result<Vec<_>>>()?;
    let images = images.iter().map(|image| image.to_device(Device::Cpu)).collect::<Result<Vec<_>>>()?;
    Ok([images, gradients])
}

/// Asserts that images are within 1e-6 and gradients within `tolerance`. Numbers must be finite.
fn agree(what: &str, renderer: &Renderer, scenes: &[Scene], outputs: Outputs, tolerance: f64) {
    agree_within(what, renderer, scenes, outputs, tolerance, tolerance);
}

/// As [`agree`], with a limit of its own for gradients of up to three numbers: a sum over all samples may be small beside its
/// terms, and its rounding with it.
fn agree_within(
    what: &str,
    renderer: &Renderer,
    scenes: &[Scene],
    outputs: Outputs,
    tolerance: f64,
    of_sums: f64,
) {
    let Some(device) = gpu() else { return };
    for together in [true, false] {
        let [right, found] = [Device::Cpu, device].map(|device| {
            render(renderer, scenes, outputs, device, together)
                .unwrap_or_else(|error| panic!("{what}: {error}"))
        });
        for (kind, limit) in [(0, 1e-6), (1, tolerance)] {
            assert_eq!(right[kind].len(), found[kind].len());
            for (index, (right, found)) in right[kind].iter().zip(&found[kind]).enumerate() {
                assert_eq!(right.shape(), found.shape());
                let wide: Vec<f64> = right.data().iter().map(|x| f64::from(*x)).collect();
                let off = distance(found.data(), &wide);
                let name = ["image", "gradient"][kind];
                let limit = if kind == 1 && right.numel() <= 3 { of_sums } else { limit };
                let pairs = || right.data().iter().zip(found.data()).enumerate();
                let worst = pairs().max_by(|a, b| {
                    let far = |(_, (a, b)): &(usize, (&f32, &f32))| (**a - **b).abs();
                    far(a).total_cmp(&far(b))
                });
                // Written so that NaN fails.
                assert!(
                    off <= limit,
                    "{what}: {name} {index} {} is off by {off:.1e}, most at {worst:?}",
                    right.shape()
                );
            }
        }
    }
}

fn camera(i: usize) -> Camera {
    let eye = vector(i as f32 - 2.0, 0.5, -2.5);
    match i % 4 {
        0 => Camera::looking_at_origin(eye),
        1 => Camera { lens: Lens::Orthographic, ..Camera::looking_at_origin(eye) },
        2 => {
            let view = View::Look { eye, direction: vector(0.1, -0.2, 1.0), up: vector(0.1, 1.0, 0.0) };
            Camera { view, lens: Lens::Perspective { half_angle: Tensor::scalar(35.0) } }
        }
        _ => {
            let rotation = [[0.8, 0.0, 0.6], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]];
            let matrix = [[30.0, 1.0, 19.5], [0.0, 28.0, 11.0], [0.0, 0.0, 1.0]];
            let lens = [0.05, 0.01, 0.02, -0.01, 0.003];
            Camera::from_opencv(matrix, rotation, [0.1, 0.1, 3.0], lens, [40.0, 24.0])
        }
    }
}

fn scene(i: usize) -> Scene {
    Scene { objects: objects(i as u64, i % 4), camera: camera(i), lights: lights() }
}

fn renderer(width: usize, height: usize) -> Renderer {
    Renderer { background: vector(0.2, 0.4, 0.6), ..Renderer::new(width, height) }
}

#[test]
fn ragged_batches_of_one_to_five() {
    for count in 1..=5 {
        let scenes: Vec<Scene> = (0..count).map(|i| scene(5 - i)).collect();
        agree(&format!("{count} scenes"), &renderer(40, 24), &scenes, EVERYTHING, 1e-5);
    }
}

#[test]
fn every_output_alone_and_every_setting() {
    let scenes = [scene(3), scene(2)];
    let plain = renderer(21, 34);
    let normals = Outputs { normals: Some(Normals::Faces), ..Outputs::NONE };
    for (what, outputs) in [
        ("silhouette", Outputs::SILHOUETTE),
        ("colour", Outputs::COLOUR),
        ("depth", Outputs::DEPTH),
        ("normals", normals),
    ] {
        agree(what, &plain, &scenes, outputs, 1e-5);
    }
    for (what, renderer) in [
        ("one sample", Renderer { anti_aliasing: false, ..plain.clone() }),
        ("one side", Renderer { fill_back: false, lit_side: LitSide::Winding, ..plain.clone() }),
        ("near and far", Renderer { near: 2.2, far: 2.9, ..plain.clone() }),
        ("covered", Renderer { depth_mean: DepthMean::Covered { background: 7.0 }, ..plain.clone() }),
        (
            "backgrounds",
            Renderer { background: random_tensor(3, [2, 3]), anti_aliasing: false, ..plain.clone() },
        ),
    ] {
        agree(what, &renderer, &scenes, Outputs::RGBA_DEPTH, 1e-5);
    }
}

#[test]
fn what_is_not_drawn() {
    let nothing = Object {
        vertices: Tensor::zeros([0, 3]),
        faces: Faces::new(vec![]),
        appearance: Appearance::Cubes(Tensor::zeros([0, 2, 2, 2, 3])),
    };
    let empty = |objects| Scene { objects, camera: camera(0), lights: lights() };
    let scenes =
        [empty(vec![nothing.clone()]), scene(2), empty(vec![]), empty(vec![nothing.clone(), nothing])];
    agree("empty meshes", &renderer(20, 20), &scenes, EVERYTHING, 1e-5);
    // A point, a line, vertices that are not numbers, vast ones, the same face twice and from both sides.
    let mut odd = objects(1, 1).remove(0);
    odd.vertices.data_mut()[0] = f32::NAN;
    odd.vertices.data_mut()[4] = f32::INFINITY;
    odd.vertices.data_mut()[8] = 1e30;
    let mut faces = odd.faces.as_slice().to_vec();
    faces.extend([[5, 5, 5], [5, 6, 5], faces[9], faces[9], [faces[9][2], faces[9][1], faces[9][0]]]);
    odd.faces = Faces::new(faces);
    let scenes = [Scene { objects: vec![odd], camera: camera(0), lights: lights() }, scene(4)];
    let outputs = Outputs { positions: true, faces: true, ..Outputs::RGBA_DEPTH };
    agree("degenerate faces", &renderer(30, 30), &scenes, outputs, 1e-5);
}

/// Numbers that files and optimisers come up with: images as on the CPU, to the bit, and no gradient that is not a number.
#[test]
fn any_numbers_as_vertices() {
    let Some(device) = gpu() else { return };
    let odd = [0.0, -0.0, 1.0, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40, 1e20, -1e10, 1e4];
    for seed in 0..24 {
        let random = random_tensor(seed, [30]);
        let number = |i: usize| match (random.data()[i].abs() * 1000.0) as usize % 10 {
            0 => odd[i % odd.len()],
            _ => 2.0 * random.data()[i],
        };
        let numbers: Vec<f32> = (0..30).map(number).collect();
        let corner = |i: usize| (random_tensor(seed + 100, [60]).data()[i].abs() * 9.99) as u32;
        let faces: Vec<[u32; 3]> = (0..20).map(|face| [0, 1, 2].map(|k| corner(3 * face + k))).collect();
        let colours = Appearance::VertexColours(random_tensor(seed, [10, 3]));
        let vertices = Tensor::new(&numbers, [10, 3]).unwrap();
        let object = Object { vertices, faces: Faces::new(faces), appearance: colours };
        let scene = Scene { objects: vec![object], camera: camera(seed as usize), lights: lights() };
        let [right, found] = [Device::Cpu, device].map(|device| {
            render(&renderer(13, 10), std::slice::from_ref(&scene), Outputs::RGBA_DEPTH, device, true)
                .unwrap()
        });
        for (right, found) in right[0].iter().zip(&found[0]) {
            assert_eq!(right.data(), found.data(), "{seed}");
        }
        assert!(found[1].iter().all(|gradient| gradient.data().iter().all(|x| x.is_finite())), "{seed}");
    }
}

#[test]
fn faces_around_the_camera() {
    let mut inside = camera(0);
    inside.view =
        View::LookAt { eye: vector(0.1, 0.05, -0.2), at: vector(0.0, 0.0, 1.0), up: vector(0.0, 1.0, 0.0) };
    inside.lens = Lens::Perspective { half_angle: Tensor::scalar(50.0) };
    let mut sphere = object(&shapes::icosphere(2));
    sphere.appearance = Appearance::VertexColours(random_tensor(1, [sphere.vertices.shape()[0], 3]));
    let scene = Scene { objects: vec![sphere], camera: inside, lights: lights() };
    let scenes = [scene.clone(), scene];
    agree("cut", &renderer(24, 16), &scenes, EVERYTHING, 2e-5);
    let dropped = Renderer { behind_camera: BehindCamera::Drop, ..renderer(24, 16) };
    agree("dropped", &dropped, &scenes, Outputs::RGBA_DEPTH, 2e-5);
}

/// The gradients beside Kato's: silhouettes alone, colour alone, and everything, in every setting that they read.
#[test]
fn every_gradient() {
    let scenes = [scene(3), scene(2)];
    let random = Gradient::EdgesSampled { per_edge: 3, seed: 5 };
    let soft = Gradient::Soft { sigma: 0.5 };
    for gradient in [Gradient::EDGES, Gradient::Edges { midpoints: 2 }, random, Gradient::Antialias, soft] {
        let plain = Renderer { gradient, ..renderer(24, 20) };
        let what = |how: &str| format!("{gradient:?}, {how}");
        agree(&what("everything"), &plain, &scenes, EVERYTHING, 1e-5);
        agree(&what("silhouettes"), &plain, &scenes, Outputs::SILHOUETTE, 1e-5);
        agree(&what("colour"), &plain, &scenes, Outputs::COLOUR, 1e-5);
        let depth_mean = DepthMean::Covered { background: 7.0 };
        let one = Renderer {
            anti_aliasing: false,
            fill_back: false,
            near: 2.2,
            far: 2.9,
            depth_mean,
            background: random_tensor(3, [2, 3]),
            ..plain
        };
        agree(&what("one sample, one side, covered"), &one, &scenes, Outputs::RGBA_DEPTH, 1e-5);
    }
}

/// Seams and empty scenes; more bins and faces than one; a soft image that every face reaches.
#[test]
fn every_gradient_of_odd_scenes() {
    let mut seam = object(&shapes::icosphere(3));
    let torn: Vec<[f32; 3]> = {
        let vertices = seam.vertices.data().as_chunks::<3>().0;
        seam.faces.as_slice().iter().flatten().map(|vertex| vertices[*vertex as usize]).collect()
    };
    seam.vertices = Tensor::new(torn.as_flattened(), [torn.len(), 3]).unwrap();
    seam.faces = Faces::new(
        (0..torn.len() as u32 / 3).map(|face| [0, 1, 2].map(|k| 3 * face + k)).collect::<Vec<_>>(),
    );
    let of = |objects| Scene { objects, camera: camera(0), lights: lights() };
    let scenes = [of(vec![seam.clone()]), of(vec![]), of(vec![seam])];
    // Faces of nearly one depth share a soft sample: the last digit of a depth moves their shares of its colour by some 1e-5.
    let soft = |sigma| Gradient::Soft { sigma };
    for (gradient, outputs, tolerance) in [
        (Gradient::EDGES, Outputs::RGBA, 2e-5),
        (Gradient::Antialias, Outputs::RGBA, 2e-5),
        (soft(0.3), Outputs::RGBA, 1e-3),
        (soft(6.0), Outputs::SILHOUETTE, 1e-4),
    ] {
        let renderer = Renderer { gradient, ..renderer(50, 44) };
        agree(&format!("{gradient:?}, odd"), &renderer, &scenes, outputs, tolerance);
    }
}

/// More faces than a block, more bins than a chunk of the sums; faces that fill the image; a vertex of many faces.
#[test]
fn many_faces_and_large_ones() {
    let mut fan = Mesh::new(vec![[0.0, 0.0, -0.5]], vec![]);
    for i in 0..150u32 {
        let angle = i as f32 * std::f32::consts::TAU / 150.0;
        fan.vertices.push([2.5 * angle.cos(), 2.5 * angle.sin(), 0.5]);
        fan.faces.push([0, 1 + i, 1 + (i + 1) % 150]);
    }
    let wall = Mesh::new(vec![[-9.0, -9.0, 1.0], [9.0, -9.0, 1.0], [0.0, 12.0, 1.5]], vec![[0, 1, 2]]);
    let of = |objects| Scene { objects, camera: camera(2), lights: lights() };
    let all = of(vec![object(&fan), object(&wall), object(&shapes::icosphere(3))]);
    let wall = of(vec![object(&wall)]);
    let scenes = [all, wall.clone(), wall.clone(), wall];
    agree_within("a fan before a wall", &renderer(140, 130), &scenes, Outputs::RGBA_DEPTH, 1e-4, 1e-3);
}

#[test]
fn cameras_by_angles() {
    let Some(device) = gpu() else { return };
    let on = |device: Device| -> Result<Vec<f32>> {
        let tape = Tape::new();
        let angles = [2.5, 30.0, 40.0].map(|x| tape.watch(&Tensor::scalar(x).to_device(device).unwrap()));
        let [distance, elevation, azimuth] = &angles;
        let eye = points_from_angles(distance, elevation, azimuth)?;
        assert_eq!(eye.device(), device);
        let mut sphere = object(&shapes::icosphere(1));
        sphere.vertices = sphere.vertices.to_device(device)?;
        let scene = Scene::new(sphere, Camera::looking_at_origin(eye));
        let depth = Renderer::new(16, 16).render(&[scene], Outputs::DEPTH)?.depth.unwrap();
        let gradients = tape.backward(&depth)?;
        angles.iter().map(|angle| gradients.get(angle).unwrap().item()).collect()
    };
    let [right, found] = [Device::Cpu, device].map(|device| on(device).unwrap());
    assert!(
        right.iter().zip(&found).all(|(a, b)| (a - b).abs() <= 1e-4 * a.abs().max(1.0)),
        "{right:?} {found:?}"
    );
}

#[test]
fn results_are_the_same_every_time() {
    let Some(device) = gpu() else { return };
    for gradient in [Gradient::Kato, Gradient::EDGES, Gradient::Antialias, Gradient::Soft { sigma: 1.0 }] {
        let bits = || -> Vec<Vec<u32>> {
            let renderer = Renderer { gradient, ..renderer(40, 24) };
            let found = render(&renderer, &[scene(3), scene(2)], EVERYTHING, device, true).unwrap();
            let bits = |tensor: Tensor| tensor.data().iter().map(|x| x.to_bits()).collect();
            found.into_iter().flatten().map(bits).collect()
        };
        let first = bits();
        assert!(first == bits() && first == bits(), "{gradient:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(device) = gpu() else { return };
    let mut sphere = object(&shapes::icosphere(0));
    sphere.vertices = sphere.vertices.to_device(device).unwrap();
    let message = |object: Object| {
        let scene = Scene::new(object, Camera::default());
        Renderer::new(4, 4).render(&[scene], Outputs::RGBA_DEPTH).unwrap_err().to_string()
    };
    let cubes = Appearance::Cubes(Tensor::zeros([20, 1, 1, 1, 3]).to_device(device).unwrap());
    assert!(message(Object { appearance: cubes, ..sphere.clone() }).contains("[20, t, t, t, 3] with t >= 2"));
    let faces = Faces::new(vec![[0, 1, 12]]);
    assert!(message(Object { faces, ..sphere.clone() }).contains("vertex 12"));
    let image =
        ImageTexture { image: Tensor::zeros([0, 2, 3]), corners: Arc::new([]), wrap: [Wrap::Repeat; 2] };
    assert!(message(Object { appearance: Appearance::Image(image), ..sphere }).contains("[h, w, 3]"));
}
