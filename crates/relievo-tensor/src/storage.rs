//! Buffers from a pool: every training step allocates the same sizes in the same order, so after the first step all of
//! them are reused and the system allocates nothing.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// Alignment of every buffer in bytes: a cache line, and the widest vector register.
const ALIGNMENT: usize = 64;

/// A buffer of f32 that returns to the pool when it is dropped.
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

/// Statistics of the pool since the program started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatistics {
    /// Blocks allocated by the system. Constant once all sizes have been used.
    pub allocations: u64,
    /// Bytes held now, in use or free.
    pub bytes_held: usize,
    /// The most bytes ever held.
    pub bytes_peak: usize,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

fn pool() -> MutexGuard<'static, Pool> {
    // A panic elsewhere cannot leave the pool half changed: each change is one push or pop.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The statistics of the pool.
pub fn pool_statistics() -> PoolStatistics {
    pool().statistics
}

/// Returns the free blocks to the system.
pub fn pool_release() {
    let mut pool = pool();
    let blocks: Vec<Block> = pool.free.drain().flat_map(|(_, blocks)| blocks).collect();
    for block in blocks {
        pool.statistics.bytes_held -= block.capacity * size_of::<f32>();
        let layout = layout(block.capacity).expect("the block was allocated with this layout");
        // SAFETY: the block came from `alloc_zeroed` with this layout and nobody else holds it.
        unsafe { dealloc(block.start.as_ptr().cast(), layout) };
    }
}

/// The capacity of a block for `len` elements: whole cache lines, at least one.
fn capacity(len: usize) -> Option<usize> {
    len.max(1).checked_next_multiple_of(ALIGNMENT / size_of::<f32>())
}

/// The layout of a block. `None` if it does not fit into the address space.
fn layout(capacity: usize) -> Option<Layout> {
    Layout::array::<f32>(capacity).and_then(|layout| layout.align_to(ALIGNMENT)).ok()
}

impl Buffer {
    /// A buffer of `len` elements with arbitrary values: those of its last use.
    ///
    /// # Panics
    /// If as many elements do not fit into the address space.
    pub fn empty(len: usize) -> Self {
        let fitting = capacity(len).and_then(|capacity| Some((capacity, layout(capacity)?)));
        let Some((capacity, layout)) = fitting else {
            panic!("a buffer of {len} elements does not fit into the address space")
        };
        let mut pool = pool();
        if let Some(block) = pool.free.get_mut(&capacity).and_then(Vec::pop) {
            return Self { block, len };
        }
        pool.statistics.allocations += 1;
        pool.statistics.bytes_held += capacity * size_of::<f32>();
        pool.statistics.bytes_peak = pool.statistics.bytes_peak.max(pool.statistics.bytes_held);
        drop(pool);
        // SAFETY: the layout is not empty: a block has a cache line or more. Zeroed, so that the elements are initialised from the start.
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
    fn lengths_beyond_the_address_space_are_refused() {
        // The first wraps around to an empty block, the second to one of a cache line.
        for len in [usize::MAX, usize::MAX / size_of::<f32>() + 2, isize::MAX as usize] {
            let before = pool_statistics().bytes_held;
            let refused = std::panic::catch_unwind(|| Buffer::empty(len).len()).unwrap_err();
            let message = refused.downcast_ref::<String>().unwrap();
            assert!(message.contains(&format!("{len} elements does not fit")), "{message}");
            assert!(pool_statistics().bytes_held < before + len / 2);
        }
    }

    #[test]
    fn zeros_are_zero_after_use() {
        let len = 765_432;
        Buffer::empty(len).fill(3.0);
        assert!(Buffer::zeros(len).iter().all(|&x| x == 0.0));
    }
}
