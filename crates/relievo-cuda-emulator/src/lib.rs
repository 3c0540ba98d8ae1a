//! CUDA on the CPU, for tests on machines without a GPU.
//!
//! [`load`] compiles, once, three small C++ libraries and loads them under the names of NVIDIA's: the driver
//! (`libcuda.so`), the compiler of kernels (`libnvrtc.so`) and cuDNN (`libcudnn.so`). Whoever opens those names later
//! in the same process finds the emulator; the program under test runs as it would on a GPU, its kernels as C++ on all
//! cores.
//!
//! It is a tool to find mistakes, no model of a GPU: see the crate's README for what it checks and what it cannot.

#[cfg(target_os = "linux")]
mod libraries;

/// Puts the emulator in the place of CUDA for the rest of the process.
///
/// Call it before anything opens `libcuda.so`. The first call on a machine compiles for some seconds, later ones
/// load what was compiled. The libraries lie in `target/cuda-emulator`.
///
/// # Errors
/// A sentence that says what is missing: Linux, or a C++ compiler (`CXX`, else `c++`). Tests print it and pass.
pub fn load() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return libraries::load();
    #[cfg(not(target_os = "linux"))]
    return Err("the CUDA emulator runs on Linux only".into());
}

/// The number of the GPU that tests are to use: that of `RELIEVO_DEVICE` (`cuda:0`), a real one, if it is set; else 0,
/// the emulator's. `None`, with a message, where there is neither.
pub fn test_gpu() -> Option<usize> {
    if let Ok(device) = std::env::var("RELIEVO_DEVICE") {
        let ordinal = device.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        if ordinal.is_none() {
            println!("skipped: RELIEVO_DEVICE is {device}, no GPU");
        }
        return ordinal;
    }
    match load() {
        Ok(()) => Some(0),
        Err(missing) => {
            println!("skipped: {missing}");
            None
        }
    }
}
