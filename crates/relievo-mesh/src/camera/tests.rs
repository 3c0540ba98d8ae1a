//! Other programs' cameras, by their own formulas.

use super::*;

/// Turns by 0.4 about y, then 0.3 about x: columns times it.
const fn rotation() -> [[f32; 3]; 3] {
    // cos and sin of 0.4 and 0.3.
    let [ca, sa, cb, sb] = [0.921_061, 0.389_418_34, 0.955_336_5, 0.295_520_2];
    [[ca, 0.0, sa], [sa * sb, cb, -ca * sb], [-sa * cb, sb, ca * cb]]
}

const POINTS: [[f32; 3]; 4] = [[0.1, 0.2, 0.3], [-0.4, 0.5, -0.2], [0.6, -0.7, 0.1], [0.0, 0.0, 0.0]];

fn on_screen(camera: &Camera, size: [f32; 2]) -> Vec<[f32; 3]> {
    let points = Tensor::new(POINTS.as_flattened(), [4, 3]).unwrap();
    let screen = camera.project(&camera.view(&points).unwrap(), size[0] / size[1]).unwrap();
    screen.data().as_chunks().0.to_vec()
}

/// From a position in an image in pixels, (0, 0) its upper left corner, to the screen.
fn screen([u, v]: [f32; 2], [width, height]: [f32; 2]) -> [f32; 2] {
    [2.0 * u / width - 1.0, 1.0 - 2.0 * v / height]
}

fn turn(point: [f32; 3], r: [[f32; 3]; 3], t: [f32; 3]) -> [f32; 3] {
    std::array::from_fn(|i| r[i][0] * point[0] + r[i][1] * point[1] + r[i][2] * point[2] + t[i])
}

fn assert_places(camera: &Camera, size: [f32; 2], place: impl Fn([f32; 3]) -> ([f32; 2], f32)) {
    for (got, point) in on_screen(camera, size).into_iter().zip(POINTS) {
        let (at, depth) = place(point);
        let is = screen(at, size);
        let off = [got[0] - is[0], got[1] - is[1], got[2] - depth];
        assert!(off.iter().all(|off| off.abs() < 1e-5), "{point:?}: {got:?} instead of {is:?} {depth}");
    }
}

#[test]
fn opencv_has_y_down_and_whole_numbers_in_the_centres_of_pixels() {
    let (size, t) = ([320.0, 200.0], [0.1, -0.2, 3.0]);
    let matrix = [[250.0, 0.0, 150.0], [0.0, 260.0, 95.0], [0.0, 0.0, 1.0]];
    let camera = Camera::from_opencv(matrix, rotation(), t, [0.0; 5], size);
    assert_places(&camera, size, |point| {
        let [x, y, z] = turn(point, rotation(), t);
        ([250.0 * x / z + 150.0 + 0.5, 260.0 * y / z + 95.0 + 0.5], z)
    });
}

#[test]
fn opengl_looks_along_minus_z() {
    let (size, t) = ([400.0, 300.0], [0.1, -0.2, -3.0]);
    let [a, b, c] = rotation();
    let row = |r: [f32; 3], t: f32| [r[0], r[1], r[2], t];
    let view = [row(a, t[0]), row(b, t[1]), row(c, t[2]), [0.0, 0.0, 0.0, 1.0]];
    // A frustum that is not symmetric.
    let projection =
        [[1.5, 0.0, 0.1, 0.0], [0.0, 2.0, -0.2, 0.0], [0.0, 0.0, -1.02, -0.2], [0.0, 0.0, -1.0, 0.0]];
    let camera = Camera::from_opengl(view, projection).unwrap();
    assert_places(&camera, size, |point| {
        let [x, y, z] = turn(point, rotation(), t);
        let [clip_x, clip_y, w] = [1.5 * x + 0.1 * z, 2.0 * y - 0.2 * z, -z];
        ([(clip_x / w + 1.0) / 2.0 * size[0], (1.0 - clip_y / w) / 2.0 * size[1]], -z)
    });
    let error = Camera::from_opengl(view, view).unwrap_err().to_string();
    assert!(error.contains("the last row of a perspective"), "{error}");
}

#[test]
fn pytorch3d_has_x_to_the_left_and_a_shorter_side_of_two() {
    let t = [0.1, -0.2, 3.0];
    for size in [[200.0, 200.0], [400.0, 200.0], [200.0, 300.0f32]] {
        // R acts on rows there.
        let r = rotation();
        let transposed = std::array::from_fn(|i| std::array::from_fn(|j| r[j][i]));
        let camera = Camera::from_pytorch3d(transposed, t, [1.6, 1.8], [0.05, -0.1], size);
        assert_places(&camera, size, |point| {
            let [x, y, z] = turn(point, r, t);
            let [x, y] = [1.6 * x / z + 0.05, 1.8 * y / z - 0.1];
            let half = size[0].min(size[1]) / 2.0;
            ([size[0] / 2.0 - half * x, size[1] / 2.0 - half * y], z)
        });
    }
}

#[test]
fn the_default_camera_sees_the_front_of_the_unit_cube() {
    let corners = Tensor::new(&[-1.0, -1.0, -1.0, 1.0, 1.0, -1.0], [2, 3]).unwrap();
    let camera = Camera::default();
    let screen = camera.project(&camera.view(&corners).unwrap(), 1.0).unwrap();
    let is = [-1.0, -1.0, 3.0f32.sqrt(), 1.0, 1.0, 3.0f32.sqrt()];
    assert!(screen.data().iter().zip(is).all(|(a, b)| (a - b).abs() < 1e-5), "{screen:?}");
}
