//! Predictions of many batches, as fast as the device can.

use relievo_tensor::cuda::Graph;
use relievo_tensor::transfer::{Download, UploadQueue};
use relievo_tensor::{Device, Error, Tensor};

use crate::model::{Model, ModelError};
use crate::prediction::Prediction;

/// Decomposes batch after batch of images, with the weights the model has now and without confidence.
///
/// On a GPU the first batch compiles kernels and measures algorithms; then the work is captured, and every batch is a
/// replay of it. Weights are brought to the working precision once.
pub struct Predictor<'m> {
    model: &'m Model,
    /// Images that go through the networks together.
    batch: usize,
    backend: Backend,
}

enum Backend {
    Cpu(Option<Box<Prediction>>),
    Gpu(Box<Captured>),
}

/// The work on a GPU, and what it reads.
struct Captured {
    ordinal: usize,
    graph: Option<Graph<Prediction>>,
    feed: UploadQueue,
    images: Tensor,
    parameters: Vec<Tensor>,
    fetch: Download,
}

/// What was found in a batch, where it was found: on a GPU it is still being computed, and the next batch overwrites
/// it.
pub struct Predicted<'p> {
    prediction: &'p Prediction,
    count: usize,
    fetch: Option<&'p mut Download>,
}

impl<'m> Predictor<'m> {
    /// For batches of up to `batch` images.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(model: &'m Model, batch: usize) -> Result<Self, ModelError> {
        let backend = match model.device() {
            Device::Cpu => Backend::Cpu(None),
            device @ Device::Cuda(ordinal) => {
                let size = model.settings().image_size;
                let shape = [batch, size, size, 3];
                Backend::Gpu(Box::new(Captured {
                    ordinal,
                    graph: None,
                    feed: UploadQueue::new(ordinal, shape)?,
                    images: Tensor::full_on(device, shape, 0.0)?,
                    parameters: model.working_parameters()?,
                    fetch: Download::new(ordinal)?,
                }))
            }
        };
        Ok(Self { model, batch, backend })
    }

    /// The first of `too_many` / 2, / 4, ... images that fit into memory together, tried out.
    pub fn batch_that_fits(model: &Model, too_many: usize) -> Option<usize> {
        let size = model.settings().image_size;
        ModelError::largest_that_fits(too_many, |count| {
            Predictor::new(model, count)?.predict(&Tensor::zeros([count, size, size, 3])).map(|_| ())
        })
    }

    /// Decomposes `images [B,S,S,3]` in [-1,1] (on the CPU) and reconstructs them. On a GPU this is only
    /// queued, and a batch that is not full takes as long as a full one.
    ///
    /// # Errors
    /// If the images have another size than the model's or are too many, or the device fails.
    pub fn predict(&mut self, images: &Tensor) -> Result<Predicted<'_>, ModelError> {
        let count = self.model.check_images(images)?;
        if count > self.batch {
            let detail = format!("{count} images where at most {} go together", self.batch);
            return Err(Error::shape("prediction", detail).into());
        }
        match &mut self.backend {
            Backend::Cpu(last) => {
                // What is of no use any more gives its memory back first.
                *last = None;
                let prediction = self.model.decompose(images, self.model.parameters())?;
                Ok(Predicted { prediction: last.insert(Box::new(prediction)), count, fetch: None })
            }
            Backend::Gpu(captured) => captured.predict(self.model, images, count, self.batch),
        }
    }
}

impl Captured {
    fn predict(
        &mut self,
        model: &Model,
        images: &Tensor,
        count: usize,
        batch: usize,
    ) -> Result<Predicted<'_>, ModelError> {
        if count == batch {
            self.feed.put(images)?;
        } else {
            // Images do not meet in any operation, so the others are as good as any.
            let mut padded = Tensor::zeros(self.images.shape());
            padded.data_mut()[..images.numel()].copy_from_slice(images.data());
            self.feed.put(&padded)?;
        }
        self.feed.take(&mut self.images)?;
        let work = || model.decompose(&self.images, &self.parameters);
        let graph = match self.graph.take() {
            Some(graph) => graph,
            None => {
                work()?;
                Graph::capture(self.ordinal, work)?
            }
        };
        let graph = self.graph.insert(graph);
        graph.replay()?;
        Ok(Predicted { prediction: graph.outputs(), count, fetch: Some(&mut self.fetch) })
    }
}

impl Predicted<'_> {
    /// Some of it, on the CPU. Waits until it is there, once for all.
    ///
    /// # Errors
    /// If the device fails.
    pub fn fetch<const N: usize>(
        self,
        pick: impl Fn(&Prediction) -> [&Tensor; N],
    ) -> Result<[Tensor; N], ModelError> {
        let picked = pick(self.prediction);
        let Some(fetch) = self.fetch else { return Ok(picked.map(Tensor::clone)) };
        let fetched = fetch.first(&picked, self.count)?;
        Ok(fetched.try_into().unwrap_or_else(|_| unreachable!("as many tensors as were asked for")))
    }

    /// All of it, on the CPU. Waits until it is there, once for all.
    ///
    /// # Errors
    /// If the device fails.
    pub fn fetch_all(self) -> Result<Prediction, ModelError> {
        let Some(fetch) = self.fetch else { return Ok(self.prediction.clone()) };
        let mut there = Vec::new();
        self.prediction.map(|tensor| {
            there.push(tensor.clone());
            Ok(tensor.clone())
        })?;
        let fetched = fetch.first(&there.iter().collect::<Vec<_>>(), self.count)?;
        let mut fetched = fetched.into_iter();
        let next = |_: &Tensor| Ok(fetched.next().unwrap_or_else(|| unreachable!("one for each")));
        Ok(self.prediction.map(next)?)
    }
}
