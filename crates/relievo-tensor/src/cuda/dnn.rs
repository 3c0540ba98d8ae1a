//! cuDNN's convolutions: the three products of a convolution, each by the algorithm that was fastest when measured.
//!
//! The extents may be put to cuDNN in several lowerings (`lowerings.rs`), and the fastest of those is chosen as well, the ReLU
//! that may follow included.
//!
//! Measuring takes seconds, so what was chosen is kept on disk, by GPU, version of cuDNN, and extents.

mod plan;

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::cudnn::{result, sys};
use cudarc::driver::result as driver;
use cudarc::driver::sys::CUdeviceptr;

use super::lanes::{self, LANES};
use super::lowering::Lowering;
use super::memory::Memory;
use super::{Gpu, error, kernels, libraries, time};
use crate::ops::Conv2dGeometry;
use crate::{DataType, Error, Result};
use plan::{Candidate, Plan};

/// The most memory an algorithm may use beside its operands, in bytes.
const WORKSPACE_LIMIT: usize = 256 << 20;

/// Bytes of zeros that stand for a bias where there is none: as many channels as a convolution may have with a ReLU in
/// one call.
const ZEROS: usize = 1 << 16;

/// Whether convolutions of f32 may round their factors to tf32 (10 bits of mantissa).
static TF32: AtomicBool = AtomicBool::new(false);

/// Whether only algorithms that give the same bits every time may be chosen.
static DETERMINISTIC: AtomicBool = AtomicBool::new(false);

/// Lets convolutions of f32 on a GPU round their factors to tf32, which has the range of f32 and 10 bits of mantissa
/// and is several times as fast. Off at the start; for the whole program.
pub fn allow_tf32(allow: bool) {
    TF32.store(allow, Ordering::Relaxed);
}

/// Restricts convolutions on a GPU to algorithms that give the same bits every time (all other kernels do anyway). Off
/// at the start; for the whole program.
pub fn set_deterministic(on: bool) {
    DETERMINISTIC.store(on, Ordering::Relaxed);
}

/// Which of the tensors of a convolution `y = x * w` is computed from the other two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Product {
    /// y, the convolution.
    Forward,
    /// The gradient of x: the transposed convolution.
    InputGradient,
    /// The gradient of w.
    WeightGradient,
}

impl Product {
    /// Which of x, w, y it computes.
    fn written(self) -> usize {
        match self {
            Self::Forward => 2,
            Self::InputGradient => 0,
            Self::WeightGradient => 1,
        }
    }
}

/// What may follow the product [`Product::Forward`]: a ReLU of its sum with a bias `[out]` of the same type, if there
/// is one.
#[derive(Clone, Copy)]
pub(crate) struct Relu {
    /// Where the bias lies.
    pub bias: Option<CUdeviceptr>,
}

/// What decides which algorithm is fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    product: Product,
    geometry: Conv2dGeometry,
    data_type: DataType,
    /// Whether a ReLU follows.
    relu: bool,
    tf32: bool,
    deterministic: bool,
}

impl Key {
    /// That of a product with the settings of now.
    fn new(product: Product, geometry: &Conv2dGeometry, data_type: DataType, relu: bool) -> Self {
        Self {
            product,
            geometry: *geometry,
            data_type,
            relu,
            tf32: data_type == DataType::F32 && TF32.load(Ordering::Relaxed),
            deterministic: DETERMINISTIC.load(Ordering::Relaxed),
        }
    }

    /// The extents that cuDNN sees in a lowering; `None` where that is not to be had.
    fn extents(&self, lowering: Lowering) -> Option<Conv2dGeometry> {
        // 16 bytes of bf16, and of f32 as tf32; without rounding, f32 has no use for matrix units.
        let granule = match self.data_type {
            DataType::Bf16 => 8,
            DataType::F32 if self.tf32 => 4,
            DataType::F32 => 1,
        };
        let fits = self.relu && self.geometry.out_c() * self.data_type.bytes() <= ZEROS;
        lowering.extents(&self.geometry, granule).filter(|_| lowering != Lowering::Fused || fits)
    }
}

/// Where a product's tensors lie.
#[derive(Clone, Copy)]
struct Places {
    /// x, w and y.
    operands: [CUdeviceptr; 3],
    /// What is added before the ReLU, if the key has one, or null.
    bias: CUdeviceptr,
    /// [`ZEROS`], which cuDNN takes where there is no bias.
    zeros: CUdeviceptr,
}

/// How a product is computed. cuDNN numbers the algorithms of each product from 0.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Choice {
    lowering: Lowering,
    algorithm: u32,
    math: u32,
}

/// cuDNN's handles for a GPU, and the plans made so far.
pub(super) struct Dnn {
    /// One for the GPU's own stream and one for each lane, made when first used: a handle's scratch memory must not be
    /// shared by work that runs side by side.
    handles: [Option<sys::cudnnHandle_t>; LANES + 1],
    plans: HashMap<Key, Plan>,
    /// Choices of this and of earlier runs, by the text of their key.
    choices: HashMap<String, Choice>,
    /// Where they are kept.
    file: Option<PathBuf>,
    /// [`ZEROS`] of them. They live as long as the process.
    zeros: CUdeviceptr,
}

// SAFETY: the handles may be used from any thread, one at a time; they are behind a mutex.
unsafe impl Send for Dnn {}

impl Gpu {
    fn dnn(&self) -> Result<MutexGuard<'_, Dnn>> {
        let dnn = self.dnn.get_or_init(|| Dnn::open(self).map(Mutex::new));
        let dnn = dnn.as_ref().map_err(Clone::clone)?;
        Ok(dnn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Computes a product of the convolution of `x` with `w` into `y`, all of `data_type`; f32 is rounded to tf32 if this call or
    /// the program allows it. The tensor that the product computes is overwritten.
    pub(crate) fn convolve(
        &'static self,
        product: Product,
        geometry: &Conv2dGeometry,
        (data_type, tf32): (DataType, bool),
        operands: [CUdeviceptr; 3],
        relu: Option<Relu>,
    ) -> Result<()> {
        let mut key = Key::new(product, geometry, data_type, relu.is_some());
        key.tf32 |= tf32 && data_type == DataType::F32;
        // Before cuDNN's mutex, which a capturing thread needs as well.
        let _queue = self.enter();
        let mut dnn = self.dnn()?;
        let places = dnn.places(operands, relu);
        let handle = dnn.handle(self, lanes::current(self.device()))?;
        if !dnn.plans.contains_key(&key) {
            let plan = dnn.plan(self, handle, &key, places)?;
            dnn.plans.insert(key, plan);
        }
        let plan = &dnn.plans[&key];
        let workspace = Memory::empty(self, plan.workspace)?;
        plan.compute(self, handle, places, workspace.pointer())
    }

    /// As [`Gpu::convolve`], in this lowering and no other, and with f32 rounded to tf32 or not; `false` where the lowering is
    /// not to be had.
    pub(crate) fn convolve_in_form(
        &'static self,
        lowering: Lowering,
        product: Product,
        geometry: &Conv2dGeometry,
        (data_type, tf32): (DataType, bool),
        operands: [CUdeviceptr; 3],
        relu: Option<Relu>,
    ) -> Result<bool> {
        let key = Key { tf32, ..Key::new(product, geometry, data_type, relu.is_some()) };
        let _queue = self.enter();
        let mut dnn = self.dnn()?;
        let places = dnn.places(operands, relu);
        let handle = dnn.handle(self, lanes::current(self.device()))?;
        let workspace = Memory::empty(self, WORKSPACE_LIMIT)?;
        match fastest_in_form(self, handle, &key, lowering, places, workspace.pointer(), &mut Vec::new())? {
            Some((_, plan)) => plan.compute(self, handle, places, workspace.pointer()).map(|()| true),
            None => Ok(false),
        }
    }
}

fn failed(gpu: &'static Gpu, what: &'static str) -> impl Fn(Refusal) -> Error {
    move |Refusal { cause, reason }| {
        use sys::cudnnStatus_t as Status;
        if matches!(
            cause.0,
            Status::CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED
                | Status::CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
        ) {
            return gpu.no_memory();
        }
        error(gpu.ordinal, format!("cuDNN refuses {what}: {cause:?}{reason}"))
    }
}

/// What cuDNN refuses, and why.
pub(super) struct Refusal {
    cause: result::CudnnError,
    /// In cuDNN's words, after a colon; or nothing.
    reason: String,
}

impl std::fmt::Debug for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}{}", self.cause, self.reason)
    }
}

/// Of an error that the calling thread's last call of cuDNN gave.
impl From<result::CudnnError> for Refusal {
    fn from(cause: result::CudnnError) -> Self {
        let mut text = [0; 512];
        // SAFETY: the text has so much room, and ends with a zero whatever was written.
        unsafe { sys::cudnnGetLastErrorString(text.as_mut_ptr().cast(), text.len() - 1) };
        let text: Vec<u8> = text.into_iter().take_while(|c| *c != 0).collect();
        let reason = String::from_utf8_lossy(&text);
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        Self { cause, reason }
    }
}

impl Dnn {
    fn open(gpu: &Gpu) -> Result<Self> {
        libraries::need_cudnn(gpu.ordinal)?;
        let version = result::get_version();
        if version < 90_000 {
            let detail = format!("cuDNN {version} was found; version 9 is needed");
            return Err(error(gpu.ordinal, detail));
        }
        let name: String =
            gpu.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let file = kernels::cache_folder().map(|folder| folder.join(format!("cudnn-{version}-{name}.txt")));
        let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        let handles = [None; LANES + 1];
        let unavailable = |cause| gpu.failed("memory for a bias of zeros cannot be had", cause);
        // SAFETY: never freed; nothing but zeros is ever written there.
        let zeros = unsafe {
            let zeros = driver::malloc_sync(ZEROS).map_err(unavailable)?;
            driver::memset_d8_async(zeros, 0, ZEROS, gpu.stream()).map_err(unavailable)?;
            zeros
        };
        // Work in other lanes does not wait for this stream, nor any of them for the driver's own.
        gpu.wait_for(gpu.stream())?;
        Ok(Self { handles, plans: HashMap::new(), choices: parse_choices(&text), file, zeros })
    }

    /// Where the tensors of a product lie.
    fn places(&self, operands: [CUdeviceptr; 3], relu: Option<Relu>) -> Places {
        Places { operands, bias: relu.and_then(|relu| relu.bias).unwrap_or(0), zeros: self.zeros }
    }

    /// The handle of a lane, or of the GPU's own stream (0).
    fn handle(&mut self, gpu: &'static Gpu, lane: usize) -> Result<sys::cudnnHandle_t> {
        if let Some(handle) = self.handles[lane] {
            return Ok(handle);
        }
        let handle = result::create_handle().map_err(Refusal::from).map_err(failed(gpu, "to start"))?;
        // SAFETY: both were made and live as long as the process.
        unsafe { result::set_stream(handle, gpu.stream().cast()) }
            .map_err(Refusal::from)
            .map_err(failed(gpu, "its stream"))?;
        Ok(*self.handles[lane].insert(handle))
    }

    fn plan(
        &mut self,
        gpu: &'static Gpu,
        handle: sys::cudnnHandle_t,
        key: &Key,
        places: Places,
    ) -> Result<Plan> {
        let text = format!("{key:?}");
        if let Some(Choice { lowering, algorithm, math }) = self.choices.get(&text).copied()
            && let Some(mut plan) = Plan::describe(gpu, key, lowering)?
            // Another driver may refuse what this one's predecessor took.
            && plan.choose(handle, algorithm, math).is_ok()
        {
            return Ok(plan);
        }
        let (choice, plan) = measure(gpu, handle, key, places)?;
        self.choices.insert(text, choice);
        self.save();
        Ok(plan)
    }

    fn save(&self) {
        let mut lines: Vec<_> = self.choices.iter().collect();
        lines.sort_by_key(|(key, _)| key.as_str());
        let mut text = String::new();
        for (key, choice) in lines {
            let Choice { lowering, algorithm, math } = choice;
            let _ = writeln!(text, "{} {algorithm} {math} {key}", lowering.name());
        }
        // Only saves measuring again; a disk that is full or read-only is no reason to stop.
        if let Some(file) = &self.file {
            let _ = kernels::store(file, text.as_bytes());
        }
    }
}

/// The fastest lowering and algorithm that fit.
fn measure(
    gpu: &'static Gpu,
    handle: sys::cudnnHandle_t,
    key: &Key,
    places: Places,
) -> Result<(Choice, Plan)> {
    // What runs in other lanes would be measured too.
    gpu.synchronize()?;
    // Not from the pool, which would keep it.
    // SAFETY: freed below, after all that uses it was waited for.
    let workspace = unsafe { driver::malloc_sync(WORKSPACE_LIMIT) }.ok();
    // Where so little is left, from the pool after all: it gives back what is free, or says what is missing. A choice
    // made with less would stay.
    let pooled = workspace.is_none().then(|| Memory::empty(gpu, WORKSPACE_LIMIT)).transpose()?;
    let pointer = workspace.or(pooled.as_ref().map(Memory::pointer)).unwrap_or(0);
    let found = fastest(gpu, handle, key, places, pointer);
    if let Some(workspace) = workspace {
        // After an error, something may still run.
        gpu.wait_for(gpu.stream())?;
        // SAFETY: as above.
        unsafe { driver::free_sync(workspace) }
            .map_err(|cause| gpu.failed("memory cannot be given back", cause))?;
    }
    found
}

/// [`measure`] with a workspace of [`WORKSPACE_LIMIT`] bytes.
fn fastest(
    gpu: &'static Gpu,
    handle: sys::cudnnHandle_t,
    key: &Key,
    places: Places,
    workspace: CUdeviceptr,
) -> Result<(Choice, Plan)> {
    let (mut found, mut refusals) = (Vec::new(), Vec::new());
    for lowering in Lowering::ALL {
        found.extend(fastest_in_form(gpu, handle, key, lowering, places, workspace, &mut refusals)?);
    }
    // cuDNN compares its algorithms, but not what else a lowering takes.
    let mut fastest: Option<(f64, Choice, Plan)> = None;
    let several = found.len() > 1 && !key.deterministic;
    if key.deterministic {
        // As above: not by time. The last one is for shapes like this.
        found.reverse();
    }
    for (choice, plan) in found {
        let seconds = if several {
            let queue = || plan.compute(gpu, handle, places, workspace);
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
        let (product, geometry) = (key.product, key.geometry);
        let detail = format!("cuDNN has no algorithm for {product:?} of {geometry:?} {refusals:?}");
        return Err(error(gpu.ordinal, detail));
    };
    Ok((choice, plan))
}

/// The fastest algorithm that fits, in one lowering; `None` if there is none or the lowering is not to be had. That cuDNN does
/// not even measure a lowering, as with too few channels for a type, is a reason to try the next one.
fn fastest_in_form(
    gpu: &'static Gpu,
    handle: sys::cudnnHandle_t,
    key: &Key,
    lowering: Lowering,
    places: Places,
    workspace: CUdeviceptr,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<(Choice, Plan)>> {
    let Some(mut plan) = Plan::describe(gpu, key, lowering)? else { return Ok(None) };
    let formed = plan.operands(gpu, places.operands)?;
    let candidates = match plan.find(handle, formed.pointers, workspace as *mut c_void, WORKSPACE_LIMIT) {
        Ok(candidates) => candidates,
        Err(refusal) => {
            refusals.push(refusal);
            return Ok(None);
        }
    };
    let exact = sys::cudnnMathType_t::CUDNN_FMA_MATH as u32;
    let fits = |candidate: &Candidate| {
        candidate.succeeds
            && candidate.memory <= WORKSPACE_LIMIT
            && (candidate.deterministic || !key.deterministic)
            && (key.data_type != DataType::F32 || key.tf32 || candidate.math == exact)
    };
    let mut candidates: Vec<_> = candidates.into_iter().filter(fits).collect();
    if key.deterministic {
        // A choice by time would be another one in a run that has nothing on disk. In all three products number 1 is a
        // deterministic one that takes matrix units.
        candidates.sort_by_key(|one| (one.algorithm != 1, one.algorithm, one.math));
    }
    for Candidate { algorithm, math, .. } in candidates {
        if let Err(refusal) = plan.choose(handle, algorithm, math) {
            refusals.push(refusal);
            continue;
        }
        if plan.workspace > WORKSPACE_LIMIT {
            continue;
        }
        // cuDNN measures convolutions alone: which of the algorithms take a ReLU as well is found out by trying.
        if let Some(Err(refusal)) = plan.run_fused(handle, places, workspace) {
            refusals.push(refusal);
            continue;
        }
        return Ok(Some((Choice { lowering, algorithm, math }, plan)));
    }
    Ok(None)
}

impl Choice {
    /// A choice with numbers that the library knows.
    fn checked(lowering: Lowering, algorithm: u32, math: u32) -> Option<Self> {
        // The smallest of the three enumerations has six algorithms; plans check theirs again.
        (algorithm < 8 && math < 4).then_some(Self { lowering, algorithm, math })
    }
}

/// Lines of `lowering algorithm math key`; others are ignored.
fn parse_choices(text: &str) -> HashMap<String, Choice> {
    let parse = |line: &str| {
        let (lowering, rest) = line.split_once(' ')?;
        let (algorithm, rest) = rest.split_once(' ')?;
        let (math, key) = rest.split_once(' ')?;
        let lowering = Lowering::ALL.into_iter().find(|known| known.name() == lowering)?;
        Some((key.to_owned(), Choice::checked(lowering, algorithm.parse().ok()?, math.parse().ok()?)?))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_back_and_damage_is_ignored() {
        // The second is of the time before there were lowerings.
        let lines = [
            "plain 1 3 Key { a }",
            "1 3 Key { d }",
            "nonsense",
            "padded 99 0 Key { b }",
            "thin 0 1 Key { e }",
            "flat 0 1 Key { c: 2 }",
            "plain 2 ",
        ];
        let choices = parse_choices(&lines.join("\n"));
        let mut keys: Vec<_> = choices.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["Key { a }", "Key { c: 2 }"]);
        assert_eq!(choices["Key { a }"], Choice { lowering: Lowering::Plain, algorithm: 1, math: 3 });
        assert_eq!(choices["Key { c: 2 }"], Choice { lowering: Lowering::Flat, algorithm: 0, math: 1 });
    }
}
