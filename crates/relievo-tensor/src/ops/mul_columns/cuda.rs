//! Columns times fixed numbers on a GPU. The numbers travel with the launch.

use crate::cuda::{self, Kernels};
use crate::{Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "mul_columns", source: include_str!("kernel.cu") };

/// Factors in a launch.
const FACTORS: usize = 256;

/// As in the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct Factors {
    of: [f32; FACTORS],
}

/// `x [B,C]` with each column times its factor.
pub(super) fn scaled(factors: &[f32], x: &Tensor) -> Result<Tensor> {
    let mut y = x.empty_like(x.shape())?;
    for (index, piece) in factors.chunks(FACTORS).enumerate() {
        let mut of = [0.0; FACTORS];
        of[..piece.len()].copy_from_slice(piece);
        let count = x.numel() / factors.len() * piece.len();
        cuda::launch(x.device(), &KERNELS, "mul_columns", x.data_type())?
            .output(&mut y)
            .input(x)
            .structure(Factors { of })
            .int(index * FACTORS)
            .int(piece.len())
            .int(factors.len())
            .int(count)
            .elements(count)?;
    }
    Ok(y)
}
