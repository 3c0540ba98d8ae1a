//! Buffers that are used again: every training step needs the same sizes in the same order, so after the first
//! step no memory is asked of the system any more.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// Alignment of every buffer in bytes: a cache line, and the widest vector register.
const ALIGNMENT: usize = 64;

/// A block of f32 that goes back to the pool when it is dropped.
pub struct Buffer {
    block: Block,
    len: usize,
}

/// An owned, aligned, initialised block of `capacity` f32.
struct Block {
    start: NonNull<f32>,
    capacity: usize,
}

// SAFETY: a block owns its memory and has no interior mutability.
unsafe impl Send for Block {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Block {}

#[derive(Default)]
struct Pool {
    free: HashMap<usize, Vec<Block>>,
    statistics: PoolStatistics,
}

/// What the pool has done since the program started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatistics {
    /// Blocks asked of the system. Does not grow in the steady state.
    pub allocations: u64,
    /// Bytes now held, in use or free.
    pub bytes_held: usize,
    /// The most bytes ever held.
    pub bytes_peak: usize,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

fn pool() -> MutexGuard<'static, Pool> {
    // A panic elsewhere cannot leave the pool half changed: each change is one push or pop.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the pool has done so far.
pub fn pool_statistics() -> PoolStatistics {
    pool().statistics
}

/// Gives the free blocks back to the system.
pub fn pool_release() {
    let mut pool = pool();
    let blocks: Vec<Block> = pool.free.drain().flat_map(|(_, blocks)| blocks).collect();
    for block in blocks {
        pool.statistics.bytes_held -= block.capacity * size_of::<f32>();
        // SAFETY: the block came from `alloc_zeroed` with this layout and nobody else holds it.
        unsafe { dealloc(block.start.as_ptr().cast(), layout(block.capacity)) };
    }
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity * size_of::<f32>(), ALIGNMENT)
        .expect("a tensor fits in the address space")
}

impl Buffer {
    /// A buffer of `len` elements that hold whatever their last owner left there.
    pub fn empty(len: usize) -> Self {
        let line = ALIGNMENT / size_of::<f32>();
        let capacity = len.max(1).next_multiple_of(line);
        let mut pool = pool();
        if let Some(block) = pool.free.get_mut(&capacity).and_then(Vec::pop) {
            return Self { block, len };
        }
        pool.statistics.allocations += 1;
        pool.statistics.bytes_held += capacity * size_of::<f32>();
        pool.statistics.bytes_peak = pool.statistics.bytes_peak.max(pool.statistics.bytes_held);
        drop(pool);
        let layout = layout(capacity);
        // SAFETY: the layout is not empty. Zeroed, so that the elements are initialised from the start.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start.cast()) else { handle_alloc_error(layout) };
        Self { block: Block { start, capacity }, len }
    }

    /// A buffer of `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::empty(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let block = Block { start: self.block.start, capacity: self.block.capacity };
        pool().free.entry(block.capacity).or_default().push(block);
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the block holds at least `len` initialised elements.
        unsafe { std::slice::from_raw_parts(self.block.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and the buffer is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.block.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        // A size no other test uses, so that tests running beside this one cannot take the block.
        let len = 1_234_567;
        let first = Buffer::empty(len);
        let address = first.as_ptr();
        drop(first);
        let second = Buffer::empty(len);
        assert_eq!(second.as_ptr(), address);
        assert_eq!(second.as_ptr() as usize % ALIGNMENT, 0);
        assert_eq!(second.len(), len);
    }

    #[test]
    fn zeros_are_zero_after_use() {
        let len = 765_432;
        Buffer::empty(len).fill(3.0);
        assert!(Buffer::zeros(len).iter().all(|&x| x == 0.0));
    }
}
