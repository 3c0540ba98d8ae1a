//! Memory of a GPU: blocks that go back to a pool and are used again.
//!
//! All work is queued on one stream, so a block may be handed out again as soon as its owner is gone: what the old
//! owner queued runs before what the new one will. While a graph is captured, blocks come from and go back to an arena
//! of its own: the graph writes to them at every replay, so nobody else may own them (`graph.rs`).
//!
//! While lanes are open (`lanes.rs`), work is queued on several streams. A block that a lane made and dropped goes back
//! to that lane; whatever else is dropped meanwhile waits until the lanes are joined.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};

use cudarc::driver::{result, sys};

use super::lanes::{self, LANES};
use super::{CAPTURES, Gpu};
use crate::Result;

/// Sizes of blocks are multiples of this: kernels may read whole vectors, cuDNN wants 16 bytes.
const GRANULE: usize = 512;

/// What the pool of a GPU has done since it was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct GpuMemoryStatistics {
    /// Blocks asked of the driver. Does not grow in the steady state.
    pub allocations: u64,
    /// Bytes now held, in use or free.
    pub bytes_held: usize,
    /// The most bytes ever held.
    pub bytes_peak: usize,
}

/// What the pool of a GPU has done so far.
///
/// # Errors
/// If there is no such GPU.
pub fn memory_statistics(ordinal: usize) -> Result<GpuMemoryStatistics> {
    Ok(Gpu::get(ordinal)?.pool().statistics)
}

/// Free blocks by their size.
pub(super) type Free = HashMap<usize, Vec<sys::CUdeviceptr>>;

#[derive(Default)]
pub(super) struct Pool {
    free: Free,
    /// The arena of the graph that is being captured.
    arena: Option<Free>,
    /// There while lanes are open.
    lanes: Option<Dropped>,
    statistics: GpuMemoryStatistics,
}

/// What was dropped since the lanes were opened.
#[derive(Default)]
struct Dropped {
    /// In the lane that made it, for its use.
    lanes: [Free; LANES],
    /// Elsewhere, to be used after the join.
    others: Free,
}

/// Adds blocks to others.
fn extend(free: &mut Free, more: Free) {
    for (size, blocks) in more {
        free.entry(size).or_default().extend(blocks);
    }
}

impl Pool {
    /// Begins to keep the blocks of lanes apart.
    pub fn open_lanes(&mut self) {
        self.lanes = Some(Dropped::default());
    }

    /// Ends that.
    pub fn close_lanes(&mut self) {
        let Some(Dropped { lanes, others }) = self.lanes.take() else { return };
        let free = self.arena.as_mut().unwrap_or(&mut self.free);
        for dropped in lanes.into_iter().chain([others]) {
            extend(free, dropped);
        }
    }

    /// A block that work in `lane` may write to.
    fn take(&mut self, bytes: usize, lane: usize) -> Option<sys::CUdeviceptr> {
        let of_lane = self.lanes.as_mut().filter(|_| lane > 0).map(|dropped| &mut dropped.lanes[lane - 1]);
        let places = of_lane.into_iter().chain(self.arena.as_mut()).chain([&mut self.free]);
        places.into_iter().find_map(|free| free.get_mut(&bytes)?.pop())
    }

    /// All blocks that have no owner, also those dropped since lanes were opened: for when nothing runs any more.
    fn take_all(&mut self) -> Free {
        let mut all = std::mem::take(&mut self.free);
        if let Some(Dropped { lanes, others }) = &mut self.lanes {
            for dropped in lanes.iter_mut().chain([others]) {
                extend(&mut all, std::mem::take(dropped));
            }
        }
        all
    }

    /// Takes back a block that was made in one lane and dropped in another.
    fn give(&mut self, bytes: usize, pointer: sys::CUdeviceptr, made: usize, dropped: usize) {
        let free = match &mut self.lanes {
            Some(open) if made == dropped && made > 0 => &mut open.lanes[made - 1],
            Some(open) => &mut open.others,
            None => self.arena.as_mut().unwrap_or(&mut self.free),
        };
        free.entry(bytes).or_default().push(pointer);
    }

    /// Begins an arena.
    pub fn begin_arena(&mut self) {
        self.arena = Some(Free::new());
    }

    /// Ends the arena and hands out its blocks.
    pub fn end_arena(&mut self) -> Free {
        self.arena.take().unwrap_or_default()
    }

    /// Takes the blocks of an arena that is no longer used.
    pub fn take_back(&mut self, arena: Free) {
        extend(&mut self.free, arena);
    }
}

impl Gpu {
    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        // A panic elsewhere cannot leave the pool half changed: each change is one push or pop.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block of at least `bytes` bytes, from the arena, the pool or the driver.
    fn block(&self, bytes: usize) -> Result<sys::CUdeviceptr> {
        let _queue = self.enter();
        let mut pool = self.pool();
        if let Some(pointer) = pool.take(bytes, lanes::current(self.device())) {
            return Ok(pointer);
        }
        // SAFETY: plain allocations; the context is bound.
        let mut pointer = unsafe { result::malloc_sync(bytes) };
        if pointer.is_err_and(is_out_of_memory) && pool.arena.is_none() {
            // Give back what is free, in sizes nobody asked for this time, and try again.
            self.synchronize()?;
            for (size, blocks) in pool.take_all() {
                for block in blocks {
                    // SAFETY: the block came from `malloc_sync`, and all work that used it is done.
                    unsafe { result::free_sync(block) }
                        .map_err(|cause| self.failed("memory cannot be given back", cause))?;
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
                self.failed("memory cannot be had", cause)
            }
        })?;
        pool.statistics.allocations += 1;
        pool.statistics.bytes_held += bytes;
        pool.statistics.bytes_peak = pool.statistics.bytes_peak.max(pool.statistics.bytes_held);
        Ok(pointer)
    }

    /// An error that says so. `bytes` is what was asked for, 0 where that is not known.
    fn out_of_memory(&self, bytes: usize, held: usize) -> crate::Error {
        let (free, total) = result::mem_get_info().unwrap_or((0, 0));
        crate::Error::OutOfMemory { device: crate::Device::Cuda(self.ordinal), bytes, held, free, total }
    }

    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) of what was asked for elsewhere than here, if that is what the
    /// driver says.
    pub(super) fn refused_memory(&self, cause: result::DriverError) -> Option<crate::Error> {
        is_out_of_memory(cause).then(|| self.no_memory())
    }

    /// That somebody other than the pool found no memory.
    pub(super) fn no_memory(&self) -> crate::Error {
        // The pool may be locked by the very call that failed.
        let held = self.pool.try_lock().map_or(0, |pool| pool.statistics.bytes_held);
        self.out_of_memory(0, held)
    }
}

/// Whether an error of the driver is that there is no memory left.
fn is_out_of_memory(cause: result::DriverError) -> bool {
    cause.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY
}

/// A block in use. It goes back to the pool when it is dropped.
pub(crate) struct Memory {
    gpu: &'static Gpu,
    pointer: sys::CUdeviceptr,
    capacity: usize,
    /// The lane it was made in.
    lane: usize,
}

impl Memory {
    /// A block of at least `bytes` bytes that holds whatever its last owner left there.
    pub fn empty(gpu: &'static Gpu, bytes: usize) -> Result<Self> {
        let capacity = bytes.max(1).next_multiple_of(GRANULE);
        Ok(Self { gpu, pointer: gpu.block(capacity)?, capacity, lane: lanes::current(gpu.device()) })
    }

    /// Whether it was made in a lane and the calling thread works in another one: then it must keep off.
    pub fn belongs_to_another_lane(&self) -> bool {
        let here = lanes::current(self.gpu.device());
        self.lane != 0 && here != 0 && here != self.lane
    }

    /// Where the block begins, for kernels.
    pub fn pointer(&self) -> sys::CUdeviceptr {
        self.pointer
    }

    /// The GPU it belongs to.
    pub fn gpu(&self) -> &'static Gpu {
        self.gpu
    }

    /// Copies from main memory. `source` may be changed as soon as this returns.
    ///
    /// A graph would copy again at every replay, from memory that is long gone: refused while one is captured.
    pub fn write(&mut self, source: &[f32]) -> Result<()> {
        assert!(size_of_val(source) <= self.capacity);
        if CAPTURES.get() {
            return Err(super::error(
                self.gpu.ordinal,
                "a copy from main memory cannot be captured in a graph",
            ));
        }
        self.gpu.bind()?;
        let _queue = self.gpu.enter();
        // SAFETY: the block is large enough. From memory that is not pinned, the driver has read the source when it
        // returns.
        unsafe { result::memcpy_htod_async(self.pointer, source, self.gpu.stream()) }
            .map_err(|cause| self.gpu.failed("a copy to the GPU failed", cause))
    }

    /// Copies to main memory, when all work queued before is done.
    pub fn read(&self, target: &mut [f32]) -> Result<()> {
        self.gpu.bind()?;
        let _queue = self.gpu.enter();
        assert!(size_of_val(target) <= self.capacity);
        // SAFETY: the block is large enough, and nobody looks at the target before the wait is over.
        unsafe { result::memcpy_dtoh_async(target, self.pointer, self.gpu.stream()) }
            .map_err(|cause| self.gpu.failed("a copy from the GPU failed", cause))?;
        self.gpu.wait_for(self.gpu.stream())
    }

    /// Copies a block of the same GPU.
    pub fn copy_from(&mut self, source: &Self, bytes: usize) -> Result<()> {
        self.gpu.bind()?;
        let _queue = self.gpu.enter();
        assert!(bytes <= self.capacity && bytes <= source.capacity);
        // SAFETY: both blocks are large enough and do not overlap.
        unsafe { result::memcpy_dtod_async(self.pointer, source.pointer, bytes, self.gpu.stream()) }
            .map_err(|cause| self.gpu.failed("a copy on the GPU failed", cause))
    }

    /// Sets the first `count` f32 to `value`.
    pub fn fill(&mut self, value: f32, count: usize) -> Result<()> {
        self.gpu.bind()?;
        let _queue = self.gpu.enter();
        assert!(count * size_of::<f32>() <= self.capacity);
        // SAFETY: the block is large enough.
        unsafe { sys::cuMemsetD32Async(self.pointer, value.to_bits(), count, self.gpu.stream()) }
            .result()
            .map_err(|cause| self.gpu.failed("memory cannot be filled", cause))
    }

    /// Sets the first `bytes` bytes to zero.
    pub fn clear(&mut self, bytes: usize) -> Result<()> {
        self.gpu.bind()?;
        let _queue = self.gpu.enter();
        assert!(bytes <= self.capacity);
        // SAFETY: the block is large enough.
        unsafe { result::memset_d8_async(self.pointer, 0, bytes, self.gpu.stream()) }
            .map_err(|cause| self.gpu.failed("memory cannot be cleared", cause))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _queue = self.gpu.enter();
        let here = lanes::current(self.gpu.device());
        self.gpu.pool().give(self.capacity, self.pointer, self.lane, here);
    }
}
