//! How cameras and lights move in pictures that are shown again and again.

use std::f32::consts::TAU;

use relievo_data::Light;

use crate::Camera;

/// How a camera moves around an object. Every path begins and ends at the front, so that it can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum CameraPath {
    /// From side to side
    #[default]
    Turntable,
    /// Up and down
    Nod,
    /// From side to side, and twice up and down on the way
    FigureEight,
}

impl CameraPath {
    /// Cameras at `count` moments of the path, evenly spread in time, at most `degrees` from the front.
    pub fn cameras(self, degrees: f32, count: usize) -> impl Iterator<Item = Camera> {
        (0..count).map(move |number| {
            let angle = TAU * number as f32 / count as f32;
            let (once, twice) = (angle.sin(), (2.0 * angle).sin());
            match self {
                Self::Turntable => Camera::yaw(degrees * once),
                Self::Nod => Camera::front().with_pitch(degrees * once),
                Self::FigureEight => Camera::yaw(degrees * once).with_pitch(0.4 * degrees * twice),
            }
        })
    }
}

/// How a light moves in front of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum LightPath {
    /// Once around the direction of the viewer: right, above, left, below
    #[default]
    Circle,
    /// From side to side
    Sweep,
}

impl LightPath {
    /// Lights at `count` moments of the path, evenly spread in time, at most `degrees` from the viewer's direction.
    pub fn lights(self, degrees: f32, count: usize) -> impl Iterator<Item = Light> {
        (0..count).map(move |number| {
            let (sine, cosine) = (TAU * number as f32 / count as f32).sin_cos();
            match self {
                Self::Circle => Light::from_angles(degrees * cosine, degrees * sine),
                Self::Sweep => Light::from_angles(degrees * sine, 0.0),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_the_front_and_stay_within_their_angle() {
        for path in [CameraPath::Turntable, CameraPath::Nod, CameraPath::FigureEight] {
            let cameras: Vec<Camera> = path.cameras(40.0, 100).collect();
            assert_eq!((cameras.len(), cameras[0]), (100, Camera::front()), "{path:?}");
            let most =
                cameras.iter().map(|camera| camera.yaw.abs().max(camera.pitch.abs())).fold(0.0, f32::max);
            assert!((most - 40.0).abs() < 0.01, "{path:?}: {most}");
        }
    }

    #[test]
    fn a_light_goes_to_both_sides() {
        for path in [LightPath::Circle, LightPath::Sweep] {
            let x: Vec<f32> = path.lights(60.0, 8).map(|light| light.direction[0]).collect();
            let [least, most] =
                [x.iter().copied().fold(0.0, f32::min), x.iter().copied().fold(0.0, f32::max)];
            assert!((most - 0.866).abs() < 0.01 && (least + 0.866).abs() < 0.01, "{path:?}: {x:?}");
        }
    }
}
