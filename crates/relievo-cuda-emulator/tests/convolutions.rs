//! The three directions of a convolution against loops written out.

mod cuda;
use cuda::{Buffer, start};
use cudarc::cudnn::{result, sys};
use std::ffi::c_void;

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    inputs: usize,
    outputs: usize,
    height: usize,
    width: usize,
    kernel: (usize, usize),
    pad: (usize, usize),
    stride: usize,
    dilation: usize,
    channels_last: bool,
    bf16: bool,
}

impl Case {
    fn out(&self) -> (usize, usize) {
        let extent =
            |n: usize, k: usize, p: usize| (n + 2 * p - (k - 1) * self.dilation - 1) / self.stride + 1;
        (extent(self.height, self.kernel.0, self.pad.0), extent(self.width, self.kernel.1, self.pad.1))
    }

    /// Index of (n, c, h, w) in a tensor of these extents.
    fn at(&self, [_, c, h, w]: [usize; 4], [i, j, y, x]: [usize; 4]) -> usize {
        if self.channels_last { ((i * h + y) * w + x) * c + j } else { ((i * c + j) * h + y) * w + x }
    }

    fn shapes(&self) -> [[usize; 4]; 3] {
        let (h, w) = self.out();
        [
            [self.batch, self.inputs, self.height, self.width],
            [self.outputs, self.inputs, self.kernel.0, self.kernel.1],
            [self.batch, self.outputs, h, w],
        ]
    }

    /// Calls with the indices into x, w and y of every product.
    fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
        let [x, w, y] = self.shapes();
        for n in 0..y[0] {
            for o in 0..y[1] {
                for oh in 0..y[2] {
                    for ow in 0..y[3] {
                        for c in 0..x[1] {
                            for r in 0..w[2] {
                                for s in 0..w[3] {
                                    let h = (oh * self.stride + r * self.dilation).wrapping_sub(self.pad.0);
                                    let v = (ow * self.stride + s * self.dilation).wrapping_sub(self.pad.1);
                                    if h < x[2] && v < x[3] {
                                        each(
                                            self.at(x, [n, c, h, v]),
                                            self.at(w, [o, c, r, s]),
                                            self.at(y, [n, o, oh, ow]),
                                        );
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Numbers of a bfloat16, so that every product is exact.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) % 255) as f32 / 64.0 - 2.0
        })
        .collect()
}

fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

/// A tensor on the device, as float or bfloat16.
enum Data {
    Float(Buffer<f32>),
    Half(Buffer<u16>),
}

impl Data {
    fn new(values: &[f32], half: bool) -> Self {
        if half {
            Self::Half(Buffer::from(&values.iter().map(|v| bf16(*v)).collect::<Vec<_>>()))
        } else {
            Self::Float(Buffer::from(values))
        }
    }
    fn pointer(&self) -> *mut c_void {
        match self {
            Self::Float(b) => b.pointer as *mut c_void,
            Self::Half(b) => b.pointer as *mut c_void,
        }
    }
    fn read(&self) -> Vec<f32> {
        match self {
            Self::Float(b) => b.read(),
            Self::Half(b) => b.read().iter().map(|v| f32::from_bits((*v as u32) << 16)).collect(),
        }
    }
}

fn compare(what: &str, case: &Case, got: &[f32], expected: &[f32]) {
    let tolerance = if case.bf16 { 2.0 / 256.0 } else { 1e-5 }; // two roundings where there is a beta
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * (1.0 + e.abs()), "{what} of {case:?}: {g} is not {e} at {i}");
    }
}

/// A convolution as cuDNN is told about it, with x, w and dy in its memory.
struct Described {
    case: Case,
    handle: sys::cudnnHandle_t,
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    operands: [Data; 3],
}

fn pointer(v: &f32) -> *const c_void {
    std::ptr::from_ref(v).cast()
}

impl Described {
    fn new(case: Case, operands: [&[f32]; 3]) -> Self {
        let format = if case.channels_last {
            sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC
        } else {
            sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW
        };
        let kind = if case.bf16 {
            sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16
        } else {
            sys::cudnnDataType_t::CUDNN_DATA_FLOAT
        };
        let [x_shape, w_shape, y_shape] = case.shapes().map(|shape| shape.map(|v| v as i32));
        let (stride, dilation) = (case.stride as i32, case.dilation as i32);
        let handle = result::create_handle().unwrap();
        let w = result::create_filter_descriptor().unwrap();
        let convolution = result::create_convolution_descriptor().unwrap();
        let tensor = |shape: [i32; 4]| {
            let tensor = result::create_tensor_descriptor().unwrap();
            // SAFETY: a descriptor and its extents.
            unsafe { result::set_tensor4d_descriptor(tensor, format, kind, shape).unwrap() };
            tensor
        };
        // SAFETY: descriptors and their extents; a null pointer is the default stream.
        unsafe {
            result::set_stream(handle, std::ptr::null_mut()).unwrap();
            result::set_filter4d_descriptor(w, kind, format, w_shape).unwrap();
            result::set_convolution2d_descriptor(
                convolution,
                case.pad.0 as i32,
                case.pad.1 as i32,
                stride,
                stride,
                dilation,
                dilation,
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )
            .unwrap();
        }
        let operands = operands.map(|values| Data::new(values, case.bf16));
        Self { case, handle, x: tensor(x_shape), w, y: tensor(y_shape), convolution, operands }
    }

    /// Memory for a result of so many elements, which are NaN.
    fn result(&self, length: usize) -> Data {
        Data::new(&vec![f32::NAN; length], self.case.bf16)
    }

    /// `out = alpha * conv(x, w) + beta * out`.
    fn forward(&self, out: &Data, alpha: f32, beta: f32) {
        let Self { handle, x, w, y, convolution, .. } = *self;
        let algorithm = sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
        // SAFETY: descriptors, pointers and extents belong together; the emulator checks them, too.
        unsafe {
            let size =
                result::get_convolution_forward_workspace_size(handle, x, w, convolution, y, algorithm)
                    .unwrap();
            assert!(size > 0);
            let workspace = Buffer::<u8>::new(size);
            result::convolution_forward(
                handle,
                pointer(&alpha),
                x,
                self.operands[0].pointer(),
                w,
                self.operands[1].pointer(),
                convolution,
                algorithm,
                workspace.pointer as *mut c_void,
                size,
                pointer(&beta),
                y,
                out.pointer(),
            )
            .unwrap();
        }
    }

    fn input_gradient(&self, length: usize) -> Vec<f32> {
        let Self { handle, x, w, y, convolution, .. } = *self;
        let algorithm = sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
        let out = self.result(length);
        // SAFETY: as in `forward`.
        unsafe {
            let size =
                result::get_convolution_backward_data_workspace_size(handle, w, y, convolution, x, algorithm)
                    .unwrap();
            let workspace = Buffer::<u8>::new(size);
            result::convolution_backward_data(
                handle,
                pointer(&1.0),
                w,
                self.operands[1].pointer(),
                y,
                self.operands[2].pointer(),
                convolution,
                algorithm,
                workspace.pointer as *mut c_void,
                size,
                pointer(&0.0),
                x,
                out.pointer(),
            )
            .unwrap();
        }
        out.read()
    }

    fn weight_gradient(&self, length: usize) -> Vec<f32> {
        let Self { handle, x, w, y, convolution, .. } = *self;
        let algorithm = sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
        let out = self.result(length);
        // SAFETY: as in `forward`.
        unsafe {
            let size = result::get_convolution_backward_filter_workspace_size(
                handle,
                x,
                y,
                convolution,
                w,
                algorithm,
            )
            .unwrap();
            let workspace = Buffer::<u8>::new(size);
            result::convolution_backward_filter(
                handle,
                pointer(&1.0),
                x,
                self.operands[0].pointer(),
                y,
                self.operands[2].pointer(),
                convolution,
                algorithm,
                workspace.pointer as *mut c_void,
                size,
                pointer(&0.0),
                w,
                out.pointer(),
            )
            .unwrap();
        }
        out.read()
    }
}

fn run(case: Case) {
    let [x, w, dy] = [(0, 1), (1, 2), (2, 3)]
        .map(|(operand, seed)| numbers(case.shapes()[operand].iter().product::<usize>(), seed));
    let [mut dx, mut dw, mut y] = [&x, &w, &dy].map(|values| vec![0f32; values.len()]);
    case.products(|i, j, k| {
        y[k] += x[i] * w[j];
        dx[i] += dy[k] * w[j];
        dw[j] += dy[k] * x[i];
    });
    let described = Described::new(case, [&x, &w, &dy]);
    let case = &described.case;
    let out = described.result(y.len());
    for (alpha, beta) in [(1.0, 0.0), (2.0, 1.0)] {
        described.forward(&out, alpha, beta);
        // The second adds to the result of the first.
        let right: Vec<f32> = y.iter().map(|v| v * (alpha + beta)).collect();
        compare("y", case, &out.read(), &right);
    }
    compare("dx", case, &described.input_gradient(dx.len()), &dx);
    compare("dw", case, &described.weight_gradient(dw.len()), &dw);
}

#[test]
fn all_directions_agree_with_loops() {
    let Some(()) = start() else { return };
    let base = Case {
        batch: 2,
        inputs: 5,
        outputs: 7,
        height: 9,
        width: 6,
        kernel: (3, 3),
        pad: (1, 1),
        stride: 1,
        dilation: 1,
        channels_last: true,
        bf16: false,
    };
    for channels_last in [true, false] {
        for bf16 in [true, false] {
            let base = Case { channels_last, bf16, ..base };
            for case in [
                base,
                Case { kernel: (4, 4), stride: 2, height: 8, width: 8, ..base },
                Case { kernel: (4, 4), pad: (0, 0), height: 4, width: 4, ..base },
                Case { kernel: (5, 2), pad: (2, 0), ..base },
                Case { kernel: (1, 1), pad: (0, 0), ..base },
                Case { kernel: (1, 1), pad: (0, 0), stride: 2, ..base },
                Case { stride: 3, dilation: 2, height: 14, width: 11, ..base },
                Case { inputs: 64, outputs: 40, batch: 3, height: 17, width: 13, ..base },
                Case { inputs: 3, outputs: 300, height: 5, width: 5, ..base },
            ] {
                run(case);
            }
        }
    }
}
