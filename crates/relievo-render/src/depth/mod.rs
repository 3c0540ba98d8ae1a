//! What becomes of the depth net's output, and of a rasterised depth: ranges, border, clamping.

mod cuda;

pub(crate) use cuda::KERNELS;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

use crate::check_type;

/// The depths a canonical surface can take, in units of the distance from the camera to the pivot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthRange {
    /// Depth of the nearest point, 0.9 in the method.
    pub min: f32,
    /// Depth of the farthest point, 1.1 in the method.
    pub max: f32,
}

impl DepthRange {
    /// Half the distance from the nearest to the farthest: how far a rasterised depth may leave the range.
    pub fn margin(&self) -> f32 {
        (self.max - self.min) / 2.0
    }

    /// The least and the greatest depth a rasterised surface is clamped to: the range widened by its margin.
    pub fn widened(&self) -> [f32; 2] {
        [self.min - self.margin(), self.max + self.margin()]
    }

    /// The depth `weight` of the way from `min` (0) to `max` (1). The border of the method is at 0.7.
    pub fn between(&self, weight: f32) -> f32 {
        weight * self.max + (1.0 - weight) * self.min
    }
}

/// How many columns [`set_border`] sets on either side.
const BORDER: usize = 2;

/// Depth from the depth net's output: the mean over the picture is taken off, tanh brings it to (-1, 1), and
/// `(1 + t) / 2 * max + (1 - t) / 2 * min` into the range.
///
/// `raw` `[B, rows, columns]`, any values; result of the same shape, in `(min, max)`. Gradient: with
/// `h = dy (1 - t^2) (max - min) / 2`, `h - mean(h)` over the picture. Source: Wu et al. 2020, section 3.1 (the mean
/// removed so that the distance, which a single picture does not show, cannot drift).
///
/// # Errors
/// If `raw` has not three axes.
pub fn depth_from_raw(raw: &Tensor, range: DepthRange) -> Result<Tensor> {
    apply_one(DepthFromRaw { range }, &[raw])
}

struct DepthFromRaw {
    range: DepthRange,
}

impl DepthFromRaw {
    /// The number of pictures, and of the pixels of each (1 if there are none).
    fn check(&self, maps: &Tensor) -> Result<[usize; 2]> {
        check_type(self.name(), &[maps])?;
        let [batch, rows, columns] = maps.axes(self.name())?;
        Ok([batch, (rows * columns).max(1)])
    }
}

/// `squashed = tanh(raw - mean(raw))` of one picture.
fn squash(raw: &[f32], squashed: &mut [f32]) {
    let mean = mean(raw);
    for (t, raw) in squashed.iter_mut().zip(raw) {
        *t = (raw - mean).tanh();
    }
}

/// The mean of one picture, summed in order.
fn mean(picture: &[f32]) -> f32 {
    let sum: f64 = picture.iter().map(|&x| f64::from(x)).sum();
    (sum / picture.len().max(1) as f64) as f32
}

impl Operation for DepthFromRaw {
    fn name(&self) -> &'static str {
        "depth_from_raw"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let [_, picture] = self.check(inputs[0])?;
        let mut squashed = Tensor::scratch(inputs[0].shape());
        let mut depth = Tensor::scratch(inputs[0].shape());
        let (middle, half) = ((self.range.max + self.range.min) / 2.0, self.range.margin());
        let pictures =
            squashed.data_mut().par_chunks_mut(picture).zip(depth.data_mut().par_chunks_mut(picture));
        pictures.zip(inputs[0].data().par_chunks(picture)).for_each(|((squashed, depth), raw)| {
            squash(raw, squashed);
            for (depth, t) in depth.iter_mut().zip(squashed) {
                *depth = middle + half * *t;
            }
        });
        context.save(&squashed);
        Ok(vec![depth])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [_, picture] = self.check(&backward.saved[0])?;
        let half = self.range.margin();
        let mut draw = Tensor::scratch(backward.saved[0].shape());
        let saved = backward.saved[0].data().par_chunks(picture);
        let dy = backward.gradient().data().par_chunks(picture);
        draw.data_mut().par_chunks_mut(picture).zip(saved.zip(dy)).for_each(|(draw, (squashed, dy))| {
            for (draw, (t, dy)) in draw.iter_mut().zip(squashed.iter().zip(dy)) {
                *draw = dy * half * (1.0 - t * t);
            }
            let mean = mean(draw);
            draw.iter_mut().for_each(|draw| *draw -= mean);
        });
        Ok(vec![Some(draw)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let extents = self.check(inputs[0])?;
        let (depth, squashed) = cuda::from_raw(self.range, inputs[0], extents, context.is_recording())?;
        squashed.iter().for_each(|squashed| context.save(squashed));
        Ok(vec![depth])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let squashed = &backward.saved[0];
        let extents = self.check(squashed)?;
        Ok(vec![Some(cuda::from_raw_backward(self.range, squashed, backward.gradient(), extents)?)])
    }
}

/// Sets the two leftmost and the two rightmost columns to `border_depth`, so that the surface ends where its
/// background is.
///
/// `depth` `[B, rows, columns]`, at least four columns. Gradient: that of the output, zero in the columns set.
/// Source: Wu et al. 2020, supplementary material (border depth 0.7 max + 0.3 min).
///
/// # Errors
/// If `depth` has not three axes, or fewer than four columns.
pub fn set_border(depth: &Tensor, border_depth: f32) -> Result<Tensor> {
    apply_one(SetBorder { border_depth }, &[depth])
}

struct SetBorder {
    border_depth: f32,
}

impl SetBorder {
    /// The number of columns, if it is enough.
    fn check(&self, maps: &Tensor) -> Result<usize> {
        check_type(self.name(), &[maps])?;
        let [_, _, columns] = maps.axes(self.name())?;
        if columns < 2 * BORDER {
            let detail = format!("needs at least {} columns, got the shape {}", 2 * BORDER, maps.shape());
            return Err(Error::shape(self.name(), detail));
        }
        Ok(columns)
    }

    fn with_border(&self, maps: &Tensor, value: f32) -> Result<Tensor> {
        let columns = self.check(maps)?;
        let mut result = maps.detach();
        for row in result.data_mut().chunks_exact_mut(columns) {
            row[..BORDER].fill(value);
            row[columns - BORDER..].fill(value);
        }
        Ok(result)
    }
}

impl Operation for SetBorder {
    fn name(&self) -> &'static str {
        "set_border"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        Ok(vec![self.with_border(inputs[0], self.border_depth)?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.with_border(backward.gradient(), 0.0)?)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let columns = self.check(inputs[0])?;
        Ok(vec![cuda::with_border(inputs[0], columns, self.border_depth)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let columns = self.check(backward.gradient())?;
        Ok(vec![Some(cuda::with_border(backward.gradient(), columns, 0.0)?)])
    }
}

/// Clamps a rasterised depth to the range widened by its margin on both sides ([`DepthRange::widened`]), which also
/// brings the rasteriser's background there. Any shape. Gradient: that of the output, zero where clamped.
///
/// # Errors
/// None of its own.
pub fn clamp_depth(depth: &Tensor, range: DepthRange) -> Result<Tensor> {
    apply_one(ClampDepth { bounds: range.widened() }, &[depth])
}

struct ClampDepth {
    bounds: [f32; 2],
}

/// Elements that are worth a task of their own.
const BLOCK: usize = 8192;

impl Operation for ClampDepth {
    fn name(&self) -> &'static str {
        "clamp_depth"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        context.save(inputs[0]);
        let [low, high] = self.bounds;
        let mut clamped = Tensor::scratch(inputs[0].shape());
        let blocks = clamped.data_mut().par_chunks_mut(BLOCK).zip(inputs[0].data().par_chunks(BLOCK));
        blocks.for_each(|(clamped, depth)| {
            for (clamped, depth) in clamped.iter_mut().zip(depth) {
                *clamped = depth.max(low).min(high);
            }
        });
        Ok(vec![clamped])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (depth, dy) = (&backward.saved[0], backward.gradient());
        let [low, high] = self.bounds;
        let mut gradient = Tensor::scratch(depth.shape());
        let blocks = depth.data().par_chunks(BLOCK).zip(dy.data().par_chunks(BLOCK));
        gradient.data_mut().par_chunks_mut(BLOCK).zip(blocks).for_each(|(gradient, (depth, dy))| {
            for (gradient, (depth, dy)) in gradient.iter_mut().zip(depth.iter().zip(dy)) {
                *gradient = if (low..=high).contains(depth) { *dy } else { 0.0 };
            }
        });
        Ok(vec![Some(gradient)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        check_type(self.name(), inputs)?;
        context.save(inputs[0]);
        Ok(vec![cuda::clamp(self.bounds, inputs[0])?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(cuda::clamp_backward(self.bounds, &backward.saved[0], backward.gradient())?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::Tape;
    use relievo_tensor::differences::{
        assert_operation_independent_of_threads, gradient_errors, random_tensor,
    };

    const RANGE: DepthRange = DepthRange { min: 0.9, max: 1.1 };

    #[test]
    fn depth_stays_in_its_range_and_does_not_see_the_mean() {
        let raw = random_tensor(1, [2, 5, 6]);
        let shifted =
            Tensor::new(&raw.data().iter().map(|x| x + 3.0).collect::<Vec<_>>(), [2, 5, 6]).unwrap();
        let [depth, other] = [&raw, &shifted].map(|raw| depth_from_raw(raw, RANGE).unwrap());
        assert!(depth.data().iter().all(|d| (RANGE.min..=RANGE.max).contains(d)));
        assert!(depth.data().iter().zip(other.data()).all(|(a, b)| (a - b).abs() < 1e-6));
        let level = depth_from_raw(&Tensor::full([1, 4, 4], 7.0), RANGE).unwrap();
        assert!(level.data().iter().all(|d| (d - 1.0).abs() < 1e-6));
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let raw = random_tensor(2, [2, 5, 6]);
        let range = DepthRange { min: 0.5, max: 2.0 };
        let errors = gradient_errors(&[raw], 1.0 / 128.0, |x| depth_from_raw(&x[0], range)).unwrap();
        assert!(errors[0] < 1e-3, "{errors:?}");
        let depth = random_tensor(3, [2, 3, 6]);
        let errors = gradient_errors(&[depth], 0.25, |x| set_border(&x[0], 1.04)).unwrap();
        assert!(errors[0] < 1e-6, "{errors:?}");
    }

    #[test]
    fn the_border_is_two_columns_on_either_side() {
        let depth = set_border(&Tensor::full([1, 2, 5], 1.0), RANGE.between(0.7)).unwrap();
        let border = 0.7 * 1.1 + 0.3 * 0.9;
        for row in depth.data().chunks(5) {
            assert_eq!(row, [border, border, 1.0, border, border]);
        }
        let error = set_border(&Tensor::zeros([1, 2, 3]), 1.0).unwrap_err().to_string();
        assert_eq!(error, "set_border: needs at least 4 columns, got the shape [1, 2, 3]");
    }

    #[test]
    fn what_is_clamped_has_no_gradient() {
        let tape = Tape::new();
        let depth = tape.watch(&Tensor::new(&[0.7, 0.85, 1.0, 1.19, 10.0], [5]).unwrap());
        let clamped = clamp_depth(&depth, RANGE).unwrap();
        let [low, high] = RANGE.widened();
        assert_eq!(clamped.data(), [low, 0.85, 1.0, 1.19, high]);
        assert_eq!(tape.backward(&clamped).unwrap().get(&depth).unwrap().data(), [0.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let raw = random_tensor(4, [5, 16, 16]);
        assert_operation_independent_of_threads(&[raw], |x| {
            clamp_depth(&set_border(&depth_from_raw(&x[0], RANGE)?, 1.04)?, RANGE)
        });
    }
}
