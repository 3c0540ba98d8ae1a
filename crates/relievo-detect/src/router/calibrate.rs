//! From trained weights to a router: odds that mean what they say, thresholds, and images to compare others with.

use relievo_data::Image;
use relievo_tensor::{Random, Result};

use super::Router;
use super::category::{RouterCategory, View};
use super::look;
use super::material::{Material, Named, picture};
use super::network::FEATURES;
use super::train::Trained;

/// Rows of the bank: of other things, and of each category.
const BANK: [usize; 2] = [768, 96];

/// Whether a held out image is for the calibration; the others are for the evaluation.
pub(super) fn is_for_calibration(name: &str) -> bool {
    Random::named(19, picture(name)).bits(0).is_multiple_of(2)
}

/// The router of trained weights. Each category's odds are mapped linearly so that they are the odds with which an image
/// shows it where as many do as do not (Platt 1999), on half of the held out images; its threshold makes the fewest
/// mistakes there.
///
/// # Errors
/// If the engine fails.
pub fn calibrate(trained: Trained, material: &Material, models: &[(&str, &str)]) -> Result<Router> {
    let [weight, bias] = &trained.heads;
    let heads = weight.data().chunks_exact(FEATURES).zip(bias.data());
    let categories: Vec<RouterCategory> = (heads.zip(&material.categories))
        .map(|((weight, bias), name)| RouterCategory {
            name: name.clone(),
            model: (models.iter().find(|(category, _)| category == name))
                .map_or_else(String::new, |(_, model)| (*model).to_owned()),
            view: View::Places,
            threshold: 0.5,
            images: 0,
            weight: weight.to_vec(),
            bias: *bias,
        })
        .collect();
    let mut router = Router { network: trained.network, categories, bank: Vec::new(), fingerprint: 0 };
    // As it will be read: quantised.
    router = Router::from_safetensors(&router.to_safetensors()).expect("a router just written");
    let odds = |images: &[Named]| -> Result<Vec<Vec<f32>>> {
        let chosen = images.iter().filter(|image| is_for_calibration(&image.name));
        chosen.map(|image| router.odds(&image.image)).collect()
    };
    let shown: Vec<Vec<Vec<f32>>> =
        material.held_out.crops.iter().map(|crops| odds(crops)).collect::<Result<_>>()?;
    let things = odds(&material.held_out.things)?;
    for number in 0..router.categories.len() {
        let of = |rows: &[Vec<f32>]| -> Vec<f32> { rows.iter().map(|row| row[number]).collect() };
        let right = of(&shown[number]);
        let others = shown.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, rows)| of(rows));
        let kinds: Vec<Vec<f32>> = others.chain([of(&things)]).collect();
        let (slope, shift) = platt(&right, &kinds);
        let category = &mut router.categories[number];
        category.weight.iter_mut().for_each(|weight| *weight *= slope);
        category.bias = slope * category.bias + shift;
        let mapped = |odds: &f32| 1.0 / (1.0 + (-(slope * odds + shift)).exp());
        let right: Vec<f32> = right.iter().map(mapped).collect();
        let kinds: Vec<Vec<f32>> = kinds.iter().map(|kind| kind.iter().map(mapped).collect()).collect();
        category.threshold = threshold(&right, &kinds);
    }
    router.bank = bank(&router, material)?;
    Ok(Router::from_safetensors(&router.to_safetensors()).expect("a router just written"))
}

impl Router {
    /// For each category the highest odds' logarithm at any place of an image.
    pub(super) fn odds(&self, image: &Image) -> Result<Vec<f32>> {
        let mut most = vec![f32::NEG_INFINITY; self.categories.len()];
        look::places(&self.network, image, |features, _| {
            for (most, category) in most.iter_mut().zip(&self.categories) {
                *most = most.max(category.odds(features));
            }
        })?;
        Ok(most)
    }
}

/// Slope and shift of the map from odds to calibrated odds: the logistic regression of whether an image shows the
/// category, where those that do weigh as much as those that do not, and of these each kind as much as the others.
fn platt(right: &[f32], kinds: &[Vec<f32>]) -> (f32, f32) {
    let weighted = |rows: &[f32], weight: f64, shows: f64| -> Vec<(f64, f64, f64)> {
        rows.iter().map(|odds| (f64::from(*odds), weight / rows.len() as f64, shows)).collect()
    };
    let mut rows = weighted(right, 1.0, 1.0);
    rows.extend(kinds.iter().flat_map(|kind| weighted(kind, 1.0 / kinds.len() as f64, 0.0)));
    let (mut slope, mut shift) = (1.0_f64, 0.0_f64);
    // Newton's method with a little of a ridge around (1, 0), because images that are told apart without a mistake leave
    // the slope open.
    const RIDGE: f64 = 1e-3;
    for _ in 0..50 {
        let (mut g, mut h) = ([RIDGE * (slope - 1.0), RIDGE * shift], [RIDGE, 0.0, RIDGE]);
        for (odds, weight, shows) in &rows {
            let p = 1.0 / (1.0 + (-(slope * odds + shift)).exp());
            let (error, curve) = (weight * (p - shows), weight * p * (1.0 - p));
            g = [g[0] + error * odds, g[1] + error];
            h = [h[0] + curve * odds * odds, h[1] + curve * odds, h[2] + curve];
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        let step = [(h[2] * g[0] - h[1] * g[1]) / determinant, (h[0] * g[1] - h[1] * g[0]) / determinant];
        // A long step would leave where the second order holds.
        let length = step[0].hypot(step[1]).max(1.0);
        slope = (slope - step[0] / length).max(0.05);
        shift -= step[1] / length;
    }
    (slope as f32, shift as f32)
}

/// The certainty at which the share of images that are missed and the share of the worst kind that is mistaken make the
/// smallest sum; the middle, where there are several.
fn threshold(right: &[f32], kinds: &[Vec<f32>]) -> f32 {
    let share = |rows: &[f32], keep: &dyn Fn(f32) -> bool| {
        rows.iter().filter(|row| keep(**row)).count() as f32 / rows.len().max(1) as f32
    };
    let mistakes = |at: f32| {
        let mistaken = kinds.iter().map(|kind| share(kind, &|row| row >= at)).fold(0.0, f32::max);
        share(right, &|row| row < at) + mistaken
    };
    let candidates: Vec<f32> = (1..100).map(|percent| percent as f32 / 100.0).collect();
    let least = candidates.iter().map(|at| mistakes(*at)).fold(f32::INFINITY, f32::min);
    let best: Vec<f32> = candidates.into_iter().filter(|at| mistakes(*at) <= least).collect();
    best[best.len() / 2]
}

/// Features of images to learn from, spread evenly over them.
fn bank(router: &Router, material: &Material) -> Result<Vec<(Option<usize>, Vec<f32>)>> {
    let mut bank = Vec::new();
    let kinds = material.train.crops.iter().enumerate().map(|(number, crops)| (Some(number), crops));
    for (of, images) in [(None, &material.train.things)].into_iter().chain(kinds) {
        let count = BANK[usize::from(of.is_some())].min(images.len());
        let chosen: Vec<Image> =
            (0..count).map(|at| images[at * images.len() / count].image.clone()).collect();
        bank.extend(look::whole(&router.network, &chosen)?.into_iter().map(|row| (of, row)));
    }
    Ok(bank)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` numbers around `middle`.
    fn around(middle: f32, count: usize) -> Vec<f32> {
        let random = Random::new(3, middle.to_bits().into());
        (0..count as u64)
            .map(|at| middle + 2.0 * (random.uniform(2 * at) + random.uniform(2 * at + 1) - 1.0))
            .collect()
    }

    #[test]
    fn odds_become_those_of_the_images() {
        // Numbers that are three times as sure as they should be, and off by 2.
        let (right, wrong) = (around(1.0, 4000), around(-1.0, 4000));
        let scaled = |rows: &[f32]| -> Vec<f32> { rows.iter().map(|row| 3.0 * row + 2.0).collect() };
        let (slope, shift) = platt(&right, std::slice::from_ref(&wrong));
        let (third, moved) = platt(&scaled(&right), &[scaled(&wrong)]);
        assert!((third - slope / 3.0).abs() < 0.02 && (moved + 2.0 * third - shift).abs() < 0.05);
        // Where the two are equally likely the certainty is a half.
        assert!(shift.abs() < 0.1, "{shift}");
    }

    #[test]
    fn the_threshold_makes_the_fewest_mistakes() {
        let at = threshold(&[0.9, 0.8, 0.7, 0.2], &[vec![0.1, 0.3], vec![0.05, 0.5]]);
        assert!((0.5..=0.7).contains(&at), "{at}");
    }
}
