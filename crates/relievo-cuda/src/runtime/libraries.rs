//! Checks that the libraries which a GPU needs are installed, and says what to install where they are not.

use crate::{Error, Result};

/// The driver itself.
pub(super) fn need_driver(ordinal: usize) -> Result<()> {
    // SAFETY: opens the library if it is there; its initialisers are NVIDIA's.
    if unsafe { cudarc::driver::sys::is_culib_present() } {
        return Ok(());
    }
    Err(Error::gpu(
        ordinal,
        "no NVIDIA driver was found (libcuda.so.1). Install the driver of your GPU (Debian: nvidia-driver, Ubuntu: \
         ubuntu-drivers install)",
    ))
}

/// The compiler of kernels.
pub(super) fn need_nvrtc(ordinal: usize) -> Result<()> {
    // SAFETY: as above.
    if unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return Ok(());
    }
    Err(Error::gpu(
        ordinal,
        "NVRTC was not found (libnvrtc.so). Install it (pip install nvidia-cuda-nvrtc, or the package cuda-nvrtc of \
         NVIDIA's repository) and add its folder to LD_LIBRARY_PATH",
    ))
}

/// The convolutions.
pub(super) fn need_cudnn(ordinal: usize) -> Result<()> {
    // SAFETY: as above.
    if unsafe { cudarc::cudnn::sys::is_culib_present() } {
        return Ok(());
    }
    Err(Error::gpu(
        ordinal,
        "cuDNN 9 was not found (libcudnn.so.9). Install it (pip install nvidia-cudnn-cu13, or the package \
         cudnn9-cuda-13 of NVIDIA's repository) and add its folder to LD_LIBRARY_PATH",
    ))
}
