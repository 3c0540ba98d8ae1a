//! Hair: a cap that grows out of the scalp, and a curtain that hangs from it.
//!
//! The hairline is a function of the place on the base mesh. Inside it the surface itself is pushed outwards, so short
//! hair is part of the one closed surface. Long hair is a second sheet around the head, open in front of the face; it
//! begins under the cap and covers the ears. Both have exact depth and normals like the rest.

use crate::asset::{HeadModel, Region};
use crate::colour::{Colour, along, mix};
use crate::curtain;
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
    curtain: Option<Curtain>,
    waves: Noise,
    strands: Noise,
}

/// How long hair falls.
struct Curtain {
    /// Height of its lower edge on the base head, decimetres.
    bottom: f32,
    /// Angle from the front at which it begins, radians, at the temples and at the bottom.
    opening: [f32; 2],
    /// Amplitude of its waves, decimetres.
    waviness: f32,
    /// How far it stands off, decimetres.
    volume: f32,
}

/// Hair from black to fair.
const PIGMENT: [Colour; 6] = [
    [0.10, 0.09, 0.085],
    [0.17, 0.12, 0.10],
    [0.29, 0.19, 0.13],
    [0.45, 0.31, 0.20],
    [0.66, 0.50, 0.32],
    [0.86, 0.73, 0.50],
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
        colour = mix(colour, along(&[[0.58, 0.57, 0.56], [0.82, 0.81, 0.79]], draws.uniform()), grey * 0.85);
        let bald = male > 0.6 && draws.chance(0.05 + 0.2 * old);
        let long = !bald && draws.chance(if male < 0.5 { 0.7 } else { 0.05 });
        let opening = draws.between(0.55, 0.9);
        let curtain = long.then(|| Curtain {
            bottom: if draws.chance(0.35) { draws.between(6.0, 6.5) } else { draws.between(5.3, 5.8) },
            opening: [opening, opening + draws.between(-0.15, 0.5)],
            waviness: draws.uniform().powi(2) * 0.09,
            volume: draws.uniform().powi(2) * 0.15,
        });
        Self {
            colour,
            low: if draws.chance(0.2) { draws.between(0.15, 0.4) } else { 0.06 + 0.06 * draws.bell() },
            receding: if male > 0.5 { draws.uniform().powi(2) * (0.08 + 0.25 * old) } else { 0.0 }
                * (1.0 - child),
            thickness: if bald { 0.0 } else { 0.03 + draws.uniform().powi(2) * (0.28 - 0.1 * male) },
            density: if bald { draws.uniform().powi(2) * 0.5 } else { 1.0 },
            curtain,
            waves: draws.noise(),
            strands: draws.noise(),
        }
    }

    /// Whether the curtain is part of the head.
    pub fn is_long(&self) -> bool {
        self.curtain.is_some()
    }

    /// Colour for brows and beard to take after.
    pub fn root_colour(&self) -> Colour {
        self.colour
    }

    /// Signed distance inside the hairline, decimetres, roughly.
    pub fn line(&self, [x, y, z]: [f32; 3], [around, down]: [f32; 2]) -> f32 {
        // Most of what an image shows is the face: far in front of the edge.
        if z > 1.0 && y + self.low < 7.72 {
            return -1.0;
        }
        let m = x.abs();
        let temple = self.receding * smoothstep(0.25, 0.5, m) * smoothstep(0.72, 0.55, m);
        let ragged = 0.025 * self.waves.at([around.abs() * 9.0, down * 9.0]);
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
    pub fn cover(&self, inside: f32, [around, down]: [f32; 2]) -> f32 {
        if inside < -0.06 || self.density <= 0.0 {
            return 0.0;
        }
        let strand = self.strands.at([around.abs() * 40.0, down * 6.0]);
        smoothstep(-0.03, 0.05, inside + 0.04 * strand) * self.density
    }

    /// Colour of a strand at a place of the surface spread out.
    pub fn colour(&self, [around, down]: [f32; 2]) -> Colour {
        let s = around.abs();
        let strand = self.strands.at([s * 46.0, down * 5.0]);
        let lock = self.waves.at([s * 11.0 + 128.0, down * 2.0 + around * 0.4]);
        self.colour.map(|c| c * (1.0 + 0.42 * strand + 0.3 * lock))
    }

    /// Pushes the scalp out and hangs the curtain. `points` in decimetres, y up.
    pub fn grow(&self, model: &HeadModel, points: &mut [[f32; 3]]) {
        if let Some(curtain) = &self.curtain {
            self.hang(curtain, model, points);
        }
        if self.thickness <= 0.0 {
            return;
        }
        let ears = Region::Ears as usize;
        let head = &model.vertices[..model.head_vertices];
        for (((point, base), wrap), mask) in points.iter_mut().zip(head).zip(&model.wraps).zip(&model.masks) {
            let inside = self.line(*base, *wrap) - mask[ears] * 2.0;
            if inside <= 0.0 {
                continue;
            }
            // Away from the skull's middle, which near the scalp is the normal.
            let from_middle = [base[0], (base[1] - 7.45).max(-0.2), base[2] - 0.55];
            let length = from_middle.iter().map(|d| d * d).sum::<f32>().sqrt().max(0.3);
            let wave = 1.0 + 0.35 * self.waves.at([wrap[0].abs() * 2.5 + 64.0, base[1] * 2.5]);
            let out = self.thickness * smoothstep(0.0, 0.22, inside) * wave / length;
            for axis in 0..3 {
                point[axis] += from_middle[axis] * out;
            }
        }
    }

    fn hang(&self, curtain: &Curtain, model: &HeadModel, points: &mut [[f32; 3]]) {
        // How this head's skull and chin lie relative to the base's.
        let mean_of = |belongs: &dyn Fn([f32; 3]) -> bool, of: &dyn Fn(usize) -> f32| {
            let skin = (0..model.head_vertices)
                .filter(|&v| model.masks[v][Region::Ears as usize] < 0.1 && belongs(model.vertices[v]));
            let (sum, count) = skin.fold((0.0, 0), |(sum, count), v| (sum + of(v), count + 1));
            sum / count as f32
        };
        let temple =
            |[x, y, z]: [f32; 3]| x.abs() > 0.6 && (7.2..7.7).contains(&y) && (0.2..0.8).contains(&z);
        let chin = |[x, y, z]: [f32; 3]| x.abs() < 0.2 && (6.1..6.3).contains(&y) && z > 1.2;
        let wider =
            mean_of(&temple, &|v| points[v][0].abs()) / mean_of(&temple, &|v| model.vertices[v][0].abs());
        let [up, back] = [1, 2].map(|axis| mean_of(&temple, &|v| points[v][axis] - model.vertices[v][axis]));
        let down = mean_of(&chin, &|v| points[v][1] - model.vertices[v][1]);

        for (index, vertex) in model.curtain.clone().enumerate() {
            let (t, s) = curtain::place(index);
            let y = curtain::TOP - t * (curtain::TOP - curtain.bottom);
            let right = 2 * (index % curtain::COLUMNS) < curtain::COLUMNS;
            let ragged = self.waves.at([y * 3.0, if right { 96.0 } else { 192.0 }]);
            let opening =
                curtain.opening[0] + (curtain.opening[1] - curtain.opening[0]) * t * t + 0.15 * ragged;
            let [x, _, z] = curtain::around(y, s, opening);
            let wave = self.waves.at([s * 24.0, y * 2.5 + 32.0]) * curtain.waviness;
            let off = 1.0 + (curtain.volume + wave) * smoothstep(0.0, 0.25, t);
            let follow = up + (down - up) * smoothstep(7.4, 6.3, y);
            points[vertex] =
                [x * wider * off, y + follow, curtain::MIDDLE + (z - curtain::MIDDLE) * off + back];
        }
        // Ears lie flat under it.
        for (point, mask) in points.iter_mut().zip(&model.masks) {
            let outside = (point[0].abs() - 0.78 * wider).max(0.0) * mask[Region::Ears as usize].min(1.0);
            point[0] -= point[0].signum() * 0.75 * outside;
        }
    }
}
