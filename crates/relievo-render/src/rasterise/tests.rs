//! The rasteriser on hand-made scenes, against every sample asking every triangle, and against finite differences.

use super::*;
use crate::motion::Motion;
use crate::testing::{relief, views, wide_camera};
use crate::{move_surface, sampling_grid};
use relievo_mesh::triangle::Triangle;
use relievo_tensor::testing::{Tolerance, assert_gradients, assert_operation_independent_of_threads};

const SETTINGS: RasterSettings = RasterSettings { supersampling: 2, near: 0.1, far: 10.0, pixel_centre: 0.5 };

const UNLIMITED: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// The surface as it is, not moved.
fn unmoved(depth: &Tensor, camera: Camera) -> Tensor {
    move_surface(depth, &Tensor::zeros([1, 6]), camera).unwrap()
}

/// Every sample asks every triangle, in order.
fn by_brute_force(points: &[[f32; 3]], camera: Camera, settings: RasterSettings) -> Vec<f32> {
    let size = camera.size;
    let raster = settings.raster(size);
    let mut screen = vec![[0.0; 3]; points.len()];
    project(points, &camera, settings.supersampling, &mut screen);
    let cells = (0..size - 1).flat_map(|row| (0..size - 1).map(move |column| (row, column)));
    let all: Vec<[[f32; 3]; 3]> =
        cells.flat_map(|(row, column)| triangles(size, row, column)).map(|t| t.map(|c| screen[c])).collect();
    let mut samples = vec![settings.far; raster.rows * raster.columns];
    for (i, nearest) in samples.iter_mut().enumerate() {
        let [y, x] = [i / raster.columns, i % raster.columns].map(|i| raster.place(i));
        for triangle in all.iter().filter_map(Triangle::new) {
            if let Some((_, depth)) = triangle.at(&triangle.line(y), x)
                && depth > settings.near
                && depth < *nearest
            {
                *nearest = depth;
            }
        }
    }
    let mut depth = vec![0.0; size * size];
    let rows = samples.chunks_exact(settings.supersampling * raster.columns);
    for (pixels, samples) in depth.chunks_exact_mut(size).zip(rows) {
        mean_row(samples, settings.supersampling, pixels);
    }
    depth
}

#[test]
fn agrees_with_brute_force_bit_for_bit() {
    // Folded over itself by large angles; sizes that are and are not multiples of the band.
    for (size, angle, settings) in [
        (16, 0.3, SETTINGS),
        (19, 1.4, SETTINGS),
        (18, 0.8, RasterSettings { supersampling: 3, pixel_centre: 0.0, ..SETTINGS }),
        (17, 1.0, RasterSettings { supersampling: 1, near: 0.95, far: 1.05, ..SETTINGS }),
    ] {
        let camera = Camera::new(size);
        let moved = move_surface(&relief(3, size, 1.0, 0.03), &views(3, angle), camera).unwrap();
        let depth = rasterise_depth(&moved, camera, settings, UNLIMITED).unwrap();
        for (depth, points) in
            depth.data().chunks(size * size).zip(moved.data().as_chunks().0.chunks(size * size))
        {
            assert_eq!(depth, by_brute_force(points, camera, settings));
        }
    }
}

#[test]
fn the_background_is_far_and_nothing_nearer_than_near_is_seen() {
    let camera = Camera::new(8);
    let points = unmoved(&Tensor::full([1, 8, 8], 1.0), camera);
    let all_far = |points: &Tensor, settings| {
        rasterise_depth(points, camera, settings, UNLIMITED)
            .unwrap()
            .data()
            .iter()
            .all(|d| *d == settings.far)
    };
    let shifted = |[x, z]: [f32; 2]| {
        let view = Tensor::new(&[0.0, 0.0, 0.0, x, 0.0, z], [1, 6]).unwrap();
        move_surface(&Tensor::full([1, 8, 8], 1.0), &view, camera).unwrap()
    };
    assert!(all_far(&shifted([9.0, 0.0]), SETTINGS));
    assert!(all_far(&points, RasterSettings { near: 1.0, ..SETTINGS }));
    assert!(all_far(&points, RasterSettings { far: 1.0, ..SETTINGS }));
    assert!(all_far(&shifted([0.0, -3.0]), SETTINGS));
}

#[test]
fn corners_that_are_not_numbers_cost_their_triangles_only() {
    let camera = Camera::new(8);
    let mut points = unmoved(&Tensor::full([1, 8, 8], 1.0), camera);
    points.data_mut()[(3 * 8 + 4) * 3] = f32::NAN;
    points.data_mut()[(6 * 8 + 1) * 3 + 1] = f32::INFINITY;
    let tape = relievo_tensor::Tape::new();
    let points = tape.watch(&points);
    let depth = rasterise_depth(&points, camera, SETTINGS, UNLIMITED).unwrap();
    assert_eq!(depth.data()[0], 1.0);
    assert!(depth.data()[3 * 8 + 4] > 1.0 && depth.data().iter().all(|d| d.is_finite()));
    let gradients = tape.backward(&depth).unwrap();
    assert!(gradients.get(&points).unwrap().data().iter().all(|g| g.is_finite()));
}

/// A plane has a 1/depth that is linear over the image. Here it changes per column and row by `slopes` and is 1
/// in the middle.
fn inverse_depth(camera: Camera, slopes: [f32; 2], [u, v]: [f32; 2]) -> f32 {
    1.0 + slopes[0] * (u - camera.centre()) + slopes[1] * (v - camera.centre())
}

/// Its depth.
fn plane(camera: Camera, slopes: [f32; 2]) -> Tensor {
    let size = camera.size;
    let pixels = (0..size * size).map(|i| [(i % size) as f32, (i / size) as f32]);
    let depths: Vec<f32> = pixels.map(|pixel| 1.0 / inverse_depth(camera, slopes, pixel)).collect();
    Tensor::new(&depths, [1, size, size]).unwrap()
}

#[test]
fn samples_lie_where_the_pixel_centre_says() {
    let (camera, slopes) = (Camera::new(10), [0.02, 0.01]);
    for pixel_centre in [0.0, 0.5] {
        let settings = RasterSettings { pixel_centre, ..SETTINGS };
        let depth =
            rasterise_depth(&unmoved(&plane(camera, slopes), camera), camera, settings, UNLIMITED).unwrap();
        for (row, column) in [(1, 1), (4, 7), (8, 3)] {
            // Two samples along each axis, a quarter of a pixel to either side of the centre.
            let at = |i: usize| [-0.25, 0.25].map(|aside| i as f32 + pixel_centre + aside);
            let samples = at(row).map(|v| at(column).map(|u| 1.0 / inverse_depth(camera, slopes, [u, v])));
            let mean = samples.as_flattened().iter().sum::<f32>() / 4.0;
            assert!((depth.data()[row * 10 + column] - mean).abs() < 2e-6);
        }
    }
}

#[test]
fn a_centre_of_zero_agrees_with_the_sampling_grid_and_the_originals_is_half_a_pixel_off() {
    // The plane moved and seen: traced back, the middle pixel's point must lie on the plane it came from.
    let (camera, slopes) = (Camera::new(33), [0.004, -0.002]);
    let view = Tensor::new(&[0.1, 0.5, -0.1, 0.0, 0.0, 0.0], [1, 6]).unwrap();
    let moved = move_surface(&plane(camera, slopes), &view, camera).unwrap();
    let motion = &Motion::from_views(&view)[0];
    let off_by = |pixel_centre: f32| {
        let settings = RasterSettings { pixel_centre, ..SETTINGS };
        let depth = rasterise_depth(&moved, camera, settings, UNLIMITED).unwrap();
        let back = motion.apply_inverse(camera.lift(16.0, 16.0, depth.data()[16 * 33 + 16]));
        let [u, v] = camera.project(back);
        assert!(u.max(v) < 32.0 && u.min(v) > 0.0, "{u} {v}");
        let [grid, _] = sampling_grid(&depth, &view, camera, f32::INFINITY, 1).unwrap();
        let grid = grid.data().as_chunks::<2>().0[16 * 33 + 16];
        assert!((grid[0] * 16.0 + 16.0 - u).abs() < 1e-4);
        (back[2] - 1.0 / inverse_depth(camera, slopes, [u, v])).abs()
    };
    assert!(off_by(0.0) < 1e-5, "{}", off_by(0.0));
    assert!(off_by(0.5) > 5e-4, "{}", off_by(0.5));
}

#[test]
fn gradients_of_one_cell_are_those_of_differences() {
    // Two triangles much larger than the image: no sample changes hands.
    let camera = wide_camera(2);
    let corners = [-3.0, -2.6, 1.3, 2.9, -3.2, 1.1, -2.8, 3.1, 0.9, 3.3, 2.7, 1.2];
    let points = Tensor::new(&corners, [1, 2, 2, 3]).unwrap();
    let run = |x: &[Tensor]| rasterise_depth(&x[0], camera, SETTINGS, UNLIMITED);
    assert_gradients(&[points], 1.0 / 128.0, Tolerance { norm: 1e-3, element: 1e-3 }, run);
}

#[test]
fn gradients_of_a_surface_are_those_of_differences() {
    // Larger than the image, so that no silhouette is in it: the depth is continuous in the points, and where
    // an edge within the surface passes a sample during a step, only its slope changes.
    let camera = wide_camera(7);
    let mut points = unmoved(&relief(2, 7, 1.0, 0.05), camera);
    points.data_mut().as_chunks_mut::<3>().0.iter_mut().for_each(|[x, y, _]| {
        *x *= 1.35;
        *y *= 1.35;
    });
    let settings = RasterSettings { pixel_centre: 0.0, ..SETTINGS };
    assert!(rasterise_depth(&points, camera, settings, UNLIMITED).unwrap().data().iter().all(|d| *d < 2.0));
    let run = |x: &[Tensor]| rasterise_depth(&x[0], camera, settings, UNLIMITED);
    // Where an edge passes a sample during a step, the difference is a mean of two slopes.
    assert_gradients(&[points], 1.0 / 1024.0, Tolerance { norm: 1e-2, element: 6e-2 }, run);
}

#[test]
fn what_is_clamped_has_no_gradient() {
    // Steps of depth from column to column, seen from the front.
    let camera = Camera::new(8);
    let depths: Vec<f32> = (0..64).map(|i| 0.9 + 0.03 * (i % 8) as f32).collect();
    let tape = relievo_tensor::Tape::new();
    let points = tape.watch(&unmoved(&Tensor::new(&depths, [1, 8, 8]).unwrap(), camera));
    let settings = RasterSettings { pixel_centre: 0.0, ..SETTINGS };
    let run = |limits| rasterise_depth(&points, camera, settings, limits).unwrap();
    let (free, clamped) = (run(UNLIMITED), run([0.95, 1.05]));
    let inside: Vec<bool> = free.data().iter().map(|depth| (0.95..=1.05).contains(depth)).collect();
    assert!(inside.contains(&true) && inside.contains(&false));
    for (clamped, free) in clamped.data().iter().zip(free.data()) {
        assert_eq!(*clamped, free.clamp(0.95, 1.05));
    }
    // The gradient of the clamped depth is that of the free one from the pixels that were not clamped.
    let seed = |inside: &[bool]| {
        let seed: Vec<f32> = inside.iter().map(|inside| f32::from(u8::from(*inside))).collect();
        Tensor::new(&seed, [1, 8, 8]).unwrap()
    };
    let of_clamped = tape.backward_from(&[(&clamped, seed(&[true; 64]))]).unwrap().take(&points).unwrap();
    let of_free = tape.backward_from(&[(&run(UNLIMITED), seed(&inside))]).unwrap().take(&points).unwrap();
    assert_eq!(of_clamped.data(), of_free.data());
    assert!(of_free.data().iter().any(|g| *g != 0.0));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let camera = Camera::new(40);
    let inputs = [relief(2, 40, 1.0, 0.05), views(2, 0.7)];
    assert_operation_independent_of_threads(&inputs, |x| {
        rasterise_depth(&move_surface(&x[0], &x[1], camera)?, camera, SETTINGS, [0.95, 1.05])
    });
}

#[test]
fn what_cannot_be_rasterised_is_refused() {
    let settings = RasterSettings { supersampling: 0, ..SETTINGS };
    let error =
        rasterise_depth(&Tensor::zeros([1, 4, 4, 3]), Camera::new(4), settings, UNLIMITED).unwrap_err();
    assert_eq!(error.to_string(), "rasterise_depth: cannot rasterise 4x4 pixels with supersampling 0");
}
