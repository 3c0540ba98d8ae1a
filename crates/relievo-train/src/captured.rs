//! A whole training step on a GPU, captured once and replayed: one call in place of a thousand launches, and nothing
//! that waits for the GPU.

use relievo_model::{GroundTruth, LossTerms, Losses, Model, ModelError, Objective, Partners};
use relievo_tensor::cuda::Graph;
use relievo_tensor::ops::{DeviceAdam, NonFinite, weighted_sum};
use relievo_tensor::transfer::UploadQueue;
use relievo_tensor::{Device, Error, Tensor};

use crate::optimiser::Moments;
use crate::settings::TrainSettings;
use crate::step::{
    MicroBatch, Shares, accumulate, adam_step, average, micro_batches, name_of_first_not_finite,
};

/// Training steps on a GPU. The first one, and the first with the perceptual loss, run as they are queued (kernels are
/// compiled, algorithms measured); then the work is captured, and steps are replays.
///
/// Replays change parameters and moments in place, so the step owns model and moments and lends them out.
pub struct CapturedStep {
    model: Model,
    moments: Moments,
    ordinal: usize,
    /// The parts of the batch that go through the networks together.
    parts: Vec<MicroBatch>,
    clip_norm: f64,
    ema_decay: f64,
    /// The steps done before the first of these.
    before: u64,
    /// There from the first step on.
    state: Option<State>,
}

/// What the steps need on the GPU beside model and moments.
struct State {
    parts: Vec<MicroBatch>,
    /// The images of each part.
    pieces: Vec<Piece>,
    adam: DeviceAdam,
    /// The networks' working copies of parameters. Adam writes them with those.
    copies: Vec<Option<Tensor>>,
    /// The captured work with the weights that are a part of it, the last replayed at the end.
    graphs: Vec<(Weights, Graph<Shares<LossTerms>>)>,
    /// Whether steps without and with the perceptual loss have run uncaptured, which compiles their kernels.
    has_run: [bool; 2],
    /// The losses of the last step, if it was not a replay.
    uncaptured: Option<Shares<LossTerms>>,
}

/// The weights of a step that a graph holds.
#[derive(Clone, Copy, PartialEq)]
struct Weights {
    flip_weight: f32,
    perceptual_factor: f32,
}

/// Images that go through the networks together, with their partners if there are any, and with their truth if the model
/// learns from it.
struct Piece {
    images: Received,
    partners: Option<Received>,
    truth: Option<(GroundTruth, Vec<UploadQueue>)>,
}

/// A tensor that batches are copied to.
struct Received {
    upload: UploadQueue,
    there: Tensor,
}

impl Received {
    fn put(&mut self, tensor: &Tensor) -> Result<(), Error> {
        self.upload.put(tensor)?;
        self.upload.take(&mut self.there)
    }
}

/// How the steps queued on a GPU went.
#[derive(Debug, Clone, PartialEq)]
pub struct StepStatus {
    /// The losses of the last step queued.
    pub losses: Losses,
    /// The norm of the gradient before clipping: that of the last step, or of the one that was not taken.
    pub gradient_norm: f64,
    /// The number of the last step taken.
    pub step: u64,
    /// The loss or gradient that was not finite, so that no later step was taken.
    pub stopped: Option<String>,
}

impl State {
    fn new(
        model: &Model,
        parts: &[MicroBatch],
        clip_norm: f64,
        has_partners: bool,
    ) -> Result<Self, ModelError> {
        let (device, size) = (model.device(), model.settings().image_size);
        let Device::Cuda(ordinal) = device else {
            return Err(Error::Device { device, detail: "steps are captured on GPUs only".into() }.into());
        };
        let piece = |part: &MicroBatch| {
            let received = || -> Result<_, Error> {
                let shape = [part.count, size, size, 3];
                let there = Tensor::full_on(device, shape, 0.0)?;
                Ok(Received { upload: UploadQueue::new(ordinal, shape)?, there })
            };
            let truth = || -> Result<_, Error> {
                let there = GroundTruth::unknown(device, part.count, size)?;
                let uploads = there.tensors().map(|tensor| UploadQueue::new(ordinal, tensor.shape()));
                Ok((there, uploads.into_iter().collect::<Result<_, _>>()?))
            };
            Ok(Piece {
                images: received()?,
                partners: has_partners.then(received).transpose()?,
                truth: (model.settings().uses_truth() || model.settings().uses_landmarks())
                    .then(truth)
                    .transpose()?,
            })
        };
        let pieces = parts.iter().map(piece).collect::<Result<_, Error>>()?;
        let adam = DeviceAdam::new(device, clip_norm)?;
        Ok(Self {
            parts: parts.to_vec(),
            pieces,
            adam,
            copies: model.working_copies()?,
            graphs: Vec::new(),
            has_run: [false; 2],
            uncaptured: None,
        })
    }

    /// Sends the batch, its partners and its truth on their way, piece by piece.
    fn send(&mut self, images: &Tensor, objective: Objective<'_>) -> Result<(), ModelError> {
        let count: usize = self.parts.iter().map(|part| part.count).sum();
        if images.shape().first() != Some(&count) {
            let detail = format!("images of shape {} in a batch of {count}", images.shape());
            return Err(Error::shape("training step", detail).into());
        }
        for (part, piece) in self.parts.iter().zip(&mut self.pieces) {
            let cut = |tensor: &Tensor| tensor.narrow(part.first, part.count);
            piece.images.put(&cut(images)?)?;
            match (&mut piece.partners, objective.partners) {
                (Some(there), Partners::Images(partners)) => there.put(&cut(partners)?)?,
                (None, Partners::Mirrored) => {}
                _ => {
                    let detail = "partners are images in all steps, or mirror images in all";
                    return Err(Error::shape("training step", detail).into());
                }
            }
            let Some((there, uploads)) = &mut piece.truth else { continue };
            let truth =
                objective.truth.ok_or_else(|| Error::shape("training step", "the batch has no truth"))?;
            for ((upload, there), tensor) in uploads.iter_mut().zip(there.tensors_mut()).zip(truth.tensors())
            {
                upload.put(&cut(tensor)?)?;
                upload.take(there)?;
            }
        }
        Ok(())
    }

    /// Queues a step's work: losses and gradients of all pieces, then Adam.
    fn work(
        &mut self,
        model: &mut Model,
        moments: &mut Moments,
        Weights { flip_weight, perceptual_factor }: Weights,
        ema_decay: f64,
    ) -> Result<Shares<LossTerms>, ModelError> {
        let copied = model.parameters().iter().zip(&self.copies);
        let working: Vec<Tensor> = copied.map(|(own, copy)| copy.as_ref().unwrap_or(own).clone()).collect();
        let (losses, gradients) = accumulate(&self.parts, |number| {
            let Piece { images, partners, truth } = &self.pieces[number];
            let truth = truth.as_ref().map(|(truth, _)| truth);
            let partners = Partners::of(partners.as_ref().map(|partners| &partners.there));
            let objective = Objective { flip_weight, perceptual_factor, truth, partners };
            let none = |_: &_, _: &_| Ok(Vec::new());
            let found = model.differentiate(&working, &images.there, objective, none)?;
            Ok((found.terms, found.of_parameters))
        })?;
        let totals: Vec<(f32, &Tensor)> =
            losses.iter().map(|(weight, terms)| (*weight, &terms.total)).collect();
        let total = weighted_sum(&totals)?;
        let Moments { exp_avg, exp_avg_sq, .. } = &mut *moments;
        // Adam refuses to write to what others hold.
        drop(working);
        self.adam.step(model.parameters_mut(), &gradients, exp_avg, exp_avg_sq, &mut self.copies, &total)?;
        average(model, moments, ema_decay)?;
        Ok(losses)
    }
}

impl CapturedStep {
    /// Steps after step number `before`, on batches `[batch,size,size,3]` for a model on a GPU; `micro_batch` images
    /// go through the networks together. Memory for them is taken when the first step is queued.
    ///
    /// # Errors
    /// If the model is not on a GPU.
    pub fn new(
        model: Model,
        moments: Moments,
        settings: &TrainSettings,
        before: u64,
        micro_batch: usize,
    ) -> Result<Self, ModelError> {
        let device = model.device();
        let Device::Cuda(ordinal) = device else {
            return Err(Error::Device { device, detail: "steps are captured on GPUs only".into() }.into());
        };
        Ok(Self {
            model,
            moments,
            ordinal,
            parts: micro_batches(settings.batch_size, micro_batch),
            clip_norm: settings.clip_norm,
            ema_decay: settings.ema_decay,
            before,
            state: None,
        })
    }

    /// The model that learns. Steps may still be queued: whoever reads its parameters waits for them.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Adam's state, as of the same step as the model.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Model and moments after the last step.
    pub fn into_parts(self) -> (Model, Moments) {
        (self.model, self.moments)
    }

    /// Calls `look` with the model whose weights are to be used.
    pub(crate) fn with_weights_to_use<T>(&mut self, look: impl FnOnce(&Model) -> T) -> T {
        // The graph knows the tensors by their memory, which stays where it is.
        self.moments.with_weights_to_use(&mut self.model, look)
    }

    /// Queues step number `step` on `images [batch,size,size,3]` (on the CPU, as what the objective has).
    ///
    /// # Errors
    /// If images, partners or truth do not fit, if a parameter or moment shares its memory with another tensor (a replay would
    /// change that one, too), or the GPU fails or is out of memory.
    pub fn queue<'a>(
        &mut self,
        images: &Tensor,
        objective: impl Into<Objective<'a>>,
        step: u64,
        settings: &TrainSettings,
    ) -> Result<(), ModelError> {
        let objective = objective.into();
        let Objective { flip_weight, perceptual_factor, .. } = objective;
        let weights = Weights { flip_weight, perceptual_factor };
        let Self { model, moments, ordinal, ema_decay, .. } = self;
        let state = match &mut self.state {
            Some(state) => state,
            None => {
                let has_partners = matches!(objective.partners, Partners::Images(_));
                self.state.insert(State::new(model, &self.parts, self.clip_norm, has_partners)?)
            }
        };
        state.send(images, objective)?;
        state.adam.prepare(&adam_step(settings, step))?;
        let has_run = &mut state.has_run[usize::from(perceptual_factor > 0.0)];
        if !std::mem::replace(has_run, true) {
            state.uncaptured = Some(state.work(model, moments, weights, *ema_decay)?);
            return Ok(());
        }
        state.uncaptured = None;
        check_owned(model, moments)?;
        // A mirrored half that weighs more is another graph; the old ones first give their memory back. Steps with and
        // without the perceptual loss take turns, and both graphs are kept.
        state.graphs.retain(|(captured, _)| captured.flip_weight == flip_weight);
        match state.graphs.iter().position(|(captured, _)| *captured == weights) {
            Some(place) => {
                let graph = state.graphs.remove(place);
                state.graphs.push(graph);
            }
            None => {
                let graph = Graph::capture(*ordinal, || state.work(model, moments, weights, *ema_decay))?;
                state.graphs.push((weights, graph));
            }
        }
        match state.graphs.last_mut() {
            Some((_, graph)) => Ok(graph.replay()?),
            None => unreachable!("it was captured above"),
        }
    }

    /// The number of launches in a step; `None` before the second step, which is the first to be captured.
    pub fn launches(&self) -> Option<usize> {
        let (_, graph) = self.state.as_ref()?.graphs.last()?;
        Some(graph.launches())
    }

    /// Waits for the steps queued, and returns how they went; `None` if there are none.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn look(&self) -> Result<Option<StepStatus>, ModelError> {
        let Some(State { adam, graphs, uncaptured, .. }) = &self.state else { return Ok(None) };
        let state = adam.state()?;
        let mut losses = Losses::default();
        let last = uncaptured.as_ref().or_else(|| graphs.last().map(|(_, graph)| graph.outputs()));
        for (weight, terms) in last.into_iter().flatten() {
            losses.add(&terms.read()?, *weight);
        }
        let stopped = state.stopped.map(|culprit| match culprit {
            // Later batches may have finite losses, and theirs are what is to be seen now.
            NonFinite::Loss => {
                name_of_first_not_finite(&losses).unwrap_or_else(|| "the loss is not finite".into())
            }
            NonFinite::Gradient(index) => {
                let name = self.model.parameter_infos().get(index).map_or("a parameter", |info| &info.name);
                format!("the gradient of {name} is not finite")
            }
        });
        Ok(Some(StepStatus {
            losses,
            gradient_norm: state.gradient_norm,
            step: self.before + state.taken,
            stopped,
        }))
    }
}

/// Refuses parameters and moments that share their memory with other tensors.
fn check_owned(model: &Model, moments: &Moments) -> Result<(), ModelError> {
    let Moments { exp_avg, exp_avg_sq, ema } = moments;
    let lists = [model.parameters(), exp_avg, exp_avg_sq, ema];
    let shared = lists.into_iter().find_map(|list| list.iter().position(Tensor::is_shared));
    let Some(name) = shared.and_then(|index| model.parameter_infos().get(index)).map(|info| &info.name)
    else {
        return Ok(());
    };
    let detail = format!("{name}, a moment of it or its running mean shares its memory with another tensor");
    Err(Error::shape("training step", detail).into())
}
