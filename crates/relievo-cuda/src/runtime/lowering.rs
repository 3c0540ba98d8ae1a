//! Lowerings of a convolution: the same product over other extents, for shapes that cuDNN has no fast kernels for.

use super::memory::Memory;
use super::{Gpu, Launch};
use crate::{ConvExtents, DataType, Kernels, Lowering, Result};

/// `lowering.cu`, compiled.
static KERNELS: Kernels = Kernels { name: "lowering", source: include_str!("lowering.cu") };

/// All files of kernels of this crate: for a test that compiles them.
#[doc(hidden)]
pub fn kernels() -> Vec<&'static Kernels> {
    vec![&KERNELS]
}

impl Lowering {
    /// Its name in the file of choices.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Flat => "flat",
            Self::Padded => "padded",
            Self::Fused => "fused",
        }
    }

    /// The extents that cuDNN sees. `granule` is the multiple of channels that tensor cores require (1 if they cannot be
    /// used). `None` if the lowering does not apply or would be the plain one. Does not check whether a ReLU follows.
    pub(super) fn extents(self, plain: &ConvExtents, granule: usize) -> Option<ConvExtents> {
        let ConvExtents {
            x: [batch, in_h, in_w, in_c], w: [out_c, kernel_h, kernel_w, _], y, padding, ..
        } = *plain;
        match self {
            Self::Plain | Self::Fused => Some(*plain),
            Self::Flat => {
                let covers = (kernel_h, kernel_w) == (in_h, in_w) && padding == 0;
                let pixels = in_h * in_w * in_c;
                (covers && kernel_h * kernel_w > 1).then_some(ConvExtents {
                    x: [batch, 1, 1, pixels],
                    w: [out_c, 1, 1, pixels],
                    stride: 1,
                    ..*plain
                })
            }
            Self::Padded => {
                let [inputs, outputs] = [in_c, out_c].map(|channels| channels.next_multiple_of(granule));
                let [_, out_h, out_w, _] = y;
                let padded = ConvExtents {
                    x: [batch, in_h, in_w, inputs],
                    w: [outputs, kernel_h, kernel_w, inputs],
                    y: [batch, out_h, out_w, outputs],
                    ..*plain
                };
                // Kernels count elements in an int.
                let countable = [padded.x, padded.w, padded.y].into_iter().all(|extents| {
                    let elements = extents.into_iter().try_fold(1usize, usize::checked_mul);
                    elements.is_some_and(|count| i32::try_from(count).is_ok())
                });
                (padded != *plain && countable).then_some(padded)
            }
        }
    }
}

/// The operands x, w and y of a product as its lowering has them: those given, or copies.
pub(super) struct Operands([Memory; 3]);

/// An operand seen as pixels (for a weight: taps) of channels.
#[derive(Clone, Copy, PartialEq)]
struct Rows {
    rows: usize,
    channels: usize,
}

/// Those of x, w and y.
fn rows(extents: &ConvExtents) -> [Rows; 3] {
    [extents.x, extents.w, extents.y].map(|[a, b, c, channels]| Rows { rows: a * b * c, channels })
}

impl Operands {
    /// Queues the copies that a lowering needs: zeros are put around what is read; what is written (operand `written`)
    /// gets room.
    pub fn new(
        gpu: &'static Gpu,
        lowering: Lowering,
        [plain, lowered]: [&ConvExtents; 2],
        data_type: DataType,
        written: usize,
        given: &[Memory; 3],
    ) -> Result<Self> {
        let mut operands = given.clone();
        if lowering != Lowering::Padded {
            return Ok(Self(operands));
        }
        for (index, (from, to)) in rows(plain).into_iter().zip(rows(lowered)).enumerate() {
            if from == to {
                continue;
            }
            let count = to.rows * to.channels;
            let copy = Memory::empty(gpu, count * data_type.bytes())?;
            if index != written {
                // A thread for four neighbours.
                Launch::new(gpu.ordinal(), &KERNELS, "pad_channels", data_type)?
                    .output_memory(&copy)
                    .input_memory(&given[index])
                    .int(from.rows)
                    .int(from.channels)
                    .int(to.channels / 4)
                    .int(count / 4)
                    .elements(count / 4)?;
            }
            operands[index] = copy;
        }
        Ok(Self(operands))
    }

    /// Where x, w and y lie for cuDNN.
    pub fn pointers(&self) -> [u64; 3] {
        self.0.each_ref().map(Memory::pointer)
    }

    /// Queues the copy of the result to where it was asked for.
    pub fn finish(
        self,
        gpu: &'static Gpu,
        [plain, lowered]: [&ConvExtents; 2],
        data_type: DataType,
        written: usize,
        given: &[Memory; 3],
    ) -> Result<()> {
        let copy = &self.0[written];
        if copy.pointer() == given[written].pointer() {
            return Ok(());
        }
        let (to, from) = (rows(plain)[written], rows(lowered)[written]);
        let count = to.rows * to.channels;
        Launch::new(gpu.ordinal(), &KERNELS, "cut_channels", data_type)?
            .output_memory(&given[written])
            .input_memory(copy)
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
    fn lowerings_apply_where_they_can_help() {
        let extents = |x: [usize; 4], w: [usize; 4], padding: usize, lowering: Lowering, granule| {
            let out = |side: usize, kernel: usize| side + 2 * padding - kernel + 1;
            let y = [x[0], out(x[1], w[1]), out(x[2], w[2]), w[0]];
            let lowered = lowering.extents(&ConvExtents { x, w, y, stride: 1, padding }, granule)?;
            Some((lowered.x, lowered.w, lowered.y))
        };
        let whole = ([2, 4, 4, 6], [16, 4, 4, 6]);
        let flat = Some(([2, 1, 1, 96], [16, 1, 1, 96], [2, 1, 1, 16]));
        assert_eq!(extents(whole.0, whole.1, 0, Lowering::Flat, 1), flat);
        assert_eq!(extents(whole.0, whole.1, 1, Lowering::Flat, 1), None, "more than one place");
        assert_eq!(extents([2, 1, 1, 6], [16, 1, 1, 6], 0, Lowering::Flat, 1), None, "flat as it is");
        let padded = Some(([2, 4, 4, 8], [16, 4, 4, 8], [2, 1, 1, 16]));
        assert_eq!(extents(whole.0, whole.1, 0, Lowering::Padded, 8), padded);
        assert_eq!(extents(whole.0, whole.1, 0, Lowering::Padded, 1), None, "no tensor cores");
        assert_eq!(extents([2, 4, 4, 8], [16, 3, 3, 8], 1, Lowering::Padded, 8), None, "multiples already");
    }
}
