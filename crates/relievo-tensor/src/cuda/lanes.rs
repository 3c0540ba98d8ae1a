//! Lanes: independent work side by side on a GPU.
//!
//! The deep layers of a network are too small to fill a large GPU, and five networks look at the same images. Work of
//! different lanes runs on different streams, so the GPU may do several at once; captured in a graph, lanes become
//! branches of it.
//!
//! **What makes it safe.** Lanes begin behind all that was queued before they were opened, and what is queued after
//! [`Lanes::join`] comes behind them all. In between, what a lane made is for that lane alone ([`super::Launch`]
//! refuses another lane's tensors), so a block that a lane made and dropped may be handed out again to that lane at
//! once. All other blocks dropped meanwhile wait for the join: another lane may still be reading them (`memory.rs`).

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::{result, sys};

use super::{Gpu, Inside};
use crate::{Device, Error, Result};

/// The most lanes, counted from 1; 0 is the GPU's own stream.
pub const LANES: usize = 6;

/// Whether lanes are used at all.
static ENABLED: AtomicBool = AtomicBool::new(true);

thread_local! {
    /// The GPU and the lane that this thread queues work in; `None` for the GPU's own stream.
    static CURRENT: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Uses lanes or not (then all work is queued one after the other), to measure what they give. On at the start; for the
/// whole program.
pub fn set_lanes(on: bool) {
    ENABLED.store(on, Ordering::Relaxed);
}

/// The lane this thread queues work of a device in.
pub(crate) fn current(device: Device) -> usize {
    match (device, CURRENT.get()) {
        (Device::Cuda(ordinal), Some((of, lane))) if of == ordinal => lane,
        _ => 0,
    }
}

/// The streams of a GPU's lanes, and the events that put them in order.
pub(super) struct Streams {
    lanes: [sys::CUstream; LANES],
    /// When the lanes may begin.
    opened: sys::CUevent,
    /// When each lane is done.
    done: [sys::CUevent; LANES],
    /// Held while lanes are open.
    turn: Mutex<()>,
}

impl Streams {
    pub fn new() -> std::result::Result<Self, result::DriverError> {
        let stream = || result::stream::create(result::stream::StreamKind::NonBlocking);
        let event = || result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
        let mut lanes = [std::ptr::null_mut(); LANES];
        let mut done = [std::ptr::null_mut(); LANES];
        for (lane, done) in lanes.iter_mut().zip(&mut done) {
            (*lane, *done) = (stream()?, event()?);
        }
        Ok(Self { lanes, opened: event()?, done, turn: Mutex::default() })
    }

    /// The stream of a lane, counted from 1.
    pub fn lane(&self, lane: usize) -> sys::CUstream {
        self.lanes[lane - 1]
    }

    pub fn all(&self) -> &[sys::CUstream] {
        &self.lanes
    }
}

/// Lanes of a device, opened when the first work is put into one; a second thread waits until the first has joined its
/// own. On a CPU, and within a lane, work simply runs.
pub struct Lanes {
    gpu: Option<&'static Gpu>,
    is_open: bool,
    /// The lanes that have begun.
    begun: [bool; LANES],
    /// While lanes are open: keeps other threads from opening them and from capturing a graph.
    alone: Option<(MutexGuard<'static, ()>, Option<Inside<'static>>)>,
}

impl Lanes {
    /// Lanes of `device`; none is open yet.
    ///
    /// # Errors
    /// If there is no such GPU.
    pub fn on(device: Device) -> Result<Self> {
        let gpu = match device {
            // Within a lane there are no others.
            Device::Cuda(ordinal) if ENABLED.load(Ordering::Relaxed) && CURRENT.get().is_none() => {
                Some(Gpu::get(ordinal)?)
            }
            _ => None,
        };
        Ok(Self { gpu, is_open: false, begun: [false; LANES], alone: None })
    }

    /// Runs `work`, which queues its work in `lane` (1 to [`LANES`]; larger numbers begin again from 1), or, for lane
    /// 0, behind all lanes.
    ///
    /// # Errors
    /// Those of `work`, or if the GPU fails.
    pub fn run<T, E: From<Error>>(
        &mut self,
        lane: usize,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let Some(gpu) = self.gpu else { return work() };
        if lane == 0 {
            self.join()?;
            return work();
        }
        let lane = (lane - 1) % LANES + 1;
        self.begin(gpu, lane)?;
        /// Leaves the lane, whatever happens.
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.set(None);
            }
        }
        CURRENT.set(Some((gpu.ordinal, lane)));
        let _leave = Leave;
        work()
    }

    /// Makes a lane ready.
    fn begin(&mut self, gpu: &'static Gpu, lane: usize) -> Result<()> {
        let failed = |cause| gpu.failed("lanes cannot be opened", cause);
        let streams = &gpu.lanes;
        if !self.is_open {
            // In this order: a thread that captures a graph may need the turn, and waits for all that are inside.
            let inside = gpu.enter();
            let turn = streams.turn.lock().unwrap_or_else(PoisonError::into_inner);
            gpu.pool().open_lanes();
            (self.is_open, self.begun, self.alone) = (true, [false; LANES], Some((turn, inside)));
            // SAFETY: streams and events live as long as the process.
            unsafe { result::event::record(streams.opened, gpu.stream) }.map_err(failed)?;
        }
        if !std::mem::replace(&mut self.begun[lane - 1], true) {
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            // SAFETY: as above.
            unsafe { result::stream::wait_event(streams.lane(lane), streams.opened, flags) }
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Puts whatever is queued from now on behind the work of all lanes. They may be opened again.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn join(&mut self) -> Result<()> {
        let Some(gpu) = self.gpu.filter(|_| std::mem::take(&mut self.is_open)) else { return Ok(()) };
        let failed = |cause| gpu.failed("lanes cannot be joined", cause);
        let streams = &gpu.lanes;
        let _alone = self.alone.take();
        let mut joined = Ok(());
        for (index, done) in streams.done.iter().enumerate().filter(|(index, _)| self.begun[*index]) {
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            // SAFETY: streams and events live as long as the process.
            let one = unsafe {
                result::event::record(*done, streams.lanes[index])
                    .and_then(|()| result::stream::wait_event(gpu.stream, *done, flags))
            };
            joined = joined.and(one.map_err(failed));
        }
        gpu.pool().close_lanes();
        joined
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // After an error; whatever queues work next finds the lanes closed.
        let _ = self.join();
    }
}
