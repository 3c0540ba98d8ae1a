//! Structural similarity, at one scale or several.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use super::compared::{Compared, elements};
use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

/// The constants that keep quotients finite, for colours from 0 to 1: (0.01)^2 for brightness, (0.03)^2 for contrast.
const BRIGHTNESS: f32 = 1e-4;
const CONTRAST: f32 = 9e-4;

/// The most windows.
const WINDOWS: usize = 8;

/// One minus the structural similarity at each pixel, mean over the channels: `[n,H,W,1]`, from 0 (the same) to 2.
///
/// reconstruction `[n,H,W,C]` and target `[B,H,W,C]` in [-1,1] with n = B or 2 B (the same for both halves), mask
/// `[B,H,W]` or `[n,H,W]`, all f32. `deviations` are the standard deviations of Gaussian windows in pixels, ascending.
/// The similarity is the product of contrast and structure, `(2 cov + c2) / (var + var' + c2)`, in each window, and of
/// brightness, `(2 mean mean' + c1) / (mean^2 + mean'^2 + c1)`, in the last: of one window that is SSIM, of several
/// MS-SSIM at the pixel, without reduced images. Colours count from 0 to 1.
///
/// Windows see covered pixels only: means and variances are those of the pixels under the mask. Where the mask is 0 the
/// result is 0. Gradients flow to the reconstruction, none to target and mask.
///
/// Source: Wang et al. 2004 (SSIM); Zhao et al. 2017, equations 5 to 9 (MS-SSIM by windows of several sizes).
///
/// # Errors
/// If the shapes do not fit, or there are no windows or more than eight.
pub fn structure_errors(
    reconstruction: &Tensor,
    target: &Tensor,
    mask: &Tensor,
    deviations: &[f32],
) -> Result<Tensor> {
    let operation = StructureErrors { deviations: deviations.to_vec() };
    apply_one(operation, &[reconstruction, &target.detach(), &mask.detach()])
}

struct StructureErrors {
    deviations: Vec<f32>,
}

impl StructureErrors {
    fn check(&self, inputs: &[&Tensor]) -> Result<Compared> {
        let compared = Compared::new(self.name(), inputs)?;
        let is_window = |deviation: &f32| *deviation > 0.0 && *deviation <= 16.0;
        if (1..=WINDOWS).contains(&self.deviations.len()) && self.deviations.iter().all(is_window) {
            return Ok(compared);
        }
        let detail = format!("windows of {:?}: 1 to {WINDOWS} above 0, up to 16 pixels", self.deviations);
        Err(Error::shape(self.name(), detail))
    }
}

impl Operation for StructureErrors {
    fn name(&self) -> &'static str {
        "structure_errors"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let compared = self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        let mut errors = Tensor::empty([compared.images, compared.height, compared.width, 1]);
        cpu::errors(&self.deviations, compared, elements(inputs), errors.data_mut());
        Ok(vec![errors])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs: Vec<&Tensor> = backward.saved.iter().collect();
        let compared = self.check(&inputs)?;
        let mut gradient = Tensor::empty(inputs[0].shape());
        let dy = backward.gradient().data();
        cpu::gradient(&self.deviations, compared, elements(&inputs), dy, gradient.data_mut());
        Ok(vec![Some(gradient), None, None])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let compared = self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![cuda::errors(&self.deviations, compared, [inputs[0], inputs[1], inputs[2]])?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs: Vec<&Tensor> = backward.saved.iter().collect();
        let compared = self.check(&inputs)?;
        let inputs = [inputs[0], inputs[1], inputs[2]];
        let gradient = cuda::gradient(&self.deviations, compared, inputs, backward.gradient())?;
        Ok(vec![Some(gradient), None, None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    const SEVERAL: [f32; 3] = [0.5, 1.0, 2.0];

    fn mask_of(images: usize, height: usize, width: usize) -> Tensor {
        let is_in = |at: usize| !at.is_multiple_of(width) && at / width % height < height - 1;
        let mask: Vec<f32> = (0..images * height * width).map(|at| f32::from(u8::from(is_in(at)))).collect();
        Tensor::new(&mask, [images, height, width]).unwrap()
    }

    /// The similarity of a channel at a pixel by its definition, in f64.
    fn similarity(
        x: &dyn Fn(usize) -> f64,
        y: &dyn Fn(usize) -> f64,
        mask: &[f32],
        width: usize,
        at: usize,
        deviations: &[f32],
    ) -> f64 {
        let mut product = 1.0;
        for (number, deviation) in deviations.iter().enumerate() {
            let (deviation, radius) = (f64::from(*deviation), (3.0 * deviation).ceil() as isize);
            let mut sums = [0.0; 6];
            for (pixel, mask) in mask.iter().enumerate() {
                let down = (pixel / width) as isize - (at / width) as isize;
                let along = (pixel % width) as isize - (at % width) as isize;
                if down.abs() > radius || along.abs() > radius {
                    continue;
                }
                let weight = f64::from(*mask)
                    * (-0.5 * (down * down + along * along) as f64 / (deviation * deviation)).exp();
                let (x, y) = (x(pixel), y(pixel));
                for (sum, value) in sums.iter_mut().zip([1.0, x, y, x * x, y * y, x * y]) {
                    *sum += weight * value;
                }
            }
            let [x, y, xx, yy, xy] = [1, 2, 3, 4, 5].map(|of| sums[of] / sums[0]);
            product *= (2.0 * (xy - x * y) + 9e-4) / (xx - x * x + yy - y * y + 9e-4);
            if number + 1 == deviations.len() {
                product *= (2.0 * x * y + 1e-4) / (x * x + y * y + 1e-4);
            }
        }
        product
    }

    #[test]
    fn errors_are_their_definition() {
        let (height, width) = (6, 7);
        let (found, target) =
            (random_tensor(1, [4, height, width, 2]), random_tensor(2, [2, height, width, 2]));
        let mask = mask_of(2, height, width);
        for deviations in [&[1.5][..], &SEVERAL] {
            let errors = structure_errors(&found, &target, &mask, deviations).unwrap();
            for (at, error) in errors.data().iter().enumerate() {
                let (image, pixel) = (at / (height * width), at % (height * width));
                let mask = &mask.data()[image % 2 * height * width..][..height * width];
                let mut right = 0.0;
                for channel in 0..2 {
                    let of = |of: &Tensor, image: usize, pixel: usize| {
                        f64::from(of.data()[(image * height * width + pixel) * 2 + channel]) * 0.5 + 0.5
                    };
                    let (x, y) = (|pixel| of(&found, image, pixel), |pixel| of(&target, image % 2, pixel));
                    let similar = similarity(&x, &y, mask, width, pixel, deviations);
                    right += 0.5 * (1.0 - similar) * f64::from(mask[pixel]);
                }
                assert!((f64::from(*error) - right).abs() < 2e-5, "{error}, {right}");
            }
        }
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        let (mask, target) = (mask_of(2, 5, 6), random_tensor(2, [2, 5, 6, 3]));
        for deviations in [&[1.5][..], &SEVERAL] {
            let tolerance = Tolerance { norm: 5e-3, element: 2e-2 };
            assert_gradients(&[random_tensor(1, [4, 5, 6, 3])], 1.0 / 256.0, tolerance, |x| {
                structure_errors(&x[0], &target, &mask, deviations)
            });
        }
        let mask = mask_of(3, 17, 19);
        let inputs = [random_tensor(3, [3, 17, 19, 3]), random_tensor(4, [3, 17, 19, 3])];
        assert_operation_independent_of_threads(&inputs, |x| structure_errors(&x[0], &x[1], &mask, &SEVERAL));
    }

    #[test]
    fn equal_images_have_no_error_and_nothing_is_seen_under_an_empty_mask() {
        let image = random_tensor(1, [1, 8, 9, 3]);
        let errors = structure_errors(&image, &image, &mask_of(1, 8, 9), &SEVERAL).unwrap();
        assert!(errors.data().iter().all(|error| error.abs() < 1e-5));
        let tape = crate::Tape::new();
        let (x, nothing) = (tape.watch(&image), Tensor::zeros([1, 8, 9]));
        let errors = structure_errors(&x, &random_tensor(2, [1, 8, 9, 3]), &nothing, &SEVERAL).unwrap();
        assert!(errors.data().iter().all(|error| *error == 0.0));
        assert!(tape.backward(&errors).unwrap().get(&x).unwrap().data().iter().all(|dx| *dx == 0.0));
        let mask = mask_of(1, 8, 9);
        for wrong in [&[][..], &[f32::NAN], &[1.0; 9]] {
            assert!(structure_errors(&image, &image, &mask, wrong).is_err());
        }
    }
}
