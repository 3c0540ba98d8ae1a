//! cuDNN's convolutions: the three products of a convolution, each by the algorithm that was fastest when measured.
//!
//! The extents may be put to cuDNN in several forms (`forms.rs`), and the fastest of those is chosen as well, the ReLU that
//! may follow included.
//!
//! Measuring takes seconds, so what was chosen is kept on disk, by GPU, version of cuDNN, and extents.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt::Write as _;
use std::mem::transmute;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::cudnn::{result, sys};
use cudarc::driver::result as driver;
use cudarc::driver::sys::CUdeviceptr;

use super::forms::{Form, Operands};
use super::lanes::{self, LANES};
use super::memory::Memory;
use super::{Gpu, error, kernels, libraries, time};
use crate::ops::{Activation, Conv2dGeometry};
use crate::{DataType, Error, Result};

/// The most memory an algorithm may use beside its operands, in bytes.
const WORKSPACE_LIMIT: usize = 256 << 20;

/// Bytes of zeros that stand for a bias where there is none: as many channels as a convolution may have with a ReLU in one call.
const ZEROS: usize = 1 << 16;

/// Whether convolutions of f32 may round their factors to tf32 (10 bits of mantissa).
static TF32: AtomicBool = AtomicBool::new(false);

/// Whether only algorithms that give the same bits every time may be chosen.
static DETERMINISTIC: AtomicBool = AtomicBool::new(false);

/// Lets convolutions of f32 on a GPU round their factors to tf32, which has the range of f32 and 10 bits of mantissa and
/// is several times as fast. Off at the start; for the whole program.
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

/// What may follow the product [`Product::Forward`]: a ReLU of its sum with a bias `[out]` of the same type, if there is one.
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

    /// The extents that cuDNN sees in a form; `None` where that is not to be had.
    fn extents(&self, form: Form) -> Option<Conv2dGeometry> {
        // 16 bytes of bf16, and of f32 as tf32; without rounding, f32 has no use for matrix units.
        let granule = match self.data_type {
            DataType::Bf16 => 8,
            DataType::F32 if self.tf32 => 4,
            DataType::F32 => 1,
        };
        let fits = self.relu && self.geometry.out_c * self.data_type.bytes() <= ZEROS;
        form.extents(&self.geometry, granule).filter(|_| form != Form::Fused || fits)
    }
}

/// Where a product's tensors lie.
#[derive(Clone, Copy)]
struct Places {
    /// x, w and y.
    operands: [CUdeviceptr; 3],
    /// What is added before the ReLU, if the key has one; zeros where there is no bias, or null if they are too few.
    bias: CUdeviceptr,
}

/// How a product is computed. cuDNN numbers the algorithms of each product from 0.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Choice {
    form: Form,
    algorithm: u32,
    math: u32,
}

/// A product with everything set up. The descriptors live as long as the process, like the GPU.
struct Plan {
    key: Key,
    form: Form,
    /// The form's extents.
    extents: Conv2dGeometry,
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    algorithm: u32,
    workspace: usize,
    /// Of [`Form::Fused`].
    fused: Option<(sys::cudnnTensorDescriptor_t, sys::cudnnActivationDescriptor_t)>,
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

/// The algorithms' answers to a measurement, whichever product they are of.
struct Candidate {
    algorithm: u32,
    math: u32,
    succeeds: bool,
    memory: usize,
    deterministic: bool,
}

impl Gpu {
    fn dnn(&self) -> Result<MutexGuard<'_, Dnn>> {
        let dnn = self.dnn.get_or_init(|| Dnn::open(self).map(Mutex::new));
        let dnn = dnn.as_ref().map_err(Clone::clone)?;
        Ok(dnn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Computes a product of the convolution of `x` with `w` into `y`, all of `data_type`. The tensor that the product
    /// computes is overwritten.
    pub(crate) fn convolve(
        &'static self,
        product: Product,
        geometry: &Conv2dGeometry,
        data_type: DataType,
        operands: [CUdeviceptr; 3],
        relu: Option<Relu>,
    ) -> Result<()> {
        let key = Key::new(product, geometry, data_type, relu.is_some());
        // Before cuDNN's mutex, which a capturing thread needs as well.
        let _queue = self.enter();
        let mut dnn = self.dnn()?;
        let places = dnn.places(&key, operands, relu);
        let handle = dnn.handle(self, lanes::current(self.device()))?;
        if !dnn.plans.contains_key(&key) {
            let plan = dnn.plan(self, handle, &key, places)?;
            dnn.plans.insert(key, plan);
        }
        let plan = &dnn.plans[&key];
        let workspace = Memory::scratch(self, plan.workspace)?;
        plan.compute(self, handle, places, workspace.pointer())
    }

    /// As [`Gpu::convolve`], in this form and no other, and with f32 rounded to tf32 or not; `false` where the form is not
    /// to be had.
    pub(crate) fn convolve_in_form(
        &'static self,
        form: Form,
        product: Product,
        geometry: &Conv2dGeometry,
        (data_type, tf32): (DataType, bool),
        operands: [CUdeviceptr; 3],
        relu: Option<Relu>,
    ) -> Result<bool> {
        let key = Key { tf32, ..Key::new(product, geometry, data_type, relu.is_some()) };
        let _queue = self.enter();
        let mut dnn = self.dnn()?;
        let places = dnn.places(&key, operands, relu);
        let handle = dnn.handle(self, lanes::current(self.device()))?;
        let workspace = Memory::scratch(self, WORKSPACE_LIMIT)?;
        match fastest_in_form(self, handle, &key, form, places, workspace.pointer(), &mut Vec::new())? {
            Some((_, plan)) => plan.compute(self, handle, places, workspace.pointer()).map(|()| true),
            None => Ok(false),
        }
    }
}

fn failed(gpu: &Gpu, what: &'static str) -> impl Fn(result::CudnnError) -> Error {
    let ordinal = gpu.ordinal;
    move |cause| error(ordinal, format!("cuDNN refuses {what}: {cause:?}"))
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
            driver::memset_d8_sync(zeros, 0, ZEROS).map_err(unavailable)?;
            zeros
        };
        Ok(Self { handles, plans: HashMap::new(), choices: parse_choices(&text), file, zeros })
    }

    /// Where the tensors of a product lie.
    fn places(&self, key: &Key, operands: [CUdeviceptr; 3], relu: Option<Relu>) -> Places {
        let zeros = if key.extents(Form::Fused).is_some() { self.zeros } else { 0 };
        Places { operands, bias: relu.and_then(|relu| relu.bias).unwrap_or(zeros) }
    }

    /// The handle of a lane, or of the GPU's own stream (0).
    fn handle(&mut self, gpu: &Gpu, lane: usize) -> Result<sys::cudnnHandle_t> {
        if let Some(handle) = self.handles[lane] {
            return Ok(handle);
        }
        let handle = result::create_handle().map_err(failed(gpu, "to start"))?;
        // SAFETY: both were made and live as long as the process.
        unsafe { result::set_stream(handle, gpu.stream().cast()) }.map_err(failed(gpu, "its stream"))?;
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
        if let Some(Choice { form, algorithm, math }) = self.choices.get(&text).copied()
            && let Some(mut plan) = Plan::describe(gpu, key, form)?
        {
            plan.choose(gpu, handle, algorithm, math)?;
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
            let Choice { form, algorithm, math } = choice;
            let _ = writeln!(text, "{} {algorithm} {math} {key}", form.name());
        }
        // Only saves measuring again; a disk that is full or read-only is no reason to stop.
        if let Some(file) = &self.file {
            let _ = kernels::store(file, text.as_bytes());
        }
    }
}

/// The fastest form and algorithm that fit.
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
    let pooled = workspace.is_none().then(|| Memory::scratch(gpu, WORKSPACE_LIMIT)).transpose()?;
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
    for form in Form::ALL {
        found.extend(fastest_in_form(gpu, handle, key, form, places, workspace, &mut refusals)?);
    }
    // cuDNN compares its algorithms, but not what else a form takes.
    let mut fastest: Option<(f64, Choice, Plan)> = None;
    let several = found.len() > 1;
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

/// The fastest algorithm that fits, in one form; `None` if there is none or the form is not to be had. That cuDNN does not even
/// measure a form, as with too few channels for a type, is a reason to try the next one.
fn fastest_in_form(
    gpu: &'static Gpu,
    handle: sys::cudnnHandle_t,
    key: &Key,
    form: Form,
    places: Places,
    workspace: CUdeviceptr,
    refusals: &mut Vec<result::CudnnError>,
) -> Result<Option<(Choice, Plan)>> {
    let Some(mut plan) = Plan::describe(gpu, key, form)? else { return Ok(None) };
    let formed = plan.operands(gpu, places.operands)?;
    let candidates = match plan.find(handle, formed.pointers, workspace as *mut c_void, WORKSPACE_LIMIT) {
        Ok(candidates) => candidates,
        Err(refusal) => {
            refusals.push(refusal);
            return Ok(None);
        }
    };
    let fits = |candidate: &Candidate| {
        candidate.succeeds
            && candidate.memory <= WORKSPACE_LIMIT
            && (candidate.deterministic || !key.deterministic)
    };
    for Candidate { algorithm, math, .. } in candidates.into_iter().filter(fits) {
        plan.choose(gpu, handle, algorithm, math)?;
        // cuDNN measures convolutions alone: which of the algorithms take a ReLU as well is found out by trying.
        if form == Form::Fused {
            let [x, w, y] = places.operands.map(|pointer| pointer as *mut c_void);
            if let Err(refusal) = plan.run_fused(handle, [x, w, y], places.bias, workspace as *mut c_void) {
                refusals.push(refusal);
                continue;
            }
        }
        return Ok(Some((Choice { form, algorithm, math }, plan)));
    }
    Ok(None)
}

impl Choice {
    /// A choice with numbers that the library knows.
    fn checked(form: Form, algorithm: u32, math: u32) -> Option<Self> {
        // The smallest of the three enumerations has six algorithms; plans check theirs again.
        (algorithm < 8 && math < 4).then_some(Self { form, algorithm, math })
    }
}

/// Lines of `form algorithm math key`; others are ignored.
fn parse_choices(text: &str) -> HashMap<String, Choice> {
    let parse = |line: &str| {
        let (form, rest) = line.split_once(' ')?;
        let (algorithm, rest) = rest.split_once(' ')?;
        let (math, key) = rest.split_once(' ')?;
        let form = Form::ALL.into_iter().find(|known| known.name() == form)?;
        Some((key.to_owned(), Choice::checked(form, algorithm.parse().ok()?, math.parse().ok()?)?))
    };
    text.lines().filter_map(parse).collect()
}

/// A scalar factor as cuDNN takes it.
fn scalar(value: &f32) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

/// The candidates out of a list of cuDNN's performance records, fastest first as cuDNN sorts them.
macro_rules! candidates {
    ($records:expr, $count:expr) => {
        $records[..usize::try_from($count).unwrap_or(0).min($records.len())]
            .iter()
            .map(|record| {
                // Written by cuDNN.
                let record = record.assume_init_ref();
                Candidate {
                    algorithm: record.algo as u32,
                    math: record.mathType as u32,
                    succeeds: record.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS,
                    memory: record.memory,
                    deterministic: record.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
                }
            })
            .collect()
    };
}

impl Plan {
    /// Descriptors of the operands and of the convolution in a form; no algorithm yet. `None` if the form is not to be had.
    fn describe(gpu: &Gpu, key: &Key, form: Form) -> Result<Option<Self>> {
        let Some(extents) = key.extents(form) else { return Ok(None) };
        let plan = Self::of_extents(key, form, extents);
        plan.map(Some).map_err(failed(gpu, "the extents of a convolution"))
    }

    fn of_extents(
        key: &Key,
        form: Form,
        extents: Conv2dGeometry,
    ) -> std::result::Result<Self, result::CudnnError> {
        let g = &extents;
        let data_type = match key.data_type {
            DataType::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            DataType::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        };
        let math = match key.data_type {
            DataType::Bf16 => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
            DataType::F32 if key.tf32 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            DataType::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
        };
        let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let of = |[n, h, w, c]: [usize; 4]| [n as i32, c as i32, h as i32, w as i32];
        // SAFETY: each descriptor is made, then set; they live as long as the process.
        unsafe {
            let x = result::create_tensor_descriptor()?;
            result::set_tensor4d_descriptor(x, format, data_type, of(g.x_shape()))?;
            let y = result::create_tensor_descriptor()?;
            result::set_tensor4d_descriptor(y, format, data_type, of(g.y_shape()))?;
            let w = result::create_filter_descriptor()?;
            result::set_filter4d_descriptor(w, data_type, format, of(g.w_shape()))?;
            let convolution = result::create_convolution_descriptor()?;
            let (padding, stride) = (g.padding as i32, g.stride as i32);
            result::set_convolution2d_descriptor(
                convolution,
                padding,
                padding,
                stride,
                stride,
                1,
                1,
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_math_type(convolution, math)?;
            let fused = if form == Form::Fused {
                let bias = result::create_tensor_descriptor()?;
                result::set_tensor4d_descriptor(bias, format, data_type, of([1, 1, 1, g.out_c]))?;
                let activation = result::create_activation_descriptor()?;
                let relu = sys::cudnnActivationMode_t::CUDNN_ACTIVATION_RELU;
                let not_a_number = sys::cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN;
                result::set_activation_descriptor(activation, relu, not_a_number, 0.0)?;
                Some((bias, activation))
            } else {
                None
            };
            Ok(Self { key: *key, form, extents, x, w, y, convolution, algorithm: 0, workspace: 0, fused })
        }
    }

    /// Sets the algorithm.
    fn choose(&mut self, gpu: &Gpu, handle: sys::cudnnHandle_t, algorithm: u32, math: u32) -> Result<()> {
        let refused = failed(gpu, "an algorithm");
        self.algorithm = algorithm;
        // SAFETY: the descriptor lives; `math` is one of the enumeration's: cuDNN named it, or `Choice::checked` let it pass.
        unsafe {
            let math = transmute::<u32, sys::cudnnMathType_t>(math);
            result::set_convolution_math_type(self.convolution, math).map_err(&refused)?;
        }
        self.workspace = self.workspace_size(handle).map_err(refused)?;
        Ok(())
    }

    /// The operands in the plan's form.
    fn operands(&self, gpu: &'static Gpu, given: [CUdeviceptr; 3]) -> Result<Operands> {
        let Key { product, geometry, data_type, .. } = &self.key;
        Operands::new(gpu, self.form, [geometry, &self.extents], *data_type, product.written(), given)
    }

    /// Queues the product, and the ReLU if the key has one. The workspace has as many bytes as the plan says.
    fn compute(
        &self,
        gpu: &'static Gpu,
        handle: sys::cudnnHandle_t,
        Places { operands: given, bias }: Places,
        workspace: CUdeviceptr,
    ) -> Result<()> {
        let workspace = workspace as *mut c_void;
        if self.form == Form::Fused {
            let operands = given.map(|pointer| pointer as *mut c_void);
            return self
                .run_fused(handle, operands, bias, workspace)
                .map_err(failed(gpu, "a convolution with a ReLU"));
        }
        let operands = self.operands(gpu, given)?;
        self.run(handle, operands.pointers, workspace).map_err(failed(gpu, "a convolution"))?;
        let Key { product, geometry, data_type, relu, .. } = &self.key;
        operands.finish(gpu, [geometry, &self.extents], *data_type, product.written(), given)?;
        if !relu {
            return Ok(());
        }
        let [_, _, y] = given;
        let extents = [geometry.out_c, geometry.y_elements()];
        Activation::Relu.replace_at((gpu.device(), *data_type), y, bias, extents)
    }

    fn find(
        &self,
        handle: sys::cudnnHandle_t,
        operands: [CUdeviceptr; 3],
        workspace: *mut c_void,
        size: usize,
    ) -> std::result::Result<Vec<Candidate>, result::CudnnError> {
        const MOST: usize = 16;
        let Self { x, w, y, convolution, .. } = *self;
        let [x_data, w_data, y_data] = operands.map(|pointer| pointer as *mut c_void);
        let mut count = 0;
        // SAFETY: descriptors and operands belong together; the records have room for as many as asked for.
        unsafe {
            match self.key.product {
                Product::Forward => {
                    let mut records = [const { std::mem::MaybeUninit::uninit() }; MOST];
                    let first = records.as_mut_ptr().cast();
                    sys::cudnnFindConvolutionForwardAlgorithmEx(
                        handle,
                        x,
                        x_data,
                        w,
                        w_data,
                        convolution,
                        y,
                        y_data,
                        MOST as i32,
                        &mut count,
                        first,
                        workspace,
                        size,
                    )
                    .result()?;
                    let records: [std::mem::MaybeUninit<sys::cudnnConvolutionFwdAlgoPerf_t>; MOST] = records;
                    Ok(candidates!(records, count))
                }
                Product::InputGradient => {
                    let mut records = [const { std::mem::MaybeUninit::uninit() }; MOST];
                    let first = records.as_mut_ptr().cast();
                    sys::cudnnFindConvolutionBackwardDataAlgorithmEx(
                        handle,
                        w,
                        w_data,
                        y,
                        y_data,
                        convolution,
                        x,
                        x_data,
                        MOST as i32,
                        &mut count,
                        first,
                        workspace,
                        size,
                    )
                    .result()?;
                    let records: [std::mem::MaybeUninit<sys::cudnnConvolutionBwdDataAlgoPerf_t>; MOST] =
                        records;
                    Ok(candidates!(records, count))
                }
                Product::WeightGradient => {
                    let mut records = [const { std::mem::MaybeUninit::uninit() }; MOST];
                    let first = records.as_mut_ptr().cast();
                    sys::cudnnFindConvolutionBackwardFilterAlgorithmEx(
                        handle,
                        x,
                        x_data,
                        y,
                        y_data,
                        convolution,
                        w,
                        w_data,
                        MOST as i32,
                        &mut count,
                        first,
                        workspace,
                        size,
                    )
                    .result()?;
                    let records: [std::mem::MaybeUninit<sys::cudnnConvolutionBwdFilterAlgoPerf_t>; MOST] =
                        records;
                    Ok(candidates!(records, count))
                }
            }
        }
    }

    fn workspace_size(&self, handle: sys::cudnnHandle_t) -> std::result::Result<usize, result::CudnnError> {
        let Self { x, w, y, convolution, .. } = *self;
        // SAFETY: the descriptors live.
        unsafe {
            match self.key.product {
                Product::Forward => result::get_convolution_forward_workspace_size(
                    handle,
                    x,
                    w,
                    convolution,
                    y,
                    self.forward_algorithm(),
                ),
                Product::InputGradient => result::get_convolution_backward_data_workspace_size(
                    handle,
                    w,
                    y,
                    convolution,
                    x,
                    self.input_gradient_algorithm(),
                ),
                Product::WeightGradient => result::get_convolution_backward_filter_workspace_size(
                    handle,
                    x,
                    y,
                    convolution,
                    w,
                    self.weight_gradient_algorithm(),
                ),
            }
        }
    }

    fn forward_algorithm(&self) -> sys::cudnnConvolutionFwdAlgo_t {
        let known =
            self.algorithm.min(sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_COUNT as u32);
        // SAFETY: the enumeration has every number up to COUNT.
        unsafe { transmute::<u32, sys::cudnnConvolutionFwdAlgo_t>(known) }
    }

    fn input_gradient_algorithm(&self) -> sys::cudnnConvolutionBwdDataAlgo_t {
        use sys::cudnnConvolutionBwdDataAlgo_t as Algorithm;
        let known = self.algorithm.min(Algorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT as u32);
        // SAFETY: as above.
        unsafe { transmute::<u32, Algorithm>(known) }
    }

    fn weight_gradient_algorithm(&self) -> sys::cudnnConvolutionBwdFilterAlgo_t {
        use sys::cudnnConvolutionBwdFilterAlgo_t as Algorithm;
        let known = self.algorithm.min(Algorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT as u32);
        // SAFETY: as above.
        unsafe { transmute::<u32, Algorithm>(known) }
    }

    /// The convolution and the ReLU in one call.
    fn run_fused(
        &self,
        handle: sys::cudnnHandle_t,
        [x_data, w_data, y_data]: [*mut c_void; 3],
        bias_data: CUdeviceptr,
        scratch: *mut c_void,
    ) -> std::result::Result<(), result::CudnnError> {
        let Self { x, w, y, convolution, fused: Some((bias, activation)), .. } = *self else {
            return Ok(());
        };
        let (one, zero) = (scalar(&1.0), scalar(&0.0));
        // SAFETY: descriptors, operands and workspace belong together. What might be added besides, times zero, is y itself,
        // which is not read then.
        unsafe {
            result::convolution_bias_activation_forward(
                handle,
                one,
                x,
                x_data,
                w,
                w_data,
                convolution,
                self.forward_algorithm(),
                scratch,
                self.workspace,
                zero,
                y,
                y_data,
                bias,
                bias_data as *const c_void,
                activation,
                y,
                y_data,
            )
        }
    }

    fn run(
        &self,
        handle: sys::cudnnHandle_t,
        operands: [CUdeviceptr; 3],
        scratch: *mut c_void,
    ) -> std::result::Result<(), result::CudnnError> {
        let Self { x, w, y, convolution, .. } = *self;
        let [x_data, w_data, y_data] = operands.map(|pointer| pointer as *mut c_void);
        let (one, zero) = (scalar(&1.0), scalar(&0.0));
        let size = self.workspace;
        // SAFETY: descriptors, operands and workspace belong together.
        unsafe {
            match self.key.product {
                Product::Forward => result::convolution_forward(
                    handle,
                    one,
                    x,
                    x_data,
                    w,
                    w_data,
                    convolution,
                    self.forward_algorithm(),
                    scratch,
                    size,
                    zero,
                    y,
                    y_data,
                ),
                Product::InputGradient => result::convolution_backward_data(
                    handle,
                    one,
                    w,
                    w_data,
                    y,
                    y_data,
                    convolution,
                    self.input_gradient_algorithm(),
                    scratch,
                    size,
                    zero,
                    x,
                    x_data,
                ),
                Product::WeightGradient => result::convolution_backward_filter(
                    handle,
                    one,
                    x,
                    x_data,
                    y,
                    y_data,
                    convolution,
                    self.weight_gradient_algorithm(),
                    scratch,
                    size,
                    zero,
                    w,
                    w_data,
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_back_and_damage_is_ignored() {
        // The second is of the time before there were forms.
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
        assert_eq!(choices["Key { a }"], Choice { form: Form::Plain, algorithm: 1, math: 3 });
        assert_eq!(choices["Key { c: 2 }"], Choice { form: Form::Flat, algorithm: 0, math: 1 });
    }
}
