//! A training step against the reference tensors: every intermediate, every loss, the gradients of all parameters,
//! one step of Adam and the loss over twenty of them, for every `step_` set.
//!
//! Those of LeMul, which learns from pairs, are in `lemul.rs`.
//!
//! The full comparison runs on one and on two threads. The twenty steps run on two: results do not depend on the
//! number of threads (`the_number_of_threads_changes_nothing` asserts every bit), so one thread would repeat them.

mod lemul;

use relievo_check::golden::{
    Checks, GoldenSet, GoldenTensor, ParameterKind, formula_parameter, golden_sets, share_beyond, vgg_weights,
};
use relievo_model::{Loss, Losses, Model, ModelSettings, Prediction, Preset};
use relievo_nets::{ParameterInfo, Vgg};
use relievo_render::normals;
use relievo_require::{Requirement, skip};
use relievo_tensor::ops::AdamStep;
use relievo_tensor::{DataType, Device, Gradients, Random, Tensor};
use relievo_train::Moments;
use relievo_train::{CapturedStep, TrainSettings};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The gradients' shares of a step of Adam, as the paper trains.
const ADAM: AdamStep =
    AdamStep { learning_rate: 1e-4, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 5e-4, step: 1 };

/// A set, its model with the parameters of the formula, and its images `[B,S,S,3]` in [-1,1].
struct Case {
    set: GoldenSet,
    model: Model,
    images: Tensor,
    /// The reference's names of the parameters, in the model's order.
    names: Vec<String>,
}

fn cases() -> Vec<Case> {
    cases_of("step_")
}

/// The sets whose names begin so.
fn cases_of(kind: &str) -> Vec<Case> {
    let sets = golden_sets(kind).unwrap_or_else(|error| panic!("{error}"));
    if sets.is_empty() {
        skip(Requirement::Golden, &format!("RELIEVO_GOLDEN has no file {kind}*"));
    }
    let case = |set: GoldenSet| {
        let name = set.name();
        Case::new(set).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    sets.into_iter().map(case).collect()
}

impl Case {
    fn new(set: GoldenSet) -> Result<Self, Failure> {
        let preset = match set.metadata("config")? {
            "face" => Preset::Face,
            "synthetic-face" => Preset::SyntheticFace,
            "cat" => Preset::Cat,
            "car" => Preset::Car,
            "lemul-flip" => Preset::LemulCeleba,
            "lemul-pairs" | "lemul-finetune" => Preset::LemulCasia,
            other => return Err(format!("no preset is called {other}").into()),
        };
        let images = signed_images(&set, "input")?;

        let mut model = Model::new(preset.model(), 0)?;
        model.set_vgg(Vgg::from_safetensors(&vgg_weights()?)?);
        let base: u32 = set.metadata("lcg_base")?.parse()?;
        let infos = model.parameter_infos().to_vec();
        for (k, (info, parameter)) in (base..).zip(infos.iter().zip(model.parameters_mut())) {
            *parameter = by_formula(k, info).channels_last();
        }
        let names = parameter_names(&set);
        // The fine-tuning of texture leaves the second confidence network as it is.
        if names.len() != infos.len() && set.metadata("config")? != "lemul-finetune" {
            return Err(format!("{} parameters in the set, {} in the model", names.len(), infos.len()).into());
        }
        Ok(Self { set, model, images, names })
    }

    fn loss_and_gradients(&self) -> Result<(Losses, Vec<Tensor>), Failure> {
        Ok(self.model.loss_and_gradients(&self.images, self.model.settings().flip_weight)?)
    }
}

/// Images of a set in our layout and range.
fn signed_images(set: &GoldenSet, name: &str) -> Result<Tensor, Failure> {
    let input = set.tensor(name)?.channels_last();
    let images: Vec<f32> = input.data().iter().map(|x| x * 2.0 - 1.0).collect();
    Ok(Tensor::new(&images, input.shape())?)
}

/// A parameter of the model by the formula, in PyTorch's layout.
fn by_formula(k: u32, info: &ParameterInfo) -> GoldenTensor {
    let (shape, kind) = match info.shape.dims() {
        Some([outer, height, width, channels]) => {
            (vec![outer, channels, height, width], ParameterKind::Convolution)
        }
        None if info.name.ends_with(".weight") => (info.shape.to_vec(), ParameterKind::NormWeight),
        None => (info.shape.to_vec(), ParameterKind::NormBias),
    };
    formula_parameter(k, &shape, kind)
}

/// The names of the set's parameters in running order: depth, albedo, light, view, confidence; in each by layer,
/// weight before bias; the confidence network's heads after its trunk.
fn parameter_names(set: &GoldenSet) -> Vec<String> {
    let mut names: Vec<String> =
        set.names().filter_map(|name| name.strip_prefix("gradstat.")).map(str::to_owned).collect();
    names.sort_by_key(|name| {
        let mut parts = name.split('.');
        let mut place = |order: &[&str]| {
            let part = parts.next().unwrap_or_default();
            order.iter().position(|known| *known == part)
        };
        let net = place(&["netD", "netA", "netL", "netV", "netC", "netC2"]);
        let part = place(&["network", "out_net1", "out_net2"]);
        let layer = parts.next().and_then(|layer| layer.parse::<u32>().ok());
        (net, part, layer, parts.next() == Some("bias"))
    });
    names
}

/// The columns `columns` of a matrix with `width` columns.
fn columns(matrix: &[f32], width: usize, columns: std::ops::Range<usize>) -> Vec<f32> {
    matrix.chunks_exact(width).flat_map(|row| row[columns.clone()].to_vec()).collect()
}

/// The intermediates under the reference's names, from the prediction or from gradients of the same shapes.
fn intermediates(
    get: impl Fn(fn(&Prediction) -> Option<&Tensor>) -> Option<Tensor>,
) -> Vec<(String, Vec<f32>)> {
    let mut all = Vec::new();
    let mut whole = |name: &str, pick: fn(&Prediction) -> Option<&Tensor>| {
        all.extend(get(pick).map(|tensor| (name.to_owned(), tensor.data().to_vec())));
    };
    whole("canon_depth_raw", |p| Some(&p.raw_depth));
    whole("canon_depth", |p| Some(&p.canonical_depth));
    whole("canon_albedo", |p| Some(&p.albedo));
    whole("canon_normal", |p| Some(&p.normals));
    whole("canon_diffuse_shading", |p| Some(&p.diffuse_shading));
    whole("canon_im", |p| Some(&p.canonical_image));
    whole("view", |p| Some(&p.view));
    whole("recon_depth", |p| Some(&p.depth));
    whole("recon_im", |p| Some(&p.image));
    if let Some(light) = get(|p| Some(&p.light)) {
        for (name, range) in [("a", 0..1), ("b", 1..2), ("d", 2..5)] {
            all.push((format!("canon_light_{name}"), columns(light.data(), 5, range)));
        }
    }
    let pixels = get(|p| p.confidence.as_ref().map(|(pixels, _)| pixels));
    let features = get(|p| p.confidence.as_ref().map(|(_, features)| features));
    for (name, maps) in [("l1", pixels), ("percl", features)] {
        for (half, channel) in [("", 0..1), ("_flip", 1..2)] {
            let maps = maps.as_ref();
            all.extend(
                maps.map(|maps| {
                    (format!("conf_sigma_{name}{half}"), columns(maps.data(), 2, channel.clone()))
                }),
            );
        }
    }
    all
}

/// A tensor of the reference in our layout: normals have their axes last there too.
fn ours(name: &str, golden: &GoldenTensor) -> Tensor {
    if name.contains("normal") { golden.tensor() } else { golden.channels_last() }
}

/// What the reference has twice and we once, because both halves of the batch share it.
fn is_shared(name: &str) -> bool {
    name == "view" || name.starts_with("canon_light_")
}

fn check(case: &Case) -> Result<Checks, Failure> {
    let Case { set, model, images, .. } = case;
    let mut checks = Checks::new(set.name());
    let mut seen = None;
    let flip_weight = model.settings().flip_weight;
    let images = images.to_device(model.device())?;
    let parameters = model.working_parameters().unwrap();
    let found = model.differentiate(&parameters, &images, flip_weight, |prediction, tape| {
        for tensor in tensors(prediction) {
            tape.retain(tensor);
        }
        seen = Some(prediction.clone());
        Ok(Vec::new())
    })?;
    let prediction = seen.ok_or("the prediction was not seen")?;

    let of_parameters = on_the_cpu(&found.of_parameters)?;
    check_values(&mut checks, case, &prediction.to_device(Device::Cpu)?)?;
    check_losses(&mut checks, case, &found.terms.read()?)?;
    check_intermediate_gradients(&mut checks, case, &prediction, &found.gradients)?;
    check_parameter_gradients(&mut checks, case, &of_parameters)?;
    check_adam(&mut checks, case, &of_parameters)?;
    Ok(checks)
}

fn on_the_cpu(tensors: &[Tensor]) -> relievo_tensor::Result<Vec<Tensor>> {
    tensors.iter().map(|tensor| tensor.to_device(Device::Cpu)).collect()
}

fn tensors(p: &Prediction) -> Vec<&Tensor> {
    let mut all = vec![
        &p.raw_depth,
        &p.canonical_depth,
        &p.albedo,
        &p.light,
        &p.normals,
        &p.diffuse_shading,
        &p.canonical_image,
        &p.view,
        &p.depth,
        &p.image,
    ];
    if let Some((pixels, features)) = &p.confidence {
        all.extend([pixels, features]);
    }
    all
}

fn check_values(checks: &mut Checks, case: &Case, prediction: &Prediction) -> Result<(), Failure> {
    for (name, values) in intermediates(|pick| pick(prediction).cloned()) {
        let golden = ours(&name, case.set.tensor(&name)?);
        match name.as_str() {
            "recon_depth" | "recon_im" => checks.behind_rasteriser(&name, &values, golden.data()),
            _ if is_shared(&name) => checks.smooth(&name, &values, &golden.data()[..values.len()]),
            _ => checks.smooth(&name, &values, golden.data()),
        }
    }
    // Neighbouring points are 1/180 of their distance apart, so normals magnify the rounding of a depth 180 times, and
    // the reference's own rasteriser rounds at 1.3e-6: against the same in f64 1.6 % of its normals are beyond 1e-4.
    // So: the normals of the reference's depth to the letter, those of ours with three times the tolerance.
    let golden_depth = case.set.tensor("recon_depth")?.tensor();
    let golden = case.set.tensor("recon_normal")?;
    let camera = case.model.settings().camera();
    checks.smooth("recon_normal of its depth", normals(&golden_depth, camera)?.data(), &golden.values);
    let ours = normals(&prediction.depth, camera)?;
    checks.at_most(
        "recon_normal",
        "share beyond 3e-4",
        share_beyond(ours.data(), &golden.values, 3e-4),
        5e-3,
    );
    if let Some(golden) = case.set.get("perc_feat_input") {
        let features = Vgg::from_safetensors(&vgg_weights()?)?.features(&case.images)?;
        checks.smooth("perc_feat_input", features.data(), golden.channels_last().data());
    }
    Ok(())
}

fn check_losses(checks: &mut Checks, case: &Case, losses: &Losses) -> Result<(), Failure> {
    let named = [
        ("loss_total", losses.total),
        ("loss_l1_im", losses[Loss::Photometric]),
        ("loss_l1_im_flip", losses[Loss::PhotometricFlip]),
        ("loss_perc_im", losses[Loss::Perceptual]),
        ("loss_perc_im_flip", losses[Loss::PerceptualFlip]),
        ("loss_depth_sm", losses[Loss::Smoothness]),
    ];
    for (name, value) in named {
        // In the car set one sub-pixel at a silhouette went the other way: the same step in f64, from the same
        // parameters, puts this term 1.26e-5 from the reference too. It is one of two, and their total is within 1e-5.
        let limit = if name == "loss_perc_im_flip" { 2e-5 } else { 1e-5 };
        checks.relative(name, &[value], &case.set.tensor(name)?.values, limit);
    }
    Ok(())
}

fn check_intermediate_gradients(
    checks: &mut Checks,
    case: &Case,
    prediction: &Prediction,
    gradients: &Gradients,
) -> Result<(), Failure> {
    let fetch = |gradient: &Tensor| gradient.to_device(Device::Cpu).unwrap_or_else(|error| panic!("{error}"));
    for (name, values) in intermediates(|pick| gradients.get(pick(prediction)?).map(fetch)) {
        let name = format!("grad.{name}");
        let mut golden = ours(&name, case.set.tensor(&name)?).data().to_vec();
        if is_shared(&name["grad.".len()..]) {
            let half = golden.split_off(golden.len() / 2);
            golden.iter_mut().zip(half).for_each(|(sum, other)| *sum += other);
        }
        checks.gradient(&name, &values, &golden);
    }
    Ok(())
}

fn check_parameter_gradients(checks: &mut Checks, case: &Case, gradients: &[Tensor]) -> Result<(), Failure> {
    for (name, gradient) in case.names.iter().zip(gradients) {
        let golden = &case.set.tensor(&format!("gradstat.{name}"))?.values;
        let &[sum, magnitudes, norm] = golden.as_slice() else {
            return Err(format!("gradstat.{name} has not three numbers").into());
        };
        let ours = gradient.data().iter().map(|x| f64::from(*x));
        let our_norm = ours.clone().map(|x| x * x).sum::<f64>().sqrt();
        let our_magnitudes: f64 = ours.clone().map(f64::abs).sum();
        let off = |ours: f64, golden: f32, of: f32| (ours - f64::from(golden)).abs() / f64::from(of);
        checks.at_most(name, "gradient's norm off by", off(our_norm, norm, norm), 5e-3);
        checks.at_most(name, "its magnitudes off by", off(our_magnitudes, magnitudes, magnitudes), 5e-3);
        // Of magnitude: in the sum the numbers may cancel to nearly nothing.
        checks.at_most(name, "its sum off by", off(ours.sum(), sum, magnitudes), 5e-3);
        let golden = &case.set.tensor(&format!("gradhead.{name}"))?.values;
        let first = GoldenTensor::channels_first(gradient).values;
        // Behind the rasteriser single numbers move more than norms; another layout would be off by 1 and more.
        checks.relative(&format!("gradhead.{name}"), &first[..golden.len()], golden, 5e-2);
    }
    Ok(())
}

fn check_adam(checks: &mut Checks, case: &Case, gradients: &[Tensor]) -> Result<(), Failure> {
    let mut parameters = on_the_cpu(case.model.parameters())?;
    let [mut first, mut second] = moments(gradients);
    ADAM.apply(&mut parameters, gradients, &mut first, &mut second)?;
    for (name, parameter) in case.names.iter().zip(&parameters) {
        let golden = &case.set.tensor(&format!("paramhead1.{name}"))?.values;
        let ours = GoldenTensor::channels_first(parameter).values;
        // The first step moves each number by 1e-4 against the sign of its gradient, so that numbers whose gradient is
        // nearly zero may go the other way.
        let name = format!("paramhead1.{name}");
        checks.at_most(&name, "share beyond 1e-5", share_beyond(&ours[..golden.len()], golden, 1e-5), 5e-2);
    }
    Ok(())
}

fn moments(gradients: &[Tensor]) -> [Vec<Tensor>; 2] {
    std::array::from_fn(|_| gradients.iter().map(|gradient| Tensor::zeros(gradient.shape())).collect())
}

fn on_threads<T: Send>(threads: usize, compute: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(compute)
}

fn check_all(threads: usize) {
    for case in cases() {
        let name = case.set.name();
        let checks = on_threads(threads, || check(&case)).unwrap_or_else(|error| panic!("{name}: {error}"));
        println!("{name} on {threads} threads\n{}", checks.table());
        checks.finish().unwrap_or_else(|message| panic!("{message}"));
    }
}

#[test]
fn a_step_agrees_with_the_reference_on_one_thread() {
    check_all(1);
}

#[test]
fn a_step_agrees_with_the_reference_on_two_threads() {
    check_all(2);
}

/// In f32 within the tolerances of the CPU; in bf16, where the reference allows 5 %, the loss. On a real GPU if there
/// is one, else on the emulator.
#[test]
fn a_step_agrees_with_the_reference_on_a_gpu() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    for mut case in cases() {
        let name = case.set.name();
        case.model.to_device(Device::Cuda(ordinal), DataType::F32).unwrap();
        let checks = check(&case).unwrap_or_else(|error| panic!("{name}: {error}"));
        println!("{name} on a GPU in f32\n{}", checks.table());
        checks.finish().unwrap_or_else(|message| panic!("{message}"));

        case.model.to_device(Device::Cuda(ordinal), DataType::Bf16).unwrap();
        let (losses, _) = case.loss_and_gradients().unwrap();
        let golden = case.set.tensor("loss_total").unwrap().values[0];
        println!("{name} on a GPU in bf16: total loss {} for {golden}", losses.total);
        assert!((losses.total - golden).abs() < 0.05 * golden.abs());
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for case in cases() {
        let bits = |threads| {
            let (losses, gradients) = on_threads(threads, || case.loss_and_gradients()).unwrap();
            let gradients: Vec<Vec<u32>> = (gradients.iter())
                .map(|gradient| gradient.data().iter().map(|x| x.to_bits()).collect())
                .collect();
            (losses.total.to_bits(), gradients)
        };
        assert!(bits(1) == bits(2), "{}: two threads give another result than one", case.set.name());
    }
}

/// The total loss before each of `steps` steps of Adam. With a `seed`, every parameter is first moved by up to 1e-7 of
/// itself: less than what rounding to f32 takes from it.
fn curve(case: &mut Case, steps: usize, seed: Option<u64>) -> Result<Vec<f32>, Failure> {
    let start = case.model.parameters().to_vec();
    if let Some(seed) = seed {
        for (stream, parameter) in (0..).zip(case.model.parameters_mut()) {
            let random = Random::new(seed, stream);
            for (index, x) in (0..).zip(parameter.data_mut()) {
                *x *= 1.0 + 1e-7 * (2.0 * random.uniform(index) - 1.0);
            }
        }
    }
    let [mut first, mut second] = moments(case.model.parameters());
    let mut losses = Vec::with_capacity(steps);
    for step in 1..=steps as u64 {
        let (loss, gradients) = case.loss_and_gradients()?;
        losses.push(loss.total);
        let rule = AdamStep { step, ..ADAM };
        rule.apply(case.model.parameters_mut(), &gradients, &mut first, &mut second)?;
    }
    case.model.parameters_mut().clone_from_slice(&start);
    Ok(losses)
}

/// The total loss before each of `steps` steps as training takes them on a GPU: captured and replayed, Adam and all.
fn curve_on_a_gpu(
    case: &mut Case,
    ordinal: usize,
    precision: DataType,
    steps: usize,
) -> Result<Vec<f32>, Failure> {
    let (start, flip_weight) = (case.model.parameters().to_vec(), case.model.settings().flip_weight);
    let [batch, ..] = case.images.dims::<4>("images")?;
    let settings = TrainSettings {
        batch_size: batch,
        learning_rate: ADAM.learning_rate,
        weight_decay: ADAM.weight_decay,
        ..TrainSettings::default()
    };
    let mut moments = Moments::zeros(&case.model);
    case.model.to_device(Device::Cuda(ordinal), precision)?;
    moments.to_device(Device::Cuda(ordinal))?;
    // The step owns the model for a while.
    let small = ModelSettings {
        width: 4,
        code: 8,
        encoder_width: 4,
        perceptual_weight: 0.0,
        ..ModelSettings::default()
    };
    let model = std::mem::replace(&mut case.model, Model::new(small, 0)?);
    let mut captured = CapturedStep::new(model, moments, &settings, 0, batch)?;
    let mut losses = Vec::with_capacity(steps);
    for step in 1..=steps as u64 {
        captured.queue(&case.images, flip_weight, step, &settings)?;
        losses.extend(captured.look()?.map(|look| look.losses.total));
    }
    (case.model, _) = captured.into_parts();
    case.model.to_device(Device::Cpu, DataType::F32)?;
    case.model.parameters_mut().clone_from_slice(&start);
    Ok(losses)
}

/// How far runs from all but the same parameters part: a set, how many runs to make of it, and the measured standard
/// deviation of the loss before each step in percent of it (car: 22 runs; face: 7).
const SPREADS: [(&str, u64, [f64; 20]); 2] = [
    (
        "step_car",
        3,
        [
            0.0003, 0.045, 0.29, 0.43, 0.56, 0.70, 1.1, 1.7, 2.2, 2.8, 3.5, 4.2, 5.0, 5.6, 5.9, 6.4, 7.0,
            7.3, 7.6, 8.0,
        ],
    ),
    (
        "step_celeba",
        1,
        [
            0.0003, 0.014, 0.27, 0.97, 1.2, 1.1, 1.0, 1.0, 0.87, 0.57, 0.54, 0.65, 0.75, 0.79, 0.79, 0.93,
            1.0, 0.9, 1.0, 1.2,
        ],
    ),
];

/// How many standard deviations a result may be off. Of the car's 22 runs and the reference, 20,000 times one drawn
/// at random against three others: 1 in 100 is beyond 3.4, none beyond 3.8.
const DEVIATIONS: f64 = 4.0;

/// Single runs of twenty steps cannot be held to 3 %, the reference's own included. The loss has kinks (magnitudes,
/// ReLU, the cells of bilinear samples) at which its gradient jumps, and Adam's first steps move every parameter by
/// the same amount however small its gradient. Measured on the car set:
///
/// - At the same parameters our loss is that of an f64 program (PyTorch) to 6e-7 at steps 0, 1, 2, 5 and 10. At steps
///   0 to 2 our gradient is 0.2 to 0.3 % off the f64 one (the worst tensor 0.9 %), PyTorch's in f32 0.25 to 0.55 %.
///   At step 0 the two errors have nothing in common (cosine 0.03). Adam makes of 0.3 % other signs for one parameter
///   in a thousand.
/// - It is not the order of our sums: in f64 too, parameters moved by up to 1e-8 of themselves change the gradient by
///   8e-7, but by 1e-7 not ten times as much but 0.13 %. The f64 run is 3.7 % above the reference at step 10.
/// - 16 runs, one unmoved and 15 from parameters moved by up to 1e-7, part at step 1 (deviation 0.03 %) and end 5 %
///   below the reference to 20 % above it, their median 1.2 % above it, six of them below. From step 1 on the
///   reference lies within 0.8 deviations of their mean. Six more, moved by 1e-6, end 10 % below to 22 % above it, one
///   of them below. PyTorch's in f32 ends 24 % above it, but six of its runs moved by 1e-7 from 11 % below to 25 %
///   above, the mean 0.6 % below. The reference is the eighth lowest of our 22 and itself: no pull to one side shows.
///
/// So: at step 0, where nothing has been magnified, 1e-5. Later each run, and the mean of the runs, is as near the
/// reference as draws of the measured spread are: for a run of the car that is 2.5 % to step 3. And the runs part
/// no further than was measured, so that an operation that rounds much worse shows. A learning rate 10 % too high, a
/// first beta of 0.8 and a wrong bias correction fail; a second beta of 0.99, no weight decay or an epsilon of 1e-4
/// drown in the spread: those are the business of Adam's own tests.
#[test]
fn twenty_steps_follow_the_reference() {
    for mut case in cases() {
        let name = case.set.name();
        let golden = case.set.tensor("loss_curve_20_steps").unwrap().values.clone();
        let runs = known_spread(&name).map_or(3, |(runs, _)| runs);
        let curves: Vec<Vec<f32>> = (0..runs)
            .map(|run| on_threads(2, || curve(&mut case, golden.len(), run.checked_sub(1))).unwrap())
            .collect();
        follow(&name, &golden, &curves, 1e-5, 0.0);
    }
}

/// The steps of training on a GPU, in f32 and in bf16, where the reference allows 5 % at step 0 and 10 % later. On the
/// emulator, which takes seconds for a step, the first two of the first set: as it is queued, and captured.
#[test]
fn twenty_steps_on_a_gpu_follow_the_reference() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let is_real = std::env::var_os("RELIEVO_DEVICE").is_some();
    let (sets, steps) = if is_real { (usize::MAX, usize::MAX) } else { (1, 2) };
    for mut case in cases().into_iter().take(sets) {
        let name = case.set.name();
        let mut golden = case.set.tensor("loss_curve_20_steps").unwrap().values.clone();
        golden.truncate(steps);
        for (precision, first, later) in [(DataType::F32, 1e-5, 0.0), (DataType::Bf16, 0.05, 0.1)] {
            let curve = curve_on_a_gpu(&mut case, ordinal, precision, golden.len()).unwrap();
            follow(&format!("{name} on a GPU in {precision:?}"), &golden, &[curve], first, later);
        }
    }
}

/// How many runs to make of a set and how far they part, if it was measured.
fn known_spread(name: &str) -> Option<(u64, &'static [f64; 20])> {
    let (_, runs, percent) = SPREADS.iter().find(|(set, ..)| name.starts_with(set))?;
    Some((*runs, percent))
}

/// Holds curves to the reference as draws of the measured spread: the first loss to `first` of it, later ones to
/// [`DEVIATIONS`], or to `later` of the reference where that is wider.
fn follow(name: &str, golden: &[f32], curves: &[Vec<f32>], first: f64, later: f64) {
    let mut checks = Checks::new(name);
    for (step, golden) in golden.iter().enumerate() {
        let losses: Vec<f32> = curves.iter().map(|curve| curve[step]).collect();
        if step == 0 {
            for (run, loss) in losses.iter().enumerate() {
                checks.relative(&format!("run {run}: loss of step 0"), &[*loss], &[*golden], first);
            }
            continue;
        }
        let off: Vec<f64> = losses.iter().map(|loss| f64::from(loss / golden).ln()).collect();
        let (mean, deviation) = mean_and_deviation(&off);
        let measured = |percent: &[f64; 20]| percent[step.min(19)] / 100.0;
        let spread = match known_spread(name) {
            Some((_, percent)) => measured(percent),
            // A set that nobody measured: as wide as the widest, or as it shows itself.
            None => SPREADS.iter().map(|(_, _, percent)| measured(percent)).fold(deviation, f64::max),
        };
        let mut within = |what: String, value: f64, unit: f64| {
            checks.at_most(&format!("{what} of step {step}"), "deviations", value / unit, DEVIATIONS);
        };
        // The reference is a draw too.
        for (run, off) in off.iter().enumerate() {
            within(format!("run {run}: loss"), off.abs(), (spread * 2f64.sqrt()).max(later / DEVIATIONS));
        }
        if off.len() > 1 {
            within("mean loss".into(), mean.abs(), spread * (1.0 + 1.0 / off.len() as f64).sqrt());
            within("spread".into(), deviation, spread);
        }
    }
    println!("{name}: {curves:?}\n{}", checks.table());
    checks.finish().unwrap_or_else(|message| panic!("{message}"));
}

/// The mean and the standard deviation of a sample; one number has deviation 0.
fn mean_and_deviation(sample: &[f64]) -> (f64, f64) {
    let count = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / count;
    let squares: f64 = sample.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}
