//! Squares and rectangles of images at another size.

use rayon::prelude::*;

use crate::sample::Image;

impl Image {
    /// The largest square around the centre, resampled to `size` x `size` with a triangle filter: as wide as the
    /// pixels of the result when it shrinks (so nothing aliases), bilinear when it grows.
    ///
    /// # Panics
    /// If the image has no pixels.
    pub fn square(&self, size: u32) -> Self {
        let side = self.width.min(self.height) as usize;
        assert!(side > 0, "an image without pixels cannot be resampled");
        let left = (self.width as usize - side) / 2;
        let top = (self.height as usize - side) / 2;
        let stride = self.width as usize * 3;
        let row = |v: usize| &self.pixels[(top + v) * stride + left * 3..][..side * 3];
        if side == size as usize {
            let pixels = (0..side).map(row).collect::<Vec<_>>().concat();
            return Self { width: size, height: size, pixels };
        }
        let taps: Vec<Taps> = (0..size as usize).map(|place| Taps::new(place, side, size as usize)).collect();
        let mut pixels = vec![0; size as usize * size as usize * 3];
        let mut mixed = vec![0.0; side * 3];
        for (target, down) in pixels.chunks_exact_mut(size as usize * 3).zip(&taps) {
            resample_row(row, down, &taps, 0, &mut mixed, target);
        }
        Self { width: size, height: size, pixels }
    }

    /// A rectangle of the image resampled to `width` x `height`, with the filter of [`Image::square`]. Outside the
    /// image the pixels of its edge are repeated. On all threads.
    ///
    /// # Panics
    /// If the image has no pixels.
    pub fn resampled(&self, rectangle: Rectangle, width: u32, height: u32) -> Self {
        assert!(!self.pixels.is_empty(), "an image without pixels cannot be resampled");
        let Rectangle { left, top, width: from_width, height: from_height } = rectangle;
        let taps = |from: f64, extent: f64, to: u32, pixels: u32| -> Vec<Taps> {
            (0..to).map(|place| Taps::anywhere(place, (from, extent), to, pixels as usize)).collect()
        };
        let across = taps(left, from_width, width, self.width);
        let down = taps(top, from_height, height, self.height);
        // Columns that are read at all: the rest of a large image need not be mixed.
        let first = across.iter().map(|taps| taps.first).min().unwrap_or(0);
        let end = across.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(0);
        let stride = self.width as usize * 3;
        let row = |v: usize| &self.pixels[v * stride + first * 3..v * stride + end * 3];
        let mut pixels = vec![0; width as usize * height as usize * 3];
        pixels.par_chunks_mut((width as usize * 3).max(1)).zip(&down).for_each_init(
            || vec![0.0; (end - first) * 3],
            |mixed, (target, down)| resample_row(row, down, &across, first, mixed, target),
        );
        Self { width, height, pixels }
    }
}

/// A rectangle in pixels of an image, whose upper left corner is (0, 0): pixels are squares, centres lie at + 1/2. It
/// may reach out of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rectangle {
    /// Its left edge.
    pub left: f64,
    /// Its upper edge.
    pub top: f64,
    /// Columns.
    pub width: f64,
    /// Rows.
    pub height: f64,
}

/// One row of the result: rows of the source (which begin at column `first`) mixed into one, whose pixels are mixed.
fn resample_row<'a>(
    row: impl Fn(usize) -> &'a [u8],
    down: &Taps,
    across: &[Taps],
    first: usize,
    mixed: &mut [f32],
    target: &mut [u8],
) {
    mixed.fill(0.0);
    for (at, weight) in down.iter() {
        for (sum, &value) in mixed.iter_mut().zip(row(at)) {
            *sum += weight * f32::from(value);
        }
    }
    let (colours, _) = mixed.as_chunks::<3>();
    for (target, taps) in target.as_chunks_mut::<3>().0.iter_mut().zip(across) {
        let mut sums = [0.0; 3];
        for (colour, weight) in colours[taps.first - first..].iter().zip(&taps.weights) {
            for (sum, value) in sums.iter_mut().zip(colour) {
                *sum += weight * value;
            }
        }
        // Half a step, so that cutting the fraction off rounds to the nearest.
        *target = sums.map(|sum| (sum + 0.5) as u8);
    }
}

/// The pixels of the source that one pixel of the result is made of.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    /// For pixel `place` of `to`, from a line of `from` pixels; pixels are squares, so centres lie at + 1/2.
    fn new(place: usize, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let radius = scale.max(1.0);
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - radius).floor().max(0.0) as usize;
        let end = ((centre + radius).ceil() as usize).min(from);
        let raw = (first..end).map(|at| (1.0 - (at as f64 + 0.5 - centre).abs() / radius).max(0.0));
        let total: f64 = raw.clone().sum();
        Self { first, weights: raw.map(|weight| (weight / total) as f32).collect() }
    }

    /// For pixel `place` of `to`, which cover `extent` of the source from `from` on; where that lies outside the
    /// source's `pixels`, the first or the last one stands in.
    fn anywhere(place: u32, (from, extent): (f64, f64), to: u32, pixels: usize) -> Self {
        let scale = extent / f64::from(to);
        let radius = scale.max(1.0);
        let centre = from + (f64::from(place) + 0.5) * scale;
        let inside = |at: f64| (at.max(0.0) as usize).min(pixels - 1);
        let (first, last) = (inside((centre - radius).floor()), inside((centre + radius).ceil() - 1.0));
        let mut weights = vec![0.0; last - first + 1];
        let mut total = 0.0;
        // However far outside: beyond the edges all weight lies on the edge.
        let begin = ((centre - radius).floor()).max(-2.0 * radius - 1.0);
        let end = ((centre + radius).ceil()).min(pixels as f64 + 2.0 * radius + 1.0);
        let mut at = begin;
        while at < end {
            let weight = (1.0 - (at + 0.5 - centre).abs() / radius).max(0.0);
            weights[inside(at) - first] += weight;
            total += weight;
            at += 1.0;
        }
        if total <= 0.0 {
            return Self { first, weights: vec![1.0] };
        }
        Self { first, weights: weights.into_iter().map(|weight| (weight / total) as f32).collect() }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.weights.iter().enumerate().map(|(offset, &weight)| (self.first + offset, weight))
    }
}
