//! A grid of points as a mesh, cut where it ends.

use std::collections::HashMap;

use crate::attributes::smooth_normals;
use crate::mesh::{Mesh, TextureCoordinates};

/// How near a cut may come to a vertex, as a share of the edge: closer ones would leave slivers.
const LEAST_SHARE: f32 = 0.05;

/// The part of a surface grid in which `level` is above 0: a triangle mesh, open at its rim, with normals and texture
/// coordinates.
///
/// - `points [rows, columns]` lie in the camera's frame (x right, y down, z away from the camera). They correspond to the
///   pixel centres of an image of that many rows and columns, whatever the texture's resolution.
/// - `level [rows, columns]` is interpolated linearly between neighbours, so that the rim runs smoothly between the points
///   instead of in steps along them.
/// - `inset` is the width of the frame of cells that is left out.
///
/// Cells are divided into triangles as the relief renderer does it. The frame of the mesh is that of glTF: x right, y up, z
/// towards the viewer, in metres. One unit of the camera's frame, the distance from the camera to the object, becomes a
/// metre: with a field of view of 10 degrees the image spans 17.5 cm at that distance, so a face that fills it is about
/// life-size. The origin is the centre of rotation of viewpoints, (0, 0, 1) in the camera's frame. Depth keeps its proportion
/// to width and height.
///
/// `None` if nothing is left, or if a remaining point is not finite.
///
/// ```
/// use relievo_mesh::shapes;
///
/// // Camera frame: x right, y down, z away from the camera; the dome bulges towards it.
/// let size = 32;
/// let points: Vec<[f32; 3]> = (0..size * size)
///     .map(|at| {
///         let [x, y] = [at % size, at / size].map(|index| index as f32 / 15.5 - 1.0);
///         [0.1 * x, 0.1 * y, 0.95 + 0.1 * (x * x + y * y)]
///     })
///     .collect();
/// // Keep what is nearer than 1.04.
/// let level: Vec<f32> = points.iter().map(|[_, _, z]| 1.04 - z).collect();
/// let dome = shapes::relief(&points, &level, size, 1).expect("the dome is nearer than that");
/// assert!(dome.vertices.iter().all(|[_, _, z]| *z > -0.041));
/// ```
///
/// # Panics
/// If `columns` is 0, or points and levels are not the same whole number of rows.
pub fn relief(points: &[[f32; 3]], level: &[f32], columns: usize, inset: usize) -> Option<Mesh> {
    assert!(
        columns > 0 && points.len().is_multiple_of(columns) && points.len() == level.len(),
        "{} points and {} levels in rows of {columns}",
        points.len(),
        level.len()
    );
    let rows = points.len() / columns;
    let (numbers, mesh) = (HashMap::new(), Mesh::default());
    let mut builder = Builder { points, level, columns, numbers, mesh, coordinates: Vec::new() };
    let cells = |count: usize| inset..count.saturating_sub(1).saturating_sub(inset);
    for row in cells(rows) {
        for column in cells(columns) {
            let at = row * columns + column;
            builder.add([at, at + columns, at + 1]);
            builder.add([at + 1, at + columns, at + columns + 1]);
        }
    }
    let Builder { mut mesh, coordinates, .. } = builder;
    let mut normals = smooth_normals(&mesh.vertices, &mesh.faces);
    for normal in normals.iter_mut().filter(|normal| **normal == [0.0; 3]) {
        // All triangles of this vertex have zero area; towards the viewer is as good as any direction.
        *normal = [0.0, 0.0, 1.0];
    }
    let is_finite = mesh.vertices.iter().chain(&normals).flatten().all(|value| value.is_finite());
    if mesh.faces.is_empty() || !is_finite {
        return None;
    }
    let faces = mesh.faces.iter().copied().map(Some).collect();
    mesh.texture_coordinates = Some(TextureCoordinates { coordinates, faces });
    mesh.normals = Some(normals);
    Some(mesh)
}

/// Cuts a grid's triangles at level 0, and numbers vertices in order of first use.
struct Builder<'a> {
    points: &'a [[f32; 3]],
    level: &'a [f32],
    columns: usize,
    /// Vertex numbers so far: by the grid point, given twice, or by the two points of a cut edge.
    numbers: HashMap<[usize; 2], u32>,
    mesh: Mesh,
    /// Texture coordinates of its vertices.
    coordinates: Vec<[f32; 2]>,
}

impl Builder<'_> {
    /// Adds the inside of a triangle: nothing, all of it, or one or two triangles with the same winding.
    fn add(&mut self, corners: [usize; 3]) {
        let mut rim = Vec::with_capacity(4);
        for (from, to) in [(0, 1), (1, 2), (2, 0)].map(|(from, to)| (corners[from], corners[to])) {
            let [starts_inside, ends_inside] = [from, to].map(|corner| self.level[corner] > 0.0);
            if starts_inside {
                rim.push(self.corner(from, from));
            }
            if starts_inside != ends_inside {
                rim.push(self.corner(from, to));
            }
        }
        if let [first, rest @ ..] = &rim[..] {
            self.mesh.faces.extend(rest.windows(2).map(|pair| [*first, pair[0], pair[1]]));
        }
    }

    /// The vertex where the edge between two points is cut, or the point itself if both are the same.
    fn corner(&mut self, a: usize, b: usize) -> u32 {
        let edge = [a.min(b), a.max(b)];
        *self.numbers.entry(edge).or_insert_with(|| {
            let [low, high] = edge;
            let share = if low == high {
                0.0
            } else {
                let share = self.level[low] / (self.level[low] - self.level[high]);
                share.clamp(LEAST_SHARE, 1.0 - LEAST_SHARE)
            };
            let between = |a: f32, b: f32| a + share * (b - a);
            let [from, to] = edge.map(|at| self.points[at]);
            let [x, y, z] = std::array::from_fn(|axis| between(from[axis], to[axis]));
            // From the camera's frame to glTF's: half a turn about x, and the origin moves to the pivot.
            self.mesh.vertices.push([x, -y, 1.0 - z]);
            let place = |at: usize| [at % self.columns, at / self.columns].map(|at| at as f32 + 0.5);
            let (from, to) = (place(low), place(high));
            let extent = [self.columns, self.points.len() / self.columns];
            let [u, v] = std::array::from_fn(|axis| between(from[axis], to[axis]) / extent[axis] as f32);
            self.coordinates.push([u, 1.0 - v]);
            self.mesh.vertices.len() as u32 - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vector::{cross, dot, sub};

    const COLUMNS: usize = 24;
    const ROWS: usize = 20;

    /// Half a ball of radius `RADIUS` about (0, 0, 1), seen by a camera at the origin that looks along z.
    const RADIUS: f32 = 0.08;

    /// Radius of the circle at which it is cut: farther out it is too steep for so coarse a grid.
    const OUTLINE: f32 = 0.8 * RADIUS;

    /// A grid over that ball, and how far inside its outline each point is.
    fn ball() -> (Vec<[f32; 3]>, Vec<f32>) {
        let point = |at: usize| {
            let x = ((at % COLUMNS) as f32 / (COLUMNS - 1) as f32 - 0.5) * 0.2;
            let y = ((at / COLUMNS) as f32 / (ROWS - 1) as f32 - 0.5) * 0.2;
            let squared = RADIUS * RADIUS - x * x - y * y;
            ([x, y, 1.0 - squared.max(0.0).sqrt()], OUTLINE - x.hypot(y))
        };
        (0..ROWS * COLUMNS).map(point).unzip()
    }

    fn mesh() -> Mesh {
        let (points, level) = ball();
        relief(&points, &level, COLUMNS, 0).unwrap()
    }

    /// Twice the area of a face as a vector, on the side from which its corners run counter-clockwise.
    fn area(mesh: &Mesh, face: &[u32; 3]) -> [f32; 3] {
        let [a, b, c] = face.map(|corner| mesh.vertices[corner as usize]);
        cross(sub(b, a), sub(c, a))
    }

    /// How often each edge is used in either direction.
    fn edges(mesh: &Mesh) -> HashMap<[u32; 2], usize> {
        let mut edges = HashMap::new();
        for [a, b, c] in &mesh.faces {
            for edge in [[*a, *b], [*b, *c], [*c, *a]] {
                *edges.entry(edge).or_default() += 1;
            }
        }
        edges
    }

    #[test]
    fn a_ball_bulges_towards_the_viewer_and_its_normals_point_away_from_its_centre() {
        let mesh = mesh();
        // The ball's centre is the origin.
        for (position, normal) in mesh.vertices.iter().zip(mesh.normals.as_ref().unwrap()) {
            let length = position.iter().map(|p| p * p).sum::<f32>().sqrt();
            assert!((length / RADIUS - 1.0).abs() < 0.02, "{position:?}");
            let cosine: f32 = position.iter().zip(normal).map(|(p, n)| p / length * n).sum();
            assert!(cosine > 0.98 && position[2] > 0.0, "{position:?} {normal:?}");
        }
        let [low, high] = mesh.bounds().unwrap();
        assert!((high[2] - RADIUS).abs() < 0.001 && (high[0] + low[0]).abs() < 1e-6);
        // The outline is a circle, not a staircase.
        let edges = edges(&mesh);
        let mut rim = edges.keys().filter(|[a, b]| !edges.contains_key(&[*b, *a])).map(|edge| edge[0]);
        assert!(rim.all(|corner| {
            let [x, y, _] = mesh.vertices[corner as usize];
            (x.hypot(y) / OUTLINE - 1.0).abs() < 0.02
        }));
    }

    #[test]
    fn triangles_face_the_way_of_their_corners_normals() {
        let mesh = mesh();
        for triangle in &mesh.faces {
            for &corner in triangle {
                assert!(dot(area(&mesh, triangle), mesh.normals.as_ref().unwrap()[corner as usize]) > 0.0);
            }
        }
    }

    #[test]
    fn corners_lie_on_the_pixels_that_show_them() {
        let (points, _) = ball();
        let mesh = relief(&points, &[1.0; ROWS * COLUMNS], COLUMNS, 2).unwrap();
        assert_eq!(mesh.vertices.len(), (ROWS - 4) * (COLUMNS - 4));
        assert_eq!(mesh.faces.len(), 2 * (ROWS - 5) * (COLUMNS - 5));
        for ([u, v], [x, y, _]) in mesh.texture_coordinates.unwrap().coordinates.iter().zip(&mesh.vertices) {
            let [column, row] =
                [u * COLUMNS as f32 - 0.5, (1.0 - v) * ROWS as f32 - 0.5].map(|at| at.round() as usize);
            let [px, py, _] = points[row * COLUMNS + column];
            assert_eq!([*x, *y], [px, -py]);
        }
    }

    #[test]
    fn nothing_inside_is_no_mesh() {
        assert_eq!(relief(&[], &[], COLUMNS, 0), None);
        let (points, level) = ball();
        assert_eq!(relief(&points, &[-1.0; ROWS * COLUMNS], COLUMNS, 0), None);
        assert_eq!(relief(&points, &[f32::NAN; ROWS * COLUMNS], COLUMNS, 0), None);
        assert_eq!(relief(&points, &level, COLUMNS, 30), None);
        let broken = vec![[f32::NAN; 3]; ROWS * COLUMNS];
        assert_eq!(relief(&broken, &level, COLUMNS, 0), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_cut_leaves_a_clean_surface(
            level in proptest::collection::vec(
                prop_oneof![9 => -1.0_f32..1.0, 1 => Just(0.0)], ROWS * COLUMNS
            ),
        ) {
            let (points, _) = ball();
            let mesh = relief(&points, &level, COLUMNS, 1).unwrap();
            // Every edge belongs to one triangle at the rim, or to two that run along it in opposite directions.
            prop_assert!(edges(&mesh).values().all(|&count| count == 1));
            let used: std::collections::HashSet<u32> = mesh.faces.iter().flatten().copied().collect();
            prop_assert_eq!(used.len(), mesh.vertices.len());
            prop_assert!(mesh.texture_coordinates.iter().flat_map(|t| &t.coordinates).flatten().all(|place| (0.0..=1.0).contains(place)));
            for triangle in &mesh.faces {
                prop_assert!(area(&mesh, triangle)[2] > 0.0, "towards the viewer, with some area");
            }
        }
    }
}
