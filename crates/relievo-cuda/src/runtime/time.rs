//! Events: order between streams, and time on a GPU.

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

/// An event of a GPU's streams.
pub(super) struct Event(sys::CUevent);

// SAFETY: the handle may be used from any thread that has the context bound.
unsafe impl Send for Event {}
// SAFETY: as above; the driver's functions are thread-safe.
unsafe impl Sync for Event {}

impl Event {
    /// An event that takes the time.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Self::with_flags(gpu, sys::CUevent_flags::CU_EVENT_DEFAULT)
    }

    /// An event that is only waited for.
    pub fn without_time(gpu: &Gpu) -> Result<Self> {
        Self::with_flags(gpu, sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    fn with_flags(gpu: &Gpu, flags: sys::CUevent_flags) -> Result<Self> {
        let event = result::event::create(flags);
        Ok(Self(event.map_err(|cause| gpu.failed("could not create an event", cause))?))
    }

    /// Marks where a stream is now.
    pub fn record(&self, gpu: &Gpu, stream: sys::CUstream) -> Result<()> {
        // SAFETY: event and stream live.
        unsafe { result::event::record(self.0, stream) }.map_err(|cause| not_recorded(gpu, cause))
    }

    /// Lets what is queued on a stream from now on wait for the mark. An event that was never recorded is not waited for.
    pub fn hold_up(&self, gpu: &Gpu, stream: sys::CUstream) -> Result<()> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: event and stream live.
        unsafe { result::stream::wait_event(stream, self.0, flags) }
            .map_err(|cause| gpu.failed("could not wait for an event", cause))
    }

    /// Waits for the mark on the host.
    pub fn wait(&self, gpu: &Gpu) -> Result<()> {
        // SAFETY: the event lives.
        unsafe { result::event::synchronize(self.0) }
            .map_err(|cause| gpu.failed("could not wait for an event", cause))
    }

    /// Takes the time whenever a launch of the graph that is being captured gets here. The graph must own the event.
    pub fn record_in_graph(&self, gpu: &Gpu) -> Result<()> {
        // External: a node of the graph, not a dependency.
        let flags = sys::CUevent_record_flags::CU_EVENT_RECORD_EXTERNAL as u32;
        // SAFETY: event and stream live.
        unsafe { sys::cuEventRecordWithFlags(self.0, gpu.stream(), flags) }
            .result()
            .map_err(|cause| not_recorded(gpu, cause))
    }

    /// From this to a later event in seconds, when the GPU has passed both.
    pub fn seconds_until(&self, later: &Self, gpu: &Gpu) -> Result<f64> {
        // SAFETY: both events live.
        let milliseconds = unsafe { result::event::elapsed(self.0, later.0) }
            .map_err(|cause| gpu.failed("could not read the time of an event", cause))?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: destroyed once.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

fn not_recorded(gpu: &Gpu, cause: result::DriverError) -> Error {
    gpu.failed("could not record an event", cause)
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
        began.record(gpu, gpu.stream())?;
        (0..RUNS).try_for_each(|_| queue())?;
        ended.record(gpu, gpu.stream())?;
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
                gpu.failed("could not hold up a stream", cause)
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
