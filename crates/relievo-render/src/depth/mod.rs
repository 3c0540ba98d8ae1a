//! From the depth network's output to canonical depth: dome, range, border, mirror image.

mod cuda;

pub(crate) use cuda::KERNELS;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply};

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
    /// Half the range: the amount by which a rasterised depth may leave it.
    pub(crate) fn margin(&self) -> f32 {
        (self.max - self.min) / 2.0
    }

    /// The least and the greatest depth a rasterised surface is clamped to: the range widened by its margin.
    pub fn widened(&self) -> [f32; 2] {
        [self.min - self.margin(), self.max + self.margin()]
    }
}

/// The columns of the canonical depth that are set on either side.
const BORDER: usize = 2;

/// The second half of the canonical depths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubling {
    /// Nothing.
    Single,
    /// The batch again.
    Repeated,
    /// The batch mirrored along its width: the symmetry assumption.
    Mirrored,
}

impl Doubling {
    /// Canonical depths for each image.
    fn halves(self) -> usize {
        if self == Self::Single { 1 } else { 2 }
    }
}

/// Parameters of [`canonical_depth`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthSettings {
    /// The range of depths.
    pub range: DepthRange,
    /// The height of a paraboloid that is added to the output: 0 in the centre, `dome` at the left and right ends of the
    /// middle row. Raw depth becomes a bowl, so the surface bulges towards the viewer. 0 in the method.
    ///
    /// A hollow shape lit from one side has the same shading as a raised one lit from the other. Early in training, before
    /// viewpoints distinguish them, the depth network may settle for either, image by image. An initial dome decides it
    /// (Pan et al. 2021 start with an ellipsoid for the same reason); the network can still output any shape.
    pub dome: f32,
    /// The depth of the two leftmost and the two rightmost columns of the canonical depth, so that the surface ends
    /// where its background is.
    pub border_depth: f32,
    /// Whether the canonical depths are doubled.
    pub doubling: Doubling,
}

/// Depths from the depth network's output: adds the dome, subtracts the mean over the image, applies tanh, and maps t in
/// (-1, 1) to the range by `(1 + t) / 2 * max + (1 - t) / 2 * min`.
///
/// `raw` `[B, rows, columns]`, any values, at least four columns. Results: that depth, of the same shape, in `(min,
/// max)`, and the canonical depth, the same with its border set, doubled as asked, `[B or 2B, rows, columns]`.
/// Gradient: the outputs' gradients are added up, those of the canonical depth's second half mirrored back, those of
/// its border left out; with their sum dy and `h = dy (1 - t^2) (max - min) / 2`, `h - mean(h)` over the image.
/// Source: Wu et al. 2020, section 3.1 (the mean removed so that the distance, which a single image does not show,
/// cannot drift) and supplementary material (border depth 0.7 max + 0.3 min).
///
/// # Errors
/// If `raw` does not have three axes, or has fewer than four columns.
pub fn canonical_depth(raw: &Tensor, settings: DepthSettings) -> Result<[Tensor; 2]> {
    let outputs = apply(CanonicalDepth { settings }, &[raw])?;
    Ok(outputs.try_into().expect("two outputs"))
}

struct CanonicalDepth {
    settings: DepthSettings,
}

/// The squares of -1 to 1 in `count` steps.
fn squares(count: usize) -> Vec<f32> {
    let of = |index: usize| (2.0 * index as f32 / (count.max(2) - 1) as f32 - 1.0).powi(2);
    (0..count).map(of).collect()
}

/// The mean of one image, summed in order.
fn mean(image: &[f32]) -> f32 {
    let sum: f64 = image.iter().map(|&x| f64::from(x)).sum();
    (sum / image.len().max(1) as f64) as f32
}

impl CanonicalDepth {
    /// Batch, rows and columns.
    fn check(&self, maps: &Tensor) -> Result<[usize; 3]> {
        check_type(self.name(), &[maps])?;
        let extents @ [_, _, columns] = maps.dims(self.name())?;
        if columns < 2 * BORDER {
            let detail = format!("needs at least {} columns, got the shape {}", 2 * BORDER, maps.shape());
            return Err(Error::shape(self.name(), detail));
        }
        Ok(extents)
    }

    /// The shape of the canonical depths.
    fn doubled(&self, [batch, rows, columns]: [usize; 3]) -> [usize; 3] {
        [self.settings.doubling.halves() * batch, rows, columns]
    }

    /// Whether canonical depth `index` of a batch is mirrored.
    fn is_mirrored(&self, index: usize, batch: usize) -> bool {
        index >= batch && self.settings.doubling == Doubling::Mirrored
    }
}

impl Operation for CanonicalDepth {
    fn name(&self) -> &'static str {
        "canonical_depth"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let extents @ [batch, rows, columns] = self.check(inputs[0])?;
        let DepthSettings { range, dome, border_depth, .. } = self.settings;
        let image = (rows * columns).max(1);
        let mut squashed = Tensor::empty(inputs[0].shape());
        let mut depth = Tensor::empty(inputs[0].shape());
        let (middle, half) = ((range.max + range.min) / 2.0, range.margin());
        let (down, across) = (squares(rows), squares(columns));
        let images = squashed.data_mut().par_chunks_mut(image).zip(depth.data_mut().par_chunks_mut(image));
        images.zip(inputs[0].data().par_chunks(image)).for_each(|((squashed, depth), raw)| {
            let lines = squashed.chunks_exact_mut(columns).zip(raw.chunks_exact(columns)).zip(&down);
            for ((squashed, raw), y) in lines {
                for ((squashed, raw), x) in squashed.iter_mut().zip(raw).zip(&across) {
                    *squashed = raw + dome * (x + y);
                }
            }
            let mean = mean(squashed);
            for (depth, t) in depth.iter_mut().zip(squashed) {
                *t = (*t - mean).tanh();
                *depth = middle + half * *t;
            }
        });
        let mut canonical = Tensor::empty(self.doubled(extents));
        let halves = canonical.data_mut().par_chunks_mut(image).enumerate();
        halves.for_each(|(index, canonical)| {
            canonical.copy_from_slice(&depth.data()[index % batch * image..][..image]);
            for row in canonical.chunks_exact_mut(columns) {
                if self.is_mirrored(index, batch) {
                    row.reverse();
                }
                row[..BORDER].fill(border_depth);
                row[columns - BORDER..].fill(border_depth);
            }
        });
        context.save(&squashed);
        Ok(vec![depth, canonical])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let squashed = &backward.saved[0];
        let [batch, rows, columns] = self.check(squashed)?;
        let image = (rows * columns).max(1);
        let half = self.settings.range.margin();
        let [of_depth, of_canonical] = [0, 1].map(|output| backward.gradients[output].as_ref());
        let mut draw = Tensor::empty(squashed.shape());
        let images = draw.data_mut().par_chunks_mut(image).zip(squashed.data().par_chunks(image));
        images.enumerate().for_each(|(index, (draw, squashed))| {
            match of_depth {
                Some(dy) => draw.copy_from_slice(&dy.data()[index * image..][..image]),
                None => draw.fill(0.0),
            }
            if let Some(dy) = of_canonical {
                for index in (index..self.settings.doubling.halves() * batch).step_by(batch) {
                    let dy = &dy.data()[index * image..][..image];
                    for (draw, dy) in draw.chunks_exact_mut(columns).zip(dy.chunks_exact(columns)) {
                        let inner = BORDER..columns - BORDER;
                        let pairs = draw[inner.clone()].iter_mut();
                        if self.is_mirrored(index, batch) {
                            pairs.zip(dy[inner].iter().rev()).for_each(|(draw, dy)| *draw += dy);
                        } else {
                            pairs.zip(&dy[inner]).for_each(|(draw, dy)| *draw += dy);
                        }
                    }
                }
            }
            for (draw, t) in draw.iter_mut().zip(squashed) {
                *draw *= half * (1.0 - t * t);
            }
            let mean = mean(draw);
            draw.iter_mut().for_each(|draw| *draw -= mean);
        });
        Ok(vec![Some(draw)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let extents = self.check(inputs[0])?;
        let (outputs, squashed) = cuda::forward(self, inputs[0], extents, context.is_recording())?;
        squashed.iter().for_each(|squashed| context.save(squashed));
        Ok(outputs.into())
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let extents = self.check(&backward.saved[0])?;
        Ok(vec![Some(cuda::backward(self, backward, extents)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::Tape;
    use relievo_tensor::testing::{
        Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor,
    };

    const SETTINGS: DepthSettings = DepthSettings {
        range: DepthRange { min: 0.9, max: 1.1 },
        dome: 0.0,
        border_depth: 1.04,
        doubling: Doubling::Single,
    };

    #[test]
    fn depth_stays_in_its_range_and_does_not_see_the_mean() {
        let raw = random_tensor(1, [2, 5, 6]);
        let shifted =
            Tensor::new(&raw.data().iter().map(|x| x + 3.0).collect::<Vec<_>>(), [2, 5, 6]).unwrap();
        let [depth, other] = [&raw, &shifted].map(|raw| canonical_depth(raw, SETTINGS).unwrap()[0].clone());
        assert!(depth.data().iter().all(|d| (0.9..=1.1).contains(d)));
        assert!(depth.data().iter().zip(other.data()).all(|(a, b)| (a - b).abs() < 1e-6));
        let [level, _] = canonical_depth(&Tensor::full([1, 4, 4], 7.0), SETTINGS).unwrap();
        assert!(level.data().iter().all(|d| (d - 1.0).abs() < 1e-6));
    }

    #[test]
    fn a_dome_is_nearest_in_the_middle_and_alike_on_all_sides() {
        let [depth, _] =
            canonical_depth(&Tensor::zeros([1, 5, 5]), DepthSettings { dome: 0.5, ..SETTINGS }).unwrap();
        let at = |row: usize, column: usize| depth.data()[row * 5 + column];
        assert!(at(2, 2) < at(2, 1) && at(2, 1) < at(2, 0) && at(2, 0) < at(0, 0));
        assert_eq!([at(2, 0), at(2, 4), at(0, 2)], [at(4, 2); 3]);
        // Its foot is as high above its top as the setting says, twice that in the corners, and the mean is in between.
        let raw = |depth: f32| ((depth - 1.0) / 0.1).atanh();
        assert!((raw(at(2, 0)) - raw(at(2, 2)) - 0.5).abs() < 1e-4);
        assert!((raw(at(0, 0)) - raw(at(2, 2)) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn the_canonical_depth_has_a_border_and_a_second_half() {
        let raw = random_tensor(3, [2, 3, 7]);
        for (doubling, batch) in [(Doubling::Single, 2), (Doubling::Repeated, 4), (Doubling::Mirrored, 4)] {
            let [depth, canonical] = canonical_depth(&raw, DepthSettings { doubling, ..SETTINGS }).unwrap();
            assert_eq!(canonical.shape()[..], [batch, 3, 7]);
            for (line, row) in canonical.data().chunks(7).enumerate() {
                assert_eq!([row[0], row[1], row[5], row[6]], [1.04; 4]);
                let mut inner = depth.data()[line % 6 * 7..][2..5].to_vec();
                if line >= 6 && doubling == Doubling::Mirrored {
                    inner.reverse();
                }
                assert_eq!(row[2..5], inner);
            }
        }
        let error = canonical_depth(&Tensor::zeros([1, 2, 3]), SETTINGS).unwrap_err().to_string();
        assert_eq!(error, "canonical_depth: needs at least 4 columns, got the shape [1, 2, 3]");
    }

    #[test]
    fn gradients_are_those_of_differences_on_any_number_of_threads() {
        let raw = random_tensor(2, [2, 5, 6]);
        let range = DepthRange { min: 0.5, max: 2.0 };
        for doubling in [Doubling::Single, Doubling::Repeated, Doubling::Mirrored] {
            let settings = DepthSettings { range, dome: 0.3, doubling, ..SETTINGS };
            for output in 0..2 {
                let run = |x: &[Tensor]| Ok(canonical_depth(&x[0], settings)?[output].clone());
                assert_gradients(
                    std::slice::from_ref(&raw),
                    1.0 / 128.0,
                    Tolerance { norm: 1e-3, element: 1e-3 },
                    run,
                );
                assert_operation_independent_of_threads(std::slice::from_ref(&raw), run);
            }
        }
    }

    #[test]
    fn gradients_of_both_depths_add_up() {
        let tape = Tape::new();
        let raw = tape.watch(&random_tensor(5, [2, 5, 6]));
        let seeds = [random_tensor(6, [2, 5, 6]), random_tensor(7, [4, 5, 6])];
        let gradient = |outputs: &[usize]| {
            let settings = DepthSettings { doubling: Doubling::Mirrored, ..SETTINGS };
            let depths = canonical_depth(&raw, settings).unwrap();
            let from: Vec<_> = outputs.iter().map(|&i| (&depths[i], seeds[i].clone())).collect();
            tape.backward_from(&from).unwrap().take(&raw).unwrap()
        };
        let [first, second, both] = [&[0][..], &[1], &[0, 1]].map(gradient);
        let sums = first.data().iter().zip(second.data()).map(|(a, b)| a + b);
        assert!(both.data().iter().zip(sums).all(|(both, sum)| (both - sum).abs() < 1e-6));
    }
}
