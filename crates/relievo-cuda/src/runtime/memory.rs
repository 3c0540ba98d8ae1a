//! Memory of a GPU: blocks that go back to a pool and are used again.
//!
//! All work is queued on one stream, so a block may be handed out again as soon as its owner is gone: what the old
//! owner queued runs before what the new one will. While a graph is captured, blocks come from and go back to an
//! [`Arena`]: the graph writes to them at every replay, so nobody else may own them (`graph.rs`). The arena gives them to
//! the pool when the graph and everything that was made in the capture are gone.
//!
//! While streams are forked (`forked.rs`), work is queued on several. A block that was made and dropped on a forked stream
//! goes back to that stream; all others dropped meanwhile wait for the join.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{result, sys};

use super::{Gpu, current_stream, graph};
use crate::{Error, GpuMemoryStatistics, Result};

/// Sizes of blocks are multiples of this: kernels may read whole vectors, cuDNN requires 16 bytes.
const GRANULE: usize = 512;

/// What the pool of a GPU has done so far.
///
/// # Errors
/// If there is no such GPU.
pub fn memory_statistics(ordinal: usize) -> Result<GpuMemoryStatistics> {
    Ok(Gpu::get(ordinal)?.pool().statistics)
}

/// Free blocks by their size.
type Free = HashMap<usize, Vec<sys::CUdeviceptr>>;

/// Adds blocks to others.
fn extend(free: &mut Free, more: Free) {
    for (size, blocks) in more {
        free.entry(size).or_default().extend(blocks);
    }
}

/// The free blocks of a graph. Only its capture takes blocks from here.
pub(super) struct Arena {
    gpu: &'static Gpu,
    free: Mutex<Free>,
}

impl Arena {
    pub fn new(gpu: &'static Gpu) -> Arc<Self> {
        Arc::new(Self { gpu, free: Mutex::default() })
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let free = std::mem::take(&mut *self.free());
        self.gpu.pool().take_back(free);
    }
}

#[derive(Default)]
pub(super) struct Pool {
    free: Free,
    /// The arena of the graph that is being captured.
    arena: Option<Arc<Arena>>,
    /// There while streams are forked.
    forked: Option<Dropped>,
    statistics: GpuMemoryStatistics,
}

/// What was dropped since the streams were forked.
#[derive(Default)]
struct Dropped {
    /// By the stream that made it, for its use.
    streams: HashMap<usize, Free>,
    /// Elsewhere, to be used after the join.
    others: Free,
}

/// A block whose owner is gone.
pub(super) struct Returned {
    pointer: sys::CUdeviceptr,
    capacity: usize,
    /// The streams it was made and dropped on.
    made: usize,
    dropped: usize,
}

impl Pool {
    /// Begins to keep the blocks of forked streams apart.
    pub fn fork(&mut self) {
        self.forked = Some(Dropped::default());
    }

    /// Ends that.
    pub fn join(&mut self) {
        let Some(Dropped { streams, others }) = self.forked.take() else { return };
        let all = streams.into_values().chain([others]);
        match &self.arena {
            Some(arena) => all.for_each(|dropped| extend(&mut arena.free(), dropped)),
            None => all.for_each(|dropped| extend(&mut self.free, dropped)),
        }
    }

    /// A block that work on forked stream number `stream` (0: none) may write to.
    fn take(&mut self, bytes: usize, stream: usize) -> Option<sys::CUdeviceptr> {
        let pop = |free: &mut Free| free.get_mut(&bytes)?.pop();
        let own = self.forked.as_mut().filter(|_| stream > 0).and_then(|open| open.streams.get_mut(&stream));
        own.and_then(pop).or_else(|| pop(&mut self.arena.as_ref()?.free())).or_else(|| pop(&mut self.free))
    }

    /// All blocks that have no owner, also those dropped since streams were forked: for when nothing runs any more.
    fn take_all(&mut self) -> Free {
        let mut all = std::mem::take(&mut self.free);
        if let Some(Dropped { streams, others }) = &mut self.forked {
            for dropped in streams.values_mut().chain([others]) {
                extend(&mut all, std::mem::take(dropped));
            }
        }
        all
    }

    /// Takes back a block.
    pub fn give(&mut self, Returned { pointer, capacity, made, dropped }: Returned) {
        let push = |free: &mut Free| free.entry(capacity).or_default().push(pointer);
        match (&mut self.forked, &self.arena) {
            (Some(open), _) if made == dropped && made > 0 => push(open.streams.entry(made).or_default()),
            (Some(open), _) => push(&mut open.others),
            (None, Some(arena)) => push(&mut arena.free()),
            (None, None) => push(&mut self.free),
        }
    }

    /// Begins an arena.
    pub fn begin_arena(&mut self, arena: Arc<Arena>) {
        self.arena = Some(arena);
    }

    /// Ends the arena.
    pub fn end_arena(&mut self) {
        self.arena = None;
    }

    /// Takes the blocks of an arena that is no longer used. A tensor of it may have been read by work that is still
    /// queued, so that while streams are forked, they wait for the join.
    fn take_back(&mut self, arena: Free) {
        match &mut self.forked {
            Some(open) => extend(&mut open.others, arena),
            None => extend(&mut self.free, arena),
        }
    }
}

impl Gpu {
    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        // A panic elsewhere cannot leave the pool half changed: each change is one push or pop.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks dropped while another thread captured a graph.
    fn dropped(&self) -> MutexGuard<'_, Vec<Returned>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block of exactly `bytes` bytes, from the arena, the pool or the driver.
    fn block(&self, bytes: usize) -> Result<sys::CUdeviceptr> {
        let _queue = self.enter();
        let mut pool = self.pool();
        if pool.arena.is_none() {
            self.dropped().drain(..).for_each(|returned| pool.give(returned));
        }
        if let Some(pointer) = pool.take(bytes, current_stream(Some(self.ordinal))) {
            return Ok(pointer);
        }
        // SAFETY: plain allocations; the context is bound.
        let mut pointer = unsafe { result::malloc_sync(bytes) };
        if pointer.is_err_and(is_out_of_memory) && pool.arena.is_none() {
            // Free what is in sizes that nobody asked for this time, and try again.
            self.synchronize()?;
            for (size, blocks) in pool.take_all() {
                for block in blocks {
                    // SAFETY: the block came from `malloc_sync`, and all work that used it is done.
                    unsafe { result::free_sync(block) }
                        .map_err(|cause| self.failed("could not free memory", cause))?;
                    pool.statistics.bytes_held -= size;
                }
            }
            // SAFETY: as above.
            pointer = unsafe { result::malloc_sync(bytes) };
        }
        let pointer = pointer.map_err(|cause| {
            if is_out_of_memory(cause) {
                self.out_of_memory(bytes, pool.statistics.bytes_held)
            } else {
                self.failed("allocation failed", cause)
            }
        })?;
        pool.statistics.allocations += 1;
        pool.statistics.bytes_held += bytes;
        pool.statistics.bytes_peak = pool.statistics.bytes_peak.max(pool.statistics.bytes_held);
        Ok(pointer)
    }

    /// [`Error::OutOfMemory`] for a request of `bytes` bytes, 0 where that is not known.
    fn out_of_memory(&self, bytes: usize, held: usize) -> Error {
        let (free, total) = result::mem_get_info().unwrap_or((0, 0));
        Error::OutOfMemory { ordinal: self.ordinal, bytes, held, free, total }
    }

    /// [`Error::OutOfMemory`] if that is what the driver reports, else another error.
    pub(super) fn out_of_memory_or(
        &self,
        cause: result::DriverError,
        other: impl FnOnce() -> Error,
    ) -> Error {
        if is_out_of_memory(cause) { self.no_memory() } else { other() }
    }

    /// An allocation outside the pool failed.
    pub(super) fn no_memory(&self) -> Error {
        // The pool may be locked by the very call that failed.
        let held = self.pool.try_lock().map_or(0, |pool| pool.statistics.bytes_held);
        self.out_of_memory(0, held)
    }
}

/// Whether an error of the driver is that there is no memory left.
fn is_out_of_memory(cause: result::DriverError) -> bool {
    cause.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY
}

/// A block of a GPU's memory. Clones share it; with the last of them it goes back to the pool.
///
/// The host never sees what is in it, so sharing cannot break the host's rules: whoever writes to a block that others
/// hold changes what they read later. `relievo-tensor` copies shared tensors before it writes.
#[derive(Clone)]
pub struct Memory(Arc<Block>);

/// A block in use.
pub(super) struct Block {
    gpu: &'static Gpu,
    pointer: sys::CUdeviceptr,
    capacity: usize,
    /// The forked stream it was made on, or 0.
    stream: usize,
    /// The arena it belongs to, if it was made in a capture.
    arena: Option<Arc<Arena>>,
}

impl Memory {
    /// A block of at least `bytes` bytes that holds whatever its last owner left there.
    ///
    /// # Errors
    /// If the GPU is out of memory.
    pub fn empty(gpu: &'static Gpu, bytes: usize) -> Result<Self> {
        let capacity = bytes.max(1).checked_next_multiple_of(GRANULE);
        let capacity =
            capacity.ok_or_else(|| gpu.error(format!("a block of {bytes} bytes is beyond all memory")))?;
        let (pointer, stream) = (gpu.block(capacity)?, current_stream(Some(gpu.ordinal)));
        Ok(Self(Arc::new(Block { gpu, pointer, capacity, stream, arena: graph::arena(gpu.ordinal) })))
    }

    /// Whether it was made on a forked stream and the calling thread works on another one: then it must not be used.
    pub(crate) fn belongs_to_another_stream(&self) -> bool {
        let here = current_stream(Some(self.0.gpu.ordinal));
        self.0.stream != 0 && here != 0 && here != self.0.stream
    }

    /// Where the block begins, as kernels have it.
    pub fn pointer(&self) -> u64 {
        self.0.pointer
    }

    /// The GPU it belongs to.
    pub fn gpu(&self) -> &'static Gpu {
        self.0.gpu
    }

    /// The block, to be kept by a graph.
    pub(super) fn block(&self) -> &Arc<Block> {
        &self.0
    }

    /// Refuses to read or write more bytes than the block has.
    fn check(&self, bytes: usize) -> Result<()> {
        if bytes <= self.0.capacity {
            return Ok(());
        }
        Err(self.gpu().error(format!("{bytes} bytes of a block of {}", self.0.capacity)))
    }

    /// Binds the GPU and lets a graph that is being captured keep the block, for work that uses `bytes` bytes of it.
    pub(super) fn prepare(&self, bytes: usize) -> Result<()> {
        self.check(bytes)?;
        self.gpu().bind()?;
        graph::keep(self);
        Ok(())
    }

    /// Copies from main memory and waits until the copy is done: for small or rare things. What goes to the GPU in
    /// every step goes by an [`UploadQueue`](super::UploadQueue), which waits for nothing.
    ///
    /// # Errors
    /// If the source is larger than the block, while a graph is captured (it would copy again at every replay, from
    /// memory that is long gone), or if the GPU fails.
    pub fn write(&mut self, source: &[f32]) -> Result<()> {
        let gpu = self.gpu();
        self.check(size_of_val(source))?;
        if graph::captures(gpu.ordinal) {
            return Err(gpu.error("a copy from main memory cannot be captured in a graph"));
        }
        gpu.bind()?;
        let _queue = gpu.enter();
        // The copy goes by the driver's own stream, which ours do not wait for, nor it for ours: what is queued for the
        // block must be done before, and the copy before what is queued next.
        gpu.wait_for(gpu.stream())?;
        // SAFETY: the block is large enough. The synchronous copy has read its source when it returns; the asynchronous
        // one promises that of no memory.
        unsafe { result::memcpy_htod_sync(self.pointer(), source) }
            .map_err(|cause| gpu.failed("could not copy to the GPU", cause))?;
        gpu.wait_for(std::ptr::null_mut())
    }

    /// Copies to main memory, when all work queued before is done.
    ///
    /// # Errors
    /// If the target is larger than the block, or the GPU fails.
    pub fn read(&self, target: &mut [f32]) -> Result<()> {
        let gpu = self.gpu();
        self.check(size_of_val(target))?;
        gpu.bind()?;
        let _queue = gpu.enter();
        // SAFETY: the block is large enough, and nobody looks at the target before the wait is over.
        unsafe { result::memcpy_dtoh_async(target, self.pointer(), gpu.stream()) }
            .map_err(|cause| gpu.failed("could not copy from the GPU", cause))?;
        gpu.wait_for(gpu.stream())
    }

    /// Copies the first `bytes` bytes of a block of the same GPU.
    ///
    /// # Errors
    /// If one of the blocks is smaller or on another GPU, or the GPU fails.
    pub fn copy_from(&mut self, source: &Self, bytes: usize) -> Result<()> {
        let gpu = self.gpu();
        if source.gpu().ordinal != gpu.ordinal {
            return Err(gpu.error(format!("a copy from cuda:{}", source.gpu().ordinal)));
        }
        source.prepare(bytes)?;
        self.prepare(bytes)?;
        let _queue = gpu.enter();
        // SAFETY: both blocks are large enough.
        unsafe { result::memcpy_dtod_async(self.pointer(), source.pointer(), bytes, gpu.stream()) }
            .map_err(|cause| gpu.failed("could not copy on the GPU", cause))
    }

    /// Sets the first `count` f32 to `value`.
    ///
    /// # Errors
    /// If the block is smaller, or the GPU fails.
    pub fn fill(&mut self, value: f32, count: usize) -> Result<()> {
        let gpu = self.gpu();
        self.prepare(count.saturating_mul(size_of::<f32>()))?;
        let _queue = gpu.enter();
        // SAFETY: the block is large enough.
        unsafe { sys::cuMemsetD32Async(self.pointer(), value.to_bits(), count, gpu.stream()) }
            .result()
            .map_err(|cause| gpu.failed("could not fill memory", cause))
    }

    /// Sets the first `bytes` bytes to zero.
    ///
    /// # Errors
    /// If the block is smaller, or the GPU fails.
    pub fn clear(&mut self, bytes: usize) -> Result<()> {
        let gpu = self.gpu();
        self.prepare(bytes)?;
        let _queue = gpu.enter();
        // SAFETY: the block is large enough.
        unsafe { result::memset_d8_async(self.pointer(), 0, bytes, gpu.stream()) }
            .map_err(|cause| gpu.failed("could not clear memory", cause))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let &mut Self { gpu, pointer, capacity, stream: made, .. } = self;
        // Nobody but the capture that made it may use it while the graph lives.
        if let Some(arena) = self.arena.as_ref().filter(|_| !graph::is_captured_here(self.arena.as_ref())) {
            arena.free().entry(capacity).or_default().push(pointer);
            return;
        }
        let returned = Returned { pointer, capacity, made, dropped: current_stream(Some(gpu.ordinal)) };
        // A thread that captures a graph may wait for this one to end, so this one must not wait for the capture.
        match gpu.try_enter() {
            Some(_queue) => gpu.pool().give(returned),
            None => gpu.dropped().push(returned),
        }
    }
}

impl Block {
    /// Whether it was made in the capture with this arena.
    pub fn is_of(&self, arena: &Arc<Arena>) -> bool {
        self.arena.as_ref().is_some_and(|own| Arc::ptr_eq(own, arena))
    }
}
