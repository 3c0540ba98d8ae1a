//! The errors of a surface where the true one is known.

mod cuda;

pub(crate) use cuda::KERNELS;

use rayon::prelude::*;
use relievo_mesh::vector::{cross, dot, length};
use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

use crate::Camera;
use crate::normals::{Rays, depth_gradient, row_of_normals};

/// Numbers kept of each image: pixels that count, mean and standard deviation of the logarithm.
const KEPT: usize = 3;

/// The errors of depth maps for true ones, `[2]`:
/// 1. up to scale, in logarithms: the standard deviation of `D = ln depth - ln truth` over the mask (SIDE), the mean over the
///    images in which the mask has a pixel;
/// 2. of the normals, as [`crate::normals`] has them, both from depth: the mean angle between them over the mask (MAD), in
///    radians.
///
/// `depth` `[N, S, S]`, S the camera's size, of which the first B count; `truth` and `mask` (1 where both depths and their
/// eight neighbours are known, else 0) `[B, S, S]`; depths are above 0. Gradient of the depth, exact: `(D - mean D) / (n s
/// depth)` for the first, s the deviation and n the pixels of the image; for the second `(cos n' - t') / (|n| sin)`, n' and t'
/// both normals of length one, through the central differences. 0 where s or the angle is 0. None for truth and mask.
/// Without a pixel in the masks both are 0. Source of the measures: Wu et al. 2020, section 4.1.
///
/// # Errors
/// If the shapes do not fit.
pub fn surface_error(depth: &Tensor, truth: &Tensor, mask: &Tensor, camera: Camera) -> Result<Tensor> {
    apply_one(SurfaceError { camera }, &[depth, &truth.detach(), &mask.detach()])
}

struct SurfaceError {
    camera: Camera,
}

/// The angle between two vectors and its gradient in the first.
fn angle(a: [f32; 3], b: [f32; 3]) -> (f32, [f32; 3]) {
    let [a_length, b_length] = [a, b].map(|v| length(v).max(f32::MIN_POSITIVE));
    let [a, b] = [a.map(|x| x / a_length), b.map(|x| x / b_length)];
    // Exact where the angle is small, and 0 for equal vectors.
    let axis = cross(a, b);
    let sine = length(axis);
    let inverse = if sine > 0.0 { 1.0 / (sine * a_length) } else { 0.0 };
    // a x (a x b) = cos a - b, as long as the sine.
    (sine.atan2(dot(a, b)), cross(a, axis).map(|x| x * inverse))
}

impl SurfaceError {
    /// The number of images with a truth.
    fn check(&self, inputs: &[&Tensor]) -> Result<usize> {
        let [depth, truth, mask] = [inputs[0], inputs[1], inputs[2]];
        let (images, batch) =
            (self.camera.images(self.name(), depth)?, self.camera.images(self.name(), truth)?);
        if batch <= images && mask.shape() == truth.shape() {
            return Ok(batch);
        }
        let [depth, truth, mask] = [depth, truth, mask].map(Tensor::shape);
        let detail = format!("depths of shape {depth} for a truth of {truth} under a mask of {mask}");
        Err(Error::shape(self.name(), detail))
    }

    /// What is kept of the images, `[B, 3]`, from all their pixels.
    fn statistics(&self, depth: &[f32], truth: &[f32], mask: &[f32], batch: usize) -> Tensor {
        let pixels = self.camera.size * self.camera.size;
        let mut kept = Tensor::empty([batch, KEPT]);
        kept.data_mut().par_chunks_mut(KEPT).enumerate().for_each(|(image, kept)| {
            let range = image * pixels..(image + 1) * pixels;
            let maps = || depth[range.clone()].iter().zip(&truth[range.clone()]).zip(&mask[range.clone()]);
            let logarithms = || {
                let counted = maps().filter(|(_, mask)| **mask > 0.0);
                counted.map(|((depth, truth), _)| f64::from(depth.ln() - truth.ln()))
            };
            let count = logarithms().count().max(1) as f64;
            let mean = logarithms().sum::<f64>() / count;
            let squares: f64 = logarithms().map(|logarithm| (logarithm - mean).powi(2)).sum();
            let numbers = [logarithms().count() as f64, mean, (squares / count).sqrt()];
            kept.iter_mut().zip(numbers).for_each(|(kept, number)| *kept = number as f32);
        });
        kept
    }

    /// Normals of a line of two depth maps.
    fn normals_of(&self, depth: &Tensor, rays: &Rays, line: usize, normals: &mut [[f32; 3]]) {
        let size = self.camera.size;
        row_of_normals(&depth.data()[line / size * size * size..], rays, line % size, normals);
    }
}

/// Images with a pixel in the mask, and all such pixels.
fn counts(kept: &Tensor) -> [f64; 2] {
    let counts = || kept.data().iter().step_by(KEPT).map(|count| f64::from(*count));
    [counts().filter(|count| *count > 0.0).count() as f64, counts().sum()]
}

impl Operation for SurfaceError {
    fn name(&self) -> &'static str {
        "surface_error"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs)?;
        let [depth, truth, mask] = [inputs[0], inputs[1], inputs[2]];
        let (size, rays) = (self.camera.size, Rays::from(self.camera));
        let kept = self.statistics(depth.data(), truth.data(), mask.data(), batch);
        let angles: Vec<f64> = (0..batch * size)
            .into_par_iter()
            .map_init(
                || [vec![[0.0; 3]; size], vec![[0.0; 3]; size]],
                |[found, right], line| {
                    let mask = &mask.data()[line * size..][..size];
                    if mask.iter().all(|mask| *mask == 0.0) {
                        return 0.0;
                    }
                    self.normals_of(depth, &rays, line, found);
                    self.normals_of(truth, &rays, line, right);
                    let pairs = found.iter().zip(right).zip(mask).filter(|(_, mask)| **mask > 0.0);
                    pairs.map(|((found, right), _)| f64::from(angle(*found, *right).0)).sum()
                },
            )
            .collect();
        let [images, pixels] = counts(&kept);
        let deviations: f64 = kept.data().iter().skip(2).step_by(KEPT).map(|s| f64::from(*s)).sum();
        let errors = [deviations / images.max(1.0), angles.iter().sum::<f64>() / pixels.max(1.0)];
        inputs.iter().for_each(|input| context.save(input));
        context.save(&kept);
        Ok(vec![Tensor::new(&errors.map(|error| error as f32), [2])?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [depth, truth, mask, kept] = [0, 1, 2, 3].map(|saved| &backward.saved[saved]);
        let (size, rays, batch) = (self.camera.size, Rays::from(self.camera), truth.shape()[0]);
        let [images, pixels] = counts(kept);
        let dy = backward.gradient().data();
        let of_angle = dy[1] / pixels.max(1.0) as f32;
        let of_line = |line: usize, gradients: &mut [[f32; 3]]| {
            let mask = mask.data().get(line * size..(line + 1) * size);
            let Some(mask) = mask.filter(|mask| mask.iter().any(|mask| *mask > 0.0)) else {
                gradients.fill([0.0; 3]);
                return;
            };
            let mut right = vec![[0.0; 3]; size];
            self.normals_of(depth, &rays, line, gradients);
            self.normals_of(truth, &rays, line, &mut right);
            for ((gradient, right), mask) in gradients.iter_mut().zip(right).zip(mask) {
                let (_, slope) = angle(*gradient, right);
                *gradient = if *mask > 0.0 { slope.map(|x| x * of_angle) } else { [0.0; 3] };
            }
        };
        let (mut ddepth, _) = depth_gradient(depth, self.camera, of_line);
        let maps = depth.data().par_chunks(size * size).zip(truth.data().par_chunks(size * size));
        let maps = maps.zip(mask.data().par_chunks(size * size)).zip(kept.data().par_chunks(KEPT));
        let all = ddepth.data_mut().par_chunks_mut(size * size).take(batch).zip(maps);
        all.for_each(|(ddepth, (((depth, truth), mask), kept))| {
            let [count, mean, deviation] = [kept[0], kept[1], kept[2]];
            if deviation == 0.0 {
                return;
            }
            let scale = dy[0] / images as f32 / (count * deviation);
            for (((ddepth, depth), truth), mask) in ddepth.iter_mut().zip(depth).zip(truth).zip(mask) {
                if *mask > 0.0 {
                    *ddepth += scale * (depth.ln() - truth.ln() - mean) / depth;
                }
            }
        });
        Ok(vec![Some(ddepth), None, None])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs)?;
        let [errors, kept] = cuda::forward(self.camera, [inputs[0], inputs[1], inputs[2]], batch)?;
        inputs.iter().for_each(|input| context.save(input));
        context.save(&kept);
        Ok(vec![errors])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cuda::backward(self.camera, backward)?), None, None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normals;
    use crate::testing::{relief, wide_camera};
    use relievo_tensor::Tape;
    use relievo_tensor::testing::{Tolerance, assert_gradients, assert_operation_independent_of_threads};

    const SIZE: usize = 6;

    /// A mask of the inner pixels of the first and a part of the second of three images; the third is not known.
    fn mask() -> Tensor {
        let holds = |at: usize| {
            let (image, row, column) = (at / SIZE / SIZE, at / SIZE % SIZE, at % SIZE);
            let inner = (1..SIZE - 1).contains(&row) && (1..SIZE - 1).contains(&column);
            inner && (image == 0 || image == 1 && column > 2)
        };
        let mask: Vec<f32> = (0..3 * SIZE * SIZE).map(|at| f32::from(u8::from(holds(at)))).collect();
        Tensor::new(&mask, [3, SIZE, SIZE]).unwrap()
    }

    /// Another relief, on which depths and normals differ everywhere.
    fn truth() -> Tensor {
        let mut truth = relief(4, SIZE, 1.1, 0.2);
        truth.data_mut().reverse();
        truth.narrow(1, 3).unwrap()
    }

    #[test]
    fn the_errors_are_those_of_their_definitions() {
        let (camera, depth, truth, mask) = (wide_camera(SIZE), relief(6, SIZE, 1.0, 0.2), truth(), mask());
        let found = surface_error(&depth, &truth, &mask, camera).unwrap();
        let counted = |image: usize| {
            let range = image * SIZE * SIZE..(image + 1) * SIZE * SIZE;
            range.filter(|at| mask.data()[*at] > 0.0).collect::<Vec<_>>()
        };
        let deviation = |image: usize| {
            let logarithm =
                |at: &usize| f64::from(depth.data()[*at]).ln() - f64::from(truth.data()[*at]).ln();
            let logarithms: Vec<f64> = counted(image).iter().map(logarithm).collect();
            let mean = logarithms.iter().sum::<f64>() / logarithms.len() as f64;
            let squares: f64 = logarithms.iter().map(|d| (d - mean).powi(2)).sum();
            (squares / logarithms.len() as f64).sqrt()
        };
        let side = (deviation(0) + deviation(1)) / 2.0;
        assert!((f64::from(found.data()[0]) - side).abs() < 1e-6 * side, "{found:?}, {side}");
        let [a, b] = [&depth, &truth].map(|depth| normals(depth, camera).unwrap());
        let angle = |at: &usize| {
            let of = |normals: &Tensor| {
                let normal: [f64; 3] = std::array::from_fn(|i| f64::from(normals.data()[3 * at + i]));
                let length = normal.iter().map(|x| x * x).sum::<f64>().sqrt();
                normal.map(|x| x / length)
            };
            of(&a).iter().zip(of(&b)).map(|(a, b)| a * b).sum::<f64>().acos()
        };
        let angles: Vec<f64> = (0..3).flat_map(counted).map(|at| angle(&at)).collect();
        let mad = angles.iter().sum::<f64>() / angles.len() as f64;
        assert!(mad > 0.1 && (f64::from(found.data()[1]) - mad).abs() < 1e-5, "{found:?}, {mad}");
    }

    #[test]
    fn a_scale_costs_no_depth_error_and_nothing_known_costs_nothing() {
        let (camera, truth, mask) = (wide_camera(SIZE), truth(), mask());
        let farther: Vec<f32> = truth.data().iter().map(|depth| 1.5 * depth).collect();
        let farther = Tensor::new(&farther, truth.shape()).unwrap();
        assert!(surface_error(&farther, &truth, &mask, camera).unwrap().data().iter().all(|e| *e < 1e-3));
        for (depth, mask) in [(&truth, &mask), (&farther, &Tensor::zeros([3, SIZE, SIZE]))] {
            let tape = Tape::new();
            let depth = tape.watch(depth);
            let errors = surface_error(&depth, &truth, mask, camera).unwrap();
            assert_eq!(errors.data(), [0.0, 0.0]);
            let gradients = tape.backward(&errors).unwrap();
            assert!(gradients.get(&depth).unwrap().data().iter().all(|d| *d == 0.0));
        }
        let refusal = surface_error(&truth, &relief(4, SIZE, 1.0, 0.1), &mask, camera).unwrap_err();
        assert!(refusal.to_string().starts_with("surface_error: depths of shape [3, 6, 6]"), "{refusal}");
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let (camera, truth, mask) = (wide_camera(SIZE), truth(), mask());
        let run = |x: &[Tensor]| surface_error(&x[0], &truth, &mask, camera);
        let depth = [relief(6, SIZE, 1.0, 0.2)];
        assert_gradients(&depth, 1.0 / 1024.0, Tolerance { norm: 2e-3, element: 4e-3 }, run);
        assert_operation_independent_of_threads(&depth, run);
    }
}
