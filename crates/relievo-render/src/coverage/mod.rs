//! How much of the image a viewpoint leaves without surface.

mod cuda;

pub(crate) use cuda::KERNELS;

use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

use crate::motion::VIEW;
use crate::{Camera, check_type};

/// The share of an axis that may lie outside the surface at no cost: what a rotation by 60 degrees leaves.
const FREE: f64 = 0.5;

/// How much of the image viewpoints leave without surface beyond what any rotation of up to 60 degrees does, `[B]`.
///
/// `view` `[B, 6]`: rotations about x, y, z in radians, translations. The surface is taken as the square that the camera
/// sees at the distance of the point about which it rotates. Along an axis of the image, from -1 to 1, it spans
/// `[c - h, c + h]`, with c the translation over half the image's width there and h the cosine of the rotation that
/// foreshortens the axis (y for columns, x for rows; roll and depth have no part). With L the length of the overlap of
/// both spans, less than 0 if there is none, the result is the sum over both axes of `max(0, 1 - L / 2 - 0.5)`.
///
/// The errors of a reconstruction are means over the pixels that the surface covers, so a viewpoint that moves the surface
/// nearly out of the image lowers them. The mask has no gradient that could say so; this has, also where nothing is covered.
///
/// Gradient, exact but at kinks: `-dL/2` where the maximum is above 0, with `dL/dc = [c + h < 1] - [c - h > -1]` and
/// `dL/dh = [c + h < 1] + [c - h > -1]`.
///
/// # Errors
/// If `view` is not `[B, 6]`.
pub fn uncovered(view: &Tensor, camera: Camera) -> Result<Tensor> {
    apply_one(Uncovered { half_width: camera.half_width() }, &[view])
}

struct Uncovered {
    half_width: f32,
}

/// An axis of the image: the columns of a viewpoint that foreshorten it and that move the surface along it.
const AXES: [[usize; 2]; 2] = [[1, 3], [0, 4]];

impl Uncovered {
    /// The number of viewpoints.
    fn check(&self, view: &Tensor) -> Result<usize> {
        check_type(self.name(), &[view])?;
        match view.dims::<2>(self.name())? {
            [batch, VIEW] => Ok(batch),
            _ => Err(Error::shape(self.name(), format!("needs [B, {VIEW}], got the shape {}", view.shape()))),
        }
    }

    /// What is uncovered of an axis beyond what is free, and its derivatives in the rotation and the translation.
    fn axis(&self, rotation: f32, translation: f32) -> (f64, [f64; 2]) {
        let (sine, half) = f64::from(rotation).sin_cos();
        let centre = f64::from(translation) / f64::from(self.half_width);
        let (last, first) = (centre + half, centre - half);
        let excess = 1.0 - (last.min(1.0) - first.max(-1.0)) / 2.0 - FREE;
        if excess <= 0.0 {
            return (0.0, [0.0; 2]);
        }
        let [ends, begins] = [last < 1.0, first > -1.0].map(|inside| f64::from(u8::from(inside)));
        let [of_half, of_centre] = [-(ends + begins) / 2.0, -(ends - begins) / 2.0];
        (excess, [-sine * of_half, of_centre / f64::from(self.half_width)])
    }
}

impl Operation for Uncovered {
    fn name(&self) -> &'static str {
        "uncovered"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs[0])?;
        context.save(inputs[0]);
        let of_view = |view: &[f32]| {
            AXES.iter().map(|[turned, moved]| self.axis(view[*turned], view[*moved]).0).sum::<f64>() as f32
        };
        let values: Vec<f32> = inputs[0].data().chunks_exact(VIEW).map(of_view).collect();
        Ok(vec![Tensor::new(&values, [batch])?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let view = &backward.saved[0];
        let mut dview = view.zeros_like()?;
        let rows = dview.data_mut().chunks_exact_mut(VIEW).zip(view.data().chunks_exact(VIEW));
        for ((dview, view), dy) in rows.zip(backward.gradient().data()) {
            for [turned, moved] in AXES {
                let (_, [of_rotation, of_translation]) = self.axis(view[turned], view[moved]);
                dview[turned] = (f64::from(*dy) * of_rotation) as f32;
                dview[moved] = (f64::from(*dy) * of_translation) as f32;
            }
        }
        Ok(vec![Some(dview)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let batch = self.check(inputs[0])?;
        context.save(inputs[0]);
        Ok(vec![cuda::forward(self.half_width, inputs[0], batch)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cuda::backward(self.half_width, &backward.saved[0], backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::testing::{Tolerance, assert_gradients};

    /// Half of the image's width at distance 1.
    const HALF: f32 = 0.087_488_66;

    #[test]
    fn only_what_no_rotation_of_60_degrees_uncovers_counts() {
        let views = [
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            // Three quarters of a half turn each way, a translation by a quarter, roll and depth: all within what is free.
            [1.0, -1.0, 3.0, 0.0, 0.0, 0.1],
            [0.0, 0.0, 0.0, 0.9 * HALF, -0.5 * HALF, 0.0],
            // Moved by 1.5 half widths a quarter is left; by 3, nothing, and the gap is half a width.
            [0.0, 0.0, 0.0, 1.5 * HALF, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.5 * HALF, -3.0 * HALF, 0.0],
        ];
        let view = Tensor::new(views.as_flattened(), [5, 6]).unwrap();
        let found = uncovered(&view, Camera::new(64)).unwrap();
        for (found, right) in found.data().iter().zip([0.0, 0.0, 0.0, 0.25, 0.25 + 1.0]) {
            assert!((found - right).abs() < 1e-5, "{found} in place of {right}");
        }
        let error = uncovered(&Tensor::zeros([2, 5]), Camera::new(64)).unwrap_err().to_string();
        assert_eq!(error, "uncovered: needs [B, 6], got the shape [2, 5]");
    }

    #[test]
    fn gradients_agree_with_differences() {
        // At the method's camera half a width is 0.09: a wide one keeps differences far from the kinks.
        let camera = Camera { size: 64, field_of_view_degrees: 90.0 };
        let views = [
            [0.3, -0.5, 0.2, 1.6, -1.7, 0.0],
            [1.2, 1.3, 0.1, 0.1, 0.2, 0.1],
            [0.2, 1.2, 0.0, 0.9, 0.0, 0.0],
            [0.1, 0.1, 0.0, 0.0, 0.0, 0.0],
        ];
        let view = Tensor::new(views.as_flattened(), [4, 6]).unwrap();
        assert!(uncovered(&view, camera).unwrap().data()[..3].iter().all(|y| *y > 0.0));
        let tolerance = Tolerance { norm: 1e-3, element: 1e-3 };
        assert_gradients(&[view], 1.0 / 256.0, tolerance, |x| uncovered(&x[0], camera));
    }
}
