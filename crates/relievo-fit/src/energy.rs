//! How uneven a surface is.

use std::collections::HashMap;
use std::sync::Arc;

use relievo_mesh::Faces;
use relievo_tensor::{Backward, Context, Device, Error, Operation, Result, Tensor, apply_one};

use crate::cuda::{Kept, Surface};

/// The edges of a mesh. Clones share the lists.
#[derive(Clone, Debug)]
pub struct Edges {
    /// Both ends of every edge.
    ends: Arc<[[u32; 2]]>,
    /// Edges with a face on either side: both ends, then the vertices opposite of it.
    hinges: Arc<[[u32; 4]]>,
    vertices: usize,
    /// The same on a GPU.
    kept: Kept,
}

impl Edges {
    /// The edges of these faces. An edge with one face or more than two is no hinge.
    pub fn new(faces: &Faces) -> Self {
        let mut order: Vec<[u32; 2]> = Vec::new();
        let mut opposite: HashMap<[u32; 2], Vec<u32>> = HashMap::new();
        for &[a, b, c] in faces.as_slice() {
            for [from, to, other] in [[a, b, c], [b, c, a], [c, a, b]] {
                let edge = [from.min(to), from.max(to)];
                let list = opposite.entry(edge).or_default();
                if list.is_empty() {
                    order.push(edge);
                }
                list.push(other);
            }
        }
        let hinge = |edge: &[u32; 2]| match opposite[edge][..] {
            [c, d] => Some([edge[0], edge[1], c, d]),
            _ => None,
        };
        let hinges = order.iter().filter_map(hinge).collect();
        let vertices = order.as_flattened().iter().max().map_or(0, |greatest| *greatest as usize + 1);
        Self { ends: order.into(), hinges, vertices, kept: Kept::default() }
    }

    /// How many edges have a face on either side.
    pub fn hinges(&self) -> usize {
        self.hinges.len()
    }

    /// Both ends of every edge.
    pub(crate) fn ends(&self) -> impl Iterator<Item = [usize; 2]> + '_ {
        self.ends.iter().map(|ends| ends.map(|end| end as usize))
    }

    /// The edges on a GPU.
    pub(crate) fn on_gpu(&self, device: Device) -> Result<Surface> {
        self.kept.on(device, self.vertices, &self.ends, &self.hinges)
    }

    pub(crate) fn check(&self, operation: &'static str, vertices: &Tensor) -> Result<()> {
        match vertices.shape()[..] {
            [count, 3] if count >= self.vertices => Ok(()),
            _ => {
                let detail = format!(
                    "vertices must be [n, 3] with n at least {}, not {}",
                    self.vertices,
                    vertices.shape()
                );
                Err(Error::shape(operation, detail))
            }
        }
    }
}

/// The sum over vertices `[V, 3]` of the squared distance between a vertex and the mean of its neighbours: a scalar.
/// Gradient: exact. Small for surfaces with evenly spaced vertices and no bumps.
///
/// # Errors
/// If there are fewer vertices than the edges need.
pub fn laplacian_energy(vertices: &Tensor, edges: &Edges) -> Result<Tensor> {
    apply_one(Laplacian { edges: edges.clone() }, &[vertices])
}

/// The sum over edges between two faces of (1 - cos of the angle between their normals)^2, a scalar: zero for a flat
/// surface. Gradient: exact in the vertices `[V, 3]`. Source: Kato et al. 2018, section 4.1, the smoothness loss.
///
/// # Errors
/// If there are fewer vertices than the edges need.
pub fn flatness_energy(vertices: &Tensor, edges: &Edges) -> Result<Tensor> {
    apply_one(Flatness { edges: edges.clone() }, &[vertices])
}

type Vector = [f64; 3];

fn sub(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|i| a[i] - b[i])
}

fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// The vertices of a tensor.
fn points(tensor: &Tensor) -> Vec<Vector> {
    tensor.data().as_chunks::<3>().0.iter().map(|point| point.map(f64::from)).collect()
}

/// A tensor of the shape of vertices.
fn tensor_of(values: &[Vector]) -> Tensor {
    let mut tensor = Tensor::empty([values.len(), 3]);
    tensor.data_mut().iter_mut().zip(values.as_flattened()).for_each(|(to, value)| *to = *value as f32);
    tensor
}

struct Laplacian {
    edges: Edges,
}

impl Laplacian {
    /// The number of neighbours of each vertex, and the vertex less their mean (zero without neighbours).
    fn differences(&self, points: &[Vector]) -> (Vec<f64>, Vec<Vector>) {
        let (mut counts, mut sums) = (vec![0.0; points.len()], vec![[0.0; 3]; points.len()]);
        for [a, b] in self.edges.ends() {
            for (at, other) in [(a, b), (b, a)] {
                counts[at] += 1.0;
                (0..3).for_each(|i| sums[at][i] += points[other][i]);
            }
        }
        let difference = |((sum, count), point): ((&Vector, &f64), &Vector)| match *count {
            0.0 => [0.0; 3],
            count => sub(*point, sum.map(|sum| sum / count)),
        };
        let differences = sums.iter().zip(&counts).zip(points).map(difference).collect();
        (counts, differences)
    }
}

impl Operation for Laplacian {
    fn name(&self) -> &'static str {
        "laplacian_energy"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.edges.check(self.name(), inputs[0])?;
        context.save(inputs[0]);
        let (_, differences) = self.differences(&points(inputs[0]));
        let energy: f64 = differences.iter().map(|difference| dot(*difference, *difference)).sum();
        Ok(vec![Tensor::scalar(energy as f32)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (counts, differences) = self.differences(&points(&backward.saved[0]));
        let twice = 2.0 * f64::from(backward.gradient().item()?);
        let mut gradient: Vec<Vector> =
            differences.iter().map(|difference| difference.map(|value| twice * value)).collect();
        for [a, b] in self.edges.ends() {
            for (at, other) in [(a, b), (b, a)] {
                (0..3).for_each(|i| gradient[other][i] -= twice * differences[at][i] / counts[at]);
            }
        }
        Ok(vec![Some(tensor_of(&gradient))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.edges.check(self.name(), inputs[0])?;
        let [energy, differences] = self.edges.on_gpu(inputs[0].device())?.laplacian(inputs[0])?;
        context.save(&differences);
        Ok(vec![energy])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (differences, of_energy) = (&backward.saved[0], backward.gradient());
        let surface = self.edges.on_gpu(of_energy.device())?;
        Ok(vec![Some(surface.laplacian_back(differences, of_energy, differences.shape()[0])?)])
    }
}

struct Flatness {
    edges: Edges,
}

/// A normal, its length, and the edges that it is the product of.
struct Side {
    unit: Vector,
    length: f64,
    edges: [Vector; 2],
}

impl Side {
    fn new(u: Vector, v: Vector) -> Self {
        let normal = cross(u, v);
        // A face without area has no normal and no say.
        let length = dot(normal, normal).sqrt();
        let unit = normal.map(|value| if length > 1e-12 { value / length } else { 0.0 });
        Self { unit, length, edges: [u, v] }
    }

    /// The gradients of both edges, given that of the unit normal.
    fn gradients(&self, of_unit: Vector) -> [Vector; 2] {
        if self.length <= 1e-12 {
            return [[0.0; 3]; 2];
        }
        let along = dot(self.unit, of_unit);
        let of_normal: Vector = std::array::from_fn(|i| (of_unit[i] - along * self.unit[i]) / self.length);
        // n = u x v: dn.g = du.(v x g) + dv.(g x u)
        [cross(self.edges[1], of_normal), cross(of_normal, self.edges[0])]
    }
}

/// Both normals at a hinge: of (a, b, c) and (b, a, d).
fn sides(points: &[Vector], hinge: [usize; 4]) -> [Side; 2] {
    let [a, b, c, d] = hinge.map(|at| points[at]);
    [Side::new(sub(b, a), sub(c, a)), Side::new(sub(d, a), sub(b, a))]
}

impl Operation for Flatness {
    fn name(&self) -> &'static str {
        "flatness_energy"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.edges.check(self.name(), inputs[0])?;
        context.save(inputs[0]);
        let points = points(inputs[0]);
        let energy = |hinge: &[u32; 4]| {
            let [first, second] = sides(&points, hinge.map(|at| at as usize));
            (1.0 - dot(first.unit, second.unit)).powi(2)
        };
        Ok(vec![Tensor::scalar(self.edges.hinges.iter().map(energy).sum::<f64>() as f32)])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let points = points(&backward.saved[0]);
        let scale = f64::from(backward.gradient().item()?);
        let mut gradient = vec![[0.0; 3]; points.len()];
        for hinge in self.edges.hinges.iter().map(|hinge| hinge.map(|at| at as usize)) {
            let [first, second] = sides(&points, hinge);
            let slope = -2.0 * scale * (1.0 - dot(first.unit, second.unit));
            let [of_b, of_c] = first.gradients(second.unit.map(|value| slope * value));
            let [of_d, of_b_too] = second.gradients(first.unit.map(|value| slope * value));
            for (corner, part) in [(1, of_b), (2, of_c), (3, of_d), (1, of_b_too)] {
                for i in 0..3 {
                    gradient[hinge[corner]][i] += part[i];
                    gradient[hinge[0]][i] -= part[i];
                }
            }
        }
        Ok(vec![Some(tensor_of(&gradient))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.edges.check(self.name(), inputs[0])?;
        context.save(inputs[0]);
        Ok(vec![self.edges.on_gpu(inputs[0].device())?.flatness(inputs[0])?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let vertices = &backward.saved[0];
        let surface = self.edges.on_gpu(vertices.device())?;
        Ok(vec![Some(surface.flatness_back(vertices, backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use relievo_mesh::shapes;
    use relievo_tensor::testing::{Tolerance, assert_gradients, random_tensor};

    use super::*;

    #[test]
    fn gradients_are_those_of_differences() {
        let sphere = shapes::icosphere(1);
        let faces = Faces::new(sphere.faces);
        let edges = Edges::new(&faces);
        let mut bumpy = Tensor::new(sphere.vertices.as_flattened(), [sphere.vertices.len(), 3]).unwrap();
        let noise = random_tensor(3, [sphere.vertices.len(), 3]);
        bumpy.data_mut().iter_mut().zip(noise.data()).for_each(|(value, noise)| *value += 0.1 * noise);
        let tolerance = Tolerance { norm: 5e-3, element: 5e-3 };
        assert_gradients(&[bumpy.clone()], 1.0 / 256.0, tolerance, |x| laplacian_energy(&x[0], &edges));
        assert_gradients(&[bumpy], 1.0 / 256.0, tolerance, |x| flatness_energy(&x[0], &edges));
    }

    #[test]
    fn a_flat_even_surface_has_no_energy_and_degenerate_faces_no_gradient() {
        let quad = shapes::quad();
        let vertices = Tensor::new(quad.vertices.as_flattened(), [4, 3]).unwrap();
        let edges = Edges::new(&Faces::new(quad.faces.clone()));
        assert_eq!((edges.ends.len(), edges.hinges.len()), (5, 1));
        assert_eq!(flatness_energy(&vertices, &edges).unwrap().item().unwrap(), 0.0);
        let tape = relievo_tensor::Tape::new();
        let point = tape.watch(&Tensor::zeros([4, 3]));
        let gradients = tape.backward(&flatness_energy(&point, &edges).unwrap()).unwrap();
        assert!(gradients.get(&point).unwrap().data().iter().all(|value| *value == 0.0));
        assert!(laplacian_energy(&Tensor::zeros([3, 3]), &edges).is_err());
    }
}
