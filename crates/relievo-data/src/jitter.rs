//! Moving the crops of pictures at random, so that few pictures are as good as more.

use relievo_tensor::Random;

use crate::sample::Picture;

/// How far crops are moved at random in training. By default not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Jitter {
    /// A crop is moved each way by up to this share of its side, and its side is longer or shorter by up to this share. In \[0,1).
    pub crop: f32,
    /// A crop is turned about its middle by up to this, in radians, either way.
    pub roll: f32,
}

impl Jitter {
    /// Whether crops are moved.
    pub fn is_on(&self) -> bool {
        self.crop > 0.0 || self.roll > 0.0
    }

    /// The crop that `random` has at place `at` of an epoch.
    pub(crate) fn draw(&self, random: &Random, at: u64) -> Crop {
        let share = |number: u64| 2.0 * random.uniform(4 * at + number) - 1.0;
        Crop {
            shift: [self.crop * share(0), self.crop * share(1)],
            scale: 1.0 + self.crop * share(2),
            angle: self.roll * share(3),
        }
    }
}

/// A square within a square picture, or partly outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crop {
    /// From the middle of the picture to that of the crop, to the right and down, in sides of the picture.
    pub shift: [f32; 2],
    /// The crop's side, in sides of the picture.
    pub scale: f32,
    /// By how much the crop is turned, from right to down, in radians.
    pub angle: f32,
}

impl Crop {
    /// What it shows of a square picture, at as many pixels, bilinear in between. Outside the picture the pixels of its edge are
    /// repeated.
    ///
    /// # Panics
    /// If the picture has no pixels.
    pub fn of(&self, picture: &Picture) -> Picture {
        let size = picture.width.min(picture.height) as usize;
        let stride = picture.width as usize * 3;
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
                let pixel = |row: usize, column: usize| &picture.pixels[row * stride + column * 3..][..3];
                let corners = [pixel(top, left), pixel(top, next), pixel(below, left), pixel(below, next)];
                pixels.extend((0..3).map(|channel| {
                    let [a, b, c, d] = corners.map(|corner| f32::from(corner[channel]));
                    let (upper, lower) = (a + share * (b - a), c + share * (d - c));
                    // Half a step, so that cutting the fraction off rounds to the nearest.
                    (upper + part * (lower - upper) + 0.5) as u8
                }));
            }
        }
        Picture { width: size as u32, height: size as u32, pixels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 65;

    /// Red grows to the right, green downwards: a pixel tells where it is from.
    fn gradient() -> Picture {
        let pixels = (0..SIZE * SIZE).flat_map(|at| [(at % SIZE) as u8 * 3, (at / SIZE) as u8 * 3, 9]);
        Picture { width: SIZE as u32, height: SIZE as u32, pixels: pixels.collect() }
    }

    /// Where the pixel that lies `right` and `down` of the middle is from, from the middle.
    fn origin(picture: &Picture, right: i32, down: i32) -> [f32; 2] {
        let at = |offset: i32| (32 + offset) as usize;
        let pixel = &picture.pixels[(at(down) * SIZE + at(right)) * 3..][..3];
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
        let one = Picture { width: 1, height: 1, pixels: vec![1, 2, 3] };
        assert_eq!(Crop { shift: [0.3; 2], scale: 1.2, angle: 1.0 }.of(&one), one);
    }

    #[test]
    fn crops_are_moved_as_far_as_they_may() {
        let jitter = Jitter { crop: 0.1, roll: 0.3 };
        assert!(jitter.is_on() && !Jitter::default().is_on());
        let random = Random::new(1, 2);
        let crops: Vec<Crop> = (0..400).map(|at| jitter.draw(&random, at)).collect();
        let of = |number: usize| {
            crops.iter().map(move |crop| [crop.shift[0], crop.shift[1], crop.scale - 1.0, crop.angle][number])
        };
        for (number, most) in [0.1, 0.1, 0.1, 0.3].into_iter().enumerate() {
            let (least, largest) = of(number).fold((0.0f32, 0.0f32), |(a, b), x| (a.min(x), b.max(x)));
            assert!(least >= -most && least < -0.95 * most && largest <= most && largest > 0.95 * most);
            assert!((of(number).sum::<f32>() / 400.0).abs() < 0.1 * most, "{number}");
        }
    }
}
