//! Images on their way to a GPU: copied while it computes.

use cudarc::driver::{result, sys};

use super::memory::Memory;
use super::{Gpu, error};
use crate::{Error, Result, Shape, Tensor};

/// Batches that can be on their way at a time: one that is copied while another waits to be used.
const SLOTS: usize = 2;

/// A queue of batches of one shape from main memory to a GPU, on a stream of its own.
///
/// [`UploadQueue::put`] copies a batch to pinned memory and starts its journey; [`UploadQueue::take`] queues what hands the oldest
/// one over. Neither waits for the GPU, unless [`SLOTS`] batches are under way.
pub struct UploadQueue {
    gpu: &'static Gpu,
    stream: sys::CUstream,
    shape: Shape,
    slots: [Slot; SLOTS],
    /// Batches put and taken so far.
    put: usize,
    taken: usize,
}

// SAFETY: handles and pinned memory may be used from any thread; all use needs exclusive access.
unsafe impl Send for UploadQueue {}

struct Slot {
    pinned: *mut f32,
    there: Memory,
    /// When the copy to the GPU is done.
    copied: sys::CUevent,
    /// When the copy on the GPU has been read.
    used: sys::CUevent,
}

impl UploadQueue {
    /// A feed of batches of `shape` for GPU `ordinal`.
    ///
    /// # Errors
    /// If there is no such GPU or not enough memory.
    pub fn new(ordinal: usize, shape: impl Into<Shape>) -> Result<Self> {
        let (gpu, shape) = (Gpu::get(ordinal)?, shape.into());
        let failed = |cause| gpu.failed("a queue of images cannot be made", cause);
        let bytes = (shape.numel() * size_of::<f32>()).max(1);
        let slot = || -> Result<Slot> {
            let there = Memory::empty(gpu, bytes)?;
            let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
            // SAFETY: the pinned memory is freed once, when the feed is dropped.
            let pinned = unsafe { result::malloc_host(bytes, 0) }.map_err(failed)?.cast::<f32>();
            let event = || result::event::create(flags).map_err(failed);
            let slot = Slot { pinned, there, copied: event()?, used: event()? };
            // The block comes from the pool: what its last owner queued must be done before the first copy gets there.
            let _queue = gpu.enter();
            // SAFETY: event and stream live.
            unsafe { result::event::record(slot.used, gpu.stream) }.map_err(failed)?;
            Ok(slot)
        };
        let slots = [slot()?, slot()?];
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(failed)?;
        Ok(Self { gpu, stream, shape, slots, put: 0, taken: 0 })
    }

    /// Starts copying a batch. Waits while the slot it goes to is still being copied from.
    ///
    /// # Errors
    /// If the batch has another shape, if as many batches as there is room for wait to be taken, or the GPU fails.
    pub fn put(&mut self, batch: &Tensor) -> Result<()> {
        if batch.shape() != self.shape {
            return Err(Error::shape("feed", format!("a batch {} for {}", batch.shape(), self.shape)));
        }
        if self.put - self.taken == SLOTS {
            return Err(error(self.gpu.ordinal, format!("{SLOTS} batches wait to be taken already")));
        }
        self.gpu.bind()?;
        let slot = &self.slots[self.put % SLOTS];
        let source = batch.data();
        let failed = |cause| self.gpu.failed("images cannot be sent to the GPU", cause);
        // SAFETY: pinned memory and block have room for the batch. An event that was never recorded is not waited for.
        unsafe {
            result::event::synchronize(slot.copied).map_err(failed)?;
            std::ptr::copy_nonoverlapping(source.as_ptr(), slot.pinned, source.len());
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            result::stream::wait_event(self.stream, slot.used, flags).map_err(failed)?;
            let pinned = std::slice::from_raw_parts(slot.pinned, source.len());
            result::memcpy_htod_async(slot.there.pointer(), pinned, self.stream).map_err(failed)?;
            result::event::record(slot.copied, self.stream).map_err(failed)?;
        }
        self.put += 1;
        Ok(())
    }

    /// Queues the copy of the oldest batch into `target`, a tensor of the feed's shape on its GPU.
    ///
    /// # Errors
    /// If no batch is under way, the target does not fit, or the GPU fails.
    pub fn take(&mut self, target: &mut Tensor) -> Result<()> {
        if self.put == self.taken {
            return Err(error(self.gpu.ordinal, "no batch is under way"));
        }
        if target.shape() != self.shape || target.device() != self.gpu.device() {
            let detail = format!("a target {} on {} for {}", target.shape(), target.device(), self.shape);
            return Err(Error::shape("feed", detail));
        }
        self.gpu.bind()?;
        let slot = &self.slots[self.taken % SLOTS];
        let bytes = self.shape.numel() * size_of::<f32>();
        let pointer = target.gpu_pointer_mut()?;
        let _queue = self.gpu.enter();
        let failed = |cause| self.gpu.failed("images cannot be handed over", cause);
        // SAFETY: both blocks hold a batch.
        unsafe {
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            result::stream::wait_event(self.gpu.stream, slot.copied, flags).map_err(failed)?;
            result::memcpy_dtod_async(pointer, slot.there.pointer(), bytes, self.gpu.stream)
                .map_err(failed)?;
            result::event::record(slot.used, self.gpu.stream).map_err(failed)?;
        }
        self.taken += 1;
        Ok(())
    }
}

impl Drop for UploadQueue {
    fn drop(&mut self) {
        // SAFETY: the handles are the feed's own, and nothing that uses them runs after the waits.
        unsafe {
            if self.gpu.bind().is_err() || result::stream::synchronize(self.stream).is_err() {
                return;
            }
            let _ = self.gpu.synchronize();
            for slot in &self.slots {
                let _ = result::free_host(slot.pinned.cast());
                let _ = result::event::destroy(slot.copied);
                let _ = result::event::destroy(slot.used);
            }
            let _ = result::stream::destroy(self.stream);
        }
    }
}
