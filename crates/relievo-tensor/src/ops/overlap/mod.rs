//! Where two masks hold, less a pixel at the rim of each.

mod cuda;

pub(crate) use cuda::KERNELS;

use rayon::prelude::*;

use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

/// Above it a pixel is in a mask.
const HALF: f32 = 0.5;

/// 1 where the whole 3x3 neighbourhood of a pixel is in both masks (above 0.5), else 0; outside the image nothing is in
/// a mask. Masks and result `[B,H,W]`, f32. No gradient.
///
/// # Errors
/// If the shapes are not those of two masks.
pub fn overlap(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply_one(Overlap, &[&a.detach(), &b.detach()])
}

struct Overlap;

impl Overlap {
    fn check(&self, a: &Tensor, b: &Tensor) -> Result<[usize; 3]> {
        let extents = a.dims(self.name())?;
        if a.shape() == b.shape() {
            return Ok(extents);
        }
        Err(Error::shape(self.name(), format!("masks of shape {} and {}", a.shape(), b.shape())))
    }
}

impl Operation for Overlap {
    fn name(&self) -> &'static str {
        "overlap"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let [_, height, width] = self.check(inputs[0], inputs[1])?;
        let (a, b) = (inputs[0].data(), inputs[1].data());
        let mut both = Tensor::empty(inputs[0].shape());
        both.data_mut().par_chunks_mut(width.max(1)).enumerate().for_each(|(line, both)| {
            let row = line % height;
            let holds = |column: usize| {
                let is_inner = (1..height - 1).contains(&row) && (1..width - 1).contains(&column);
                is_inner
                    && (line - 1..=line + 1).all(|line| {
                        let near = line * width + column - 1..line * width + column + 2;
                        a[near.clone()].iter().zip(&b[near]).all(|(a, b)| *a > HALF && *b > HALF)
                    })
            };
            for (column, both) in both.iter_mut().enumerate() {
                *both = f32::from(u8::from(holds(column)));
            }
        });
        Ok(vec![both])
    }

    fn backward(&self, _: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![None, None])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let extents = self.check(inputs[0], inputs[1])?;
        Ok(vec![cuda::overlap(extents, [inputs[0], inputs[1]])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_masks_lose_a_pixel_at_their_rim() {
        let mask = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
            let holds = |at: usize| rows.contains(&(at / 7 % 6)) && columns.contains(&(at % 7));
            let mask: Vec<f32> = (0..2 * 6 * 7).map(|at| f32::from(u8::from(holds(at)))).collect();
            Tensor::new(&mask, [2, 6, 7]).unwrap()
        };
        let both = overlap(&mask(0..6, 0..5), &mask(2..6, 1..7)).unwrap();
        // Rows 3 and 4: the last row is at the image's border. Columns 2 and 3.
        assert_eq!(both.data(), mask(3..5, 2..4).data());
        let one = Tensor::full([1, 1, 3], 1.0);
        assert_eq!(overlap(&one, &one).unwrap().data(), [0.0; 3]);
        let refusal = overlap(&mask(0..1, 0..1), &one).unwrap_err().to_string();
        assert_eq!(refusal, "overlap: masks of shape [2, 6, 7] and [1, 1, 3]");
    }
}
