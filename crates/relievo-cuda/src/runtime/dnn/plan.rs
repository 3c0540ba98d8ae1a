//! One product of a convolution with everything set up, and the calls of cuDNN that compute and measure it.

use std::ffi::c_void;
use std::mem::{MaybeUninit, transmute};

use cudarc::cudnn::{result, sys};

use super::super::lowering::Operands;
use super::super::{Gpu, Memory};
use super::{Arguments, Key, Refusal, failed};
use crate::{ConvExtents, DataType, Lowering, Product, Result, kernel_int};

/// A product with everything set up. The descriptors live as long as the process, like the GPU.
pub(super) struct Plan {
    key: Key,
    lowering: Lowering,
    /// The lowering's extents.
    extents: ConvExtents,
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    algorithm: u32,
    /// Bytes that the algorithm needs beside the operands.
    pub workspace: usize,
    /// Of [`Lowering::Fused`].
    fused: Option<(sys::cudnnTensorDescriptor_t, sys::cudnnActivationDescriptor_t)>,
}

/// The algorithms' answers to a measurement, whichever product they are of.
pub(super) struct Candidate {
    pub algorithm: u32,
    pub math: u32,
    pub succeeds: bool,
    pub memory: usize,
    pub deterministic: bool,
}

/// A scalar factor as cuDNN takes it.
fn scalar(value: &f32) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

/// What one of cuDNN's functions finds that measure a product's algorithms, fastest first as cuDNN sorts them: from its
/// two factors to its result, each a descriptor and where the numbers lie.
macro_rules! measured {
    (
        $function:path, $record:ty, $handle:expr, $convolution:expr, ($workspace:expr, $size:expr),
        $first:expr, $second:expr => $result:expr
    ) => {{
        const MOST: usize = 16;
        let mut records = [const { MaybeUninit::<$record>::uninit() }; MOST];
        let mut count = 0;
        let to = records.as_mut_ptr().cast();
        let ((a, a_data), (b, b_data), (y, y_data)) = ($first, $second, $result);
        let most = MOST as i32;
        $function(
            $handle,
            a,
            a_data,
            b,
            b_data,
            $convolution,
            y,
            y_data,
            most,
            &mut count,
            to,
            $workspace,
            $size,
        )
        .result()?;
        let written = records[..usize::try_from(count).unwrap_or(0).min(MOST)].iter();
        // The enumerations are read as the integers they are in C: a later cuDNN may write numbers that they do not have
        // here.
        let candidate = |record: &MaybeUninit<$record>| {
            let record = record.as_ptr();
            Candidate {
                algorithm: (&raw const (*record).algo).cast::<u32>().read(),
                math: (&raw const (*record).mathType).cast::<u32>().read(),
                succeeds: (&raw const (*record).status).cast::<u32>().read()
                    == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS as u32,
                memory: (&raw const (*record).memory).read(),
                deterministic: (&raw const (*record).determinism).cast::<u32>().read()
                    == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC as u32,
            }
        };
        Ok(written.map(candidate).collect())
    }};
}

impl Plan {
    /// Descriptors of the operands and of the convolution in a lowering; no algorithm yet. `None` if the lowering does not
    /// apply.
    pub fn describe(gpu: &'static Gpu, key: &Key, lowering: Lowering) -> Result<Option<Self>> {
        let Some(extents) = key.lowered(lowering) else { return Ok(None) };
        let int = |extent| kernel_int(extent, "convolution");
        let [x, w, y] = [extents.x, extents.w, extents.y].map(|[n, h, w, c]| [n, c, h, w].map(int));
        let all = |[a, b, c, d]: [Result<i32>; 4]| Ok::<_, crate::Error>([a?, b?, c?, d?]);
        let extents_of = [all(x)?, all(w)?, all(y)?];
        let steps = [int(extents.stride)?, int(extents.padding)?];
        let plan = Self::with_extents(key, lowering, extents, extents_of, steps).map_err(Refusal::from);
        plan.map(Some).map_err(failed(gpu, "describe a convolution"))
    }

    /// [`Plan::describe`] with the extents of x, w and y in cuDNN's order (channels before height and width), the stride
    /// and the padding.
    fn with_extents(
        key: &Key,
        lowering: Lowering,
        extents: ConvExtents,
        [of_x, of_w, of_y]: [[i32; 4]; 3],
        [stride, padding]: [i32; 2],
    ) -> std::result::Result<Self, result::CudnnError> {
        let data_type = match key.data_type {
            DataType::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            DataType::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        };
        let math = match key.data_type {
            DataType::Bf16 => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
            DataType::F32 if key.policy.tf32 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            DataType::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
        };
        let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        // SAFETY: each descriptor is made, then set; they live as long as the process.
        unsafe {
            let x = result::create_tensor_descriptor()?;
            result::set_tensor4d_descriptor(x, format, data_type, of_x)?;
            let y = result::create_tensor_descriptor()?;
            result::set_tensor4d_descriptor(y, format, data_type, of_y)?;
            let w = result::create_filter_descriptor()?;
            result::set_filter4d_descriptor(w, data_type, format, of_w)?;
            let convolution = result::create_convolution_descriptor()?;
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
            let fused = if lowering == Lowering::Fused {
                let bias = result::create_tensor_descriptor()?;
                result::set_tensor4d_descriptor(bias, format, data_type, [1, of_y[1], 1, 1])?;
                let activation = result::create_activation_descriptor()?;
                let relu = sys::cudnnActivationMode_t::CUDNN_ACTIVATION_RELU;
                // The only mode documented for this call. It turns a NaN into 0 with a gradient of 0, so this layer may
                // hide one; the NaN still shows in the loss and in other gradients.
                let not_a_number = sys::cudnnNanPropagation_t::CUDNN_NOT_PROPAGATE_NAN;
                result::set_activation_descriptor(activation, relu, not_a_number, 0.0)?;
                Some((bias, activation))
            } else {
                None
            };
            Ok(Self { key: *key, lowering, extents, x, w, y, convolution, algorithm: 0, workspace: 0, fused })
        }
    }

    /// Sets the algorithm.
    pub fn choose(
        &mut self,
        handle: sys::cudnnHandle_t,
        algorithm: u32,
        math: u32,
    ) -> std::result::Result<(), Refusal> {
        self.algorithm = algorithm;
        // SAFETY: the descriptor lives; `math` is one of the enumeration's: cuDNN named it, or `Choice::checked` let it
        // pass.
        unsafe {
            let math = transmute::<u32, sys::cudnnMathType_t>(math);
            result::set_convolution_math_type(self.convolution, math)?;
        }
        self.workspace = self.workspace_size(handle)?;
        Ok(())
    }

    /// The operands in the plan's lowering.
    pub fn operands(&self, gpu: &'static Gpu, given: &[Memory; 3]) -> Result<Operands> {
        let Key { product, extents, data_type, .. } = &self.key;
        Operands::new(gpu, self.lowering, [extents, &self.extents], *data_type, product.written(), given)
    }

    /// Queues the product, and the ReLU if the key has one. The workspace has as many bytes as the plan says.
    pub fn compute(
        &self,
        gpu: &'static Gpu,
        handle: sys::cudnnHandle_t,
        arguments: &Arguments<'_>,
        workspace: u64,
    ) -> Result<()> {
        if let Some(queued) = self.run_fused(handle, arguments, workspace) {
            return queued.map_err(failed(gpu, "queue a convolution with a ReLU"));
        }
        let given = arguments.operands;
        let operands = self.operands(gpu, given)?;
        self.run(handle, operands.pointers(), workspace as *mut c_void)
            .map_err(Refusal::from)
            .map_err(failed(gpu, "queue a convolution"))?;
        let Key { product, extents, data_type, .. } = &self.key;
        operands.finish(gpu, [extents, &self.extents], *data_type, product.written(), given)?;
        arguments.relu.map_or(Ok(()), |relu| (relu.pass)())
    }

    /// Lets cuDNN measure its algorithms for the product, with a workspace of `size` bytes.
    pub fn find(
        &self,
        handle: sys::cudnnHandle_t,
        operands: [u64; 3],
        workspace: *mut c_void,
        size: usize,
    ) -> std::result::Result<Vec<Candidate>, Refusal> {
        let [x_data, w_data, y_data] = operands.map(|pointer| pointer as *mut c_void);
        let (x, w, y) = ((self.x, x_data), (self.w, w_data), (self.y, y_data));
        let convolution = self.convolution;
        // SAFETY: descriptors and operands belong together; the records have room for as many as asked for, and cuDNN
        // writes as many as it says.
        unsafe {
            match self.key.product {
                Product::Forward => measured!(
                    sys::cudnnFindConvolutionForwardAlgorithmEx,
                    sys::cudnnConvolutionFwdAlgoPerf_t,
                    handle, convolution, (workspace, size), x, w => y
                ),
                Product::InputGradient => measured!(
                    sys::cudnnFindConvolutionBackwardDataAlgorithmEx,
                    sys::cudnnConvolutionBwdDataAlgoPerf_t,
                    handle, convolution, (workspace, size), w, y => x
                ),
                Product::WeightGradient => measured!(
                    sys::cudnnFindConvolutionBackwardFilterAlgorithmEx,
                    sys::cudnnConvolutionBwdFilterAlgoPerf_t,
                    handle, convolution, (workspace, size), x, y => w
                ),
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

    /// The convolution and the ReLU in one call; `None` if the plan is of another lowering.
    pub fn run_fused(
        &self,
        handle: sys::cudnnHandle_t,
        arguments: &Arguments<'_>,
        workspace: u64,
    ) -> Option<std::result::Result<(), Refusal>> {
        let Self { x, w, y, convolution, .. } = *self;
        let (bias, activation) = self.fused?;
        let given = arguments.relu.and_then(|relu| relu.bias);
        let added = given.map_or(arguments.zeros, Memory::pointer);
        let [x_data, w_data, y_data] =
            arguments.operands.each_ref().map(|operand| operand.pointer() as *mut c_void);
        let (one, zero) = (scalar(&1.0), scalar(&0.0));
        // SAFETY: descriptors, operands and workspace belong together. What might be added besides, times zero, is y
        // itself, which is not read then.
        let queued = unsafe {
            result::convolution_bias_activation_forward(
                handle,
                one,
                x,
                x_data,
                w,
                w_data,
                convolution,
                self.forward_algorithm(),
                workspace as *mut c_void,
                self.workspace,
                zero,
                y,
                y_data,
                bias,
                added as *const c_void,
                activation,
                y,
                y_data,
            )
        };
        Some(queued.map_err(Refusal::from))
    }

    fn run(
        &self,
        handle: sys::cudnnHandle_t,
        operands: [u64; 3],
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
