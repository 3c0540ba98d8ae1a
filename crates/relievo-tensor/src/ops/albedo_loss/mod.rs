//! The weighted slopes of the albedo: light must not be painted into it.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

/// Twice the variance of colours whose albedo must be alike.
const COLOUR_SPREAD: f32 = 2.0 * 0.05;

/// Colours whose squared distance is this or more may have any albedo.
const COLOUR_LIMIT: f32 = 0.5;

/// Twice the variance of depths.
const DEPTH_SPREAD: f32 = 2.0 * 2.0;

/// The albedo losses of reconstructions: `[parts]`, where a part is as many reconstructions as there are images in a group.
///
/// albedo `[N,H,W,3]` and depth `[N,H,W]` in the view of the image, mask `[N,H,W]`, image `[M,H,W,3]` in [-1,1], N a
/// multiple of M: reconstruction i is one of image `i mod M`. The images are `groups` groups, so there are
/// `parts = N groups / M`. For the eight neighbours k of a pixel p, with zeros outside the image,
///
/// `w_k = exp(-|I_p - I_k|^2 / 0.1) exp(-(d_p - d_k)^2 / 4)` if `|I_p - I_k|^2 < 0.5`, else 0, and
/// `e_p = |sum_k w_k (A_p - A_k)|^2`,
///
/// over the channels. The loss of a part is the mean of mask times e over its pixels, masked or not. Where the image is
/// even the albedo must be even; a shadow's edge is soft, so it must come from the shading. The sum precedes the square:
/// opposite slopes cancel, and an even ramp costs nothing.
///
/// Gradients flow to albedo and depth. Source: Ho, Tran, Phung and Hoai 2021, without the centre tap of their program.
///
/// # Errors
/// If the shapes do not fit.
pub fn albedo_loss(
    albedo: &Tensor,
    depth: &Tensor,
    mask: &Tensor,
    image: &Tensor,
    groups: usize,
) -> Result<Tensor> {
    apply_one(AlbedoLoss { groups }, &[albedo, depth, mask, image])
}

struct AlbedoLoss {
    groups: usize,
}

/// The extents of the inputs.
#[derive(Clone, Copy)]
struct Layout {
    /// Reconstructions.
    count: usize,
    /// Images.
    images: usize,
    height: usize,
    width: usize,
    /// Means that are taken apart.
    parts: usize,
}

impl Layout {
    /// One over the number of pixels in a part.
    fn share(self) -> f32 {
        (self.parts as f64 / (self.count * self.height * self.width) as f64) as f32
    }
}

impl AlbedoLoss {
    fn check(&self, inputs: &[&Tensor]) -> Result<Layout> {
        let [albedo, depth, mask, image] = [0, 1, 2, 3].map(|input| inputs[input].shape());
        let misfit = || {
            let detail = format!("albedo {albedo}, depth {depth}, mask {mask} and image {image} do not fit");
            Err(Error::shape(self.name(), detail))
        };
        let [count, height, width, channels] = inputs[0].dims(self.name())?;
        let [images, ..] = inputs[3].dims::<4>(self.name())?;
        let fits = channels == 3
            && *depth == [count, height, width]
            && mask == depth
            && *image == [images, height, width, 3]
            && albedo.numel() > 0
            && count % images == 0;
        if !fits {
            return misfit();
        }
        if self.groups == 0 || images % self.groups != 0 {
            let detail = format!("{images} images cannot be divided into {} groups", self.groups);
            return Err(Error::shape(self.name(), detail));
        }
        Ok(Layout { count, images, height, width, parts: count / images * self.groups })
    }
}

impl Operation for AlbedoLoss {
    fn name(&self) -> &'static str {
        "albedo_loss"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let layout = self.check(inputs)?;
        let [albedo, depth, mask, image] = [0, 1, 2, 3].map(|input| inputs[input].data());
        let mut slopes = Tensor::empty(inputs[0].shape());
        cpu::slopes(layout, [albedo, depth, image], slopes.data_mut());
        let losses = cpu::losses(layout, slopes.data(), mask);
        inputs.iter().for_each(|input| context.save(input));
        context.save(&slopes);
        Ok(vec![Tensor::new(&losses, [layout.parts])?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let saved: Vec<&Tensor> = backward.saved.iter().collect();
        let layout = self.check(&saved[..4])?;
        let [albedo, depth, mask, image, slopes] = [0, 1, 2, 3, 4].map(|input| saved[input].data());
        let mut dalbedo = Tensor::empty(saved[0].shape());
        let mut ddepth = Tensor::empty(saved[1].shape());
        let factors: Vec<f32> =
            backward.gradient().data().iter().map(|dy| 2.0 * dy * layout.share()).collect();
        cpu::gradients(
            layout,
            [albedo, depth, mask, image, slopes],
            &factors,
            dalbedo.data_mut(),
            ddepth.data_mut(),
        );
        Ok(vec![Some(dalbedo), Some(ddepth), None, None])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let layout = self.check(inputs)?;
        let [losses, slopes] = cuda::forward(layout, [inputs[0], inputs[1], inputs[2], inputs[3]])?;
        inputs.iter().for_each(|input| context.save(input));
        context.save(&slopes);
        Ok(vec![losses])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let saved: Vec<&Tensor> = backward.saved.iter().collect();
        let layout = self.check(&saved[..4])?;
        let inputs = [0, 1, 2, 3, 4].map(|input| saved[input]);
        let [dalbedo, ddepth] = cuda::backward(layout, inputs, backward.gradient())?;
        Ok(vec![Some(dalbedo), Some(ddepth), None, None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    /// The losses by the definition, in f64.
    fn naive([albedo, depth, mask, image]: [&Tensor; 4], groups: usize) -> Vec<f64> {
        let [count, height, width, _] = albedo.dims("test").unwrap();
        let images = image.shape()[0];
        let parts = count / images * groups;
        let mut losses = vec![0.0; parts];
        for n in 0..count {
            let inside = |v: i64, u: i64| v >= 0 && u >= 0 && v < height as i64 && u < width as i64;
            let at = |tensor: &Tensor, n: usize, v: i64, u: i64, channels: usize, c: usize| {
                let index = ((n * height + v as usize) * width + u as usize) * channels + c;
                f64::from(tensor.data()[index])
            };
            for (v, u) in (0..height as i64).flat_map(|v| (0..width as i64).map(move |u| (v, u))) {
                let mut sums = [0.0; 3];
                for (dv, du) in (-1..2).flat_map(|dv| (-1..2).map(move |du| (dv, du))) {
                    if (dv, du) == (0, 0) {
                        continue;
                    }
                    let there = inside(v + dv, u + du);
                    let of = |tensor, n, channels, c| {
                        if there { at(tensor, n, v + dv, u + du, channels, c) } else { 0.0 }
                    };
                    let colour: f64 = (0..3)
                        .map(|c| (at(image, n % images, v, u, 3, c) - of(image, n % images, 3, c)).powi(2))
                        .sum();
                    let step = at(depth, n, v, u, 1, 0) - of(depth, n, 1, 0);
                    let weight =
                        if colour < 0.5 { (-colour / 0.1).exp() * (-step * step / 4.0).exp() } else { 0.0 };
                    for (c, sum) in sums.iter_mut().enumerate() {
                        *sum += weight * (at(albedo, n, v, u, 3, c) - of(albedo, n, 3, c));
                    }
                }
                let error: f64 = sums.iter().map(|sum| sum * sum).sum();
                losses[n * groups / images] += at(mask, n, v, u, 1, 0) * error;
            }
        }
        losses.iter().map(|loss| loss * parts as f64 / (count * height * width) as f64).collect()
    }

    /// Albedo, depth, mask, and images of small contrast, so that colours are alike and unlike.
    fn case(count: usize, images: usize, height: usize, width: usize) -> [Tensor; 4] {
        let mut image = random_tensor(4, [images, height, width, 3]);
        image.data_mut().iter_mut().for_each(|x| *x *= 0.4);
        let mut mask = random_tensor(3, [count, height, width]);
        mask.data_mut().iter_mut().for_each(|x| *x = f32::from(*x > -0.5));
        [random_tensor(1, [count, height, width, 3]), random_tensor(2, [count, height, width]), mask, image]
    }

    #[test]
    fn agrees_with_the_definition() {
        for (count, images, groups, height, width) in
            [(4, 2, 2, 5, 7), (4, 2, 1, 3, 4), (1, 1, 1, 1, 1), (2, 2, 1, 1, 6)]
        {
            let [albedo, depth, mask, image] = case(count, images, height, width);
            let found = albedo_loss(&albedo, &depth, &mask, &image, groups).unwrap();
            let right = naive([&albedo, &depth, &mask, &image], groups);
            assert_eq!(found.numel(), right.len());
            for (found, right) in found.data().iter().zip(&right) {
                assert!((f64::from(*found) - right).abs() < 2e-6 * right.abs().max(0.1), "{found} {right}");
            }
        }
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        let [albedo, depth, mask, image] = case(4, 2, 4, 5);
        let run = |x: &[Tensor]| albedo_loss(&x[0], &x[1], &mask, &image, 2);
        let inputs = [albedo, depth];
        assert_gradients(&inputs, 1.0 / 128.0, Tolerance { norm: 1e-3, element: 2e-3 }, run);
        let [albedo, depth, mask, image] = case(4, 2, 33, 31);
        let run = |x: &[Tensor]| albedo_loss(&x[0], &x[1], &mask, &image, 2);
        assert_operation_independent_of_threads(&[albedo, depth], run);
    }

    #[test]
    fn an_even_albedo_away_from_the_border_costs_nothing() {
        let mut mask = Tensor::zeros([1, 6, 6]);
        for (place, seen) in mask.data_mut().iter_mut().enumerate() {
            *seen = f32::from((1..5).contains(&(place / 6)) && (1..5).contains(&(place % 6)));
        }
        let [albedo, image] = [0.3, -0.2].map(|value| Tensor::full([1, 6, 6, 3], value));
        let depth = random_tensor(1, [1, 6, 6]);
        let tape = Tape::new();
        let albedo = tape.watch(&albedo);
        let loss = albedo_loss(&albedo, &depth, &mask, &image, 1).unwrap();
        assert_eq!(loss.data(), [0.0]);
        let gradients = tape.backward_from(&[(&loss, Tensor::full([1], 1.0))]).unwrap();
        assert!(gradients.get(&albedo).unwrap().data().iter().all(|g| *g == 0.0));
        // Neither does an even ramp.
        let mut ramp = albedo.detach();
        for (place, value) in ramp.data_mut().iter_mut().enumerate() {
            *value = (place / 3 % 6) as f32 / 8.0;
        }
        let flat = Tensor::full([1, 6, 6], 1.0);
        assert!(albedo_loss(&ramp, &flat, &mask, &image, 1).unwrap().data()[0] < 1e-12);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let [albedo, depth, mask, image] = case(3, 1, 4, 4);
        assert!(albedo_loss(&albedo, &depth, &mask, &Tensor::zeros([2, 4, 4, 3]), 1).is_err());
        assert!(albedo_loss(&albedo, &depth, &mask, &image, 2).is_err());
        let error = albedo_loss(&albedo, &image, &mask, &image, 1).unwrap_err().to_string();
        assert!(error.starts_with("albedo_loss: albedo [3, 4, 4, 3], depth [1, 4, 4, 3]"), "{error}");
    }
}
