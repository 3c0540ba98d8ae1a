//! Meshes made by code: spheres, cube, square, torus, Newell's teapot, the surface of a depth map.
//!
//! Faces run counter-clockwise as seen from outside in a right-handed frame (x right, y up, z towards the viewer), as in
//! files.

mod relief;
mod teapot;

pub use relief::relief;
pub use teapot::teapot;

use std::collections::HashMap;
use std::f64::consts::TAU;

use crate::mesh::{Mesh, TextureCoordinates};

/// A sphere of radius 1 about the origin: an icosahedron whose faces are divided into four, `subdivisions` times. It has
/// `10 * 4^subdivisions + 2` vertices and `20 * 4^subdivisions` faces, nearly equal in size.
///
/// # Panics
/// For more than 12 subdivisions (335 million faces).
pub fn icosphere(subdivisions: u32) -> Mesh {
    assert!(subdivisions <= 12, "{subdivisions} subdivisions of an icosphere; at most 12 are possible");
    let golden = (1.0 + 5.0_f64.sqrt()) / 2.0;
    // Three rectangles at right angles to each other, each in its own plane.
    let mut vertices: Vec<[f64; 3]> = Vec::new();
    for axis in 0..3 {
        for (long, short) in [(golden, 1.0), (golden, -1.0), (-golden, 1.0), (-golden, -1.0)] {
            let mut vertex = [0.0; 3];
            vertex[axis] = long;
            vertex[(axis + 1) % 3] = short;
            vertices.push(unit(vertex));
        }
    }
    let mut faces = icosahedron(&vertices);
    for _ in 0..subdivisions {
        let mut middles = HashMap::new();
        let mut middle = |a: u32, b: u32| {
            *middles.entry([a.min(b), a.max(b)]).or_insert_with(|| {
                let [a, b] = [a.min(b), a.max(b)].map(|end| vertices[end as usize]);
                vertices.push(unit(std::array::from_fn(|axis| a[axis] + b[axis])));
                vertices.len() as u32 - 1
            })
        };
        let divided = faces.iter().flat_map(|&[a, b, c]| {
            let [ab, bc, ca] = [middle(a, b), middle(b, c), middle(c, a)];
            [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
        });
        faces = divided.collect();
    }
    Mesh::new(vertices.into_iter().map(|vertex| vertex.map(|value| value as f32)).collect(), faces)
}

/// An [`icosphere`] with dents and bumps, the same for the same `seed`: the distance of each vertex from the centre is
/// between 1 - `roughness` and 1 + `roughness`, 0 to 1. The standard object to try gradients on.
///
/// # Panics
/// As [`icosphere`].
pub fn lumpy_sphere(subdivisions: u32, roughness: f32, seed: u64) -> Mesh {
    let mut sphere = icosphere(subdivisions);
    let random = relievo_tensor::Random::named(seed, "lumpy sphere");
    for (index, vertex) in sphere.vertices.iter_mut().enumerate() {
        let radius = 1.0 + roughness * (2.0 * random.uniform(index as u64) - 1.0);
        *vertex = vertex.map(|x| radius * x);
    }
    sphere
}

/// The triples of vertices of an icosahedron that are one edge apart, outside out.
fn icosahedron(vertices: &[[f64; 3]]) -> Vec<[u32; 3]> {
    // Neighbours are those at the least angle: its cosine is 1/sqrt(5), the next one's is negative.
    let near = |a: usize, b: usize| dot(vertices[a], vertices[b]) > 0.4;
    let mut faces = Vec::new();
    for a in 0..vertices.len() {
        for b in a + 1..vertices.len() {
            for c in b + 1..vertices.len() {
                if near(a, b) && near(b, c) && near(a, c) {
                    let outside = dot(vertices[a], cross(vertices[b], vertices[c])) > 0.0;
                    faces.push(if outside { [a, b, c] } else { [a, c, b] }.map(|corner| corner as u32));
                }
            }
        }
    }
    faces
}

/// A sphere of radius 1 about the origin with poles at y = 1 and -1: `segments` around (at least 3), `rings` from pole to
/// pole (at least 2), with the texture coordinates of an equirectangular image: u runs around from behind (-z), v from
/// pole to pole.
///
/// # Panics
/// For fewer segments or rings.
pub fn uv_sphere(segments: u32, rings: u32) -> Mesh {
    assert!(segments >= 3 && rings >= 2, "a sphere of {segments} segments and {rings} rings");
    let [columns, rows] = [segments as usize, rings as usize];
    let point = |row: usize, column: usize| {
        let (polar, azimuth) =
            (TAU / 2.0 * (row as f64 / rows as f64), TAU * (column as f64 / columns as f64));
        [-polar.sin() * azimuth.sin(), polar.cos(), -polar.sin() * azimuth.cos()]
    };
    let place = |row: usize, column: usize| [column as f32 / columns as f32, 1.0 - row as f32 / rows as f32];
    let mut mesh = Mesh::default();
    add_tube(&mut mesh, rows, columns, [true, true], &point);
    textured_tube(&mut mesh, rows, columns, [true, true], &place);
    mesh
}

/// A torus about the y axis: a tube of radius `minor` along a circle of radius `major`, `segments` along the circle and
/// `sides` around the tube (each at least 3). u runs along the circle, v around the tube.
///
/// # Panics
/// For fewer segments or sides.
pub fn torus(major: f32, minor: f32, segments: u32, sides: u32) -> Mesh {
    assert!(segments >= 3 && sides >= 3, "a torus of {segments} segments and {sides} sides");
    let [rows, columns] = [segments as usize, sides as usize];
    let [major, minor] = [major, minor].map(f64::from);
    let turn = |step: usize, of: usize| (TAU * (step % of) as f64 / of as f64).sin_cos();
    let mut mesh = Mesh::default();
    for row in 0..rows {
        let (sine, cosine) = turn(row, rows);
        for column in 0..columns {
            let (up, out) = turn(column, columns);
            let radius = major + minor * out;
            mesh.vertices.push([radius * cosine, minor * up, -radius * sine].map(|value| value as f32));
        }
    }
    let mut texture = TextureCoordinates::default();
    for row in 0..=rows {
        for column in 0..=columns {
            texture.coordinates.push([row as f32 / rows as f32, column as f32 / columns as f32]);
        }
    }
    for row in 0..rows {
        for column in 0..columns {
            let vertex = |r: usize, c: usize| (r % rows * columns + c % columns) as u32;
            let place = |r: usize, c: usize| (r * (columns + 1) + c) as u32;
            let corners = [(row, column), (row + 1, column), (row + 1, column + 1), (row, column + 1)];
            for triangle in [[0, 1, 2], [0, 2, 3]] {
                mesh.faces.push(triangle.map(|corner: usize| vertex(corners[corner].0, corners[corner].1)));
                let places = triangle.map(|corner: usize| place(corners[corner].0, corners[corner].1));
                texture.faces.push(Some(places));
            }
        }
    }
    mesh.texture_coordinates = Some(texture);
    mesh
}

/// The cube [-1, 1]^3: 8 vertices, 12 faces. Each side carries a whole image.
pub fn cube() -> Mesh {
    let corner = |at: usize| std::array::from_fn(|axis| if at >> axis & 1 == 1 { 1.0 } else { -1.0 });
    // Lower left, lower right, upper right, upper left, seen from outside; bits are x, y, z.
    let sides: [[u32; 4]; 6] =
        [[4, 5, 7, 6], [1, 0, 2, 3], [5, 1, 3, 7], [0, 4, 6, 2], [6, 7, 3, 2], [0, 1, 5, 4]];
    let mut mesh = Mesh::new((0..8).map(corner).collect(), vec![]);
    for side in sides {
        mesh.faces.extend([[0, 1, 2], [0, 2, 3]].map(|triangle| triangle.map(|at: usize| side[at])));
    }
    mesh.texture_coordinates = Some(whole_images(6));
    mesh
}

/// The square [-1, 1]^2 at z = 0, facing +z: 4 vertices, 2 faces, with a whole image on it.
pub fn quad() -> Mesh {
    let vertices = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]].map(|[x, y]| [x, y, 0.0]);
    let texture_coordinates = Some(whole_images(1));
    Mesh { texture_coordinates, ..Mesh::new(vertices.to_vec(), vec![[0, 1, 2], [0, 2, 3]]) }
}

/// The texture coordinates of squares of two faces, each with a whole image.
fn whole_images(squares: usize) -> TextureCoordinates {
    TextureCoordinates {
        coordinates: vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]],
        faces: [Some([0, 1, 2]), Some([0, 2, 3])].repeat(squares),
    }
}

/// Adds a tube: `rows + 1` closed curves of `columns` points, or single points at the ends that are poles, with faces in
/// between. `columns` run counter-clockwise as seen from where the tube begins.
fn add_tube(
    mesh: &mut Mesh,
    rows: usize,
    columns: usize,
    poles: [bool; 2],
    point: &dyn Fn(usize, usize) -> [f64; 3],
) {
    let start = mesh.vertices.len();
    for row in 0..=rows {
        let count = if is_pole(row, rows, poles) { 1 } else { columns };
        let points = (0..count).map(|column| point(row, column).map(|value| value as f32));
        mesh.vertices.extend(points);
    }
    let number = |row: usize, column: usize| {
        let before = if row > 0 && poles[0] { 1 + (row - 1) * columns } else { row * columns };
        let column = if is_pole(row, rows, poles) { 0 } else { column % columns };
        (start + before + column) as u32
    };
    for_each_face(rows, columns, poles, |corners| {
        mesh.faces.push(corners.map(|(row, column)| number(row, column)));
    });
}

/// Texture coordinates for a mesh that is one tube: `rows + 1` times `columns + 1` of them.
fn textured_tube(
    mesh: &mut Mesh,
    rows: usize,
    columns: usize,
    poles: [bool; 2],
    place: &dyn Fn(usize, usize) -> [f32; 2],
) {
    let mut texture = TextureCoordinates::default();
    for row in 0..=rows {
        texture.coordinates.extend((0..=columns).map(|column| place(row, column)));
    }
    for_each_face(rows, columns, poles, |corners| {
        texture.faces.push(Some(corners.map(|(row, column)| (row * (columns + 1) + column) as u32)));
    });
    mesh.texture_coordinates = Some(texture);
}

fn is_pole(row: usize, rows: usize, poles: [bool; 2]) -> bool {
    row == 0 && poles[0] || row == rows && poles[1]
}

/// Calls with the (row, column) of the three corners of each face; those at poles would have no area and are left out.
fn for_each_face(rows: usize, columns: usize, poles: [bool; 2], mut add: impl FnMut([(usize, usize); 3])) {
    for row in 0..rows {
        for column in 0..columns {
            let [a, b, c, d] = [(row, column), (row + 1, column), (row + 1, column + 1), (row, column + 1)];
            if !is_pole(row + 1, rows, poles) {
                add([a, b, c]);
            }
            if !is_pole(row, rows, poles) {
                add([a, c, d]);
            }
        }
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn unit(vector: [f64; 3]) -> [f64; 3] {
    let length = dot(vector, vector).sqrt();
    vector.map(|value| value / length)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Six times the volume that the faces enclose: positive if they face outwards.
    fn volume(mesh: &Mesh) -> f64 {
        let corner = |&at: &u32| mesh.vertices[at as usize].map(f64::from);
        mesh.faces.iter().map(|[a, b, c]| dot(corner(a), cross(corner(b), corner(c))) / 6.0).sum()
    }

    /// Vertices - edges + faces, after a check that every edge has one face on either side.
    fn euler(mesh: &Mesh) -> isize {
        mesh.check().unwrap();
        let mut edges = HashMap::new();
        for &[a, b, c] in &mesh.faces {
            for edge in [[a, b], [b, c], [c, a]] {
                assert!(edges.insert(edge, ()).is_none(), "{edge:?} belongs to two faces in one direction");
            }
        }
        assert!(edges.keys().all(|&[a, b]| edges.contains_key(&[b, a])));
        mesh.vertices.len() as isize - edges.len() as isize / 2 + mesh.faces.len() as isize
    }

    #[test]
    fn spheres_are_closed_and_round() {
        for subdivisions in 0..4 {
            let sphere = icosphere(subdivisions);
            let count = 4_usize.pow(subdivisions);
            assert_eq!((sphere.vertices.len(), sphere.faces.len()), (10 * count + 2, 20 * count));
            assert_eq!(euler(&sphere), 2);
            let lengths = sphere.vertices.iter().map(|v| dot(v.map(f64::from), v.map(f64::from)).sqrt());
            assert!(lengths.into_iter().all(|length| (length - 1.0).abs() < 1e-6));
        }
        let full = TAU * 2.0 / 3.0;
        assert!((volume(&icosphere(4)) / full - 1.0).abs() < 0.01);
        let sphere = uv_sphere(48, 24);
        assert_eq!((euler(&sphere), sphere.faces.len()), (2, 48 * 23 * 2));
        assert!((volume(&sphere) / full - 1.0).abs() < 0.02);
        // The front, +z, is in the middle of the image, +x to the right of it.
        let texture = sphere.texture_coordinates.as_ref().unwrap();
        for (corners, places) in sphere.faces.iter().zip(&texture.faces) {
            for (&corner, place) in corners.iter().zip(places.unwrap()) {
                let [x, y, z] = sphere.vertices[corner as usize];
                let [u, v] = texture.coordinates[place as usize];
                assert!((v - (1.0 - y.acos() / (TAU / 2.0) as f32)).abs() < 1e-3);
                let pole = y.abs() > 0.999;
                let angle = x.atan2(z) / TAU as f32 + 0.5;
                assert!(pole || (angle - u).abs() < 1e-4 || (angle - u).abs() > 0.9999, "{angle} {u}");
            }
        }
    }

    #[test]
    fn cube_torus_and_square_face_outwards() {
        assert_eq!(euler(&cube()), 2);
        assert_eq!(volume(&cube()), 8.0);
        let ring = torus(1.0, 0.25, 64, 32);
        assert_eq!((euler(&ring), ring.faces.len()), (0, 64 * 32 * 2));
        let full = TAU * TAU / 4.0 * 2.0 * 0.0625;
        assert!((volume(&ring) / full - 1.0).abs() < 0.02);
        quad().check().unwrap();
        let [a, b, c] = quad().faces[0].map(|corner| quad().vertices[corner as usize]);
        assert!((b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0]));
    }

    #[test]
    fn images_on_the_cube_are_upright_and_not_mirrored() {
        let cube = cube();
        let texture = cube.texture_coordinates.as_ref().unwrap();
        for (corners, places) in cube.faces.iter().zip(&texture.faces) {
            let [a, b, c] = corners.map(|corner| cube.vertices[corner as usize]);
            let [p, q, r] = places.unwrap().map(|place| texture.coordinates[place as usize]);
            // Orientation in the image is that of the face seen from outside.
            assert!((q[0] - p[0]) * (r[1] - p[1]) > (q[1] - p[1]) * (r[0] - p[0]));
            let side = a[1] != b[1] || b[1] != c[1];
            for (corner, place) in [(a, p), (b, q), (c, r)] {
                assert!(!side || (corner[1] + 1.0) / 2.0 == place[1]);
            }
        }
    }

    #[test]
    fn the_teapot_has_its_four_parts() {
        for segments in [2, 7] {
            let teapot = teapot(segments);
            teapot.check().unwrap();
            assert_eq!(teapot.faces.len() as u32, 64 * segments * segments - 8 * segments);
            let mut merged = teapot.clone();
            merged.merge_vertices();
            // Vertices are shared within the parts. The handle ends in a vertex of the body.
            assert_eq!(merged.vertices.len(), teapot.vertices.len() - 1);
        }
        let teapot = teapot(8);
        let [low, high] = teapot.bounds().unwrap();
        let expected = [[-3.0, 0.0, -2.0], [3.434, 3.15, 2.0]];
        for (found, expected) in [low, high].iter().flatten().zip(expected.as_flattened()) {
            assert!((found - expected).abs() < 0.01, "{low:?} {high:?}");
        }
        // All parts face outwards. (Body and lid are open, so this is not the volume of tea.)
        assert!((volume(&teapot) - 25.7).abs() < 0.2, "{}", volume(&teapot));
    }
}
