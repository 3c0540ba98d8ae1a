//! How differently two images order the brightness of neighbours.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use super::compared::{Compared, elements};
use crate::{Backward, Context, Operation, Result, Tensor, apply_one};

/// The neighbours of a pixel reach so far along rows and columns: windows of 7x7.
const RADIUS: usize = 3;
/// Colours in [-1,1] as grey levels.
const LEVELS: f32 = 127.5;
/// A difference of a grey level is about half of a step from darker to lighter.
const SOFT: f32 = 0.81;
/// Distances of the steps beyond about this count nearly the same.
const FAR: f32 = 0.1;

/// The soft census distance of a reconstruction from its target at each pixel: `[n,H,W,1]` in [0,1).
///
/// reconstruction `[n,H,W,C]` and target `[B,H,W,C]` in [-1,1] with n = B or 2 B (the same for both halves), mask
/// `[B,H,W]` or `[n,H,W]`, all f32. Let d be the difference in grey levels (the mean of the channels times 127.5) from a
/// pixel to a neighbour of the 7x7 around it, and t = d / sqrt(0.81 + d^2) a soft sign of it. The distance is the mean of
/// `(t - t')^2 / (0.1 + (t - t')^2)` over the neighbours under the mask; 0 where there are none or the mask is 0.
/// It does not depend on the brightness of an image, nor much on its contrast.
///
/// Gradients flow to the reconstruction, none to target and mask.
///
/// Source: Zabih and Woodfill 1994 (the census transform); Meister, Hur and Roth 2018, section 3 (a soft one as a loss).
///
/// # Errors
/// If the shapes do not fit.
pub fn census_errors(reconstruction: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    apply_one(CensusErrors, &[reconstruction, &target.detach(), &mask.detach()])
}

struct CensusErrors;

impl Operation for CensusErrors {
    fn name(&self) -> &'static str {
        "census_errors"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let compared = Compared::new(self.name(), inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        let mut errors = Tensor::empty([compared.images, compared.height, compared.width, 1]);
        cpu::errors(compared, elements(inputs), errors.data_mut());
        Ok(vec![errors])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs: Vec<&Tensor> = backward.saved.iter().collect();
        let compared = Compared::new(self.name(), &inputs)?;
        let mut gradient = Tensor::empty(inputs[0].shape());
        cpu::gradient(compared, elements(&inputs), backward.gradient().data(), gradient.data_mut());
        Ok(vec![Some(gradient), None, None])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let compared = Compared::new(self.name(), inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![cuda::errors(compared, [inputs[0], inputs[1], inputs[2]])?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs: Vec<&Tensor> = backward.saved.iter().collect();
        let compared = Compared::new(self.name(), &inputs)?;
        let inputs = [inputs[0], inputs[1], inputs[2]];
        Ok(vec![Some(cuda::gradient(compared, inputs, backward.gradient())?), None, None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    fn mask_of(images: usize, height: usize, width: usize) -> Tensor {
        let is_in = |at: usize| !at.is_multiple_of(width) && at / width % height < height - 1;
        let mask: Vec<f32> = (0..images * height * width).map(|at| f32::from(u8::from(is_in(at)))).collect();
        Tensor::new(&mask, [images, height, width]).unwrap()
    }

    /// Images whose neighbours differ by grey levels, where the soft sign is not flat.
    fn faint<const N: usize>(seed: u64, shape: [usize; N]) -> Tensor {
        let faint: Vec<f32> = random_tensor(seed, shape).data().iter().map(|x| 0.02 * x).collect();
        Tensor::new(&faint, shape).unwrap()
    }

    #[test]
    fn errors_are_their_definition() {
        let (height, width) = (5, 9);
        let (found, target) = (faint(1, [4, height, width, 3]), faint(2, [2, height, width, 3]));
        let mask = mask_of(2, height, width);
        let errors = census_errors(&found, &target, &mask).unwrap();
        let grey = |of: &Tensor, image: usize, row: usize, column: usize| -> f64 {
            let first = ((image * height + row) * width + column) * 3;
            of.data()[first..first + 3].iter().map(|x| f64::from(*x) * 42.5).sum()
        };
        let covers = |image: usize, row: usize, column: usize| {
            mask.data()[(image % 2 * height + row) * width + column]
        };
        for (at, error) in errors.data().iter().enumerate() {
            let (image, row, column) = (at / (height * width), at / width % height, at % width);
            let (mut sum, mut count) = (0.0, 0.0);
            for r in row.saturating_sub(3)..(row + 4).min(height) {
                for c in column.saturating_sub(3)..(column + 4).min(width) {
                    if (r, c) == (row, column) || covers(image, r, c) == 0.0 {
                        continue;
                    }
                    let soft = |of: &Tensor, image| {
                        let d = grey(of, image, r, c) - grey(of, image, row, column);
                        d / (0.81 + d * d).sqrt()
                    };
                    let square = (soft(&found, image) - soft(&target, image % 2)).powi(2);
                    sum += square / (0.1 + square);
                    count += 1.0;
                }
            }
            let right = f64::from(covers(image, row, column)) * sum / count;
            assert!((f64::from(*error) - right).abs() < 1e-4, "{error}, {right}");
        }
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        let (mask, target) = (mask_of(2, 5, 6), faint(2, [2, 5, 6, 3]));
        let tolerance = Tolerance { norm: 5e-3, element: 2e-2 };
        assert_gradients(&[faint(1, [4, 5, 6, 3])], 1.0 / 8192.0, tolerance, |x| {
            census_errors(&x[0], &target, &mask)
        });
        let mask = mask_of(3, 17, 19);
        let inputs = [faint(3, [3, 17, 19, 3]), faint(4, [3, 17, 19, 3])];
        assert_operation_independent_of_threads(&inputs, |x| census_errors(&x[0], &x[1], &mask));
    }

    #[test]
    fn brightness_has_no_part_in_it() {
        let (image, mask) = (faint(1, [1, 6, 7, 3]), mask_of(1, 6, 7));
        let lighter: Vec<f32> = image.data().iter().map(|x| x + 0.25).collect();
        let lighter = Tensor::new(&lighter, image.shape()).unwrap();
        let errors = census_errors(&lighter, &image, &mask).unwrap();
        assert!(errors.data().iter().all(|error| *error < 1e-6));
        let other = census_errors(&faint(2, [1, 6, 7, 3]), &image, &mask).unwrap();
        assert!(other.data().iter().any(|error| *error > 0.1));
        let nothing = census_errors(&lighter, &image, &Tensor::zeros([1, 6, 7])).unwrap();
        assert!(nothing.data().iter().all(|error| *error == 0.0));
    }
}
