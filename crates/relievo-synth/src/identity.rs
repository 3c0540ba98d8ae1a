//! The identity of a head: its shape, drawn from the bases.
//!
//! The macro targets are prototypes, one for each ethnicity, sex and age; their weights are products of three sets of
//! weights and sum to 1, so a head is a mean of prototypes. Shape targets come in opposite pairs (narrower, wider),
//! most of them once for each side of the face; a pair is one *knob*, drawn once, and the two sides follow it up to a
//! small difference. Expressions are drawn as a mood, a recipe over the units: units drawn
//! independently do not add up to a plausible face.

use std::sync::OnceLock;

use crate::asset::{HeadModel, Target};
use crate::random::Draws;
use crate::teeth;

/// The properties that the shape was drawn from; skin, hair and beard depend on them too.
pub(crate) struct Identity {
    /// African, Asian, Caucasian; sum 1.
    pub ethnicity: [f32; 3],
    /// 0 female, 1 male.
    pub male: f32,
    /// Weight of the child prototypes, in [0, 1].
    pub child: f32,
    /// Weight of the old prototypes, in [0, 1].
    pub old: f32,
    /// How far the lips are apart, in [0, 1].
    pub mouth_open: f32,
}

/// Two opposite displacements, on the whole face or on each of its sides.
struct Knob {
    /// Name of its first end, without the side.
    name: String,
    /// `[side][less, more]`; one side for what has none.
    sides: Vec<[Option<usize>; 2]>,
    /// Standard deviation of its value, in units of its targets.
    spread: f32,
}

impl Identity {
    /// Draws a head and returns its identity and its vertices (decimetres, the model's frame). `asymmetry` is a factor on
    /// the differences between its sides. The expression is drawn from a stream of its own if there is one.
    pub fn draw(
        model: &HeadModel,
        asymmetry: f32,
        draws: &mut Draws,
        expression: Option<&mut Draws>,
    ) -> (Self, Vec<[f32; 3]>) {
        let mut positions = model.vertices.clone();
        let mut identity = Self::draw_prototype(draws);
        for (target, weight) in model.macros.iter().zip(prototype_weights(model, &identity)) {
            // Many of the products are next to nothing.
            if weight > 2e-3 {
                model.displace(&mut positions, target, weight);
            }
        }
        draw_shape(model, draws, &mut positions);
        draw_asymmetry(model, asymmetry, draws, &mut positions);
        let shaped = positions.clone();
        identity.draw_expression(model, expression.unwrap_or(draws), &mut positions);
        teeth::place(model, &shaped, &mut positions, identity.mouth_open);
        (identity, positions)
    }

    fn draw_prototype(draws: &mut Draws) -> Self {
        // High powers make one ethnicity prevail in most heads and leave some that are in between.
        let shares = [0.9, 0.9, 1.1].map(|prior| (prior * draws.uniform()).powi(4) + 1e-6);
        let sum: f32 = shares.iter().sum();
        let male = {
            let toward_middle = draws.uniform().powi(3) * 0.45;
            if draws.chance(0.5) { toward_middle } else { 1.0 - toward_middle }
        };
        let (child, old) = match draws.pick(&[0.08, 0.6, 0.32]) {
            0 => (draws.between(0.1, 0.8), 0.0),
            1 => (0.0, draws.between(0.0, 0.3)),
            _ => (0.0, draws.between(0.3, 1.0)),
        };
        Self { ethnicity: shares.map(|s| s / sum), male, child, old, mouth_open: 0.0 }
    }

    /// Draws an expression.
    fn draw_expression(&mut self, model: &HeadModel, draws: &mut Draws, positions: &mut [[f32; 3]]) {
        let mut units: Vec<(&str, f32)> = Vec::new();
        match draws.pick(&[0.36, 0.2, 0.22, 0.06, 0.08, 0.08]) {
            // At rest.
            0 => units.push(("mouth-corner-puller", draws.uniform().powi(2) * 0.3)),
            // A smile with closed lips.
            1 => {
                let smile = draws.between(0.2, 0.8);
                units.push(("mouth-corner-puller", smile));
                units.push(("mouth-retraction", smile * draws.between(0.0, 0.5)));
                units.push(("eye-slit", smile * draws.between(0.1, 0.6)));
            }
            // A smile that shows the teeth.
            2 => {
                let smile = draws.between(0.35, 0.85);
                units.push(("mouth-upward-retraction", smile));
                units.push(("mouth-corner-puller", draws.between(0.1, 0.5)));
                units.push(("eye-slit", smile * draws.between(0.1, 0.7)));
                self.mouth_open = draws.uniform().powi(2) * 0.25;
            }
            // Displeased.
            3 => {
                let force = draws.between(0.2, 0.8);
                units.push(("eyebrows-down", force));
                units.push(("mouth-depression", force * draws.between(0.0, 0.6)));
                units.push(("mouth-compression", force * draws.between(0.0, 0.4)));
                units.push(("nose-elevation", force * draws.between(0.0, 0.4)));
            }
            // Surprised or attentive.
            4 => {
                let force = draws.between(0.2, 0.9);
                units.push(("eyebrows-up", force));
                units.push(("eye-opened-up", force * draws.between(0.2, 0.8)));
                units.push(("eyebrows-inner-up", force * draws.between(0.0, 0.5)));
                self.mouth_open = if draws.chance(0.4) { draws.between(0.0, 0.25) } else { 0.0 };
            }
            // Speaking.
            _ => {
                self.mouth_open = draws.between(0.03, 0.3);
                units.push(("mouth-parling", draws.between(0.2, 0.8)));
                units.push(("mouth-retraction", draws.between(0.0, 0.3)));
            }
        }
        units.push(("mouth-open", self.mouth_open));
        // Nobody's face is exactly at rest.
        for unit in
            ["mouth-pursing", "mouth-retraction", "mouth-elevation", "nose-depression", "mouth-parling"]
        {
            units.push((unit, draws.uniform().powi(3) * 0.35));
        }
        let lid = if draws.chance(0.03) { draws.between(0.7, 1.0) } else { draws.uniform().powi(3) * 0.35 };
        units.push(("eye-closure", lid));
        units.push(("eyebrows-extern-up", draws.uniform().powi(2) * 0.4));

        for (unit, weight) in units {
            let uneven = draws.bell() * 0.08;
            for (target, of) in model.expressions.iter().zip(units_of(model)) {
                if of.name != unit {
                    continue;
                }
                let weight = weight * (1.0 + of.side * uneven) * self.ethnicity[of.ethnicity];
                if weight > 1e-3 {
                    model.displace(positions, target, weight);
                }
            }
        }
    }
}

/// The unit and the side that an expression target belongs to.
#[derive(Debug, PartialEq)]
struct Unit {
    /// Without the side.
    name: String,
    /// -1 left, 1 right, 0 the whole face.
    side: f32,
    ethnicity: usize,
}

impl Unit {
    /// From a name such as `expression/units/asian/eye-left-slit`.
    fn parse(target: &str) -> Self {
        let mut parts = target.rsplit('/');
        let name = parts.next().unwrap_or_default();
        let of = parts.next();
        let ethnicity = ETHNICITIES.iter().position(|&e| Some(e) == of).unwrap_or_default();
        for (side, infix) in [(-1.0, "-left-"), (1.0, "-right-")] {
            if let Some((head, tail)) = name.split_once(infix) {
                return Self { name: format!("{head}-{tail}"), side, ethnicity };
            }
        }
        Self { name: name.into(), side: 0.0, ethnicity }
    }
}

/// The unit of every expression target.
fn units_of(model: &HeadModel) -> &'static [Unit] {
    static UNITS: OnceLock<Vec<Unit>> = OnceLock::new();
    UNITS.get_or_init(|| model.expressions.iter().map(|target| Unit::parse(&target.name)).collect())
}

const ETHNICITIES: [&str; 3] = ["african", "asian", "caucasian"];

/// Weight of every macro target.
fn prototype_weights(model: &HeadModel, identity: &Identity) -> Vec<f32> {
    let young = 1.0 - identity.child - identity.old;
    let of = |word: &str| match word {
        "african" => identity.ethnicity[0],
        "asian" => identity.ethnicity[1],
        "caucasian" => identity.ethnicity[2],
        "female" => 1.0 - identity.male,
        "male" => identity.male,
        "child" => identity.child,
        "young" => young,
        "old" => identity.old,
        other => unreachable!("no prototype is {other}"),
    };
    model.macros.iter().map(|target| target.name.split('-').map(of).product()).collect()
}

/// Ends of names that make a pair.
const PAIRS: [[&str; 2]; 6] = [
    ["-decr", "-incr"],
    ["-down", "-up"],
    ["-in", "-out"],
    ["-backward", "-forward"],
    ["-compress", "-uncompress"],
    ["-concave", "-convex"],
];

/// The shape targets as knobs.
fn knobs(model: &HeadModel) -> &'static [Knob] {
    static KNOBS: OnceLock<Vec<Knob>> = OnceLock::new();
    KNOBS.get_or_init(|| {
        let mut knobs: Vec<Knob> = Vec::new();
        for (index, target) in model.shapes.iter().enumerate() {
            let (side, name) = match target.name.split_once("/l-") {
                Some((part, rest)) => (0, format!("{part}/{rest}")),
                None => match target.name.split_once("/r-") {
                    Some((part, rest)) => (1, format!("{part}/{rest}")),
                    None => (0, target.name.clone()),
                },
            };
            let (name, end) = PAIRS
                .iter()
                .flat_map(|pair| [(pair, 0), (pair, 1)])
                .find_map(|(pair, end)| Some((format!("{}{}", name.strip_suffix(pair[end])?, pair[0]), end)))
                .unwrap_or((name, 1));
            let knob = match knobs.iter().position(|knob| knob.name == name) {
                Some(place) => &mut knobs[place],
                None => {
                    knobs.push(Knob { spread: spread(&name), name, sides: Vec::new() });
                    knobs.last_mut().expect("just pushed")
                }
            };
            knob.sides.resize(knob.sides.len().max(side + 1), [None; 2]);
            knob.sides[side][end] = Some(index);
        }
        knobs
    })
}

/// Standard deviation of a knob, in units of its targets, by the longest prefix that fits its name.
const SPREADS: [(&str, f32); 30] = [
    ("", 0.2),
    ("cheek/", 0.3),
    ("chin/", 0.22),
    ("chin/chin-jaw-drop", 0.15),
    ("chin/chin-prognathism", 0.15),
    ("ears/", 0.25),
    ("ears/ear-shape", 0.1),
    ("ears/ear-trans", 0.12),
    ("eyebrows/", 0.22),
    ("eyebrows/eyebrows-angle", 0.12),
    ("eyes/", 0.25),
    ("eyes/eye-trans", 0.3),
    ("forehead/", 0.22),
    ("forehead/forehead-nubian", 0.06),
    ("head/", 0.2),
    ("head/head-age", 0.3),
    ("head/head-fat", 0.4),
    ("head/head-angle", 0.06),
    ("mouth/", 0.25),
    ("mouth/mouth-trans", 0.15),
    // Sideways: these are asymmetries.
    ("mouth/mouth-trans-in", 0.05),
    ("neck/", 0.25),
    ("neck/neck-trans", 0.1),
    ("nose/", 0.28),
    ("nose/nose-trans-in", 0.05),
    ("nose/nose-point", 0.2),
    ("nose/nose-scale-depth", 0.22),
    ("nose/nose-compression", 0.15),
    ("nose/nose-volume", 0.2),
    ("nose/nose-hump", 0.25),
];

/// Face outlines: a head has at most one.
const OUTLINES: [&str; 7] = [
    "head/head-diamond",
    "head/head-invertedtriangular",
    "head/head-oval",
    "head/head-rectangular",
    "head/head-round",
    "head/head-square",
    "head/head-triangular",
];

fn spread(name: &str) -> f32 {
    SPREADS
        .iter()
        .filter(|(prefix, _)| name.starts_with(prefix))
        .max_by_key(|(prefix, _)| prefix.len())
        .map_or(0.0, |(_, spread)| *spread)
}

fn draw_shape(model: &HeadModel, draws: &mut Draws, positions: &mut [[f32; 3]]) {
    let outline = OUTLINES[draws.pick(&[1.0; 7])];
    let outline_weight = draws.uniform() * 0.5;
    for knob in knobs(model) {
        if OUTLINES.contains(&knob.name.as_str()) {
            if knob.name == outline
                && let Some(target) = knob.sides[0][1]
            {
                model.displace(positions, &model.shapes[target], outline_weight);
            }
            continue;
        }
        let value = draws.bell() * knob.spread;
        for ends in &knob.sides {
            let value = value + if knob.sides.len() == 2 { draws.bell() * knob.spread * 0.15 } else { 0.0 };
            let target = if value < 0.0 { ends[0] } else { ends[1] };
            if let Some(target) = target {
                model.displace(positions, &model.shapes[target], value.abs());
            }
        }
    }
}

/// The asymmetry targets are opposites, too: left and right of the same name.
fn draw_asymmetry(model: &HeadModel, factor: f32, draws: &mut Draws, positions: &mut [[f32; 3]]) {
    for pair in model.asymmetries.chunks(2) {
        let value = draws.bell() * 0.15 * factor;
        let target: &Target = &pair[usize::from(value > 0.0) % pair.len()];
        model.displace(positions, target, value.abs());
    }
}

#[cfg(test)]
mod tests {
    use relievo_tensor::Random;

    use super::*;
    use crate::head::head_model;

    #[test]
    fn prototype_weights_sum_to_one() {
        let model = head_model();
        for head in 0..50 {
            let identity = Identity::draw_prototype(&mut Draws::new(Random::new(1, head)));
            let weights = prototype_weights(model, &identity);
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!(weights.iter().all(|w| *w >= 0.0));
        }
    }

    #[test]
    fn every_shape_target_belongs_to_a_knob_and_pairs_are_found() {
        let model = head_model();
        let knobs = knobs(model);
        let used = knobs.iter().flat_map(|k| k.sides.as_flattened()).flatten().count();
        assert_eq!(used, model.shapes.len());
        let eye = knobs.iter().find(|k| k.name == "eyes/eye-scale-decr").unwrap();
        assert_eq!(eye.sides.len(), 2);
        assert!(eye.sides.as_flattened().iter().all(Option::is_some));
        let sideways = knobs.iter().find(|k| k.name == "nose/nose-trans-in").unwrap();
        assert!(sideways.sides.as_flattened().iter().all(Option::is_some));
    }

    #[test]
    fn expression_units_find_their_sides() {
        let left = Unit { name: "eyebrows-extern-up".into(), side: -1.0, ethnicity: 1 };
        assert_eq!(Unit::parse("expression/units/asian/eyebrows-left-extern-up"), left);
        let whole = Unit { name: "mouth-open".into(), side: 0.0, ethnicity: 2 };
        assert_eq!(Unit::parse("expression/units/caucasian/mouth-open"), whole);
        for target in units_of(head_model()) {
            assert!(!target.name.contains("left") && !target.name.contains("right"));
        }
    }
}
