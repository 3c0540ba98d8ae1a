//! Forms of a convolution: the same product over other extents, for shapes that cuDNN has no fast kernels for.

use cudarc::driver::sys::CUdeviceptr;

use super::memory::Memory;
use super::{Gpu, Launch};
use crate::ops::Conv2dGeometry;
use crate::ops::conv2d::KERNELS;
use crate::{DataType, Result};

/// What cuDNN is asked to compute in place of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lowering {
    /// The convolution itself.
    Plain,
    /// Where the kernel covers the whole input: a product of matrices, that is a convolution of single pixels of
    /// `in_h * in_w * in_c` channels. The memory is the same.
    Flat,
    /// With channels of zeros up to a number that matrix units can take. Operands are copied.
    Padded,
    /// The convolution and the ReLU that follows it in one call. In the other lowerings that takes a pass of its own.
    Fused,
}

impl Lowering {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Flat, Self::Padded, Self::Fused];

    /// What it is called in the file of choices.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Flat => "flat",
            Self::Padded => "padded",
            Self::Fused => "fused",
        }
    }

    /// The extents that cuDNN sees, where matrix units take channels by `granule` (1: there are none to be had); `None`
    /// where the lowering is not to be had or is the plain one. Whether a ReLU follows is not asked here.
    pub fn extents(self, plain: &Conv2dGeometry, granule: usize) -> Option<Conv2dGeometry> {
        let g = *plain;
        match self {
            Self::Plain | Self::Fused => Some(g),
            Self::Flat => g.as_single_pixels().filter(|_| g.taps() > 1),
            Self::Padded => {
                let [in_c, out_c] = [g.in_c(), g.out_c()].map(|channels| channels.next_multiple_of(granule));
                let padded = g.with_channels(in_c, out_c).ok()?;
                // Kernels count elements in an int.
                let elements = [padded.x_elements(), padded.w_elements(), padded.y_elements()];
                let countable = elements.iter().all(|count| i32::try_from(*count).is_ok());
                (padded != g && countable).then_some(padded)
            }
        }
    }
}

/// The operands x, w and y of a product as its lowering has them: those given, or copies.
pub(super) struct Operands {
    /// Where each lies for cuDNN.
    pub pointers: [CUdeviceptr; 3],
    /// Those that are not the ones given.
    copies: [Option<Memory>; 3],
}

/// An operand seen as pixels (for a weight: taps) of channels.
#[derive(Clone, Copy, PartialEq)]
struct Rows {
    rows: usize,
    channels: usize,
}

/// Those of x, w and y.
fn rows(g: &Conv2dGeometry) -> [Rows; 3] {
    [g.x_shape(), g.w_shape(), g.y_shape()].map(|[a, b, c, channels]| Rows { rows: a * b * c, channels })
}

impl Operands {
    /// Queues the copies that a lowering needs: zeros are put around what is read; what is written (operand `written`) gets
    /// room.
    pub fn new(
        gpu: &'static Gpu,
        lowering: Lowering,
        [plain, formed]: [&Conv2dGeometry; 2],
        data_type: DataType,
        written: usize,
        given: [CUdeviceptr; 3],
    ) -> Result<Self> {
        let mut operands = Self { pointers: given, copies: [const { None }; 3] };
        if lowering != Lowering::Padded {
            return Ok(operands);
        }
        for (index, (from, to)) in rows(plain).into_iter().zip(rows(formed)).enumerate() {
            if from == to {
                continue;
            }
            let count = to.rows * to.channels;
            let copy = Memory::empty(gpu, count * data_type.bytes())?;
            if index != written {
                // A thread for four neighbours.
                Launch::new(gpu.device(), &KERNELS, "pad_channels", data_type)?
                    .pointer(copy.pointer())
                    .pointer(given[index])
                    .int(from.rows)
                    .int(from.channels)
                    .int(to.channels / 4)
                    .int(count / 4)
                    .elements(count / 4)?;
            }
            operands.pointers[index] = copy.pointer();
            operands.copies[index] = Some(copy);
        }
        Ok(operands)
    }

    /// Queues what brings the result to where it was asked for.
    pub fn finish(
        self,
        gpu: &'static Gpu,
        [plain, formed]: [&Conv2dGeometry; 2],
        data_type: DataType,
        written: usize,
        given: [CUdeviceptr; 3],
    ) -> Result<()> {
        let Some(copy) = &self.copies[written] else { return Ok(()) };
        let (to, from) = (rows(plain)[written], rows(formed)[written]);
        let count = to.rows * to.channels;
        Launch::new(gpu.device(), &KERNELS, "cut_channels", data_type)?
            .pointer(given[written])
            .pointer(copy.pointer())
            .int(from.channels)
            .int(to.channels)
            .int(count)
            .elements(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_there_where_they_can_help() {
        let extents = |x, w, padding, lowering: Lowering, granule| {
            let plain = Conv2dGeometry::new(x, w, 1, padding).unwrap();
            let formed = lowering.extents(&plain, granule)?;
            Some((formed.x_shape(), formed.w_shape(), formed.y_shape()))
        };
        let whole = ([2, 4, 4, 6], [16, 4, 4, 6]);
        let flat = Some(([2, 1, 1, 96], [16, 1, 1, 96], [2, 1, 1, 16]));
        assert_eq!(extents(whole.0, whole.1, 0, Lowering::Flat, 1), flat);
        assert_eq!(extents(whole.0, whole.1, 1, Lowering::Flat, 1), None, "more than one place");
        assert_eq!(extents([2, 1, 1, 6], [16, 1, 1, 6], 0, Lowering::Flat, 1), None, "flat as it is");
        let padded = Some(([2, 4, 4, 8], [16, 4, 4, 8], [2, 1, 1, 16]));
        assert_eq!(extents(whole.0, whole.1, 0, Lowering::Padded, 8), padded);
        assert_eq!(extents(whole.0, whole.1, 0, Lowering::Padded, 1), None, "no matrix units");
        assert_eq!(extents([2, 4, 4, 8], [16, 3, 3, 8], 1, Lowering::Padded, 8), None, "multiples already");
    }
}
