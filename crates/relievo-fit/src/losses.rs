//! How far images are from each other.

use relievo_tensor::{Backward, Context, Device, Error, Operation, Result, Tensor, apply_one};

use crate::cuda;

/// The sum of squared differences between silhouettes of equal shape: a scalar. Gradient: 2 (a - b), in the first. Source:
/// the published examples of Kato et al. 2018.
///
/// # Errors
/// If the shapes differ.
pub fn silhouette_error(found: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    apply_one(SquaredSum, &[found, &wanted.detach()])
}

/// One minus the intersection of silhouettes `[B, H, W]` over their union, the mean over the batch: a scalar in 0..=1.
/// Per image 1 - sum(a b) / sum(a + b - a b). Gradient: exact, in the first. Source: Kato et al. 2018, section 4.1.
///
/// # Errors
/// If the shapes differ or are not those of silhouettes.
pub fn iou_error(found: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    apply_one(IouError, &[found, &wanted.detach()])
}

/// Intersection over union of two silhouettes, 1 if both are empty or equal: the smaller share of each pixel over the
/// larger one. [`iou_error`] does not vanish for equal silhouettes with partly covered pixels; this is for reports.
pub fn iou(a: &[f32], b: &[f32]) -> f64 {
    let [both, either] = a.iter().zip(b).fold([0.0; 2], |[both, either], (a, b)| {
        [both + f64::from(a.min(*b)), either + f64::from(a.max(*b))]
    });
    if either > 0.0 { both / either } else { 1.0 }
}

/// The sum of squared differences of each of the images `[B, H, W]` found from those wanted.
pub(crate) fn squared_errors(found: &Tensor, wanted: &Tensor) -> Result<Vec<f32>> {
    same_shape("silhouette_error", &[found, wanted])?;
    let [_, height, width] = found.dims("silhouette_error")?;
    if found.device() != Device::Cpu {
        let [_, of_images, _] = cuda::loss(found, wanted, false)?;
        return Ok(of_images.to_device(Device::Cpu)?.data().to_vec());
    }
    let pixels = (height * width).max(1);
    let images = found.data().chunks(pixels).zip(wanted.data().chunks(pixels));
    let error = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    Ok(images.map(error).collect())
}

/// The intersection and the union.
fn sums(a: &[f32], b: &[f32]) -> [f64; 2] {
    a.iter().zip(b).fold([0.0; 2], |[both, either], (a, b)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        [both + a * b, either + a + b - a * b]
    })
}

fn same_shape(operation: &'static str, inputs: &[&Tensor]) -> Result<()> {
    let [found, wanted] = [0, 1].map(|at| inputs[at].shape());
    match found == wanted {
        true => Ok(()),
        false => Err(Error::shape(operation, format!("images of shape {found} and {wanted}"))),
    }
}

/// The loss on a GPU; see [`cuda::loss`].
fn forward_cuda(
    operation: &'static str,
    inputs: &[&Tensor],
    overlaps: bool,
    context: &mut Context,
) -> Result<Vec<Tensor>> {
    same_shape(operation, inputs)?;
    let [loss, _, parts] = cuda::loss(inputs[0], inputs[1], overlaps)?;
    [inputs[0], inputs[1], &parts].into_iter().for_each(|tensor| context.save(tensor));
    Ok(vec![loss])
}

fn backward_cuda(backward: &Backward<'_>, overlaps: bool) -> Result<Vec<Option<Tensor>>> {
    let saved = [0, 1, 2].map(|index| &backward.saved[index]);
    Ok(vec![Some(cuda::loss_slopes(saved, backward.gradient(), overlaps)?), None])
}

struct SquaredSum;

impl Operation for SquaredSum {
    fn name(&self) -> &'static str {
        "silhouette_error"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        same_shape(self.name(), inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        let pairs = inputs[0].data().iter().zip(inputs[1].data());
        let sum: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
        Ok(vec![Tensor::scalar(sum as f32)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [found, wanted] = [0, 1].map(|at| &backward.saved[at]);
        let twice = 2.0 * backward.gradient().item()?;
        let mut gradient = Tensor::empty(found.shape());
        let pairs = found.data().iter().zip(wanted.data());
        gradient.data_mut().iter_mut().zip(pairs).for_each(|(to, (a, b))| *to = twice * (a - b));
        Ok(vec![Some(gradient), None])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        forward_cuda(self.name(), inputs, false, context)
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        backward_cuda(backward, false)
    }
}

struct IouError;

impl Operation for IouError {
    fn name(&self) -> &'static str {
        "iou_error"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        same_shape(self.name(), inputs)?;
        let [batch, height, width] = inputs[0].dims(self.name())?;
        inputs.iter().for_each(|input| context.save(input));
        let pixels = (height * width).max(1);
        let images = inputs[0].data().chunks(pixels).zip(inputs[1].data().chunks(pixels));
        let error = |(a, b): (&[f32], &[f32])| match sums(a, b) {
            [both, either] if either > 0.0 => 1.0 - both / either,
            _ => 0.0,
        };
        let mean = images.map(error).sum::<f64>() / batch.max(1) as f64;
        Ok(vec![Tensor::scalar(mean as f32)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [found, wanted] = [0, 1].map(|at| &backward.saved[at]);
        let [batch, height, width] = found.dims(self.name())?;
        let share = f64::from(backward.gradient().item()?) / batch.max(1) as f64;
        let pixels = (height * width).max(1);
        let mut gradient = Tensor::empty(found.shape());
        let images = found.data().chunks(pixels).zip(wanted.data().chunks(pixels));
        for (to, (a, b)) in gradient.data_mut().chunks_mut(pixels).zip(images) {
            let [both, either] = sums(a, b);
            // d(1 - I/U)/da = -(b U - I (1 - b)) / U^2
            for (to, b) in to.iter_mut().zip(b) {
                let b = f64::from(*b);
                let slope =
                    if either > 0.0 { (both * (1.0 - b) - b * either) / (either * either) } else { 0.0 };
                *to = (share * slope) as f32;
            }
        }
        Ok(vec![Some(gradient), None])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let _: [usize; 3] = inputs[0].dims(self.name())?;
        forward_cuda(self.name(), inputs, true, context)
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        backward_cuda(backward, true)
    }
}

#[cfg(test)]
mod tests {
    use relievo_tensor::testing::{Tolerance, assert_gradients, random_tensor};

    use super::*;

    fn shares(seed: u64) -> Tensor {
        let mut tensor = random_tensor(seed, [2, 3, 4]);
        tensor.data_mut().iter_mut().for_each(|value| *value = 0.5 + 0.4 * *value);
        tensor
    }

    #[test]
    fn errors_are_zero_where_nothing_differs_and_have_gradients() {
        let (a, b) = (shares(1), shares(2));
        assert_eq!(silhouette_error(&a, &a).unwrap().item().unwrap(), 0.0);
        let mut full = Tensor::zeros([1, 2, 2]);
        full.data_mut()[..2].fill(1.0);
        assert_eq!(iou_error(&full, &full).unwrap().item().unwrap(), 0.0);
        assert_eq!(iou_error(&Tensor::zeros([1, 2, 2]), &full).unwrap().item().unwrap(), 1.0);
        assert_eq!((iou(&[0.0], &[0.0]), iou(&[0.5, 1.0], &[0.5, 1.0])), (1.0, 1.0));
        assert_eq!(iou(&[1.0, 0.5], &[0.5, 0.0]), 1.0 / 3.0);
        let tolerance = Tolerance { norm: 2e-3, element: 2e-3 };
        assert_gradients(std::slice::from_ref(&a), 1.0 / 64.0, tolerance, |x| silhouette_error(&x[0], &b));
        assert_gradients(&[a], 1.0 / 64.0, tolerance, |x| iou_error(&x[0], &b));
        assert!(iou_error(&shares(1), &Tensor::zeros([1])).is_err());
    }
}
