//! Forked streams: independent work side by side on a GPU.
//!
//! The deep layers of a network are too small to fill a large GPU, and several networks take the same input. Work on
//! different streams may run at the same time; captured in a graph, forked streams become branches of it.
//!
//! ```text
//! own stream   ----opened----------------------------------wait-wait----->
//! stream 1            \----- wait, network 1 ----- done ---/    /
//! stream 2             \---- wait, network 2 ----------- done -/
//! ```
//!
//! **What makes it safe.** Forked streams begin behind all that was queued before they were opened, and what is queued
//! after [`ForkedStreams::join`] comes behind them all. In between, what was made on a forked stream is for that stream
//! alone ([`Launch`](super::Launch) refuses another's memory), so a block that was made and dropped on it may be handed out
//! again there at once. All other blocks dropped meanwhile wait for the join: another stream may still be reading them
//! (`memory.rs`).

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::{result, sys};

use super::{Gpu, Inside};
use crate::{Error, Result};

thread_local! {
    /// The GPU and the forked stream that this thread queues work on; `None` for the GPU's own stream.
    static CURRENT: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// The number of the forked stream on which this thread queues work of a GPU, counted from 1; 0 for the GPU's own stream,
/// and without a GPU.
pub fn current_stream(ordinal: Option<usize>) -> usize {
    match (ordinal, CURRENT.get()) {
        (Some(ordinal), Some((of, number))) if of == ordinal => number,
        _ => 0,
    }
}

/// A stream beside the GPU's own, and the event at its end. Both live as long as the process.
#[derive(Clone, Copy)]
struct Stream {
    stream: sys::CUstream,
    /// When its work is done.
    done: sys::CUevent,
}

/// The streams of a GPU beside its own, made when first used.
pub(super) struct Streams {
    streams: Mutex<Vec<Stream>>,
    /// When forked streams may begin.
    opened: sys::CUevent,
    /// Held while streams are forked.
    turn: Mutex<()>,
}

fn event() -> std::result::Result<sys::CUevent, result::DriverError> {
    result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
}

impl Streams {
    pub fn new() -> std::result::Result<Self, result::DriverError> {
        Ok(Self { streams: Mutex::default(), opened: event()?, turn: Mutex::default() })
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stream number `number`, which has been used, counted from 1.
    pub fn stream(&self, number: usize) -> sys::CUstream {
        self.streams()[number - 1].stream
    }

    /// Stream number `number`, counted from 1, made if need be.
    fn get(&self, number: usize) -> std::result::Result<Stream, result::DriverError> {
        let mut streams = self.streams();
        while streams.len() < number {
            let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
            streams.push(Stream { stream, done: event()? });
        }
        Ok(streams[number - 1])
    }

    /// All that were made.
    pub fn all(&self) -> Vec<sys::CUstream> {
        self.streams().iter().map(|stream| stream.stream).collect()
    }
}

/// Streams of a GPU beside its own, opened when the first work is queued on one; a second thread waits until the first has
/// joined its own. On a CPU, and on a forked stream, work simply runs.
pub struct ForkedStreams {
    gpu: Option<&'static Gpu>,
    is_open: bool,
    /// How many times work was forked since the last join.
    forks: usize,
    /// The numbers of the streams that have begun.
    begun: Vec<usize>,
    /// While streams are open: keeps other threads from opening them and from capturing a graph.
    alone: Option<(MutexGuard<'static, ()>, Option<Inside<'static>>)>,
}

impl ForkedStreams {
    /// Streams of GPU `ordinal`, none of which is open yet; without a GPU, work runs as it comes.
    ///
    /// # Errors
    /// If there is no such GPU.
    pub fn on(ordinal: Option<usize>) -> Result<Self> {
        // On a forked stream there are no others.
        let gpu = ordinal.filter(|_| CURRENT.get().is_none()).map(Gpu::get).transpose()?;
        Ok(Self { gpu, is_open: false, forks: 0, begun: Vec::new(), alone: None })
    }

    /// Runs `work`, which queues its work on the next stream that was not used since the last join.
    ///
    /// # Errors
    /// Those of `work`, or if the GPU fails.
    pub fn fork<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.forks += 1;
        self.run(self.forks, work)
    }

    /// Runs `work`, which queues its work on stream number `stream`, counted from 1, or, for 0, behind all of them.
    ///
    /// # Errors
    /// Those of `work`, or if the GPU fails.
    pub fn run<T, E: From<Error>>(
        &mut self,
        stream: usize,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let Some(gpu) = self.gpu else { return work() };
        if stream == 0 {
            self.join()?;
            return work();
        }
        self.begin(gpu, stream)?;
        /// Leaves the stream, whatever happens.
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.set(None);
            }
        }
        CURRENT.set(Some((gpu.ordinal, stream)));
        let _leave = Leave;
        work()
    }

    /// Makes a stream ready.
    fn begin(&mut self, gpu: &'static Gpu, number: usize) -> Result<()> {
        let failed = |cause| gpu.failed("could not fork a stream", cause);
        let forked = &gpu.forked;
        if !self.is_open {
            // In this order: a thread that captures a graph may need the turn, and waits for all that are inside.
            let inside = gpu.enter();
            let turn = forked.turn.lock().unwrap_or_else(PoisonError::into_inner);
            gpu.pool().fork();
            (self.is_open, self.alone) = (true, Some((turn, inside)));
            self.begun.clear();
            // SAFETY: streams and events live as long as the process.
            unsafe { result::event::record(forked.opened, gpu.stream) }.map_err(failed)?;
        }
        if !self.begun.contains(&number) {
            let Stream { stream, .. } = forked.get(number).map_err(failed)?;
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            // SAFETY: as above.
            unsafe { result::stream::wait_event(stream, forked.opened, flags) }.map_err(failed)?;
            self.begun.push(number);
        }
        Ok(())
    }

    /// Puts whatever is queued from now on behind the work of all forked streams. They may be opened again.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn join(&mut self) -> Result<()> {
        self.forks = 0;
        let Some(gpu) = self.gpu.filter(|_| std::mem::take(&mut self.is_open)) else { return Ok(()) };
        let failed = |cause| gpu.failed("could not join the forked streams", cause);
        let _alone = self.alone.take();
        let mut joined = Ok(());
        for number in self.begun.drain(..) {
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            // SAFETY: streams and events live as long as the process.
            let one = gpu.forked.get(number).and_then(|Stream { stream, done }| unsafe {
                result::event::record(done, stream)?;
                result::stream::wait_event(gpu.stream, done, flags)
            });
            joined = joined.and(one.map_err(failed));
        }
        gpu.pool().join();
        joined
    }
}

impl Drop for ForkedStreams {
    fn drop(&mut self) {
        // After an error; whatever queues work next finds the streams joined.
        let _ = self.join();
    }
}
