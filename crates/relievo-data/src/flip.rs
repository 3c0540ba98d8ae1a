//! Mirroring a sample about its vertical middle line: the image and everything that is known about it.

use crate::sample::{FacePoints, Image, Sample, Truth};

impl Sample {
    /// Mirrors the image, its truth and its points.
    pub(crate) fn flip(&mut self) {
        if let Some(points) = &mut self.points {
            points.flip();
        }
        if let Some(truth) = &mut self.truth {
            truth.flip(self.image.width as usize);
        }
        self.image.flip();
    }
}

impl Image {
    /// Mirrors the columns.
    pub(crate) fn flip(&mut self) {
        flip_rows::<_, 3>(&mut self.pixels, self.width as usize);
    }

    /// Its mirror image.
    pub(crate) fn mirrored(&self) -> Self {
        let mut mirrored = self.clone();
        mirrored.flip();
        mirrored
    }
}

impl FacePoints {
    /// Mirrors the places; what was the right eye is the left one now.
    fn flip(&mut self) {
        let Self([right_eye, left_eye, nose, right_mouth, left_mouth]) = *self;
        let swapped = [left_eye, right_eye, nose, left_mouth, right_mouth];
        *self = Self(swapped.map(|[x, y]| [-x, y]));
    }
}

impl Truth {
    /// Mirrors maps that are `width` pixels wide, the light and the viewpoint.
    ///
    /// Mirroring is x -> -x. With M = diag(-1,1,1), M Rz Ry Rx M turns about y and z the other way and about x the
    /// same way; the principal point is the middle of the image, so the maps only change sides.
    pub(crate) fn flip(&mut self, width: usize) {
        flip_rows::<_, 1>(&mut self.depth, width);
        flip_rows::<_, 3>(&mut self.normals, width);
        flip_rows::<_, 3>(&mut self.albedo, width);
        flip_rows::<_, 1>(&mut self.mask, width);
        for normal in self.normals.chunks_exact_mut(3) {
            normal[0] = -normal[0];
        }
        self.light.direction[0] = -self.light.direction[0];
        for mirrored in [1, 2, 3] {
            self.view[mirrored] = -self.view[mirrored];
        }
    }
}

fn flip_rows<T, const CHANNELS: usize>(values: &mut [T], width: usize) {
    for row in values.chunks_exact_mut(width * CHANNELS) {
        row.as_chunks_mut::<CHANNELS>().0.reverse();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sample::Light;

    #[test]
    fn the_right_eye_becomes_the_left_one() {
        let mut points = FacePoints([[-0.4, 0.0], [0.3, 0.1], [0.1, 0.2], [-0.3, 0.5], [0.2, 0.6]]);
        points.flip();
        assert_eq!(points, FacePoints([[-0.3, 0.1], [0.4, 0.0], [-0.1, 0.2], [-0.2, 0.6], [0.3, 0.5]]));
    }

    fn sample() -> Sample {
        let count = 3 * 3;
        Sample {
            name: "a".into(),
            image: Image { width: 3, height: 3, pixels: (0..27).collect() },
            truth: Some(Truth {
                depth: (0..count).map(|n| n as f32).collect(),
                normals: (0..count * 3).map(|n| n as f32).collect(),
                albedo: (0..count * 3).map(|n| n as f32).collect(),
                mask: vec![1, 0, 0, 1, 1, 0, 1, 1, 1],
                light: Light { ambient: 0.3, diffuse: 0.6, direction: [0.6, 0.0, 0.8] },
                view: [0.1, 0.2, 0.3, 0.01, 0.02, 0.03],
                field_of_view: 10.0,
            }),
            points: None,
        }
    }

    #[test]
    fn everything_changes_sides() {
        let mut sample = sample();
        sample.flip();
        assert_eq!(sample.image.pixels[..9], [6, 7, 8, 3, 4, 5, 0, 1, 2]);
        let truth = sample.truth.unwrap();
        assert_eq!(truth.depth, [2.0, 1.0, 0.0, 5.0, 4.0, 3.0, 8.0, 7.0, 6.0]);
        assert_eq!(truth.mask, [0, 0, 1, 0, 1, 1, 1, 1, 1]);
        assert_eq!(truth.albedo[..9], [6.0, 7.0, 8.0, 3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
        assert_eq!(truth.normals[..9], [-6.0, 7.0, 8.0, -3.0, 4.0, 5.0, -0.0, 1.0, 2.0]);
        assert_eq!(truth.light.direction, [-0.6, 0.0, 0.8]);
        assert_eq!(truth.view, [0.1, -0.2, -0.3, -0.01, 0.02, 0.03]);
    }

    #[test]
    fn twice_is_nothing() {
        let mut flipped = sample();
        flipped.flip();
        flipped.flip();
        assert_eq!(flipped, sample());
    }

    /// Moving a point by the view and then mirroring it is the same as mirroring it first and moving it by the
    /// mirrored view.
    #[test]
    fn the_mirrored_view_is_the_view_in_the_mirror() {
        let mut truth = sample().truth.unwrap();
        let point = [0.12, -0.07, 1.04];
        let mirror = |[x, y, z]: [f64; 3]| [-x, y, z];
        let expected = mirror(moved(point, truth.view));
        truth.flip(3);
        let got = moved(mirror(point), truth.view);
        for (a, b) in expected.iter().zip(got) {
            assert!((a - b).abs() < 1e-7, "{expected:?} {got:?}");
        }
    }

    /// The point moved by the view.
    pub(crate) fn moved([x, y, z]: [f64; 3], view: [f32; 6]) -> [f64; 3] {
        let [rx, ry, rz, tx, ty, tz] = view.map(f64::from);
        let z = z - 1.0;
        let (y, z) = (y * rx.cos() - z * rx.sin(), y * rx.sin() + z * rx.cos());
        let (x, z) = (x * ry.cos() + z * ry.sin(), -x * ry.sin() + z * ry.cos());
        let (x, y) = (x * rz.cos() - y * rz.sin(), x * rz.sin() + y * rz.cos());
        [x + tx, y + ty, z + 1.0 + tz]
    }
}
