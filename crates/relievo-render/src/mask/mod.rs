//! Where the input view shows the surface at all.

mod cuda;

pub(crate) use cuda::KERNELS;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Device, Error, Operation, Result, Tensor, apply_one};

use crate::{DepthRange, check_type};

/// Where the surface is seen: 1 where the clamped depth ([`crate::clamp_depth`]) lies below the far end of the
/// widened range, 0 where it was clamped to it, as the background is; in all `parts` of the batch at once.
///
/// `depth` `[B, rows, columns]`, B = parts times M; result `[M, rows, columns]`, the product over the pictures
/// `i, i + M, ...`. With a batch doubled by mirroring `parts` is 2, else 1. No gradient flows through it.
/// Source: Wu et al. 2020, section 3.4.
///
/// # Errors
/// If `depth` has not three axes, or its batch cannot be divided into the parts.
pub fn visible_mask(depth: &Tensor, range: DepthRange, parts: usize) -> Result<Tensor> {
    const NAME: &str = "visible_mask";
    check_type(NAME, &[depth])?;
    let [batch, rows, columns] = depth.axes(NAME)?;
    if parts == 0 || !batch.is_multiple_of(parts) {
        return Err(Error::shape(NAME, format!("a batch of {batch} cannot be divided into {parts} parts")));
    }
    let [_, limit] = range.widened();
    let shape = [batch / parts, rows, columns];
    if depth.device() != Device::Cpu {
        return cuda::visible(depth, limit, shape, parts);
    }
    let mut mask = Tensor::full(shape, 1.0);
    let masks = mask.elements();
    if masks > 0 {
        let mask = mask.data_mut();
        for part in depth.data().chunks_exact(masks) {
            for (mask, depth) in mask.iter_mut().zip(part) {
                *mask *= f32::from(*depth < limit);
            }
        }
    }
    Ok(mask)
}

/// Multiplies every channel of every picture by its mask.
///
/// `picture` `[B, rows, columns, C]`; `mask` `[M, rows, columns]`, M a divisor of B (picture i takes mask `i % M`).
/// Gradient in the picture: that of the output times the mask; none in the mask.
///
/// # Errors
/// If the shapes are others.
pub fn apply_mask(picture: &Tensor, mask: &Tensor) -> Result<Tensor> {
    apply_one(ApplyMask { mask: mask.detach() }, &[picture])
}

struct ApplyMask {
    mask: Tensor,
}

impl ApplyMask {
    /// The number of channels, if pictures and mask fit.
    fn check(&self, pictures: &Tensor) -> Result<usize> {
        check_type(self.name(), &[pictures, &self.mask])?;
        let [batch, rows, columns, channels] = pictures.axes(self.name())?;
        let [masks, mask_rows, mask_columns] = self.mask.axes(self.name())?;
        crate::check_shared(self.name(), batch, masks, "masks")?;
        if [mask_rows, mask_columns] != [rows, columns] {
            let detail = format!("pictures {} and mask {} do not fit", pictures.shape(), self.mask.shape());
            return Err(Error::shape(self.name(), detail));
        }
        Ok(channels)
    }

    fn multiply(&self, pictures: &Tensor) -> Result<Tensor> {
        let channels = self.check(pictures)?.max(1);
        let [masks, rows, columns] = self.mask.axes(self.name())?;
        let mut product = Tensor::scratch(pictures.shape());
        let row = columns.max(1);
        let lines =
            product.data_mut().par_chunks_mut(row * channels).zip(pictures.data().par_chunks(row * channels));
        lines.enumerate().for_each(|(line, (product, values))| {
            let mask = &self.mask.data()[line % (masks * rows) * row..][..row];
            let pixels = product.chunks_exact_mut(channels).zip(values.chunks_exact(channels));
            for ((product, values), mask) in pixels.zip(mask) {
                for (product, value) in product.iter_mut().zip(values) {
                    *product = value * mask;
                }
            }
        });
        Ok(product)
    }
}

impl Operation for ApplyMask {
    fn name(&self) -> &'static str {
        "apply_mask"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        Ok(vec![self.multiply(inputs[0])?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.multiply(backward.gradient())?)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let channels = self.check(inputs[0])?;
        Ok(vec![cuda::apply(inputs[0], &self.mask, channels)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let channels = self.check(backward.gradient())?;
        Ok(vec![Some(cuda::apply(backward.gradient(), &self.mask, channels)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::Tape;

    const RANGE: DepthRange = DepthRange { min: 0.9, max: 1.1 };

    #[test]
    fn a_pixel_counts_where_both_halves_see_the_surface() {
        let far = RANGE.widened()[1];
        let depth = Tensor::new(&[1.0, far, 1.0, 1.1, 1.0, 1.0, far, 0.8], [2, 2, 2]).unwrap();
        assert_eq!(visible_mask(&depth, RANGE, 2).unwrap().data(), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(visible_mask(&depth, RANGE, 1).unwrap().data(), [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0]);
        let error = visible_mask(&depth, RANGE, 3).unwrap_err().to_string();
        assert_eq!(error, "visible_mask: a batch of 2 cannot be divided into 3 parts");
    }

    #[test]
    fn values_and_gradients_are_masked_alike() {
        let mask = Tensor::new(&[1.0, 0.0], [1, 1, 2]).unwrap();
        let tape = Tape::new();
        let picture =
            tape.watch(&Tensor::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [2, 1, 2, 2]).unwrap());
        let masked = apply_mask(&picture, &mask).unwrap();
        assert_eq!(masked.data(), [1.0, 2.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0]);
        let gradients = tape.backward(&masked).unwrap();
        assert_eq!(gradients.get(&picture).unwrap().data(), [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    }
}
