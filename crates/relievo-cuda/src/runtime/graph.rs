//! A sequence of work captured once and replayed: one call in place of a thousand launches.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};

use cudarc::driver::{result, sys};

use super::Gpu;
use super::memory::{Arena, Memory};
use crate::{Error, Result};

/// Something that captured work uses.
type Kept = Arc<dyn Any + Send + Sync>;

/// A capture that a thread is in.
struct Capture {
    arena: Arc<Arena>,
    /// What the work uses and did not make, by address.
    kept: HashMap<usize, Kept>,
}

thread_local! {
    /// The GPU whose work this thread is capturing.
    static CAPTURED_GPU: Cell<Option<usize>> = const { Cell::new(None) };
    static CAPTURE: RefCell<Option<Capture>> = const { RefCell::new(None) };
}

/// Whether this thread is capturing a graph of a GPU.
pub(super) fn captures(ordinal: usize) -> bool {
    CAPTURED_GPU.get() == Some(ordinal)
}

/// The arena that memory of a GPU is to be taken from.
pub(super) fn arena(ordinal: usize) -> Option<Arc<Arena>> {
    if !captures(ordinal) {
        return None;
    }
    CAPTURE.with_borrow(|capture| capture.as_ref().map(|capture| Arc::clone(&capture.arena)))
}

/// Whether an arena is that of this thread's capture.
pub(super) fn is_captured_here(arena: Option<&Arc<Arena>>) -> bool {
    let Some(arena) = arena.filter(|_| CAPTURED_GPU.get().is_some()) else { return false };
    // A capture that is being dropped with its thread has ended.
    let here = CAPTURE.try_with(|capture| {
        let capture = capture.try_borrow();
        capture.is_ok_and(|capture| capture.as_ref().is_some_and(|one| Arc::ptr_eq(&one.arena, arena)))
    });
    here.unwrap_or(false)
}

/// Lets the graph that is being captured, if there is one, own a block that its work uses.
pub(super) fn keep(memory: &Memory) {
    if captures(memory.gpu().ordinal()) {
        CAPTURE.with_borrow_mut(|capture| {
            let Some(Capture { arena, kept }) = capture else { return };
            let block = memory.block();
            // Blocks of the capture's own are used again within it.
            if !block.is_of(arena) {
                kept.entry(Arc::as_ptr(block) as usize).or_insert_with(|| Arc::clone(block) as Kept);
            }
        });
    }
}

/// As [`keep`], for something other than memory.
pub(super) fn keep_alive<T: Send + Sync + 'static>(object: &Arc<T>) {
    CAPTURE.with_borrow_mut(|capture| {
        if let Some(Capture { kept, .. }) = capture {
            kept.insert(Arc::as_ptr(object) as usize, Arc::clone(object) as Kept);
        }
    });
}

/// Captured work of one GPU, and its results.
///
/// The graph reads and writes the memory that the captured work did, and owns it with others: whatever else is dropped,
/// a replay finds its memory. The results are in [`Graph::outputs`], and the next replay overwrites them: copy what is to
/// be kept. Intermediate memory is the graph's own.
pub struct Graph<T> {
    gpu: &'static Gpu,
    executable: sys::CUgraphExec,
    nodes: usize,
    /// Results and memory; `None` only while the graph is dropped.
    owned: Option<Owned<T>>,
}

struct Owned<T> {
    outputs: T,
    /// In this order: what is kept goes back to the pool, then the arena.
    _kept: Vec<Kept>,
    _arena: Arc<Arena>,
}

// SAFETY: an executable graph may be launched from any thread, one at a time; `replay` needs exclusive access.
unsafe impl<T: Send> Send for Graph<T> {}

impl<T> Graph<T> {
    /// Captures what `work` queues on GPU `ordinal`; nothing of it runs. `work` must have run once before (kernels are
    /// compiled and algorithms measured then), must not read results, must use no other GPU, and must return everything
    /// it made that is to be looked at later.
    ///
    /// # Errors
    /// Those of `work`, or if it does something that cannot be captured.
    pub fn capture<E: From<Error>>(
        ordinal: usize,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<Self, E> {
        let gpu = Gpu::get(ordinal)?;
        if CAPTURED_GPU.get().is_some() {
            return Err(gpu.error("this thread is capturing a graph already").into());
        }
        let arena = Arena::new(gpu);
        let exclusive = gpu.queue.write().unwrap_or_else(PoisonError::into_inner);
        CAPTURED_GPU.set(Some(ordinal));
        CAPTURE.set(Some(Capture { arena: Arc::clone(&arena), kept: HashMap::new() }));
        gpu.pool().begin_arena(Arc::clone(&arena));
        // A panic must not leave the thread capturing.
        let captured = catch_unwind(AssertUnwindSafe(|| Self::record(gpu, work)));
        gpu.pool().end_arena();
        CAPTURED_GPU.set(None);
        let kept = CAPTURE.take().map(|capture| capture.kept.into_values().collect()).unwrap_or_default();
        drop(exclusive);
        let (outputs, nodes, executable) = captured.unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(Self { gpu, executable, nodes, owned: Some(Owned { outputs, _kept: kept, _arena: arena }) })
    }

    fn record<E: From<Error>>(
        gpu: &'static Gpu,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, usize, sys::CUgraphExec), E> {
        let failed = |what: &'static str| move |cause| gpu.failed(what, cause);
        // Relaxed: the pool may have to ask the driver for a block, which is no part of the queue.
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream lives as long as the process.
        unsafe { result::stream::begin_capture(gpu.stream, mode) }
            .map_err(failed("could not begin a capture"))?;
        let outputs = catch_unwind(AssertUnwindSafe(work));
        // The capture must end in any case, or the stream could not be used any more.
        // SAFETY: as above.
        let graph = unsafe { result::stream::end_capture(gpu.stream) };
        if let (Ok(graph), false) = (&graph, matches!(outputs, Ok(Ok(_)))) {
            // SAFETY: it is used no more.
            let _ = unsafe { result::graph::destroy(*graph) };
        }
        let outputs = outputs.unwrap_or_else(|panic| resume_unwind(panic))?;
        let graph = graph.map_err(failed("the work cannot be captured"))?;
        let mut nodes = 0;
        // SAFETY: the graph was just captured and is destroyed once, after its executable was made; without room for
        // the nodes themselves they are counted.
        let executable = unsafe {
            let counted = sys::cuGraphGetNodes(graph, std::ptr::null_mut(), &mut nodes).result();
            let executable = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
            result::graph::destroy(graph).map_err(failed("could not destroy a graph"))?;
            counted.map_err(failed("could not count the captured work"))?;
            executable.map_err(failed("could not make the captured work executable"))?
        };
        Ok((outputs, nodes, executable))
    }

    /// Queues the captured work.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn replay(&mut self) -> Result<()> {
        self.gpu.bind()?;
        let _queue = self.gpu.enter();
        // SAFETY: executable and stream live, and so does all memory that the work uses: the graph owns it.
        unsafe { result::graph::launch(self.executable, self.gpu.stream) }
            .map_err(|cause| self.gpu.failed("could not replay the captured work", cause))
    }

    /// The number of launches of kernels, copies and fills in the work.
    pub fn launches(&self) -> usize {
        self.nodes
    }

    /// What the work returned: the same arrays after every replay.
    pub fn outputs(&self) -> &T {
        &self.owned.as_ref().expect("the outputs are there until the graph is dropped").outputs
    }
}

impl<T> Drop for Graph<T> {
    fn drop(&mut self) {
        let owned = self.owned.take();
        // A replay may still run. If waiting fails, its memory is in no state to be used again.
        if self.gpu.bind().is_ok() && self.gpu.synchronize().is_ok() {
            // SAFETY: the executable is destroyed once and runs no more.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
            drop(owned);
        } else {
            std::mem::forget(owned);
        }
    }
}
