//! How far five points of a face are from being those of a symmetric one.

mod cpu;
mod cuda;

pub(crate) use cuda::KERNELS;

use crate::{Backward, Context, DataType, Error, Operation, Result, Tensor, apply_one};

/// The mean, over the faces that are known, of how far five points are from the geometry of a face. The points are right
/// eye, left eye, tip of the nose, right and left corner of the mouth.
///
/// places `[B,5,2]`: x and y of each point in the canonical view, from -1 to 1; depths `[B,5]`; known `[B]`: 1 or 0, no
/// gradient; all f32. Of a face with places (x, y) and depths d in `range`s:
///
/// - eyes and corners of the mouth lie at mirrored places, `(|x + x'| + |y - y'|) / 2` for each pair;
/// - of equal depth, `|d - d'|` for each pair;
/// - the tip of the nose is the nearest, the mean of `max(0, d_nose - d)` over the other four.
///
/// The result is their sum, a scalar; 0 if no face is known. Gradients: signs, 0 where something is fulfilled.
///
/// # Errors
/// If the shapes do not fit, or the range is not above 0.
pub fn face_geometry(places: &Tensor, depths: &Tensor, known: &Tensor, range: f32) -> Result<Tensor> {
    apply_one(FaceGeometry { range }, &[places, depths, &known.detach()])
}

struct FaceGeometry {
    range: f32,
}

impl FaceGeometry {
    /// The number of faces.
    fn check(&self, inputs: &[&Tensor]) -> Result<usize> {
        let [faces] = inputs[2].dims(self.name())?;
        let fits = *inputs[0].shape() == [faces, 5, 2]
            && *inputs[1].shape() == [faces, 5]
            && inputs.iter().all(|input| input.data_type() == DataType::F32)
            && self.range > 0.0;
        if fits {
            return Ok(faces);
        }
        let [places, depths, known] = [0, 1, 2].map(|at: usize| inputs[at].shape());
        let range = self.range;
        let detail = format!("places {places} and depths {depths} of faces {known}, in ranges of {range}");
        Err(Error::shape(self.name(), detail))
    }
}

impl Operation for FaceGeometry {
    fn name(&self) -> &'static str {
        "face_geometry"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        let data = [inputs[0].data(), inputs[1].data(), inputs[2].data()];
        Ok(vec![Tensor::scalar(cpu::error(data, self.range))])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [places, depths, known] = [0, 1, 2].map(|at: usize| &backward.saved[at]);
        let (mut dplaces, mut ddepths) = (Tensor::empty(places.shape()), Tensor::empty(depths.shape()));
        let data = [places.data(), depths.data(), known.data()];
        let dy = backward.gradient().item()?;
        cpu::gradients(data, self.range, dy, dplaces.data_mut(), ddepths.data_mut());
        Ok(vec![Some(dplaces), Some(ddepths), None])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let faces = self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![cuda::error(faces, [inputs[0], inputs[1], inputs[2]], self.range)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs: Vec<&Tensor> = backward.saved.iter().collect();
        let faces = self.check(&inputs)?;
        let inputs = [inputs[0], inputs[1], inputs[2]];
        let [dplaces, ddepths] = cuda::gradients(faces, inputs, self.range, backward.gradient())?;
        Ok(vec![Some(dplaces), Some(ddepths), None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    #[test]
    fn a_symmetric_face_with_a_nose_has_no_error() {
        let places = Tensor::new(&[-0.4, -0.3, 0.4, -0.3, 0.1, 0.1, -0.3, 0.5, 0.3, 0.5], [1, 5, 2]).unwrap();
        let depths = Tensor::new(&[1.0, 1.0, 0.9, 0.98, 0.98], [1, 5]).unwrap();
        let one = Tensor::full([1], 1.0);
        let error = |places: &Tensor, depths: &Tensor, known: &Tensor| {
            face_geometry(places, depths, known, 0.2).unwrap().item().unwrap()
        };
        assert_eq!(error(&places, &depths, &one), 0.0);
        // An eye 0.1 further out and 0.2 lower: half of both. The other 0.04 behind: a fifth of a range.
        let mut moved = places.clone();
        moved.data_mut()[..2].copy_from_slice(&[-0.5, -0.1]);
        assert!((error(&moved, &depths, &one) - 0.15).abs() < 1e-6);
        let mut deeper = depths.clone();
        deeper.data_mut()[1] = 1.04;
        assert!((error(&places, &deeper, &one) - 0.2).abs() < 1e-5);
        // A nose 0.02 behind the corners of the mouth: half of four points, a tenth of a range.
        let mut flat = depths.clone();
        flat.data_mut()[2] = 1.0;
        assert!((error(&places, &flat, &one) - 0.05).abs() < 1e-5);
        assert_eq!(error(&moved, &deeper, &Tensor::zeros([1])), 0.0);
        let wrong = face_geometry(&places, &depths, &Tensor::zeros([2]), 0.2).unwrap_err().to_string();
        assert!(wrong.contains("places [1, 5, 2] and depths [1, 5] of faces [2]"), "{wrong}");
        assert!(face_geometry(&places, &depths, &one, 0.0).is_err());
    }

    #[test]
    fn gradients_agree_with_differences_on_any_number_of_threads() {
        let known = Tensor::new(&[1.0, 0.0, 1.0], [3]).unwrap();
        let inputs = [random_tensor(1, [3, 5, 2]), random_tensor(2, [3, 5])];
        let tolerance = Tolerance { norm: 1e-3, element: 1e-3 };
        assert_gradients(&inputs, 1.0 / 256.0, tolerance, |x| face_geometry(&x[0], &x[1], &known, 0.5));
        assert_operation_independent_of_threads(&inputs, |x| face_geometry(&x[0], &x[1], &known, 0.5));
    }
}
