//! Taking the time on a GPU.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cudarc::driver::{result, sys};

use super::Gpu;
use crate::{Error, Result};

/// Rounds of [`median_seconds`], of so many runs each.
const ROUNDS: usize = 7;
const RUNS: usize = 3;

/// After this long no further round begins: slow work is measured well by few.
const LONG: Duration = Duration::from_millis(100);

/// The longest that a GPU is kept waiting.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// An event that tells the time.
pub(super) struct Event(sys::CUevent);

impl Event {
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        Ok(Self(event.map_err(|cause| not_taken(gpu, cause))?))
    }

    /// Takes the time when the GPU gets here.
    fn record(&self, gpu: &Gpu) -> Result<()> {
        // SAFETY: event and stream live.
        unsafe { result::event::record(self.0, gpu.stream()) }.map_err(|cause| not_taken(gpu, cause))
    }

    /// Takes the time whenever a launch of the graph that is being captured gets here. The graph must not be launched
    /// after the event is gone.
    pub fn record_in_graph(&self, gpu: &Gpu) -> Result<()> {
        // External: a node of the graph, not a dependency.
        let flags = sys::CUevent_record_flags::CU_EVENT_RECORD_EXTERNAL as u32;
        // SAFETY: event and stream live.
        unsafe { sys::cuEventRecordWithFlags(self.0, gpu.stream(), flags) }
            .result()
            .map_err(|cause| not_taken(gpu, cause))
    }

    /// From this to a later event, when the GPU has passed both.
    pub fn seconds_until(&self, later: &Self, gpu: &Gpu) -> Result<f64> {
        // SAFETY: both events live.
        let milliseconds = unsafe { result::event::elapsed(self.0, later.0) }
            .map_err(|cause| gpu.failed("the time cannot be read", cause))?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: destroyed once.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

fn not_taken(gpu: &Gpu, cause: result::DriverError) -> Error {
    gpu.failed("the time cannot be taken", cause)
}

/// How long the GPU takes for the work that `queue` queues on this thread's stream: the median of some rounds. While a
/// round is queued, the GPU waits, so that it never waits within: how fast the host is does not matter, as in a graph.
/// `queue` has run before.
pub(super) fn median_seconds(gpu: &Gpu, mut queue: impl FnMut() -> Result<()>) -> Result<f64> {
    let (began, ended) = (Event::new(gpu)?, Event::new(gpu)?);
    let start = Instant::now();
    let mut seconds = Vec::with_capacity(ROUNDS);
    while seconds.is_empty() || seconds.len() < ROUNDS && start.elapsed() < LONG {
        let gate = Gate::close(gpu)?;
        began.record(gpu)?;
        (0..RUNS).try_for_each(|_| queue())?;
        ended.record(gpu)?;
        drop(gate);
        gpu.wait_for(gpu.stream())?;
        seconds.push(began.seconds_until(&ended, gpu)? / RUNS as f64);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// Keeps this thread's stream waiting until it is dropped, but not for long: whatever else happens, the GPU goes on.
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn close(gpu: &Gpu) -> Result<Self> {
        let open = Arc::new(AtomicBool::new(false));
        let theirs = Arc::into_raw(Arc::clone(&open));
        // SAFETY: `wait` gets the reference that was just made.
        unsafe { result::stream::launch_host_function(gpu.stream(), wait, theirs.cast_mut().cast()) }
            .map_err(|cause| {
                // SAFETY: the function was not queued, so the reference is still ours.
                drop(unsafe { Arc::from_raw(theirs) });
                not_taken(gpu, cause)
            })?;
        Ok(Self(open))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Waits for a gate to open. Called by the driver, which must not be called from here.
unsafe extern "C" fn wait(open: *mut c_void) {
    // SAFETY: the reference that `Gate::close` made for this call.
    let open = unsafe { Arc::from_raw(open.cast_const().cast::<AtomicBool>()) };
    let began = Instant::now();
    while !open.load(Ordering::Acquire) && began.elapsed() < LONGEST_WAIT {
        std::hint::spin_loop();
    }
}
