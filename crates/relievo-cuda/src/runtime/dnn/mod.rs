//! cuDNN's convolutions: the three products of a convolution, each by the lowering and the algorithm that were fastest
//! when measured, the ReLU that may follow included.
//!
//! `plan.rs` is one product with everything set up, `measure.rs` finds the fastest, `choices.rs` keeps what was found on
//! disk, by GPU, version of cuDNN and extents: measuring takes seconds.

mod choices;
mod measure;
mod plan;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::cudnn::{result, sys};
use cudarc::driver::result as driver;

use super::memory::Memory;
use super::{Gpu, current_stream, graph, libraries};
use crate::{ConvExtents, ConvPolicy, DataType, Error, Lowering, Product, Relu, Result};
use choices::{Choice, Choices};
use measure::{fastest_in_lowering, measure};
use plan::Plan;

/// The most memory an algorithm may use beside its operands, in bytes.
const WORKSPACE_LIMIT: usize = 256 << 20;

/// Bytes of zeros that stand for a bias where there is none: as many channels as a convolution may have with a ReLU in
/// one call.
const ZEROS: usize = 1 << 16;

/// What decides which algorithm is fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    product: Product,
    extents: ConvExtents,
    data_type: DataType,
    /// Whether a ReLU follows.
    relu: bool,
    policy: ConvPolicy,
}

impl Key {
    fn new(
        product: Product,
        extents: &ConvExtents,
        data_type: DataType,
        relu: bool,
        policy: ConvPolicy,
    ) -> Self {
        let tf32 = policy.tf32 && data_type == DataType::F32;
        Self { product, extents: *extents, data_type, relu, policy: ConvPolicy { tf32, ..policy } }
    }

    /// The extents that cuDNN sees in a lowering; `None` where that does not apply.
    fn lowered(&self, lowering: Lowering) -> Option<ConvExtents> {
        // 16 bytes of bf16, and of f32 as tf32; without rounding, f32 has no use for tensor cores.
        let granule = match self.data_type {
            DataType::Bf16 => 8,
            DataType::F32 if self.policy.tf32 => 4,
            DataType::F32 => 1,
        };
        let [.., channels] = self.extents.y;
        let fits = self.relu && channels * self.data_type.bytes() <= ZEROS;
        lowering.extents(&self.extents, granule).filter(|_| lowering != Lowering::Fused || fits)
    }
}

/// A product's tensors.
struct Arguments<'a> {
    /// x, w and y.
    operands: &'a [Memory; 3],
    /// What follows, if the key has a ReLU.
    relu: Option<&'a Relu<'a>>,
    /// [`ZEROS`], for cuDNN where there is no bias.
    zeros: u64,
}

/// cuDNN's handles for a GPU, and the plans made so far.
pub(super) struct Dnn {
    /// One for each stream, made when first used: a handle's scratch memory must not be shared by work that runs side by
    /// side.
    handles: HashMap<usize, sys::cudnnHandle_t>,
    plans: HashMap<Key, Plan>,
    choices: Choices,
    /// The address of [`ZEROS`] of them. They live as long as the process.
    zeros: u64,
}

// SAFETY: the handles may be used from any thread, one at a time; they are behind a mutex.
unsafe impl Send for Dnn {}

impl Gpu {
    fn dnn(&self) -> Result<MutexGuard<'_, Dnn>> {
        let dnn = self.dnn.get_or_init(|| Dnn::open(self).map(Mutex::new));
        let dnn = dnn.as_ref().map_err(Clone::clone)?;
        Ok(dnn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Computes a product of the convolution of x with w into y (`operands`, in this order), all of `data_type`. The
    /// tensor that the product computes is overwritten.
    ///
    /// # Errors
    /// If cuDNN is missing or has no algorithm for the extents, if an operand is smaller than its extents or of another
    /// stream, or if the GPU fails or is out of memory.
    pub fn convolve(
        &'static self,
        product: Product,
        extents: &ConvExtents,
        data_type: DataType,
        policy: ConvPolicy,
        operands: &[Memory; 3],
        relu: Option<&Relu<'_>>,
    ) -> Result<()> {
        let key = Key::new(product, extents, data_type, relu.is_some(), policy);
        self.check_operands(&key, operands, relu)?;
        // Before cuDNN's mutex, which a capturing thread needs as well.
        let _queue = self.enter();
        let mut dnn = self.dnn()?;
        let arguments = Arguments { operands, relu, zeros: dnn.zeros };
        let handle = dnn.handle(self)?;
        if !dnn.plans.contains_key(&key) {
            let plan = dnn.plan(self, handle, &key, &arguments)?;
            dnn.plans.insert(key, plan);
        }
        let plan = &dnn.plans[&key];
        let workspace = Memory::empty(self, plan.workspace)?;
        plan.compute(self, handle, &arguments, workspace.pointer())
    }

    /// As [`Gpu::convolve`], in this lowering and no other; `false` where the lowering does not apply. For tests that
    /// compare lowerings.
    ///
    /// # Errors
    /// As [`Gpu::convolve`].
    #[doc(hidden)]
    #[allow(clippy::too_many_arguments, reason = "those of `convolve` and the lowering")]
    pub fn convolve_lowered(
        &'static self,
        lowering: Lowering,
        product: Product,
        extents: &ConvExtents,
        data_type: DataType,
        policy: ConvPolicy,
        operands: &[Memory; 3],
        relu: Option<&Relu<'_>>,
    ) -> Result<bool> {
        let key = Key::new(product, extents, data_type, relu.is_some(), policy);
        self.check_operands(&key, operands, relu)?;
        let _queue = self.enter();
        let mut dnn = self.dnn()?;
        let arguments = Arguments { operands, relu, zeros: dnn.zeros };
        let handle = dnn.handle(self)?;
        let workspace = Memory::empty(self, WORKSPACE_LIMIT)?;
        let found = fastest_in_lowering(
            self,
            handle,
            &key,
            lowering,
            &arguments,
            workspace.pointer(),
            &mut Vec::new(),
        )?;
        match found {
            Some((_, plan)) => {
                plan.compute(self, handle, &arguments, workspace.pointer())?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Whether cuDNN may use the operands; a graph that is being captured keeps them.
    fn check_operands(&self, key: &Key, operands: &[Memory; 3], relu: Option<&Relu<'_>>) -> Result<()> {
        let extents = [key.extents.x, key.extents.w, key.extents.y];
        let bias = relu.and_then(|relu| relu.bias).map(|bias| (bias, [1, 1, 1, key.extents.y[3]]));
        for (memory, extents) in operands.iter().zip(extents).chain(bias) {
            if memory.gpu().ordinal != self.ordinal {
                return Err(self.error(format!("a convolution of memory on cuda:{}", memory.gpu().ordinal)));
            }
            if memory.belongs_to_another_stream() {
                return Err(self.error("a convolution of a tensor that was made on another forked stream"));
            }
            let bytes = extents.into_iter().try_fold(key.data_type.bytes(), usize::checked_mul);
            memory.prepare(bytes.unwrap_or(usize::MAX))?;
            graph::keep(memory);
        }
        Ok(())
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
        gpu.error(format!("could not {what} with cuDNN: {cause:?}{reason}"))
    }
}

/// An error of cuDNN, and its reason.
struct Refusal {
    cause: result::CudnnError,
    /// In cuDNN's words, after a colon; or nothing.
    reason: String,
}

impl std::fmt::Debug for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}{}", self.cause, self.reason)
    }
}

/// The error of the calling thread's last call of cuDNN.
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
            return Err(gpu.error(format!("cuDNN {version} was found; version 9 is required")));
        }
        let unavailable = |cause| gpu.failed("could not allocate a bias of zeros", cause);
        // SAFETY: never freed; nothing but zeros is ever written there.
        let zeros = unsafe {
            let zeros = driver::malloc_sync(ZEROS).map_err(unavailable)?;
            driver::memset_d8_async(zeros, 0, ZEROS, gpu.stream()).map_err(unavailable)?;
            zeros
        };
        // Work on other streams does not wait for this one, nor any of them for the driver's own.
        gpu.wait_for(gpu.stream())?;
        let choices = Choices::open(&gpu.name, version);
        Ok(Self { handles: HashMap::new(), plans: HashMap::new(), choices, zeros })
    }

    /// The handle of this thread's stream.
    fn handle(&mut self, gpu: &'static Gpu) -> Result<sys::cudnnHandle_t> {
        let stream = current_stream(Some(gpu.ordinal));
        if let Some(handle) = self.handles.get(&stream) {
            return Ok(*handle);
        }
        let handle =
            result::create_handle().map_err(Refusal::from).map_err(failed(gpu, "create a handle"))?;
        // SAFETY: both were made and live as long as the process.
        unsafe { result::set_stream(handle, gpu.stream().cast()) }
            .map_err(Refusal::from)
            .map_err(failed(gpu, "set a stream"))?;
        self.handles.insert(stream, handle);
        Ok(handle)
    }

    fn plan(
        &mut self,
        gpu: &'static Gpu,
        handle: sys::cudnnHandle_t,
        key: &Key,
        arguments: &Arguments<'_>,
    ) -> Result<Plan> {
        if let Some(Choice { lowering, algorithm, math }) = self.choices.get(key)
            && let Some(mut plan) = Plan::describe(gpu, key, lowering)?
            // Another driver may refuse what this one's predecessor took.
            && plan.choose(handle, algorithm, math).is_ok()
        {
            return Ok(plan);
        }
        let (choice, plan) = measure(gpu, handle, key, arguments)?;
        self.choices.keep(key, choice);
        Ok(plan)
    }
}
