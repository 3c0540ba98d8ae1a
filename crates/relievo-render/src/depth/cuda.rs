//! Canonical depths on a GPU.

use relievo_tensor::cuda::{Kernels, kernel_int};
use relievo_tensor::{Backward, Result, Tensor};

use super::{BORDER, CanonicalDepth, Doubling};
use crate::cuda::{empty, kernels, launch};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = kernels!("canonical_depth");

/// Threads that share an image.
const THREADS: usize = 1024;

/// The settings as `kernel.cu` has them.
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    rows: i32,
    columns: i32,
    batch: i32,
    middle: f32,
    half: f32,
    dome: f32,
    border_depth: f32,
    border: i32,
    doubling: i32,
}

impl CanonicalDepth {
    fn argument(&self, extents: [usize; 3]) -> Result<Argument> {
        let int = |extent| kernel_int(extent, "canonical_depth");
        let [batch, rows, columns] = extents;
        let range = self.settings.range;
        Ok(Argument {
            rows: int(rows)?,
            columns: int(columns)?,
            batch: int(batch)?,
            middle: (range.max + range.min) / 2.0,
            half: range.margin(),
            dome: self.settings.dome,
            border_depth: self.settings.border_depth,
            border: int(BORDER)?,
            doubling: match self.settings.doubling {
                Doubling::Single => 0,
                Doubling::Repeated => 1,
                Doubling::Mirrored => 2,
            },
        })
    }
}

/// The two depths, and, if it will be needed, what [`backward`] works from.
pub(super) fn forward(
    operation: &CanonicalDepth,
    raw: &Tensor,
    extents: [usize; 3],
    is_recording: bool,
) -> Result<([Tensor; 2], Option<Tensor>)> {
    let mut depth = raw.empty_like(raw.shape())?;
    let mut canonical = empty(raw.device(), operation.doubled(extents))?;
    let mut squashed = is_recording.then(|| raw.empty_like(raw.shape())).transpose()?;
    launch(raw, &KERNELS, "forward")?
        .output(&mut depth)
        .output(&mut canonical)
        .optional_output(squashed.as_mut())
        .input(raw)
        .structure(operation.argument(extents)?)
        .blocks([extents[0], 1, 1], THREADS)?;
    Ok(([depth, canonical], squashed))
}

pub(super) fn backward(
    operation: &CanonicalDepth,
    backward: &Backward<'_>,
    extents: [usize; 3],
) -> Result<Tensor> {
    let squashed = &backward.saved[0];
    let mut draw = squashed.empty_like(squashed.shape())?;
    launch(squashed, &KERNELS, "backward")?
        .output(&mut draw)
        .input(squashed)
        .optional_input(backward.gradients[0].as_ref())
        .optional_input(backward.gradients[1].as_ref())
        .structure(operation.argument(extents)?)
        .blocks([extents[0], 1, 1], THREADS)?;
    Ok(draw)
}
