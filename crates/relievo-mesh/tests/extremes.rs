//! The largest and the smallest images, and very many triangles.

use relievo_mesh::{
    Appearance, Camera, Faces, Lens, Object, Outputs, Renderer, Scene, View, orthographic, shapes,
};
use relievo_tensor::{Tape, Tensor};

fn vector(v: [f32; 3]) -> Tensor {
    Tensor::new(&v, [3]).unwrap()
}

/// One camera of each kind, all of which see the origin from a distance of 3.
fn cameras() -> [Camera; 6] {
    let turned = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]];
    let upright = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let matrix = [[200.0, 0.0, 100.0], [0.0, 150.0, 75.0], [0.0, 0.0, 1.0]];
    let view = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -3.0], [0.0, 0.0, 0.0, 1.0]];
    let projection =
        [[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, -1.0, -0.2], [0.0, 0.0, -1.0, 0.0]];
    let eye = vector([0.0, 0.0, -3.0]);
    let look =
        View::Look { eye: eye.clone(), direction: vector([0.0, 0.0, 1.0]), up: vector([0.0, 1.0, 0.0]) };
    [
        Camera::looking_at_origin(eye.clone()),
        Camera { view: look, ..Camera::default() },
        Camera { lens: Lens::Orthographic, ..Camera::looking_at_origin(eye) },
        Camera::from_opencv(matrix, turned, [0.0, 0.0, 3.0], [0.0; 5], [200.0, 150.0]),
        Camera::from_opengl(view, projection).unwrap(),
        Camera::from_pytorch3d(upright, [0.0, 0.0, 3.0], [2.0; 2], [0.0; 2], [1.0; 2]),
    ]
}

/// An octahedron about a point, which is seen from everywhere.
fn octahedron(point: [f32; 3], size: [f32; 3]) -> Object {
    let corner = |axis: usize, sign: f32| {
        let mut corner = point;
        corner[axis] += sign * size[axis];
        corner
    };
    let corners: Vec<[f32; 3]> = (0..3).flat_map(|axis| [corner(axis, 1.0), corner(axis, -1.0)]).collect();
    let faces: Vec<[u32; 3]> = (0..8).map(|i: u32| [i & 1, 2 + (i >> 1 & 1), 4 + (i >> 2)]).collect();
    Object {
        vertices: Tensor::new(corners.as_flattened(), [6, 3]).unwrap(),
        faces: Faces::new(faces),
        appearance: Appearance::White,
    }
}

/// The position of a point in pixels, by the camera.
fn pixel_of(camera: &Camera, point: [f32; 3], [width, height]: [usize; 2]) -> [f32; 2] {
    let seen = camera.view(&Tensor::new(&point, [1, 3]).unwrap()).unwrap();
    let screen = camera.project(&seen, width as f32 / height as f32).unwrap();
    [(screen.data()[0] + 1.0) / 2.0 * width as f32, (1.0 - screen.data()[1]) / 2.0 * height as f32]
}

/// Renders an octahedron of about three pixels and checks that it is on the pixel of its middle and nowhere else, and that
/// gradients are finite.
fn assert_lands(camera: &Camera, point: [f32; 3], [width, height]: [usize; 2]) {
    let size = [width, height];
    let [x, y] = pixel_of(camera, point, size);
    assert!((0.0..width as f32).contains(&x) && (0.0..height as f32).contains(&y), "({x}, {y}) of {size:?}");
    // Pixels that one unit along an axis measures.
    let scale = [0, 1].map(|axis| {
        let mut moved = point;
        moved[axis] += 0.01;
        (pixel_of(camera, moved, size)[axis] - [x, y][axis]).abs() * 100.0
    });
    let [across, down] = scale.map(|scale| 1.5 / scale);
    let tape = Tape::new();
    let mut object = octahedron(point, [across, down, across.min(down).min(0.1)]);
    object.vertices = tape.watch(&object.vertices);
    let vertices = object.vertices.clone();
    let renderer = Renderer::new(width, height);
    let scene = Scene::new(object, camera.clone());
    let alpha = renderer.render(&[scene], Outputs::SILHOUETTE).unwrap().alpha.unwrap();
    let middle = y as usize * width + x as usize;
    for (pixel, alpha) in alpha.data().iter().enumerate() {
        let away = (pixel % width).abs_diff(x as usize).max((pixel / width).abs_diff(y as usize));
        assert!(pixel != middle || *alpha > 0.0, "({x}, {y}) of {size:?} is empty: {camera:?}");
        assert!(away <= 3 || *alpha == 0.0, "pixel {pixel} of {size:?} is not, ({x}, {y}) is: {camera:?}");
    }
    let gradients = tape.backward(&alpha).unwrap();
    assert!(gradients.get(&vertices).unwrap().data().iter().all(|g| g.is_finite()));
}

#[test]
fn vertices_land_on_their_pixels_at_every_size() {
    let sizes = [[1, 1], [2, 3], [64, 64], [333, 177], [1024, 768]];
    for camera in cameras() {
        for size in sizes {
            for point in [[0.0, 0.0, 0.0], [0.21, -0.17, 0.3], [-0.33, 0.29, -0.2]] {
                assert_lands(&camera, point, size);
            }
        }
    }
}

#[test]
fn images_may_be_sixteen_thousand_pixels_wide_or_high() {
    for camera in cameras() {
        for size in [[16_384, 1], [16_384, 64]] {
            assert_lands(&camera, [0.11, 0.0, 0.1], size);
        }
        for size in [[1, 16_384], [64, 16_384]] {
            assert_lands(&camera, [0.0, -0.07, 0.1], size);
        }
    }
}

/// 5 GiB and 20 seconds.
#[test]
#[ignore = "takes 5 GiB and 20 seconds"]
fn the_largest_image_is_drawn() {
    let size = [16_384, 16_384];
    let camera = &cameras()[2];
    let renderer = Renderer::new(size[0], size[1]);
    let scene = Scene::new(octahedron([0.0; 3], [0.5; 3]), camera.clone());
    let alpha = renderer.render(&[scene], Outputs::SILHOUETTE).unwrap().alpha.unwrap();
    // A square on its corner: half of its box, which is a quarter of the image.
    let covered = alpha.data().iter().map(|alpha| f64::from(*alpha)).sum::<f64>() / 16_384f64.powi(2);
    assert!((covered - 0.125).abs() < 1e-4, "{covered}");
    assert_eq!(alpha.data()[8192 * 16_384 + 8192], 1.0);
}

#[test]
fn a_million_triangles_are_drawn_and_moved() {
    let sphere = shapes::icosphere(8);
    assert!(sphere.faces.len() > 1_000_000);
    let tape = Tape::new();
    let vertices = Tensor::new(sphere.vertices.as_flattened(), [sphere.vertices.len(), 3]).unwrap();
    let vertices = tape.watch(&vertices);
    let object =
        Object { vertices: vertices.clone(), faces: Faces::new(sphere.faces), appearance: Appearance::White };
    let camera = &cameras()[2];
    let outputs = Outputs { faces: true, ..Outputs::RGBA_DEPTH };
    let rendered = Renderer::new(64, 64).render(&[Scene::new(object, camera.clone())], outputs).unwrap();
    let alpha = rendered.alpha.unwrap();
    let area = alpha.data().iter().sum::<f32>() / 1024.0;
    assert!((area - std::f32::consts::PI).abs() < 0.01, "{area}");
    // Nearest is the face about the pole towards the camera.
    let index = rendered.face_index.unwrap().data()[32 * 64 + 32];
    assert!((0.0..1_310_720.0).contains(&index) && index.fract() == 0.0, "{index}");
    let depth = rendered.depth.unwrap();
    assert!((depth.data()[32 * 64 + 32] - 2.0).abs() < 2e-3);
    let gradients = tape.backward(&depth).unwrap();
    let gradient = gradients.get(&vertices).unwrap().data();
    assert!(gradient.iter().all(|g| g.is_finite()));
    // The depth of covered samples is z of their faces' corners: all shares together are the covered area in pixels.
    let along: f64 = gradient.as_chunks::<3>().0.iter().map(|g| f64::from(g[2])).sum();
    let covered: f64 = alpha.data().iter().map(|alpha| f64::from(*alpha)).sum();
    assert!((along - covered).abs() < 1e-2 * covered, "{along} {covered}");
}

/// Faces without area, with corners in one position or on one line, and faces that hold the camera between them.
#[test]
fn faces_without_area_and_around_the_camera_do_no_harm() {
    let places = [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, -3.0]];
    let faces = vec![[0, 0, 0], [0, 1, 2], [1, 1, 3], [0, 1, 3], [4, 4, 0], [4, 1, 3], [0, 4, 2]];
    for camera in cameras() {
        let tape = Tape::new();
        let vertices = tape.watch(&Tensor::new(places.as_flattened(), [5, 3]).unwrap());
        let object = Object {
            vertices: vertices.clone(),
            faces: Faces::new(faces.clone()),
            appearance: Appearance::White,
        };
        let renderer = Renderer::new(40, 30);
        let rendered = renderer.render(&[Scene::new(object, camera)], Outputs::RGBA_DEPTH).unwrap();
        let images = [rendered.alpha.unwrap(), rendered.colour.unwrap(), rendered.depth.unwrap()];
        assert!(images.iter().all(|image| image.data().iter().all(|x| x.is_finite())));
        assert!(images[0].data().iter().sum::<f32>() > 3.0, "the one good face is drawn");
        let seeds = images.each_ref().map(|image| (image, Tensor::full(image.shape(), 1.0)));
        let gradients = tape.backward_from(&seeds).unwrap();
        assert!(gradients.get(&vertices).unwrap().data().iter().all(|g| g.is_finite()));
    }
    // Nothing but orthographic projection sees the camera's own place.
    assert!(orthographic(&Tensor::new(&places[4], [1, 3]).unwrap(), 1.0).is_ok());
}
