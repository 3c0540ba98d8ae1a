//! Surface normals from central differences of the surface grid.
//!
//! Their gradient takes two passes over rows, so that threads can share the rows: the first computes the gradient of the two
//! tangents at every pixel, the second gathers those of the four neighbours of every pixel, in a fixed order.

use rayon::prelude::*;
use relievo_mesh::vector::{cross, dot, length};
use relievo_tensor::{Buffer, Device, Error, Result, Tensor};

use crate::Camera;

/// The camera's part in the normals of its images.
pub(crate) struct Rays {
    /// See [`Camera::slopes`].
    slopes: Vec<f32>,
    /// See [`Camera::normal_epsilon`].
    epsilon: f32,
}

impl From<Camera> for Rays {
    fn from(camera: Camera) -> Self {
        Self { slopes: camera.slopes(), epsilon: camera.normal_epsilon() }
    }
}

/// Unit normals of a depth map on the CPU: `t_u x t_v / (|t_u x t_v| + eps)` with `t_u = P[v, u+1] - P[v, u-1]` and
/// `t_v = P[v+1, u] - P[v-1, u]` of the lifted grid P, and `(0, 0, 1)` on the one-pixel border. eps is 1e-7 at 64 pixels and
/// 10 degrees, which shortens a normal by 0.3 %, and is scaled so that it does the same where pixels are finer.
///
/// `depth` `[B, S, S]`, result `[B, S, S, 3]`; a surface facing the camera has the normal `(0, 0, 1)`. Without
/// gradient; with one, and on a GPU, they come with [`crate::diffuse_shading`]. Source: Wu et al. 2020, section 3.3.
///
/// # Errors
/// If `depth` does not have the camera's size, or is on a GPU.
pub fn normals(depth: &Tensor, camera: Camera) -> Result<Tensor> {
    let batch = camera.images("normals", depth)?;
    if depth.device() != Device::Cpu {
        let detail = "normals alone are not there for this device".to_owned();
        return Err(Error::Device { device: depth.device(), detail });
    }
    let (size, rays) = (camera.size, Rays::from(camera));
    let mut normals = Tensor::empty([batch, size, size, 3]);
    normals.data_mut().par_chunks_mut(size * 3).enumerate().for_each(|(line, normals)| {
        row_of_normals(map_of_line(depth, size, line), &rays, line % size, normals.as_chunks_mut().0);
    });
    Ok(normals)
}

/// The depth map that a line of all of them is in.
fn map_of_line(depth: &Tensor, size: usize, line: usize) -> &[f32] {
    &depth.data()[line / size * size * size..][..size * size]
}

/// The normals of row `row` of one depth map.
pub(crate) fn row_of_normals(depth: &[f32], rays: &Rays, row: usize, normals: &mut [[f32; 3]]) {
    normals.fill([0.0, 0.0, 1.0]);
    let size = rays.slopes.len();
    if is_inner(size, row) {
        let around = Around::new(depth, &rays.slopes, row);
        for (at, normal) in normals[1..size - 1].iter_mut().enumerate() {
            let [tu, tv] = around.tangents(at);
            let m = cross(tu, tv);
            let inverse = 1.0 / (length(m) + rays.epsilon);
            *normal = m.map(|m| m * inverse);
        }
    }
}

/// The gradient of depth maps from that of their normals, which `of_line` writes for each line of all maps, and the values
/// that it returned.
pub(crate) fn depth_gradient<T: Send>(
    depth: &Tensor,
    camera: Camera,
    of_line: impl Fn(usize, &mut [[f32; 3]]) -> T + Sync,
) -> (Tensor, Vec<T>) {
    let (size, rays) = (camera.size, Rays::from(camera));
    let slopes = &rays.slopes;
    let mut of_tangents = Buffer::empty(depth.numel() * 6);
    let lines = of_tangents.par_chunks_mut(size * 6).enumerate();
    let results = lines.map_init(
        || vec![[0.0; 3]; size],
        |of_normals, (line, gradients)| {
            let (depth, row) = (map_of_line(depth, size, line), line % size);
            let result = of_line(line, of_normals);
            let gradients = gradients.as_chunks_mut::<6>().0;
            gradients.fill([0.0; 6]);
            if is_inner(size, row) {
                let around = Around::new(depth, slopes, row);
                let places = gradients[1..size - 1].iter_mut().zip(&of_normals[1..size - 1]);
                for (at, (gradient, dy)) in places.enumerate() {
                    let [[a, b, c], [d, e, f]] = tangent_gradients(around.tangents(at), *dy, rays.epsilon);
                    *gradient = [a, b, c, d, e, f];
                }
            }
            result
        },
    );
    let results = results.collect();
    let mut ddepth = Tensor::empty(depth.shape());
    ddepth.data_mut().par_chunks_mut(size).enumerate().for_each(|(line, ddepth)| {
        let (image, row) = (line / size, line % size);
        let gradients = &of_tangents.as_chunks::<6>().0[image * size * size..][..size * size];
        let along = |g: &[f32], x: f32, y: f32| g[0] * x + g[1] * y + g[2];
        for (column, ddepth) in ddepth.iter_mut().enumerate() {
            let (x, y, at) = (slopes[column], slopes[row], row * size + column);
            let mut sum = 0.0;
            if column > 0 {
                sum += along(&gradients[at - 1][..3], x, y);
            }
            if column + 1 < size {
                sum -= along(&gradients[at + 1][..3], x, y);
            }
            if row > 0 {
                sum += along(&gradients[at - size][3..], x, y);
            }
            if row + 1 < size {
                sum -= along(&gradients[at + size][3..], x, y);
            }
            *ddepth = sum;
        }
    });
    (ddepth, results)
}

/// The depths around the inner pixels of an inner row, and their rays: slices of one length, so that loops over them
/// have no checks and are vectorised.
struct Around<'a> {
    left: &'a [f32],
    right: &'a [f32],
    above: &'a [f32],
    below: &'a [f32],
    /// Of the pixel itself, of the one to the left and of the one to the right.
    across: [&'a [f32]; 3],
    /// Of the row itself, of the one above and of the one below.
    down: [f32; 3],
}

impl<'a> Around<'a> {
    fn new(depth: &'a [f32], slopes: &'a [f32], row: usize) -> Self {
        let size = slopes.len();
        let inner = size - 2;
        let from = |at: usize| &depth[at..][..inner];
        let here = row * size + 1;
        Self {
            left: from(here - 1),
            right: from(here + 1),
            above: from(here - size),
            below: from(here + size),
            across: [1, 0, 2].map(|first| &slopes[first..][..inner]),
            down: [row, row - 1, row + 1].map(|row| slopes[row]),
        }
    }

    /// Tangents at an inner pixel.
    #[inline(always)]
    fn tangents(&self, at: usize) -> [[f32; 3]; 2] {
        let (left, right, above, below) = (self.left[at], self.right[at], self.above[at], self.below[at]);
        let [x, x_left, x_right] = self.across.map(|slopes| slopes[at]);
        let [y, y_above, y_below] = self.down;
        let across = right - left;
        let down = below - above;
        [
            [right * x_right - left * x_left, across * y, across],
            [down * x, below * y_below - above * y_above, down],
        ]
    }
}

/// Gradients of the two tangents at an inner pixel, given that of the normal.
fn tangent_gradients([tu, tv]: [[f32; 3]; 2], dy: [f32; 3], epsilon: f32) -> [[f32; 3]; 2] {
    let m = cross(tu, tv);
    let norm = length(m);
    let inverse = 1.0 / (norm + epsilon);
    let along = dot(m, dy) / norm.max(f32::MIN_POSITIVE) * inverse;
    let dm: [f32; 3] = std::array::from_fn(|i| (dy[i] - m[i] * along) * inverse);
    // m = tu x tv, so d tu = tv x dm and d tv = dm x tu.
    [cross(tv, dm), cross(dm, tu)]
}

fn is_inner(size: usize, row: usize) -> bool {
    row > 0 && row + 1 < size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::wide_camera;

    #[test]
    fn a_plane_has_its_normal_everywhere_but_on_the_border() {
        // The plane n.P = 1 has the depth 1 / n.ray; its unit normal is n / |n|, towards +z.
        let camera = wide_camera(7);
        let (n, slopes) = ([0.2, -0.3, 1.0f32], camera.slopes());
        let depths = (0..49).map(|i| 1.0 / (n[0] * slopes[i % 7] + n[1] * slopes[i / 7] + n[2]));
        let depth = Tensor::new(&depths.collect::<Vec<_>>(), [1, 7, 7]).unwrap();
        let normals = normals(&depth, camera).unwrap();
        for (i, normal) in normals.data().as_chunks::<3>().0.iter().enumerate() {
            let inner = is_inner(7, i % 7) && is_inner(7, i / 7);
            let is = if inner { n.map(|x| x / length(n)) } else { [0.0, 0.0, 1.0] };
            assert!(normal.iter().zip(is).all(|(a, b)| (a - b).abs() < 1e-5), "{i}: {normal:?}");
        }
    }

    #[test]
    fn normals_are_as_long_in_fine_images_as_in_those_of_the_method() {
        for (size, field_of_view_degrees) in [(64, 10.0), (128, 10.0), (512, 10.0), (1024, 10.0), (64, 1.0)] {
            let camera = Camera { size, field_of_view_degrees };
            let normals = normals(&Tensor::full([1, size, size], 1.0), camera).unwrap();
            let middle = normals.data().as_chunks::<3>().0[size / 2 * size + size / 2];
            assert!((length(middle) - 0.99677).abs() < 1e-4, "{size}: {middle:?}");
        }
    }
}
