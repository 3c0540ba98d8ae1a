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

fn run(case: Case) {
    let [x_shape, w_shape, y_shape] = case.shapes();
    let count = |s: [usize; 4]| s.iter().product::<usize>();
    let (x, w, dy) = (numbers(count(x_shape), 1), numbers(count(w_shape), 2), numbers(count(y_shape), 3));
    let mut y = vec![0f32; dy.len()];
    let mut dx = vec![0f32; x.len()];
    let mut dw = vec![0f32; w.len()];
    case.products(|i, j, k| {
        y[k] += x[i] * w[j];
        dx[i] += dy[k] * w[j];
        dw[j] += dy[k] * x[i];
    });
    // SAFETY: descriptors, pointers and extents belong together; the emulator checks them, too.
    unsafe {
        let handle = result::create_handle().unwrap();
        result::set_stream(handle, std::ptr::null_mut()).unwrap();
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
        let tensor = |s: [usize; 4]| {
            let t = result::create_tensor_descriptor().unwrap();
            result::set_tensor4d_descriptor(t, format, kind, s.map(|v| v as i32)).unwrap();
            t
        };
        let (xt, yt) = (tensor(x_shape), tensor(y_shape));
        let wt = result::create_filter_descriptor().unwrap();
        result::set_filter4d_descriptor(wt, kind, format, w_shape.map(|v| v as i32)).unwrap();
        let conv = result::create_convolution_descriptor().unwrap();
        let (stride, dilation) = (case.stride as i32, case.dilation as i32);
        result::set_convolution2d_descriptor(
            conv,
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
        let (x_data, w_data, dy_data) =
            (Data::new(&x, case.bf16), Data::new(&w, case.bf16), Data::new(&dy, case.bf16));
        let (one, zero, two) = (1f32, 0f32, 2f32);
        let pointer = |v: &f32| std::ptr::from_ref(v).cast::<c_void>();

        let algorithm = sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
        let size =
            result::get_convolution_forward_workspace_size(handle, xt, wt, conv, yt, algorithm).unwrap();
        assert!(size > 0);
        let workspace = Buffer::<u8>::new(size);
        let out = Data::new(&vec![f32::NAN; y.len()], case.bf16);
        for (alpha, beta) in [(&one, &zero), (&two, &one)] {
            result::convolution_forward(
                handle,
                pointer(alpha),
                xt,
                x_data.pointer(),
                wt,
                w_data.pointer(),
                conv,
                algorithm,
                workspace.pointer as *mut c_void,
                size,
                pointer(beta),
                yt,
                out.pointer(),
            )
            .unwrap();
            let factor = alpha + beta * 1.0;
            compare("y", &case, &out.read(), &y.iter().map(|v| v * factor).collect::<Vec<_>>());
        }

        let algorithm = sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
        let size = result::get_convolution_backward_data_workspace_size(handle, wt, yt, conv, xt, algorithm)
            .unwrap();
        let workspace = Buffer::<u8>::new(size);
        let out = Data::new(&vec![f32::NAN; x.len()], case.bf16);
        result::convolution_backward_data(
            handle,
            pointer(&one),
            wt,
            w_data.pointer(),
            yt,
            dy_data.pointer(),
            conv,
            algorithm,
            workspace.pointer as *mut c_void,
            size,
            pointer(&zero),
            xt,
            out.pointer(),
        )
        .unwrap();
        compare("dx", &case, &out.read(), &dx);

        let algorithm = sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
        let size =
            result::get_convolution_backward_filter_workspace_size(handle, xt, yt, conv, wt, algorithm)
                .unwrap();
        let workspace = Buffer::<u8>::new(size);
        let out = Data::new(&vec![f32::NAN; w.len()], case.bf16);
        result::convolution_backward_filter(
            handle,
            pointer(&one),
            xt,
            x_data.pointer(),
            yt,
            dy_data.pointer(),
            conv,
            algorithm,
            workspace.pointer as *mut c_void,
            size,
            pointer(&zero),
            wt,
            out.pointer(),
        )
        .unwrap();
        compare("dw", &case, &out.read(), &dw);
    }
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
