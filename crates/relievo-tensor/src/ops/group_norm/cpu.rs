//! Two passes over each image: one for sums, one for values. Threads share the images, and the chunks of pixels within an
//! image; a thread that has an image to itself finds it in its cache in the second pass. A chunk is a fixed number of
//! pixels, and the sums of the chunks are added in order, in f64, so that the result does not depend on the threads.

use rayon::prelude::*;

use crate::ops::Activation;
use crate::ops::activation::{Curve, with_curve};
use crate::ops::vectorised::vectorised;

/// How an image's elements are divided.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Pixels per image.
    pub positions: usize,
    /// Channels per pixel.
    pub channels: usize,
    /// Groups of channels.
    pub groups: usize,
}

impl Layout {
    /// Elements of an image.
    fn image(self) -> usize {
        self.positions * self.channels
    }

    /// Elements of a chunk of whole pixels: about 64 KiB.
    fn chunk(self) -> usize {
        (16_384 / self.channels).max(4) * self.channels
    }

    fn chunks(self) -> usize {
        self.image().div_ceil(self.chunk())
    }

    fn group_of(self, channel: usize) -> usize {
        channel / (self.channels / self.groups)
    }

    /// Elements of a group in an image.
    fn group_elements(self) -> f64 {
        (self.positions * (self.channels / self.groups)) as f64
    }
}

/// y and the statistics `[B,groups,2]` (mean, 1 / sqrt(variance + eps)) from x, weight and bias.
pub fn forward(
    layout: Layout,
    activation: Activation,
    eps: f32,
    [x, weight, bias]: [&[f32]; 3],
    y: &mut [f32],
    statistics: &mut [f32],
) {
    let images = x.par_chunks(layout.image()).zip(y.par_chunks_mut(layout.image()));
    images.zip(statistics.par_chunks_mut(2 * layout.groups)).for_each(|((x, y), statistics)| {
        let [sums, squares] = sum_chunks(layout, |chunk, sums, squares| {
            let range = chunk * layout.chunk()..((chunk + 1) * layout.chunk()).min(x.len());
            moments(&x[range], sums, squares);
        });
        for (group, statistics) in statistics.chunks_exact_mut(2).enumerate() {
            let channels = layout.channels / layout.groups;
            let range = group * channels..(group + 1) * channels;
            let mean = sums[range.clone()].iter().sum::<f64>() / layout.group_elements();
            let square = squares[range].iter().sum::<f64>() / layout.group_elements();
            let variance = (square - mean * mean).max(0.0);
            statistics[0] = mean as f32;
            statistics[1] = (1.0 / (variance + f64::from(eps)).sqrt()) as f32;
        }
        let line = Line::new(layout, statistics, weight);
        y.par_chunks_mut(layout.chunk()).zip(x.par_chunks(layout.chunk())).for_each(|(y, x)| {
            with_curve!(activation, C => normalise::<C>(x, &line.mean, &line.scale, bias, y));
        });
    });
}

/// dx (if asked for), dweight and dbias from x, weight, bias, the statistics of forward and dy.
pub fn backward(
    layout: Layout,
    activation: Activation,
    [x, weight, bias, statistics, dy]: [&[f32]; 5],
    dx: Option<&mut [f32]>,
    [dweight, dbias]: [&mut [f32]; 2],
) {
    let images = x.par_chunks(layout.image()).zip(dy.par_chunks(layout.image()));
    let images = images.zip(statistics.par_chunks(2 * layout.groups));
    // Per image: the sums of g and of g n for every channel.
    let image = |((x, dy), statistics): ((&[f32], &[f32]), &[f32]), dx: Option<&mut [f32]>| {
        let line = Line::new(layout, statistics, weight);
        let [g_sums, mut gn_sums] = sum_chunks(layout, |chunk, g_sums, gd_sums| {
            let range = chunk * layout.chunk()..((chunk + 1) * layout.chunk()).min(x.len());
            let (x, dy) = (&x[range.clone()], &dy[range]);
            with_curve!(activation, C => gradient_sums::<C>(x, dy, &line, bias, g_sums, gd_sums));
        });
        for (channel, sum) in gn_sums.iter_mut().enumerate() {
            *sum *= f64::from(statistics[2 * layout.group_of(channel) + 1]);
        }
        if let Some(dx) = dx {
            let mut slope = vec![0.0; layout.channels];
            let mut offset = vec![0.0; layout.channels];
            let channels = layout.channels / layout.groups;
            for group in 0..layout.groups {
                let range = group * channels..(group + 1) * channels;
                let weighted_mean = |sums: &[f64]| {
                    let terms = sums[range.clone()].iter().zip(&weight[range.clone()]);
                    terms.map(|(sum, weight)| sum * f64::from(*weight)).sum::<f64>() / layout.group_elements()
                };
                let deviation = f64::from(statistics[2 * group + 1]);
                slope[range.clone()].fill((-weighted_mean(&gn_sums) * deviation * deviation) as f32);
                offset[range.clone()].fill((-weighted_mean(&g_sums) * deviation) as f32);
            }
            let chunks = x.par_chunks(layout.chunk()).zip(dy.par_chunks(layout.chunk()));
            chunks.zip(dx.par_chunks_mut(layout.chunk())).for_each(|((x, dy), dx)| {
                with_curve!(activation, C => input_gradient::<C>(x, dy, &line, bias, [&slope, &offset], dx));
            });
        }
        [g_sums, gn_sums]
    };
    let sums: Vec<[Vec<f64>; 2]> = match dx {
        Some(dx) => {
            let dx = dx.par_chunks_mut(layout.image());
            images.zip(dx).map(|(inputs, dx)| image(inputs, Some(dx))).collect()
        }
        None => images.map(|inputs| image(inputs, None)).collect(),
    };
    for (which, gradient) in [dbias, dweight].into_iter().enumerate() {
        for (channel, gradient) in gradient.iter_mut().enumerate() {
            *gradient = sums.iter().map(|sums| sums[which][channel]).sum::<f64>() as f32;
        }
    }
}

/// Two sums per channel over an image: each chunk's, then the chunks' in order.
fn sum_chunks(layout: Layout, sum: impl Fn(usize, &mut [f64], &mut [f64]) + Sync) -> [Vec<f64>; 2] {
    let channels = layout.channels;
    let mut partial = vec![0.0f64; layout.chunks() * 2 * channels];
    partial.par_chunks_mut(2 * channels).enumerate().for_each(|(chunk, sums)| {
        let (first, second) = sums.split_at_mut(channels);
        sum(chunk, first, second);
    });
    let mut totals = [vec![0.0; channels], vec![0.0; channels]];
    for (row, values) in partial.chunks_exact(channels).enumerate() {
        for (total, value) in totals[row % 2].iter_mut().zip(values) {
            *total += value;
        }
    }
    totals
}

/// The normalisation of an image, per channel: `(x - mean) * scale + bias`.
struct Line {
    mean: Vec<f32>,
    scale: Vec<f32>,
}

impl Line {
    fn new(layout: Layout, statistics: &[f32], weight: &[f32]) -> Self {
        let of_group = |which: usize| move |channel: usize| statistics[2 * layout.group_of(channel) + which];
        let mean = (0..layout.channels).map(of_group(0)).collect();
        let scale = (0..layout.channels).map(of_group(1)).zip(weight).map(|(s, weight)| s * weight).collect();
        Self { mean, scale }
    }
}

vectorised! {
    /// Adds the sums of x and of its squares over the pixels, for every channel. In f64, where squares of f32 are
    /// exact and their difference to the squared mean loses nothing.
    fn moments(x: &[f32], sums: &mut [f64], squares: &mut [f64]) {
        let channels = sums.len();
        let squares = &mut squares[..channels];
        let mut quads = x.chunks_exact(4 * channels);
        for quad in &mut quads {
            let (a, rest) = quad.split_at(channels);
            let (b, rest) = rest.split_at(channels);
            let (c, d) = rest.split_at(channels);
            let d = &d[..channels];
            for i in 0..channels {
                let (a, b, c, d) = (f64::from(a[i]), f64::from(b[i]), f64::from(c[i]), f64::from(d[i]));
                sums[i] += (a + b) + (c + d);
                squares[i] += (a * a + b * b) + (c * c + d * d);
            }
        }
        for pixel in quads.remainder().chunks_exact(channels) {
            for i in 0..channels {
                let x = f64::from(pixel[i]);
                sums[i] += x;
                squares[i] += x * x;
            }
        }
    }

    fn normalise<C: Curve>(x: &[f32], mean: &[f32], scale: &[f32], bias: &[f32], y: &mut [f32]) {
        let channels = bias.len();
        let (mean, scale) = (&mean[..channels], &scale[..channels]);
        for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            for i in 0..channels {
                y[i] = C::value((x[i] - mean[i]) * scale[i] + bias[i]);
            }
        }
    }

    /// Adds the sums of g and of g * (x - mean) over the pixels, for every channel.
    fn gradient_sums<C: Curve>(
        x: &[f32], dy: &[f32], line: &Line, bias: &[f32], g_sums: &mut [f64], gd_sums: &mut [f64],
    ) {
        let channels = bias.len();
        let (mean, scale) = (&line.mean[..channels], &line.scale[..channels]);
        let (g_sums, gd_sums) = (&mut g_sums[..channels], &mut gd_sums[..channels]);
        for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)) {
            for i in 0..channels {
                let d = x[i] - mean[i];
                let g = dy[i] * C::slope(d * scale[i] + bias[i]);
                g_sums[i] += f64::from(g);
                gd_sums[i] += f64::from(g * d);
            }
        }
    }

    /// `dx = scale * g + slope * (x - mean) + offset`.
    fn input_gradient<C: Curve>(
        x: &[f32], dy: &[f32], line: &Line, bias: &[f32], correction: [&[f32]; 2], dx: &mut [f32],
    ) {
        let channels = bias.len();
        let (mean, scale) = (&line.mean[..channels], &line.scale[..channels]);
        let [slope, offset] = correction.map(|values| &values[..channels]);
        let pixels = x.chunks_exact(channels).zip(dy.chunks_exact(channels));
        for ((x, dy), dx) in pixels.zip(dx.chunks_exact_mut(channels)) {
            for i in 0..channels {
                let d = x[i] - mean[i];
                let g = dy[i] * C::slope(d * scale[i] + bias[i]);
                dx[i] = scale[i] * g + (slope[i] * d + offset[i]);
            }
        }
    }
}
