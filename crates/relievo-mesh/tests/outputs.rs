//! Images beside colour, silhouettes and depth; images as textures; light on either side. Scenes worked out by hand.

use std::sync::Arc;

use relievo_mesh::{
    Appearance, Camera, Faces, ImageTexture, Lens, Lights, Mesh, Normals, Object, Outputs, Renderer, Scene,
    Wrap, shapes,
};
use relievo_tensor::{Tape, Tensor};

fn object(mesh: &Mesh) -> Object {
    let vertices = Tensor::new(mesh.vertices.as_flattened(), [mesh.vertices.len(), 3]).unwrap();
    Object { vertices, faces: Faces::new(mesh.faces.clone()), appearance: Appearance::White }
}

/// Sees x and y from -1 to 1, from z = -3.
fn flat_camera() -> Camera {
    let eye = Tensor::new(&[0.0, 0.0, -3.0], [3]).unwrap();
    Camera { lens: Lens::Orthographic, ..Camera::looking_at_origin(eye) }
}

/// The camera at z = -3 as OpenCV has it, y down: it sees the same without mirroring.
fn opencv_camera() -> Camera {
    // Turned by half a turn about z, so that y of the world is up.
    let turned = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]];
    let matrix = [[24.0, 0.0, 7.5], [0.0, 24.0, 7.5], [0.0, 0.0, 1.0]];
    Camera::from_opencv(matrix, turned, [0.0, 0.0, 3.0], [0.0; 5], [16.0, 16.0])
}

const EVERYTHING: Outputs =
    Outputs { normals: Some(Normals::Smooth), positions: true, faces: true, ..Outputs::RGBA_DEPTH };

#[test]
fn a_sphere_shows_its_places_and_its_normals() {
    let sphere = object(&shapes::icosphere(4));
    for camera in [flat_camera(), opencv_camera()] {
        for anti_aliasing in [true, false] {
            let renderer = Renderer { anti_aliasing, ..Renderer::new(16, 16) };
            let scene = Scene::new(sphere.clone(), camera.clone());
            let rendered = renderer.render(&[scene], EVERYTHING).unwrap();
            let [positions, normals] = [rendered.positions.unwrap(), rendered.normals.unwrap()];
            let (depth, alpha) = (rendered.depth.unwrap(), rendered.alpha.unwrap());
            let pixels = positions.data().as_chunks::<3>().0.iter().zip(normals.data().as_chunks::<3>().0);
            for (pixel, (p, n)) in pixels.enumerate() {
                if alpha.data()[pixel] == 0.0 {
                    assert_eq!((p, n), (&[0.0; 3], &[0.0; 3]));
                    continue;
                }
                let radius = p.iter().map(|x| x * x).sum::<f32>().sqrt();
                assert!((radius - 1.0).abs() < 4e-3, "{p:?}");
                // On a sphere about the origin they are the same, and the front is towards -z.
                assert!(p.iter().zip(n).all(|(p, n)| (p - n).abs() < 0.03) && n[2] < 0.2, "{p:?} {n:?}");
                if !anti_aliasing {
                    assert!((depth.data()[pixel] - (p[2] + 3.0)).abs() < 1e-4);
                }
            }
        }
    }
}

#[test]
fn light_falls_on_the_side_that_is_seen() {
    // From the viewer's side of the square, whichever way its corners run and whatever camera sees them.
    for camera in [flat_camera(), opencv_camera()] {
        for face in [[0, 1, 2], [2, 1, 0]] {
            let corners = vec![[-0.9, -0.9, 0.0], [0.9, -0.9, 0.0], [0.0, 0.9, 0.0]];
            let mut lights = Lights::default();
            lights.directional[0].direction = Tensor::new(&[0.0, 0.0, -1.0], [3]).unwrap();
            let objects = vec![object(&Mesh::new(corners, vec![face]))];
            let scene = Scene { objects, camera: camera.clone(), lights };
            let outputs = Outputs { normals: Some(Normals::Faces), ..Outputs::COLOUR };
            let rendered = Renderer::new(16, 16).render(&[scene], outputs).unwrap();
            let middle = (8 * 16 + 8) * 3;
            assert_eq!(rendered.colour.unwrap().data()[middle..middle + 3], [1.0; 3]);
            assert_eq!(rendered.normals.unwrap().data()[middle..middle + 3], [0.0, 0.0, -1.0]);
        }
    }
}

#[test]
fn colour_and_silhouette_are_one_tensor_on_request() {
    let tape = Tape::new();
    let mut sphere = object(&shapes::icosphere(1));
    sphere.vertices = tape.watch(&sphere.vertices);
    let vertices = sphere.vertices.clone();
    let rendered = Renderer::new(6, 4).render(&[Scene::new(sphere, flat_camera())], Outputs::RGBA).unwrap();
    let rgba = rendered.rgba().unwrap().unwrap();
    assert_eq!(rgba.shape(), [1, 4, 6, 4].into());
    let (colour, alpha) = (rendered.colour.clone().unwrap(), rendered.alpha.clone().unwrap());
    let pairs = colour.data().as_chunks::<3>().0.iter().zip(alpha.data());
    let expected: Vec<f32> = pairs.flat_map(|([r, g, b], alpha)| [*r, *g, *b, *alpha]).collect();
    assert_eq!(rgba.data(), expected);
    // One upstream gradient of four channels is that of three and that of one, asked together.
    let numbers = relievo_tensor::testing::random_tensor(3, [1, 4, 6, 4]);
    let quads = numbers.data().as_chunks::<4>().0;
    let of_colour: Vec<f32> = quads.iter().flat_map(|quad| quad[..3].to_vec()).collect();
    let of_alpha: Vec<f32> = quads.iter().map(|quad| quad[3]).collect();
    let seeds = [
        (&colour, Tensor::new(&of_colour, [1, 4, 6, 3]).unwrap()),
        (&alpha, Tensor::new(&of_alpha, [1, 4, 6]).unwrap()),
    ];
    let apart = tape.backward_from(&seeds).unwrap().get(&vertices).unwrap().clone();
    assert!(apart.data().iter().any(|g| *g != 0.0));
    let tape = Tape::new();
    let mut sphere = object(&shapes::icosphere(1));
    sphere.vertices = tape.watch(&sphere.vertices);
    let vertices = sphere.vertices.clone();
    let rendered = Renderer::new(6, 4).render(&[Scene::new(sphere, flat_camera())], Outputs::RGBA).unwrap();
    let rgba = rendered.rgba().unwrap().unwrap();
    let together = tape.backward_from(&[(&rgba, numbers)]).unwrap();
    assert_eq!(together.get(&vertices).unwrap().data(), apart.data());
    let alone =
        Renderer::new(6, 4).render(&[Scene::new(object(&shapes::cube()), flat_camera())], Outputs::COLOUR);
    assert!(alone.unwrap().rgba().unwrap().is_none());
}

#[test]
fn faces_are_counted_through_all_objects() {
    let triangle = |left: f32| {
        let corners = vec![[left, -1.0, 0.0], [left + 1.0, -1.0, 0.0], [left, 1.0, 0.0]];
        object(&Mesh::new(corners, vec![[0, 0, 0], [0, 1, 2]]))
    };
    let objects = vec![triangle(-1.0), triangle(0.0)];
    let scene = Scene { objects, camera: flat_camera(), lights: Lights::none() };
    let renderer = Renderer { anti_aliasing: false, ..Renderer::new(4, 4) };
    let rendered = renderer.render(&[scene], Outputs { faces: true, ..Outputs::NONE }).unwrap();
    let index = rendered.face_index.unwrap();
    assert_eq!(
        index.data(),
        [-1.0, -1.0, -1.0, -1.0, 1.0, -1.0, 3.0, -1.0, 1.0, -1.0, 3.0, -1.0, 1.0, 1.0, 3.0, 3.0]
    );
    // The lowest row is 1/8 of the height above the edge, its columns 1/4 and 3/4 of the base from the left.
    let barycentrics = rendered.barycentrics.unwrap();
    let of = |pixel: usize| barycentrics.data()[3 * pixel..3 * pixel + 3].to_vec();
    let near = |got: Vec<f32>, right: [f32; 3]| {
        assert!(got.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?} {right:?}");
    };
    near(of(12), [0.625, 0.25, 0.125]);
    near(of(15), [0.125, 0.75, 0.125]);
    near(of(0), [0.0; 3]);
}

#[test]
fn the_gradient_of_places_is_that_of_corners() {
    let tape = Tape::new();
    let mut triangle =
        object(&Mesh::new(vec![[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]], vec![[0, 1, 2]]));
    triangle.vertices = tape.watch(&triangle.vertices);
    let vertices = triangle.vertices.clone();
    let renderer = Renderer { anti_aliasing: false, ..Renderer::new(4, 4) };
    let outputs = Outputs { positions: true, ..Outputs::NONE };
    let rendered = renderer.render(&[Scene::new(triangle, flat_camera())], outputs).unwrap();
    let positions = rendered.positions.unwrap();
    let mut upstream = Tensor::zeros(positions.shape());
    // z of the lower left pixel.
    upstream.data_mut()[3 * 12 + 2] = 2.0;
    let gradients = tape.backward_from(&[(&positions, upstream)]).unwrap();
    let is = [1.5, 0.25, 0.25];
    for (got, is) in gradients.get(&vertices).unwrap().data().chunks(3).zip(is) {
        assert!((got[2] - is).abs() < 1e-5 && got[..2] == [0.0; 2], "{got:?} {is}");
    }
}

#[test]
fn images_are_sampled_at_every_sample_and_wrapped_there() {
    let tape = Tape::new();
    // Red above, green below; left black, right bright.
    let image = [[0.0; 3], [1.0, 0.0, 0.0], [0.0; 3], [0.0, 1.0, 0.0]];
    let image = tape.watch(&Tensor::new(image.as_flattened(), [2, 2, 3]).unwrap());
    let square = Mesh::new(
        vec![[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]],
        vec![[0, 1, 2], [0, 2, 3]],
    );
    let [a, b, c, d] = [[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]];
    let corners: Arc<[_]> = vec![Some([a, b, c]), Some([a, c, d])].into();
    let wrap = [Wrap::Repeat, Wrap::ClampToEdge];
    let texture = ImageTexture { image: image.clone(), corners, wrap };
    let object = Object { appearance: Appearance::Image(texture), ..object(&square) };
    let scene = Scene { lights: Lights::none(), ..Scene::new(object, flat_camera()) };
    let renderer = Renderer { anti_aliasing: false, ..Renderer::new(8, 2) };
    let mut camera = scene.clone();
    // Wide images show more to the sides, so the square is stretched.
    camera.objects[0].vertices.data_mut().chunks_mut(3).for_each(|vertex| vertex[0] *= 4.0);
    let colour = renderer.render(&[camera], Outputs::COLOUR).unwrap().colour.unwrap();
    // u of the columns: 1/8, 3/8, 5/8, 7/8, and again; v of the rows: 3/4 and 1/4.
    for (pixel, rgb) in colour.data().as_chunks::<3>().0.iter().enumerate() {
        let (u, v) = ((pixel % 4) as f32 / 4.0 + 0.125, if pixel < 8 { 0.75 } else { 0.25 });
        let right = [u * v, u * (1.0 - v), 0.0];
        assert!(rgb.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-5), "{pixel}: {rgb:?} {right:?}");
    }
    let gradients = tape.backward(&colour).unwrap();
    // Two periods of u, whose mean is 1/2, and two rows: 16 samples.
    let gradient = gradients.get(&image).unwrap().data();
    assert!(gradient.iter().all(|g| (g - 4.0).abs() < 1e-4), "{gradient:?}");
}
