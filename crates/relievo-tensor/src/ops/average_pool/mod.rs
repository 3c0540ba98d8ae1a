//! Masks reduced by whole factors.

mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Device, Error, Result, Tensor};

/// The mean of every factor x factor pixels of `maps [B,H,W]`, f32: `[B,H/factor,W/factor]`. Without gradient, because
/// it is for masks.
///
/// # Errors
/// If `maps` does not have three axes, or the factor does not divide height and width.
pub(crate) fn average_pool(maps: &Tensor, factor: usize) -> Result<Tensor> {
    let [batch, height, width] = maps.dims("average_pool")?;
    if factor == 0 || height % factor != 0 || width % factor != 0 {
        let detail = format!("the factor {factor} does not divide the maps of {}", maps.shape());
        return Err(Error::shape("average_pool", detail));
    }
    let shape = [batch, height / factor, width / factor];
    if maps.device() != Device::Cpu {
        return cuda::average_pool(maps, factor, shape);
    }
    let mut means = Tensor::empty(shape);
    let share = 1.0 / (factor * factor) as f32;
    for (index, mean) in means.data_mut().iter_mut().enumerate() {
        let (row, column) = (index / shape[2], index % shape[2]);
        let square = (0..factor).flat_map(|down| {
            let first = (row * factor + down) * width + column * factor;
            &maps.data()[first..first + factor]
        });
        *mean = share * square.sum::<f32>();
    }
    Ok(means)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_tensor;

    #[test]
    fn each_pixel_is_the_mean_of_its_square() {
        let mask = Tensor::new(&[1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], [1, 2, 4]).unwrap();
        assert_eq!(average_pool(&mask, 2).unwrap().data(), [0.75, 0.5]);
        assert_eq!(average_pool(&mask, 1).unwrap().data(), mask.data());
        let (h, w, factor) = (2, 3, 3);
        let maps = random_tensor(1, [2, h * factor, w * factor]);
        let mut means = vec![0.0; 2 * h * w];
        for (i, x) in maps.data().iter().enumerate() {
            means[i / (w * factor) / factor * w + i % (w * factor) / factor] += x / 9.0;
        }
        let found = average_pool(&maps, factor).unwrap();
        assert_eq!(found.shape()[..], [2, h, w]);
        assert!(found.data().iter().zip(means).all(|(found, mean)| (found - mean).abs() < 1e-6));
    }

    #[test]
    fn kernels_agree() {
        let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
        for (shape, factor) in [([2, 8, 12], 4), ([3, 6, 9], 3), ([1, 5, 7], 1)] {
            let maps = random_tensor(2, shape);
            let there = average_pool(&maps.to_device(Device::Cuda(ordinal)).unwrap(), factor).unwrap();
            let (found, right) =
                (there.to_device(Device::Cpu).unwrap(), average_pool(&maps, factor).unwrap());
            assert_eq!(found.shape(), right.shape());
            assert!(found.data().iter().zip(right.data()).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let maps = Tensor::zeros([1, 6, 4]);
        let error = average_pool(&maps, 4).unwrap_err().to_string();
        assert_eq!(error, "average_pool: the factor 4 does not divide the maps of [1, 6, 4]");
        assert!(average_pool(&maps, 0).is_err() && average_pool(&Tensor::zeros([2, 2]), 2).is_err());
    }
}
