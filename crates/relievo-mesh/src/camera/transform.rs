//! From the world into the camera.

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Operation, Result, Tensor, apply_one};

use crate::check::{as_matrix, as_vector, as_vectors, matrix_of, shape, vector_of, vectors};
use crate::cuda::camera as gpu;
use crate::vector::{add, apply, apply_transposed, sub};

/// The vertices `[V, 3]` as seen from a camera at `eye` `[3]`, turned by `rotation` `[3, 3]`: `R (v - eye)`. Gradient: exact
/// in all three.
///
/// # Errors
/// If a shape is another.
pub fn view_from(vertices: &Tensor, rotation: &Tensor, eye: &Tensor) -> Result<Tensor> {
    apply_one(Transform { from_eye: true }, &[vertices, rotation, eye])
}

/// The vertices `[V, 3]` moved by `rotation` `[3, 3]`, then by `translation` `[3]`: `R v + t`. Gradient: exact in all three.
///
/// # Errors
/// If a shape is another.
pub fn move_rigidly(vertices: &Tensor, rotation: &Tensor, translation: &Tensor) -> Result<Tensor> {
    apply_one(Transform { from_eye: false }, &[vertices, rotation, translation])
}

struct Transform {
    /// `R (v - o)` rather than `R v + o`.
    from_eye: bool,
}

impl Transform {
    fn check(&self, inputs: &[&Tensor]) -> Result<()> {
        vectors(self.name(), "vertices", inputs[0])?;
        shape(self.name(), "the rotation", inputs[1], &[3, 3])?;
        shape(self.name(), "eye or translation", inputs[2], &[3])
    }
}

impl Operation for Transform {
    fn name(&self) -> &'static str {
        if self.from_eye { "view_from" } else { "move_rigidly" }
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        let (rotation, offset) = (as_matrix(inputs[1]), as_vector(inputs[2]));
        let mut seen = Tensor::empty(inputs[0].shape());
        let pairs = seen.data_mut().as_chunks_mut::<3>().0.par_iter_mut().with_min_len(1 << 14);
        pairs.zip(as_vectors(inputs[0])).for_each(|(seen, vertex)| {
            *seen = match self.from_eye {
                true => apply(&rotation, sub(*vertex, offset)),
                false => add(apply(&rotation, *vertex), offset),
            };
        });
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![seen])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [vertices, rotation, offset] = [0, 1, 2].map(|input| &backward.saved[input]);
        let (matrix, offset) = (as_matrix(rotation), as_vector(offset));
        let gradients = as_vectors(backward.gradient());
        let dvertices = backward.wants(0).then(|| {
            let mut dvertices = Tensor::empty(vertices.shape());
            let pairs = dvertices.data_mut().as_chunks_mut::<3>().0.par_iter_mut().with_min_len(1 << 14);
            pairs.zip(gradients).for_each(|(d, g)| *d = apply_transposed(&matrix, *g));
            dvertices
        });
        if !(backward.wants(1) || backward.wants(2)) {
            return Ok(vec![dvertices, None, None]);
        }
        let (mut drotation, mut sum) = ([0.0f64; 9], [0.0f64; 3]);
        for (vertex, g) in as_vectors(vertices).iter().zip(gradients) {
            // A vertex that no visible face has; it may not be finite.
            if *g == [0.0; 3] {
                continue;
            }
            let arm = if self.from_eye { sub(*vertex, offset) } else { *vertex };
            for row in 0..3 {
                sum[row] += f64::from(g[row]);
                for column in 0..3 {
                    drotation[3 * row + column] += f64::from(g[row]) * f64::from(arm[column]);
                }
            }
        }
        let doffset = match self.from_eye {
            true => std::array::from_fn(|i| -(0..3).map(|k| f64::from(matrix[k][i]) * sum[k]).sum::<f64>()),
            false => sum,
        };
        Ok(vec![dvertices, Some(matrix_of(&drotation, &[3, 3])), Some(vector_of(doffset))])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![gpu::transform(self.from_eye, inputs)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        gpu::transform_gradients(self.from_eye, backward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::testing::{Tolerance, assert_gradients, random_tensor};

    #[test]
    fn gradients_are_those_of_differences() {
        let inputs = [random_tensor(1, [5, 3]), random_tensor(2, [3, 3]), random_tensor(3, [3])];
        let tolerance = Tolerance { norm: 1e-4, element: 1e-4 };
        assert_gradients(&inputs, 1.0 / 64.0, tolerance, |x| view_from(&x[0], &x[1], &x[2]));
        assert_gradients(&inputs, 1.0 / 64.0, tolerance, |x| move_rigidly(&x[0], &x[1], &x[2]));
    }
}
