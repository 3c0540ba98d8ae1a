//! Hair: a cap that grows out of the scalp.
//!
//! The hairline is a function of the place on the base mesh. Inside it the surface itself is pushed outwards, so hair
//! is part of the one closed surface, with exact depth and normals like the rest.

use crate::appearance::{Colour, along, mix};
use crate::asset::{HeadModel, Region};
use crate::identity::Identity;
use crate::random::{Draws, Noise, smoothstep};

pub(crate) struct Hair {
    colour: Colour,
    /// How far the hairline comes down the forehead, decimetres.
    low: f32,
    /// How far it draws back at the temples, decimetres.
    receding: f32,
    /// How thick the cap is, decimetres; negative values shave the head.
    thickness: f32,
    /// 0 bald, 1 full.
    density: f32,
    waves: Noise,
    strands: Noise,
}

/// Hair from black to fair.
const PIGMENT: [Colour; 6] = [
    [0.07, 0.06, 0.06],
    [0.14, 0.10, 0.08],
    [0.25, 0.16, 0.11],
    [0.40, 0.27, 0.17],
    [0.60, 0.45, 0.28],
    [0.78, 0.65, 0.44],
];

/// Front edge of the hair seen from the side: height, and how far to the front it reaches there.
const EDGE: [[f32; 2]; 11] = [
    [8.30, 1.90],
    [8.05, 1.44],
    [7.95, 1.28],
    [7.80, 1.06],
    [7.55, 0.90],
    [7.30, 0.80],
    [7.08, 0.74],
    [7.02, 0.40],
    [6.75, 0.20],
    [6.55, 0.02],
    [6.40, -0.60],
];

impl Hair {
    pub fn draw(identity: &Identity, draws: &mut Draws) -> Self {
        let Identity { ethnicity, male, child, old, .. } = *identity;
        let fair = draws.uniform() * ethnicity[2].powi(2) + draws.uniform() * 0.22;
        let mut colour = along(&PIGMENT, fair.clamp(0.0, 1.0));
        if ethnicity[2] > 0.6 && draws.chance(0.07) {
            colour = mix(colour, [0.52, 0.23, 0.11], 0.8);
        }
        let grey = smoothstep(0.35, 0.9, old + 0.15 * draws.bell());
        colour = mix(colour, [0.70, 0.69, 0.67].map(|c| c * draws.between(0.85, 1.1)), grey * 0.85);
        let bald = male > 0.6 && draws.chance(0.05 + 0.2 * old);
        Self {
            colour,
            low: if draws.chance(0.2) { draws.between(0.15, 0.4) } else { 0.06 + 0.06 * draws.bell() },
            receding: if male > 0.5 { draws.uniform().powi(2) * (0.08 + 0.25 * old) } else { 0.0 }
                * (1.0 - child),
            thickness: if bald { 0.0 } else { 0.03 + draws.uniform().powi(2) * (0.28 - 0.1 * male) },
            density: if bald { draws.uniform().powi(2) * 0.5 } else { 1.0 },
            waves: draws.noise(),
            strands: draws.noise(),
        }
    }

    /// Colour for brows and beard to take after.
    pub fn root_colour(&self) -> Colour {
        self.colour
    }

    /// Signed distance inside the hairline, decimetres, roughly.
    pub fn line(&self, [x, y, z]: [f32; 3]) -> f32 {
        let m = x.abs();
        let temple = self.receding * smoothstep(0.25, 0.5, m) * smoothstep(0.72, 0.55, m);
        let ragged = 0.025 * self.waves.at([m * 9.0, y * 9.0, z * 9.0]);
        // Only the front part comes down with `low`.
        let height = y + (self.low - temple) * smoothstep(0.8, 1.1, z) + ragged;
        let upper = EDGE.iter().take_while(|edge| edge[0] > height).count();
        let reach = match upper {
            0 => EDGE[0][1],
            n if n == EDGE.len() => return -1.0,
            n => {
                let [[high, front], [low, back]] = [EDGE[n - 1], EDGE[n]];
                back + (front - back) * (height - low) / (high - low)
            }
        };
        reach - z
    }

    /// How opaque the hair is at a place `inside` decimetres within the line.
    pub fn cover(&self, inside: f32, [x, y, z]: [f32; 3]) -> f32 {
        if inside < -0.06 || self.density <= 0.0 {
            return 0.0;
        }
        let strand = self.strands.at([x.abs() * 40.0, z * 40.0, y * 6.0]);
        smoothstep(-0.03, 0.05, inside + 0.04 * strand) * self.density
    }

    pub fn colour(&self, [x, y, z]: [f32; 3]) -> Colour {
        let m = x.abs();
        let strand = self.strands.at([m * 46.0, z * 46.0, y * 5.0]);
        let lock = self.waves.at([m * 11.0, z * 11.0, y * 2.0 + x * 0.4]);
        self.colour.map(|c| c * (1.0 + 0.42 * strand + 0.3 * lock))
    }

    /// Pushes the scalp out. `points` in decimetres, y up.
    pub fn grow(&self, model: &HeadModel, points: &mut [[f32; 3]]) {
        if self.thickness <= 0.0 {
            return;
        }
        let ears = Region::Ears as usize;
        for ((point, base), mask) in points.iter_mut().zip(&model.vertices).zip(&model.masks) {
            let inside = self.line(*base) - mask[ears] * 2.0;
            if inside <= 0.0 {
                continue;
            }
            // Away from the skull's middle, which near the scalp is the normal.
            let from_middle = [base[0], (base[1] - 7.45).max(-0.2), base[2] - 0.55];
            let length = from_middle.iter().map(|d| d * d).sum::<f32>().sqrt().max(0.3);
            let wave = 1.0 + 0.5 * self.waves.at([base[0].abs() * 4.0, base[1] * 4.0, base[2] * 4.0]);
            let out = self.thickness * smoothstep(0.0, 0.22, inside) * wave / length;
            for axis in 0..3 {
                point[axis] += from_middle[axis] * out;
            }
        }
    }
}
