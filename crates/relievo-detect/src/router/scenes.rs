//! Scenes to learn from: crops pasted at random places and sizes on backgrounds, all treated alike whatever they show.

use relievo_data::{Image, Rectangle};
use relievo_tensor::Random;

use super::backgrounds;
use super::degrade::{Patch, degrade, equalise};
use super::draws::Draws;
use super::material::{Material, Side};
use crate::Area;

/// Rows and columns of a scene.
pub(super) const SCENE: usize = 128;

/// Sides of objects that are to be found at one scale, in pixels. The pyramid halves, so these more than cover an octave.
pub(super) const SIDES: [f32; 2] = [20.0, 58.0];

/// An object of fewer pixels is none that anybody could see.
const INVISIBLE: f32 = 11.0;

/// Of a larger object only parts are seen, which are nothing known.
const PARTS: f32 = 110.0;

/// Objects that are tried in a scene.
const TRIES: usize = 7;

/// How far pasted patches reach, in half sides of the object: what is beyond its crop repeats the crop's edge.
const REACH: f32 = 1.6;

/// What lies at a place of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// A category, by number.
    Category(usize),
    /// A crop of this picture, which shows nothing known.
    Thing(usize),
    /// Something that is neither right nor wrong to find.
    Unclear,
}

/// An object in a scene, in its pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub label: Label,
    pub centre: [f32; 2],
    pub side: f32,
}

impl Placed {
    /// As it counts: objects of a size for another scale are unclear, and parts of large ones are nothing.
    fn judged(self) -> Option<Self> {
        let is_category = matches!(self.label, Label::Category(_));
        match self.side {
            side if (SIDES[0]..=SIDES[1]).contains(&side) => Some(self),
            side if is_category && (INVISIBLE..PARTS).contains(&side) => {
                Some(Self { label: Label::Unclear, ..self })
            }
            _ => None,
        }
    }

    pub fn area(&self) -> Area {
        let ([x, y], half) = (self.centre, self.side / 2.0);
        Area { left: x - half, top: y - half, right: x + half, bottom: y + half }
    }

    /// Whether two of them cover each other by more than a tenth of the smaller.
    fn collides(&self, other: &Self) -> bool {
        let shared = |axis: usize| {
            let apart = (self.centre[axis] - other.centre[axis]).abs();
            ((self.side + other.side) / 2.0 - apart).min(self.side).min(other.side).max(0.0)
        };
        let smaller = self.side.min(other.side);
        shared(0) * shared(1) > 0.1 * smaller * smaller
    }
}

/// A scene and what is in it.
#[derive(Clone)]
pub(super) struct Scene {
    pub patch: Patch,
    pub placed: Vec<Placed>,
}

impl Scene {
    /// Scene number `number` of a training.
    pub fn compose(material: &Material, seed: u64, number: u64) -> Self {
        let mut draws = Draws::new(Random::new(seed, number));
        let mut scene = background(material, &mut draws);
        for _ in 0..TRIES {
            paste_any(&mut scene, &material.train, &mut draws);
        }
        scene.patch = degrade(scene.patch, &mut draws);
        scene.placed = scene.placed.into_iter().filter_map(Placed::judged).collect();
        scene
    }
}

impl Scene {
    /// Its mirror image.
    pub fn mirrored(mut self) -> Self {
        for row in self.patch.values.chunks_exact_mut(3 * self.patch.side) {
            row.as_chunks_mut::<3>().0.reverse();
        }
        for placed in &mut self.placed {
            placed.centre[0] = self.patch.side as f32 - placed.centre[0];
        }
        self
    }
}

fn background(material: &Material, draws: &mut Draws) -> Scene {
    let side = &material.train;
    let empty = |patch: Patch| Scene { patch, placed: Vec::new() };
    match draws.uniform() {
        share if share < 0.3 => photograph(material, draws),
        share if share < 0.5 => {
            let thing = &side.things[draws.below(side.things.len())].image;
            // Parts of it, all of it, or all of it with its repeated edge around: as large as it is seen alone.
            let cut = draws.factor([0.6, 1.9]) * thing.width as f32;
            let [left, top] = [0, 1].map(|_| f64::from(draws.uniform() * (thing.width as f32 - cut)));
            let rectangle = Rectangle { left, top, width: f64::from(cut), height: f64::from(cut) };
            empty(Patch::from_image(&thing.resampled(rectangle, SCENE as u32, SCENE as u32)))
        }
        share if share < 0.62 => {
            // Close to an object: its parts are seen, which alone are nothing.
            let category = draws.below(side.crops.len());
            let crop = &side.crops[category][draws.below(side.crops[category].len())].image;
            let length = draws.factor([90.0, 260.0]);
            let centre = [0, 1].map(|_| draws.between(0.0, SCENE as f32));
            let scale = f64::from(crop.width) / f64::from(length);
            let corner = |axis: usize| -f64::from(centre[axis] - length / 2.0) * scale;
            let extent = SCENE as f64 * scale;
            let rectangle = Rectangle { left: corner(0), top: corner(1), width: extent, height: extent };
            let patch = Patch::from_image(&crop.resampled(rectangle, SCENE as u32, SCENE as u32));
            let placed = Placed { label: Label::Category(category), centre, side: length };
            Scene { patch, placed: vec![placed] }
        }
        _ => empty(backgrounds::synthetic(SCENE, draws)),
    }
}

/// A window of a photograph, with its human faces.
fn photograph(material: &Material, draws: &mut Draws) -> Scene {
    let photographs = &material.train.photographs;
    let photograph = &photographs[draws.below(photographs.len())];
    let image = &photograph.image;
    let long = image.width.max(image.height) as f32;
    // Faces of these photographs take about half of them.
    let scale = draws.factor([30.0, 400.0]) / long;
    let [width, height] = [image.width, image.height].map(|extent| extent as f32 * scale);
    let window = SCENE as f32;
    let start = |extent: f32, draws: &mut Draws| {
        draws.between((extent - window).min(0.0), (extent - window).max(0.0))
    };
    let [left, top] = [start(width, draws), start(height, draws)];
    let rectangle = Rectangle {
        left: f64::from(left / scale),
        top: f64::from(top / scale),
        width: f64::from(window / scale),
        height: f64::from(window / scale),
    };
    let patch = Patch::from_image(&image.resampled(rectangle, SCENE as u32, SCENE as u32));
    let label = material.human.map_or(Label::Unclear, Label::Category);
    let placed = photograph.faces.iter().map(|(centre, side)| Placed {
        label,
        centre: [centre[0] * scale - left, centre[1] * scale - top],
        side: side * scale,
    });
    Scene { patch, placed: placed.collect() }
}

/// Tries to paste a random object of a random size.
fn paste_any(scene: &mut Scene, side: &Side, draws: &mut Draws) {
    let length = match draws.uniform() {
        share if share < 0.8 => draws.factor(SIDES),
        share if share < 0.9 => draws.factor([INVISIBLE, SIDES[0]]),
        _ => draws.factor([SIDES[1], PARTS]),
    };
    // Things are as many as all categories together: they differ more, and there are fewer.
    let (label, image) = if draws.chance(0.5) {
        let category = draws.below(side.crops.len());
        (Label::Category(category), &side.crops[category][draws.below(side.crops[category].len())].image)
    } else {
        let thing = draws.below(side.things.len());
        (Label::Thing(side.pictures[thing]), &side.things[thing].image)
    };
    paste(scene, image, label, length, draws);
}

/// Tries to paste an object of `length` pixels where there is room.
pub(super) fn paste(scene: &mut Scene, image: &Image, label: Label, length: f32, draws: &mut Draws) {
    let centre = [0, 1].map(|_| draws.between(0.4 * length, scene.patch.side as f32 - 0.4 * length));
    let mut angle = draws.between(-0.4, 0.4);
    if draws.chance(0.05) {
        angle *= 3.0;
    }
    let (is_flipped, mask, toning) = (draws.chance(0.5), Mask::draw(draws), draws.uniform());
    let pixels = (REACH * length).round().max(4.0) as usize;
    // Where whole pixels put it.
    let half = pixels as f32 / 2.0;
    let object = Placed { label, centre: centre.map(|middle| (middle - half).round() + half), side: length };
    if scene.placed.iter().any(|other| object.collides(other)) {
        return;
    }
    let patch = Patch::turned(image, pixels as f32 / length, angle, pixels);
    let patch = tone(equalise(patch, draws), toning, draws);
    blend(&mut scene.patch, &patch, &object, is_flipped, &mask);
    scene.placed.push(object);
}

/// Brighter or darker, in another light, or grey.
fn tone(mut patch: Patch, toning: f32, draws: &mut Draws) -> Patch {
    let gain = draws.factor([0.7, 1.4]);
    let gains = [0, 1, 2].map(|_| gain * draws.factor([0.88, 1.14]));
    for pixel in patch.values.as_chunks_mut::<3>().0 {
        if toning < 0.08 {
            *pixel = [0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]; 3];
        }
        for (value, gain) in pixel.iter_mut().zip(gains) {
            *value = (*value * gain).min(255.0);
        }
    }
    patch
}

/// How an object ends.
struct Mask {
    /// 1 for an ellipse, 0 for a square.
    roundness: f32,
    /// Half extents at which it is half there.
    half: [f32; 2],
    /// Over how much it ends.
    soft: f32,
}

impl Mask {
    fn draw(draws: &mut Draws) -> Self {
        match draws.uniform() {
            share if share < 0.25 => Self { roundness: 0.0, half: [1.0; 2], soft: 1e-3 },
            share if share < 0.45 => {
                Self { roundness: 0.0, half: [draws.between(0.9, 1.1); 2], soft: draws.between(0.05, 0.4) }
            }
            share if share < 0.8 => Self {
                roundness: 1.0,
                half: [draws.between(0.85, 1.25), draws.between(0.9, 1.3)],
                soft: draws.between(0.05, 0.4),
            },
            _ => Self { roundness: 0.5, half: [1.3; 2], soft: draws.between(0.2, 0.5) },
        }
    }

    /// How much of the object is there, at a place in half sides from its middle.
    fn at(&self, [x, y]: [f32; 2]) -> f32 {
        let [x, y] = [(x / self.half[0]).abs(), (y / self.half[1]).abs()];
        let distance = self.roundness * x.hypot(y) + (1.0 - self.roundness) * x.max(y);
        let share = ((1.0 - distance) / self.soft + 0.5).clamp(0.0, 1.0);
        share * share * (3.0 - 2.0 * share)
    }
}

fn blend(scene: &mut Patch, patch: &Patch, object: &Placed, is_flipped: bool, mask: &Mask) {
    let corner = object.centre.map(|middle| middle - patch.side as f32 / 2.0);
    for row in 0..patch.side {
        for column in 0..patch.side {
            let at = [corner[0] + column as f32, corner[1] + row as f32];
            if at.iter().any(|place| !(0.0..scene.side as f32).contains(place)) {
                continue;
            }
            let place = [0, 1].map(|axis| (at[axis] + 0.5 - object.centre[axis]) / (object.side / 2.0));
            let share = mask.at(place);
            if share <= 0.0 {
                continue;
            }
            let from = if is_flipped { patch.side - 1 - column } else { column };
            let to = 3 * (at[1] as usize * scene.side + at[0] as usize);
            for channel in 0..3 {
                let new = patch.values[3 * (row * patch.side + from) + channel];
                let value = &mut scene.values[to + channel];
                *value += share * (new - *value);
            }
        }
    }
}
