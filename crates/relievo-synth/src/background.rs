//! The background: colour that carries no information about the head.
//!
//! A gradient, soft blobs, a few hard-edged bars and grain, drawn without knowledge of the head.

use crate::colour::{Colour, mix};
use crate::random::{Draws, Noise, smoothstep};

pub(crate) struct Background {
    from: Colour,
    to: Colour,
    direction: [f32; 2],
    blobs: Vec<Blob>,
    bars: Vec<Bar>,
    noise: Noise,
    clouds: f32,
    grain: f32,
    scale: f32,
}

struct Blob {
    centre: [f32; 2],
    radius: f32,
    colour: Colour,
}

/// A half plane's edge band: between two parallels of a line.
struct Bar {
    normal: [f32; 2],
    offset: f32,
    half_width: f32,
    softness: f32,
    colour: Colour,
}

impl Background {
    pub fn draw(draws: &mut Draws) -> Self {
        let brightness = draws.uniform();
        let from = colour(draws, brightness);
        let other = (brightness + 0.25 * draws.bell()).clamp(0.0, 1.0);
        let to = colour(draws, other);
        let blobs = (0..draws.pick(&[2.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0]))
            .map(|_| {
                let brightness = draws.uniform();
                Blob {
                    centre: [draws.between(-0.7, 0.7), draws.between(-0.7, 0.7)],
                    radius: draws.between(0.08, 0.45),
                    colour: colour(draws, brightness),
                }
            })
            .collect();
        let bars = (0..draws.pick(&[4.0, 2.0, 1.0, 1.0]))
            .map(|_| {
                let brightness = draws.uniform();
                Bar {
                    normal: direction(draws),
                    offset: draws.between(-0.6, 0.6),
                    half_width: draws.between(0.02, 0.25),
                    softness: draws.between(0.005, 0.06),
                    colour: colour(draws, brightness),
                }
            })
            .collect();
        Self {
            from,
            to,
            direction: direction(draws),
            blobs,
            bars,
            noise: draws.noise(),
            clouds: draws.uniform().powi(2) * 0.5,
            grain: draws.uniform().powi(2) * 0.2,
            scale: draws.between(2.0, 12.0),
        }
    }

    /// Colour at a place of the frame, both coordinates in [-0.5, 0.5].
    pub fn at(&self, [x, y]: [f32; 2]) -> Colour {
        let t = x * self.direction[0] + y * self.direction[1];
        let mut colour = mix(self.from, self.to, (t + 0.5).clamp(0.0, 1.0));
        for blob in &self.blobs {
            let d2 = (x - blob.centre[0]).powi(2) + (y - blob.centre[1]).powi(2);
            colour = mix(colour, blob.colour, 0.9 / (1.0 + (d2 / (blob.radius * blob.radius)).powi(2)));
        }
        for bar in &self.bars {
            let distance = (x * bar.normal[0] + y * bar.normal[1] - bar.offset).abs() - bar.half_width;
            colour = mix(colour, bar.colour, smoothstep(bar.softness, -bar.softness, distance));
        }
        let cloud = self.noise.at([x * self.scale, y * self.scale]);
        let grain = self.noise.at([x * 45.0 + 100.0, y * 45.0]);
        let light = 1.0 + self.clouds * cloud + self.grain * grain;
        colour.map(|c| (c * light).clamp(0.0, 1.0))
    }
}

fn colour(draws: &mut Draws, brightness: f32) -> Colour {
    let saturation = draws.uniform().powi(2) * 0.6;
    [0.0; 3].map(|_: f32| {
        let tint = draws.uniform();
        (brightness * (1.0 - saturation) + brightness * saturation * 2.0 * tint).clamp(0.0, 1.0)
    })
}

fn direction(draws: &mut Draws) -> [f32; 2] {
    let [x, y] = [draws.between(-1.0, 1.0), draws.between(-1.0, 1.0)];
    let length = (x * x + y * y).sqrt().max(1e-3);
    [x / length, y / length]
}
