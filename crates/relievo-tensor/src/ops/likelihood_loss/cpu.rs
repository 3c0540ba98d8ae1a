//! One task is a row of pixels. Errors are summed over channels first, so that the factors that depend on the confidence are
//! computed once per pixel.

use rayon::prelude::*;

use crate::ops::activation::ln;
use crate::ops::reduce::{self, sum_in_order};
use crate::ops::vectorised::vectorised;

/// Added to scales and to their squares.
const EPS: f32 = 1e-7;

/// The distribution of errors.
#[derive(Clone, Copy)]
pub enum Likelihood {
    /// Absolute errors, times sqrt(2) / (s + eps).
    Laplace,
    /// Squared errors, times 1 / (2 s^2 + eps).
    Gauss,
}

impl Likelihood {
    /// The errors of a pixel, summed over its channels.
    #[inline(always)]
    fn error(self, prediction: &[f32], target: &[f32]) -> f64 {
        match self {
            Likelihood::Laplace => prediction.iter().zip(target).map(|(a, b)| f64::from((a - b).abs())).sum(),
            Likelihood::Gauss if prediction.len() < reduce::LANES => {
                prediction.iter().zip(target).map(|(a, b)| f64::from(a - b).powi(2)).sum()
            }
            Likelihood::Gauss => reduce::squared_distance(prediction, target),
        }
    }

    /// The factor of an error at scale s.
    fn precision(self, s: f32) -> f32 {
        match self {
            Likelihood::Laplace => std::f32::consts::SQRT_2 / (s + EPS),
            Likelihood::Gauss => 1.0 / (2.0 * s * s + EPS),
        }
    }

    /// The derivative of [`Likelihood::precision`] by s.
    fn precision_slope(self, s: f32) -> f32 {
        let precision = self.precision(s);
        match self {
            Likelihood::Laplace => -precision / (s + EPS),
            Likelihood::Gauss => -4.0 * s * precision * precision,
        }
    }

    /// `gradient = scale * ` the derivative of the error by the prediction, for every channel of a pixel.
    #[inline(always)]
    fn error_slopes(self, scale: f32, prediction: &[f32], target: &[f32], gradient: &mut [f32]) {
        for (gradient, (a, b)) in gradient.iter_mut().zip(prediction.iter().zip(target)) {
            let d = a - b;
            *gradient = match self {
                // Not `signum`, which is a branch. What is left is zero, or NaN and stays that.
                Likelihood::Laplace => {
                    scale
                        * if d > 0.0 {
                            1.0
                        } else if d < 0.0 {
                            -1.0
                        } else {
                            d
                        }
                }
                Likelihood::Gauss => scale * (2.0 * d),
            };
        }
    }
}

/// The extents of the target, and what is averaged together. A part is a group of one half of the prediction: part
/// `half * groups + group`.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Rows in all its images together.
    pub rows: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Channels of a pixel.
    pub channels: usize,
    /// Predictions of each target: halves of a doubled batch, or one.
    pub halves: usize,
    /// Groups of as many images, whose means are taken apart.
    pub groups: usize,
    /// Whether each half of the prediction has masks of its own.
    pub own_masks: bool,
}

impl Layout {
    /// The elements of row `row`, of `per_pixel` to a pixel.
    fn row(self, row: usize, per_pixel: usize) -> std::ops::Range<usize> {
        row * self.width * per_pixel..(row + 1) * self.width * per_pixel
    }

    /// The parts of the prediction.
    pub fn parts(self) -> usize {
        self.halves * self.groups
    }

    /// The rows of a group.
    fn group_rows(self) -> usize {
        self.rows / self.groups
    }

    /// The half of a row of the prediction, and its row in the target.
    fn half_and_row(self, row: usize) -> (usize, usize) {
        (row / self.rows, row % self.rows)
    }

    /// The part of a row of the prediction.
    fn part_of(self, row: usize) -> usize {
        row / self.group_rows()
    }

    /// The pixels of the mask in which the second half differs from the first.
    fn mask_of(self, half: usize) -> usize {
        if self.own_masks { half * self.rows * self.width } else { 0 }
    }
}

/// For each part, the sum over pixels of mask times error, from prediction, target and mask.
pub fn sums(
    likelihood: Likelihood,
    layout: Layout,
    [prediction, target, mask]: [&[f32]; 3],
    confidence: Option<&[f32]>,
) -> Vec<f64> {
    let (channels, group_rows) = (layout.channels, layout.group_rows());
    let parts = (0..layout.parts()).map(|part| {
        sum_in_order(group_rows, |row| {
            let (half, row) = layout.half_and_row(part * group_rows + row);
            let mask = &mask[layout.mask_of(half)..];
            let prediction = &prediction[layout.row(half * layout.rows + row, channels)];
            let target = &target[layout.row(row, channels)];
            let Some(confidence) = confidence else {
                return masked_errors(likelihood, channels, [prediction, target, &mask[layout.row(row, 1)]]);
            };
            let pairs = prediction.chunks_exact(channels).zip(target.chunks_exact(channels));
            let pixels = layout.row(row, 1).zip(pairs).map(|(pixel, (a, b))| {
                let s = confidence[layout.halves * pixel + half];
                let precision = f64::from(likelihood.precision(s));
                let loss = likelihood.error(a, b) * precision + channels as f64 * f64::from(ln(s + EPS));
                f64::from(mask[pixel]) * loss
            });
            pixels.sum()
        })
    });
    parts.collect()
}

/// Evaluates `$function(likelihood, channels, ...)` with both constant for images, pairs of differences and maps, so that
/// loops over the channels of a pixel are unrolled.
macro_rules! with_constants {
    ($function:ident($likelihood:expr, $channels:expr $(, $argument:expr)*)) => {
        match ($likelihood, $channels) {
            (Likelihood::Laplace, 3) => $function(Likelihood::Laplace, 3 $(, $argument)*),
            (Likelihood::Laplace, 6) => $function(Likelihood::Laplace, 6 $(, $argument)*),
            (Likelihood::Gauss, 1) => $function(Likelihood::Gauss, 1 $(, $argument)*),
            (likelihood, channels) => $function(likelihood, channels $(, $argument)*),
        }
    };
}

#[inline(always)]
fn masked_errors_of(likelihood: Likelihood, channels: usize, [prediction, target, mask]: [&[f32]; 3]) -> f64 {
    let pairs = prediction.chunks_exact(channels).zip(target.chunks_exact(channels));
    pairs.zip(mask).map(|((a, b), mask)| f64::from(*mask) * likelihood.error(a, b)).sum()
}

#[inline(always)]
fn masked_slopes_of(
    likelihood: Likelihood,
    channels: usize,
    scale: f32,
    [prediction, target, mask]: [&[f32]; 3],
    gradient: &mut [f32],
) {
    let pairs = prediction.chunks_exact(channels).zip(target.chunks_exact(channels));
    for ((gradient, (a, b)), mask) in gradient.chunks_exact_mut(channels).zip(pairs).zip(mask) {
        likelihood.error_slopes(scale * mask, a, b, gradient);
    }
}

vectorised! {
    /// The sum over a row's pixels of mask times error, from prediction, target and mask.
    fn masked_errors(likelihood: Likelihood, channels: usize, row: [&[f32]; 3]) -> f64 {
        with_constants!(masked_errors_of(likelihood, channels, row))
    }

    /// Its gradient in the prediction, times `scale`.
    fn masked_slopes(likelihood: Likelihood, channels: usize, scale: f32, row: [&[f32]; 3], gradient: &mut [f32]) {
        with_constants!(masked_slopes_of(likelihood, channels, scale, row, gradient))
    }
}

/// For each part, the sum of its mask.
pub fn mask_sums(layout: Layout, mask: &[f32]) -> Vec<f64> {
    let group_rows = layout.group_rows();
    let sum = |part: usize| {
        let first = part * group_rows;
        sum_in_order(group_rows, |row| reduce::sum(&mask[layout.row(first + row, 1)]))
    };
    let mut sums: Vec<f64> =
        (0..if layout.own_masks { layout.parts() } else { layout.groups }).map(sum).collect();
    if !layout.own_masks && layout.halves == 2 {
        sums.extend_from_within(..);
    }
    sums
}

/// The gradient of the prediction, given the factor of each part.
pub fn prediction_gradient(
    likelihood: Likelihood,
    layout: Layout,
    scale: &[f32],
    [prediction, target, mask]: [&[f32]; 3],
    confidence: Option<&[f32]>,
    gradient: &mut [f32],
) {
    let channels = layout.channels;
    let rows = gradient.par_chunks_mut(layout.width * channels).enumerate();
    rows.for_each(|(both_rows, gradient)| {
        let (half, row) = layout.half_and_row(both_rows);
        let (scale, mask) = (scale[layout.part_of(both_rows)], &mask[layout.mask_of(half)..]);
        let prediction = &prediction[layout.row(both_rows, channels)];
        let target = &target[layout.row(row, channels)];
        let Some(confidence) = confidence else {
            let mask = &mask[layout.row(row, 1)];
            return masked_slopes(likelihood, channels, scale, [prediction, target, mask], gradient);
        };
        let (prediction, target) = (prediction.chunks_exact(channels), target.chunks_exact(channels));
        let pixels = layout.row(row, 1).zip(gradient.chunks_exact_mut(channels));
        for ((pixel, gradient), (prediction, target)) in pixels.zip(prediction.zip(target)) {
            let precision = likelihood.precision(confidence[layout.halves * pixel + half]);
            likelihood.error_slopes(scale * mask[pixel] * precision, prediction, target, gradient);
        }
    });
}

/// The gradient of the confidence, given the factor of each part.
pub fn confidence_gradient(
    likelihood: Likelihood,
    layout: Layout,
    scale: &[f32],
    [prediction, target, mask]: [&[f32]; 3],
    confidence: &[f32],
    gradient: &mut [f32],
) {
    let (channels, halves) = (layout.channels, layout.halves);
    gradient.par_chunks_mut(halves * layout.width).enumerate().for_each(|(row, gradient)| {
        for (pixel, gradient) in layout.row(row, 1).zip(gradient.chunks_exact_mut(halves)) {
            let target = &target[pixel * channels..][..channels];
            for half in 0..halves {
                let s = confidence[halves * pixel + half];
                let start = (half * layout.rows * layout.width + pixel) * channels;
                let error = likelihood.error(&prediction[start..start + channels], target) as f32;
                let slope = error * likelihood.precision_slope(s) + channels as f32 / (s + EPS);
                let scale = scale[layout.part_of(half * layout.rows + row)];
                gradient[half] = scale * mask[layout.mask_of(half) + pixel] * slope;
            }
        }
    });
}
