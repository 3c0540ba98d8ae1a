//! The four tasks, small.

use std::ops::ControlFlow;

use relievo_fit::{
    CameraSettings, FitError, FitSettings, Paint, ShapeSettings, TextureSettings, TextureView,
    VertexSettings, View, fit_camera, fit_shape, fit_texture, fit_vertices, iou, starts_around,
};
use relievo_mesh::vector::{length, sub};
use relievo_mesh::{
    Appearance, Camera, Faces, Lights, Mesh, Object, Outputs, Renderer, Scene, points_from_angles, shapes,
};
use relievo_tensor::Tensor;

fn camera(azimuth: f32, elevation: f32) -> Camera {
    let eye =
        points_from_angles(&Tensor::scalar(2.732), &Tensor::scalar(elevation), &Tensor::scalar(azimuth));
    Camera::looking_at_origin(eye.unwrap())
}

fn parts(mesh: &Mesh) -> (Tensor, Faces) {
    let mut mesh = mesh.clone();
    mesh.normalise();
    let vertices = Tensor::new(mesh.vertices.as_flattened(), [mesh.vertices.len(), 3]).unwrap();
    (vertices, Faces::new(mesh.faces))
}

fn silhouette(vertices: &Tensor, faces: &Faces, camera: &Camera, side: usize) -> Tensor {
    let object = Object { vertices: vertices.clone(), faces: faces.clone(), appearance: Appearance::White };
    let scene = Scene::new(object, camera.clone());
    let alpha = Renderer::new(side, side).render(&[scene], Outputs::SILHOUETTE).unwrap().alpha.unwrap();
    Tensor::new(alpha.data(), [side, side]).unwrap()
}

#[test]
fn vertices_take_a_silhouette() {
    let (vertices, faces) = parts(&shapes::teapot(2));
    let camera = camera(90.0, 0.0);
    let mut wanted = Tensor::zeros([64, 64]);
    wanted.data_mut().chunks_mut(64).skip(20).take(24).for_each(|row| row[16..48].fill(1.0));
    let settings = VertexSettings {
        steps: 60,
        fit: FitSettings { learning_rate: 0.01, ..FitSettings::default() },
        ..VertexSettings::default()
    };
    let mut losses = Vec::new();
    let found = fit_vertices(&vertices, &faces, &camera, &wanted, &settings, |step| {
        losses.push(step.loss);
        ControlFlow::Continue(())
    });
    let overlap = |vertices: &Tensor| iou(silhouette(vertices, &faces, &camera, 64).data(), wanted.data());
    let (before, after) = (overlap(&vertices), overlap(&found.unwrap()));
    assert!(losses.len() == 60 && losses[59] < losses[0] / 4.0, "{losses:?}");
    assert!(after > 0.93 && after > before, "{before} {after}");
    // The callback ends it.
    let mut count = 0;
    let stop = |_: &relievo_fit::Step<'_>| {
        count += 1;
        if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    fit_vertices(&vertices, &faces, &camera, &wanted, &settings, stop).unwrap();
    assert_eq!(count, 3);
}

#[test]
fn a_sphere_takes_the_shape_of_silhouettes() {
    let mut target = shapes::icosphere(3);
    target
        .vertices
        .iter_mut()
        .for_each(|[x, y, z]| (*x, *y, *z) = (0.9 * *x, 0.45 * *y + 0.1 * *x, 0.7 * *z));
    let target_vertices = Tensor::new(target.vertices.as_flattened(), [target.vertices.len(), 3]).unwrap();
    let target_faces = Faces::new(target.faces);
    let view = |azimuth: f32| {
        let camera = camera(azimuth, if azimuth > 150.0 { 40.0 } else { 5.0 });
        View { silhouette: silhouette(&target_vertices, &target_faces, &camera, 48), camera }
    };
    let views: Vec<View> = [0.0, 45.0, 90.0, 135.0, 180.0, 270.0].map(view).to_vec();
    let sphere = shapes::icosphere(2);
    let vertices = Tensor::new(sphere.vertices.as_flattened(), [sphere.vertices.len(), 3]).unwrap();
    let faces = Faces::new(sphere.faces);
    let settings = ShapeSettings { steps: 60, ..ShapeSettings::default() };
    let quiet = |_: &relievo_fit::Step<'_>, _: &Tensor| ControlFlow::Continue(());
    let found = fit_shape(&vertices, &faces, &views, &settings, quiet).unwrap();
    let mean = found.ious.iter().sum::<f64>() / 6.0;
    assert!(mean > 0.95, "{mean} {:?}", found.ious);
    assert!(found.vertices.data().iter().all(|value| value.is_finite()));
    let none = fit_shape(&vertices, &faces, &[], &settings, quiet);
    assert!(matches!(none, Err(FitError::Input(_))));
    let mut uneven = views;
    uneven[1].silhouette = Tensor::zeros([4, 4]);
    let message = fit_shape(&vertices, &faces, &uneven, &settings, quiet).unwrap_err().to_string();
    assert!(message.contains("silhouette 1") && message.contains("4x4"), "{message}");
}

#[test]
fn colours_are_found_again() {
    let (vertices, faces) = parts(&shapes::icosphere(2));
    let mut colours = vertices.detach();
    colours.data_mut().iter_mut().for_each(|value| *value = 0.5 + 0.4 * *value);
    let render = |appearance: &Appearance, camera: &Camera| {
        let object =
            Object { vertices: vertices.clone(), faces: faces.clone(), appearance: appearance.clone() };
        let scene = Scene { lights: Lights::none(), ..Scene::new(object, camera.clone()) };
        let image = Renderer::new(40, 40).render(&[scene], Outputs::COLOUR).unwrap().colour.unwrap();
        Tensor::new(image.data(), [40, 40, 3]).unwrap()
    };
    let truth = Appearance::VertexColours(colours);
    let view = |azimuth: f32| {
        let camera = camera(azimuth, 20.0);
        TextureView { image: render(&truth, &camera), camera, mask: None }
    };
    let views: Vec<TextureView> = [0.0, 60.0, 120.0, 180.0, 240.0, 300.0].map(view).to_vec();
    for paint in [Paint::Vertices, Paint::Cubes(2)] {
        let settings = TextureSettings { steps: 60, batch: 6, ..TextureSettings::default() };
        let mut losses = Vec::new();
        let found = fit_texture(&vertices, &faces, &paint, &views, &settings, |step| {
            losses.push(step.loss);
            ControlFlow::Continue(())
        });
        assert!(losses[59] < losses[0] / 50.0, "{losses:?}");
        let seen = render(&found.unwrap(), &views[0].camera);
        let far = seen.data().iter().zip(views[0].image.data()).map(|(a, b)| (a - b).abs());
        assert!(far.sum::<f32>() / 4800.0 < 0.02);
    }
    let settings = TextureSettings::default();
    let none =
        fit_texture(&vertices, &faces, &Paint::Vertices, &[], &settings, |_| ControlFlow::Continue(()));
    assert!(none.is_err());
}

#[test]
fn a_camera_is_found_from_far_and_from_anywhere() {
    let (vertices, faces) = parts(&shapes::teapot(2));
    let wanted = silhouette(&vertices, &faces, &camera(-15.0, 30.0), 64);
    let settings = CameraSettings { steps: 300, enough: 6.0, ..CameraSettings::default() };
    let quiet = |_: &relievo_fit::Step<'_>| ControlFlow::Continue(());
    let found = fit_camera(&vertices, &faces, &wanted, &[[6.0, 10.0, -14.0]], &settings, quiet).unwrap();
    assert!(found.iou > 0.95, "{found:?}");
    let settings = CameraSettings { steps: 80, enough: 0.0, free_target: true, ..settings };
    let found = fit_camera(&vertices, &faces, &wanted, &starts_around(4.0), &settings, quiet).unwrap();
    assert!(found.iou > 0.95, "{found:?}");
    assert!(fit_camera(&vertices, &faces, &wanted, &[], &settings, quiet).is_err());
}

/// Silhouettes of an object that looks much the same from opposite sides, except for perspective.
#[test]
fn a_camera_is_found_on_the_right_side() {
    let (vertices, faces) = parts(&shapes::teapot(2));
    let settings =
        CameraSettings { steps: 60, tries: 30, enough: 0.0, free_target: true, ..CameraSettings::default() };
    let quiet = |_: &relievo_fit::Step<'_>| ControlFlow::Continue(());
    for [azimuth, elevation] in [[-15.0, 30.0], [160.0, 10.0], [100.0, -25.0], [35.0, 55.0], [-120.0, 0.0]] {
        let camera = camera(azimuth, elevation);
        let relievo_mesh::View::LookAt { eye, .. } = &camera.view else { unreachable!() };
        let wanted = silhouette(&vertices, &faces, &camera, 64);
        let found = fit_camera(&vertices, &faces, &wanted, &starts_around(4.0), &settings, quiet).unwrap();
        let [own, right] = [found.eye, [0, 1, 2].map(|k| eye.data()[k])];
        let off = length(sub(own, right));
        assert!(off < 0.05 && found.iou > 0.99, "{azimuth} {elevation}: {off} beside, {found:?}");
    }
}
