//! Copies through pinned memory: batches on their way to a GPU while it computes, and many results on their way back with
//! one wait for all of them.

use cudarc::driver::{result, sys};

use super::memory::Memory;
use super::time::Event;
use super::{Gpu, graph};
use crate::Result;

/// Batches that can be on their way at a time: one that is copied while another waits to be used.
const SLOTS: usize = 2;

/// Main memory that a GPU copies from and to directly. Nothing may be on its way when it is dropped; after an error of the
/// GPU nothing is.
struct Pinned {
    gpu: &'static Gpu,
    start: *mut f32,
    /// Elements.
    capacity: usize,
}

// SAFETY: pinned memory may be used from any thread; all use needs exclusive access.
unsafe impl Send for Pinned {}

impl Pinned {
    fn new(gpu: &'static Gpu, capacity: usize) -> Result<Self> {
        let bytes = capacity.max(1).checked_mul(size_of::<f32>());
        let bytes = bytes.ok_or_else(|| gpu.error(format!("{capacity} elements are beyond all memory")))?;
        // SAFETY: freed once, when this is dropped.
        let start = unsafe { result::malloc_host(bytes, 0) }
            .map_err(|cause| gpu.failed("could not allocate pinned memory", cause))?;
        let start = start.cast::<f32>();
        // SAFETY: there is room for as many; zeros, so that the elements are initialised.
        unsafe { start.write_bytes(0, capacity) };
        Ok(Self { gpu, start, capacity })
    }

    fn elements(&self) -> &[f32] {
        // SAFETY: as many initialised elements; borrowed as `self` is.
        unsafe { std::slice::from_raw_parts(self.start, self.capacity) }
    }

    fn elements_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.capacity) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.gpu.bind().is_ok() {
            // SAFETY: allocated in `new`.
            let _ = unsafe { result::free_host(self.start.cast()) };
        }
    }
}

/// A queue of batches of one length from main memory to a GPU, on a stream of its own.
///
/// [`UploadQueue::put`] copies a batch to pinned memory and starts its journey; [`UploadQueue::take`] queues the work that
/// hands the oldest one over. Neither waits for the GPU, unless two batches are under way.
///
/// ```text
/// host           put 1   put 2          put 3 (waits for the copy of 1)
/// copy stream      copy 1   copy 2        copy 3 (waits for take 1)
/// GPU's stream            take 1, step 1    take 2, step 2
/// ```
pub struct UploadQueue {
    gpu: &'static Gpu,
    stream: CopyStream,
    count: usize,
    slots: Vec<Slot>,
    /// Batches put and taken so far.
    put: usize,
    taken: usize,
}

/// A stream that is destroyed with its owner.
struct CopyStream(sys::CUstream);

// SAFETY: the handle may be used from any thread.
unsafe impl Send for CopyStream {}

impl Drop for CopyStream {
    fn drop(&mut self) {
        // SAFETY: created by the owner, destroyed once.
        let _ = unsafe { result::stream::destroy(self.0) };
    }
}

struct Slot {
    pinned: Pinned,
    there: Memory,
    /// When the copy to the GPU is done.
    copied: Event,
    /// When the copy on the GPU has been read.
    used: Event,
}

impl UploadQueue {
    /// A queue of batches of `count` f32 for GPU `ordinal`.
    ///
    /// # Errors
    /// If there is no such GPU or not enough memory.
    pub fn new(ordinal: usize, count: usize) -> Result<Self> {
        let gpu = Gpu::get(ordinal)?;
        let slot = |_| -> Result<Slot> {
            let (pinned, there) = (Pinned::new(gpu, count)?, Memory::empty(gpu, count * size_of::<f32>())?);
            let slot =
                Slot { pinned, there, copied: Event::without_time(gpu)?, used: Event::without_time(gpu)? };
            // The block comes from the pool: what its last owner queued must be done before the first copy gets there.
            let _queue = gpu.enter();
            slot.used.record(gpu, gpu.stream())?;
            Ok(slot)
        };
        let slots = (0..SLOTS).map(slot).collect::<Result<_>>()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(|cause| gpu.failed("could not create a stream", cause))?;
        Ok(Self { gpu, stream: CopyStream(stream), count, slots, put: 0, taken: 0 })
    }

    /// Starts copying a batch. Waits while the slot it goes to is still being copied from.
    ///
    /// # Errors
    /// If the batch has another length, if two batches wait to be taken already, or the GPU fails.
    pub fn put(&mut self, batch: &[f32]) -> Result<()> {
        let (gpu, stream) = (self.gpu, self.stream.0);
        if batch.len() != self.count {
            return Err(gpu.error(format!("a batch of {} numbers for {}", batch.len(), self.count)));
        }
        if self.put - self.taken == SLOTS {
            return Err(gpu.error(format!("{SLOTS} batches wait to be taken already")));
        }
        gpu.bind()?;
        let slot = &mut self.slots[self.put % SLOTS];
        slot.copied.wait(gpu)?;
        slot.pinned.elements_mut().copy_from_slice(batch);
        slot.used.hold_up(gpu, stream)?;
        // SAFETY: the block has room for the batch, and the pinned memory is not touched before `copied` is waited for.
        unsafe { result::memcpy_htod_async(slot.there.pointer(), slot.pinned.elements(), stream) }
            .map_err(|cause| gpu.failed("could not copy to the GPU", cause))?;
        slot.copied.record(gpu, stream)?;
        self.put += 1;
        Ok(())
    }

    /// Queues the copy of the oldest batch to the beginning of a block of the GPU.
    ///
    /// # Errors
    /// If no batch is under way, the block is smaller or on another GPU, a graph is being captured, or the GPU fails.
    pub fn take(&mut self, target: &Memory) -> Result<()> {
        let gpu = self.gpu;
        if self.put == self.taken {
            return Err(gpu.error("no batch is under way"));
        }
        if target.gpu().ordinal != gpu.ordinal || graph::captures(gpu.ordinal) {
            return Err(gpu.error("a batch is taken to its own GPU, outside captures"));
        }
        let bytes = self.count * size_of::<f32>();
        target.prepare(bytes)?;
        let slot = &self.slots[self.taken % SLOTS];
        let _queue = gpu.enter();
        let stream = gpu.stream();
        slot.copied.hold_up(gpu, stream)?;
        // SAFETY: both blocks hold a batch.
        unsafe { result::memcpy_dtod_async(target.pointer(), slot.there.pointer(), bytes, stream) }
            .map_err(|cause| gpu.failed("could not copy on the GPU", cause))?;
        slot.used.record(gpu, stream)?;
        self.taken += 1;
        Ok(())
    }
}

impl Drop for UploadQueue {
    fn drop(&mut self) {
        // Nothing may be on its way when the slots are dropped; after an error of the GPU nothing is.
        if self.gpu.bind().is_ok() && self.gpu.wait_for(self.stream.0).is_ok() {
            let _ = self.gpu.synchronize();
        }
    }
}

/// Copies of many blocks of a GPU in main memory, with one wait for all. The pinned memory that they pass through is kept
/// for the next time; [`Memory::read`] waits for each, and the driver copies it piece by piece through pinned memory of its
/// own.
pub struct Download {
    gpu: &'static Gpu,
    pinned: Option<Pinned>,
}

impl Download {
    /// From GPU `ordinal`.
    ///
    /// # Errors
    /// If there is no such GPU.
    pub fn new(ordinal: usize) -> Result<Self> {
        Ok(Self { gpu: Gpu::get(ordinal)?, pinned: None })
    }

    /// The first so many f32 of each block, one after the other. Waits for the work queued before.
    ///
    /// # Errors
    /// If a block is smaller or on another GPU, or the GPU fails.
    pub fn read(&mut self, blocks: &[(&Memory, usize)]) -> Result<&[f32]> {
        let gpu = self.gpu;
        for (memory, count) in blocks {
            if memory.gpu().ordinal != gpu.ordinal {
                return Err(gpu.error(format!("a copy from cuda:{}", memory.gpu().ordinal)));
            }
            memory.prepare(count.saturating_mul(size_of::<f32>()))?;
        }
        let all: usize = blocks.iter().map(|(_, count)| count).sum();
        let pinned = match self.pinned.take().filter(|pinned| pinned.capacity >= all) {
            Some(pinned) => pinned,
            None => Pinned::new(gpu, all)?,
        };
        let pinned = self.pinned.insert(pinned);
        let mut rest = &mut pinned.elements_mut()[..all];
        {
            let _queue = gpu.enter();
            for (memory, count) in blocks {
                let (target, after) = rest.split_at_mut(*count);
                // SAFETY: the block is large enough, and nobody looks at the target before the wait is over.
                unsafe { result::memcpy_dtoh_async(target, memory.pointer(), gpu.stream()) }
                    .map_err(|cause| gpu.failed("could not copy from the GPU", cause))?;
                rest = after;
            }
        }
        gpu.synchronize()?;
        Ok(&pinned.elements()[..all])
    }
}
