//! Which lowering and algorithm are fastest for a product: measured, with all the copies and passes they need.

use std::ffi::c_void;

use cudarc::cudnn::sys;
use cudarc::driver::result as driver;

use super::super::{Gpu, Memory, time};
use super::choices::Choice;
use super::plan::{Candidate, Plan};
use super::{Arguments, Key, Refusal, WORKSPACE_LIMIT};
use crate::{DataType, Lowering, Result};

/// The fastest lowering and algorithm that fit.
pub(super) fn measure(
    gpu: &'static Gpu,
    handle: sys::cudnnHandle_t,
    key: &Key,
    arguments: &Arguments<'_>,
) -> Result<(Choice, Plan)> {
    // Work on other streams would be measured too.
    gpu.synchronize()?;
    // Not from the pool, which would keep it.
    // SAFETY: freed below, after all that uses it was waited for.
    let workspace = unsafe { driver::malloc_sync(WORKSPACE_LIMIT) }.ok();
    // Where so little is left, from the pool after all: it frees unused blocks, or says what is missing. A choice made
    // with less would stay.
    let pooled = workspace.is_none().then(|| Memory::empty(gpu, WORKSPACE_LIMIT)).transpose()?;
    let pointer = workspace.or(pooled.as_ref().map(Memory::pointer)).unwrap_or(0);
    let found = fastest(gpu, handle, key, arguments, pointer);
    if let Some(workspace) = workspace {
        // After an error, something may still run.
        gpu.wait_for(gpu.stream())?;
        // SAFETY: as above.
        unsafe { driver::free_sync(workspace) }
            .map_err(|cause| gpu.failed("could not free memory", cause))?;
    }
    found
}

/// [`measure`] with a workspace of [`WORKSPACE_LIMIT`] bytes.
fn fastest(
    gpu: &'static Gpu,
    handle: sys::cudnnHandle_t,
    key: &Key,
    arguments: &Arguments<'_>,
    workspace: u64,
) -> Result<(Choice, Plan)> {
    let (mut found, mut refusals) = (Vec::new(), Vec::new());
    for lowering in Lowering::ALL {
        found.extend(fastest_in_lowering(gpu, handle, key, lowering, arguments, workspace, &mut refusals)?);
    }
    // cuDNN compares its algorithms, but not what else a lowering takes.
    let mut fastest: Option<(f64, Choice, Plan)> = None;
    let several = found.len() > 1 && !key.policy.deterministic;
    if key.policy.deterministic {
        // Not by time, see below. The last one is for shapes like this.
        found.reverse();
    }
    for (choice, plan) in found {
        let seconds = if several {
            let queue = || plan.compute(gpu, handle, arguments, workspace);
            queue()?;
            time::median_seconds(gpu, queue)?
        } else {
            0.0
        };
        if fastest.as_ref().is_none_or(|(least, ..)| seconds < *least) {
            fastest = Some((seconds, choice, plan));
        }
    }
    let Some((_, choice, plan)) = fastest else {
        let (product, extents) = (key.product, key.extents);
        let detail = format!("cuDNN has no algorithm for {product:?} of {extents:?} {refusals:?}");
        return Err(gpu.error(detail));
    };
    Ok((choice, plan))
}

/// The fastest algorithm that fits, in one lowering; `None` if there is none or the lowering does not apply. That cuDNN
/// does not even measure a lowering, as with too few channels for a type, is a reason to try the next one.
pub(super) fn fastest_in_lowering(
    gpu: &'static Gpu,
    handle: sys::cudnnHandle_t,
    key: &Key,
    lowering: Lowering,
    arguments: &Arguments<'_>,
    workspace: u64,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<(Choice, Plan)>> {
    let Some(mut plan) = Plan::describe(gpu, key, lowering)? else { return Ok(None) };
    let lowered = plan.operands(gpu, arguments.operands)?;
    let candidates = match plan.find(handle, lowered.pointers(), workspace as *mut c_void, WORKSPACE_LIMIT) {
        Ok(candidates) => candidates,
        Err(refusal) => {
            refusals.push(refusal);
            return Ok(None);
        }
    };
    let exact = sys::cudnnMathType_t::CUDNN_FMA_MATH as u32;
    let deterministic = key.policy.deterministic;
    let fits = |candidate: &Candidate| {
        candidate.succeeds
            && candidate.memory <= WORKSPACE_LIMIT
            && (candidate.deterministic || !deterministic)
            && (key.data_type != DataType::F32 || key.policy.tf32 || candidate.math == exact)
    };
    let mut candidates: Vec<_> = candidates.into_iter().filter(fits).collect();
    if deterministic {
        // A choice by time would be another one in a run that has nothing on disk. In all three products number 1 is a
        // deterministic one that takes tensor cores.
        candidates.sort_by_key(|one| (one.algorithm != 1, one.algorithm, one.math));
    }
    for Candidate { algorithm, math, .. } in candidates {
        // A later cuDNN may have algorithms that this program does not know.
        let Some(choice) = Choice::checked(lowering, algorithm, math) else { continue };
        if let Err(refusal) = plan.choose(handle, algorithm, math) {
            refusals.push(refusal);
            continue;
        }
        if plan.workspace > WORKSPACE_LIMIT {
            continue;
        }
        // cuDNN measures convolutions alone: which of the algorithms take a ReLU as well is found out by trying.
        if let Some(Err(refusal)) = plan.run_fused(handle, arguments, workspace) {
            refusals.push(refusal);
            continue;
        }
        return Ok(Some((choice, plan)));
    }
    Ok(None)
}
