//! The epilogue of a convolution: bias and activation of its sums, and the gradient of the bias.

use rayon::prelude::*;

use crate::Buffer;
use crate::ops::activation::Activation;

/// Pixels in a partial sum of [`bias_gradient`]; fixed, so that the sum does not depend on the threads.
const PIXELS_PER_SUM: usize = 1024;

/// Bias and activation.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a> {
    /// Added first, one for each channel.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

impl Epilogue<'_> {
    /// Neither bias nor activation.
    pub const NONE: Self = Epilogue { bias: None, activation: Activation::Identity };

    /// Applies the epilogue to sums that are already stored, `channels` to a pixel.
    pub fn apply(&self, y: &mut [f32], channels: usize) {
        if self.bias.is_none() && self.activation == Activation::Identity {
            return;
        }
        y.par_chunks_mut(PIXELS_PER_SUM * channels).for_each(|y| {
            if let Some(bias) = self.bias {
                for pixel in y.chunks_exact_mut(channels) {
                    for (y, bias) in pixel.iter_mut().zip(bias) {
                        *y += bias;
                    }
                }
            }
            self.activation.apply(y);
        });
    }
}

/// `db` = dz summed over pixels.
pub fn bias_gradient(dz: &[f32], db: &mut [f32]) {
    let channels = db.len();
    let chunk = PIXELS_PER_SUM * channels;
    let mut sums = Buffer::zeros(dz.len().div_ceil(chunk) * channels);
    sums.par_chunks_mut(channels).zip(dz.par_chunks(chunk)).for_each(|(sum, dz)| {
        for pixel in dz.chunks_exact(channels) {
            for (sum, dz) in sum.iter_mut().zip(pixel) {
                *sum += dz;
            }
        }
    });
    db.fill(0.0);
    for sum in sums.chunks_exact(channels) {
        for (db, sum) in db.iter_mut().zip(sum) {
            *db += sum;
        }
    }
}
