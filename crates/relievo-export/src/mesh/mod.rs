//! Textured triangle meshes, cut from a grid of points and written as glTF or OBJ.

mod glb;
mod obj;

pub use glb::Lighting;

use std::collections::HashMap;

/// A textured triangle mesh, open at its rim.
///
/// The frame is that of glTF: x right, y up, z towards the viewer, in metres. One unit of the camera's frame, the
/// distance from the camera to the object, becomes a metre: with a field of view of 10 degrees the image spans 17.5 cm
/// at that distance, so a face that fills it is about life-size. The origin is the centre of rotation of viewpoints,
/// (0, 0, 1) in the camera's frame. Depth keeps its proportion to width and height.
#[derive(Clone, Debug, PartialEq)]
pub struct SurfaceMesh {
    positions: Vec<[f32; 3]>,
    /// Unit normals, away from the object.
    normals: Vec<[f32; 3]>,
    /// Texture coordinates in [0, 1]: (0, 0) is the upper left corner.
    texture_coordinates: Vec<[f32; 2]>,
    /// Vertex numbers, counter-clockwise as seen from outside.
    triangles: Vec<[u32; 3]>,
}

/// How near a cut may come to a vertex, as a share of the edge: closer ones would leave slivers.
const LEAST_SHARE: f32 = 0.05;

impl SurfaceMesh {
    /// The part of a surface grid in which `level` is above 0.
    ///
    /// - `points [rows, columns]` lie in the camera's frame (x right, y down, z away from the camera). They correspond to
    ///   the pixel centres of an image of that many rows and columns, whatever the texture's resolution.
    /// - `level [rows, columns]` is interpolated linearly between neighbours, so that the rim runs smoothly between the
    ///   points instead of in steps along them.
    /// - `inset` is the width of the frame of cells that is left out.
    ///
    /// Cells are divided into triangles as the renderer does it. Returns `None` if nothing is left, or if a remaining
    /// point is not finite.
    ///
    /// # Panics
    /// If `columns` is 0, or points and levels are not the same whole number of rows.
    pub fn from_grid(points: &[[f32; 3]], level: &[f32], columns: usize, inset: usize) -> Option<Self> {
        assert!(
            columns > 0 && points.len().is_multiple_of(columns) && points.len() == level.len(),
            "{} points and {} levels in rows of {columns}",
            points.len(),
            level.len()
        );
        let rows = points.len() / columns;
        let mut builder = Builder { points, level, columns, numbers: HashMap::new(), mesh: Self::empty() };
        let cells = |count: usize| inset..count.saturating_sub(1).saturating_sub(inset);
        for row in cells(rows) {
            for column in cells(columns) {
                let at = row * columns + column;
                builder.add([at, at + columns, at + 1]);
                builder.add([at + 1, at + columns, at + columns + 1]);
            }
        }
        let mut mesh = builder.mesh;
        mesh.normals = mesh.smooth_normals();
        let is_finite = mesh.positions.iter().chain(&mesh.normals).flatten().all(|value| value.is_finite());
        (!mesh.triangles.is_empty() && is_finite).then_some(mesh)
    }

    fn empty() -> Self {
        Self {
            positions: Vec::new(),
            normals: Vec::new(),
            texture_coordinates: Vec::new(),
            triangles: Vec::new(),
        }
    }

    /// Vertices, in metres.
    pub fn positions(&self) -> &[[f32; 3]] {
        &self.positions
    }

    /// The vertex numbers of each triangle, counter-clockwise as seen from outside.
    pub fn triangles(&self) -> &[[u32; 3]] {
        &self.triangles
    }

    /// Minimum and maximum of x, y, z.
    pub fn bounds(&self) -> [[f32; 3]; 2] {
        let extreme = |choose: fn(f32, f32) -> f32, start: f32| {
            let choose_all = |a: [f32; 3], b: &[f32; 3]| std::array::from_fn(|axis| choose(a[axis], b[axis]));
            self.positions.iter().fold([start; 3], choose_all)
        };
        [extreme(f32::min, f32::INFINITY), extreme(f32::max, f32::NEG_INFINITY)]
    }

    /// The normal of each vertex: the mean of its triangles' normals, weighted by area.
    fn smooth_normals(&self) -> Vec<[f32; 3]> {
        let mut sums = vec![[0.0_f64; 3]; self.positions.len()];
        for corners in &self.triangles {
            let normal = self.twice_area_normal(corners);
            for &corner in corners {
                sums[corner as usize].iter_mut().zip(normal).for_each(|(sum, value)| *sum += value);
            }
        }
        let unit = |sum: [f64; 3]| {
            let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
            // All triangles of this vertex have zero area; towards the viewer is as good as any direction.
            if length > 0.0 { sum.map(|value| (value / length) as f32) } else { [0.0, 0.0, 1.0] }
        };
        sums.into_iter().map(unit).collect()
    }

    /// The normal on the side from which the vertices run counter-clockwise; its length is twice the triangle's area.
    fn twice_area_normal(&self, corners: &[u32; 3]) -> [f64; 3] {
        let [a, b, c] = corners.map(|corner| self.positions[corner as usize].map(f64::from));
        let [p, q] = [b, c].map(|end| [end[0] - a[0], end[1] - a[1], end[2] - a[2]]);
        [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]]
    }
}

/// Cuts a grid's triangles at level 0, and numbers vertices in order of first use.
struct Builder<'a> {
    points: &'a [[f32; 3]],
    level: &'a [f32],
    columns: usize,
    /// Vertex numbers so far: by the grid point, given twice, or by the two points of a cut edge.
    numbers: HashMap<[usize; 2], u32>,
    mesh: SurfaceMesh,
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
            self.mesh.triangles.extend(rest.windows(2).map(|pair| [*first, pair[0], pair[1]]));
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
            self.mesh.positions.push([x, -y, 1.0 - z]);
            let place = |at: usize| [at % self.columns, at / self.columns].map(|at| at as f32 + 0.5);
            let (from, to) = (place(low), place(high));
            let extent = [self.columns, self.points.len() / self.columns];
            let place = std::array::from_fn(|axis| between(from[axis], to[axis]) / extent[axis] as f32);
            self.mesh.texture_coordinates.push(place);
            self.mesh.positions.len() as u32 - 1
        })
    }
}

/// Shared by the tests of both formats.
#[cfg(test)]
mod testing {
    use super::SurfaceMesh;
    use crate::canvas::Canvas;

    pub const COLUMNS: usize = 24;
    pub const ROWS: usize = 20;

    /// Half a ball of radius `RADIUS` about (0, 0, 1), seen by a camera at the origin that looks along z.
    pub const RADIUS: f32 = 0.08;

    /// Radius of the circle at which it is cut: farther out it is too steep for so coarse a grid.
    pub const OUTLINE: f32 = 0.8 * RADIUS;

    /// A grid over that ball, and how far inside its outline each point is.
    pub fn ball() -> (Vec<[f32; 3]>, Vec<f32>) {
        let point = |at: usize| {
            let x = ((at % COLUMNS) as f32 / (COLUMNS - 1) as f32 - 0.5) * 0.2;
            let y = ((at / COLUMNS) as f32 / (ROWS - 1) as f32 - 0.5) * 0.2;
            let squared = RADIUS * RADIUS - x * x - y * y;
            ([x, y, 1.0 - squared.max(0.0).sqrt()], OUTLINE - x.hypot(y))
        };
        (0..ROWS * COLUMNS).map(point).unzip()
    }

    pub fn mesh() -> SurfaceMesh {
        let (points, level) = ball();
        SurfaceMesh::from_grid(&points, &level, COLUMNS, 0).unwrap()
    }

    pub fn texture() -> Canvas {
        Canvas::from_rgb8(&(0..48 * 40 * 3).map(|at| (at % 251) as u8).collect::<Vec<_>>(), 48)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::{COLUMNS, OUTLINE, RADIUS, ROWS, ball, mesh};
    use super::*;

    /// How often each edge is used in either direction.
    fn edges(mesh: &SurfaceMesh) -> HashMap<[u32; 2], usize> {
        let mut edges = HashMap::new();
        for [a, b, c] in &mesh.triangles {
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
        for (position, normal) in mesh.positions.iter().zip(&mesh.normals) {
            let length = position.iter().map(|p| p * p).sum::<f32>().sqrt();
            assert!((length / RADIUS - 1.0).abs() < 0.02, "{position:?}");
            let cosine: f32 = position.iter().zip(normal).map(|(p, n)| p / length * n).sum();
            assert!(cosine > 0.98 && position[2] > 0.0, "{position:?} {normal:?}");
        }
        let [low, high] = mesh.bounds();
        assert!((high[2] - RADIUS).abs() < 0.001 && (high[0] + low[0]).abs() < 1e-6);
        // The outline is a circle, not a staircase.
        let edges = edges(&mesh);
        let mut rim = edges.keys().filter(|[a, b]| !edges.contains_key(&[*b, *a])).map(|edge| edge[0]);
        assert!(rim.all(|corner| {
            let [x, y, _] = mesh.positions[corner as usize];
            (x.hypot(y) / OUTLINE - 1.0).abs() < 0.02
        }));
    }

    #[test]
    fn triangles_face_the_way_of_their_corners_normals() {
        let mesh = mesh();
        for triangle in &mesh.triangles {
            let face = mesh.twice_area_normal(triangle);
            for &corner in triangle {
                let normal = mesh.normals[corner as usize];
                assert!(face.iter().zip(normal).map(|(a, b)| a * f64::from(b)).sum::<f64>() > 0.0);
            }
        }
    }

    #[test]
    fn corners_lie_on_the_pixels_that_show_them() {
        let (points, _) = ball();
        let mesh = SurfaceMesh::from_grid(&points, &[1.0; ROWS * COLUMNS], COLUMNS, 2).unwrap();
        assert_eq!(mesh.positions.len(), (ROWS - 4) * (COLUMNS - 4));
        assert_eq!(mesh.triangles.len(), 2 * (ROWS - 5) * (COLUMNS - 5));
        for ([u, v], [x, y, _]) in mesh.texture_coordinates.iter().zip(&mesh.positions) {
            let [column, row] =
                [u * COLUMNS as f32 - 0.5, v * ROWS as f32 - 0.5].map(|at| at.round() as usize);
            let [px, py, _] = points[row * COLUMNS + column];
            assert_eq!([*x, *y], [px, -py]);
        }
    }

    #[test]
    fn nothing_inside_is_no_mesh() {
        assert_eq!(SurfaceMesh::from_grid(&[], &[], COLUMNS, 0), None);
        let (points, level) = ball();
        assert_eq!(SurfaceMesh::from_grid(&points, &[-1.0; ROWS * COLUMNS], COLUMNS, 0), None);
        assert_eq!(SurfaceMesh::from_grid(&points, &[f32::NAN; ROWS * COLUMNS], COLUMNS, 0), None);
        assert_eq!(SurfaceMesh::from_grid(&points, &level, COLUMNS, 30), None);
        let broken = vec![[f32::NAN; 3]; ROWS * COLUMNS];
        assert_eq!(SurfaceMesh::from_grid(&broken, &level, COLUMNS, 0), None);
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
            let mesh = SurfaceMesh::from_grid(&points, &level, COLUMNS, 1).unwrap();
            // Every edge belongs to one triangle at the rim, or to two that run along it in opposite directions.
            prop_assert!(edges(&mesh).values().all(|&count| count == 1));
            let used: std::collections::HashSet<u32> = mesh.triangles.iter().flatten().copied().collect();
            prop_assert_eq!(used.len(), mesh.positions.len());
            prop_assert!(mesh.texture_coordinates.iter().flatten().all(|place| (0.0..=1.0).contains(place)));
            for triangle in &mesh.triangles {
                prop_assert!(mesh.twice_area_normal(triangle)[2] > 0.0, "towards the viewer, with some area");
            }
        }
    }
}
