//! Rotated squares of images.

use std::f64::consts::SQRT_2;

use crate::resample::Rectangle;
use crate::sample::Image;

impl Image {
    /// The square of `side` pixels around a place, turned about it by `angle` radians from right to down, at `size` x
    /// `size` pixels. Outside the image the pixels of its edge are repeated.
    ///
    /// # Panics
    /// If the image has no pixels.
    pub fn turned_square(&self, centre: [f64; 2], side: f64, angle: f32, size: u32) -> Self {
        // An upright square that contains it at any angle, with more than two pixels for each of the result along
        // either axis, so that bilinear sampling loses nothing that the result could show.
        let around = SQRT_2 * side;
        let [left, top] = centre.map(|middle| middle - around / 2.0);
        let fine = (2.0 * SQRT_2 * f64::from(size)).ceil() as u32;
        let upright = self.resampled(Rectangle { left, top, width: around, height: around }, fine, fine);
        Crop { shift: [0.0; 2], scale: (1.0 / SQRT_2) as f32, angle }.of(&upright).square(size)
    }
}

/// A square within a square image, or partly outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crop {
    /// From the middle of the image to that of the crop, to the right and down, in sides of the image.
    pub shift: [f32; 2],
    /// The crop's side, in sides of the image.
    pub scale: f32,
    /// By how much the crop is turned, from right to down, in radians.
    pub angle: f32,
}

impl Crop {
    /// The crop of a square image, at as many pixels, by bilinear sampling. Outside the image the pixels of its edge are
    /// repeated.
    ///
    /// # Panics
    /// If the image has no pixels.
    pub fn of(&self, image: &Image) -> Image {
        let size = image.width.min(image.height) as usize;
        let stride = image.width as usize * 3;
        let (sine, cosine) = self.angle.sin_cos();
        let middle = (size as f32 - 1.0) / 2.0;
        let [x_middle, y_middle] = self.shift.map(|shift| middle + shift * size as f32);
        // Two neighbours along an axis, and how far the place is from the first to the second.
        let between = |place: f32| {
            let place = place.clamp(0.0, size as f32 - 1.0);
            let first = (place as usize).min(size.saturating_sub(2));
            (first, (first + 1).min(size - 1), place - first as f32)
        };
        let mut pixels = Vec::with_capacity(size * size * 3);
        for row in 0..size {
            let down = (row as f32 - middle) * self.scale;
            for column in 0..size {
                let right = (column as f32 - middle) * self.scale;
                let (left, next, share) = between(x_middle + right * cosine - down * sine);
                let (top, below, part) = between(y_middle + right * sine + down * cosine);
                let pixel = |row: usize, column: usize| &image.pixels[row * stride + column * 3..][..3];
                let corners = [pixel(top, left), pixel(top, next), pixel(below, left), pixel(below, next)];
                pixels.extend((0..3).map(|channel| {
                    let [a, b, c, d] = corners.map(|corner| f32::from(corner[channel]));
                    let (upper, lower) = (a + share * (b - a), c + share * (d - c));
                    // Half a step, so that cutting the fraction off rounds to the nearest.
                    (upper + part * (lower - upper) + 0.5) as u8
                }));
            }
        }
        Image { width: size as u32, height: size as u32, pixels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 65;

    /// Red grows to the right, green downwards: a pixel tells where it is from.
    fn gradient() -> Image {
        let pixels = (0..SIZE * SIZE).flat_map(|at| [(at % SIZE) as u8 * 3, (at / SIZE) as u8 * 3, 9]);
        Image { width: SIZE as u32, height: SIZE as u32, pixels: pixels.collect() }
    }

    /// Where the pixel that lies `right` and `down` of the middle is from, from the middle.
    fn origin(image: &Image, right: i32, down: i32) -> [f32; 2] {
        let at = |offset: i32| (32 + offset) as usize;
        let pixel = &image.pixels[(at(down) * SIZE + at(right)) * 3..][..3];
        assert_eq!(pixel[2], 9);
        [f32::from(pixel[0]) / 3.0 - 32.0, f32::from(pixel[1]) / 3.0 - 32.0]
    }

    fn assert_near(found: [f32; 2], right: [f32; 2]) {
        assert!(found.iter().zip(right).all(|(a, b)| (a - b).abs() < 0.4), "{found:?} for {right:?}");
    }

    #[test]
    fn a_crop_shows_what_it_should() {
        let still = Crop { shift: [0.0; 2], scale: 1.0, angle: 0.0 };
        assert_eq!(still.of(&gradient()), gradient());
        let moved = Crop { shift: [0.1, -0.05], scale: 0.9, ..still }.of(&gradient());
        assert_near(origin(&moved, 10, -20), [9.0 + 6.5, -18.0 - 3.25]);
        let turned = Crop { angle: std::f32::consts::FRAC_PI_2, ..still }.of(&gradient());
        // What was below is now to the right.
        assert_near(origin(&turned, 20, 0), [0.0, 20.0]);
        assert_near(origin(&turned, 0, 20), [-20.0, 0.0]);
    }

    #[test]
    fn beyond_the_edge_is_the_edge() {
        let away = Crop { shift: [0.9, 0.0], scale: 1.0, angle: 0.0 }.of(&gradient());
        assert_near(origin(&away, 30, 7), [32.0, 7.0]);
        let one = Image { width: 1, height: 1, pixels: vec![1, 2, 3] };
        assert_eq!(Crop { shift: [0.3; 2], scale: 1.2, angle: 1.0 }.of(&one), one);
    }

    #[test]
    fn a_turned_square_shows_what_it_should() {
        let turned = gradient().turned_square([30.5, 40.5], 20.0, std::f32::consts::FRAC_PI_2, 10);
        assert_eq!((turned.width, turned.height), (10, 10));
        // Its middle lies between pixels; what was below is to the right.
        let origin = |right: f32, down: f32| {
            let at = |offset: f32| (4.5 + offset) as usize;
            let pixel = &turned.pixels[(at(down) * 10 + at(right)) * 3..][..3];
            [f32::from(pixel[0]) / 3.0, f32::from(pixel[1]) / 3.0]
        };
        assert_near(origin(0.5, 0.5), [30.0 - 1.0, 40.0 + 1.0]);
        assert_near(origin(3.5, -2.5), [30.0 + 5.0, 40.0 + 7.0]);
        // Upright it is what `resampled` makes.
        let upright = gradient().turned_square([30.5, 40.5], 20.0, 0.0, 10);
        let right =
            gradient().resampled(Rectangle { left: 20.5, top: 30.5, width: 20.0, height: 20.0 }, 10, 10);
        assert!(upright.pixels.iter().zip(&right.pixels).all(|(a, b)| a.abs_diff(*b) <= 1));
    }
}
