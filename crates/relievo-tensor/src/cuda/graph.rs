//! A sequence of work captured once and replayed: one call in place of a thousand launches.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;

use cudarc::driver::{result, sys};

use super::memory::Free;
use super::{CAPTURES, Gpu, error};
use crate::{Error, Result};

/// Captured work of one GPU, and what it computes.
///
/// The graph reads and writes the memory that the captured work did. What was computed is in [`Graph::outputs`], and
/// the next replay overwrites it: copy what is to be kept. Memory that lies between is the graph's own.
pub struct Graph<T> {
    gpu: &'static Gpu,
    executable: sys::CUgraphExec,
    nodes: usize,
    outputs: Option<T>,
    arena: Free,
}

// SAFETY: an executable graph may be launched from any thread, one at a time; `replay` needs exclusive access.
unsafe impl<T: Send> Send for Graph<T> {}

impl<T> Graph<T> {
    /// Captures what `work` queues on GPU `ordinal`; nothing of it runs. `work` must have run once before (kernels are
    /// compiled and algorithms measured then), must not read results, and must give back everything it made that is
    /// to be looked at later. What it takes from outside must live as long as the graph.
    ///
    /// # Errors
    /// Those of `work`, or if it does something that cannot be captured.
    pub fn capture<E: From<Error>>(
        ordinal: usize,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<Self, E> {
        let gpu = Gpu::get(ordinal)?;
        if CAPTURES.get() {
            return Err(error(ordinal, "a graph is being captured already").into());
        }
        let exclusive = gpu.queue.write().unwrap_or_else(PoisonError::into_inner);
        CAPTURES.set(true);
        gpu.pool().begin_arena();
        // A panic must not leave the thread capturing.
        let captured = catch_unwind(AssertUnwindSafe(|| Self::record(gpu, work)));
        let arena = gpu.pool().end_arena();
        CAPTURES.set(false);
        drop(exclusive);
        match captured.unwrap_or_else(|panic| resume_unwind(panic)) {
            Ok((outputs, nodes, executable)) => {
                Ok(Self { gpu, executable, nodes, outputs: Some(outputs), arena })
            }
            Err(failure) => {
                gpu.pool().take_back(arena);
                Err(failure)
            }
        }
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
            .map_err(failed("a capture cannot begin"))?;
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
            result::graph::destroy(graph).map_err(failed("a graph cannot be destroyed"))?;
            counted.map_err(failed("the captured work cannot be counted"))?;
            executable.map_err(failed("the captured work cannot be made executable"))?
        };
        Ok((outputs, nodes, executable))
    }

    /// Queues the captured work.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn replay(&mut self) -> Result<()> {
        self.gpu.bind()?;
        let _queue = self.gpu.enter();
        // SAFETY: executable and stream live.
        unsafe { result::graph::launch(self.executable, self.gpu.stream) }
            .map_err(|cause| self.gpu.failed("the captured work cannot be replayed", cause))
    }

    /// How many launches of kernels, copies and fills the work is.
    pub fn launches(&self) -> usize {
        self.nodes
    }

    /// What the work gave back: the same tensors after every replay.
    pub fn outputs(&self) -> &T {
        self.outputs.as_ref().expect("the outputs are there until the graph is dropped")
    }
}

impl<T> Drop for Graph<T> {
    fn drop(&mut self) {
        // A replay may still run. If waiting fails, its memory is in no state to be used again.
        if self.gpu.bind().is_ok() && self.gpu.synchronize().is_ok() {
            // SAFETY: the executable is destroyed once and runs no more.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
            self.outputs = None;
            self.gpu.pool().take_back(std::mem::take(&mut self.arena));
        }
    }
}
