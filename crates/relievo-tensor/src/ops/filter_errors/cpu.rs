//! One task is an image. Kernels along rows are applied to the difference once, products of kernels once to what these
//! give, and filters are sums of products; the backward pass does the same again, because signs are all it needs and
//! keeping the responses would cost more memory than they are worth.

use rayon::prelude::*;

use super::FilterBank;
use crate::ops::compared::Compared;
use crate::ops::planes::{Way, add_along, add_down};
use crate::ops::vectorised::vectorised;
use crate::{Result, Tensor};

vectorised! {
    /// Adds `factor * from` to `to`.
    fn add_scaled(to: &mut [f32], from: &[f32], factor: f32) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
    }

    /// Adds `share * |from|` to `to`.
    fn add_absolute(to: &mut [f32], from: &[f32], share: f32) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += share * from.abs());
    }

    /// Replaces responses by `share * slope * sign(response)`.
    fn slopes_of(responses: &mut [f32], slopes: &[f32], share: f32) {
        for (response, slope) in responses.iter_mut().zip(slopes) {
            let sign = if *response == 0.0 { 0.0 } else { response.signum() };
            *response = share * slope * sign;
        }
    }
}

/// The planes of one channel of one image.
struct Planes {
    width: usize,
    difference: Vec<f32>,
    /// One for each kernel along rows.
    alongs: Vec<Vec<f32>>,
    /// One for each product.
    products: Vec<Vec<f32>>,
    response: Vec<f32>,
}

impl Planes {
    fn new(bank: &FilterBank, compared: Compared) -> Self {
        let planes = |count: usize| vec![vec![0.0; compared.pixels()]; count];
        Self {
            width: compared.width,
            difference: vec![0.0; compared.pixels()],
            alongs: planes(bank.alongs.len()),
            products: planes(bank.products.len()),
            response: vec![0.0; compared.pixels()],
        }
    }

    /// Computes the products of a channel's difference.
    fn filter(
        &mut self,
        bank: &FilterBank,
        [reconstruction, target, mask]: [&[f32]; 3],
        channel: usize,
        channels: usize,
    ) {
        let of_channel = |of: &[f32], pixel: usize| of[pixel * channels + channel];
        for (pixel, (difference, mask)) in self.difference.iter_mut().zip(mask).enumerate() {
            // Once for both: a convolution is linear.
            *difference = mask * (of_channel(reconstruction, pixel) - of_channel(target, pixel));
        }
        for (plane, taps) in self.alongs.iter_mut().zip(&bank.alongs) {
            plane.fill(0.0);
            add_along(plane, &self.difference, self.width, taps, Way::Forward);
        }
        for (plane, (taps, along)) in self.products.iter_mut().zip(&bank.products) {
            plane.fill(0.0);
            add_down(plane, &self.alongs[*along], self.width, taps, Way::Forward);
        }
    }

    /// Adds up the response of a filter.
    fn respond(&mut self, terms: &[(usize, f32)]) {
        self.response.fill(0.0);
        for (product, factor) in terms {
            add_scaled(&mut self.response, &self.products[*product], *factor);
        }
    }
}

/// The errors of each scale.
pub fn errors(
    bank: &FilterBank,
    compared: Compared,
    [reconstruction, target, mask]: [&[f32]; 3],
) -> Result<Vec<Tensor>> {
    let Compared { height, width, channels, .. } = compared;
    let pixels = compared.pixels();
    let of_images: Vec<Vec<Vec<f32>>> = reconstruction
        .par_chunks(pixels * channels)
        .enumerate()
        .map(|(image, reconstruction)| {
            let [target, mask] = compared.parts(image, [target, mask]);
            let mut errors = vec![vec![0.0; pixels]; bank.scale_count()];
            let mut planes = Planes::new(bank, compared);
            for channel in 0..channels {
                planes.filter(bank, [reconstruction, target, mask], channel, channels);
                for (scale, terms) in &bank.sums {
                    planes.respond(terms);
                    add_absolute(&mut errors[*scale], &planes.response, bank.share(*scale, channels));
                }
            }
            errors
        })
        .collect();
    let of_scale = |scale: usize| {
        let all: Vec<f32> = of_images.iter().flat_map(|of_image| &of_image[scale]).copied().collect();
        Tensor::new(&all, [compared.images, height, width, 1])
    };
    (0..bank.scale_count()).map(of_scale).collect()
}

/// The gradient of the reconstruction, given that of the errors of each scale.
pub fn gradient(
    bank: &FilterBank,
    compared: Compared,
    [reconstruction, target, mask]: [&[f32]; 3],
    slopes: &[Option<&[f32]>],
    gradient: &mut [f32],
) {
    let (channels, pixels) = (compared.channels, compared.pixels());
    let images = gradient.par_chunks_mut(pixels * channels).zip(reconstruction.par_chunks(pixels * channels));
    images.enumerate().for_each(|(image, (gradient, reconstruction))| {
        let [target, mask] = compared.parts(image, [target, mask]);
        let (mut planes, mut back) = (Planes::new(bank, compared), Planes::new(bank, compared));
        for channel in 0..channels {
            planes.filter(bank, [reconstruction, target, mask], channel, channels);
            back.products.iter_mut().for_each(|plane| plane.fill(0.0));
            for (scale, terms) in &bank.sums {
                let Some(slopes) = slopes[*scale] else { continue };
                planes.respond(terms);
                let slopes = &slopes[image * pixels..][..pixels];
                slopes_of(&mut planes.response, slopes, bank.share(*scale, channels));
                for (product, factor) in terms {
                    add_scaled(&mut back.products[*product], &planes.response, *factor);
                }
            }
            back.collect(bank);
            let of_channel = gradient[channel..].iter_mut().step_by(channels);
            for ((gradient, mask), difference) in of_channel.zip(mask).zip(&back.difference) {
                *gradient = mask * difference;
            }
        }
    });
}

impl Planes {
    /// The gradient of the difference from that of the products.
    fn collect(&mut self, bank: &FilterBank) {
        self.alongs.iter_mut().for_each(|plane| plane.fill(0.0));
        for (plane, (taps, along)) in self.products.iter().zip(&bank.products) {
            add_down(&mut self.alongs[*along], plane, self.width, taps, Way::Back);
        }
        self.difference.fill(0.0);
        for (plane, taps) in self.alongs.iter().zip(&bank.alongs) {
            add_along(&mut self.difference, plane, self.width, taps, Way::Back);
        }
    }
}
