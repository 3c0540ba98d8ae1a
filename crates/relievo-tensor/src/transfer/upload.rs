//! Batches on their way to a GPU: copied while it computes.

use relievo_cuda::DevicePointer;

use crate::{Device, Error, Result, Shape, Tensor};

/// A queue of batches of one shape from main memory to a GPU, on a stream of its own.
///
/// [`UploadQueue::put`] copies a batch to pinned memory and starts its journey; [`UploadQueue::take`] queues the work that
/// hands the oldest one over. Neither waits for the GPU, unless two batches are under way.
pub struct UploadQueue {
    queue: relievo_cuda::UploadQueue,
    device: Device,
    shape: Shape,
}

impl UploadQueue {
    /// A queue of batches of `shape`, f32, for GPU `ordinal`.
    ///
    /// # Errors
    /// If there is no such GPU or not enough memory.
    pub fn new(ordinal: usize, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        let queue = relievo_cuda::UploadQueue::new(ordinal, shape.numel())?;
        Ok(Self { queue, device: Device::Cuda(ordinal), shape })
    }

    /// Starts copying a batch (on the CPU). Waits while the slot it goes to is still being copied from.
    ///
    /// # Errors
    /// If the batch has another shape or is on a GPU, if two batches wait to be taken already, or the GPU fails.
    pub fn put(&mut self, batch: &Tensor) -> Result<()> {
        if batch.shape() != self.shape || batch.device() != Device::Cpu {
            let detail = format!("a batch {} on {} for {} on cpu", batch.shape(), batch.device(), self.shape);
            return Err(Error::shape("upload", detail));
        }
        Ok(self.queue.put(batch.data())?)
    }

    /// Queues the copy of the oldest batch into `target`, an f32 tensor of the queue's shape on its GPU.
    ///
    /// # Errors
    /// If no batch is under way, the target does not fit, or the GPU fails.
    pub fn take(&mut self, target: &mut Tensor) -> Result<()> {
        let fits = target.shape() == self.shape && target.data_type() == crate::DataType::F32;
        let (shape, device) = (target.shape(), target.device());
        match target.memory_mut()? {
            Some(memory) if fits && device == self.device => Ok(self.queue.take(memory)?),
            _ => {
                let detail = format!("a target {shape} on {device} for {} on {}", self.shape, self.device);
                Err(Error::shape("upload", detail))
            }
        }
    }
}
