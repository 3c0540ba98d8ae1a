//! The baselines of the paper: depths that know nothing about an image.

use std::sync::Arc;

use relievo_data::Source;
use relievo_render::Camera;
use serde::{Deserialize, Serialize};

use super::scores::{Errors, ImageErrors, Scores, Surface, foreground};
use super::{EvaluationError, loader};

/// The errors of the baselines of the paper, over the whole foreground of the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Baselines {
    /// See [`crate::Comparison::constant_depth`].
    pub constant_depth: Scores,
    /// See [`crate::Comparison::mean_depth`].
    pub mean_depth: Scores,
}

/// Measures the baselines on all images of a source, without a model. `mean_depth` is that of [`mean_depth`].
///
/// # Errors
/// If no image can be loaded, one has no truth, or the mean depth has another size than the camera's images.
pub fn baselines(
    source: &Arc<dyn Source>,
    camera: Camera,
    mean_depth: &[f32],
    workers: usize,
) -> Result<Baselines, EvaluationError> {
    let (constant, mean) = (Surface::constant(camera)?, Surface::new(mean_depth, camera)?);
    let (mut of_constant, mut of_mean) = (Errors::default(), Errors::default());
    let pixels = camera.size * camera.size;
    for batch in loader(source, camera.size, 16, workers)? {
        for truth in batch?.truths {
            let truth = truth.ok_or_else(|| EvaluationError::NoTruth(source.describe()))?;
            let (surface, foreground) =
                (Surface::new(&truth.depth, camera)?, foreground(&truth, camera.size));
            let truth = surface.image(0, pixels);
            for (errors, surface) in [(&mut of_constant, &constant), (&mut of_mean, &mean)] {
                errors.collect(Some(ImageErrors::new(surface.image(0, pixels), truth, &foreground)));
            }
        }
    }
    Ok(Baselines { constant_depth: of_constant.scores(), mean_depth: of_mean.scores() })
}

/// The mean true depth over the images of a source, `[size,size]` in the view of the images: at each pixel the
/// mean over the images that have foreground there, and the mean of all foreground where none has.
///
/// # Errors
/// If no image can be loaded or one has no truth.
pub fn mean_depth(
    source: &Arc<dyn Source>,
    size: usize,
    workers: usize,
) -> Result<Vec<f32>, EvaluationError> {
    let mut sums = vec![(0.0_f64, 0_u32); size * size];
    for batch in loader(source, size, 16, workers)? {
        for truth in batch?.truths {
            let truth = truth.ok_or_else(|| EvaluationError::NoTruth(source.describe()))?;
            for ((sum, depth), mask) in sums.iter_mut().zip(&truth.depth).zip(&truth.mask) {
                if *mask != 0 {
                    *sum = (sum.0 + f64::from(*depth), sum.1 + 1);
                }
            }
        }
    }
    let all = sums.iter().fold((0.0, 0), |all, sum| (all.0 + sum.0, all.1 + u64::from(sum.1)));
    if all.1 == 0 {
        return Err(EvaluationError::NoTruth(source.describe()));
    }
    let everywhere = all.0 / all.1 as f64;
    let mean = |(sum, count): &(f64, u32)| if *count > 0 { sum / f64::from(*count) } else { everywhere };
    Ok(sums.iter().map(|sum| mean(sum) as f32).collect())
}
