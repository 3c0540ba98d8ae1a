//! The runtime itself.
//!
//! Work is queued on one stream of each GPU, in the order of the calls; nothing waits for it but a copy to or from main
//! memory. `memory.rs` is the pool (and the arenas of captured graphs), `kernels.rs` compiles CUDA C and `launch.rs`
//! launches it, `dnn/` has cuDNN's convolutions, `graph.rs` captures a sequence of work to replay it, `forked.rs` runs
//! independent work side by side, `staging.rs` copies through pinned memory, `profile.rs` times captured operations.

mod dnn;
mod forked;
mod graph;
mod kernels;
mod launch;
mod libraries;
mod lowering;
mod memory;
mod profile;
mod signature;
mod staging;
mod time;

use std::cell::Cell;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use cudarc::driver::{result, sys};

use crate::{Error, Result};

pub use forked::{ForkedStreams, current_stream};
pub use graph::Graph;
pub use kernels::compile_check;
pub use launch::Launch;
pub use lowering::kernels;
pub use memory::{Memory, memory_statistics};
pub use profile::{Profiler, marked};
pub use staging::{Download, UploadQueue};

/// How many GPUs of a machine can be used at most.
const MAX_GPUS: usize = 16;

/// The oldest driver that has all functions called here, by the CUDA it was made for.
const OLDEST_DRIVER: i32 = 12_080;

/// A GPU, opened.
pub struct Gpu {
    /// Its number among the machine's GPUs.
    ordinal: usize,
    /// As the driver calls it.
    name: String,
    /// Compute capability, major and minor.
    capability: (i32, i32),
    context: sys::CUcontext,
    stream: sys::CUstream,
    forked: forked::Streams,
    /// Held to write while a graph is captured: what other threads queue then would become a part of it.
    queue: RwLock<()>,
    pool: Mutex<memory::Pool>,
    /// Blocks dropped while another thread captured a graph, to be given to the pool after that.
    dropped: Mutex<Vec<memory::Returned>>,
    modules: Mutex<kernels::Modules>,
    dnn: OnceLock<Result<Mutex<dnn::Dnn>>>,
}

// SAFETY: the handles may be used from any thread that has the context bound (`Gpu::bind`).
unsafe impl Send for Gpu {}
// SAFETY: as above; what is not thread-safe (cuDNN's handle) is behind a mutex.
unsafe impl Sync for Gpu {}

thread_local! {
    /// The GPU whose context this thread has bound.
    static BOUND: Cell<Option<usize>> = const { Cell::new(None) };
    /// The GPUs that this thread has entered ([`Gpu::enter`]), a bit each: to enter one again could wait for a capture
    /// that waits for this thread.
    static INSIDE: Cell<u16> = const { Cell::new(0) };
}

const _: () = assert!(MAX_GPUS <= u16::BITS as usize);

/// Keeps captures of a GPU out; see [`Gpu::enter`].
struct Inside<'a> {
    bit: u16,
    _shared: RwLockReadGuard<'a, ()>,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        INSIDE.set(INSIDE.get() & !self.bit);
    }
}

impl Gpu {
    /// The GPU of this number, opened at the first call.
    ///
    /// # Errors
    /// If the driver, a library or the GPU is missing or refuses; the same at every later call.
    pub fn get(ordinal: usize) -> Result<&'static Self> {
        static GPUS: [OnceLock<Result<Gpu>>; MAX_GPUS] = [const { OnceLock::new() }; MAX_GPUS];
        let Some(place) = GPUS.get(ordinal) else {
            return Err(Error::gpu(
                ordinal,
                format!("only the first {MAX_GPUS} GPUs of a machine can be used"),
            ));
        };
        let gpu = place.get_or_init(|| Self::open(ordinal)).as_ref().map_err(Clone::clone)?;
        gpu.bind()?;
        Ok(gpu)
    }

    fn open(ordinal: usize) -> Result<Self> {
        let failed = |what: &'static str| {
            move |cause: result::DriverError| Error::gpu(ordinal, format!("{what}: {}", describe(cause)))
        };
        libraries::need_driver(ordinal)?;
        result::init().map_err(failed("could not initialise the driver"))?;
        let mut version = 0;
        // SAFETY: it points to an integer.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(failed("could not query the driver version"))?;
        if version < OLDEST_DRIVER {
            let release = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
            let (found, needed) = (release(version), release(OLDEST_DRIVER));
            let detail = format!(
                "the NVIDIA driver supports CUDA {found}; CUDA {needed} is required: install driver 570 or later"
            );
            return Err(Error::gpu(ordinal, detail));
        }
        let count = result::device::get_count().map_err(failed("could not count the GPUs"))?;
        if ordinal >= usize::try_from(count).unwrap_or(0) {
            return Err(Error::gpu(ordinal, format!("this machine has {count} GPUs, numbered from cuda:0")));
        }
        let device = result::device::get(ordinal as i32).map_err(failed("could not open the GPU"))?;
        let name = result::device::get_name(device).map_err(failed("could not query the GPU's name"))?;
        let attribute = |which| {
            // SAFETY: the device was just obtained.
            unsafe { result::device::get_attribute(device, which) }
                .map_err(failed("could not query device attributes"))
        };
        use sys::CUdevice_attribute_enum as Attribute;
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if capability < (8, 0) {
            let (major, minor) = capability;
            let detail =
                format!("{name} has compute capability {major}.{minor}; bf16 requires 8.0 (Ampere) or later");
            return Err(Error::gpu(ordinal, detail));
        }
        // SAFETY: the device exists. The primary context is shared with other users of the driver in this process and
        // kept until the process ends.
        let context =
            unsafe { result::primary_ctx::retain(device) }.map_err(failed("could not create a context"))?;
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(context) }.map_err(failed("could not bind the context"))?;
        BOUND.set(Some(ordinal));
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(failed("could not create a stream"))?;
        let forked = forked::Streams::new().map_err(failed("could not create an event"))?;
        Ok(Self {
            ordinal,
            name,
            capability,
            context,
            stream,
            forked,
            queue: RwLock::default(),
            pool: Mutex::default(),
            dropped: Mutex::default(),
            modules: Mutex::default(),
            dnn: OnceLock::new(),
        })
    }

    /// Waits while another thread captures a graph, and keeps others from beginning one until the result is dropped. To
    /// be called before a mutex is taken that a capturing thread may need.
    fn enter(&self) -> Option<Inside<'_>> {
        let bit = 1 << self.ordinal;
        if graph::captures(self.ordinal) || INSIDE.get() & bit != 0 {
            return None;
        }
        let shared = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        INSIDE.set(INSIDE.get() | bit);
        Some(Inside { bit, _shared: shared })
    }

    /// As [`Gpu::enter`] where that need not wait; `None` where another thread captures a graph or is about to.
    fn try_enter(&self) -> Option<Option<Inside<'_>>> {
        let bit = 1 << self.ordinal;
        if graph::captures(self.ordinal) || INSIDE.get() & bit != 0 {
            return Some(None);
        }
        let shared = match self.queue.try_read() {
            Ok(shared) => shared,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        INSIDE.set(INSIDE.get() | bit);
        Some(Some(Inside { bit, _shared: shared }))
    }

    /// Makes the GPU's context the calling thread's.
    fn bind(&self) -> Result<()> {
        if BOUND.get() != Some(self.ordinal) {
            // SAFETY: the context lives as long as the process.
            unsafe { result::ctx::set_current(self.context) }
                .map_err(|cause| self.failed("could not bind the context", cause))?;
            BOUND.set(Some(self.ordinal));
        }
        Ok(())
    }

    /// Its number among the machine's GPUs.
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// An error of this GPU.
    fn error(&self, detail: impl Into<String>) -> Error {
        Error::gpu(self.ordinal, detail)
    }

    fn failed(&self, what: &str, cause: result::DriverError) -> Error {
        self.out_of_memory_or(cause, || self.error(format!("{what}: {}", describe(cause))))
    }

    /// Where the calling thread queues its work: the GPU's own stream or a forked one.
    fn stream(&self) -> sys::CUstream {
        match current_stream(Some(self.ordinal)) {
            0 => self.stream,
            number => self.forked.stream(number),
        }
    }

    /// Waits until all work queued on a stream is done.
    fn wait_for(&self, stream: sys::CUstream) -> Result<()> {
        // SAFETY: the streams live as long as the process.
        unsafe { result::stream::synchronize(stream) }
            .map_err(|cause| self.failed("earlier work failed", cause))
    }

    /// Waits until all queued work is done, and before that for another thread's capture: a stream that is captured
    /// cannot be waited for.
    ///
    /// # Errors
    /// If some of the work failed.
    pub(crate) fn synchronize(&self) -> Result<()> {
        let _queue = self.enter();
        self.forked.all().into_iter().chain([self.stream]).try_for_each(|stream| self.wait_for(stream))
    }
}

/// What the driver says of an error, with its name.
fn describe(cause: result::DriverError) -> String {
    let text = |text: std::result::Result<&std::ffi::CStr, _>| {
        text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    format!("{} ({})", text(cause.error_string()), text(cause.error_name()))
}

/// The GPU's name as the driver has it, with its compute capability.
///
/// # Errors
/// If there is no such GPU, or no driver.
pub fn name(ordinal: usize) -> Result<String> {
    let gpu = Gpu::get(ordinal)?;
    Ok(format!("{} (compute capability {}.{})", gpu.name, gpu.capability.0, gpu.capability.1))
}

/// Checks that a GPU can be used: that it is there, and the libraries are.
///
/// # Errors
/// Says what is missing and what to install.
pub fn check(ordinal: usize) -> Result<()> {
    Gpu::get(ordinal)?;
    libraries::need_nvrtc(ordinal)?;
    libraries::need_cudnn(ordinal)
}

/// Waits until the work queued on a GPU is done.
///
/// # Errors
/// If some of it failed.
pub fn synchronize(ordinal: usize) -> Result<()> {
    Gpu::get(ordinal)?.synchronize()
}
