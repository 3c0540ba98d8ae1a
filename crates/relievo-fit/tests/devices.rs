//! Losses and fits on a GPU against the CPU. On the GPU named by RELIEVO_DEVICE if there is one, else on the emulator.

use std::ops::ControlFlow;

use relievo_fit::{
    CameraSettings, Edges, Paint, ShapeSettings, TextureSettings, TextureView, VertexSettings, View,
    fit_camera, fit_shape, fit_texture, fit_vertices, flatness_energy, iou_error, laplacian_energy,
    silhouette_error,
};
use relievo_mesh::{
    Appearance, Camera, Faces, Gradient, Object, Outputs, Renderer, Scene, points_from_angles, shapes,
};
use relievo_tensor::testing::{distance, random_tensor};
use relievo_tensor::{Device, Result, Tape, Tensor};

fn gpu() -> Option<Device> {
    relievo_cuda_emulator::test_gpu().map(Device::Cuda)
}

fn sphere(subdivisions: u32) -> (Tensor, Faces) {
    let sphere = shapes::icosphere(subdivisions);
    let vertices = Tensor::new(sphere.vertices.as_flattened(), [sphere.vertices.len(), 3]).unwrap();
    (vertices, Faces::new(sphere.faces))
}

fn camera(azimuth: f32, elevation: f32) -> Camera {
    let [distance, elevation, azimuth] = [2.732, elevation, azimuth].map(Tensor::scalar);
    Camera::looking_at_origin(points_from_angles(&distance, &elevation, &azimuth).unwrap())
}

fn seen(vertices: &Tensor, faces: &Faces, camera: &Camera, side: usize) -> Tensor {
    let object = Object { vertices: vertices.clone(), faces: faces.clone(), appearance: Appearance::White };
    let alpha = Renderer::new(side, side)
        .render(&[Scene::new(object, camera.clone())], Outputs::SILHOUETTE)
        .unwrap()
        .alpha
        .unwrap();
    Tensor::new(alpha.data(), [side, side]).unwrap()
}

/// The loss and its gradient, on a device.
fn evaluate(input: &Tensor, device: Device, loss: &dyn Fn(&Tensor) -> Result<Tensor>) -> [Tensor; 2] {
    let tape = Tape::new();
    let watched = tape.watch(&input.to_device(device).unwrap());
    let value = loss(&watched).unwrap();
    assert_eq!(value.device(), device);
    let gradients = tape.backward(&value).unwrap();
    let gradient = gradients.get(&watched).unwrap();
    assert_eq!(gradient.device(), device);
    [&value, gradient].map(|tensor| tensor.to_device(Device::Cpu).unwrap())
}

fn agree(what: &str, right: &Tensor, found: &Tensor, limit: f64) {
    let wide: Vec<f64> = right.data().iter().map(|x| f64::from(*x)).collect();
    let off = distance(found.data(), &wide);
    // Written so that NaN fails.
    assert!(off <= limit, "{what} is off by {off:.1e}");
}

#[test]
fn losses_and_energies() {
    let Some(device) = gpu() else { return };
    let shares = |seed| {
        let mut tensor = random_tensor(seed, [3, 41, 33]);
        tensor.data_mut().iter_mut().for_each(|value| *value = value.abs());
        tensor
    };
    let (found, wanted) = (shares(1), shares(2));
    let (mut vertices, faces) = sphere(3);
    let noise = random_tensor(3, [vertices.shape()[0], 3]);
    vertices.data_mut().iter_mut().zip(noise.data()).for_each(|(value, noise)| *value += 0.1 * noise);
    // An open end, and vertices without faces.
    let faces = Faces::new(faces.as_slice()[3..].to_vec());
    let edges = Edges::new(&faces);
    let there = |tensor: &Tensor, like: &Tensor| tensor.to_device(like.device());
    type Loss<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;
    let losses: [(&str, &Tensor, Loss<'_>); 4] = [
        ("squares", &found, &|x| silhouette_error(x, &there(&wanted, x)?)),
        ("overlap", &found, &|x| iou_error(x, &there(&wanted, x)?)),
        ("laplacian", &vertices, &|x| laplacian_energy(x, &edges)),
        ("flatness", &vertices, &|x| flatness_energy(x, &edges)),
    ];
    for (what, input, loss) in losses {
        let right = evaluate(input, Device::Cpu, loss);
        let own = evaluate(input, device, loss);
        agree(what, &right[0], &own[0], 1e-6);
        agree(what, &right[1], &own[1], 1e-6);
        let again = evaluate(input, device, loss);
        assert_eq!((own[0].data(), own[1].data()), (again[0].data(), again[1].data()), "{what}");
    }
}

/// A few steps of each task: parameters end where those of the CPU do.
#[test]
fn every_task() {
    let Some(device) = gpu() else { return };
    let (vertices, faces) = sphere(2);
    let views: Vec<View> = [0.0, 100.0]
        .map(|azimuth| {
            let camera = camera(azimuth, 20.0);
            let mut target = vertices.detach();
            target.data_mut().as_chunks_mut::<3>().0.iter_mut().for_each(|[x, ..]| *x *= 0.7);
            View { silhouette: seen(&target, &faces, &camera, 24), camera }
        })
        .to_vec();
    let both = |run: &dyn Fn(&Tensor) -> Tensor| {
        [Device::Cpu, device].map(|device| {
            let found = run(&vertices.to_device(device).unwrap());
            found.to_device(Device::Cpu).unwrap()
        })
    };
    for gradient in [Gradient::Kato, Gradient::EDGES] {
        let settings = VertexSettings { steps: 4, gradient, ..VertexSettings::default() };
        let [right, found] = both(&|vertices| {
            let View { camera, silhouette } = &views[0];
            fit_vertices(vertices, &faces, camera, silhouette, &settings, |_| ControlFlow::Continue(()))
                .unwrap()
        });
        agree("vertices", &right, &found, 1e-4);
    }
    let settings = ShapeSettings { steps: 4, exact_steps: 2, ..ShapeSettings::default() };
    let [right, found] = both(&|vertices| {
        fit_shape(vertices, &faces, &views, &settings, |_, _| ControlFlow::Continue(())).unwrap().vertices
    });
    agree("shape", &right, &found, 1e-3);
    let painted: Vec<TextureView> = views
        .iter()
        .enumerate()
        .map(|(index, view)| {
            let mut image = random_tensor(index as u64, [24, 24, 3]);
            image.data_mut().iter_mut().for_each(|value| *value = value.abs());
            let mut mask = Tensor::full([24, 24], 1.0);
            mask.data_mut()[..200].fill(0.0);
            let mask = (index == 0).then_some(mask);
            TextureView { camera: view.camera.clone(), image, mask }
        })
        .collect();
    let settings = TextureSettings { steps: 3, batch: 2, ..TextureSettings::default() };
    for paint in [Paint::Vertices, Paint::Cubes(2)] {
        let [right, found] = both(&|vertices| {
            let found =
                fit_texture(vertices, &faces, &paint, &painted, &settings, |_| ControlFlow::Continue(()));
            match found.unwrap() {
                Appearance::VertexColours(colours) | Appearance::Cubes(colours) => colours,
                _ => unreachable!("painted otherwise"),
            }
        });
        agree("colours", &right, &found, 1e-5);
    }
    let wanted = seen(&vertices, &faces, &camera(0.0, 30.0), 24);
    let settings = CameraSettings { steps: 3, enough: 0.0, ..CameraSettings::default() };
    let [right, found] = both(&|vertices| {
        let found = fit_camera(vertices, &faces, &wanted, &[[1.0, 0.3, -3.0]], &settings, |_| {
            ControlFlow::Continue(())
        });
        Tensor::new(&found.unwrap().eye, [3]).unwrap()
    });
    agree("camera", &right, &found, 1e-4);
}
