//! The appearance of a head: colour as a function of the place on the base mesh.
//!
//! A place is its position on the undeformed, exactly symmetric head, so a texture follows the surface into every
//! shape and expression and needs no uv seams. Almost everything is drawn over |x|: the two halves of a face have the
//! same albedo, fine texture included, up to a small asymmetric part. Colours are display values in [0, 1]; layers
//! are painted one over the other from the skin outwards.

use crate::asset::{Part, Region};
use crate::colour::{Colour, along, darken, mix};
use crate::hair::Hair;
use crate::identity::Identity;
use crate::random::{Draws, Noise, smoothstep};
use crate::teeth;

/// A place on the base mesh.
pub(crate) struct Place {
    /// Position on the undeformed head, decimetres.
    pub position: [f32; 3],
    /// Position on the surface spread out, decimetres; mirrored places have opposite first coordinates.
    pub wrap: [f32; 2],
    /// Region masks there, in [0, 1].
    pub masks: [f32; 5],
    pub part: Part,
}

impl Place {
    fn mask(&self, region: Region) -> f32 {
        self.masks[region as usize]
    }
}

/// Colours and patterns of one head.
pub(crate) struct Appearance {
    skin: Colour,
    /// How much blood shows, about 1.
    redness: f32,
    /// Amplitude of the skin's texture, about 1.
    roughness: f32,
    wrinkles: f32,
    freckles: f32,
    eye_shadow: f32,
    lips: Colour,
    lip_strength: f32,
    lashes: f32,
    brow: Brow,
    stubble: f32,
    beard: f32,
    beard_colour: Colour,
    moles: Vec<([f32; 3], f32)>,
    eyes: Eyes,
    cloth: Colour,
    neckline: f32,
    teeth: Colour,
    pub hair: Hair,
    mottle: Noise,
    fine: Noise,
    uneven: Noise,
    strands: Noise,
    spots: Noise,
}

struct Brow {
    height: f32,
    arch: f32,
    /// How much higher the inner end is than the outer.
    tilt: f32,
    thickness: f32,
    inner: f32,
    outer: f32,
    density: f32,
    colour: Colour,
}

struct Eyes {
    iris: Colour,
    iris_radius: f32,
    pupil_radius: f32,
    /// Direction of sight, radians to the right and up.
    gaze: [f32; 2],
    white: Colour,
}

/// A point of the skin, with numbers that several layers of paint need.
struct Point<'a> {
    place: &'a Place,
    /// Distance from the plane of symmetry.
    m: f32,
    /// The same along the skin, around the head.
    s: f32,
    /// How far the point is on the front of the head, in \[0,1\].
    front: f32,
    pores: f32,
}

impl Point<'_> {
    /// A soft spot of radius `r` around (`cx`, `cy`) on both halves of the face, in \[0,1\].
    fn spot(&self, cx: f32, cy: f32, r: f32) -> f32 {
        let [_, y, _] = self.place.position;
        let d2 = ((self.m - cx).powi(2) + (y - cy).powi(2)) / (r * r);
        self.front * (1.0 - d2 * 0.25).max(0.0).powi(4)
    }
}

/// Skin from the lightest to the darkest, evenly spaced in melanin.
const SKIN: [Colour; 7] = [
    [0.97, 0.82, 0.74],
    [0.93, 0.74, 0.63],
    [0.85, 0.64, 0.50],
    [0.73, 0.51, 0.37],
    [0.57, 0.37, 0.26],
    [0.42, 0.265, 0.185],
    [0.30, 0.19, 0.14],
];

/// Middle of an eyeball on the base mesh (|x|), and its radius.
const EYE: [f32; 3] = [0.3078, 7.2841, 1.2440];
const EYE_RADIUS: f32 = 0.1475;

fn draw_lips(skin: Colour, made_up: bool, draws: &mut Draws) -> Colour {
    let natural = mix([skin[0] * 0.88, skin[1] * 0.66, skin[2] * 0.68], [0.72, 0.36, 0.36], 0.35);
    let painted = [[0.72, 0.12, 0.16], [0.78, 0.28, 0.36], [0.55, 0.12, 0.22], [0.80, 0.42, 0.42]]
        [draws.pick(&[1.0; 4])];
    if made_up { mix(natural, painted, draws.between(0.2, 0.9)) } else { natural }
}

fn draw_iris([african, asian, caucasian]: [f32; 3], melanin: f32, draws: &mut Draws) -> Colour {
    let dark = [0.20, 0.12, 0.07];
    let others = [
        dark,
        [0.36, 0.23, 0.12],
        [0.42, 0.38, 0.22],
        [0.33, 0.45, 0.36],
        [0.36, 0.50, 0.62],
        [0.48, 0.54, 0.58],
    ];
    let light = caucasian * (1.0 - melanin).max(0.0);
    others[draws.pick(&[1.2 + 3.0 * (african + asian), 1.0, light, light, 1.4 * light, 0.7 * light])]
}

fn draw_moles(draws: &mut Draws) -> Vec<([f32; 3], f32)> {
    (0..draws.pick(&[4.0, 3.0, 2.0, 1.0, 1.0]))
        .map(|_| {
            let place = [draws.between(-0.6, 0.6), draws.between(6.2, 7.8), draws.between(0.9, 1.6)];
            (place, draws.between(0.008, 0.02))
        })
        .collect()
}

impl Appearance {
    pub fn draw(identity: &Identity, draws: &mut Draws) -> Self {
        let Identity { ethnicity, male, child, old, .. } = *identity;
        let [african, asian, caucasian] = ethnicity;
        let melanin = 0.70 * african + 0.27 * asian + 0.13 * caucasian + 0.09 * draws.bell();
        let hair = Hair::draw(identity, draws);
        let tint = [0.0; 3].map(|_: f32| 1.0 + 0.015 * draws.bell());
        let skin = along(&SKIN, melanin.clamp(0.0, 1.0));
        let skin = [skin[0] * tint[0], skin[1] * tint[1], skin[2] * tint[2]].map(|c| c.clamp(0.05, 0.97));
        let made_up = male < 0.5 && child < 0.1 && draws.chance(0.5);
        let bearded = male > 0.6 && child < 0.05;
        let lips = draw_lips(skin, made_up, draws);
        let beard_kind = if bearded { draws.pick(&[0.45, 0.35, 0.2]) } else { 3 };
        let dark_hair = hair.root_colour();
        let iris = draw_iris(ethnicity, melanin, draws);
        let moles = draw_moles(draws);
        Self {
            skin,
            redness: draws.between(0.4, 1.5),
            roughness: draws.between(0.6, 1.5),
            wrinkles: (old * 1.1 - 0.15).max(0.0) * draws.between(0.5, 1.0),
            freckles: if melanin < 0.35 && draws.chance(0.25) { draws.between(0.1, 0.4) } else { 0.0 },
            eye_shadow: if made_up { draws.between(0.0, 0.55) } else { draws.between(0.0, 0.2) },
            lips,
            lip_strength: draws.between(0.6, 1.0) * (1.0 - 0.25 * male),
            lashes: draws.between(0.3, 0.55) + if made_up { 0.25 } else { 0.0 },
            brow: Brow {
                height: 7.445 + 0.018 * draws.bell(),
                arch: draws.between(0.0, 0.045) * (1.2 - 0.5 * male),
                tilt: 0.012 + 0.012 * draws.bell(),
                thickness: (0.022 + 0.012 * male) * draws.between(0.65, 1.35),
                inner: draws.between(0.07, 0.15),
                outer: draws.between(0.48, 0.58),
                density: draws.between(0.5, 0.95) * (1.0 - 0.4 * child),
                colour: mix(dark_hair, [0.12, 0.08, 0.06], draws.between(0.2, 0.6)),
            },
            stubble: if beard_kind == 1 { draws.between(0.15, 0.6) } else { 0.0 },
            beard: if beard_kind == 2 { draws.between(0.6, 0.95) } else { 0.0 },
            beard_colour: mix(dark_hair, [0.15, 0.11, 0.09], 0.4),
            moles,
            eyes: Eyes {
                iris,
                iris_radius: draws.between(0.40, 0.47),
                pupil_radius: draws.between(0.13, 0.22),
                gaze: [0.07 * draws.bell(), 0.04 * draws.bell()],
                white: mix([0.93, 0.91, 0.89], [0.88, 0.78, 0.70], draws.uniform() * 0.5),
            },
            cloth: {
                let dye = [draws.uniform(), draws.uniform(), draws.uniform()];
                mix([draws.between(0.03, 0.9); 3], dye, draws.between(0.0, 0.6))
            },
            neckline: draws.between(5.7, 6.05),
            teeth: mix([0.93, 0.91, 0.87], [0.82, 0.76, 0.62], draws.uniform()),
            hair,
            mottle: draws.noise(),
            fine: draws.noise(),
            uneven: draws.noise(),
            strands: draws.noise(),
            spots: draws.noise(),
        }
    }

    /// The brightest channel of the bare skin.
    pub fn skin_brightness(&self) -> f32 {
        self.skin.into_iter().fold(0.0, f32::max)
    }

    /// Albedo at a place, in [0, 1].
    pub fn albedo(&self, place: &Place) -> Colour {
        let colour = match place.part {
            Part::Skin => self.skin(place),
            Part::LeftEye | Part::RightEye => self.eyes.albedo(place, self.fine),
            Part::Teeth => self.teeth(place.position),
            Part::Curtain => self.hair.colour(place.wrap),
        };
        colour.map(|c| c.clamp(0.0, 1.0))
    }

    fn skin(&self, place: &Place) -> Colour {
        let [x, y, z] = place.position;
        let m = x.abs();
        let [around, down] = place.wrap;
        let s = around.abs();
        let front = smoothstep(0.7, 0.95, z);
        if y < self.neckline {
            let weave = self.fine.at([s * 40.0, down * 40.0]);
            return self.cloth.map(|c| c * (1.0 + 0.15 * weave));
        }
        let scalp = self.hair.line(place.position, place.wrap) - place.mask(Region::Ears) * 2.0;
        let hair_cover = self.hair.cover(scalp, place.wrap);
        if hair_cover >= 1.0 {
            return self.hair.colour(place.wrap);
        }

        let pores = self.fine.at([s * 42.0, down * 42.0]);
        let at = Point { place, m, s, front, pores };
        let mut colour = self.tone(&at);
        self.shade_eyes(&mut colour, &at);
        if self.wrinkles > 0.0 {
            colour = self.wrinkle(colour, m, y, front);
        }
        self.mark(&mut colour, &at);
        self.paint_mouth(&mut colour, &at);
        colour = self.beard(colour, place, m, y, z);
        colour = self.brow.paint(colour, m, y, front, self.strands);
        let rim = smoothstep(0.72, 0.98, place.mask(Region::Eyelids));
        let upper = smoothstep(7.26, 7.31, y);
        colour = mix(colour, [0.09, 0.06, 0.05], rim * self.lashes * (0.35 + 0.65 * upper));

        if hair_cover > 0.0 {
            colour = mix(colour, self.hair.colour(place.wrap), hair_cover);
        }
        colour
    }

    /// Bare skin: its texture (blotches, pores, and a little that the other half does not have), and blood in cheeks, nose,
    /// ears and chin.
    fn tone(&self, at: &Point<'_>) -> Colour {
        let [around, down] = at.place.wrap;
        let s = at.s;
        let blotch = self.mottle.at([s * 3.5, down * 3.5]);
        let grain = self.mottle.at([s * 14.0 + 80.0, down * 14.0]);
        let uneven = self.uneven.at([around * 6.0, down * 6.0]);
        let light =
            1.0 + self.roughness * (0.045 * blotch + 0.045 * grain + 0.055 * at.pores + 0.02 * uneven);
        let blood =
            0.75 * at.spot(0.42, 6.93, 0.2) + 0.8 * at.spot(0.0, 6.93, 0.1) + 0.25 * at.spot(0.0, 6.3, 0.14);
        let blood = (blood + 0.5 * at.place.mask(Region::Ears)) * self.redness * (1.0 + 0.7 * blotch);
        [
            self.skin[0] * light * (1.0 - 0.02 * blood),
            self.skin[1] * light * (1.0 - 0.16 * blood - 0.02 * grain),
            self.skin[2] * light * (1.0 - 0.15 * blood - 0.03 * grain),
        ]
    }

    /// The skin under the eyes, and the fold above them.
    fn shade_eyes(&self, colour: &mut Colour, at: &Point<'_>) {
        let [_, y, _] = at.place.position;
        if (y - 7.25).abs() < 0.3 {
            let bag = at.spot(0.28, 7.15, 0.075);
            let lid = at.spot(0.31, 7.355, 0.085) * self.eye_shadow;
            darken(colour, [0.20, 0.26, 0.22], bag * (0.5 + 0.5 * self.wrinkles));
            darken(colour, [0.55, 0.60, 0.50], lid);
        }
    }

    /// Freckles and moles, and the dark inside of nostrils.
    fn mark(&self, colour: &mut Colour, at: &Point<'_>) {
        let [x, y, z] = at.place.position;
        let [_, down] = at.place.wrap;
        if self.freckles > 0.0 {
            let speck = self.spots.at([at.s * 38.0, down * 38.0]);
            let here = at.spot(0.3, 7.0, 0.35) + at.spot(0.0, 7.0, 0.2);
            let amount = smoothstep(0.3, 0.55, speck) * self.freckles * here.min(1.0);
            darken(colour, [0.30, 0.42, 0.50], amount);
        }
        for (centre, radius) in &self.moles {
            let d2 = (x - centre[0]).powi(2) + (y - centre[1]).powi(2);
            let there = at.front * smoothstep(radius * radius, 0.25 * radius * radius, d2);
            *colour = mix(*colour, [0.24, 0.14, 0.10], 0.7 * there);
        }
        if (y - 6.845).abs() < 0.05 {
            let nostril =
                ((at.m - 0.085) / 0.05).powi(2) + ((y - 6.845) / 0.028).powi(2) + ((z - 1.5) / 0.09).powi(2);
            darken(colour, [0.75, 0.8, 0.8], smoothstep(1.3, 0.3, nostril));
        }
    }

    /// Lips, with their fine vertical lines, and the inside of the mouth.
    fn paint_mouth(&self, colour: &mut Colour, at: &Point<'_>) {
        let [_, y, _] = at.place.position;
        let lips = smoothstep(0.25, 0.75, at.place.mask(Region::Lips)) * self.lip_strength;
        if lips > 0.0 {
            let line = self.fine.at([at.m * 55.0, y * 8.0]);
            *colour = mix(*colour, self.lips.map(|c| c * (1.0 + 0.14 * line + 0.04 * at.pores)), lips);
        }
        let inside = at.place.mask(Region::InsideMouth);
        if inside > 0.0 {
            *colour = mix(*colour, [0.30, 0.10, 0.10], smoothstep(0.3, 0.8, inside));
        }
    }

    /// Lines across the forehead and from the nose to the mouth's corners.
    fn wrinkle(&self, colour: Colour, m: f32, y: f32, front: f32) -> Colour {
        let wave = self.mottle.at([m * 2.5 + 160.0, y * 34.0]);
        let forehead = smoothstep(7.5, 7.58, y) * smoothstep(8.0, 7.85, y) * smoothstep(0.55, 0.35, m);
        let fold_x = 0.13 + (6.87 - y) * 0.55;
        let fold =
            smoothstep(0.035, 0.0, (m - fold_x).abs()) * smoothstep(6.5, 6.6, y) * smoothstep(6.9, 6.84, y);
        let crow = smoothstep(0.48, 0.54, m)
            * smoothstep(0.66, 0.6, m)
            * smoothstep(0.12, 0.05, (y - 7.27).abs())
            * smoothstep(0.1, 0.5, self.mottle.at([m * 3.0 + 200.0, (y - 7.27) * 40.0]));
        let depth = forehead * smoothstep(0.1, 0.6, wave) + fold + crow;
        let mut colour = colour;
        darken(&mut colour, [0.14, 0.18, 0.18], front * depth * self.wrinkles);
        colour
    }

    /// Two rows of teeth, darker to the sides and towards the gums, and the dark between them.
    fn teeth(&self, [x, y, _]: [f32; 3]) -> Colour {
        let m = x.abs();
        let between = (m * 14.0 - (m * 14.0).floor() - 0.5).abs();
        let shade = smoothstep(0.26, 0.08, m) * (1.0 - 0.25 * smoothstep(0.42, 0.5, between));
        let upper = smoothstep(teeth::UPPER_EDGE, teeth::UPPER_EDGE + 0.008, y);
        let lower = smoothstep(teeth::LOWER_EDGE, teeth::LOWER_EDGE - 0.008, y);
        let gum = smoothstep(6.665, 6.685, y) + smoothstep(6.46, 6.44, y);
        let row = mix(self.teeth.map(|c| c * (0.35 + 0.65 * shade)), [0.62, 0.30, 0.30], gum.min(1.0));
        mix([0.13, 0.05, 0.05], row.map(|c| c * (upper + 0.8 * lower)), (upper + lower).min(1.0))
    }

    fn beard(&self, colour: Colour, place: &Place, m: f32, y: f32, z: f32) -> Colour {
        if self.stubble + self.beard <= 0.0 {
            return colour;
        }
        let top = 6.58 + 0.9 * (m - 0.22).max(0.0);
        let jaw = smoothstep(top + 0.03, top - 0.06, y) * smoothstep(6.05, 6.2, y) * smoothstep(0.5, 0.7, z);
        let moustache = smoothstep(0.3, 0.22, m)
            * smoothstep(6.84, 6.79, y)
            * smoothstep(6.55, 6.62, y)
            * smoothstep(1.2, 1.3, z);
        let bare = 1.0 - smoothstep(0.1, 0.5, place.mask(Region::Lips));
        let here = jaw.max(moustache) * bare;
        if here <= 0.0 {
            return colour;
        }
        let strand = self.strands.at([place.wrap[0].abs() * 60.0, place.wrap[1] * 22.0]);
        let mut colour = colour;
        darken(&mut colour, [0.40, 0.36, 0.30], here * self.stubble * (0.8 + 0.5 * strand));
        let hair = self.beard_colour.map(|c| c * (1.0 + 0.6 * strand));
        mix(colour, hair, (here * self.beard * (1.05 + 0.4 * strand)).clamp(0.0, 1.0))
    }
}

impl Brow {
    fn paint(&self, colour: Colour, m: f32, y: f32, front: f32, strands: Noise) -> Colour {
        let along = (m - self.inner) / (self.outer - self.inner);
        if !(-0.1..=1.1).contains(&along) || (y - self.height).abs() > 0.25 {
            return colour;
        }
        // Rises to its peak at 0.6 of the way and falls to the tail.
        let from_peak = (along - 0.6) / if along < 0.6 { 0.6 } else { 0.45 };
        let rise = 1.0 - from_peak * from_peak;
        let from_line = y - (self.height + self.arch * rise + self.tilt * (1.0 - along));
        let half = self.thickness * (1.0 - 0.75 * along.max(0.0).powi(2));
        let strand = strands.at([(m + from_line * 0.8) * 70.0, (from_line - m * 0.3) * 16.0]);
        let body = smoothstep(half * 1.25, half * 0.5, from_line.abs() + 0.3 * half * strand);
        let ends = smoothstep(-0.08, 0.22, along) * smoothstep(1.06, 0.85, along);
        mix(colour, self.colour, body * ends * front * (self.density * (1.0 + 0.35 * strand)).min(1.0))
    }
}

impl Eyes {
    fn albedo(&self, place: &Place, noise: Noise) -> Colour {
        let [x, y, z] = place.position;
        let side = x.signum();
        let local = [(x - side * EYE[0]) / EYE_RADIUS, (y - EYE[1]) / EYE_RADIUS, (z - EYE[2]) / EYE_RADIUS];
        let (dx, dy) = (local[0] - self.gaze[0], local[1] - self.gaze[1]);
        let radius = (dx * dx + dy * dy).sqrt();
        // Fibres: noise over the direction from the pupil, the same in both eyes.
        let fibre = noise.at([dx * side / (radius + 0.05) * 9.0, dy / (radius + 0.05) * 9.0]);
        let ring = smoothstep(0.6, 1.0, radius / self.iris_radius);
        let iris = self.iris.map(|c| c * (1.1 - 0.65 * ring) * (1.0 + 0.35 * fibre));
        // The lid's shadow lies on the upper part, blood in the corners.
        let shade = 1.0 - 0.35 * smoothstep(0.15, 0.5, local[1]);
        let corner = smoothstep(0.55, 0.95, local[0].abs());
        let white = mix(self.white, [0.80, 0.52, 0.48], 0.5 * corner);
        let mut colour =
            mix(white, iris, smoothstep(self.iris_radius + 0.04, self.iris_radius - 0.04, radius));
        colour = mix(
            colour,
            [0.03, 0.025, 0.025],
            smoothstep(self.pupil_radius + 0.05, self.pupil_radius - 0.03, radius),
        );
        colour.map(|c| c * shade)
    }
}
