//! Errors of a depth map: pure functions on single images.
//!
//! Maps are `[S,S]` row-major, masks hold `true` where a pixel counts. Sums run in f64 in the order of the pixels.
//! Source: Wu et al. 2020, section 4.1 (the measures) and its published code (the erosion).

use serde::{Deserialize, Serialize};

/// Scale-invariant depth error: `sqrt(mean((D - mean D)^2))` with `D = ln prediction - ln truth` over the mask.
///
/// `None` if the mask is empty. Depths must be above 0 where the mask holds.
pub(crate) fn scale_invariant_error(prediction: &[f32], truth: &[f32], mask: &[bool]) -> Option<f64> {
    let logarithms = masked(prediction, truth, mask).map(|(p, t)| p.ln() - t.ln());
    let (mean, variance) = mean_and_variance(logarithms)?;
    debug_assert!(mean.is_finite());
    Some(variance.sqrt())
}

/// Mean angle between the normals of two surfaces over the mask, in degrees. Normals `[S,S,3]` of length one.
///
/// `None` if the mask is empty.
pub fn mean_angle_deviation(prediction: &[f32], truth: &[f32], mask: &[bool]) -> Option<f64> {
    let pairs = prediction.as_chunks::<3>().0.iter().zip(truth.as_chunks::<3>().0);
    let angles = pairs.zip(mask).filter(|(_, holds)| **holds).map(|((p, t), _)| angle(*p, *t).to_degrees());
    mean_and_variance(angles).map(|(mean, _)| mean)
}

/// Angle between two vectors in radians. The arc tangent is exact for small angles, where the arc cosine of a
/// rounded product is not.
fn angle(a: [f32; 3], b: [f32; 3]) -> f64 {
    let [a, b] = [a.map(f64::from), b.map(f64::from)];
    let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let length = cross.iter().map(|x| x * x).sum::<f64>().sqrt();
    length.atan2(a.iter().zip(b).map(|(a, b)| a * b).sum())
}

/// Correlation of two depth maps over the mask, in [-1, 1]: below 0 the prediction is inside out.
///
/// `None` if the mask is empty or one of the maps is constant there.
pub(crate) fn depth_correlation(prediction: &[f32], truth: &[f32], mask: &[bool]) -> Option<f64> {
    let (mean_p, variance_p) = mean_and_variance(masked(prediction, truth, mask).map(|(p, _)| p))?;
    let (mean_t, variance_t) = mean_and_variance(masked(prediction, truth, mask).map(|(_, t)| t))?;
    let products = masked(prediction, truth, mask).map(|(p, t)| (p - mean_p) * (t - mean_t));
    let (covariance, _) = mean_and_variance(products)?;
    let scale = (variance_p * variance_t).sqrt();
    (scale > 0.0).then(|| (covariance / scale).clamp(-1.0, 1.0))
}

/// Keeps the pixels whose whole 3x3 neighbourhood is in the mask; outside the image nothing is.
pub(crate) fn erode(mask: &[bool], size: usize) -> Vec<bool> {
    let holds = |row: usize, column: usize| {
        (row - 1..=row + 1)
            .all(|row| mask[row * size + column - 1..=row * size + column + 1].iter().all(|m| *m))
    };
    let inner = |i: usize| i > 0 && i + 1 < size;
    (0..size * size)
        .map(|at| (at / size, at % size))
        .map(|(row, column)| inner(row) && inner(column) && holds(row, column))
        .collect()
}

/// The pixels at which both masks hold.
pub(crate) fn both(a: &[bool], b: &[bool]) -> Vec<bool> {
    a.iter().zip(b).map(|(a, b)| *a && *b).collect()
}

fn masked<'a>(
    prediction: &'a [f32],
    truth: &'a [f32],
    mask: &'a [bool],
) -> impl Iterator<Item = (f64, f64)> + 'a {
    let pairs = prediction.iter().zip(truth).zip(mask);
    pairs.filter(|(_, holds)| **holds).map(|((p, t), _)| (f64::from(*p), f64::from(*t)))
}

/// Mean and variance (divided by the number), in one pass (Welford 1962). `None` without numbers.
fn mean_and_variance(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for number in numbers {
        count += 1.0;
        let difference = number - mean;
        mean += difference / count;
        squares += difference * (number - mean);
    }
    (count > 0.0).then(|| (mean, squares / count))
}

/// A mean over images and how far single images are from it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Statistic {
    /// The mean.
    pub mean: f64,
    /// The standard deviation over the images.
    pub standard_deviation: f64,
    /// The number of images.
    #[serde(alias = "pictures")]
    pub images: u64,
}

impl Statistic {
    /// The statistic of one number per image; `None` if there is none.
    pub fn from_numbers(numbers: &[f64]) -> Option<Self> {
        let (mean, variance) = mean_and_variance(numbers.iter().copied())?;
        Some(Self { mean, standard_deviation: variance.sqrt(), images: numbers.len() as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 16;

    fn map(depth: impl Fn(f32, f32) -> f32) -> Vec<f32> {
        (0..SIZE * SIZE).map(|at| depth((at % SIZE) as f32, (at / SIZE) as f32)).collect()
    }

    fn everywhere() -> Vec<bool> {
        vec![true; SIZE * SIZE]
    }

    #[test]
    fn a_factor_costs_nothing() {
        let truth = map(|u, v| 1.0 + 0.01 * u + 0.002 * v * v);
        let farther: Vec<f32> = truth.iter().map(|d| d * 1.7).collect();
        assert!(scale_invariant_error(&farther, &truth, &everywhere()).unwrap() < 1e-6);
    }

    #[test]
    fn the_error_of_a_step_is_half_its_logarithm() {
        // Half of the pixels are e^0.2 too far: D is 0 or 0.2, mean 0.1, deviation 0.1.
        let truth = map(|_, _| 1.0);
        let prediction = map(|u, _| if u < 8.0 { 1.0 } else { 0.2_f32.exp() });
        let error = scale_invariant_error(&prediction, &truth, &everywhere()).unwrap();
        assert!((error - 0.1).abs() < 1e-7, "{error}");
        // Over one half alone there is no error.
        let half: Vec<bool> = (0..SIZE * SIZE).map(|at| at % SIZE < 8).collect();
        assert_eq!(scale_invariant_error(&prediction, &truth, &half), Some(0.0));
    }

    #[test]
    fn angles_are_those_of_the_planes() {
        let normal = |degrees: f32| [degrees.to_radians().sin(), 0.0, degrees.to_radians().cos()];
        let flat = normal(0.0).repeat(SIZE * SIZE);
        for degrees in [0.0, 0.01, 30.0, 90.0, 179.0_f32] {
            let tilted = normal(degrees).repeat(SIZE * SIZE);
            let mean = mean_angle_deviation(&tilted, &flat, &everywhere()).unwrap();
            assert!((mean - f64::from(degrees)).abs() < 1e-4, "{degrees}: {mean}");
        }
        let mut half = flat.clone();
        half[..flat.len() / 4].copy_from_slice(&normal(40.0).repeat(SIZE * SIZE / 4));
        let mean = mean_angle_deviation(&half, &flat, &everywhere()).unwrap();
        assert!((mean - 10.0).abs() < 1e-4, "{mean}");
    }

    #[test]
    fn correlation_tells_inside_out() {
        let truth = map(|u, v| 1.0 + 0.01 * u - 0.003 * v);
        let same: Vec<f32> = truth.iter().map(|d| 0.5 + 0.2 * d).collect();
        let inverted: Vec<f32> = truth.iter().map(|d| 2.0 - d).collect();
        assert!((depth_correlation(&same, &truth, &everywhere()).unwrap() - 1.0).abs() < 1e-5);
        assert!((depth_correlation(&inverted, &truth, &everywhere()).unwrap() + 1.0).abs() < 1e-5);
        assert_eq!(depth_correlation(&map(|_, _| 1.0), &truth, &everywhere()), None);
    }

    #[test]
    fn erosion_takes_one_pixel_on_every_side() {
        let mut mask = vec![false; SIZE * SIZE];
        for row in 0..6 {
            for column in 3..9 {
                mask[row * SIZE + column] = true;
            }
        }
        let eroded = erode(&mask, SIZE);
        for (at, kept) in eroded.iter().enumerate() {
            let (row, column) = (at / SIZE, at % SIZE);
            // The first row goes too: outside the image is outside the mask.
            assert_eq!(*kept, (1..5).contains(&row) && (4..8).contains(&column), "{row} {column}");
        }
    }

    #[test]
    fn an_empty_mask_has_no_error() {
        let truth = map(|_, _| 1.0);
        let nowhere = vec![false; SIZE * SIZE];
        assert_eq!(scale_invariant_error(&truth, &truth, &nowhere), None);
        assert_eq!(mean_angle_deviation(&truth.repeat(3), &truth.repeat(3), &nowhere), None);
        assert_eq!(depth_correlation(&truth, &truth, &nowhere), None);
    }

    #[test]
    fn statistics_are_those_of_the_book() {
        let statistic = Statistic::from_numbers(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert_eq!(statistic, Statistic { mean: 5.0, standard_deviation: 2.0, images: 8 });
        assert_eq!(Statistic::from_numbers(&[]), None);
    }
}
