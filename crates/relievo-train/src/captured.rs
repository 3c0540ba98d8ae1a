//! A whole training step on a GPU, captured once and replayed: one call in place of a thousand launches, and nothing
//! that waits for the GPU.

use relievo_model::{LossTerms, Losses, Model, ModelError};
use relievo_tensor::cuda::{Graph, UploadQueue};
use relievo_tensor::ops::{DeviceAdam, NonFinite, add_into, scale_all, weighted_sum};
use relievo_tensor::{Device, Error, Tensor};

use crate::optimiser::Moments;
use crate::settings::TrainSettings;
use crate::step::{adam_step, as_f32, average, name_of_first_not_finite};

/// Training steps on a GPU. The first one runs as it is queued (kernels are compiled, algorithms measured); then the
/// work is captured, and steps are replays.
///
/// Parameters and moments are changed in place: they must be the ones the work was captured with.
pub struct CapturedStep {
    ordinal: usize,
    pieces: Vec<Piece>,
    adam: DeviceAdam,
    ema_decay: f64,
    /// The networks' working copies of parameters. Adam writes them with those.
    copies: Vec<Option<Tensor>>,
    /// The steps done before the first of these.
    before: u64,
    /// The captured work, with the flip weight that is a part of it.
    graph: Option<(f32, Graph<Weighted>)>,
    /// The losses of a step that was not a replay.
    uncaptured: Option<Weighted>,
}

/// Images that go through the networks together.
struct Piece {
    feed: UploadQueue,
    images: Tensor,
    /// Their share of the batch.
    weight: f32,
}

/// The losses of each piece with its share of the batch.
type Weighted = Vec<(f32, LossTerms)>;

/// What a look at the GPU shows.
#[derive(Debug, Clone, PartialEq)]
pub struct StepStatus {
    /// The losses of the last step queued.
    pub losses: Losses,
    /// The norm of the gradient before clipping: that of the last step, or of the one that was not taken.
    pub gradient_norm: f64,
    /// The number of the last step taken.
    pub step: u64,
    /// What was not finite, so that no later step was taken.
    pub stopped: Option<String>,
}

impl CapturedStep {
    /// Steps after step number `before`, on batches `[batch,size,size,3]` for a model on a GPU; `micro_batch` images
    /// go through the networks together.
    ///
    /// # Errors
    /// If the model is not on a GPU, or that is out of memory.
    pub fn new(
        model: &Model,
        settings: &TrainSettings,
        before: u64,
        micro_batch: usize,
    ) -> Result<Self, ModelError> {
        let device = model.device();
        let Device::Cuda(ordinal) = device else {
            return Err(Error::Device { device, detail: "steps are captured on GPUs only".into() }.into());
        };
        let (batch, size) = (settings.batch_size, model.settings().image_size);
        let mut pieces = Vec::new();
        for first in (0..batch).step_by(micro_batch.max(1)) {
            let count = micro_batch.min(batch - first);
            let shape = [count, size, size, 3];
            let images = Tensor::full_on(device, shape, 0.0)?;
            let weight = count as f32 / batch as f32;
            pieces.push(Piece { feed: UploadQueue::new(ordinal, shape)?, images, weight });
        }
        let adam = DeviceAdam::new(device, settings.clip_norm)?;
        Ok(Self {
            ordinal,
            pieces,
            adam,
            ema_decay: settings.ema_decay,
            copies: Vec::new(),
            before,
            graph: None,
            uncaptured: None,
        })
    }

    /// Queues step number `step` on `images [batch,size,size,3]` (on the CPU).
    ///
    /// # Errors
    /// If the images do not fit, or the GPU fails.
    pub fn queue(
        &mut self,
        model: &mut Model,
        moments: &mut Moments,
        images: &Tensor,
        flip_weight: f32,
        step: u64,
        settings: &TrainSettings,
    ) -> Result<(), ModelError> {
        self.send(images)?;
        self.adam.prepare(&adam_step(settings, step))?;
        if self.uncaptured.is_none() && self.graph.is_none() {
            self.copies = model.working_copies()?;
            self.uncaptured = Some(self.work(model, moments, flip_weight)?);
            return Ok(());
        }
        // A mirrored half that weighs more is another graph; the old one first gives its memory back.
        if self.graph.as_ref().is_some_and(|(captured, _)| *captured != flip_weight) {
            self.graph = None;
        }
        let (_, graph) = match &mut self.graph {
            Some(graph) => graph,
            None => {
                self.uncaptured = None;
                let ordinal = self.ordinal;
                let graph = Graph::capture(ordinal, || self.work(model, moments, flip_weight))?;
                self.graph.insert((flip_weight, graph))
            }
        };
        Ok(graph.replay()?)
    }

    /// Sends the batch on its way, piece by piece.
    fn send(&mut self, images: &Tensor) -> Result<(), ModelError> {
        let mut rest = images.data();
        for Piece { feed, images: there, .. } in &mut self.pieces {
            let Some((piece, after)) = rest.split_at_checked(there.numel()) else {
                return Err(Error::shape("training step", "too few images for a batch").into());
            };
            feed.put(&Tensor::new(piece, there.shape())?)?;
            feed.take(there)?;
            rest = after;
        }
        if !rest.is_empty() {
            return Err(Error::shape("training step", "too many images for a batch").into());
        }
        Ok(())
    }

    /// Queues a step's work: losses and gradients of all pieces, then Adam.
    fn work(
        &mut self,
        model: &mut Model,
        moments: &mut Moments,
        flip_weight: f32,
    ) -> Result<Weighted, ModelError> {
        let mut losses: Weighted = Vec::new();
        let mut gradients: Vec<Tensor> = Vec::new();
        let copied = model.parameters().iter().zip(&self.copies);
        let working: Vec<Tensor> = copied.map(|(own, copy)| copy.as_ref().unwrap_or(own).clone()).collect();
        for Piece { images, weight, .. } in &self.pieces {
            let mut found = model.differentiate(&working, images, flip_weight, |_, _| Ok(Vec::new()))?;
            if self.pieces.len() > 1 {
                found.of_parameters = as_f32(&found.of_parameters)?;
                scale_all(&mut found.of_parameters, *weight)?;
            }
            losses.push((*weight, found.terms));
            if gradients.is_empty() {
                gradients = found.of_parameters;
            } else {
                for (sum, gradient) in gradients.iter_mut().zip(&found.of_parameters) {
                    add_into(sum, gradient)?;
                }
            }
        }
        let totals: Vec<(f32, &Tensor)> =
            losses.iter().map(|(weight, terms)| (*weight, &terms.total)).collect();
        let total = weighted_sum(&totals)?;
        let Moments { exp_avg, exp_avg_sq, .. } = &mut *moments;
        // Adam refuses to write to what others hold.
        drop(working);
        self.adam.step(model.parameters_mut(), &gradients, exp_avg, exp_avg_sq, &mut self.copies, &total)?;
        average(model, moments, self.ema_decay)?;
        Ok(losses)
    }

    /// How many launches a step is; `None` before the second one, which is the first to be captured.
    pub fn launches(&self) -> Option<usize> {
        self.graph.as_ref().map(|(_, graph)| graph.launches())
    }

    /// Waits for the steps queued, and says how they went.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn look(&self, model: &Model) -> Result<StepStatus, ModelError> {
        let state = self.adam.state()?;
        let mut losses = Losses::default();
        let last = self.graph.as_ref().map(|(_, graph)| graph.outputs()).or(self.uncaptured.as_ref());
        for (weight, terms) in last.into_iter().flatten() {
            losses.add(&terms.read()?, *weight);
        }
        let stopped = state.stopped.map(|culprit| match culprit {
            // Later batches may have finite losses, and theirs are what is to be seen now.
            NonFinite::Loss => {
                name_of_first_not_finite(&losses).unwrap_or_else(|| "the loss is not finite".into())
            }
            NonFinite::Gradient(index) => {
                let name = model.parameter_infos().get(index).map_or("a parameter", |info| &info.name);
                format!("the gradient of {name} is not finite")
            }
        });
        Ok(StepStatus {
            losses,
            gradient_norm: state.gradient_norm,
            step: self.before + state.taken,
            stopped,
        })
    }
}
