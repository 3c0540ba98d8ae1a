//! Every operation on a GPU against the same on the CPU: outputs and gradients. On the GPU named by RELIEVO_DEVICE if
//! there is one, else on the emulator.

use relievo_render::{
    Camera, DepthRange, DepthSettings, Doubling, LightRange, RasterSettings, Scene, canonical_depth,
    diffuse_shading, light_from_raw, move_surface, rasterise_depth, sampling_grid, shade, surface_error,
    uncovered,
};
use relievo_tensor::cuda::Graph;
use relievo_tensor::ops::{concat_flipped, weighted_sum};
use relievo_tensor::testing::{assert_devices_agree, random_tensor};
use relievo_tensor::{DataType, Device, Result, Tape, Tensor};

const RANGE: DepthRange = DepthRange { min: 0.9, max: 1.1 };

/// What a rasterised depth is clamped to where nothing is to be.
const UNLIMITED: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// Half a dome, so that the output still counts.
const SHAPE: DepthSettings =
    DepthSettings { range: RANGE, dome: 0.5, border_depth: 1.04, doubling: Doubling::Mirrored };

/// The last places of f32.
const TOLERANCE: f64 = 1e-6;

fn gpu() -> Option<Device> {
    relievo_cuda_emulator::test_gpu().map(Device::Cuda)
}

/// Runs the comparison.
fn agree(inputs: &[Tensor], operation: impl Fn(&[Tensor]) -> Result<Tensor>) {
    agree_within(TOLERANCE, inputs, operation);
}

fn agree_within(tolerance: f64, inputs: &[Tensor], operation: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let Some(device) = gpu() else { return };
    assert_devices_agree(device, DataType::F32, tolerance, inputs, |x, _| operation(x));
}

/// Rolling depths around 1, another surface for every image.
fn relief(batch: usize, size: usize, height: f32) -> Tensor {
    let of_pixel = |i: usize| {
        let place = |i: usize| 4.0 * i as f32 / size as f32;
        let (x, y, image) = (place(i % size), place(i / size % size), (i / size / size) as f32);
        1.0 + height * (1.3 * x + image).sin() * (0.9 * y + 0.4 * x - 2.0 * image).cos()
    };
    let depths: Vec<f32> = (0..batch * size * size).map(of_pixel).collect();
    Tensor::new(&depths, [batch, size, size]).unwrap()
}

/// Viewpoints with angles within `degrees` and translations within 0.03.
fn views(count: usize, degrees: f32) -> Tensor {
    let mut views = random_tensor(77, [count, 6]);
    for view in views.data_mut().chunks_exact_mut(6) {
        view[..3].iter_mut().for_each(|x| *x *= degrees.to_radians());
        view[3..].iter_mut().for_each(|x| *x *= 0.03);
    }
    // One at the very end of the range.
    views.data_mut()[1] = degrees.to_radians();
    views
}

/// Lights `[count, 5]`.
fn lights(count: usize) -> Tensor {
    light_from_raw(&random_tensor(5, [count, 4]), LightRange::default()).unwrap()
}

/// Settings of the original and others.
fn rasters() -> [RasterSettings; 3] {
    let original = RasterSettings::default();
    [
        original,
        RasterSettings { supersampling: 3, pixel_centre: 0.0, ..original },
        RasterSettings { supersampling: 1, near: 0.98, far: 1.03, ..original },
    ]
}

#[test]
fn depths() {
    for shape in [[3, 5, 7], [2, 33, 40]] {
        let raw = random_tensor(1, shape);
        for doubling in [Doubling::Single, Doubling::Repeated, Doubling::Mirrored] {
            let settings = DepthSettings { doubling, ..SHAPE };
            for output in 0..2 {
                agree(std::slice::from_ref(&raw), |x| Ok(canonical_depth(&x[0], settings)?[output].clone()));
            }
            // Both have a gradient.
            agree(std::slice::from_ref(&raw), |x| {
                let [depth, canonical] = canonical_depth(&x[0], settings)?;
                let single = doubling == Doubling::Single;
                let depths = if single { depth } else { concat_flipped(&depth, false)? };
                weighted_sum(&[(1.0, &depths), (-0.7, &canonical)])
            });
        }
    }
}

#[test]
fn moved_surfaces() {
    // Two views for four images; more pixels than a block has threads.
    let (size, inputs) = (23, [relief(4, 23, 0.05), views(2, 60.0)]);
    let camera = Camera::new(size);
    agree(&inputs, |x| move_surface(&x[0], &x[1], camera));
    // As they are, and off the tape, each of the two.
    agree(&inputs[..1], |x| move_surface(&x[0], &inputs[1].to_device(x[0].device())?, camera));
    agree(&inputs[1..], |x| move_surface(&inputs[0].to_device(x[0].device())?, &x[0], camera));
}

#[test]
fn errors_of_surfaces() {
    for size in [5, 24] {
        let truth = relief(3, size, -0.04);
        let mask: Vec<f32> = (0..3 * size * size)
            .map(|at| (at / size / size, at / size % size, at % size))
            .map(|(image, row, column)| {
                image < 2 && [row, column].iter().all(|at| (1..size - 1).contains(at))
            })
            .map(|holds| f32::from(u8::from(holds)))
            .collect();
        let mask = Tensor::new(&mask, [3, size, size]).unwrap();
        agree_within(1e-5, &[relief(6, size, 0.05)], |x| {
            let [truth, mask] = [&truth, &mask].map(|map| map.to_device(x[0].device()));
            surface_error(&x[0], &truth?, &mask?, Camera::new(size))
        });
    }
}

/// The sampling grid without its mask.
fn grid_of(depth: &Tensor, view: &Tensor) -> Result<Tensor> {
    let camera = Camera::new(depth.shape()[1]);
    Ok(sampling_grid(depth, view, camera, f32::INFINITY, 1)?[0].clone())
}

#[test]
fn many_pixels_are_summed_by_few_blocks() {
    agree(&[relief(2, 70, 0.05), views(1, 30.0)], |x| grid_of(&x[0], &x[1]));
}

#[test]
fn surface_normals_and_what_light_falls_on_them() {
    for size in [3, 5, 24] {
        let inputs = [relief(4, size, 0.05), lights(2)];
        for output in 0..2 {
            agree(&inputs, |x| Ok(diffuse_shading(&x[0], &x[1], Camera::new(size))?[output].clone()));
        }
        let run = |x: &[Tensor; 2]| Ok(diffuse_shading(&x[0], &x[1], Camera::new(size))?[1].clone());
        // Off the tape, each of the two.
        agree(&inputs[..1], |x| run(&[x[0].clone(), inputs[1].to_device(x[0].device())?]));
        agree(&inputs[1..], |x| run(&[inputs[0].to_device(x[0].device())?, x[0].clone()]));
    }
}

#[test]
fn lights_and_shading() {
    let range = LightRange { ambient: [0.1, 0.7], diffuse: [0.5, 1.0] };
    agree(&[random_tensor(5, [300, 4])], |x| light_from_raw(&x[0], range));
    for [rows, columns] in [[3, 5], [21, 19]] {
        let albedo = random_tensor(11, [4, rows, columns, 3]);
        let inputs = [albedo, random_tensor(10, [4, rows, columns]), lights(2)];
        agree(&inputs, |x| shade(&x[0], &x[1], &x[2]));
    }
}

#[test]
fn sampling_grids() {
    for size in [5, 21] {
        agree(&[relief(4, size, 0.05), views(2, 60.0)], |x| grid_of(&x[0], &x[1]));
    }
}

#[test]
fn masks() {
    let Some(device) = gpu() else { return };
    let (depth, view) = (relief(4, 19, 0.05), views(2, 60.0));
    for parts in [1, 2, 4] {
        // Half of it beyond the far end.
        let mask = |device: Device| -> Result<Tensor> {
            let [depth, view] = [depth.to_device(device)?, view.to_device(device)?];
            sampling_grid(&depth, &view, Camera::new(19), 1.0, parts)?[1].to_device(Device::Cpu)
        };
        let [right, found] = [Device::Cpu, device].map(|device| mask(device).unwrap());
        assert_eq!((right.shape(), right.data()), (found.shape(), found.data()));
        assert!([0.0, 1.0].iter().all(|value| right.data().contains(value)));
    }
}

/// A plane that faces the camera.
fn plane(camera: Camera) -> Tensor {
    let depth = Tensor::full([1, camera.size, camera.size], 1.0);
    move_surface(&depth, &Tensor::zeros([1, 6]), camera).unwrap()
}

/// The surfaces moved, as the rasteriser gets them.
fn moved(batch: usize, size: usize, degrees: f32) -> Tensor {
    move_surface(&relief(batch, size, 0.05), &views(batch, degrees), Camera::new(size)).unwrap()
}

#[test]
fn rasterised_depths() {
    // Folded over itself by large angles.
    for (size, degrees) in [(2, 0.0), (9, 20.0), (24, 60.0)] {
        for settings in rasters() {
            for limits in [UNLIMITED, [0.97, 1.04]] {
                agree(&[moved(3, size, degrees)], |x| {
                    rasterise_depth(&x[0], Camera::new(size), settings, limits)
                });
            }
        }
    }
}

#[test]
fn rasterised_depths_are_the_same_to_the_bit_even_from_the_canonical_view_on() {
    let Some(device) = gpu() else { return };
    let (size, settings) = (33, RasterSettings::default());
    let (camera, depth, views) = (Camera::new(size), relief(4, size, 0.05), views(2, 60.0));
    let on = |device: Device| -> Result<Tensor> {
        let [depth, views] = [depth.to_device(device)?, views.to_device(device)?];
        let points = move_surface(&depth, &views, camera)?;
        rasterise_depth(&points, camera, settings, UNLIMITED)?.to_device(Device::Cpu)
    };
    let [right, found] = [Device::Cpu, device].map(|device| on(device).unwrap());
    assert!(right.data().contains(&settings.far) && right.data().iter().any(|d| *d < 1.1));
    let off = right.data().iter().zip(found.data()).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    assert_eq!(off, 0, "of {} pixels", right.numel());
}

#[test]
fn equally_near_triangles_go_to_the_first() {
    // All at one depth: points lie on samples, so do edges. The third and the fourth row of points are folded back onto
    // the first and the second, so three rows of cells lie on each other.
    let (size, settings) = (8, RasterSettings { supersampling: 1, pixel_centre: 0.0, ..Default::default() });
    let camera = Camera::new(size);
    let mut points = plane(camera);
    let two_rows = 2 * size * 3;
    let (first, others) = points.data_mut().split_at_mut(two_rows);
    others[..two_rows].copy_from_slice(first);
    agree(&[points], |x| rasterise_depth(&x[0], camera, settings, UNLIMITED));
}

#[test]
fn triangles_that_cover_nothing_or_everything() {
    let size = 8;
    let camera = Camera::new(size);
    let plane = plane(camera);
    let changed = |corner: usize, axis: usize, value: f32| {
        let mut points = plane.clone();
        points.data_mut()[corner * 3 + axis] = value;
        points
    };
    for points in [
        changed(28, 0, f32::NAN),
        changed(12, 1, f32::INFINITY),
        changed(12, 2, f32::INFINITY),
        changed(35, 2, 0.0),
        changed(35, 2, -1.0),
        // Nearly at the camera: it projects far outside of the image.
        changed(35, 2, 1e-6),
        changed(35, 0, 1e9),
    ] {
        let Some(device) = gpu() else { return };
        let run = |device: Device| {
            let tape = Tape::new();
            let points = tape.watch(&points.to_device(device).unwrap());
            let depth = rasterise_depth(&points, camera, RasterSettings::default(), UNLIMITED).unwrap();
            let gradient = tape.backward(&depth).unwrap().take(&points).unwrap();
            [depth, gradient].map(|tensor| tensor.to_device(Device::Cpu).unwrap())
        };
        let ([right, right_gradient], [found, found_gradient]) = (run(Device::Cpu), run(device));
        assert_eq!(right.data(), found.data());
        for (a, b) in right_gradient.data().iter().zip(found_gradient.data()) {
            assert!((a - b).abs() <= 1e-6 * a.abs().max(1.0), "{a} {b}");
        }
    }
}

/// A scene whose surface leaves a part of the image free.
fn scene(size: usize) -> Scene {
    Scene { camera: Camera::new(size), depth_range: RANGE, raster: RasterSettings::default() }
}

#[test]
fn a_whole_reconstruction() {
    for size in [17, 32] {
        let inputs = [random_tensor(21, [4, size, size, 3]), relief(4, size, 0.05), views(2, 60.0)];
        for part in 0..3 {
            agree(&inputs, |x| {
                let found = scene(size).reconstruct(&x[0], &x[1], &x[2], 2)?;
                Ok([found.depth, found.grid, found.image][part].clone())
            });
        }
    }
}

#[test]
fn a_whole_image() {
    let size = 20;
    let inputs = [
        random_tensor(1, [2, size, size]),
        random_tensor(2, [2, 4]),
        random_tensor(3, [4, size, size, 3]),
        views(2, 40.0),
    ];
    // The tanh of the depths differs in its last place; the surface is rough, and its gradients magnify that.
    agree_within(2e-5, &inputs, |x| {
        let [_, depth] = canonical_depth(&x[0], SHAPE)?;
        let light = light_from_raw(&x[1], LightRange::default())?;
        let [_, diffuse] = diffuse_shading(&depth, &light, Camera::new(size))?;
        let canonical = shade(&x[2], &diffuse, &light)?;
        Ok(scene(size).reconstruct(&canonical, &depth, &x[3], 2)?.image)
    });
}

/// The sampling grid of a moved surface, and the canonical image of it.
fn grid_and_image([depth, raw, albedo, views]: [&Tensor; 4], size: usize) -> Result<[Tensor; 2]> {
    let camera = Camera::new(size);
    let moved = move_surface(depth, views, camera)?;
    let seen = rasterise_depth(&moved, camera, RasterSettings::default(), RANGE.widened())?;
    let light = light_from_raw(raw, LightRange::default())?;
    let [_, diffuse] = diffuse_shading(depth, &light, camera)?;
    Ok([grid_of(&seen, views)?, shade(albedo, &diffuse, &light)?])
}

#[test]
fn results_are_the_same_every_time_and_from_a_graph() {
    let Some(device @ Device::Cuda(ordinal)) = gpu() else { return };
    let size = 32;
    let inputs = [
        relief(4, size, 0.05),
        random_tensor(2, [2, 4]),
        random_tensor(3, [4, size, size, 3]),
        views(2, 60.0),
    ];
    let there = |tensor: &Tensor| tensor.to_device(device).unwrap();
    let inputs = inputs.each_ref().map(there);
    let seeds = [random_tensor(4, [4, size, size, 2]), random_tensor(5, [4, size, size, 3])];
    let seeds = seeds.each_ref().map(there);
    // The outputs and all gradients.
    let work = || -> Result<Vec<Tensor>> {
        let tape = Tape::new();
        let x = inputs.each_ref().map(|input| tape.watch(input));
        let outputs = grid_and_image(x.each_ref(), size)?;
        let mut gradients =
            tape.backward_from(&[(&outputs[0], seeds[0].clone()), (&outputs[1], seeds[1].clone())])?;
        let gradients = x.each_ref().map(|x| gradients.take(x).unwrap());
        Ok(outputs.into_iter().map(|output| output.detach()).chain(gradients).collect())
    };
    let bits = |tensors: &[Tensor]| -> Vec<Vec<u32>> {
        let here = tensors.iter().map(|tensor| tensor.to_device(Device::Cpu).unwrap());
        here.map(|tensor| tensor.data().iter().map(|x| x.to_bits()).collect()).collect()
    };
    let first = bits(&work().unwrap());
    assert!(first == bits(&work().unwrap()));
    let mut graph = Graph::capture(ordinal, work).unwrap();
    for _ in 0..3 {
        graph.replay().unwrap();
        assert!(first == bits(graph.outputs()));
    }
}

#[test]
fn what_viewpoints_leave_uncovered() {
    let mut moved = views(300, 90.0);
    moved.data_mut().chunks_exact_mut(6).for_each(|view| view[3..].iter_mut().for_each(|x| *x *= 2.0));
    agree(&[moved], |x| uncovered(&x[0], Camera::new(24)));
}
