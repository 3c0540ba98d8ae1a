//! The square a face is cropped to: the same for photographs to learn from and for those to reconstruct.

use relievo_data::{Image, Rectangle};
use serde::{Deserialize, Serialize};

use crate::face::{Area, Face, Landmarks, middle};

/// From the middle between the eyes to that between the corners of the mouth, in sides of the frame.
const EYES_TO_MOUTH: f32 = 0.365;

/// From eye to eye, in sides of the frame; whichever of the two asks for the larger frame counts.
const EYE_TO_EYE: f32 = 0.371;

/// How far the frame's centre lies above the middle between eyes and mouth, in its sides.
const ABOVE: f32 = 0.015;

/// A frame of which more than this share lies outside the image shows too little of the face.
pub const MOST_OUTSIDE: f32 = 0.12;

/// Heads that lean by more than so many degrees are turned upright. Models know heads that lean somewhat, and find by
/// how much: on synthetic heads turned by 10 degrees SIDE is what it is without, at 20 up to 0.2 more, at 30 twice that
/// and more (docs/notebook.md, "Heads that lean").
const LEANS: f32 = 15.0;

/// A square in pixels of the upright image, whose upper left corner is (0, 0).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Frame {
    /// Its middle (x, y).
    pub centre: [f32; 2],
    /// Its height and width.
    pub side: f32,
    /// By how much it is turned about its middle, in degrees from right to down.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub turned_degrees: f32,
}

/// For serde: squares that are not turned do not say so.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

impl Face {
    /// The square from chin to forehead that models of faces learn from. The head is not turned upright.
    pub fn frame(&self) -> Frame {
        self.frame_turned(0.0)
    }

    /// [`Face::frame`], turned with a head that leans by more than models have seen.
    pub fn level_frame(&self) -> Frame {
        self.frame_turned(if self.leans() { self.landmarks.roll() } else { 0.0 })
    }

    /// Whether the head leans by more than models have seen.
    pub(crate) fn leans(&self) -> bool {
        self.landmarks.roll().abs() > LEANS
    }

    fn frame_turned(&self, turned_degrees: f32) -> Frame {
        let Landmarks { right_eye, left_eye, .. } = self.landmarks;
        let distance = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        let (eyes, mouth) = self.landmarks.eyes_and_mouth();
        let side = (distance(eyes, mouth) / EYES_TO_MOUTH).max(distance(right_eye, left_eye) / EYE_TO_EYE);
        let [x, y] = middle(eyes, mouth);
        let (right, down) = turned_degrees.to_radians().sin_cos();
        Frame { centre: [x + ABOVE * side * right, y - ABOVE * side * down], side, turned_degrees }
    }
}

/// Rows and columns of the grid of [`Frame::turned_outside`].
const PLACES: usize = 64;

impl Frame {
    /// That of one which is not turned.
    fn rectangle(&self) -> Rectangle {
        let [x, y, side] = [self.centre[0], self.centre[1], self.side].map(f64::from);
        Rectangle { left: x - side / 2.0, top: y - side / 2.0, width: side, height: side }
    }

    /// Pixels that lie in both of two frames over pixels that lie in either, as if neither were turned.
    pub fn overlap(&self, other: &Self) -> f32 {
        self.area().overlap(&other.area())
    }

    /// The box of one that is not turned.
    pub(crate) fn area(&self) -> Area {
        let ([x, y], half) = (self.centre, self.side / 2.0);
        Area { left: x - half, top: y - half, right: x + half, bottom: y + half }
    }

    /// The share of the frame that lies outside an image of `width` x `height` pixels, in \[0,1\].
    pub fn outside(&self, width: u32, height: u32) -> f32 {
        if self.turned_degrees != 0.0 {
            return self.turned_outside([width, height].map(|extent| extent as f32));
        }
        let Rectangle { left, top, .. } = self.rectangle();
        let side = f64::from(self.side);
        let inside = |from: f64, extent: u32| ((from + side).min(f64::from(extent)) - from.max(0.0)).max(0.0);
        (1.0 - inside(left, width) * inside(top, height) / (side * side)) as f32
    }

    /// [`Frame::outside`] of a turned one: of a grid of places, those outside.
    fn turned_outside(&self, extents: [f32; 2]) -> f32 {
        let (sine, cosine) = self.turned_degrees.to_radians().sin_cos();
        let place = |at: usize| ((at as f32 + 0.5) / PLACES as f32 - 0.5) * self.side;
        let is_outside = |&at: &usize| {
            let (right, down) = (place(at % PLACES), place(at / PLACES));
            let offset = [right * cosine - down * sine, right * sine + down * cosine];
            (0..2).any(|axis| !(0.0..=extents[axis]).contains(&(self.centre[axis] + offset[axis])))
        };
        (0..PLACES * PLACES).filter(is_outside).count() as f32 / (PLACES * PLACES) as f32
    }

    /// What the frame shows of the image, at `size` x `size` pixels. Where it reaches out of the image, the pixels
    /// of the edge are repeated.
    pub fn cut(&self, image: &Image, size: u32) -> Image {
        if self.turned_degrees != 0.0 {
            let side = f64::from(self.side);
            return image.turned_square(
                self.centre.map(f64::from),
                side,
                self.turned_degrees.to_radians(),
                size,
            );
        }
        image.resampled(self.rectangle(), size, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frontal face: eyes on row 40, mouth on row 40 + `down`, eyes `apart`.
    fn face(apart: f32, down: f32) -> Face {
        let (x, y) = (50.0, 40.0);
        let points = [
            [x - apart / 2.0, y],
            [x + apart / 2.0, y],
            [x, y + down / 2.0],
            [x - 10.0, y + down],
            [x + 10.0, y + down],
        ];
        let area = Area { left: 0.0, top: 0.0, right: 100.0, bottom: 100.0 };
        Face { area, score: 1.0, landmarks: Landmarks::from_points(points) }
    }

    #[test]
    fn the_frame_follows_the_larger_of_the_two_distances() {
        let frame = face(20.0, 36.5).frame();
        assert!((frame.side - 100.0).abs() < 1e-3, "{frame:?}");
        assert_eq!(frame.centre[0], 50.0);
        assert!((frame.centre[1] - (40.0 + 18.25 - 1.5)).abs() < 1e-3, "{frame:?}");
        assert!((face(74.2, 36.5).frame().side - 200.0).abs() < 1e-3);
    }

    #[test]
    fn the_frame_turns_with_a_head_that_leans_far() {
        let lean = |degrees: f32| {
            let (sine, cosine) = degrees.to_radians().sin_cos();
            let upright = face(20.0, 36.5);
            let turned = |[x, y]: [f32; 2]| [x * cosine - y * sine, x * sine + y * cosine];
            Face { landmarks: Landmarks::from_points(upright.landmarks.points().map(turned)), ..upright }
        };
        let upright = lean(0.0).level_frame();
        assert_eq!(upright, face(20.0, 36.5).frame());
        for degrees in [-170.0, -60.0, -16.0, 16.0, 90.0, 150.0] {
            let (leaning, frame) = (lean(degrees), lean(degrees).level_frame());
            assert!((leaning.landmarks.roll() - degrees).abs() < 1e-3, "{}", leaning.landmarks.roll());
            assert!((frame.turned_degrees - degrees).abs() < 1e-3 && (frame.side - 100.0).abs() < 1e-3);
            // As far from the eyes as upright, below or beside them.
            let (sine, cosine) = degrees.to_radians().sin_cos();
            let [x, y] = upright.centre;
            let right = [x * cosine - y * sine, x * sine + y * cosine];
            assert!((0..2).all(|axis| (frame.centre[axis] - right[axis]).abs() < 1e-3), "{frame:?}");
        }
        assert_eq!(lean(14.0).level_frame(), lean(14.0).frame());
    }

    #[test]
    fn the_share_outside_is_measured_and_the_edge_repeated() {
        let frame = |x: f32, y: f32| Frame { centre: [x, y], side: 10.0, turned_degrees: 0.0 };
        assert_eq!(frame(10.0, 10.0).outside(20, 20), 0.0);
        assert!((frame(4.0, 10.0).outside(20, 20) - 0.1).abs() < 1e-6);
        assert!((frame(4.0, 18.0).outside(20, 20) - 0.37).abs() < 1e-6);
        assert_eq!(frame(-20.0, 10.0).outside(20, 20), 1.0);
        // The corners of one that stands on its point, and half of one that stands on an edge.
        let turned = |x: f32| Frame { turned_degrees: 45.0, ..frame(x, 10.0) };
        assert_eq!(turned(10.0).outside(20, 20), 0.0);
        let corner = (5.0 * std::f32::consts::SQRT_2 - 6.0) / 10.0;
        assert!((turned(6.0).outside(20, 20) - corner * corner).abs() < 5e-3);
        assert!((turned(0.0).outside(20, 20) - 0.5).abs() < 0.02);
        // An image whose columns have a shade each.
        let pixels = (0..20 * 20).flat_map(|at| [(10 * (at % 20)) as u8; 3]).collect();
        let image = Image { width: 20, height: 20, pixels };
        let cut = frame(2.0, 10.0).cut(&image, 10);
        let row: Vec<u8> = cut.pixels.chunks_exact(3).take(10).map(|pixel| pixel[0]).collect();
        assert_eq!(row, [0, 0, 0, 0, 10, 20, 30, 40, 50, 60]);
        let far = frame(-500.0, 900.0).cut(&image, 4);
        assert!(far.pixels.iter().all(|value| *value == 0));
    }
}
