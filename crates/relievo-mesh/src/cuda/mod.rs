//! The renderer on GPUs: the launches of its operations, and what they share. Kernels are in the `.cu` files beside.
//!
//! Results are the CPU's: what decides about samples and edges is computed in the same order and without fused
//! multiply-adds, so from the same screen coordinates the same faces are seen, to the bit. Sums whose terms come in any
//! order are added up in fixed point (`common.cuh`), all others in a fixed order, so every run gives the same bits.
//!
//! The host waits for the GPU twice for each object of a forward pass: for whether a vertex is behind the camera, which is rare and handled
//! by the host, and for the total length of the lists of bins, by which their memory is sized.

pub(crate) mod antialias;
pub(crate) mod attributes;
pub(crate) mod average;
pub(crate) mod boundary;
pub(crate) mod camera;
pub(crate) mod clip;
pub(crate) mod faces;
pub(crate) mod raster;
pub(crate) mod resolve;
mod scan;
pub(crate) mod shade;
pub(crate) mod soft;
mod tables;
mod topology;
mod transfer;

pub(crate) use tables::{FaceTables, Table, TextureTable, Words, pieces};
pub(crate) use transfer::{on_device, on_host};

use relievo_tensor::cuda::{Kernels, Launch};
use relievo_tensor::{DataType, Device, Result, Tensor};

/// Threads of a block.
pub(crate) const THREADS: usize = 256;

/// The source of a file of kernels: what all share, some headers, the file.
macro_rules! kernels {
    ($name:literal $(, $header:literal)*) => {
        relievo_tensor::cuda::Kernels {
            name: concat!("mesh_", $name),
            source: concat!(
                include_str!("common.cuh"), $(include_str!($header),)*
                "\n#line 1 \"", $name, ".cu\"\n", include_str!(concat!($name, ".cu")),
            ),
        }
    };
}
pub(crate) use kernels;

/// All files of kernels of this crate: for a test that compiles them.
pub(crate) fn files() -> Vec<&'static Kernels> {
    vec![
        &antialias::KERNELS,
        &attributes::KERNELS,
        &average::KERNELS,
        &boundary::KERNELS,
        &camera::KERNELS,
        &clip::KERNELS,
        &faces::KERNELS,
        &raster::KERNELS,
        &resolve::KERNELS,
        &shade::KERNELS,
        &soft::KERNELS,
        &tables::KERNELS,
        &topology::KERNELS,
    ]
}

/// A launch on a device. Everything in this crate is f32.
pub(crate) fn launch(device: Device, kernels: &'static Kernels, name: &'static str) -> Result<Launch> {
    relievo_tensor::cuda::launch(device, kernels, name, DataType::F32)
}

/// A tensor on a GPU, to be written whole; of whole numbers, too.
pub(crate) fn empty<const N: usize>(device: Device, shape: [usize; N]) -> Result<Tensor> {
    Tensor::empty_on(device, DataType::F32, shape)
}

/// As [`empty`], of zeros.
pub(crate) fn zeros<const N: usize>(device: Device, shape: [usize; N]) -> Result<Tensor> {
    let mut zeros = empty(device, shape)?;
    zeros.clear()?;
    Ok(zeros)
}

/// Blocks with a thread for each of `count` things of every image.
pub(crate) fn blocks(count: usize, images: usize) -> [usize; 3] {
    [count.div_ceil(THREADS), images, 1]
}

/// Bits of a unit of fixed point below the largest term, so that there is room for `terms` of them.
pub(crate) fn room(terms: usize) -> usize {
    62 - terms.max(1).next_power_of_two().ilog2() as usize
}
