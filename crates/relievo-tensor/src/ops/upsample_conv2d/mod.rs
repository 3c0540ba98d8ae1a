//! The 3x3 convolution of an image upsampled by two (nearest), without upsampling it.
//!
//! Some of the nine pixels under the kernel are copies of one another, so each output depends on 2x2 pixels of the small
//! image, by sums of weights. The sums depend on whether the output's row and column are even or odd. A transposed
//! convolution of stride 2 does the same: with a kernel of 4x4 and one row and column cut off it is the whole operation, in
//! 4/9 of the multiplications, and no image of four times the size is written and read.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use super::{ConvParams, conv_transpose2d};
use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

/// The convolution of `x [B,H,W,in]`, every pixel of it repeated to 2x2, with `w [out,3,3,in]` and zeros around
/// (`padding` 1), activated: `[B,2H,2W,out]`. `params` has the activation; stride and padding must be 1.
///
/// Gradients: those of nearest upsampling and [`conv2d`](super::conv2d()). Sums of weights are rounded to the type of w.
///
/// # Errors
/// If the shapes do not fit, or stride or padding are others.
pub fn upsample_conv2d(x: &Tensor, w: &Tensor, params: ConvParams) -> Result<Tensor> {
    if (params.stride, params.padding) != (1, 1) {
        let detail = format!("stride {} and padding {}, not 1 and 1", params.stride, params.padding);
        return Err(Error::shape("upsample_conv2d", detail));
    }
    conv_transpose2d(x, &apply_one(FoldKernel, &[w])?, None, ConvParams { stride: 2, ..params })
}

/// The kernel of the transposed convolution `[in,4,4,out]`. Along each axis its weights are `w2, w1 + w2, w0 + w1, w0`:
/// a transposed convolution gives output o of pixel i the weight `o - 2i + 1`, so that an even output has the pixel
/// before it times w0 and its own times w1 + w2, an odd one its own times w0 + w1 and the next times w2. Gradient: each
/// weight's is the sum of those of the sums it is in.
struct FoldKernel;

impl FoldKernel {
    /// Channels out and in.
    fn check(&self, w: &Tensor) -> Result<[usize; 2]> {
        match w.dims(self.name())? {
            [outputs, 3, 3, inputs] => Ok([outputs, inputs]),
            _ => Err(Error::shape(self.name(), format!("needs [out,3,3,in], got the shape {}", w.shape()))),
        }
    }
}

impl Operation for FoldKernel {
    fn name(&self) -> &'static str {
        "upsample_conv2d"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let [outputs, channels] = self.check(inputs[0])?;
        let mut folded = Tensor::empty([channels, 4, 4, outputs]);
        cpu::fold([outputs, channels], inputs[0].data(), folded.data_mut());
        Ok(vec![folded])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [channels, _, _, outputs] = backward.gradient().dims(self.name())?;
        let mut dw = Tensor::empty([outputs, 3, 3, channels]);
        cpu::unfold([outputs, channels], backward.gradient().data(), dw.data_mut());
        Ok(vec![Some(dw)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let [outputs, channels] = self.check(inputs[0])?;
        Ok(vec![cuda::run("fold", inputs[0], [outputs, channels], [channels, 4, 4, outputs])?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [channels, _, _, outputs] = backward.gradient().dims(self.name())?;
        let of_weights = [outputs, 3, 3, channels];
        Ok(vec![Some(cuda::run("unfold", backward.gradient(), [outputs, channels], of_weights)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::ops::{Activation, conv2d};
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, distance, random_tensor,
    };

    const PARAMS: ConvParams = ConvParams::new(1, 1, Activation::Identity);

    /// Every pixel of x repeated to 2x2.
    fn enlarged(x: &Tensor) -> Tensor {
        let [batch, h, w, c] = x.dims("").unwrap();
        let mut y = Tensor::empty([batch, 2 * h, 2 * w, c]);
        for (i, pixel) in y.data_mut().chunks_exact_mut(c).enumerate() {
            let (row, column) = (i / (2 * w) % (2 * h) / 2, i % (2 * w) / 2);
            let from = (i / (4 * h * w) * h + row) * w + column;
            pixel.copy_from_slice(&x.data()[from * c..][..c]);
        }
        y
    }

    /// The sum over the copies of every pixel.
    fn reduced(dy: &Tensor) -> Vec<f64> {
        let [batch, h, w, c] = dy.dims("").unwrap();
        let mut dx = vec![0.0; batch * h / 2 * w / 2 * c];
        for (i, pixel) in dy.data().chunks_exact(c).enumerate() {
            let to = (i / w / 2) * (w / 2) + i % w / 2;
            dx[to * c..][..c].iter_mut().zip(pixel).for_each(|(sum, g)| *sum += f64::from(*g));
        }
        dx
    }

    #[test]
    fn it_is_the_convolution_of_the_enlarged_image_and_so_are_its_gradients() {
        for activation in [Activation::Identity, Activation::LeakyRelu] {
            let params = ConvParams { activation, ..PARAMS };
            for [batch, h, w, inputs, outputs] in [[2, 3, 5, 4, 7], [1, 8, 8, 16, 16], [2, 1, 2, 3, 1]] {
                let x = random_tensor(1, [batch, h, w, inputs]);
                let weights = random_tensor(2, [outputs, 3, 3, inputs]);
                let dy = random_tensor(3, [batch, 2 * h, 2 * w, outputs]);
                let run = |x: &Tensor, folded: bool| {
                    let tape = Tape::new();
                    let [x, weights] = [x, &weights].map(|input| tape.watch(input));
                    let y = if folded {
                        upsample_conv2d(&x, &weights, params)
                    } else {
                        conv2d(&x, &weights, None, params)
                    };
                    let y = y.unwrap();
                    let mut gradients = tape.backward_from(&[(&y, dy.clone())]).unwrap();
                    [y.detach(), gradients.take(&x).unwrap(), gradients.take(&weights).unwrap()]
                };
                let exact = |tensor: &Tensor| tensor.data().iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
                let [y, dx, dw] = run(&enlarged(&x), false);
                let right = [exact(&y), reduced(&dx), exact(&dw)];
                for (found, right) in run(&x, true).iter().zip(&right) {
                    let off = distance(found.data(), right);
                    assert!(off < 3e-6, "{activation:?}, {:?}: off by {off}", found.shape());
                }
            }
        }
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        let inputs = [random_tensor(1, [2, 3, 4, 3]), random_tensor(2, [5, 3, 3, 3])];
        let run = |x: &[Tensor]| upsample_conv2d(&x[0], &x[1], PARAMS);
        assert_gradients(&inputs, 0.25, Tolerance { norm: 1e-5, element: 1e-5 }, run);
        assert_operation_independent_of_threads(&inputs, run);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = Tensor::zeros([1, 4, 4, 2]);
        let error = upsample_conv2d(&x, &Tensor::zeros([2, 5, 5, 2]), PARAMS).unwrap_err().to_string();
        assert_eq!(error, "upsample_conv2d: needs [out,3,3,in], got the shape [2, 5, 5, 2]");
        let params = ConvParams { padding: 0, ..PARAMS };
        let error = upsample_conv2d(&x, &Tensor::zeros([2, 3, 3, 2]), params).unwrap_err().to_string();
        assert_eq!(error, "upsample_conv2d: stride 1 and padding 0, not 1 and 1");
        assert!(upsample_conv2d(&x, &Tensor::zeros([2, 3, 3, 3]), PARAMS).is_err());
    }
}
