//! One task is an image. Sums under a window are those of planes multiplied by the mask, divided by the window's sum of
//! the mask.

use rayon::prelude::*;

use super::{BRIGHTNESS, CONTRAST};
use crate::ops::compared::Compared;
use crate::ops::planes::{Way, add_along, add_down, gaussian};

/// The means under a window: of the image, of the target, of their squares and of their product.
const MOMENTS: usize = 5;

/// Contrast and structure, or brightness, and its slopes by the means of image, squared image and product.
#[derive(Clone, Copy, Default)]
struct Factor {
    value: f32,
    slopes: [f32; 3],
}

/// Contrast and structure from the means under a window.
fn contrast([x, y, xx, yy, xy]: [f32; MOMENTS]) -> Factor {
    let below = (xx - x * x) + (yy - y * y) + CONTRAST;
    let value = (2.0 * (xy - x * y) + CONTRAST) / below;
    Factor { value, slopes: [(2.0 * x * value - 2.0 * y) / below, -value / below, 2.0 / below] }
}

/// Brightness.
fn brightness([x, y, ..]: [f32; MOMENTS]) -> Factor {
    let below = x * x + y * y + BRIGHTNESS;
    let value = (2.0 * x * y + BRIGHTNESS) / below;
    Factor { value, slopes: [2.0 * (y - x * value) / below, 0.0, 0.0] }
}

/// A Gaussian window over the planes of an image.
struct Window {
    width: usize,
    taps: Vec<f32>,
    /// One over the sum of the mask, 0 where the mask is 0.
    shares: Vec<f32>,
}

impl Window {
    fn new(deviation: f32, width: usize, mask: &[f32]) -> Self {
        let mut window = Self { width, taps: gaussian(deviation), shares: Vec::new() };
        let mut half = vec![0.0; mask.len()];
        window.shares = vec![0.0; mask.len()];
        let mut sums = vec![0.0; mask.len()];
        window.add(&mut sums, mask, &mut half);
        for ((share, sum), mask) in window.shares.iter_mut().zip(&sums).zip(mask) {
            *share = if *mask > 0.0 { sum.recip() } else { 0.0 };
        }
        window
    }

    /// Adds the sums of `from` under the window to `to`.
    fn add(&self, to: &mut [f32], from: &[f32], half: &mut [f32]) {
        half.fill(0.0);
        add_along(half, from, self.width, &self.taps, Way::Forward);
        add_down(to, half, self.width, &self.taps, Way::Forward);
    }
}

/// The planes of a channel, and the factors of its similarity.
struct Channel {
    /// The image, and the target, from 0 to 1.
    colours: [Vec<f32>; 2],
    /// For each window contrast and structure, then brightness in the last one.
    factors: Vec<Vec<Factor>>,
}

impl Channel {
    fn new(windows: &[Window], [found, target, mask]: [&[f32]; 3], channel: usize, channels: usize) -> Self {
        let plane = |of: &[f32]| of[channel..].iter().step_by(channels).map(|x| 0.5 * x + 0.5).collect();
        let colours: [Vec<f32>; 2] = [plane(found), plane(target)];
        let (mut from, mut half) = (vec![0.0; mask.len()], vec![0.0; mask.len()]);
        let mut factors = Vec::with_capacity(windows.len() + 1);
        for (number, window) in windows.iter().enumerate() {
            let mut moments = [(); MOMENTS].map(|()| vec![0.0; mask.len()]);
            for (moment, sums) in moments.iter_mut().enumerate() {
                for (pixel, from) in from.iter_mut().enumerate() {
                    let (x, y) = (colours[0][pixel], colours[1][pixel]);
                    *from = mask[pixel] * [x, y, x * x, y * y, x * y][moment];
                }
                window.add(sums, &from, &mut half);
            }
            let at = |pixel: usize| moments.each_ref().map(|sums| sums[pixel] * window.shares[pixel]);
            factors.push((0..mask.len()).map(|pixel| contrast(at(pixel))).collect());
            if number + 1 == windows.len() {
                factors.push((0..mask.len()).map(|pixel| brightness(at(pixel))).collect());
            }
        }
        Self { colours, factors }
    }

    fn similarity(&self, pixel: usize) -> f32 {
        self.factors.iter().map(|factor| factor[pixel].value).product()
    }

    /// The similarity without one of its factors.
    fn others(&self, without: usize, pixel: usize) -> f32 {
        let others = self.factors.iter().enumerate().filter(|(number, _)| *number != without);
        others.map(|(_, factor)| factor[pixel].value).product()
    }
}

pub fn errors(
    deviations: &[f32],
    compared: Compared,
    [found, target, mask]: [&[f32]; 3],
    errors: &mut [f32],
) {
    let (channels, pixels) = (compared.channels, compared.pixels());
    let images = errors.par_chunks_mut(pixels).zip(found.par_chunks(pixels * channels));
    images.enumerate().for_each(|(image, (errors, found))| {
        let [target, mask] = compared.parts(image, [target, mask]);
        let windows: Vec<Window> =
            deviations.iter().map(|deviation| Window::new(*deviation, compared.width, mask)).collect();
        errors.fill(0.0);
        for channel in 0..channels {
            let planes = Channel::new(&windows, [found, target, mask], channel, channels);
            for (pixel, error) in errors.iter_mut().enumerate().filter(|(pixel, _)| mask[*pixel] > 0.0) {
                *error += (1.0 - planes.similarity(pixel)) / channels as f32;
            }
        }
    });
}

/// The gradient of the reconstruction, given that of the errors.
pub fn gradient(
    deviations: &[f32],
    compared: Compared,
    [found, target, mask]: [&[f32]; 3],
    dy: &[f32],
    gradient: &mut [f32],
) {
    let (channels, pixels) = (compared.channels, compared.pixels());
    let images = gradient.par_chunks_mut(pixels * channels).zip(found.par_chunks(pixels * channels));
    images.enumerate().for_each(|(image, (gradient, found))| {
        let ([target, mask], dy) = (compared.parts(image, [target, mask]), &dy[image * pixels..][..pixels]);
        let windows: Vec<Window> =
            deviations.iter().map(|deviation| Window::new(*deviation, compared.width, mask)).collect();
        let (mut field, mut half) = (vec![0.0; pixels], vec![0.0; pixels]);
        for channel in 0..channels {
            let planes = Channel::new(&windows, [found, target, mask], channel, channels);
            let mut sums = [(); 3].map(|()| vec![0.0; pixels]);
            for factor in 0..planes.factors.len() {
                let window = &windows[factor.min(windows.len() - 1)];
                // Brightness depends on the mean only.
                let moments = if factor < windows.len() { 3 } else { 1 };
                for (moment, sums) in sums[..moments].iter_mut().enumerate() {
                    for (pixel, field) in field.iter_mut().enumerate() {
                        let slope =
                            planes.others(factor, pixel) * planes.factors[factor][pixel].slopes[moment];
                        *field = -dy[pixel] * window.shares[pixel] * slope;
                    }
                    // A Gaussian window is its own adjoint.
                    window.add(sums, &field, &mut half);
                }
            }
            for (pixel, gradient) in gradient[channel..].iter_mut().step_by(channels).enumerate() {
                let (x, y) = (planes.colours[0][pixel], planes.colours[1][pixel]);
                let slope = sums[0][pixel] + 2.0 * x * sums[1][pixel] + y * sums[2][pixel];
                // Colours from 0 to 1 are half as wide.
                *gradient = 0.5 / channels as f32 * mask[pixel] * slope;
            }
        }
    });
}
