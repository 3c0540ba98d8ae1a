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

use relievo_require::{Requirement, skip};

/// Puts the emulator in the place of CUDA for the rest of the process.
///
/// Call it before anything opens `libcuda.so`. The first call on a machine compiles for some seconds, later ones
/// load what was compiled. The libraries lie in `target/cuda-emulator`.
///
/// # Errors
/// A sentence that says what is missing: Linux, or a C++ compiler (`CXX`, else `c++`).
pub fn load() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return libraries::load();
    #[cfg(not(target_os = "linux"))]
    return Err("the CUDA emulator runs on Linux only".into());
}

/// The number of the GPU that tests are to use: that of `RELIEVO_DEVICE` (`cuda:0`), a real one, if it is set; else 0,
/// the emulator's. `None` where there is neither: the test is to be skipped.
///
/// # Panics
/// If `RELIEVO_REQUIRE` has `gpu` and there is none, or if `RELIEVO_DEVICE` names no GPU.
pub fn test_gpu() -> Option<usize> {
    if let Ok(device) = std::env::var("RELIEVO_DEVICE") {
        let ordinal = device.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        return Some(ordinal.unwrap_or_else(|| panic!("RELIEVO_DEVICE is {device}, not cuda:NUMBER")));
    }
    or_skip(load(), Requirement::Gpu).map(|()| 0)
}

/// As [`load`], for tests of the emulator itself: `None` where it cannot be compiled, so that the test is skipped.
///
/// # Panics
/// If `RELIEVO_REQUIRE` has `emulator` and it cannot be compiled.
pub fn test_emulator() -> Option<()> {
    or_skip(load(), Requirement::Emulator)
}

fn or_skip(loaded: Result<(), String>, requirement: Requirement) -> Option<()> {
    loaded.map_err(|missing| skip(requirement, &missing)).ok()
}
