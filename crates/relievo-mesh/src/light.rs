//! Light on faces: ambient, and from directions.

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Operation, Result, Tensor, apply_one};

use crate::Faces;
use crate::check::{as_vector, as_vectors, matrix_of, shape, vector_of, vectors};
use crate::cuda::{faces as gpu, on_device};
use crate::vector::{Vector, add, cross, dot, normalise, normalise_gradient, scale, sub};

/// The lights of a scene. All tensors may be on a tape.
#[derive(Clone, Debug)]
pub struct Lights {
    /// Light from everywhere.
    pub ambient: Ambient,
    /// Lights from infinitely far; any number.
    pub directional: Vec<Directional>,
}

/// Light from everywhere.
#[derive(Clone, Debug)]
pub struct Ambient {
    /// One number.
    pub intensity: Tensor,
    /// `[3]`.
    pub colour: Tensor,
}

/// Light from infinitely far.
#[derive(Clone, Debug)]
pub struct Directional {
    /// One number.
    pub intensity: Tensor,
    /// `[3]`.
    pub colour: Tensor,
    /// **To** the light, in the world; `[3]`. Its length counts.
    pub direction: Tensor,
}

fn white() -> Tensor {
    Tensor::full([3], 1.0)
}

impl Default for Lights {
    /// Half ambient, half from above.
    fn default() -> Self {
        let mut direction = Tensor::zeros([3]);
        direction.data_mut()[1] = 1.0;
        let from_above = Directional { intensity: Tensor::scalar(0.5), colour: white(), direction };
        Self {
            ambient: Ambient { intensity: Tensor::scalar(0.5), colour: white() },
            directional: vec![from_above],
        }
    }
}

impl Lights {
    /// The same lights on a device.
    pub(crate) fn on_device(&self, device: relievo_tensor::Device) -> Result<Self> {
        let there = |tensor: &Tensor| on_device(tensor, device);
        let of_light = |light: &Directional| {
            Ok(Directional {
                intensity: there(&light.intensity)?,
                colour: there(&light.colour)?,
                direction: there(&light.direction)?,
            })
        };
        let Ambient { intensity, colour } = &self.ambient;
        Ok(Self {
            ambient: Ambient { intensity: there(intensity)?, colour: there(colour)? },
            directional: self.directional.iter().map(of_light).collect::<Result<_>>()?,
        })
    }

    /// Ambient light of strength one: colours are seen as they are.
    pub fn none() -> Self {
        Self { ambient: Ambient { intensity: Tensor::scalar(1.0), colour: white() }, directional: Vec::new() }
    }
}

/// The light on each face, by which its colours are multiplied: `[F, 3]`; with `both_sides` `[2F, 3]`, the backs behind the
/// fronts.
///
/// `flipped` lights the other side.
///
/// L = ia A + sum over lights of id D max(0, n.l); n = normalise((v0 - v1) x (v2 - v1)), in the world. Vertices are
/// `[V, 3]`. n points to the viewer of a face that is drawn, if the camera mirrors ([`crate::Camera::mirrors`]); for others
/// it is to be flipped. Not clamped above. Gradient: exact in the vertices and in all tensors of the lights; that of max(0, x) is 0 at 0.
/// Source: Kato et al. 2018, section 3.4.
///
/// # Errors
/// If a shape is another, or a face has a vertex that does not exist.
pub fn light_faces(
    vertices: &Tensor,
    faces: &Faces,
    lights: &Lights,
    both_sides: bool,
    flipped: bool,
) -> Result<Tensor> {
    let lights = lights.on_device(vertices.device())?;
    let mut inputs = vec![vertices, &lights.ambient.intensity, &lights.ambient.colour];
    for light in &lights.directional {
        inputs.extend([&light.intensity, &light.colour, &light.direction]);
    }
    apply_one(
        LightFaces { faces: faces.clone(), both_sides, side: if flipped { -1.0 } else { 1.0 } },
        &inputs,
    )
}

struct LightFaces {
    faces: Faces,
    both_sides: bool,
    /// The sign of normals.
    side: f32,
}

/// One light from a direction.
#[derive(Clone, Copy)]
struct Ray {
    intensity: f32,
    colour: Vector,
    direction: Vector,
}

fn rays<'a>(inputs: impl Iterator<Item = &'a Tensor>) -> Vec<Ray> {
    let inputs: Vec<&Tensor> = inputs.skip(3).collect();
    let of_light = |light: &[&Tensor]| Ray {
        intensity: light[0].data()[0],
        colour: as_vector(light[1]),
        direction: as_vector(light[2]),
    };
    inputs.chunks_exact(3).map(of_light).collect()
}

/// Edges longer than this are scaled down: their cross product would overflow.
const LONG: f32 = 1e12;

/// Two edges of a face, whose cross product is its normal, and what they are scaled by.
#[inline(always)]
fn edges(vertices: &[Vector], face: [u32; 3]) -> ([Vector; 2], f32) {
    let [a, b, c] = face.map(|index| vertices[index as usize]);
    let edges = [sub(a, b), sub(c, b)];
    let longest = edges.as_flattened().iter().fold(0.0f32, |longest, x| longest.max(x.abs()));
    let by = if longest > LONG { 1.0 / longest } else { 1.0 };
    (edges.map(|edge| scale(edge, by)), by)
}

impl LightFaces {
    fn check(&self, inputs: &[&Tensor]) -> Result<()> {
        let count = vectors(self.name(), "vertices", inputs[0])?;
        self.faces.check(self.name(), count)?;
        for (index, input) in inputs.iter().enumerate().skip(1) {
            let (what, extents): (_, &[usize]) = match index {
                1 => ("the ambient intensity", &[]),
                2 => ("the ambient colour", &[3]),
                _ => [("an intensity", &[][..]), ("a colour", &[3]), ("a direction", &[3])][index % 3],
            };
            shape(self.name(), what, input, extents)?;
        }
        Ok(())
    }

    fn sides(&self) -> usize {
        if self.both_sides { 2 } else { 1 }
    }
}

impl Operation for LightFaces {
    fn name(&self) -> &'static str {
        "light_faces"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        let (vertices, rays) = (as_vectors(inputs[0]), rays(inputs.iter().copied()));
        let ambient = scale(as_vector(inputs[2]), inputs[1].data()[0]);
        let mut light = Tensor::empty([self.sides() * self.faces.len(), 3]);
        let each = light.data_mut().as_chunks_mut::<3>().0.par_chunks_mut(self.faces.len().max(1));
        each.zip([self.side, -self.side]).for_each(|(light, side)| {
            let pairs = light.par_iter_mut().with_min_len(1 << 12).zip(self.faces.as_slice());
            pairs.for_each(|(light, face)| {
                let ([a, b], _) = edges(vertices, *face);
                let normal = scale(normalise(cross(a, b)), side);
                let lit = |sum, ray: &Ray| {
                    add(sum, scale(ray.colour, ray.intensity * dot(normal, ray.direction).max(0.0)))
                };
                *light = rays.iter().fold(ambient, lit);
            });
        });
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![light])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (saved, g) = (backward.saved, as_vectors(backward.gradient()));
        let (vertices, rays) = (as_vectors(&saved[0]), rays(saved.iter()));
        let mut dvertices = Tensor::zeros(saved[0].shape());
        let into = dvertices.data_mut().as_chunks_mut::<3>().0;
        let mut ambient = [0.0f64; 3];
        // Of each light: the sum of g max(0, n.l), and the gradient of the direction over the intensity.
        let mut directional = vec![([0.0f64; 3], [0.0f64; 3]); rays.len()];
        for (index, g) in g.iter().enumerate() {
            if *g == [0.0; 3] {
                continue;
            }
            ambient.iter_mut().zip(g).for_each(|(sum, g)| *sum += f64::from(*g));
            let side = if index < self.faces.len() { self.side } else { -self.side };
            let face = self.faces.as_slice()[index % self.faces.len()];
            let ([a, b], by) = edges(vertices, face);
            let area = cross(a, b);
            let normal = scale(normalise(area), side);
            let mut dnormal = [0.0; 3];
            for (ray, (of_colour, of_direction)) in rays.iter().zip(&mut directional) {
                let incidence = dot(normal, ray.direction);
                if incidence > 0.0 {
                    of_colour.iter_mut().zip(g).for_each(|(sum, g)| *sum += f64::from(g * incidence));
                    let along = dot(*g, ray.colour);
                    of_direction.iter_mut().zip(normal).for_each(|(sum, n)| *sum += f64::from(along * n));
                    dnormal = add(dnormal, scale(ray.direction, along * ray.intensity));
                }
            }
            if dnormal == [0.0; 3] {
                continue;
            }
            let darea = scale(normalise_gradient(area, scale(dnormal, side)), by);
            let (da, db) = (cross(b, darea), cross(darea, a));
            for (corner, d) in face.into_iter().zip([da, scale(add(da, db), -1.0), db]) {
                into[corner as usize] = add(into[corner as usize], d);
            }
        }
        let along = |sums: [f64; 3], v: Vector| (0..3).map(|i| sums[i] * f64::from(v[i])).sum::<f64>();
        let times = |sums: [f64; 3], by: f32| Some(vector_of(sums.map(|sum| sum * f64::from(by))));
        let mut gradients = vec![
            Some(dvertices),
            Some(matrix_of(&[along(ambient, as_vector(&saved[2]))], &[])),
            times(ambient, saved[1].data()[0]),
        ];
        for (ray, (of_colour, of_direction)) in rays.iter().zip(directional) {
            gradients.push(Some(matrix_of(&[along(of_colour, ray.colour)], &[])));
            gradients.push(times(of_colour, ray.intensity));
            gradients.push(times(of_direction, ray.intensity));
        }
        Ok(gradients)
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![gpu::light(&self.faces, self.sides(), self.side, inputs)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        gpu::light_gradients(&self.faces, self.sides(), self.side, backward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    #[test]
    fn the_side_that_faces_the_light_is_lit() {
        // A camera above that mirrors sees x to the right and -z up: the corners run counter-clockwise.
        let vertices = Tensor::new(&[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0], [3, 3]).unwrap();
        let faces = Faces::new(vec![[0, 1, 2]]);
        let light = light_faces(&vertices, &faces, &Lights::default(), true, false).unwrap();
        assert_eq!(light.data(), [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]);
        let light = light_faces(&vertices, &faces, &Lights::none(), false, false).unwrap();
        assert_eq!(light.data(), [1.0; 3]);
    }

    /// Vertices, and the tensors of two lights.
    fn inputs() -> Vec<Tensor> {
        let mut inputs = vec![random_tensor(8, [5, 3]), Tensor::scalar(0.25), random_tensor(9, [3])];
        for seed in [10, 20] {
            inputs.extend([Tensor::scalar(0.75), random_tensor(seed, [3]), random_tensor(seed + 1, [3])]);
        }
        inputs
    }

    fn light(x: &[Tensor]) -> Result<Tensor> {
        let directional = x[3..].chunks(3).map(|light| Directional {
            intensity: light[0].clone(),
            colour: light[1].clone(),
            direction: light[2].clone(),
        });
        let lights = Lights {
            ambient: Ambient { intensity: x[1].clone(), colour: x[2].clone() },
            directional: directional.collect(),
        };
        let faces = Faces::new(vec![[0, 1, 2], [1, 3, 2], [2, 3, 4], [4, 0, 3]]);
        light_faces(&x[0], &faces, &lights, true, true)
    }

    #[test]
    fn gradients_are_those_of_differences() {
        assert_gradients(&inputs(), 1.0 / 512.0, Tolerance { norm: 2e-3, element: 2e-3 }, light);
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        assert_operation_independent_of_threads(&inputs(), light);
    }
}
