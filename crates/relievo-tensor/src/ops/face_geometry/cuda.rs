//! The geometry of faces on a GPU: one block.

use crate::cuda::{self, Kernels};
use crate::{DataType, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "face_geometry", source: include_str!("kernel.cu") };

/// Threads of the block.
const THREADS: usize = 256;

pub(super) fn error(faces: usize, [places, depths, known]: [&Tensor; 3], range: f32) -> Result<Tensor> {
    let mut y = Tensor::empty_on(places.device(), DataType::F32, [])?;
    cuda::launch(places.device(), &KERNELS, "error", DataType::F32)?
        .output(&mut y)
        .input(places)
        .input(depths)
        .input(known)
        .float(range)
        .int(faces)
        .blocks([1, 1, 1], THREADS)?;
    Ok(y)
}

/// The gradients of places and depths, given that of the error.
pub(super) fn gradients(
    faces: usize,
    [places, depths, known]: [&Tensor; 3],
    range: f32,
    dy: &Tensor,
) -> Result<[Tensor; 2]> {
    let (mut dplaces, mut ddepths) = (places.zeros_like()?, depths.zeros_like()?);
    cuda::launch(places.device(), &KERNELS, "gradients", DataType::F32)?
        .output(&mut dplaces)
        .output(&mut ddepths)
        .input(places)
        .input(depths)
        .input(known)
        .input(dy)
        .float(range)
        .int(faces)
        .blocks([1, 1, 1], THREADS)?;
    Ok([dplaces, ddepths])
}
