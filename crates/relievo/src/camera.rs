//! From where a reconstruction is looked at.

/// A camera that looks at the middle of the object, at the distance of the photograph's. Angles are in degrees; with
/// all of them 0 it sees the object from the front (the canonical view).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Camera {
    /// Around the vertical axis: positive to the viewer's right, so the front of the object turns to the left.
    pub yaw: f32,
    /// Around the horizontal axis: positive upwards, so the object is seen from above.
    pub pitch: f32,
    /// Around the line of sight: positive turns the object clockwise.
    pub roll: f32,
    /// What is seen beside the object, 8-bit RGB.
    pub background: [u8; 3],
}

impl Camera {
    /// From the front, on white.
    pub const fn front() -> Self {
        Self { yaw: 0.0, pitch: 0.0, roll: 0.0, background: [255; 3] }
    }

    /// From the side, by this many degrees; see [`Camera::yaw`](#structfield.yaw).
    pub const fn yaw(degrees: f32) -> Self {
        Self { yaw: degrees, ..Self::front() }
    }

    /// From above (positive) or below.
    #[must_use]
    pub const fn with_pitch(self, degrees: f32) -> Self {
        Self { pitch: degrees, ..self }
    }

    /// Rolled about the line of sight.
    #[must_use]
    pub const fn with_roll(self, degrees: f32) -> Self {
        Self { roll: degrees, ..self }
    }

    /// On another background.
    #[must_use]
    pub const fn on(self, background: [u8; 3]) -> Self {
        Self { background, ..self }
    }

    /// The motion that turns the object instead: radians about x, y, z, and no translation.
    pub(crate) fn view(&self) -> [f32; 6] {
        let [x, y, z] = [self.pitch, self.yaw, self.roll].map(f32::to_radians);
        [x, y, z, 0.0, 0.0, 0.0]
    }
}

impl Default for Camera {
    fn default() -> Self {
        Self::front()
    }
}
