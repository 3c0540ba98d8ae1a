//! NVIDIA GPUs, through the CUDA driver, NVRTC and cuDNN. The libraries are looked for when a GPU is first asked for,
//! so one program serves machines with and without one, and no toolkit is needed to build it.
//!
//! Work is queued on one stream of each GPU, in the order of the calls; nothing waits for it but a copy to main memory.
//! `memory.rs` is the pool (and the arena of captured graphs), `kernels.rs` compiles and launches CUDA C, `dnn.rs` has
//! cuDNN's convolutions, `graph.rs` captures a sequence of work to replay it, `lanes.rs` puts independent work side by
//! side, `profile.rs` tells where the time of captured work goes.
//!
//! [`Launch`] is how an operation starts one of its kernels, in this crate and in others.

mod dnn;
mod feed;
mod fetch;
mod graph;
mod kernels;
pub(crate) mod lanes;
mod libraries;
mod lowering;
mod memory;
pub(crate) mod profile;
mod time;

use std::cell::Cell;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use cudarc::driver::{result, sys};

use crate::{Device, Error, Result};

pub(crate) use dnn::{Product, Relu};
pub use dnn::{allow_tf32, set_deterministic};
pub use feed::UploadQueue;
pub use fetch::Download;
pub use graph::Graph;
pub(crate) use kernels::compile_check;
pub use kernels::{Kernels, Launch};
pub use lanes::{LANES, Lanes, set_lanes};
pub(crate) use lowering::Lowering;
pub(crate) use memory::Memory;
pub use memory::{GpuMemoryStatistics, memory_statistics};
pub use profile::{Ceilings, Cost, Pass, Profiler, Span};

/// How many GPUs of a machine can be used at most.
const MAX_GPUS: usize = 16;

/// The oldest driver that has all functions called here, by the CUDA it was made for.
const OLDEST_DRIVER: i32 = 12_080;

/// A GPU, opened.
pub(crate) struct Gpu {
    /// Its number among the machine's GPUs.
    ordinal: usize,
    /// As the driver calls it.
    name: String,
    /// Compute capability, major and minor.
    capability: (i32, i32),
    context: sys::CUcontext,
    stream: sys::CUstream,
    lanes: lanes::Streams,
    /// Held to write while a graph is captured: what other threads queue then would become a part of it.
    queue: RwLock<()>,
    pool: Mutex<memory::Pool>,
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
    /// Whether this thread is capturing a graph.
    static CAPTURES: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread has entered ([`Gpu::enter`]): to enter again could wait for a capture that waits for it.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Keeps captures out; see [`Gpu::enter`].
struct Inside<'a> {
    _shared: RwLockReadGuard<'a, ()>,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

impl Gpu {
    /// The GPU of this number, opened at the first call.
    pub(crate) fn get(ordinal: usize) -> Result<&'static Self> {
        static GPUS: [OnceLock<Result<Gpu>>; MAX_GPUS] = [const { OnceLock::new() }; MAX_GPUS];
        let Some(place) = GPUS.get(ordinal) else {
            return Err(error(ordinal, format!("only the first {MAX_GPUS} GPUs of a machine can be used")));
        };
        let gpu = place.get_or_init(|| Self::open(ordinal)).as_ref().map_err(Clone::clone)?;
        gpu.bind()?;
        Ok(gpu)
    }

    fn open(ordinal: usize) -> Result<Self> {
        let failed = |what: &'static str| {
            move |cause: result::DriverError| error(ordinal, format!("{what}: {}", describe(cause)))
        };
        libraries::need_driver(ordinal)?;
        result::init().map_err(failed("the driver does not start"))?;
        let mut version = 0;
        // SAFETY: it points to an integer.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(failed("the driver does not tell its version"))?;
        if version < OLDEST_DRIVER {
            let release = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
            let (found, needed) = (release(version), release(OLDEST_DRIVER));
            let detail = format!(
                "the NVIDIA driver is one for CUDA {found}; one for {needed} or later is needed (driver 570 or later)"
            );
            return Err(error(ordinal, detail));
        }
        let count = result::device::get_count().map_err(failed("the GPUs cannot be counted"))?;
        if ordinal >= usize::try_from(count).unwrap_or(0) {
            return Err(error(ordinal, format!("this machine has {count} GPUs, counted from cuda:0")));
        }
        let device = result::device::get(ordinal as i32).map_err(failed("the GPU cannot be opened"))?;
        let name = result::device::get_name(device).map_err(failed("the GPU does not tell its name"))?;
        let attribute = |which| {
            // SAFETY: the device was just obtained.
            unsafe { result::device::get_attribute(device, which) }.map_err(failed("the GPU cannot be asked"))
        };
        use sys::CUdevice_attribute_enum as Attribute;
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if capability < (8, 0) {
            let (major, minor) = capability;
            let detail = format!(
                "{name} has compute capability {major}.{minor}; bf16 needs 8.0 (Ampere) or later: use --device cpu"
            );
            return Err(error(ordinal, detail));
        }
        // SAFETY: the device exists. The primary context is shared with other users of the driver in this process and
        // kept until the process ends.
        let context =
            unsafe { result::primary_ctx::retain(device) }.map_err(failed("no context can be made"))?;
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(context) }.map_err(failed("the context cannot be bound"))?;
        BOUND.set(Some(ordinal));
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(failed("no stream can be made"))?;
        let lanes = lanes::Streams::new().map_err(failed("no streams can be made"))?;
        Ok(Self {
            ordinal,
            name,
            capability,
            context,
            stream,
            lanes,
            queue: RwLock::default(),
            pool: Mutex::default(),
            modules: Mutex::default(),
            dnn: OnceLock::new(),
        })
    }

    /// Waits while another thread captures a graph, and keeps others from beginning one until the result is dropped. To
    /// be called before a mutex is taken that a capturing thread may need.
    fn enter(&self) -> Option<Inside<'_>> {
        if CAPTURES.get() || INSIDE.replace(true) {
            return None;
        }
        Some(Inside { _shared: self.queue.read().unwrap_or_else(PoisonError::into_inner) })
    }

    /// Makes the GPU's context the calling thread's.
    fn bind(&self) -> Result<()> {
        if BOUND.get() != Some(self.ordinal) {
            // SAFETY: the context lives as long as the process.
            unsafe { result::ctx::set_current(self.context) }
                .map_err(|cause| self.failed("the context cannot be bound", cause))?;
            BOUND.set(Some(self.ordinal));
        }
        Ok(())
    }

    /// Its place in a tensor's address.
    pub(crate) fn device(&self) -> Device {
        Device::Cuda(self.ordinal)
    }

    fn failed(&self, what: &str, cause: result::DriverError) -> Error {
        if let Some(refused) = self.refused_memory(cause) {
            return refused;
        }
        error(self.ordinal, format!("{what}: {}", describe(cause)))
    }

    /// Where the calling thread queues its work: the GPU's stream, or that of a lane.
    fn stream(&self) -> sys::CUstream {
        match lanes::current(self.device()) {
            0 => self.stream,
            lane => self.lanes.lane(lane),
        }
    }

    /// Waits until all work queued on a stream is done.
    fn wait_for(&self, stream: sys::CUstream) -> Result<()> {
        // SAFETY: the streams live as long as the process.
        unsafe { result::stream::synchronize(stream) }
            .map_err(|cause| self.failed("work queued before failed", cause))
    }

    /// Waits until all queued work is done, and before that for another thread's capture: a stream that is captured
    /// cannot be waited for.
    pub(crate) fn synchronize(&self) -> Result<()> {
        let _queue = self.enter();
        self.lanes.all().iter().chain([&self.stream]).try_for_each(|stream| self.wait_for(*stream))
    }
}

/// An error of a GPU.
fn error(ordinal: usize, detail: impl Into<String>) -> Error {
    Error::Device { device: Device::Cuda(ordinal), detail: detail.into() }
}

/// What the driver says of an error, with its name.
fn describe(cause: result::DriverError) -> String {
    let text = |text: std::result::Result<&std::ffi::CStr, _>| {
        text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    format!("{} ({})", text(cause.error_string()), text(cause.error_name()))
}

/// What the driver calls the GPU, and its compute capability.
///
/// # Errors
/// If there is no such GPU, or no driver.
pub fn name(ordinal: usize) -> Result<String> {
    let gpu = Gpu::get(ordinal)?;
    Ok(format!("{} (compute capability {}.{})", gpu.name, gpu.capability.0, gpu.capability.1))
}

/// Whether a GPU can be used: it is there, and so are the libraries.
///
/// # Errors
/// What is missing, and what to install.
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
