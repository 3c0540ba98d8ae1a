//! GPUs as operations see them: the runtime of `relievo-cuda`, with tensors in place of memory.
//!
//! An operation starts one of its kernels with [`launch`]. In a program without the feature `cuda` all of this is there, and
//! asking for a GPU is an error.

pub(crate) use relievo_cuda::{ConvExtents, Gpu, Memory, Product, Relu, current_stream, marked};
pub use relievo_cuda::{
    Cost, DevicePointer, Error, ForkedStreams, GpuMemoryStatistics, Graph, Kernels, Launch, Pass, Profiler,
    Span, check, kernel_int, memory_statistics, name, synchronize,
};

#[doc(hidden)]
pub use relievo_cuda::kernels;

use crate::{DataType, Device, Result, Tensor};

/// A launch of the kernel `name` of a file, with `real` of the given type, on a device.
///
/// # Errors
/// If the device is no GPU, or the kernel does not compile.
pub fn launch(
    device: Device,
    kernels: &'static Kernels,
    name: &'static str,
    data_type: DataType,
) -> Result<Launch> {
    let Device::Cuda(ordinal) = device else {
        return Err(crate::Error::Device { device, detail: format!("{name} is a kernel for GPUs") });
    };
    Ok(Launch::new(ordinal, kernels, name, data_type)?)
}

/// The cost of reading or writing these tensors once.
pub(crate) fn cost_of<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Cost {
    let bytes = |tensor: &Tensor| (tensor.numel() * tensor.data_type().bytes()) as f64;
    Cost { bytes: tensors.into_iter().map(bytes).sum(), flops: 0.0 }
}

impl DevicePointer for Tensor {
    fn memory(&self) -> Option<&Memory> {
        self.gpu_memory()
    }

    fn memory_mut(&mut self) -> std::result::Result<Option<&Memory>, Error> {
        self.own_gpu_memory()
    }

    fn data_type(&self) -> DataType {
        Tensor::data_type(self)
    }

    fn describe(&self) -> String {
        format!("tensor {}", self.shape())
    }
}
