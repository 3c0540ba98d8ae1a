//! How sharp, how large and how well stored a picture is: made the same for all categories, so that none can be told by
//! its camera.

use std::io::Cursor;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use relievo_data::{Image, Rectangle};

use super::draws::Draws;

/// A square of colours, `[side,side,3]` in 0..255.
#[derive(Clone)]
pub(super) struct Patch {
    pub side: usize,
    pub values: Vec<f32>,
}

impl Patch {
    pub fn grey(side: usize, value: f32) -> Self {
        Self { side, values: vec![value; side * side * 3] }
    }

    pub fn from_image(image: &Image) -> Self {
        let values = image.pixels.iter().map(|byte| f32::from(*byte)).collect();
        Self { side: image.width as usize, values }
    }

    /// A square image and around it its repeated edge, `reach` times as wide, turned by `angle` radians from right to down,
    /// at `size` pixels.
    pub fn turned(image: &Image, reach: f32, angle: f32, size: usize) -> Self {
        let side = f64::from(image.width);
        // Upright and so wide that all angles fit, at the scale of the result; then bilinear.
        let fine = (std::f32::consts::SQRT_2 * size as f32).ceil() as usize;
        let extent = side * f64::from(reach) * fine as f64 / size as f64;
        let corner = (side - extent) / 2.0;
        let around = Rectangle { left: corner, top: corner, width: extent, height: extent };
        let upright = Self::from_image(&image.resampled(around, fine as u32, fine as u32));
        let (sine, cosine) = angle.sin_cos();
        let mut turned = Self::grey(size, 0.0);
        for (at, pixel) in turned.values.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let [right, down] = [at % size, at / size].map(|place| place as f32 + 0.5 - size as f32 / 2.0);
            let middle = fine as f32 / 2.0 - 0.5;
            *pixel =
                upright.at([middle + right * cosine - down * sine, middle + right * sine + down * cosine]);
        }
        turned
    }

    /// The colour at a place (x, y) between the centres of pixels.
    fn at(&self, place: [f32; 2]) -> [f32; 3] {
        let most = (self.side - 1) as f32;
        let [x, y] = place.map(|coordinate| coordinate.clamp(0.0, most));
        let (column, row) = (x as usize, y as usize);
        let (right, below) = ((column + 1).min(self.side - 1), (row + 1).min(self.side - 1));
        let pixel =
            |row: usize, column: usize, channel: usize| self.values[3 * (row * self.side + column) + channel];
        [0, 1, 2].map(|channel| {
            let along = |row: usize| {
                let left = pixel(row, column, channel);
                left + x.fract() * (pixel(row, right, channel) - left)
            };
            along(row) + y.fract() * (along(below) - along(row))
        })
    }

    pub fn image(&self) -> Image {
        let pixels = self.values.iter().map(|value| (value.clamp(0.0, 255.0) + 0.5) as u8).collect();
        Image { width: self.side as u32, height: self.side as u32, pixels }
    }

    /// Blurred by a Gaussian of this standard deviation, in pixels.
    pub fn blurred(&self, deviation: f32) -> Self {
        if deviation < 0.2 {
            return self.clone();
        }
        let radius = (2.5 * deviation).ceil() as usize;
        let weight = |at: usize| (-0.5 * (at as f32 / deviation).powi(2)).exp();
        let total = weight(0) + 2.0 * (1..=radius).map(weight).sum::<f32>();
        let taps: Vec<f32> = (0..=radius).map(|at| weight(at) / total).collect();
        let along = |from: &[f32], step: usize, across: usize| {
            let mut to = vec![0.0; from.len()];
            for line in 0..self.side {
                for place in 0..self.side {
                    for channel in 0..3 {
                        let value = |at: usize| from[(line * across + at * step) * 3 + channel];
                        let mut sum = taps[0] * value(place);
                        for (distance, tap) in taps.iter().enumerate().skip(1) {
                            let (before, behind) =
                                (place.saturating_sub(distance), (place + distance).min(self.side - 1));
                            sum += tap * (value(before) + value(behind));
                        }
                        to[(line * across + place * step) * 3 + channel] = sum;
                    }
                }
            }
            to
        };
        let rows = along(&self.values, 1, self.side);
        Self { side: self.side, values: along(&rows, self.side, 1) }
    }

    /// How sharp it is: the mean size of the Laplacian of its brightness, in 0..255.
    pub fn sharpness(&self) -> f32 {
        let (side, luma) = (self.side, self.luma());
        if side < 3 {
            return 0.0;
        }
        let mut sum = 0.0;
        for row in 1..side - 1 {
            for column in 1..side - 1 {
                let at = row * side + column;
                let around = luma[at - 1] + luma[at + 1] + luma[at - side] + luma[at + side];
                sum += (around - 4.0 * luma[at]).abs();
            }
        }
        sum / ((side - 2) * (side - 2)) as f32
    }

    /// The pixels of a square around a place, as far as they are within.
    pub fn window(&self, centre: [f32; 2], side: f32) -> Self {
        let extent = (side.max(1.0) as usize).min(self.side);
        let corner =
            centre.map(|middle| ((middle - extent as f32 / 2.0).max(0.0) as usize).min(self.side - extent));
        let row = |row: usize| &self.values[3 * ((corner[1] + row) * self.side + corner[0])..][..3 * extent];
        Self { side: extent, values: (0..extent).flat_map(row).copied().collect() }
    }

    fn luma(&self) -> Vec<f32> {
        let (pixels, _) = self.values.as_chunks::<3>();
        pixels.iter().map(|[red, green, blue]| 0.299 * red + 0.587 * green + 0.114 * blue).collect()
    }

    /// Blurred just so far that it is no sharper than `most`.
    pub fn no_sharper_than(self, most: f32) -> Self {
        // Its middle tells how far.
        let middle = [self.side as f32 / 2.0; 2];
        let part = self.window(middle, (0.4 * self.side as f32).max(MEASURED));
        if part.sharpness() <= most {
            return self;
        }
        let (mut below, mut above) = (0, DEVIATIONS.len() - 1);
        while below < above {
            let middle = (below + above) / 2;
            if part.blurred(DEVIATIONS[middle]).sharpness() <= most {
                above = middle;
            } else {
                below = middle + 1;
            }
        }
        self.blurred(DEVIATIONS[below])
    }

    /// As it comes back from a JPEG file of this quality, in 1..=100.
    pub fn through_jpeg(&self, quality: u8) -> Self {
        let image = self.image();
        let mut file = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(Cursor::new(&mut file), quality);
        let extent = self.side as u32;
        let written = encoder.encode(&image.pixels, extent, extent, ExtendedColorType::Rgb8);
        match (written, Image::decode(&file)) {
            (Ok(()), Ok(image)) => Self::from_image(&image),
            // Nothing is wrong with the patch then: it stays as it was.
            _ => self.clone(),
        }
    }

    /// As it comes back from `side` pixels.
    pub fn through_size(&self, side: usize) -> Self {
        let all =
            |extent: usize| Rectangle { left: 0.0, top: 0.0, width: extent as f64, height: extent as f64 };
        let small = self.image().resampled(all(self.side), side as u32, side as u32);
        Self::from_image(&small.resampled(all(side), self.side as u32, self.side as u32))
    }
}

/// Least side of the part of a patch whose sharpness is measured, in pixels.
const MEASURED: f32 = 12.0;

/// Blurs that are tried, in pixels.
const DEVIATIONS: [f32; 12] = [0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.5, 1.9, 2.4, 3.0];

/// Sharpness that objects are brought to, at most, wherever they come from: between these, each factor alike often.
const SHARPNESS: [f32; 2] = [3.0, 24.0];

/// An object's patch with a sharpness and a storage drawn from what all categories share.
pub(super) fn equalise(patch: Patch, draws: &mut Draws) -> Patch {
    let most = draws.factor(SHARPNESS);
    let patch = patch.no_sharper_than(most);
    if draws.chance(0.25) { patch.through_jpeg(draws.between(30.0, 95.0) as u8) } else { patch }
}

/// A whole scene as a camera, a program or a network page may have left it.
pub(super) fn degrade(mut scene: Patch, draws: &mut Draws) -> Patch {
    if draws.chance(0.3) {
        scene = scene.blurred(draws.between(0.2, 1.1));
    }
    if draws.chance(0.15) {
        scene = scene.through_size((scene.side as f32 / draws.between(1.0, 1.8)) as usize);
    }
    let grain = if draws.chance(0.4) { draws.between(0.0, 9.0) } else { 0.0 };
    let (gain, shift) = (draws.factor([0.6, 1.5]), draws.between(-30.0, 30.0));
    let gamma = draws.factor([0.7, 1.4]);
    let toned: Vec<f32> = (0..256)
        .map(|byte| (255.0 * (byte as f32 / 255.0).powf(gamma) - 128.0) * gain + 128.0 + shift)
        .collect();
    for value in &mut scene.values {
        let noise = if grain > 0.0 { grain * draws.bell() } else { 0.0 };
        let tone = toned[(value.clamp(0.0, 255.0) + 0.5) as usize];
        *value = (tone + noise).clamp(0.0, 255.0);
    }
    if draws.chance(0.6) { scene.through_jpeg(draws.between(25.0, 96.0) as u8) } else { scene }
}
