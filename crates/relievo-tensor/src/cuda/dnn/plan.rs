//! One product of a convolution with everything set up, and the calls of cuDNN that compute and measure it.

use std::ffi::c_void;
use std::mem::{MaybeUninit, transmute};

use cudarc::cudnn::{result, sys};
use cudarc::driver::sys::CUdeviceptr;

use super::{Key, Places, Product, Refusal, failed};
use crate::cuda::Gpu;
use crate::cuda::lowering::{Lowering, Operands};
use crate::ops::{Activation, Conv2dGeometry};
use crate::{DataType, Result};

/// A product with everything set up. The descriptors live as long as the process, like the GPU.
pub(super) struct Plan {
    key: Key,
    lowering: Lowering,
    /// The lowering's extents.
    extents: Conv2dGeometry,
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    algorithm: u32,
    /// Bytes that the algorithm wants beside the operands.
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
        let candidate = |record: &MaybeUninit<$record>| {
            let record = record.assume_init_ref();
            Candidate {
                algorithm: record.algo as u32,
                math: record.mathType as u32,
                succeeds: record.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS,
                memory: record.memory,
                deterministic: record.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC,
            }
        };
        Ok(written.map(candidate).collect())
    }};
}

impl Plan {
    /// Descriptors of the operands and of the convolution in a lowering; no algorithm yet. `None` if the lowering is not to be
    /// had.
    pub fn describe(gpu: &'static Gpu, key: &Key, lowering: Lowering) -> Result<Option<Self>> {
        let Some(extents) = key.extents(lowering) else { return Ok(None) };
        let plan = Self::from_extents(key, lowering, extents).map_err(Refusal::from);
        plan.map(Some).map_err(failed(gpu, "the extents of a convolution"))
    }

    fn from_extents(
        key: &Key,
        lowering: Lowering,
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
            let (padding, stride) = (g.padding() as i32, g.stride() as i32);
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
                result::set_tensor4d_descriptor(bias, format, data_type, of([1, 1, 1, g.out_c()]))?;
                let activation = result::create_activation_descriptor()?;
                let relu = sys::cudnnActivationMode_t::CUDNN_ACTIVATION_RELU;
                // The other way is not documented for this call. A NaN may come out as zero then, with a gradient that
                // is none either; what made it is in the losses and in other gradients.
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
    pub fn operands(&self, gpu: &'static Gpu, given: [CUdeviceptr; 3]) -> Result<Operands> {
        let Key { product, geometry, data_type, .. } = &self.key;
        Operands::new(gpu, self.lowering, [geometry, &self.extents], *data_type, product.written(), given)
    }

    /// Queues the product, and the ReLU if the key has one. The workspace has as many bytes as the plan says.
    pub fn compute(
        &self,
        gpu: &'static Gpu,
        handle: sys::cudnnHandle_t,
        places: Places,
        workspace: CUdeviceptr,
    ) -> Result<()> {
        if let Some(queued) = self.run_fused(handle, places, workspace) {
            return queued.map_err(failed(gpu, "a convolution with a ReLU"));
        }
        let Places { operands: given, bias, .. } = places;
        let operands = self.operands(gpu, given)?;
        self.run(handle, operands.pointers, workspace as *mut c_void)
            .map_err(Refusal::from)
            .map_err(failed(gpu, "a convolution"))?;
        let Key { product, geometry, data_type, relu, .. } = &self.key;
        operands.finish(gpu, [geometry, &self.extents], *data_type, product.written(), given)?;
        if !relu {
            return Ok(());
        }
        let [_, _, y] = given;
        let extents = [geometry.out_c(), geometry.y_elements()];
        Activation::Relu.replace_at((gpu.device(), *data_type), y, bias, extents)
    }

    /// Lets cuDNN measure its algorithms for the product, with a workspace of `size` bytes.
    pub fn find(
        &self,
        handle: sys::cudnnHandle_t,
        operands: [CUdeviceptr; 3],
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
        places: Places,
        workspace: CUdeviceptr,
    ) -> Option<std::result::Result<(), Refusal>> {
        let Self { x, w, y, convolution, .. } = *self;
        let (bias, activation) = self.fused?;
        let added = if places.bias == 0 { places.zeros } else { places.bias };
        let [x_data, w_data, y_data] = places.operands.map(|pointer| pointer as *mut c_void);
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
