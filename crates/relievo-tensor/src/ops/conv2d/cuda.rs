//! Convolutions on a GPU: products by cuDNN; bias and activation in a pass of our own, or by cuDNN too where that is
//! faster.

use super::{Conv2dGeometry, ConvPolicy, Convolution};
use crate::cuda::{self, ConvExtents, DevicePointer, Kernels, Memory, Product, Relu};
use crate::ops::Activation;
use crate::ops::cast::cuda::cast;
use crate::{Backward, DataType, Error, Operation, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "conv2d", source: include_str!("kernel.cu") };

/// Channels that a block of the bias gradient sums.
const CHANNELS: usize = 32;

/// Threads that share the pixels of each.
const ROWS: usize = 8;

/// Pixels that a block sums at least, and blocks that share a channel's at most: with fewer pixels each, starting
/// blocks and adding up their sums would take longer than the pixels.
const LEAST_PIXELS: usize = 512;
const MOST_PARTS: usize = 256;

impl Convolution {
    /// Which product of the convolution gives the output, the input's gradient.
    fn products(&self) -> [Product; 2] {
        if self.transposed {
            [Product::InputGradient, Product::Forward]
        } else {
            [Product::Forward, Product::InputGradient]
        }
    }

    /// The policy of its products. Where x was widened to f32, tf32 is as exact as x was.
    fn policy(&self, is_widened: bool) -> ConvPolicy {
        let policy = self.params.policy;
        ConvPolicy { tf32: policy.tf32 || is_widened, ..policy }
    }

    pub(super) fn run_cuda(
        &self,
        geometry: &Conv2dGeometry,
        inputs: &[&Tensor],
        output: [usize; 4],
    ) -> Result<Tensor> {
        let (x, w, bias) = (inputs[0], inputs[1], inputs.get(2));
        let widened = widened(x, w)?;
        let (policy, x) = (self.policy(widened.is_some()), widened.as_ref().unwrap_or(x));
        let mut y = x.empty_like(output)?;
        let [product, _] = self.products();
        if let Some(bias) = bias.filter(|bias| bias.data_type() != x.data_type()) {
            let detail = format!("a bias of {:?} for x of {:?}", bias.data_type(), x.data_type());
            return Err(Error::shape(self.name(), detail));
        }
        let activation = self.params.activation;
        if product == Product::Forward && activation == Activation::Relu {
            let (data_type, bias) = (y.data_type(), bias.and_then(|bias| bias.memory()));
            let extents = [geometry.out_c(), geometry.y_elements()];
            let target = y.memory_mut()?.cloned();
            let pass = || match &target {
                Some(y) => activation.replace_in(data_type, y, bias, extents),
                None => Ok(()),
            };
            convolve(product, geometry, &mut y, [x, w], Some(Relu { bias, pass: &pass }), policy)?;
            return Ok(y);
        }
        // The convolution goes from the larger image to the smaller; a transposed one's input is the smaller.
        let operands = if self.transposed { [w, x] } else { [x, w] };
        convolve(product, geometry, &mut y, operands, None, policy)?;
        if bias.is_some() || activation != Activation::Identity {
            activation.replace_cuda(&mut y, bias.copied())?;
        }
        Ok(y)
    }

    pub(super) fn differentiate_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (x, w) = (&backward.saved[0], &backward.saved[1]);
        let geometry = self.geometry(x, w)?;
        let dy = backward.gradient();
        let dz = match backward.saved.get(2) {
            None => dy.detach(),
            Some(y) => self.params.activation.gradient_cuda(y, dy)?,
        };
        let mut gradients = vec![None, None];
        let widened = widened(x, w)?;
        let (is_widened, policy) = (widened.is_some(), self.policy(widened.is_some()));
        if backward.wants(0) {
            let mut dx = w.empty_like(x.shape())?;
            let [_, product] = self.products();
            let operands = if self.transposed { [&dz, w] } else { [w, &dz] };
            convolve(product, &geometry, &mut dx, operands, None, policy)?;
            gradients[0] = Some(if is_widened { cast(&dx, x.data_type())? } else { dx });
        }
        if backward.wants(1) {
            let mut dw = w.empty_like(w.shape())?;
            let x = widened.as_ref().unwrap_or(x);
            let operands = if self.transposed { [&dz, x] } else { [x, &dz] };
            convolve(Product::WeightGradient, &geometry, &mut dw, operands, None, policy)?;
            gradients[1] = Some(dw);
        }
        if self.has_bias {
            gradients.push(backward.wants(2).then(|| bias_gradient(&dz)).transpose()?);
        }
        Ok(gradients)
    }
}

/// `x` as f32 if it is bf16 and `w` is not: cuDNN has no product of the two. It is f32 then with factors rounded to tf32,
/// which is exact for what was bf16 and finer than bf16 for the rest.
fn widened(x: &Tensor, w: &Tensor) -> Result<Option<Tensor>> {
    let is_mixed = x.data_type() == DataType::Bf16 && w.data_type() == DataType::F32;
    is_mixed.then(|| cast(x, DataType::F32)).transpose()
}

/// Computes `output`, one of the tensors of `y = x * w`, from the other two in the order x, w, y.
fn convolve(
    product: Product,
    geometry: &Conv2dGeometry,
    output: &mut Tensor,
    [first, second]: [&Tensor; 2],
    relu: Option<Relu<'_>>,
    policy: ConvPolicy,
) -> Result<()> {
    let data_type = output.data_type();
    if [first, second].iter().any(|tensor| tensor.data_type() != data_type) {
        let detail = format!("of {:?} and {:?} to {data_type:?}", first.data_type(), second.data_type());
        return Err(Error::shape("conv2d", detail));
    }
    let (Some(a), Some(b), Some(out)) = (first.memory(), second.memory(), output.memory_mut()?) else {
        return Err(Error::shape("conv2d", "the operands are not all on a GPU"));
    };
    let operands = match product {
        Product::Forward => [a, b, out],
        Product::InputGradient => [out, a, b],
        Product::WeightGradient => [a, out, b],
    }
    .map(Memory::clone);
    Ok(out.gpu().convolve(product, &extents(geometry), data_type, policy, &operands, relu.as_ref())?)
}

/// The extents as cuDNN's side has them.
pub(crate) fn extents(geometry: &Conv2dGeometry) -> ConvExtents {
    ConvExtents {
        x: geometry.x_shape(),
        w: geometry.w_shape(),
        y: geometry.y_shape(),
        stride: geometry.stride(),
        padding: geometry.padding(),
    }
}

/// The sum of `dz [B,H,W,C]` over all pixels, `[C]`.
fn bias_gradient(dz: &Tensor) -> Result<Tensor> {
    let [batch, height, width, channels] = dz.dims("conv2d")?;
    let pixels = batch * height * width;
    let span = LEAST_PIXELS.max(pixels.div_ceil(MOST_PARTS));
    let parts = pixels.div_ceil(span);
    // f32 whatever the gradient is.
    let mut sums = Tensor::empty_on(dz.device(), DataType::F32, [parts, channels])?;
    let mut db = dz.empty_like([channels])?;
    let launch = |name| cuda::launch(dz.device(), &KERNELS, name, dz.data_type());
    let columns = channels.div_ceil(CHANNELS);
    launch("sum_pixels")?
        .output(&mut sums)
        .input(dz)
        .int(pixels)
        .int(span)
        .int(channels)
        .blocks([columns, parts, 1], CHANNELS * ROWS)?;
    launch("sum_parts")?
        .output(&mut db)
        .input(&sums)
        .int(parts)
        .int(channels)
        .blocks([columns, 1, 1], CHANNELS * ROWS)?;
    Ok(db)
}
