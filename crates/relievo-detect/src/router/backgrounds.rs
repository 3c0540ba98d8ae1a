//! Backgrounds that show nothing: colours, gradients, clouds, stripes and shapes.

use super::degrade::Patch;
use super::draws::Draws;

fn colour(draws: &mut Draws) -> [f32; 3] {
    let (brightness, strength) = (draws.between(10.0, 245.0), draws.factor([4.0, 90.0]));
    [0, 1, 2].map(|_| (brightness + strength * draws.bell()).clamp(0.0, 255.0))
}

/// A background of `side` x `side` pixels.
pub(super) fn synthetic(side: usize, draws: &mut Draws) -> Patch {
    let mut patch = Patch::grey(side, 127.5);
    if draws.chance(0.12) {
        return patch;
    }
    gradient(&mut patch, draws);
    if draws.chance(0.7) {
        for _ in 0..1 + draws.below(3) {
            clouds(&mut patch, draws);
        }
    }
    if draws.chance(0.25) {
        stripes(&mut patch, draws);
    }
    if draws.chance(0.6) {
        for _ in 0..1 + draws.below(10) {
            shape(&mut patch, draws);
        }
    }
    patch
}

/// Changes each pixel by its place (x, y).
fn each(patch: &mut Patch, change: impl Fn([f32; 2], &mut [f32; 3])) {
    let side = patch.side;
    for (at, pixel) in patch.values.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        change([(at % side) as f32, (at / side) as f32], pixel);
    }
}

fn mix(pixel: &mut [f32; 3], with: [f32; 3], share: f32) {
    for (value, new) in pixel.iter_mut().zip(with) {
        *value += share * (new - *value);
    }
}

fn gradient(patch: &mut Patch, draws: &mut Draws) {
    let (from, to) = (colour(draws), colour(draws));
    let (sine, cosine) = (std::f32::consts::TAU * draws.uniform()).sin_cos();
    let length = patch.side as f32;
    each(patch, |[x, y], pixel| {
        let share = (0.5 + ((x / length - 0.5) * cosine + (y / length - 0.5) * sine)).clamp(0.0, 1.0);
        *pixel = from;
        mix(pixel, to, share);
    });
}

/// Smooth noise of one size of grain.
fn clouds(patch: &mut Patch, draws: &mut Draws) {
    let grain = draws.factor([3.0, 50.0]);
    let (with, strength) = (colour(draws), draws.between(0.2, 1.0));
    let cells = (patch.side as f32 / grain) as usize + 2;
    let values: Vec<f32> = (0..cells * cells).map(|_| draws.uniform()).collect();
    each(patch, |place, pixel| {
        let [x, y] = place.map(|coordinate| coordinate / grain);
        let (column, row) = (x as usize, y as usize);
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let [u, v] = [smooth(x.fract()), smooth(y.fract())];
        let value = |down: usize, right: usize| values[(row + down) * cells + column + right];
        let upper = value(0, 0) + u * (value(0, 1) - value(0, 0));
        let lower = value(1, 0) + u * (value(1, 1) - value(1, 0));
        mix(pixel, with, strength * (upper + v * (lower - upper)));
    });
}

fn stripes(patch: &mut Patch, draws: &mut Draws) {
    let (with, strength) = (colour(draws), draws.between(0.2, 0.9));
    let (sine, cosine) = (std::f32::consts::TAU * draws.uniform()).sin_cos();
    let rate = std::f32::consts::TAU / draws.factor([4.0, 40.0]);
    each(patch, |[x, y], pixel| {
        let wave = (rate * (x * cosine + y * sine)).sin();
        mix(pixel, with, strength * (0.5 + 2.0 * wave).clamp(0.0, 1.0));
    });
}

/// A rectangle or an ellipse of one colour, turned.
fn shape(patch: &mut Patch, draws: &mut Draws) {
    let length = patch.side as f32;
    let centre = [0, 1].map(|_| length * draws.uniform());
    let half = [0, 1].map(|_| draws.factor([2.0, length / 2.0]));
    let (sine, cosine) = (std::f32::consts::TAU * draws.uniform()).sin_cos();
    let (with, strength, is_round) = (colour(draws), draws.between(0.4, 1.0), draws.chance(0.5));
    each(patch, |[x, y], pixel| {
        let (right, down) = (x - centre[0], y - centre[1]);
        let [u, v] = [(right * cosine + down * sine) / half[0], (down * cosine - right * sine) / half[1]];
        let distance = if is_round { u.hypot(v) } else { u.abs().max(v.abs()) };
        if distance <= 1.0 {
            mix(pixel, with, strength);
        }
    });
}
