//! Rotated squares of images.

use std::f64::consts::SQRT_2;

use crate::resample::Rectangle;
use crate::sample::{FacePoints, Image, Truth};

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
        let place = self.places(size);
        let mut pixels = Vec::with_capacity(size * size * 3);
        for row in 0..size {
            for column in 0..size {
                let [x, y] = place(row, column);
                let (left, next, share) = between(x, size);
                let (top, below, part) = between(y, size);
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

    /// The truth of the crop of an image of `size` x `size` pixels with this truth.
    ///
    /// A turned crop is exactly a view that rolls. One of another place or size shows the object moved across the view or
    /// scaled about (0,0,1): what the same camera would see so, up to perspective, which a tenth of the image changes by a
    /// fraction of a pixel. Scaling keeps normals. The light turns with the object. Outside the image and where the mask
    /// ends between pixels nothing is known: the mask is 0.
    ///
    /// # Panics
    /// If the maps are not of that size.
    pub fn of_truth(&self, truth: &Truth, size: usize) -> Truth {
        let (sine, cosine) = (-self.angle).sin_cos();
        let turn = |[x, y]: [f32; 2]| [x * cosine - y * sine, x * sine + y * cosine];
        let (place, last) = (self.places(size), size as f32 - 1.0);
        let (mut depth, mut mask) = (Vec::with_capacity(size * size), Vec::with_capacity(size * size));
        let (mut normals, mut albedo) =
            (Vec::with_capacity(3 * size * size), Vec::with_capacity(3 * size * size));
        for row in 0..size {
            for column in 0..size {
                let [x, y] = place(row, column);
                let (left, next, share) = between(x, size);
                let (top, below, part) = between(y, size);
                let corners = [
                    (top * size + left, (1.0 - part) * (1.0 - share)),
                    (top * size + next, (1.0 - part) * share),
                    (below * size + left, part * (1.0 - share)),
                    (below * size + next, part * share),
                ];
                let mean = |map: &[f32], channels: usize, channel: usize| -> f32 {
                    corners.iter().map(|(at, weight)| weight * map[at * channels + channel]).sum()
                };
                let is_inside = [x, y].iter().all(|place| (0.0..=last).contains(place));
                let is_known =
                    is_inside && corners.iter().all(|(at, weight)| *weight == 0.0 || truth.mask[*at] != 0);
                mask.push(u8::from(is_known));
                depth.push(1.0 + (mean(&truth.depth, 1, 0) - 1.0) / self.scale);
                albedo.extend((0..3).map(|channel| mean(&truth.albedo, 3, channel)));
                let [x, y, z] = [0, 1, 2].map(|axis| mean(&truth.normals, 3, axis));
                let length = (x * x + y * y + z * z).sqrt().max(f32::MIN_POSITIVE);
                let [x, y] = turn([x, y]);
                normals.extend([x, y, z].map(|axis| axis / length));
            }
        }
        let [pitch, yaw, roll, x, y, z] = truth.view;
        // The side of the image at distance 1; its outermost pixels' centres are the field of view apart.
        let between_centres = 2.0 * (truth.field_of_view.to_radians() / 2.0).tan();
        let side = between_centres * size as f32 / (size as f32 - 1.0).max(1.0);
        let [x, y] = turn([x - self.shift[0] * side, y - self.shift[1] * side]);
        let [x, y, z] = [x, y, z].map(|distance| distance / self.scale);
        let view = [pitch, yaw, roll - self.angle, x, y, z];
        Truth { depth, normals, albedo, mask, view, ..*truth }
    }

    /// Where points of an image of `size` x `size` pixels lie in the crop.
    pub fn of_points(&self, FacePoints(points): FacePoints, size: usize) -> FacePoints {
        let (sine, cosine) = self.angle.sin_cos();
        let middle = ((size as f32 - 1.0) / 2.0).max(f32::MIN_POSITIVE);
        FacePoints(points.map(|point| {
            let [x, y] = [0, 1].map(|axis| point[axis] * middle - self.shift[axis] * size as f32);
            [x * cosine + y * sine, y * cosine - x * sine].map(|place| place / (self.scale * middle))
        }))
    }

    /// Where the pixel at a row and a column of the crop lies in an image of `size` x `size` pixels: column and row
    /// there.
    fn places(&self, size: usize) -> impl Fn(usize, usize) -> [f32; 2] {
        let (sine, cosine) = self.angle.sin_cos();
        let middle = (size as f32 - 1.0) / 2.0;
        let [x_middle, y_middle] = self.shift.map(|shift| middle + shift * size as f32);
        let scale = self.scale;
        move |row, column| {
            let [down, right] = [row, column].map(|at| (at as f32 - middle) * scale);
            [x_middle + right * cosine - down * sine, y_middle + right * sine + down * cosine]
        }
    }
}

/// Two neighbours along an axis of `size` pixels, and how far a place is from the first to the second.
fn between(place: f32, size: usize) -> (usize, usize, f32) {
    let place = place.clamp(0.0, size as f32 - 1.0);
    let first = (place as usize).min(size.saturating_sub(2));
    (first, (first + 1).min(size - 1), place - first as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_move_with_the_pixels_that_show_them() {
        let crop = Crop { shift: [0.07, -0.04], scale: 0.8, angle: 0.3 };
        let size = 21;
        let place = crop.places(size);
        let signed = |at: f32| at / 10.0 - 1.0;
        let rows_and_columns = [(3, 5), (10, 10), (0, 20), (17, 2), (20, 20)];
        let points = rows_and_columns.map(|(row, column)| place(row, column).map(signed));
        let FacePoints(found) = crop.of_points(FacePoints(points), size);
        for ([x, y], (row, column)) in found.into_iter().zip(rows_and_columns) {
            let off = (x - signed(column as f32)).abs().max((y - signed(row as f32)).abs());
            assert!(off < 1e-5, "{row}, {column}: {x}, {y}");
        }
    }
    use crate::flip::tests::moved;
    use crate::sample::Light;

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

    /// A truth of `SIZE` x `SIZE` pixels whose depth grows to the right.
    fn slope() -> Truth {
        let count = SIZE * SIZE;
        Truth {
            depth: (0..count).map(|at| 1.0 + 1e-3 * (at % SIZE) as f32).collect(),
            normals: [0.6, 0.0, 0.8].repeat(count),
            albedo: (0..count).flat_map(|at| [(at % SIZE) as f32, (at / SIZE) as f32, 0.5]).collect(),
            mask: (0..count).map(|at| u8::from(at % SIZE > 5)).collect(),
            light: Light { ambient: 0.3, diffuse: 0.6, direction: [0.6, 0.0, 0.8] },
            view: [0.1, -0.2, 0.3, 0.01, -0.02, 0.03],
            field_of_view: 10.0,
        }
    }

    #[test]
    fn the_maps_of_a_crop_show_what_its_image_shows() {
        let still = Crop { shift: [0.0; 2], scale: 1.0, angle: 0.0 };
        let again = Truth { normals: slope().normals, ..still.of_truth(&slope(), SIZE) };
        assert_eq!(again, slope());
        let crop = Crop { shift: [0.05, -0.1], scale: 0.9, angle: 0.4 };
        let truth = crop.of_truth(&slope(), SIZE);
        let image = crop.of(&gradient());
        let mut known = 0;
        for at in (0..SIZE * SIZE).filter(|at| truth.mask[*at] == 1) {
            let [red, green] = [0, 1].map(|channel| f32::from(image.pixels[3 * at + channel]) / 3.0);
            let [column, row] = [truth.albedo[3 * at], truth.albedo[3 * at + 1]];
            assert!((column - red).abs() < 0.4 && (row - green).abs() < 0.4, "{column} {row}, {red} {green}");
            assert!(column > 5.0 && (truth.albedo[3 * at + 2] - 0.5).abs() < 1e-6);
            assert!((truth.depth[at] - 1.0 - 1e-3 * column / 0.9).abs() < 1e-5);
            known += 1;
        }
        assert!((SIZE * SIZE / 2..SIZE * SIZE * 99 / 100).contains(&known), "{known}");
        // Turned by the crop's angle against it: what pointed right points up.
        let normal = &truth.normals[..3];
        let right = [0.6 * 0.4_f32.cos(), -0.6 * 0.4_f32.sin(), 0.8];
        assert!(normal.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-5), "{normal:?}");
        assert_eq!(truth.light, slope().light);
    }

    /// A point of the object, scaled as the crop scales it and seen from the crop's view, lies where the crop shows the
    /// pixel in which the point was before.
    #[test]
    fn the_view_of_a_crop_sees_what_it_shows() {
        let focal = (SIZE as f64 - 1.0) / 2.0 / 5.0_f64.to_radians().tan();
        let project = |[x, y, z]: [f64; 3]| [focal * x / z, focal * y / z].map(|place| place + 32.0);
        for crop in [
            Crop { shift: [0.0; 2], scale: 1.0, angle: 0.3 },
            Crop { shift: [0.05, -0.03], scale: 1.0, angle: 0.0 },
            Crop { shift: [0.0; 2], scale: 0.95, angle: 0.0 },
            Crop { shift: [0.05, -0.03], scale: 1.05, angle: -0.25 },
        ] {
            let truth = crop.of_truth(&slope(), SIZE);
            let place = crop.places(SIZE);
            for point in [[0.0, 0.0, 0.93], [0.05, -0.04, 1.0], [-0.04, 0.05, 1.05]] {
                let before = project(moved(point, slope().view));
                let scale = f64::from(crop.scale);
                let scaled = [point[0] / scale, point[1] / scale, 1.0 + (point[2] - 1.0) / scale];
                let [column, row] = project(moved(scaled, truth.view));
                // From pixel to pixel the place changes by the crop's scale, so the nearest pixel's will do.
                let [right, down] = [column, row].map(f64::round);
                let found = place(down as usize, right as usize).map(f64::from);
                let (sine, cosine) = f64::from(crop.angle).sin_cos();
                let [right, down] = [(column - right) * scale, (row - down) * scale];
                let found =
                    [found[0] + right * cosine - down * sine, found[1] + right * sine + down * cosine];
                let exact = crop.shift == [0.0; 2] && crop.scale == 1.0;
                let tolerance = if exact { 1e-3 } else { 0.35 };
                assert!(
                    found.iter().zip(before).all(|(a, b)| (a - b).abs() < tolerance),
                    "{crop:?}: {found:?} for {before:?}"
                );
            }
        }
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
