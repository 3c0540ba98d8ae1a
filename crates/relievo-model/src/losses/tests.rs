//! Tests of the losses as a whole.

use relievo_tensor::testing::random_tensor;

use super::*;
use crate::{LearnedRenderer, Method, ModelSettings, Renderer, RendererSettings, Supervision};

fn supervised() -> Model {
    let settings = ModelSettings {
        supervision: Supervision::Depth,
        smoothness_weight: 0.1,
        initial_depth_scale: 0.3,
        dome: 0.4,
        ..ModelSettings::tiny()
    };
    Model::new(settings, 3).unwrap()
}

/// Two images of noise; a slope, known in an oblong part of them.
fn example() -> (Tensor, GroundTruth) {
    let inside = |at: usize| (10..50).contains(&(at / 64 % 64)) && (20..40).contains(&(at % 64));
    let depth: Vec<f32> = (0..2 * 64 * 64).map(|at| 0.93 + 0.002 * (at % 64) as f32).collect();
    let mask: Vec<f32> = (0..2 * 64 * 64).map(|at| f32::from(u8::from(inside(at)))).collect();
    let [depth, mask] = [depth, mask].map(|map| Tensor::new(&map, [2, 64, 64]).unwrap());
    let truth = GroundTruth {
        depth,
        mask,
        albedo: random_tensor(2, [2, 64, 64, 3]),
        light: Tensor::new(&[0.3, 0.6, 0.0, 0.6, 0.8].repeat(2), [2, 5]).unwrap(),
        view: Tensor::new(&[0.2, -0.3, 0.1, 0.02, -0.01, 0.03].repeat(2), [2, 6]).unwrap(),
        known: Tensor::full([2], 1.0),
        points: face_points(),
        faces: Tensor::full([2], 1.0),
    };
    (random_tensor(1, [2, 64, 64, 3]), truth)
}

/// A face in the first image, and one that leans in the second.
fn face_points() -> Tensor {
    let upright = [-0.3, -0.2, 0.35, -0.22, 0.03, 0.1, -0.22, 0.4, 0.2, 0.41];
    let leaning = [-0.25, -0.3, 0.3, -0.1, 0.0, 0.1, -0.3, 0.3, 0.15, 0.45];
    Tensor::new(&[upright, leaning].concat(), [2, 5, 2]).unwrap()
}

/// A model that learns from images and from truth.
fn mixed(truth_weight: f32) -> Model {
    let settings =
        ModelSettings { truth_weight, initial_depth_scale: 0.02, dome: 0.5, ..ModelSettings::tiny() };
    Model::new(settings, 3).unwrap()
}

const TRUTHS: [Loss; 5] =
    [Loss::TruthDepth, Loss::TruthNormals, Loss::TruthAlbedo, Loss::TruthLight, Loss::TruthView];

#[test]
fn a_truth_without_a_weight_changes_no_bit() {
    let (model, (images, truth)) = (mixed(0.0), example());
    let (right, gradients) = model.loss_and_gradients(&images, 0.5).unwrap();
    let objective = Objective::from(0.5).with_truth(Some(&truth));
    let (found, found_gradients) = model.loss_and_gradients(&images, objective).unwrap();
    assert_eq!(found, right);
    assert!(found_gradients.iter().zip(&gradients).all(|(a, b)| a.data() == b.data()));
    assert!(TRUTHS.iter().all(|loss| found[*loss] == 0.0));
}

#[test]
fn photographs_among_images_with_a_truth_learn_as_without_it() {
    let (model, (images, truth)) = (mixed(1.0), example());
    let right = mixed(0.0).losses(&images, 0.5).unwrap();
    let unknown = GroundTruth::unknown(Device::Cpu, 2, 64).unwrap();
    let objective = |truth| Objective::from(0.5).with_truth(Some(truth));
    let found = model.losses(&images, objective(&unknown)).unwrap();
    assert_eq!(found, right);
    // With one of both known, its error is what both have that are known alone.
    let mut first = truth.clone();
    let half = first.mask.numel() / 2;
    first.mask.data_mut()[half..].fill(0.0);
    first.known.data_mut()[1] = 0.0;
    let both = model.losses(&images, objective(&truth)).unwrap();
    let one = model.losses(&images, objective(&first)).unwrap();
    let image = images.narrow(0, 1).unwrap();
    let truth = truth.map(|tensor| tensor.narrow(0, 1)).unwrap();
    let alone = model.losses(&image, objective(&truth)).unwrap();
    for loss in TRUTHS {
        assert!(both[loss] > 0.0 && both[loss] != one[loss], "{loss:?}");
        assert!((one[loss] - alone[loss]).abs() < 1e-3 * alone[loss], "{loss:?}: {one:?}, {alone:?}");
    }
    let wrong = model.losses(&images, objective(&truth)).unwrap_err().to_string();
    assert!(wrong.contains("a truth of shape [1, 64, 64] in place of [2, 64, 64]"), "{wrong}");
}

#[test]
fn the_gradient_of_truths_and_priors_agrees_with_finite_differences() {
    // The places at which albedo is sampled have no gradient, but they move.
    let settings = ModelSettings {
        truth_albedo_weight: 0.0,
        view_prior_weight: 0.3,
        light_prior_weight: 0.3,
        ..mixed(10.0).settings().clone()
    };
    let (mut model, (_, mut truth)) = (Model::new(settings, 3).unwrap(), example());
    truth.mask.data_mut()[..64 * 64].fill(0.0);
    truth.known.data_mut()[0] = 0.0;
    let twice = |x: &Tensor| Tensor::new(&x.data().repeat(2), [&[4], &x.shape()[1..]].concat().as_slice());
    let truth = truth.map(twice).unwrap();
    let objective = Objective::from(0.5).with_truth(Some(&truth));
    assert_slope(&mut model, &random_tensor(1, [4, 64, 64, 3]), objective, 0.03);
}

#[test]
fn what_the_viewpoint_leaves_uncovered_counts_with_its_weight() {
    let (images, _) = example();
    // The last layer of the network for the viewpoint ends in tanh: with large weights it turns by 60 degrees and moves by
    // 0.1, one way or the other.
    let losses = |coverage_weight, factor: f32| {
        let settings = ModelSettings { coverage_weight, ..ModelSettings::tiny() };
        let mut model = Model::new(settings, 3).unwrap();
        let last = model.parameter_infos().iter().rposition(|info| info.name.starts_with("view.")).unwrap();
        model.parameters_mut()[last].data_mut().iter_mut().for_each(|weight| *weight *= factor);
        model.losses(&images, 0.5).unwrap()
    };
    assert_eq!(losses(10.0, 1.0)[Loss::Coverage], 0.0);
    let [found, without] = [10.0, 0.0].map(|weight| losses(weight, 1e6));
    let span = 1.0 - (0.1 / 5f32.to_radians().tan() - 0.5);
    assert!((found[Loss::Coverage] - 2.0 * (0.5 - span / 2.0)).abs() < 1e-4, "{found:?}");
    assert_eq!(without[Loss::Coverage], 0.0);
    assert!((found.total - without.total - 10.0 * found[Loss::Coverage]).abs() < 1e-4, "{found:?}");
}

#[test]
fn the_depth_loss_is_the_mean_error_where_the_truth_is_known_in_ranges() {
    let (model, (images, truth)) = (supervised(), example());
    let losses = model.losses(&images, Objective::from(0.0).with_truth(Some(&truth))).unwrap();
    let found = model.predict(&images).unwrap().depth;
    let triples = || found.data().iter().zip(truth.depth.data()).zip(truth.mask.data());
    let error: f64 = triples().map(|((found, depth), mask)| f64::from((found - depth).abs() * mask)).sum();
    let expected = error / (2.0 * 40.0 * 20.0) / 0.2;
    assert!((f64::from(losses[Loss::Depth]) - expected).abs() < 1e-5 * expected, "{losses:?}, {expected}");
    assert_eq!((losses[Loss::Photometric], losses[Loss::Perceptual]), (0.0, 0.0));
    assert!((losses.total - losses[Loss::Depth] - 0.1 * losses[Loss::Smoothness]).abs() < 1e-6);
}

#[test]
fn the_gradient_of_the_depth_loss_agrees_with_finite_differences() {
    let (mut model, (images, truth)) = (supervised(), example());
    assert_slope(&mut model, &images, Objective::from(0.0).with_truth(Some(&truth)), 0.02);
}

/// Asserts that along the gradient of all parameters together, the loss rises by the gradient's norm: one difference
/// over so many numbers is far above rounding.
fn assert_slope(model: &mut Model, images: &Tensor, objective: Objective<'_>, tolerance: f64) {
    let (_, gradients) = model.loss_and_gradients(images, objective).unwrap();
    assert_eq!(gradients.len(), model.parameter_infos().len());
    let square: f64 = gradients.iter().flat_map(|g| g.data()).map(|g| f64::from(*g).powi(2)).sum();
    let norm = square.sqrt();
    let mut loss_at = |distance: f64| {
        let step = (distance / norm) as f32;
        for (parameter, gradient) in model.parameters_mut().iter_mut().zip(&gradients) {
            parameter.data_mut().iter_mut().zip(gradient.data()).for_each(|(p, g)| *p += step * g);
        }
        let loss = model.losses(images, objective).unwrap().total;
        for (parameter, gradient) in model.parameters_mut().iter_mut().zip(&gradients) {
            parameter.data_mut().iter_mut().zip(gradient.data()).for_each(|(p, g)| *p -= step * g);
        }
        f64::from(loss)
    };
    // Short, because the loss and the networks have kinks.
    const STEP: f64 = 1e-4;
    let slope = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
    assert!((slope / norm - 1.0).abs() < tolerance, "slope {slope}, norm of the gradient {norm}");
}

/// A model with one term of the list, and with confidence.
fn listed(terms: &[(LossKind, f32)]) -> Model {
    let settings = ModelSettings {
        loss: LossList::of(terms),
        initial_depth_scale: 0.02,
        dome: 0.5,
        ..ModelSettings::tiny()
    };
    Model::new(settings, 3).unwrap()
}

#[test]
fn a_term_of_the_list_is_added_to_the_loss_by_its_weight() {
    let (images, _) = example();
    let today = listed(&[]).losses(&images, 0.5).unwrap();
    assert_eq!(listed(&[(LossKind::Photometric, 1.0)]).losses(&images, 0.5).unwrap(), today);
    for kind in LossKind::ALL.iter().copied().filter(|kind| *kind != LossKind::Photometric) {
        let found = listed(&[(kind, 0.25)]).losses(&images, 0.5).unwrap();
        let [of_term, flipped] = [0, 1].map(|at| {
            let name = [kind.name(), "-flip"][..=at].concat();
            let loss = Loss::ALL.iter().find(|loss| loss.name() == name).unwrap();
            found[*loss]
        });
        assert!(of_term != 0.0 && of_term != flipped, "{kind:?}");
        assert_eq!(found[Loss::Photometric], today[Loss::Photometric]);
        let total = today.total + 0.25 * (of_term + 0.5 * flipped);
        assert!((found.total - total).abs() < 1e-5, "{kind:?}: {}, {total}", found.total);
        // With weight 0 it is not computed, and today's loss stays to the bit.
        assert_eq!(listed(&[(kind, 0.0)]).losses(&images, 0.5).unwrap(), today);
    }
}

#[test]
fn the_gradients_of_listed_terms_agree_with_finite_differences() {
    for kind in LossKind::ALL.iter().copied().filter(|kind| !kind.needs_vgg()) {
        let terms = [(kind, 1.0), (LossKind::Photometric, 0.0)];
        let loss = LossList::of(if kind == LossKind::Photometric { &terms[..1] } else { &terms });
        // Seen from the front the same pixels are covered whatever the parameters are: masks have no gradient.
        let settings = ModelSettings {
            rotation_range: 0.0,
            translation_range: 0.0,
            loss,
            ..listed(&[]).settings().clone()
        };
        let mut model = Model::new(settings, 3).unwrap();
        println!("{kind:?}");
        assert_slope(&mut model, &random_tensor(1, [2, 64, 64, 3]), Objective::from(0.5), 0.05);
    }
}

#[test]
fn terms_without_confidence_are_plain_errors_of_pairs_too() {
    let (images, _) = example();
    for method in [Method::Unsup3d, Method::Lemul] {
        let settings = ModelSettings { method, confidence: false, ..ModelSettings::tiny() };
        for kind in [LossKind::FilterBank, LossKind::MsSsim, LossKind::Census, LossKind::VggRelu22] {
            let settings = ModelSettings { loss: LossList::of(&[(kind, 1.0)]), ..settings.clone() };
            let losses = Model::new(settings, 3).unwrap().losses(&images, 0.5).unwrap();
            let loss = Loss::ALL.iter().find(|loss| loss.name() == kind.name()).unwrap();
            assert!(losses[*loss] > 0.0 && losses[*loss].is_finite(), "{kind:?}");
        }
    }
}

#[test]
fn points_of_faces_move_depth_and_viewpoint() {
    let (images, truth) = example();
    let with = |landmark_weight| {
        let settings = ModelSettings { landmark_weight, ..mixed(0.0).settings().clone() };
        Model::new(settings, 3).unwrap()
    };
    let objective = Objective::from(0.5).with_truth(Some(&truth));
    let today = with(None).losses(&images, objective).unwrap();
    let mut model = with(Some(10.0));
    let found = model.losses(&images, objective).unwrap();
    assert!(found[Loss::Landmarks] > 0.01, "{found:?}");
    assert!((found.total - today.total - 10.0 * found[Loss::Landmarks]).abs() < 1e-4);
    assert_slope(&mut model, &images, objective, 0.05);
    let mut unknown = truth.clone();
    unknown.faces.data_mut().fill(0.0);
    let objective = Objective::from(0.5).with_truth(Some(&unknown));
    assert_eq!(model.losses(&images, objective).unwrap(), today);
    let bytes = model.to_safetensors().unwrap();
    assert!(Model::from_safetensors(&bytes, "memory").unwrap().has_seen_landmarks());
    let mut other = with(None);
    assert!(!other.has_seen_landmarks() && other.take_over(&bytes).is_ok() && other.has_seen_landmarks());
    assert!(!other.has_seen_truth());
    let pairs = ModelSettings { landmark_weight: Some(1.0), ..ModelSettings::tiny().with_lemul() };
    assert!(pairs.check().unwrap_err().to_string().starts_with("landmark-weight is above 0"));
}

#[test]
fn the_option_names_every_kind() {
    let loss = ModelSettings::DECLARED.iter().find(|setting| setting.name == "loss").unwrap();
    assert!(LossKind::ALL.iter().all(|kind| loss.help.contains(kind.name())), "{}", loss.help);
}

#[test]
fn a_model_that_learns_from_depth_has_one_network_and_survives_its_file() {
    let model = supervised();
    assert!(model.parameter_infos().iter().all(|info| info.name.starts_with("depth.")));
    let (images, _) = example();
    assert!(model.outputs(&images, model.parameters()).is_err());
    let found = model.predict(&images).unwrap();
    assert_eq!(found.image.data(), images.data());
    assert!(found.mask.data().iter().all(|seen| *seen == 1.0));
    assert!(found.depth.data().iter().all(|depth| (0.9..=1.1).contains(depth)));
    let again = Model::from_safetensors(&model.to_safetensors().unwrap(), "memory").unwrap();
    assert_eq!(again.predict(&images).unwrap().depth.data(), found.depth.data());
}

/// A model whose losses use a learned renderer, which has learned nothing but is not blank either.
fn rendering(renderer: Renderer, method: Method) -> Model {
    let settings = ModelSettings {
        renderer: Some(renderer),
        renderer_width: (renderer != Renderer::Exact).then_some(4),
        method,
        confidence: false,
        pixel_centre: 0.0,
        ..ModelSettings::tiny()
    };
    Model::new(settings, 3).unwrap()
}

/// The parameters that have a gradient, by the first part of their names.
fn with_gradients(model: &Model, gradients: &[Tensor]) -> Vec<String> {
    let infos = model.parameter_infos().iter().zip(gradients);
    let moved = infos.filter(|(_, gradient)| gradient.data().iter().any(|g| *g != 0.0));
    let mut names: Vec<String> =
        moved.filter_map(|(info, _)| Some(info.name.split('.').next()?.to_owned())).collect();
    names.dedup();
    names
}

#[test]
fn losses_of_a_learned_renderer_reach_all_networks_and_its_own_parameters() {
    let (images, _) = example();
    let all = ["depth", "albedo", "light", "view", "renderer"];
    for method in [Method::Unsup3d, Method::Lemul] {
        let objective = || Objective::from(0.5).with_partners(Partners::Mirrored);
        for renderer in [Renderer::Learned, Renderer::Both] {
            let model = rendering(renderer, method);
            let (losses, gradients) = model.loss_and_gradients(&images, objective()).unwrap();
            assert!(losses.total.is_finite() && losses[Loss::Photometric] > 0.0, "{losses:?}");
            assert_eq!(losses[Loss::Renderer] > 0.0, renderer == Renderer::Both, "{losses:?}");
            assert_eq!(with_gradients(&model, &gradients), all, "{renderer:?} {method:?}");
        }
    }
}

#[test]
fn a_renderer_beside_the_exact_one_adds_its_term_and_changes_no_other() {
    let (images, _) = example();
    let [alone, both] = [Renderer::Exact, Renderer::Both]
        .map(|renderer| rendering(renderer, Method::Unsup3d).losses(&images, 0.5).unwrap());
    assert_eq!(alone[Loss::Photometric], both[Loss::Photometric]);
    assert_eq!(alone[Loss::PhotometricFlip], both[Loss::PhotometricFlip]);
    assert!((both.total - alone.total - both[Loss::Renderer]).abs() < 1e-5, "{alone:?} {both:?}");
}

#[test]
fn results_come_from_the_exact_renderer() {
    let (images, _) = example();
    let exact = rendering(Renderer::Exact, Method::Unsup3d).predict(&images).unwrap();
    for (renderer, method) in [
        (Renderer::Learned, Method::Unsup3d),
        (Renderer::Both, Method::Unsup3d),
        (Renderer::Learned, Method::Lemul),
    ] {
        let model = rendering(renderer, method);
        let found = model.predict(&images).unwrap();
        assert_eq!((found.image.data(), found.mask.data()), (exact.image.data(), exact.mask.data()));
        let (_, found) = model.losses_and_prediction(&images, Objective::from(0.5)).unwrap();
        assert_eq!((found.image.data(), found.mask.data()), (exact.image.data(), exact.mask.data()));
        // And what is handed on has no renderer.
        let packed = model.to_packed_safetensors([]).unwrap();
        let packed = Model::from_safetensors(&packed, "packed").unwrap();
        assert!(packed.parameter_infos().iter().all(|info| !info.name.starts_with("renderer.")));
    }
}

#[test]
fn a_renderer_is_taken_over_if_it_fits() {
    let learned = |width, pixel_centre| {
        let settings = RendererSettings { width, pixel_centre, ..RendererSettings::default() };
        LearnedRenderer::new(settings, 9).unwrap()
    };
    let mut model = rendering(Renderer::Learned, Method::Unsup3d);
    let right = learned(4, 0.0);
    model.set_renderer(&right).unwrap();
    let at = model.parameter_infos().iter().position(|info| info.name.starts_with("renderer.")).unwrap();
    assert_eq!(model.parameters().len() - at, right.parameters().len());
    for (found, right) in model.parameters()[at..].iter().zip(right.parameters()) {
        assert_eq!(found.data(), right.data());
    }
    let refusal = model.set_renderer(&learned(8, 0.0)).unwrap_err();
    assert_eq!(refusal, "it has 8 channels at its finest level, not 4: say renderer-width 8");
    let refusal = model.set_renderer(&learned(4, 0.5)).unwrap_err();
    assert!(refusal.starts_with("it learned with 64x64 pixels"), "{refusal}");
    let refusal = rendering(Renderer::Exact, Method::Unsup3d).set_renderer(&right).unwrap_err();
    assert_eq!(refusal, "the losses use the exact renderer alone");
    let broken = |light, supervision| {
        let renderer = Some(Renderer::Learned);
        ModelSettings { renderer, light, supervision, ..ModelSettings::tiny() }.check().is_err()
    };
    assert!(broken(crate::LightModel::ShadingMap, Supervision::None));
    assert!(broken(crate::LightModel::Lambert, Supervision::Depth));
}
