//! The renderer against the reference tensors: every value and gradient of the `ops` sets, on one and two threads, and
//! on the GPU named by RELIEVO_DEVICE if there is one, else on the emulator.

use relievo_check::golden::{Checks, GoldenSet, GoldenTensor, formula_weighting, golden_sets};
use relievo_render::{
    Camera, DepthRange, RasterSettings, ViewSettings, diffuse_shading, move_surface, rasterise_depth,
    render_views, sampling_grid,
};
use relievo_require::{Requirement, skip};
use relievo_tensor::ops::grid_sample;
use relievo_tensor::{Device, Result, Tape, Tensor};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The depths of the reference's renderer.
const RANGE: DepthRange = DepthRange { min: 0.9, max: 1.1 };

/// Depth `[B,S,S]`, view `[B,6]` and image `[B,S,S,3]`.
type Inputs = [Tensor; 3];
const INPUT_NAMES: [&str; 3] = ["depth", "view", "im"];

fn camera(depth: &Tensor) -> Camera {
    Camera::new(depth.shape()[1])
}

/// The surface where it is.
fn grid_3d([depth, view, _]: &Inputs) -> Result<Tensor> {
    move_surface(depth, &view.zeros_like()?, camera(depth))
}

/// The normals, under any light.
fn normal([depth, ..]: &Inputs) -> Result<Tensor> {
    let light = Tensor::new(&[0.0, 1.0, 0.0, 0.0, 1.0], [1, 5])?.to_device(depth.device())?;
    let [normals, _] = diffuse_shading(depth, &light, camera(depth))?;
    Ok(normals)
}

fn warped_3d_grid([depth, view, _]: &Inputs) -> Result<Tensor> {
    move_surface(depth, view, camera(depth))
}

fn warped_depth(inputs: &Inputs) -> Result<Tensor> {
    let settings = RasterSettings::default();
    rasterise_depth(&warped_3d_grid(inputs)?, camera(&inputs[0]), settings, RANGE.widened())
}

/// The sampling grid straight from the depth: the reference takes it to be the depth in the input view here.
fn inv_warped_2d_grid([depth, view, _]: &Inputs) -> Result<Tensor> {
    let [grid, _] = sampling_grid(depth, view, camera(depth), f32::INFINITY, 1)?;
    Ok(grid)
}

fn reprojected_im(inputs: &Inputs) -> Result<Tensor> {
    let [_, view, image] = inputs;
    let [grid, _] = sampling_grid(&warped_depth(inputs)?, view, camera(&inputs[0]), f32::INFINITY, 1)?;
    grid_sample(image, &grid, None)
}

/// What an operation is called, how it is computed, and whether it is behind the rasteriser.
type Row = (&'static str, fn(&Inputs) -> Result<Tensor>, bool);
const OPERATIONS: [Row; 6] = [
    ("grid_3d", grid_3d, false),
    ("normal", normal, false),
    ("warped_3d_grid", warped_3d_grid, false),
    ("warped_depth", warped_depth, true),
    ("inv_warped_2d_grid", inv_warped_2d_grid, false),
    ("reprojected_im", reprojected_im, true),
];

/// An image in the reference is channels first; grids and points are last already.
fn ours(name: &str, golden: &GoldenTensor) -> Tensor {
    let image = name == "im" || name == "reprojected_im" || name.ends_with(".grad_im");
    if image { golden.channels_last() } else { golden.tensor() }
}

fn check(set: &GoldenSet, device: Device) -> std::result::Result<Checks, Failure> {
    let mut checks = Checks::new(set.name());
    for (name, operation, rough) in OPERATIONS {
        let tape = Tape::new();
        let mut inputs = Vec::new();
        for input in INPUT_NAMES {
            inputs.push(tape.watch(&ours(input, set.tensor(input)?).to_device(device)?));
        }
        let inputs: Inputs = inputs.try_into().map_err(|_| "three inputs")?;
        let output = operation(&inputs)?;
        let value = output.to_device(Device::Cpu)?;
        let golden = set.tensor(name)?;
        let right = ours(name, golden);
        if rough {
            checks.behind_rasteriser(name, value.data(), right.data());
        } else {
            checks.smooth(name, value.data(), right.data());
        }
        // The weights are numbered in the reference's layout.
        let weighting = ours(name, &formula_weighting(name, &golden.shape)).to_device(device)?;
        let gradients = tape.backward_from(&[(&output, weighting)])?;
        for (input, variable) in INPUT_NAMES.iter().zip(&inputs) {
            let name = format!("{name}.grad_{input}");
            let Some(golden) = set.get(&name) else { continue };
            let right = ours(&name, golden);
            let gradient = gradients.get(variable).ok_or_else(|| format!("{name}: no gradient"))?;
            let gradient = gradient.to_device(Device::Cpu)?;
            if rough {
                checks.gradient(&name, gradient.data(), right.data());
            } else {
                checks.smooth(&name, gradient.data(), right.data());
            }
        }
    }
    // Views from elsewhere are for the CPU.
    if device == Device::Cpu {
        check_yaw(&mut checks, set)?;
    }
    Ok(checks)
}

/// Five views of the textured surface at -60 to 60 degrees of yaw. No gradients.
fn check_yaw(checks: &mut Checks, set: &GoldenSet) -> std::result::Result<(), Failure> {
    let Some(golden) = set.get("render_yaw") else { return Ok(()) };
    let &[batch, views, channels, height, width] = golden.shape.as_slice() else {
        return Err(format!("render_yaw has the shape {:?}", golden.shape).into());
    };
    let as_images = GoldenTensor::new(golden.values.clone(), &[batch * views, channels, height, width]);
    let [image, depth] = [ours("im", set.tensor("im")?), set.tensor("depth")?.tensor()];
    let yaw = |i: usize| (-60.0 + 120.0 * i as f32 / (views - 1) as f32).to_radians();
    let viewpoints: Vec<[f32; 6]> = (0..views).map(|i| [0.0, yaw(i), 0.0, 0.0, 0.0, 0.0]).collect();
    let rendered = render_views(&[&image], &depth, &viewpoints, &ViewSettings::original(camera(&depth)))?;
    checks.behind_rasteriser("render_yaw", rendered.images[0].data(), as_images.channels_last().data());
    Ok(())
}

fn check_all(threads: usize, device: Device) {
    let sets = golden_sets("ops").unwrap_or_else(|error| panic!("{error}"));
    if sets.is_empty() {
        skip(Requirement::Golden, "RELIEVO_GOLDEN has no file ops*");
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for set in &sets {
        let checks =
            pool.install(|| check(set, device)).unwrap_or_else(|error| panic!("{}: {error}", set.name()));
        println!("{} on {device}, {threads} threads\n{}", set.name(), checks.table());
        checks.finish().unwrap_or_else(|message| panic!("{message}"));
    }
}

#[test]
fn the_renderer_agrees_with_the_reference_on_one_thread() {
    check_all(1, Device::Cpu);
}

#[test]
fn the_renderer_agrees_with_the_reference_on_two_threads() {
    check_all(2, Device::Cpu);
}

#[test]
fn the_renderer_agrees_with_the_reference_on_a_gpu() {
    if let Some(ordinal) = relievo_cuda_emulator::test_gpu() {
        check_all(1, Device::Cuda(ordinal));
    }
}
