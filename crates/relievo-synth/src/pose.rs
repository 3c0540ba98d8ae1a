//! The pose of a head: scaled and placed as a face crop frames it, turned, and placed again.
//!
//! Frame coordinates are those of the image plane: (-0.5, -0.5) is the centre of the first pixel of the image and
//! (0.5, 0.5) that of the last, so nothing here depends on the image's size. The crop is the one that real images
//! get: with E the middle between the eyes and M the middle between the mouth's corners, its side is
//! max(|EM| / 0.365, |eye - eye| / 0.371) and its centre lies at (E + M) / 2, 0.015 sides further up.
//!
//! The canonical head is frontal, its plane of symmetry in the middle of the frame, its size such that the crop's side
//! is the frame's, up to jitter, and the tip of its nose at a fixed depth. The view turns it about (0, 0, 1) and shifts
//! it so that the crop of the turned head is centred in the frame again, as crops of photographs are. The size is not
//! adapted once more: that would be a translation along z, which the model of faces does not have.

use relievo_render::{Camera, Motion};

use crate::asset::{HeadModel, Part, Region};
use crate::random::Draws;
use crate::variation::Variation;

/// A camera whose pixels' distance is the frame's side.
fn frame_camera() -> Camera {
    Camera::new(2)
}

/// Side of the frame at depth 1, units.
fn frame_side() -> f32 {
    2.0 * frame_camera().half_width()
}

/// The landmarks that a face crop is made from, as vertices (centres of groups) of the model.
pub(crate) struct Landmarks {
    eyes: [Vec<u16>; 2],
    mouth_corners: [u16; 2],
}

/// A viewpoint.
pub(crate) struct View {
    /// Rotation about x, y, z (radians), translation along x, y, z (units).
    pub parameters: [f32; 6],
    motion: Motion,
}

/// Centre (frame coordinates) and side (of the frame's) of a crop.
struct Crop {
    centre: [f32; 2],
    side: f32,
}

impl Landmarks {
    pub fn find(model: &HeadModel) -> Self {
        // The front of each eyeball: where the iris is.
        let eyes = [Part::LeftEye, Part::RightEye].map(|part| {
            let mut of_eye: Vec<u16> = (model.triangles.iter().zip(&model.parts))
                .filter(|(_, p)| **p == part)
                .flat_map(|(corners, _)| *corners)
                .collect();
            of_eye.sort_unstable();
            of_eye.dedup();
            let front = of_eye.iter().map(|&v| model.vertices[usize::from(v)][2]).fold(f32::MIN, f32::max);
            of_eye.retain(|&v| model.vertices[usize::from(v)][2] > front - 0.03);
            of_eye
        });
        let lips = (0..model.vertices.len()).filter(|&v| model.masks[v][Region::Lips as usize] > 0.5);
        let by_x = |a: &usize, b: &usize| model.vertices[*a][0].total_cmp(&model.vertices[*b][0]);
        let right = lips.clone().max_by(by_x).unwrap_or_default() as u16;
        let left = lips.min_by(by_x).unwrap_or_default() as u16;
        Self { eyes, mouth_corners: [right, left] }
    }

    /// Crop of a head whose vertices are in the camera's frame.
    fn crop(&self, place: impl Fn(u16) -> [f32; 3]) -> Crop {
        let [right, left] = [0, 1].map(|side| {
            let group = &self.eyes[side];
            let mut sum = [0.0; 3];
            for &vertex in group {
                let point = place(vertex);
                for axis in 0..3 {
                    sum[axis] += point[axis];
                }
            }
            project(sum.map(|s| s / group.len() as f32))
        });
        let corners = self.mouth_corners.map(|vertex| project(place(vertex)));
        let middle = |a: [f32; 2], b: [f32; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
        let distance = |a: [f32; 2], b: [f32; 2]| ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt();
        let eyes = middle(right, left);
        let mouth = middle(corners[0], corners[1]);
        let side = (distance(eyes, mouth) / 0.365).max(distance(right, left) / 0.371);
        let centre = middle(eyes, mouth);
        Crop { centre: [centre[0], centre[1] - 0.015 * side], side }
    }
}

/// Frame coordinates of a point in the camera's frame.
fn project(point: [f32; 3]) -> [f32; 2] {
    frame_camera().project(point).map(|place| place - frame_camera().centre())
}

/// Where a head is in the canonical frame: from decimetres, y up, to units, x right, y down, z away from the camera.
pub(crate) struct Placement {
    scale: f32,
    middle: f32,
    nose: f32,
    nose_depth: f32,
}

impl Placement {
    /// Draws the place of a head with these vertices.
    pub fn draw(landmarks: &Landmarks, points: &[[f32; 3]], draws: &mut Draws) -> Self {
        let size = 1.0 + 0.035 * draws.bell();
        let height = 0.012 * draws.bell();
        let nose = points.iter().map(|p| p[2]).fold(f32::MIN, f32::max);
        let nose_depth = 0.922 + 0.006 * draws.bell();
        // Perspective is weak, so the fixed point is reached to single precision in a few rounds.
        let mut placement = Self { scale: 0.0966, middle: 7.0, nose, nose_depth };
        for _ in 0..6 {
            let crop = landmarks.crop(|v| placement.of(points[usize::from(v)]));
            placement.middle += (height - crop.centre[1]) * frame_side() / placement.scale;
            placement.scale *= size / crop.side;
        }
        placement
    }

    /// A vertex in the canonical frame.
    pub fn of(&self, [x, y, z]: [f32; 3]) -> [f32; 3] {
        let &Self { scale, middle, nose, nose_depth } = self;
        [x * scale, (middle - y) * scale, nose_depth + (nose - z) * scale]
    }
}

impl View {
    /// Draws a viewpoint for a canonical head.
    pub fn draw(
        landmarks: &Landmarks,
        points: &[[f32; 3]],
        variation: &Variation,
        draws: &mut Draws,
    ) -> Self {
        let degrees = |value: f32| value.to_radians();
        let yaw = match draws.pick(&[0.7, 0.3]) {
            0 => 13.0 * draws.bell(),
            _ => 24.0 * draws.bell(),
        };
        let pitch = variation.largest_pitch();
        let rotation = [
            degrees((variation.pitch_spread * draws.bell()).clamp(-pitch, pitch)),
            degrees(yaw.clamp(-50.0, 50.0)),
            degrees((4.0 * draws.bell()).clamp(-10.0, 10.0)),
        ];
        let wanted = [0.012 * draws.bell(), 0.012 * draws.bell()];
        let [x, y, z] = rotation;
        let mut view = Self::new([x, y, z, 0.0, 0.0, 0.0]);
        for _ in 0..4 {
            let crop = landmarks.crop(|v| view.apply(points[usize::from(v)]));
            let [_, _, _, tx, ty, _] = view.parameters;
            let [dx, dy] = [0, 1].map(|axis| (wanted[axis] - crop.centre[axis]) * frame_side());
            view = Self::new([x, y, z, tx + dx, ty + dy, 0.0]);
        }
        view
    }

    pub fn new(parameters: [f32; 6]) -> Self {
        Self { parameters, motion: Motion::new(parameters) }
    }

    /// A canonical point, seen from here.
    pub fn apply(&self, point: [f32; 3]) -> [f32; 3] {
        self.motion.apply(point)
    }

    /// A canonical direction, seen from here.
    pub fn rotate(&self, direction: [f32; 3]) -> [f32; 3] {
        self.motion.rotation.map(|row| row[0] * direction[0] + row[1] * direction[1] + row[2] * direction[2])
    }
}
