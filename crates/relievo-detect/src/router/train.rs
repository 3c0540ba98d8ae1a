//! Training of a router: scenes composed on the fly, and a loss at each place of them.

use std::sync::mpsc::sync_channel;

use rayon::prelude::*;
use relievo_tensor::ops::{Activation, AdamStep, ConvParams, conv2d, scale_all, squared_norm};
use relievo_tensor::{Random, Result, Tape, Tensor};

use super::material::{Material, MaterialError};
use super::network::{FEATURES, FRAME, Network, Output, SIDE, STRIDE};
use super::scenes::{Label, Placed, SCENE, Scene};
use super::{Router, RouterError};

/// Places along a scene.
const PLACES: usize = SCENE / STRIDE;

/// A place so near to an object's middle, in its sides, is to find it.
const NEAR: f32 = 0.12;

/// A place so near, in sides, need not tell.
const UNCLEAR: f32 = 0.35;

/// Weight of telling pictures of other things apart, which makes features that tell more than the categories.
const PICTURES: f32 = 0.1;

/// Weight of the frame.
const FRAMES: f32 = 1.0;

/// Steps in which the learning rate rises, at most; at most a tenth of all.
const WARM_UP: f64 = 200.0;

/// The most that the norm of a gradient may be.
const CLIP: f64 = 10.0;

/// How a router is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterTraining {
    /// Steps of the optimiser.
    pub steps: u64,
    /// Scenes of 128 x 128 pixels in each step.
    pub batch_size: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Of scenes and of the initial weights.
    pub seed: u64,
}

impl Default for RouterTraining {
    fn default() -> Self {
        Self { steps: 6000, batch_size: 24, learning_rate: 2e-3, seed: 1 }
    }
}

/// What happens in training.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RouterStep {
    /// Steps done.
    pub step: u64,
    /// Losses of this step: categories, frames, pictures of other things.
    pub losses: [f32; 3],
}

/// A network and the heads that its categories are told by.
pub struct Trained {
    pub(super) network: Network,
    /// `[K,1,1,64]` and `[K]`.
    pub(super) heads: [Tensor; 2],
}

impl Trained {
    /// The network and the directions of a router's categories of these names, to calibrate them anew.
    ///
    /// # Errors
    /// If it has no category of one of the names.
    pub fn from_router(router: &Router, names: &[String]) -> std::result::Result<Self, RouterError> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for name in names {
            let known = router.categories.iter().find(|category| category.name == *name);
            let category = known.ok_or_else(|| RouterError::Category {
                name: name.clone(),
                reason: "it has none of this name".into(),
            })?;
            weights.extend_from_slice(&category.weight);
            biases.push(category.bias);
        }
        let heads =
            [Tensor::new(&weights, [names.len(), 1, 1, FEATURES])?, Tensor::new(&biases, [names.len()])?];
        Ok(Self { network: router.network.clone(), heads })
    }
}

/// Trains a router on one side of the split, from nothing or from weights that it begins with. `observe` hears of each step;
/// where it returns false, training ends.
///
/// # Errors
/// If there is no image of a kind, or the engine fails.
pub fn train(
    material: &Material,
    settings: &RouterTraining,
    initial_weights: Option<&Trained>,
    mut observe: impl FnMut(RouterStep, &Trained) -> bool,
) -> std::result::Result<Trained, TrainError> {
    check(material)?;
    let pictures = material.train.picture_count();
    let mut parameters = initial(material.categories.len(), pictures, settings.seed);
    if let Some(Trained { network, heads }) = initial_weights {
        let known = network.parameters.iter().chain(heads);
        parameters.iter_mut().zip(known).for_each(|(parameter, known)| *parameter = known.clone());
    }
    let mut moments = [0, 1].map(|_| -> Vec<Tensor> {
        parameters.iter().map(|parameter| Tensor::zeros(parameter.shape())).collect()
    });
    let (send, receive) = sync_channel::<Vec<Scene>>(2);
    std::thread::scope(|scope| {
        let receive = receive;
        scope.spawn(move || {
            let mut before = Vec::new();
            for step in 0..settings.steps {
                let scenes = compose(material, settings, step, &mut before);
                // The other end is gone where training ended.
                if send.send(scenes).is_err() {
                    return;
                }
            }
        });
        for (step, scenes) in receive.iter().enumerate() {
            let step = step as u64 + 1;
            let (losses, mut gradients) = differentiate(&parameters, &scenes, material.categories.len())?;
            let norm = squared_norm(&gradients)?.sqrt();
            if norm > CLIP {
                scale_all(&mut gradients, (CLIP / norm) as f32)?;
            }
            let rise = (step as f64 / WARM_UP.min(settings.steps as f64 / 10.0)).min(1.0);
            let fall = 0.5 + 0.5 * (std::f64::consts::PI * step as f64 / settings.steps as f64).cos();
            let learning_rate = settings.learning_rate * rise * fall;
            let [first, second] = &mut moments;
            AdamStep { learning_rate, step, ..AdamStep::default() }.apply(
                &mut parameters,
                &gradients,
                first,
                second,
            )?;
            if !observe(RouterStep { step, losses }, &trained(&parameters)) {
                break;
            }
        }
        drop(receive);
        Ok(trained(&parameters))
    })
}

/// The scenes of a step: half of them new, half mirror images of those that were new in the step before, because it takes
/// longer to compose a scene than to learn from it.
fn compose(material: &Material, settings: &RouterTraining, step: u64, before: &mut Vec<Scene>) -> Vec<Scene> {
    let all = settings.batch_size as u64;
    let wanted = if step == 0 { all } else { all.div_ceil(2) };
    let numbers = step * all..step * all + wanted;
    let new: Vec<Scene> =
        numbers.into_par_iter().map(|number| Scene::compose(material, settings.seed, number)).collect();
    let room = (all - wanted) as usize;
    let kept: Vec<Scene> = new.iter().take(all as usize / 2).cloned().map(Scene::mirrored).collect();
    let again = std::mem::replace(before, kept).into_iter().take(room);
    new.into_iter().chain(again).collect()
}

/// Why training failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Images that cannot be used.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// The engine failed.
    #[error(transparent)]
    Tensor(#[from] relievo_tensor::Error),
}

fn check(material: &Material) -> std::result::Result<(), MaterialError> {
    let side = &material.train;
    let is_missing = [
        (side.crops.iter().any(Vec::is_empty), "crops of each category"),
        (side.things.is_empty(), "pictures of other things"),
        (side.photographs.is_empty(), "photographs"),
    ];
    match is_missing.into_iter().find(|(is_missing, _)| *is_missing) {
        Some((_, kind)) => Err(MaterialError::Missing(kind)),
        None => Ok(()),
    }
}

/// Parameters of the network, of the categories' heads and of the pictures' heads.
const HEADS: usize = 4;

fn initial(categories: usize, pictures: usize, seed: u64) -> Vec<Tensor> {
    let mut parameters = Network::initial(seed).parameters;
    let random = |count: usize, stream: u64| {
        let random = Random::new(seed, stream);
        let values: Vec<f32> =
            (0..count * FEATURES).map(|at| 0.1 * (2.0 * random.uniform(at as u64) - 1.0)).collect();
        Tensor::new(&values, [count, 1, 1, FEATURES]).expect("as many numbers as the shape says")
    };
    let heads = [random(categories, 100), random(pictures.max(1), 101)];
    let [of_categories, of_pictures] = heads;
    // Most places show nothing: that is where learning begins (Lin et al. 2017, section 4.1).
    parameters.extend([of_categories, Tensor::full([categories], -4.0)]);
    parameters.extend([of_pictures, Tensor::zeros([pictures.max(1)])]);
    parameters
}

fn trained(parameters: &[Tensor]) -> Trained {
    let (network, heads) = parameters.split_at(parameters.len() - HEADS);
    Trained { network: Network { parameters: network.to_vec() }, heads: [heads[0].clone(), heads[1].clone()] }
}

/// The losses of some scenes, and the gradients of all parameters.
fn differentiate(
    parameters: &[Tensor],
    scenes: &[Scene],
    categories: usize,
) -> Result<([f32; 3], Vec<Tensor>)> {
    let values: Vec<f32> =
        scenes.iter().flat_map(|scene| scene.patch.values.iter().map(|value| value / 127.5 - 1.0)).collect();
    let images = Tensor::new(&values, [scenes.len(), SCENE, SCENE, 3])?;
    let tape = Tape::new();
    let (shared, of_pictures) = parameters.split_at(parameters.len() - 2);
    let watched: Vec<Tensor> = shared.iter().map(|parameter| tape.watch(parameter)).collect();
    let (network, heads) = watched.split_at(watched.len() - 2);
    let Output { features, frames } = Network::forward(network, &images)?;
    let identity = ConvParams::new(1, 0, Activation::Identity);
    let heat = conv2d(&features, &heads[0], Some(&heads[1]), identity)?;
    let goals: Vec<Goal> = scenes.iter().map(|scene| Goal::new(&scene.placed, categories)).collect();
    let found = goals.iter().map(|goal| goal.near.len()).sum::<usize>().max(1) as f32;
    let (heat_loss, heat_gradient) = heat_loss(&heat, &goals, categories, found);
    let (frame_loss, frame_gradient) = frame_loss(&frames, &goals, found);
    let (picture_loss, [feature_gradient, weight, bias]) = picture_loss(&features, &goals, of_pictures);
    let mut gradients = tape.backward_from(&[
        (&heat, heat_gradient),
        (&frames, frame_gradient),
        (&features, feature_gradient),
    ])?;
    let of_shared = watched.iter().zip(shared).map(|(variable, parameter)| {
        gradients.take(variable).unwrap_or_else(|| Tensor::zeros(parameter.shape()))
    });
    let all = of_shared.chain([weight, bias]).collect();
    Ok(([heat_loss, frame_loss, picture_loss], all))
}

/// What the network is to say at the places of a scene.
struct Goal {
    /// For each place and category: 1, 0, or -1 where either is right.
    heat: Vec<i8>,
    /// Places that are to give the frame of an object.
    near: Vec<(usize, [f32; FRAME])>,
    /// Places in the middle of pictures of other things, and their numbers.
    pictures: Vec<(usize, usize)>,
}

impl Goal {
    fn new(placed: &[Placed], categories: usize) -> Self {
        let mut goal =
            Self { heat: vec![0; PLACES * PLACES * categories], near: Vec::new(), pictures: Vec::new() };
        for object in placed {
            let place =
                |middle: f32| ((middle - 0.5) / STRIDE as f32).round().clamp(0.0, (PLACES - 1) as f32);
            let nearest = place(object.centre[1]) as usize * PLACES + place(object.centre[0]) as usize;
            if let Label::Thing(picture) = object.label {
                goal.pictures.push((nearest, picture));
                continue;
            }
            for at in 0..PLACES * PLACES {
                let middle = [at % PLACES, at / PLACES].map(|place| (place * STRIDE) as f32 + 0.5);
                let offset = [0, 1].map(|axis| object.centre[axis] - middle[axis]);
                let distance = offset[0].abs().max(offset[1].abs()) / object.side;
                let heat = &mut goal.heat[at * categories..(at + 1) * categories];
                match object.label {
                    Label::Category(category) if distance <= NEAR || at == nearest => {
                        heat.fill(0);
                        heat[category] = 1;
                        let [x, y] = offset.map(|offset| offset / STRIDE as f32);
                        goal.near.push((at, [x, y, (object.side / SIDE).ln()]));
                    }
                    Label::Category(category) if distance <= UNCLEAR => heat[category] = -1,
                    Label::Unclear if distance <= UNCLEAR => heat.fill(-1),
                    _ => {}
                }
            }
        }
        goal
    }
}

/// The focal loss (Lin et al. 2017, equation 4, with exponent 2) of each place and category, over the number of places
/// that are to find something, and its gradient with respect to the heat.
fn heat_loss(heat: &Tensor, goals: &[Goal], categories: usize, found: f32) -> (f32, Tensor) {
    let mut gradient = Tensor::zeros(heat.shape());
    let mut loss = 0.0;
    let of_scene = PLACES * PLACES * categories;
    let places = heat.data().chunks_exact(of_scene).zip(gradient.data_mut().chunks_exact_mut(of_scene));
    for ((heat, gradient), goal) in places.zip(goals) {
        for ((&z, gradient), &goal) in heat.iter().zip(gradient).zip(&goal.heat) {
            if goal < 0 {
                continue;
            }
            // As the loss of what should be 1: at 0 the sign of z turns.
            let sign = if goal == 1 { 1.0 } else { -1.0 };
            let p = 1.0 / (1.0 + (-sign * z).exp());
            let log = p.max(1e-7).ln();
            let miss = 1.0 - p;
            loss -= miss * miss * log;
            *gradient = sign * miss * miss * (2.0 * p * log - miss) / found;
        }
    }
    (loss / found, gradient)
}

/// Huber's loss of the frames where objects are, in units of a tenth.
fn frame_loss(frames: &Tensor, goals: &[Goal], found: f32) -> (f32, Tensor) {
    let mut gradient = Tensor::zeros(frames.shape());
    let mut loss = 0.0;
    for (number, goal) in goals.iter().enumerate() {
        for (at, right) in &goal.near {
            let first = (number * PLACES * PLACES + at) * FRAME;
            for (channel, right) in right.iter().enumerate() {
                let error = (frames.data()[first + channel] - right) / 0.1;
                loss += 0.1 * if error.abs() < 1.0 { 0.5 * error * error } else { error.abs() - 0.5 };
                gradient.data_mut()[first + channel] += FRAMES * error.clamp(-1.0, 1.0) / found;
            }
        }
    }
    (FRAMES * loss / found, gradient)
}

/// The cross entropy of which picture is seen where one of other things was pasted, and its gradients with respect to the
/// features, the weight and the bias.
fn picture_loss(features: &Tensor, goals: &[Goal], heads: &[Tensor]) -> (f32, [Tensor; 3]) {
    let mut gradients = [features, &heads[0], &heads[1]].map(|tensor| Tensor::zeros(tensor.shape()));
    let seen: Vec<(usize, usize)> = (goals.iter().enumerate())
        .flat_map(|(number, goal)| {
            goal.pictures.iter().map(move |(at, picture)| (number * PLACES * PLACES + at, *picture))
        })
        .collect();
    let (weight, bias) = (heads[0].data(), heads[1].data());
    let mut loss = 0.0;
    for (at, picture) in &seen {
        let range = at * FEATURES..(at + 1) * FEATURES;
        let feature = &features.data()[range.clone()];
        let logits: Vec<f32> = (weight.chunks_exact(FEATURES).zip(bias))
            .map(|(weight, bias)| bias + weight.iter().zip(feature).map(|(w, f)| w * f).sum::<f32>())
            .collect();
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
        loss += total.ln() + most - logits[*picture];
        let [of_features, of_weight, of_bias] = &mut gradients;
        let of_feature = &mut of_features.data_mut()[range];
        let of_weights = of_weight.data_mut().chunks_exact_mut(FEATURES);
        for (number, (of_weight, weight)) in of_weights.zip(weight.chunks_exact(FEATURES)).enumerate() {
            let is_right = if number == *picture { 1.0 } else { 0.0 };
            let share = (logits[number] - most).exp() / total - is_right;
            let slope = PICTURES / seen.len() as f32 * share;
            of_bias.data_mut()[number] += slope;
            for at in 0..FEATURES {
                of_weight[at] += slope * feature[at];
                of_feature[at] += slope * weight[at];
            }
        }
    }
    (PICTURES * loss / seen.len().max(1) as f32, gradients)
}

#[cfg(test)]
mod tests {
    use super::super::material::testing;
    use super::*;

    fn random(seed: u64, shape: impl Into<relievo_tensor::Shape>) -> Tensor {
        let mut tensor = Tensor::zeros(shape);
        let random = Random::new(seed, 3);
        for (at, value) in tensor.data_mut().iter_mut().enumerate() {
            *value = 2.0 * random.uniform(at as u64) - 1.0;
        }
        tensor
    }

    /// The slope of a loss along one element, by finite differences.
    fn slope(x: &Tensor, at: usize, loss: impl Fn(&Tensor) -> f32) -> f32 {
        let moved = |by: f32| {
            let mut x = x.clone();
            x.data_mut()[at] += by;
            loss(&x)
        };
        (moved(0.01) - moved(-0.01)) / 0.02
    }

    fn goals() -> Vec<Goal> {
        let object = |label, x: f32, side: f32| Placed { label, centre: [x, 40.0], side };
        let objects = [
            object(Label::Category(1), 30.0, 40.0),
            object(Label::Unclear, 90.0, 30.0),
            object(Label::Thing(1), 110.0, 30.0),
        ];
        vec![Goal::new(&objects, 2)]
    }

    #[test]
    fn places_near_the_middle_find_an_object_and_others_do_not() {
        let goal = &goals()[0];
        let heat = |column: usize, category: usize| goal.heat[(5 * PLACES + column) * 2 + category];
        // Place 4 lies at 32.5, 2.5 pixels from the middle of 40; 3 and 5 are within a third, 9 is far.
        assert_eq!([heat(4, 0), heat(4, 1), heat(3, 1), heat(3, 0), heat(9, 1)], [0, 1, -1, 0, 0]);
        assert_eq!([heat(11, 0), heat(11, 1)], [-1, -1]);
        assert_eq!(goal.pictures, [(5 * PLACES + 14, 1)]);
        let (at, [x, y, size]) = goal.near[0];
        assert_eq!(at, 5 * PLACES + 4);
        assert!((x + 2.5 / 8.0).abs() < 1e-6 && (y + 0.5 / 8.0).abs() < 1e-6, "{x} {y}");
        assert!((size - (40.0_f32 / 32.0).ln()).abs() < 1e-6);
    }

    #[test]
    fn losses_have_the_gradients_of_finite_differences() {
        let goals = goals();
        let heat = random(1, [1, PLACES, PLACES, 2]);
        let (_, gradient) = heat_loss(&heat, &goals, 2, 3.0);
        let places = [(5 * PLACES + 4) * 2 + 1, (5 * PLACES + 4) * 2, (5 * PLACES + 3) * 2 + 1, 17];
        for at in places {
            // Of one element: the sum over all places would round it away.
            let alone = |x: &Tensor| {
                let sign = if goals[0].heat[at] == 1 { 1.0 } else { -1.0 };
                let p = 1.0 / (1.0 + (-sign * x.data()[at]).exp());
                if goals[0].heat[at] < 0 { 0.0 } else { -(1.0 - p) * (1.0 - p) * p.ln() / 3.0 }
            };
            let right = slope(&heat, at, alone);
            assert!((gradient.data()[at] - right).abs() < 1e-4, "{at}: {} {right}", gradient.data()[at]);
        }
        let frames = random(2, [1, PLACES, PLACES, FRAME]);
        let (_, gradient) = frame_loss(&frames, &goals, 3.0);
        for at in (5 * PLACES + 4) * FRAME..(5 * PLACES + 5) * FRAME {
            let right = slope(&frames, at, |x| frame_loss(x, &goals, 3.0).0);
            assert!((gradient.data()[at] - right).abs() < 1e-3, "{at}: {} {right}", gradient.data()[at]);
        }
        let features = random(3, [1, PLACES, PLACES, FEATURES]);
        let heads = [random(4, [5, 1, 1, FEATURES]), random(5, [5])];
        let (_, gradients) = picture_loss(&features, &goals, &heads);
        let place = (5 * PLACES + 14) * FEATURES;
        for at in [place, place + 30] {
            let right = slope(&features, at, |x| picture_loss(x, &goals, &heads).0);
            assert!((gradients[0].data()[at] - right).abs() < 1e-4, "{at}: {right}");
        }
        for at in [3, FEATURES + 9, 4 * FEATURES] {
            let right =
                slope(&heads[0], at, |x| picture_loss(&features, &goals, &[x.clone(), heads[1].clone()]).0);
            assert!((gradients[1].data()[at] - right).abs() < 1e-4, "{at}: {right}");
        }
    }

    #[test]
    fn a_router_learns_and_the_same_seed_makes_the_same() {
        let material = testing::material();
        let settings = RouterTraining { steps: 32, batch_size: 4, learning_rate: 4e-3, seed: 3 };
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut losses = Vec::new();
            let trained = pool.install(|| {
                train(&material, &settings, None, |step, _| {
                    losses.push(step.losses.iter().sum::<f32>());
                    true
                })
                .unwrap()
            });
            (losses, trained)
        };
        let (losses, trained) = run(2);
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        assert!(mean(&losses[20..]) < 0.85 * mean(&losses[..4]), "{losses:?}");
        let (again, other) = run(1);
        assert_eq!(losses, again);
        assert_eq!(trained.heads[0].data(), other.heads[0].data());
    }

    #[test]
    fn a_category_without_images_is_refused() {
        let mut material = testing::material();
        material.train.crops[1].clear();
        let error = train(&material, &RouterTraining::default(), None, |_, _| true).err().unwrap();
        assert!(error.to_string().starts_with("crops of each category are needed"), "{error}");
    }
}
