//! Lambertian shading: normals, the diffuse light on them, and the canonical image.

mod cuda;

pub(crate) use cuda::KERNELS;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply, apply_one};

use crate::light::{LIGHT, lights};
use crate::normals::{Rays, depth_gradient, row_of_normals};
use crate::{Camera, check_shared, check_type, sums_of_shared};

/// The surface's normals n, as [`crate::normals`] has them, and `max(0, n.l)` of every pixel, l its image's light
/// direction.
///
/// `depth` `[B, S, S]`, S the camera's size; `light` `[B', 5]` as [`crate::light_from_raw`] gives it, B' a divisor of
/// B; results `[B, S, S, 3]` and `[B, S, S]`. Gradient, exact: that of the normals, and where n.l > 0 dy l besides,
/// through the central differences into the depth; `dy n` summed over the image in the direction. Source: Wu et al.
/// 2020, section 3.3.
///
/// # Errors
/// If the shapes are others.
pub fn diffuse_shading(depth: &Tensor, light: &Tensor, camera: Camera) -> Result<[Tensor; 2]> {
    let outputs = apply(DiffuseShading { camera }, &[depth, light])?;
    Ok(outputs.try_into().expect("two outputs"))
}

struct DiffuseShading {
    camera: Camera,
}

/// Batch, rows and columns of `[B, rows, columns, 3]` in f32.
fn extents(operation: &'static str, maps: &Tensor) -> Result<[usize; 3]> {
    check_type(operation, &[maps])?;
    match maps.dims::<4>(operation)? {
        [batch, rows, columns, 3] => Ok([batch, rows, columns]),
        _ => Err(Error::shape(
            operation,
            format!("needs [B, rows, columns, 3], got the shape {}", maps.shape()),
        )),
    }
}

/// Checks that the lights `[B', 5]` can be shared out over the images.
fn check_lights(operation: &'static str, images: usize, light: &Tensor) -> Result<()> {
    check_shared(operation, images, lights(operation, light)?, "lights")
}

/// The lights of a tensor `[B', 5]`.
fn each_light(light: &Tensor) -> &[[f32; LIGHT]] {
    light.data().as_chunks().0
}

/// The gradient `[B', 5]` from the sums of every row of every image, in their order.
fn light_gradient(rows: &[[f64; LIGHT]], rows_per_image: usize, light: &Tensor) -> Tensor {
    let sums = sums_of_shared(rows, rows_per_image, light.numel() / LIGHT, |sums: &mut [f64; LIGHT], row| {
        sums.iter_mut().zip(row).for_each(|(sum, row)| *sum += row);
    });
    let mut gradient = Tensor::empty(light.shape());
    for (gradient, sum) in gradient.data_mut().iter_mut().zip(sums.as_flattened()) {
        *gradient = *sum as f32;
    }
    gradient
}

fn incidence(normal: &[f32; 3], light: &[f32; LIGHT]) -> f32 {
    normal[0] * light[2] + normal[1] * light[3] + normal[2] * light[4]
}

impl DiffuseShading {
    /// The number of images.
    fn check(&self, inputs: &[&Tensor]) -> Result<usize> {
        let batch = self.camera.images(self.name(), inputs[0])?;
        check_lights(self.name(), batch, inputs[1])?;
        Ok(batch)
    }
}

impl Operation for DiffuseShading {
    fn name(&self) -> &'static str {
        "diffuse_shading"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs)?;
        let (depth, lights) = (inputs[0], each_light(inputs[1]));
        let (size, rays) = (self.camera.size, Rays::from(self.camera));
        let mut normals = Tensor::empty([batch, size, size, 3]);
        let mut shading = Tensor::empty(depth.shape());
        let lines = normals.data_mut().par_chunks_mut(size * 3).zip(shading.data_mut().par_chunks_mut(size));
        lines.enumerate().for_each(|(line, (normals, shading))| {
            let (image, normals) = (line / size, normals.as_chunks_mut().0);
            row_of_normals(&depth.data()[image * size * size..], &rays, line % size, normals);
            let light = &lights[image % lights.len()];
            for (shading, normal) in shading.iter_mut().zip(normals) {
                *shading = incidence(normal, light).max(0.0);
            }
        });
        inputs.iter().for_each(|input| context.save(input));
        context.save(&normals);
        Ok(vec![normals, shading])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [depth, light, normals] = [0, 1, 2].map(|saved| &backward.saved[saved]);
        let (size, lights) = (self.camera.size, each_light(light));
        let [of_normals, of_shading] = [0, 1].map(|output| backward.gradients[output].as_ref());
        let of_line = |line: usize, gradients: &mut [[f32; 3]]| {
            match of_normals {
                Some(dy) => {
                    gradients.as_flattened_mut().copy_from_slice(&dy.data()[line * size * 3..][..size * 3]);
                }
                None => gradients.fill([0.0; 3]),
            }
            let mut sum = [0.0; LIGHT];
            if let Some(dy) = of_shading {
                let light = &lights[line / size % lights.len()];
                let normals = &normals.data().as_chunks::<3>().0[line * size..][..size];
                let dy = &dy.data()[line * size..][..size];
                for ((gradient, normal), dy) in gradients.iter_mut().zip(normals).zip(dy) {
                    let dy = if incidence(normal, light) > 0.0 { *dy } else { 0.0 };
                    for (i, n) in normal.iter().enumerate() {
                        gradient[i] += dy * light[2 + i];
                        sum[2 + i] += f64::from(dy * n);
                    }
                }
            }
            sum
        };
        let (ddepth, sums) = depth_gradient(depth, self.camera, of_line);
        let dlight = backward.wants(1).then(|| light_gradient(&sums, size, light));
        Ok(vec![backward.wants(0).then_some(ddepth), dlight])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs)?;
        let outputs = cuda::diffuse(self.camera, [inputs[0], inputs[1]], batch)?;
        inputs.iter().for_each(|input| context.save(input));
        context.save(&outputs[0]);
        Ok(outputs.into())
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        cuda::diffuse_backward(self.camera, backward)
    }
}

/// The canonical image: `(albedo / 2 + 0.5) (a + b diffuse) 2 - 1`, a and b the light's strengths.
///
/// `albedo` `[B, rows, columns, 3]` in [-1, 1]; `diffuse` `[B, rows, columns]` from [`diffuse_shading`]; `light`
/// `[B', 5]`, B' a divisor of B; result as albedo, above 1 where the light is too strong. Gradient:
/// `dy (a + b diffuse)` in the albedo; with `h = sum over channels of dy (albedo + 1)`: `b h` in the shading, the
/// image's sum of h in a and of `h diffuse` in b. Source: Wu et al. 2020, section 3.3, equation 3.
///
/// # Errors
/// If the shapes are others.
pub fn shade(albedo: &Tensor, diffuse: &Tensor, light: &Tensor) -> Result<Tensor> {
    apply_one(Shade, &[albedo, diffuse, light])
}

struct Shade;

impl Shade {
    /// Batch, rows and columns of albedo, shading and light.
    fn check(&self, inputs: &[&Tensor]) -> Result<[usize; 3]> {
        let [albedo, diffuse, light] = [inputs[0], inputs[1], inputs[2]];
        let [batch, rows, columns] = extents(self.name(), albedo)?;
        check_type(self.name(), &[diffuse])?;
        if diffuse.dims(self.name())? != [batch, rows, columns] {
            let detail = format!("albedo {} and shading {} do not fit", albedo.shape(), diffuse.shape());
            return Err(Error::shape(self.name(), detail));
        }
        check_lights(self.name(), batch, light)?;
        Ok([batch, rows, columns])
    }
}

impl Operation for Shade {
    fn name(&self) -> &'static str {
        "shade"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let [albedo, diffuse, light] = [inputs[0], inputs[1], inputs[2]];
        let [_, rows, columns] = self.check(inputs)?;
        let lights = each_light(light);
        inputs.iter().for_each(|input| context.save(input));
        let mut image = Tensor::empty(albedo.shape());
        let row = columns.max(1);
        let lines = albedo.data().par_chunks(row * 3).zip(diffuse.data().par_chunks(row));
        let lines = image.data_mut().par_chunks_mut(row * 3).zip(lines);
        lines.enumerate().for_each(|(line, (image, (albedo, diffuse)))| {
            let [a, b, ..] = lights[line / rows % lights.len()];
            let pairs = albedo.as_chunks::<3>().0.iter().zip(diffuse);
            for (colour, (albedo, diffuse)) in image.as_chunks_mut::<3>().0.iter_mut().zip(pairs) {
                let shading = a + b * diffuse;
                *colour = albedo.map(|albedo| (albedo / 2.0 + 0.5) * shading * 2.0 - 1.0);
            }
        });
        Ok(vec![image])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [albedo, diffuse, light] = [&backward.saved[0], &backward.saved[1], &backward.saved[2]];
        let [_, rows, columns] = self.check(&[albedo, diffuse, light])?;
        let lights = each_light(light);
        let row = columns.max(1);
        let mut dalbedo = Tensor::empty(albedo.shape());
        let mut ddiffuse = Tensor::empty(diffuse.shape());
        let inputs = albedo.data().par_chunks(row * 3).zip(diffuse.data().par_chunks(row));
        let inputs = inputs.zip(backward.gradient().data().par_chunks(row * 3));
        let outputs = dalbedo.data_mut().par_chunks_mut(row * 3).zip(ddiffuse.data_mut().par_chunks_mut(row));
        let sums: Vec<[f64; LIGHT]> = outputs
            .zip(inputs)
            .enumerate()
            .map(|(line, ((dalbedo, ddiffuse), ((albedo, diffuse), dy)))| {
                let [a, b, ..] = lights[line / rows % lights.len()];
                let mut sum = [0.0; LIGHT];
                let (albedo, dy) = (albedo.as_chunks::<3>().0, dy.as_chunks::<3>().0);
                let outputs = dalbedo.as_chunks_mut::<3>().0.iter_mut().zip(ddiffuse);
                for (((dalbedo, ddiffuse), (albedo, dy)), s) in
                    outputs.zip(albedo.iter().zip(dy)).zip(diffuse)
                {
                    let shading = a + b * s;
                    *dalbedo = dy.map(|dy| dy * shading);
                    let h: f32 = albedo.iter().zip(dy).map(|(albedo, dy)| dy * (albedo + 1.0)).sum();
                    *ddiffuse = b * h;
                    sum[0] += f64::from(h);
                    sum[1] += f64::from(h * s);
                }
                sum
            })
            .collect();
        let dlight = backward.wants(2).then(|| light_gradient(&sums, rows, light));
        Ok(vec![backward.wants(0).then_some(dalbedo), backward.wants(1).then_some(ddiffuse), dlight])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let extents = self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![cuda::shade([inputs[0], inputs[1], inputs[2]], extents)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let extents = self.check(&[&backward.saved[0], &backward.saved[1], &backward.saved[2]])?;
        cuda::shade_backward(backward, extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{relief, wide_camera};
    use crate::{LightRange, light_from_raw};
    use relievo_tensor::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    #[test]
    fn a_surface_that_faces_the_light_is_brightest_and_one_that_turns_away_is_dark() {
        // Planes n.P = 1 of the depth 1 / n.ray; the first has the light's direction, the last turns away from it.
        let camera = wide_camera(5);
        let slopes = camera.slopes();
        let planes = [[0.0, 0.75, 1.0], [0.0, 0.0, 1.0], [0.0, -2.0, 1.0f32]];
        let of_plane = |n: [f32; 3]| {
            let slopes = &slopes;
            (0..25).map(move |i| 1.0 / (n[0] * slopes[i % 5] + n[1] * slopes[i / 5] + n[2]))
        };
        let depths: Vec<f32> = planes.into_iter().flat_map(of_plane).collect();
        let light = Tensor::new(&[0.2, 0.7, 0.0, 0.6, 0.8], [1, 5]).unwrap();
        let [_, diffuse] =
            diffuse_shading(&Tensor::new(&depths, [3, 5, 5]).unwrap(), &light, camera).unwrap();
        for (shading, is) in diffuse.data().chunks(25).zip([1.0, 0.8, 0.0]) {
            // The normals of the frame are set.
            let inner = (0..25).filter(|i| (1..4).contains(&(i % 5)) && (1..4).contains(&(i / 5)));
            inner.for_each(|i| assert!((shading[i] - is).abs() < 1e-5, "{shading:?}"));
        }
        let diffuse = Tensor::new(&[1.0, 0.0], [1, 1, 2]).unwrap();
        let albedo = Tensor::new(&[[1.0, 0.0, -1.0]; 2].concat(), [1, 1, 2, 3]).unwrap();
        let image = shade(&albedo, &diffuse, &light).unwrap();
        // (albedo / 2 + 0.5) * (0.2 + 0.7 * diffuse) * 2 - 1
        let is = [0.8, -0.1, -1.0, -0.6, -0.8, -1.0];
        assert!(image.data().iter().zip(is).all(|(a, b)| (a - b).abs() < 1e-6), "{image:?}");
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let camera = wide_camera(6);
        // Four images, two lights; the second leaves a part dark, and no normal within 0.03 of where that begins.
        let light =
            Tensor::new(&[0.3, 0.5, 0.21, -0.37, 0.903, 0.1, 0.9, 0.866, 0.494, 0.07], [2, 5]).unwrap();
        let inputs = [relief(4, 6, 1.0, 0.1), light.clone()];
        let run =
            |output: usize| move |x: &[Tensor]| Ok(diffuse_shading(&x[0], &x[1], camera)?[output].clone());
        let shading = run(1)(&inputs).unwrap();
        assert!(shading.data().contains(&0.0));
        for output in 0..2 {
            assert_gradients(&inputs, 1.0 / 512.0, Tolerance { norm: 1e-3, element: 1e-3 }, run(output));
        }
        let inputs = [random_tensor(11, [4, 2, 3, 3]), random_tensor(10, [4, 2, 3]), light];
        let tolerance = Tolerance { norm: 1e-4, element: 1e-4 };
        assert_gradients(&inputs, 1.0 / 64.0, tolerance, |x| shade(&x[0], &x[1], &x[2]));
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let inputs = [relief(4, 12, 1.0, 0.1), random_tensor(12, [2, 4]), random_tensor(13, [4, 12, 12, 3])];
        assert_operation_independent_of_threads(&inputs, |x| {
            let light = light_from_raw(&x[1], LightRange::default())?;
            let [_, diffuse] = diffuse_shading(&x[0], &light, wide_camera(12))?;
            shade(&x[2], &diffuse, &light)
        });
    }
}
