//! The runtime of NVIDIA GPUs under relievo's tensors: memory, kernels compiled at run time, captured graphs, forked
//! streams, cuDNN's convolutions. It knows no tensors and no operations; `relievo-tensor` builds on it.
//!
//! The driver, NVRTC and cuDNN are opened when a GPU is first asked for, so one program serves machines with and without
//! one, and no toolkit is needed to build it. Without the feature `driver` the interface is the same, and [`Gpu::get`]
//! returns an error: callers need no `cfg`.
//!
//! - [`Memory`] is a block of a GPU's memory, from a pool and back to it.
//! - [`Kernels`] is a file of CUDA C; a [`Launch`] runs one of its kernels, after it has checked the arguments against the
//!   kernel's declaration.
//! - [`Graph`] captures a sequence of work and replays it. It owns the memory that the work uses.
//! - [`ForkedStreams`] runs independent work side by side.
//! - [`Gpu::convolve`] is one of the three products of a convolution, by the lowering and the algorithm that were fastest.
//! - [`UploadQueue`] and [`Download`] move numbers through pinned memory.
//! - [`Profiler`] takes the time of every operation within a graph.

mod error;
mod types;

#[cfg(not(feature = "driver"))]
mod dummy;
#[cfg(feature = "driver")]
mod runtime;

#[cfg(not(feature = "driver"))]
pub use dummy::{
    Download, ForkedStreams, Gpu, Graph, Launch, Memory, Profiler, UploadQueue, check, compile_check,
    current_stream, kernels, marked, memory_statistics, name, synchronize,
};
#[cfg(feature = "driver")]
pub use runtime::{
    Download, ForkedStreams, Gpu, Graph, Launch, Memory, Profiler, UploadQueue, check, compile_check,
    current_stream, kernels, marked, memory_statistics, name, synchronize,
};

pub use error::Error;
pub(crate) use error::Result;
pub use types::{
    ConvExtents, ConvPolicy, Cost, DataType, DevicePointer, GpuMemoryStatistics, Kernels, Lowering, Pass,
    Product, Relu, Span, kernel_int,
};
