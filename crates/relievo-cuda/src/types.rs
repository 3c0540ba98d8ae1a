//! What the runtime and its stand-in share: descriptions without a GPU behind them.

use crate::{Error, Launch, Memory, Result};

/// The type that elements are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DataType {
    /// 32-bit floating point.
    #[default]
    F32,
    /// The upper half of an f32: its range, and 8 bits of mantissa. On GPUs only.
    Bf16,
}

impl DataType {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// A file of kernels. It is compiled once for each type of `real` it is launched with.
///
/// The source is trusted as an `extern` block is: a kernel that writes outside the memory its arguments describe
/// overwrites other tensors of the GPU. A [`Launch`] checks everything that reaches the *host's* memory.
#[derive(Debug)]
pub struct Kernels {
    /// The operation's name, for error messages and file names.
    pub name: &'static str,
    /// CUDA C. Kernels are `extern "C" __global__ void` and use no dynamic shared memory.
    pub source: &'static str,
}

/// An array in the memory of a GPU, as [`Launch`] takes it.
pub trait DevicePointer {
    /// The memory; `None` if the array is elsewhere.
    fn memory(&self) -> Option<&Memory>;

    /// The memory, to be written: nobody else sees the change. Copies the array first if it is shared.
    ///
    /// # Errors
    /// If the GPU is out of memory or fails.
    fn memory_mut(&mut self) -> Result<Option<&Memory>>;

    /// The type of the elements.
    fn data_type(&self) -> DataType;

    /// What error messages call it, with its extents: `tensor [2, 3]`.
    fn describe(&self) -> String;
}

/// What the pool of a GPU has done since it was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuMemoryStatistics {
    /// Blocks asked of the driver. Does not grow in the steady state.
    pub allocations: u64,
    /// Bytes now held, in use or free.
    pub bytes_held: usize,
    /// The most bytes ever held.
    pub bytes_peak: usize,
}

/// The direction in which an operation ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pass {
    /// From inputs to outputs.
    Forward,
    /// From the outputs' gradients to the inputs'.
    Backward,
    /// Neither: the optimiser.
    Update,
}

/// The least that an operation must do.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Bytes read and written if each is touched once.
    pub bytes: f64,
    /// Multiplications and additions.
    pub flops: f64,
}

/// An operation of captured work.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its name.
    pub operation: &'static str,
    /// The direction in which it ran.
    pub pass: Pass,
    /// The least it must do.
    pub cost: Cost,
    /// How long it took in the last replay, in seconds.
    pub seconds: f64,
}

/// Which tensor of a convolution `y = x * w` is computed from the other two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Product {
    /// y, the convolution.
    Forward,
    /// The gradient of x: the transposed convolution.
    InputGradient,
    /// The gradient of w.
    WeightGradient,
}

impl Product {
    /// The index among x, w, y of the tensor it computes.
    pub(crate) fn written(self) -> usize {
        match self {
            Self::Forward => 2,
            Self::InputGradient => 0,
            Self::WeightGradient => 1,
        }
    }
}

/// How exactly a convolution is computed on a GPU. A CPU always computes in f32, with the same bits in every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ConvPolicy {
    /// Factors of f32 may be rounded to tf32, which has the range of f32 and 10 bits of mantissa and is several times as
    /// fast. Means nothing for bf16.
    pub tf32: bool,
    /// Only algorithms that give the same bits in every run (all other kernels do anyway).
    pub deterministic: bool,
}

/// The extents of a convolution of `x [batch, height, width, in]` with `w [out, kernel height, kernel width, in]` into
/// `y [batch, height, width, out]`, all in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvExtents {
    /// Extents of x.
    pub x: [usize; 4],
    /// Extents of w.
    pub w: [usize; 4],
    /// Extents of y.
    pub y: [usize; 4],
    /// Pixels of x between neighbours of y, the same along both axes.
    pub stride: usize,
    /// Zeros around x, the same on all four sides.
    pub padding: usize,
}

/// The ReLU that follows [`Product::Forward`]: of the sum of y and a bias `[out]` of the same type, if there is one.
pub struct Relu<'a> {
    /// The bias.
    pub bias: Option<&'a Memory>,
    /// Queues the pass over y that adds the bias and applies the ReLU, for lowerings in which cuDNN does not. It is
    /// called when the convolution is computed and, several times, when algorithms are timed.
    pub pass: &'a dyn Fn() -> Result<()>,
}

/// How a convolution is put to cuDNN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lowering {
    /// The convolution itself.
    Plain,
    /// Where the kernel covers the whole input: a product of matrices, as a convolution of single pixels of
    /// `height * width * in` channels. The memory is the same.
    Flat,
    /// With channels of zeros up to a multiple that tensor cores take. Operands are copied.
    Padded,
    /// The convolution and the ReLU that follows it in one call. In the other lowerings that takes a pass of its own.
    Fused,
}

impl Lowering {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Flat, Self::Padded, Self::Fused];
}

/// A number as a kernel's `int`. `what` names the kernel or the operation in the error.
///
/// # Errors
/// If it is beyond 2^31 - 1.
pub fn kernel_int(value: usize, what: &'static str) -> Result<i32> {
    i32::try_from(value).map_err(|_| Error::TooLarge { what, value })
}

impl Launch {
    /// A pointer to elements to be read, or null.
    pub fn optional_input(self, array: Option<&impl DevicePointer>) -> Self {
        match array {
            Some(array) => self.input(array),
            None => self.null(),
        }
    }

    /// A pointer to elements to be written, or null.
    pub fn optional_output(self, array: Option<&mut impl DevicePointer>) -> Self {
        match array {
            Some(array) => self.output(array),
            None => self.null(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_an_int_are_refused() {
        assert_eq!(kernel_int(2_147_483_647, "sum").unwrap(), i32::MAX);
        let error = kernel_int(2_147_483_648, "sum").unwrap_err().to_string();
        assert_eq!(error, "sum: 2147483648 is more than a kernel can count");
    }
}
