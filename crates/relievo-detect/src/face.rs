//! Faces: box, landmarks, score; and non-maximum suppression.

use serde::{Deserialize, Serialize};

/// A box in pixels of the upright image, whose upper left corner is (0, 0). It may reach out of the image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Area {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Right edge.
    pub right: f32,
    /// Lower edge.
    pub bottom: f32,
}

impl Area {
    /// Columns.
    pub(crate) fn width(&self) -> f32 {
        self.right - self.left
    }

    /// Rows.
    pub fn height(&self) -> f32 {
        self.bottom - self.top
    }

    /// Pixels.
    pub fn pixels(&self) -> f32 {
        self.width() * self.height()
    }

    /// Pixels that lie in both.
    pub(crate) fn shared(&self, other: &Self) -> f32 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    /// Shared pixels over pixels that lie in either: 1 for the same box, 0 for two that do not touch.
    pub fn overlap(&self, other: &Self) -> f32 {
        let shared = self.shared(other);
        shared / (self.pixels() + other.pixels() - shared)
    }

    /// The same box after every point went from p to `offset + p * scale` (x, y).
    pub(crate) fn moved(&self, offset: [f32; 2], scale: [f32; 2]) -> Self {
        Self {
            left: offset[0] + self.left * scale[0],
            top: offset[1] + self.top * scale[1],
            right: offset[0] + self.right * scale[0],
            bottom: offset[1] + self.bottom * scale[1],
        }
    }
}

/// Points of a face (x, y) in pixels of the upright image. Right and left are the person's: the right eye is on the
/// left in the image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Landmarks {
    /// Middle of the right eye.
    pub right_eye: [f32; 2],
    /// Middle of the left eye.
    pub left_eye: [f32; 2],
    /// Tip of the nose.
    pub nose: [f32; 2],
    /// Right corner of the mouth.
    pub right_mouth: [f32; 2],
    /// Left corner of the mouth.
    pub left_mouth: [f32; 2],
}

impl Landmarks {
    /// In the order of the fields, which is the network's.
    pub fn points(&self) -> [[f32; 2]; 5] {
        [self.right_eye, self.left_eye, self.nose, self.right_mouth, self.left_mouth]
    }

    /// From points in the order of [`Landmarks::points`].
    pub(crate) fn from_points([right_eye, left_eye, nose, right_mouth, left_mouth]: [[f32; 2]; 5]) -> Self {
        Self { right_eye, left_eye, nose, right_mouth, left_mouth }
    }

    /// How far the head is turned about the vertical axis, in degrees, about, with the sign of the model's viewpoint:
    /// positive where it looks to the left of the image.
    ///
    /// A nose that stands out by p in front of the middle between eyes 2 e apart is seen p sin(yaw) beside it, and the
    /// eyes 2 e cos(yaw) apart.
    pub fn yaw(&self) -> f32 {
        let [right, left] = [self.right_eye, self.left_eye];
        let across = [left[0] - right[0], left[1] - right[1]];
        let squared = across[0] * across[0] + across[1] * across[1];
        if squared <= 0.0 {
            return 90.0_f32.copysign(right[0] - self.nose[0]);
        }
        let beside = [self.nose[0] - (left[0] + right[0]) / 2.0, self.nose[1] - (left[1] + right[1]) / 2.0];
        let share = 2.0 * (beside[0] * across[0] + beside[1] * across[1]) / squared;
        -(share * HALF_EYES_BY_NOSE).atan().to_degrees()
    }

    /// The middles between the eyes and between the corners of the mouth.
    pub(crate) fn eyes_and_mouth(&self) -> ([f32; 2], [f32; 2]) {
        (middle(self.right_eye, self.left_eye), middle(self.right_mouth, self.left_mouth))
    }

    /// How far the head is turned in the plane of the image, in degrees from right to down: 0 where it is upright, 90
    /// where its chin is on the left.
    ///
    /// Both the line from eye to eye and the one down to the mouth tell, each by its length: the former is short in a
    /// head that looks to the side, the latter in one that looks down.
    pub fn roll(&self) -> f32 {
        let (eyes, mouth) = self.eyes_and_mouth();
        let [across, down] = [
            [self.left_eye[0] - self.right_eye[0], self.left_eye[1] - self.right_eye[1]],
            [mouth[0] - eyes[0], mouth[1] - eyes[1]],
        ];
        (across[1] - down[0]).atan2(across[0] + down[1]).to_degrees()
    }
}

/// The middle between two points.
pub(crate) fn middle(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0]
}

/// e / p of [`Landmarks::yaw`]: the best for 200 synthetic heads, whose yaw is known (median error 3.5 degrees).
const HALF_EYES_BY_NOSE: f32 = 1.08;

/// A face that was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Face {
    /// From forehead to chin, ears not included.
    #[serde(rename = "box")]
    pub area: Area,
    /// The network's certainty, in \[0,1\].
    pub score: f32,
    /// Eyes, nose and mouth.
    pub landmarks: Landmarks,
}

impl Face {
    /// The same face after every point went from p to `offset + p * scale`.
    pub(crate) fn moved(&self, offset: [f32; 2], scale: [f32; 2]) -> Self {
        let points =
            self.landmarks.points().map(|[x, y]| [offset[0] + x * scale[0], offset[1] + y * scale[1]]);
        Self { area: self.area.moved(offset, scale), landmarks: Landmarks::from_points(points), ..*self }
    }
}

/// Leaves the most certain one of boxes that overlap by more than `same`, and of those of which more than `part` lies
/// in a more certain one. Sorts by certainty.
pub(crate) fn suppress(faces: &mut Vec<Face>, same: f32, part: f32) {
    let place = |face: &Face| [face.area.left, face.area.top];
    // Equal scores: the order must not depend on the order found.
    faces.sort_by(|a, b| {
        let places = place(a).into_iter().zip(place(b));
        places.fold(b.score.total_cmp(&a.score), |order, (a, b)| order.then(a.total_cmp(&b)))
    });
    let mut kept: Vec<Face> = Vec::with_capacity(faces.len());
    for face in faces.drain(..) {
        let apart = |other: &Face| {
            other.area.overlap(&face.area) <= same
                && other.area.shared(&face.area) <= part * face.area.pixels()
        };
        if kept.iter().all(apart) {
            kept.push(face);
        }
    }
    *faces = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(left: f32, top: f32, side: f32, score: f32) -> Face {
        let area = Area { left, top, right: left + side, bottom: top + side };
        Face { area, score, landmarks: Landmarks::from_points([[0.0; 2]; 5]) }
    }

    #[test]
    fn of_boxes_that_overlap_the_most_certain_stays() {
        let mut faces = vec![
            face(0.0, 0.0, 10.0, 0.5),
            face(1.0, 0.0, 10.0, 0.9),
            face(6.0, 0.0, 10.0, 0.4), // overlaps the second by a third
            face(20.0, 0.0, 10.0, 0.4),
            face(2.0, 2.0, 4.0, 0.45), // a part of the second
            face(9.0, 9.0, 4.0, 0.45), // much smaller, and not all inside
        ];
        assert!((faces[0].area.overlap(&faces[1].area) - 90.0 / 110.0).abs() < 1e-6);
        suppress(&mut faces, 0.3, 0.9);
        let scores: Vec<f32> = faces.iter().map(|face| face.score).collect();
        assert_eq!(scores, [0.9, 0.45, 0.4]);
        assert_eq!(faces[2].area.left, 20.0);
    }

    #[test]
    fn yaw_has_the_sign_of_the_nose_and_does_not_depend_on_roll_or_size() {
        let turned = |nose: f32, roll: f32, size: f32| {
            let (sin, cos) = roll.to_radians().sin_cos();
            let points = [[-1.0, 0.0], [1.0, 0.0], [nose, 1.0], [-0.8, 2.0], [0.8, 2.0]];
            let points =
                points.map(|[x, y]: [f32; 2]| [size * (x * cos - y * sin), size * (x * sin + y * cos)]);
            Landmarks::from_points(points).yaw()
        };
        assert!(turned(0.0, 0.0, 1.0).abs() < 1e-4);
        assert!(turned(0.4, 0.0, 1.0) < -15.0 && turned(-0.4, 0.0, 1.0) > 15.0);
        assert!((turned(0.4, 0.0, 1.0) - turned(0.4, 25.0, 300.0)).abs() < 1e-3);
        assert!(Landmarks::from_points([[0.0; 2]; 5]).yaw().abs() <= 90.0);
    }
}
