//! Sums of the counts before each of a list.

use relievo_tensor::cuda::Kernels;
use relievo_tensor::{Device, Result, Tensor};

use super::{THREADS, empty, launch};

/// Counts of a block. As in `scan.cuh`.
const SCANNED: usize = 1024;

/// For `counts` `[n]` the sum of those before each and of all, `[n + 1]`, and the sum of all, of 64 bits. `kernels` is a
/// file that has `scan.cuh`.
pub(super) fn scan(kernels: &'static Kernels, counts: &Tensor) -> Result<[Tensor; 2]> {
    let (device, count) = (counts.device(), counts.numel());
    let blocks = count.div_ceil(SCANNED);
    let mut sums = empty(device, [blocks, 2])?;
    launch(device, kernels, "scan_sums")?
        .output(&mut sums)
        .input(counts)
        .int(count)
        .blocks([blocks, 1, 1], THREADS)?;
    let mut starts = empty(device, [count + 1])?;
    let mut total = empty(device, [2])?;
    launch(device, kernels, "scan")?
        .output(&mut starts)
        .output(&mut total)
        .input(&sums)
        .input(counts)
        .int(count)
        .blocks([blocks, 1, 1], THREADS)?;
    Ok([starts, total])
}

/// The sum of all, when the GPU is done.
pub(super) fn read(total: &Tensor) -> Result<u64> {
    let total = total.to_device(Device::Cpu)?;
    let [low, high] = [0, 1].map(|word| u64::from(total.data()[word].to_bits()));
    Ok(high << 32 | low)
}
