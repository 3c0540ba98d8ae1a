//! The mesh renderer against the reference tensors: every value and gradient of the `nmr` sets, on one and two threads.
//! `assets/golden/README.md` tells what the files hold.

use relievo_check::golden::{
    Checks, GoldenSet, GoldenTensor, cosine_and_norm, formula_values, formula_weighting, golden_sets,
    share_beyond,
};
use relievo_mesh::{
    Ambient, Appearance, Camera, Directional, Faces, Lens, Lights, LitSide, Object, Outputs, Rendered,
    Renderer, Scene, View, points_from_angles,
};
use relievo_require::{Requirement, skip};
use relievo_tensor::{Device, Tape, Tensor};
use serde_json::Value;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Image `index` of a tensor of `count`, as a tensor without the first axis.
fn of_image(golden: &GoldenTensor, index: usize, count: usize) -> Result<Tensor, Failure> {
    let each = golden.values.len() / count;
    Ok(Tensor::new(&golden.values[index * each..][..each], &golden.shape[1..])?)
}

fn indices(values: &[f32]) -> Faces {
    Faces::new(values.as_chunks::<3>().0.iter().map(|face| face.map(|i| i as u32)).collect::<Vec<_>>())
}

/// What is compared, each with the limits of its kind.
enum Kind {
    Silhouette,
    Depth,
    Colour,
    VertexGradient,
    TextureGradient,
}

fn compare(checks: &mut Checks, name: &str, kind: &Kind, got: &[f32], right: &[f32]) {
    let mut gradient = |cosine: f64, relative: f64, norm: f64| {
        let (is, off) = cosine_and_norm(got, right);
        checks.at_most(name, "1 - cosine", 1.0 - is, cosine);
        checks.relative(name, got, right, relative);
        checks.at_most(name, "norm off by", off, norm);
    };
    match kind {
        Kind::Silhouette => checks.at_most(name, "share not equal", share_beyond(got, right, 0.0), 1e-3),
        Kind::Depth => checks.at_most(name, "share beyond 1e-4", share_beyond(got, right, 1e-4), 2e-3),
        Kind::Colour => {
            checks.at_most(name, "share beyond 1e-4", share_beyond(got, right, 1e-4), 5e-3);
            checks.relative(name, got, right, 2e-4);
        }
        Kind::VertexGradient => gradient(1e-4, 5e-3, 2e-3),
        Kind::TextureGradient => gradient(1e-5, 1e-3, 1e-3),
    }
}

/// The teapot from several sides: `WHAT_SIZE_AZIMUTH`.
fn check_teapot(set: &GoldenSet, device: Device) -> Result<Checks, Failure> {
    let mut checks = Checks::new(set.name());
    let faces = indices(&set.tensor("faces")?.values);
    let names: Vec<&str> = set.names().filter(|name| name.contains('_') && !name.contains('.')).collect();
    for name in names {
        let parts: Vec<&str> = name.split('_').collect();
        let [what, size, azimuth] = parts[..] else {
            return Err(format!("{name} is not WHAT_SIZE_AZIMUTH").into());
        };
        let (pixels, degrees): (usize, u32) = (size.parse()?, azimuth.parse()?);
        let golden = set.tensor(name)?;
        let tape = Tape::new();
        let vertices = tape.watch(&set.tensor("vertices")?.tensor().to_device(device)?);
        let textures = tape.watch(&of_image(set.tensor("textures")?, 0, 1)?.to_device(device)?);
        let eye = points_from_angles(
            &Tensor::scalar(2.732),
            &Tensor::scalar(30.0),
            &Tensor::scalar(degrees as f32),
        )?;
        let object = Object {
            vertices: vertices.clone(),
            faces: faces.clone(),
            appearance: Appearance::Cubes(textures.clone()),
        };
        let scene = Scene::new(object, Camera::looking_at_origin(eye));
        let renderer = Renderer::new(pixels, pixels);
        let (outputs, kind) = match what {
            "silhouettes" => (Outputs::SILHOUETTE, Kind::Silhouette),
            "depth" => (Outputs::DEPTH, Kind::Depth),
            "rgb" => (Outputs::COLOUR, Kind::Colour),
            other => return Err(format!("{name}: {other} is not known").into()),
        };
        let Rendered { alpha, colour, depth, .. } = renderer.render(&[scene], outputs)?;
        let image = alpha.or(colour).or(depth).ok_or("no image")?;
        let right = golden.channels_last();
        compare(&mut checks, name, &kind, image.to_device(Device::Cpu)?.data(), right.data());
        let k = pixels as u32 + degrees + what.len() as u32;
        let mut weights = GoldenTensor::new(formula_values(k, golden.values.len(), 1.0), &golden.shape);
        if what == "depth" {
            // Pixels beyond are background, or mixed with it, and take no part.
            let pairs = weights.values.iter_mut().zip(&golden.values);
            pairs.filter(|(_, depth)| **depth > 50.0).for_each(|(weight, _)| *weight = 0.0);
        }
        let gradients = tape.backward_from(&[(&image, weights.channels_last().to_device(device)?)])?;
        for (input, variable, kind) in
            [("vertices", &vertices, Kind::VertexGradient), ("textures", &textures, Kind::TextureGradient)]
        {
            let name = format!("{name}.grad_{input}");
            let Some(right) = set.get(&name) else { continue };
            let gradient = gradients.get(variable).ok_or_else(|| format!("{name}: no gradient"))?;
            compare(&mut checks, &name, &kind, gradient.to_device(Device::Cpu)?.data(), &right.values);
        }
    }
    Ok(checks)
}

/// Renders one triangle from the front, 64x64, without anti-aliasing, and compares the gradient of
/// |silhouette - target| at one pixel with that of the published code.
fn check_by_hand(corners: [[f32; 3]; 3], [row, column]: [usize; 2], target: f32, right: [[f32; 3]; 3]) {
    let tape = Tape::new();
    let vertices = tape.watch(&Tensor::new(corners.as_flattened(), [3, 3]).unwrap());
    let (faces, appearance) = (Faces::new(vec![[0, 1, 2]]), Appearance::White);
    let object = Object { vertices: vertices.clone(), faces, appearance };
    let scene = Scene::new(object, Camera { lens: Lens::Orthographic, ..Camera::default() });
    let renderer = Renderer { anti_aliasing: false, ..Renderer::new(64, 64) };
    let silhouette = renderer.render(&[scene], Outputs::SILHOUETTE).unwrap().alpha.unwrap();
    let mut upstream = Tensor::zeros([1, 64, 64]);
    upstream.data_mut()[row * 64 + column] = (silhouette.data()[row * 64 + column] - target).signum();
    let gradients = tape.backward_from(&[(&silhouette, upstream)]).unwrap();
    let gradient = gradients.get(&vertices).unwrap().data();
    for (got, right) in gradient.iter().zip(right.as_flattened()) {
        assert!((got - right).abs() < 2e-5, "{gradient:?} instead of {right:?}");
    }
}

#[test]
fn a_pixel_that_should_be_covered_pulls_the_triangle() {
    check_by_hand(
        [[0.8, 0.8, 1.0], [0.0, -0.5, 1.0], [0.2, -0.4, 1.0]],
        [25, 35],
        1.0,
        [[1.67258, -0.26022, 0.0], [1.41987, -1.64285, 0.0], [0.0; 3]],
    );
}

#[test]
fn a_pixel_that_should_be_uncovered_pushes_the_triangle() {
    check_by_hand(
        [[0.8, 0.8, 1.0], [-0.5, -0.8, 1.0], [0.8, -0.8, 1.0]],
        [40, 50],
        0.0,
        [[0.98643, 1.04630, 0.0], [-1.03417, -0.10404, 0.0], [3.00086, -1.55172, 0.0]],
    );
}

/// A case: its settings, and its tensors by name.
struct Case<'a> {
    set: &'a GoldenSet,
    name: &'a str,
    settings: Value,
    images: usize,
    device: Device,
}

impl Case<'_> {
    fn get(&self, tensor: &str) -> Option<&GoldenTensor> {
        self.set.get(&format!("{}.{tensor}", self.name))
    }

    fn tensor(&self, tensor: &str) -> Result<&GoldenTensor, Failure> {
        Ok(self.set.tensor(&format!("{}.{tensor}", self.name))?)
    }

    fn number(&self, key: &str, default: f32) -> f32 {
        self.settings[key].as_f64().map_or(default, |number| number as f32)
    }

    fn vector(&self, key: &str) -> Option<Tensor> {
        let numbers = self.settings[key].as_array()?.iter();
        let numbers: Vec<f32> = numbers.filter_map(Value::as_f64).map(|number| number as f32).collect();
        Tensor::new(&numbers, [3]).ok()
    }

    fn is(&self, key: &str) -> bool {
        self.settings[key].as_bool().unwrap_or(false)
    }
}

/// The variables of a case: for each input one tensor, or one for each image.
struct Variables<'a> {
    case: &'a Case<'a>,
    tape: Tape,
    watched: Vec<(&'static str, Vec<Tensor>)>,
}

impl Variables<'_> {
    /// Image `index`'s part of an input, watched; or the input itself if all images share it.
    fn watch(&mut self, name: &'static str, index: usize, shared: bool) -> Result<Tensor, Failure> {
        let golden = self.case.tensor(name)?;
        let known = self.watched.iter().position(|(known, _)| *known == name);
        let position = known.unwrap_or_else(|| {
            self.watched.push((name, Vec::new()));
            self.watched.len() - 1
        });
        let own = &mut self.watched[position].1;
        if !(shared && index > 0) {
            let value = if shared { golden.tensor() } else { of_image(golden, index, self.case.images)? };
            own.push(self.tape.watch(&value.to_device(self.case.device)?));
        }
        Ok(own[own.len() - 1].clone())
    }
}

fn camera(variables: &mut Variables<'_>, image: usize) -> Result<Camera, Failure> {
    let case = variables.case;
    let fixed = |v: [f32; 3]| Tensor::new(&v, [3]);
    if case.settings["camera"] == "projection" {
        let matrix = variables.watch("K", image, false)?;
        let rotation = variables.watch("R", image, false)?;
        let translation = variables.watch("t", image, false)?;
        let distortion = variables.watch("dist", image, false)?;
        let size = case.number("orig_size", f32::NAN);
        let translation = relievo_tensor::ops::reshape(&translation, [3])?;
        return Ok(Camera::from_matrices(matrix, rotation, translation, distortion, [size, size]));
    }
    let eye = match case.vector("eye") {
        Some(eye) => eye,
        None => variables.watch("eye", image, true)?,
    };
    let mut camera = Camera::looking_at_origin(eye.clone());
    if let Some(direction) = case.vector("direction") {
        camera.view = View::Look { eye, direction, up: fixed([0.0, 1.0, 0.0])? };
    }
    if case.settings["perspective"] == false {
        camera.lens = Lens::Orthographic;
    } else if !case.settings["angle"].is_null() {
        camera.lens = Lens::Perspective { half_angle: Tensor::scalar(case.number("angle", 30.0)) };
    }
    Ok(camera)
}

fn lights(variables: &mut Variables<'_>, image: usize) -> Result<Lights, Failure> {
    let case = variables.case;
    if case.is("raster_only") {
        return Ok(Lights::none());
    }
    let mut lights = Lights::default();
    let Directional { colour, direction, .. } = lights.directional.remove(0);
    let mut given = |name, default: Tensor| match case.get(name) {
        Some(_) => variables.watch(name, image, true),
        None => Ok(default),
    };
    Ok(Lights {
        ambient: Ambient {
            colour: given("light_color_ambient", lights.ambient.colour)?,
            intensity: Tensor::scalar(case.number("light_intensity_ambient", 0.5)),
        },
        directional: vec![Directional {
            colour: given("light_color_directional", colour)?,
            direction: given("light_direction", direction)?,
            intensity: Tensor::scalar(case.number("light_intensity_directional", 0.5)),
        }],
    })
}

fn scene(variables: &mut Variables<'_>, image: usize) -> Result<Scene, Failure> {
    let case = variables.case;
    let textures = variables.watch("textures", image, false)?;
    let appearance = Appearance::Cubes(textures);
    if case.is("raster_only") {
        let corners = variables.watch("screen_faces", image, false)?;
        let count = corners.numel() as u32 / 9;
        let faces = Faces::new((0..count).map(|f| [3 * f, 3 * f + 1, 3 * f + 2]).collect::<Vec<_>>());
        let vertices = relievo_tensor::ops::reshape(&corners, [3 * count as usize, 3])?;
        let mut camera = Camera { lens: Lens::Orthographic, ..Camera::default() };
        let unit = Tensor::new(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], [3, 3])?;
        camera.view = View::Rigid { rotation: unit, translation: Tensor::zeros([3]) };
        let object = Object { vertices, faces, appearance };
        return Ok(Scene { objects: vec![object], camera, lights: Lights::none() });
    }
    let faces = of_image(case.tensor("faces")?, image, case.images)?;
    let vertices = variables.watch("vertices", image, false)?;
    let object = Object { vertices, faces: indices(faces.data()), appearance };
    Ok(Scene { objects: vec![object], camera: camera(variables, image)?, lights: lights(variables, image)? })
}

/// Settings of one case, all outputs and all gradients.
fn check_case(checks: &mut Checks, case: &Case<'_>) -> Result<(), Failure> {
    let mut variables = Variables { case, tape: Tape::new(), watched: Vec::new() };
    let scenes = (0..case.images).map(|image| scene(&mut variables, image)).collect::<Result<Vec<_>, _>>()?;
    let size = case.number("size", f32::NAN) as usize;
    let mut renderer = Renderer::new(size, size);
    renderer.anti_aliasing = case.is("anti_aliasing");
    renderer.fill_back = case.is("fill_back");
    renderer.lit_side = LitSide::Winding;
    renderer.near = case.number("near", renderer.near);
    renderer.far = case.number("far", renderer.far);
    renderer.background = case.vector("background").unwrap_or(renderer.background);
    let outputs = match case.settings["outputs"].as_str() {
        Some("alpha") => Outputs::SILHOUETTE,
        Some("rgb") => Outputs::COLOUR,
        Some("depth") => Outputs::DEPTH,
        Some("render") => Outputs::RGBA_DEPTH,
        other => return Err(format!("{}: the output {other:?} is not known", case.name).into()),
    };
    let Rendered { alpha, colour, depth, .. } = renderer.render(&scenes, outputs)?;
    let mut seeds = Vec::new();
    for (name, image) in [("alpha", &alpha), ("rgb", &colour), ("depth", &depth)] {
        let Some(image) = image else { continue };
        let (golden, name) = (case.tensor(name)?, format!("{}.{name}", case.name));
        let right = golden.channels_last();
        let found = image.to_device(Device::Cpu)?;
        checks.at_most(&name, "share beyond 2e-5", share_beyond(found.data(), right.data(), 2e-5), 0.0);
        let weights = formula_weighting(&name, &golden.shape).channels_last();
        seeds.push((image, weights.to_device(case.device)?));
    }
    let gradients = variables.tape.backward_from(&seeds)?;
    let prefix = format!("{}.grad_", case.name);
    let mut expected = case.set.names().filter(|name| name.starts_with(&prefix)).count();
    for (input, watched) in &variables.watched {
        let name = format!("{}.grad_{input}", case.name);
        let Some(right) = case.set.get(&name) else { continue };
        let mut all = Vec::with_capacity(right.values.len());
        for variable in watched {
            let zeros = Tensor::zeros(variable.shape());
            let gradient = gradients.get(variable).unwrap_or(&zeros).to_device(Device::Cpu)?;
            all.extend_from_slice(gradient.data());
        }
        // The worst of an independent implementation: 3.2e-4, of an eye.
        checks.relative(&name, &all, &right.values, 5e-4);
        expected -= 1;
    }
    checks.at_most(case.name, "gradients not compared", expected as f64, 0.0);
    Ok(())
}

fn check_cases(set: &GoldenSet, device: Device) -> Result<Checks, Failure> {
    let mut checks = Checks::new(set.name());
    let mut names: Vec<&str> =
        set.names().filter_map(|name| name.split_once('.')).map(|(case, _)| case).collect();
    names.dedup();
    for name in names {
        let settings: Value = serde_json::from_str(set.metadata(name)?)?;
        let images = set.tensor(&format!("{name}.textures"))?.shape[0];
        check_case(&mut checks, &Case { set, name, settings, images, device })?;
    }
    Ok(checks)
}

fn check_all(threads: usize, device: Device) {
    let sets = golden_sets("nmr").unwrap_or_else(|error| panic!("{error}"));
    if sets.is_empty() {
        skip(Requirement::Golden, "RELIEVO_GOLDEN has no file nmr*");
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for set in &sets {
        let check = if set.name().starts_with("nmr_cases") { check_cases } else { check_teapot };
        let checks =
            pool.install(|| check(set, device)).unwrap_or_else(|error| panic!("{}: {error}", set.name()));
        println!("{}, {device}, {threads} threads\n{}", set.name(), checks.table());
        assert!(checks.count() > 0, "{} has nothing to compare", set.name());
        checks.finish().unwrap_or_else(|message| panic!("{message}"));
    }
}

#[test]
fn the_mesh_renderer_agrees_with_the_reference_on_one_thread() {
    check_all(1, Device::Cpu);
}

#[test]
fn the_mesh_renderer_agrees_with_the_reference_on_two_threads() {
    check_all(2, Device::Cpu);
}

#[test]
fn the_mesh_renderer_agrees_with_the_reference_on_a_gpu() {
    if let Some(ordinal) = relievo_cuda_emulator::test_gpu() {
        check_all(2, Device::Cuda(ordinal));
    }
}
