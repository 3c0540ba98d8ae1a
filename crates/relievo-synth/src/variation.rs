//! How far heads are turned, how high their light stands, and how much their sides differ.

/// Ranges of the draws that a user may widen. The default is that of every head before there was a choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variation {
    /// Standard deviation of the pitch (rotation about x: nodding) in degrees, 5.5 by default. Pitch is clamped at 30/11
    /// times this, 15 degrees by default.
    pub pitch_spread: f32,
    /// Standard deviation of the light's height, the tangent of its elevation seen from the canonical head, 0.35 by
    /// default. Its mean is 0.2, a little above; it is clamped to \[-1,1\], 45 degrees, which is all that the model can
    /// express.
    pub elevation_spread: f32,
    /// Factor on the differences in shape between the two sides of a face, 1 by default; 4 makes faces that nobody would
    /// call symmetric.
    pub asymmetry: f32,
}

impl Variation {
    /// The greatest pitch spread in degrees: beyond it heads turn further than the model's 60 degrees.
    pub const LARGEST_PITCH_SPREAD: f32 = 20.0;
    /// The greatest elevation spread: beyond it nearly all lights are clamped.
    pub const LARGEST_ELEVATION_SPREAD: f32 = 2.0;

    /// The greatest asymmetry: beyond it faces fold over themselves.
    pub const LARGEST_ASYMMETRY: f32 = 10.0;

    /// Where pitch is clamped, in degrees.
    pub(crate) fn largest_pitch(&self) -> f32 {
        15.0 * (self.pitch_spread / Self::default().pitch_spread)
    }
}

impl Default for Variation {
    fn default() -> Self {
        Self { pitch_spread: 5.5, elevation_spread: 0.35, asymmetry: 1.0 }
    }
}
