//! How far a learned renderer is from the exact one: images, masks, directions of gradients, time.

use std::fmt;
use std::hint::black_box;
use std::time::Instant;

use relievo_data::Source;
use relievo_export::{Canvas, Sheet};
use relievo_model::{LearnedRenderer, Rendered, RendererInputs, RendererSettings};
use relievo_render::{diffuse_shading, shade};
use relievo_tensor::ops::{absolute_error, weighted_sum};
use relievo_tensor::{Error, Random, Tape, Tensor};
use serde::Serialize;

use super::examples::{Examples, ExamplesError, Views};
use crate::evaluation::EvaluationError;

/// The yaw beyond the training range that is measured, in degrees.
const BEYOND: [f32; 2] = [60.0, 90.0];
/// Images that are rendered together.
const BATCH: usize = 16;
/// Fewer pixels of the object than this say nothing.
const FEWEST_PIXELS: usize = 100;
/// Side of the squares over which the gradient of depth is summed for its coarse direction, in pixels.
const SQUARE: usize = 8;
/// Repetitions of each measurement of time.
const REPETITIONS: usize = 9;
/// How much of the next object's depth is mixed into an object's for the gradients, and how far the view is off: largest
/// angle in degrees, largest translation.
const OFF: (f32, f32, f32) = (0.3, 10.0, 0.01);

/// Means over the images of one range of views.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RendererScores {
    /// Images that show enough of the object.
    pub images: usize,
    /// Peak signal-to-noise ratio within the exact mask, in decibels, of images clipped to [-1,1].
    pub psnr: f64,
    /// Structural similarity (Wang et al. 2004) of whole images that are grey outside the exact mask.
    pub ssim: f64,
    /// Mean absolute error within the exact mask; from black to white is 1.
    pub l1: f64,
    /// Pixels in both masks by pixels in either, the learned mask cut at one half.
    pub mask_iou: f64,
    /// Cosine between the gradients of both renderers with respect to depth.
    pub depth_cosine: f64,
    /// The same after the gradients were summed over squares of 8x8 pixels.
    pub coarse_depth_cosine: f64,
    /// Cosine between the gradients with respect to the viewpoint, in units of its ranges.
    pub view_cosine: f64,
    /// PSNR of the lit canonical image as it is, not turned: the least that a renderer must beat.
    pub unturned_psnr: f64,
}

/// Milliseconds an image, medians over alternating repetitions of batches of 16.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RendererTimes {
    /// The exact renderer, shading included.
    pub exact: f64,
    /// The learned one.
    pub learned: f64,
    /// The exact renderer with its gradients in depth, albedo, light and view.
    pub exact_with_gradients: f64,
    /// The learned one with the same gradients.
    pub learned_with_gradients: f64,
}

/// What [`evaluate_renderer`] found. Its `Display` is a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RendererEvaluation {
    /// The images, in words.
    pub source: String,
    /// Parameters of the network.
    pub parameters: usize,
    /// Multiplications of its convolutions for an image.
    pub multiplications: u64,
    /// Views within the ranges of training.
    pub within: RendererScores,
    /// Yaw from 60 to 90 degrees, all else as in training.
    pub beyond: RendererScores,
    /// How long both renderers take.
    pub times: RendererTimes,
}

/// Measures a renderer on objects seen from the front with their truth: each under a light and from a viewpoint drawn
/// from `seed`, once within and once beyond the range of training.
///
/// For the gradients, a renderer starts from a depth and a viewpoint that are somewhat off and compares its image, by the
/// mean absolute error within the exact mask, with the exact image of the right ones: the situation in training.
///
/// # Errors
/// If the objects cannot be made or an operation fails.
pub fn evaluate_renderer(
    renderer: &LearnedRenderer,
    source: &dyn Source,
    seed: u64,
) -> Result<RendererEvaluation, EvaluationError> {
    let examples = Examples::of(source, renderer.settings())?;
    let count = source.len() as usize;
    let measure = |[least, greatest]: [f32; 2], stream: u64| -> Result<RendererScores, Error> {
        let views = Views { yaw: least..=greatest };
        let mut sums = RendererScores::default();
        for first in (0..count).step_by(BATCH) {
            let chosen: Vec<(usize, bool)> = (first..count.min(first + BATCH)).map(|n| (n, false)).collect();
            let random = Random::new(seed, stream).fork(first as u64);
            let inputs = examples.inputs(&chosen, random, renderer.settings(), &views)?;
            add_batch(&mut sums, renderer, &inputs, random.fork(1))?;
        }
        Ok(mean(sums))
    };
    let within = measure([0.0, renderer.settings().yaw_range], 0)?;
    let beyond = measure(BEYOND, 1)?;
    let views = Views { yaw: 0.0..=renderer.settings().yaw_range };
    let inputs = examples.draw(Random::new(seed, 2), BATCH, renderer.settings(), &views)?;
    Ok(RendererEvaluation {
        source: source.describe(),
        parameters: renderer.parameters().iter().map(Tensor::numel).sum(),
        multiplications: renderer.multiplications(),
        within,
        beyond,
        times: times(renderer, &inputs)?,
    })
}

impl From<ExamplesError> for EvaluationError {
    fn from(error: ExamplesError) -> Self {
        Self::Renderer(error)
    }
}

/// Adds the scores of each image of a batch that shows enough of the object.
fn add_batch(
    sums: &mut RendererScores,
    renderer: &LearnedRenderer,
    inputs: &RendererInputs,
    random: Random,
) -> Result<(), Error> {
    let settings = renderer.settings();
    let (exact, learned) = (settings.render_exactly(inputs)?, renderer.render(inputs)?);
    let unturned = lit(settings, inputs)?;
    let off = disturbed(inputs, random)?;
    let [of_exact, of_learned] = [true, false].map(|is_exact| gradients(renderer, &off, &exact, is_exact));
    let ([exact_depth, exact_view], [learned_depth, learned_view]) = (of_exact?, of_learned?);
    let pixels = settings.image_size * settings.image_size;
    for image in 0..exact.mask.shape()[0] {
        let part = |tensor: &Tensor, length: usize| tensor.data()[image * length..][..length].to_vec();
        let (mask, guess) = (part(&exact.mask, pixels), part(&learned.mask, pixels));
        if mask.iter().filter(|mask| **mask > 0.5).count() < FEWEST_PIXELS {
            continue;
        }
        let right = clipped(&part(&exact.image, 3 * pixels));
        let found = clipped(&part(&learned.image, 3 * pixels));
        let plain = clipped(&part(&unturned, 3 * pixels));
        sums.images += 1;
        sums.psnr += psnr(&found, &right, &mask);
        sums.unturned_psnr += psnr(&plain, &right, &mask);
        sums.l1 += masked_mean(&found, &right, &mask, |difference| difference.abs() / 2.0);
        let [found, right] = [found, right].map(|pixels| masked(&pixels, &mask));
        sums.ssim += ssim(&found, &right, settings.image_size);
        sums.mask_iou += overlap(&mask, &guess);
        let [a, b] = [&exact_depth, &learned_depth].map(|gradient| part(gradient, pixels));
        sums.depth_cosine += cosine(&a, &b);
        let [a, b] = [a, b].map(|gradient| in_squares(&gradient, settings.image_size));
        sums.coarse_depth_cosine += cosine(&a, &b);
        let [a, b] = [&exact_view, &learned_view].map(|gradient| in_ranges(&part(gradient, 6), settings));
        sums.view_cosine += cosine(&a, &b);
    }
    Ok(())
}

/// Sums divided by their number of images.
fn mean(sums: RendererScores) -> RendererScores {
    let count = sums.images.max(1) as f64;
    RendererScores {
        images: sums.images,
        psnr: sums.psnr / count,
        ssim: sums.ssim / count,
        l1: sums.l1 / count,
        mask_iou: sums.mask_iou / count,
        depth_cosine: sums.depth_cosine / count,
        coarse_depth_cosine: sums.coarse_depth_cosine / count,
        view_cosine: sums.view_cosine / count,
        unturned_psnr: sums.unturned_psnr / count,
    }
}

/// The lit canonical image.
fn lit(settings: &RendererSettings, inputs: &RendererInputs) -> Result<Tensor, Error> {
    let camera =
        relievo_render::Camera { size: settings.image_size, field_of_view_degrees: settings.field_of_view };
    let [_, diffuse] = diffuse_shading(&inputs.depth, &inputs.light, camera)?;
    shade(&inputs.albedo, &diffuse, &inputs.light)
}

/// The inputs with another depth (some of the next object's mixed in) and viewpoint.
fn disturbed(inputs: &RendererInputs, random: Random) -> Result<RendererInputs, Error> {
    let (share, degrees, translation) = OFF;
    let depth = inputs.depth.data();
    let length = depth.len() / inputs.depth.shape()[0];
    let mixed: Vec<f32> = (0..depth.len())
        .map(|at| (1.0 - share) * depth[at] + share * depth[(at + length) % depth.len()])
        .collect();
    let moved = inputs.view.data().iter().enumerate().map(|(at, number)| {
        let signed = 2.0 * random.uniform(at as u64) - 1.0;
        number
            + signed
                * [
                    degrees.to_radians(),
                    degrees.to_radians(),
                    degrees.to_radians(),
                    translation,
                    translation,
                    0.0,
                ][at % 6]
    });
    let view = moved.collect::<Vec<f32>>();
    Ok(RendererInputs {
        depth: Tensor::new(&mixed, inputs.depth.shape())?,
        view: Tensor::new(&view, inputs.view.shape())?,
        ..inputs.clone()
    })
}

/// The gradients of depth and viewpoint of the difference to the image `right`.
fn gradients(
    renderer: &LearnedRenderer,
    inputs: &RendererInputs,
    right: &Rendered,
    is_exact: bool,
) -> Result<[Tensor; 2], Error> {
    let exact_mask = renderer.settings().render_exactly(inputs)?.mask;
    let tape = Tape::new();
    let (depth, view) = (tape.watch(&inputs.depth), tape.watch(&inputs.view));
    let watched = RendererInputs { depth: depth.clone(), view: view.clone(), ..inputs.clone() };
    let rendered = render(renderer, &watched, is_exact)?;
    let mut found = tape.backward(&absolute_error(&rendered.image, &right.image, &exact_mask)?)?;
    Ok([&depth, &view].map(|input| found.take(input).unwrap_or_else(|| Tensor::zeros(input.shape()))))
}

fn render(renderer: &LearnedRenderer, inputs: &RendererInputs, is_exact: bool) -> Result<Rendered, Error> {
    if is_exact { renderer.settings().render_exactly(inputs) } else { renderer.render(inputs) }
}

/// Times both renderers, with and without gradients.
fn times(renderer: &LearnedRenderer, inputs: &RendererInputs) -> Result<RendererTimes, Error> {
    let plain = |is_exact: bool| render(renderer, inputs, is_exact).map(|rendered| drop(black_box(rendered)));
    let with_gradients = |is_exact: bool| -> Result<(), Error> {
        let tape = Tape::new();
        let RendererInputs { depth, albedo, light, view } = inputs;
        let [depth, albedo, light, view] = [depth, albedo, light, view].map(|input| tape.watch(input));
        let rendered = render(renderer, &RendererInputs { depth, albedo, light, view }, is_exact)?;
        let total = weighted_sum(&[(1.0, &rendered.image)])?;
        black_box(tape.backward_from(&[(&total, Tensor::full(total.shape(), 1.0))])?);
        Ok(())
    };
    let mut found = [const { Vec::new() }; 4];
    for _ in 0..REPETITIONS {
        for (kind, times) in found.iter_mut().enumerate() {
            let began = Instant::now();
            let is_exact = kind % 2 == 0;
            if kind < 2 {
                plain(is_exact)?
            } else {
                with_gradients(is_exact)?
            }
            times.push(1e3 * began.elapsed().as_secs_f64() / inputs.depth.shape()[0] as f64);
        }
    }
    let [exact, learned, exact_with_gradients, learned_with_gradients] = found.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    Ok(RendererTimes { exact, learned, exact_with_gradients, learned_with_gradients })
}

fn clipped(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| value.clamp(-1.0, 1.0)).collect()
}

/// An image that is grey outside the mask.
fn masked(image: &[f32], mask: &[f32]) -> Vec<f32> {
    image.iter().enumerate().map(|(at, value)| value * mask[at / 3]).collect()
}

/// The mean of `error(a - b)` over the channels of the pixels in the mask.
fn masked_mean(a: &[f32], b: &[f32], mask: &[f32], error: impl Fn(f64) -> f64) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        if mask[at / 3] > 0.5 {
            sum += error(f64::from(a - b));
            count += 1.0;
        }
    }
    sum / count
}

fn psnr(found: &[f32], right: &[f32], mask: &[f32]) -> f64 {
    let square = masked_mean(found, right, mask, |difference| difference * difference);
    10.0 * (4.0 / square.max(1e-10)).log10()
}

/// Pixels in both masks by pixels in either.
fn overlap(a: &[f32], b: &[f32]) -> f64 {
    let count = |holds: fn(bool, bool) -> bool| {
        a.iter().zip(b).filter(|(a, b)| holds(**a > 0.5, **b > 0.5)).count() as f64
    };
    count(|a, b| a && b) / count(|a, b| a || b).max(1.0)
}

/// The cosine between two vectors; 0 if one of them is zero.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (product(a, a) * product(b, b)).sqrt();
    if lengths > 0.0 { product(a, b) / lengths } else { 0.0 }
}

/// The sums over squares of a map `[size,size]`.
fn in_squares(map: &[f32], size: usize) -> Vec<f32> {
    let side = size / SQUARE;
    let mut sums = vec![0.0; side * side];
    for (at, value) in map.iter().enumerate() {
        sums[at / size / SQUARE * side + at % size / SQUARE] += value;
    }
    sums
}

/// The gradient of a viewpoint in units of its ranges.
fn in_ranges(gradient: &[f32], settings: &RendererSettings) -> Vec<f32> {
    let RendererSettings { pitch_range, yaw_range, roll_range, translation_range, .. } = *settings;
    let [pitch, yaw, roll] = [pitch_range, yaw_range, roll_range].map(f32::to_radians);
    let ranges = [pitch, yaw, roll, translation_range, translation_range, 0.0];
    gradient.iter().zip(ranges).map(|(gradient, range)| gradient * range).collect()
}

/// The mean structural similarity of two images `[size,size,3]` in [-1,1] over channels and all windows of 11x11 pixels
/// within them, weighted by a Gaussian of 1.5 pixels. Source: Wang et al., *Image Quality Assessment: From Error
/// Visibility to Structural Similarity* (2004), section III.
fn ssim(a: &[f32], b: &[f32], size: usize) -> f64 {
    const WINDOW: usize = 11;
    const STABILISERS: [f64; 2] = [0.02 * 0.02, 0.06 * 0.06];
    let bell = |at: usize| (-((at as f64 - 5.0) / 1.5).powi(2) / 2.0).exp();
    let all: f64 = (0..WINDOW).map(bell).sum();
    let weights: Vec<f64> = (0..WINDOW).map(|at| bell(at) / all).collect();
    // Smoothed along rows, then along columns; only windows that lie within the image.
    let smooth = |value: &dyn Fn(usize) -> f64, channel: usize| -> Vec<f64> {
        let inner = size + 1 - WINDOW;
        let along: Vec<f64> = (0..size * inner)
            .map(|at| (at / inner, at % inner))
            .map(|(row, column)| {
                (0..WINDOW).map(|i| weights[i] * value((row * size + column + i) * 3 + channel)).sum()
            })
            .collect();
        (0..inner * inner)
            .map(|at| (0..WINDOW).map(|i| weights[i] * along[(at / inner + i) * inner + at % inner]).sum())
            .collect()
    };
    let [a, b] = [a, b].map(|image| image.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>());
    let (mut sum, mut count) = (0.0, 0.0);
    for channel in 0..3 {
        let [mean_a, mean_b] = [&a, &b].map(|image| smooth(&|at| image[at], channel));
        let [square_a, square_b] = [&a, &b].map(|image| smooth(&|at| image[at] * image[at], channel));
        let product = smooth(&|at| a[at] * b[at], channel);
        for at in 0..mean_a.len() {
            let (x, y) = (mean_a[at], mean_b[at]);
            let [variance_x, variance_y] = [square_a[at] - x * x, square_b[at] - y * y];
            let [c1, c2] = STABILISERS;
            let above = (2.0 * x * y + c1) * (2.0 * (product[at] - x * y) + c2);
            sum += above / ((x * x + y * y + c1) * (variance_x + variance_y + c2));
            count += 1.0;
        }
    }
    sum / count
}

/// A sheet of the first objects of a source, each turned further than the one before, the last two beyond the range of
/// training: canonical albedo, exact image, learned image within its own mask, their difference.
///
/// # Errors
/// If the objects cannot be made or an operation fails.
pub fn renderer_sheet(
    renderer: &LearnedRenderer,
    source: &dyn Source,
    seed: u64,
) -> Result<Canvas, EvaluationError> {
    const YAWS: [f32; 6] = [0.0, 15.0, 30.0, 50.0, 70.0, 85.0];
    let settings = renderer.settings();
    let examples = Examples::of(source, settings)?;
    let mut sheet = Sheet::new(128).columns(["albedo", "exact", "learned", "difference"]);
    let size = settings.image_size;
    for (number, yaw) in YAWS.into_iter().enumerate() {
        // Pitch, roll and translation stay small, so that a row shows its yaw.
        let calm = RendererSettings {
            pitch_range: 8.0,
            roll_range: 4.0,
            translation_range: 0.01,
            ..settings.clone()
        };
        let random = Random::new(seed, 3).fork(number as u64);
        let inputs = examples.inputs(&[(number, false)], random, &calm, &Views { yaw: yaw..=yaw })?;
        let (exact, learned) = (settings.render_exactly(&inputs)?, renderer.render(&inputs)?);
        let right = clipped(exact.image.data());
        let found = masked(&clipped(learned.image.data()), learned.mask.data());
        let difference: Vec<f32> = found.iter().zip(&right).map(|(a, b)| (a - b).abs() / 2.0).collect();
        sheet.row(
            format!("yaw {yaw}"),
            [
                Canvas::from_signed(inputs.albedo.data(), size),
                Canvas::from_signed(&right, size),
                Canvas::from_signed(&found, size),
                Canvas::from_unit(&difference, size),
            ],
        );
    }
    Ok(sheet.draw())
}

impl fmt::Display for RendererEvaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let million = 1e-6 * self.parameters as f64;
        writeln!(f, "{}, each under a new light and from a new viewpoint", self.source)?;
        writeln!(
            f,
            "{million:.2} million parameters, {:.0} million multiplications an image\n",
            1e-6 * self.multiplications as f64
        )?;
        writeln!(f, "{:<42} {:>12} {:>12}", "", "as trained", "yaw 60-90")?;
        let (a, b) = (&self.within, &self.beyond);
        for (name, values, digits) in [
            ("images", [a.images as f64, b.images as f64], 0),
            ("PSNR, dB", [a.psnr, b.psnr], 1),
            ("  of the canonical image, not turned", [a.unturned_psnr, b.unturned_psnr], 1),
            ("SSIM", [a.ssim, b.ssim], 3),
            ("L1, of black to white", [a.l1, b.l1], 4),
            ("overlap of masks (IoU)", [a.mask_iou, b.mask_iou], 3),
            ("cosine of gradients: depth", [a.depth_cosine, b.depth_cosine], 2),
            ("  depth, in squares of 8x8", [a.coarse_depth_cosine, b.coarse_depth_cosine], 2),
            ("  viewpoint", [a.view_cosine, b.view_cosine], 2),
        ] {
            writeln!(f, "{name:<42} {:>12.digits$} {:>12.digits$}", values[0], values[1])?;
        }
        writeln!(f, "\n{:<42} {:>12} {:>12}", "milliseconds an image", "exact", "learned")?;
        let t = &self.times;
        writeln!(f, "{:<42} {:>12.2} {:>12.2}", "image and mask", t.exact, t.learned)?;
        let [exact, learned] = [t.exact_with_gradients, t.learned_with_gradients];
        write!(f, "{:<42} {exact:>12.2} {learned:>12.2}", "with gradients of all inputs")
    }
}

#[cfg(test)]
mod tests {
    use relievo_synth::Heads;

    use super::*;

    /// The definition: a sum over each window, without smoothing.
    fn plain_ssim(a: &[f32], b: &[f32], size: usize) -> f64 {
        let bell = |i: usize, j: usize| {
            let square = |at: usize| (at as f64 - 5.0).powi(2);
            (-(square(i) + square(j)) / (2.0 * 1.5 * 1.5)).exp()
        };
        let window = || (0..121).map(|at| (at / 11, at % 11));
        let all: f64 = window().map(|(i, j)| bell(i, j)).sum();
        let inner = size - 10;
        let windows = (0..inner * inner * 3).map(|at| {
            let (row, column, channel) = (at / 3 / inner, at / 3 % inner, at % 3);
            let mean = |value: &dyn Fn(usize) -> f64| {
                window()
                    .map(|(i, j)| bell(i, j) / all * value(((row + i) * size + column + j) * 3 + channel))
                    .sum::<f64>()
            };
            let [a, b] = [a, b].map(|image| move |at: usize| f64::from(image[at]));
            let [x, y] = [mean(&a), mean(&b)];
            let [xx, yy, xy] =
                [mean(&|at| a(at) * a(at)), mean(&|at| b(at) * b(at)), mean(&|at| a(at) * b(at))];
            (2.0 * x * y + 0.0004) * (2.0 * (xy - x * y) + 0.0036)
                / ((x * x + y * y + 0.0004) * (xx - x * x + yy - y * y + 0.0036))
        });
        windows.sum::<f64>() / (inner * inner * 3) as f64
    }

    #[test]
    fn equal_images_are_equal_and_others_are_not() {
        let image: Vec<f32> = (0..32 * 32 * 3).map(|at| ((at * 7919) % 201) as f32 / 100.0 - 1.0).collect();
        let shifted: Vec<f32> = image.iter().map(|value| value * 0.5).collect();
        let mask = [1.0; 32 * 32];
        assert!((ssim(&image, &image, 32) - 1.0).abs() < 1e-9);
        let noise: Vec<f32> = image.iter().rev().copied().collect();
        for other in [&shifted, &noise] {
            let (found, right) = (ssim(other, &image, 32), plain_ssim(other, &image, 32));
            assert!((found - right).abs() < 1e-9 && found < 0.8, "{found} {right}");
        }
        assert_eq!(psnr(&[0.2; 3072], &[0.0; 3072], &mask).round(), 20.0);
        assert!((masked_mean(&[1.0; 6], &[0.0; 6], &[0.0, 1.0], f64::abs) - 1.0).abs() < 1e-9);
        assert_eq!(overlap(&[1.0, 1.0, 0.0, 0.0], &[0.9, 0.1, 0.6, 0.0]), 1.0 / 3.0);
        assert_eq!(cosine(&[1.0, 0.0], &[-2.0, 0.0]), -1.0);
        assert_eq!(in_squares(&[1.0; 256], 16), [64.0; 4]);
    }

    #[test]
    fn a_renderer_that_learned_nothing_is_measured_as_such() {
        let settings = RendererSettings { width: 4, ..RendererSettings::default() };
        let renderer = LearnedRenderer::new(settings, 1).unwrap();
        let heads = Heads::range(8, 0, 6).frontal();
        let found = evaluate_renderer(&renderer, &heads, 4).unwrap();
        assert!(found.within.images > 3 && found.within.images <= 6, "{found}");
        assert!(found.within.psnr < 20.0 && found.within.depth_cosine.abs() < 0.5, "{found}");
        assert!(found.within.unturned_psnr > 5.0 && found.within.ssim < 0.9, "{found}");
        assert!([found.times.exact, found.times.learned].iter().all(|time| *time > 0.0));
        let again = evaluate_renderer(&renderer, &heads, 4).unwrap();
        assert_eq!((again.within, again.beyond), (found.within, found.beyond));
        let sheet = renderer_sheet(&renderer, &heads, 4).unwrap();
        assert!(sheet.width() > 4 * 128 && sheet.height() > 6 * 128);
    }
}
