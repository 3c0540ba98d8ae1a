//! Priors of columns on a GPU: one block. The priors travel with the launch.

use super::{ColumnPrior, MOST};
use crate::cuda::{self, Kernels};
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "column_prior", source: include_str!("kernel.cu") };

/// Threads of the block.
const THREADS: usize = 256;

/// As in the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Prior {
    column: i32,
    has_mean: i32,
    mean: f32,
    deviation: f32,
}

/// As in the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct Priors {
    of: [Prior; MOST],
}

impl Priors {
    fn new(priors: &[ColumnPrior]) -> Self {
        let mut of = [Prior::default(); MOST];
        for (prior, there) in priors.iter().zip(&mut of) {
            *there = Prior {
                column: prior.column as i32,
                has_mean: i32::from(prior.mean.is_some()),
                mean: prior.mean.unwrap_or_default(),
                deviation: prior.deviation,
            };
        }
        Self { of }
    }
}

/// The error, f32.
pub(super) fn forward(
    priors: &[ColumnPrior],
    [rows, columns]: [usize; 2],
    [x, counted]: [&Tensor; 2],
) -> Result<Tensor> {
    let mut y = Tensor::empty_on(x.device(), DataType::F32, [])?;
    cuda::launch(x.device(), &KERNELS, "forward", DataType::F32)?
        .output(&mut y)
        .input(x)
        .input(counted)
        .structure(Priors::new(priors))
        .int(priors.len())
        .int(rows)
        .int(columns)
        .blocks([1, 1, 1], THREADS)?;
    Ok(y)
}

/// The gradient of `x`, given that of the error.
pub(super) fn backward(
    priors: &[ColumnPrior],
    [rows, columns]: [usize; 2],
    [x, counted]: [&Tensor; 2],
    dy: &Tensor,
) -> Result<Tensor> {
    let mut dx = x.zeros_like()?;
    cuda::launch(x.device(), &KERNELS, "backward", DataType::F32)?
        .output(&mut dx)
        .input(x)
        .input(counted)
        .input(dy)
        .structure(Priors::new(priors))
        .int(priors.len())
        .int(rows)
        .int(columns)
        .blocks([1, 1, 1], THREADS)?;
    Ok(dx)
}
