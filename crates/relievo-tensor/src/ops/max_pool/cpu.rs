//! One task is a row of windows; loops run over channels.

use rayon::prelude::*;

use crate::ops::vectorised::vectorised;

/// The extents of x and the size of a window.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Rows of x.
    pub height: usize,
    /// Columns of x.
    pub width: usize,
    /// Channels of x.
    pub channels: usize,
    /// Height, width and distance of windows.
    pub size: usize,
}

impl Layout {
    fn image(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Elements of the rows of x that a row of windows covers.
    fn band(self) -> usize {
        self.size * self.width * self.channels
    }

    /// Elements of a row of y.
    fn row(self) -> usize {
        self.width / self.size * self.channels
    }

    /// Elements of an image of y.
    fn output(self) -> usize {
        self.height / self.size * self.row()
    }

    /// The places in a band of the pixels of window `window`.
    fn window(self, window: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        let pixels = (0..self.size).flat_map(move |v| (0..self.size).map(move |u| (v, u)));
        pixels.map(move |(v, u)| {
            let start = (v * self.width + window * self.size + u) * self.channels;
            start..start + self.channels
        })
    }
}

/// y from x.
pub fn forward(layout: Layout, x: &[f32], y: &mut [f32]) {
    let images = x.par_chunks(layout.image()).zip(y.par_chunks_mut(layout.output()));
    images.for_each(|(x, y)| {
        let rows = x.par_chunks(layout.band()).zip(y.par_chunks_mut(layout.row()));
        rows.for_each(|(band, row)| {
            for (window, largest) in row.chunks_exact_mut(layout.channels).enumerate() {
                largest.fill(f32::NEG_INFINITY);
                for pixel in layout.window(window) {
                    keep_larger(&band[pixel], largest);
                }
            }
        });
    });
}

/// dx from x, y and dy.
pub fn backward(layout: Layout, [x, y, dy]: [&[f32]; 3], dx: &mut [f32]) {
    let images = x.par_chunks(layout.image()).zip(dx.par_chunks_mut(layout.image()));
    let outputs = y.par_chunks(layout.output()).zip(dy.par_chunks(layout.output()));
    images.zip(outputs).for_each(|((x, dx), (y, dy))| {
        let covered = layout.height / layout.size * layout.band();
        dx[covered..].fill(0.0);
        let bands = x.par_chunks(layout.band()).zip(dx[..covered].par_chunks_mut(layout.band()));
        let rows = y.par_chunks(layout.row()).zip(dy.par_chunks(layout.row()));
        bands.zip(rows).for_each(|((x, dx), (y, dy))| {
            if !layout.width.is_multiple_of(layout.size) {
                dx.fill(0.0);
            }
            // The gradients that no pixel has received yet.
            let mut left = vec![0.0; layout.channels];
            let windows = y.chunks_exact(layout.channels).zip(dy.chunks_exact(layout.channels));
            for (window, (y, dy)) in windows.enumerate() {
                left.copy_from_slice(dy);
                for pixel in layout.window(window) {
                    give_to_largest(&x[pixel.clone()], y, &mut left, &mut dx[pixel]);
                }
            }
        });
    });
}

vectorised! {
    fn keep_larger(x: &[f32], largest: &mut [f32]) {
        for (largest, x) in largest.iter_mut().zip(x) {
            *largest = if *x > *largest || x.is_nan() { *x } else { *largest };
        }
    }

    /// dx takes the gradients that are left where x is the maximum.
    fn give_to_largest(x: &[f32], largest: &[f32], left: &mut [f32], dx: &mut [f32]) {
        for (((x, largest), left), dx) in x.iter().zip(largest).zip(left).zip(dx) {
            // By bits, so that NaN is found too.
            let hit = x.to_bits() == largest.to_bits();
            *dx = if hit { *left } else { 0.0 };
            *left = if hit { 0.0 } else { *left };
        }
    }
}
