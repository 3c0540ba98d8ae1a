//! Faces one after the other: there are few numbers.

/// The pairs of points that lie at mirrored places, and the points that are no tip of the nose.
const PAIRS: [[usize; 2]; 2] = [[0, 1], [3, 4]];
const OTHERS: [usize; 4] = [0, 1, 3, 4];
const NOSE: usize = 2;

/// One over the number of faces that are known.
fn share(known: &[f32]) -> f64 {
    let count: f64 = known.iter().map(|known| f64::from(*known)).sum();
    if count > 0.0 { 1.0 / count } else { 0.0 }
}

pub fn error([places, depths, known]: [&[f32]; 3], range: f32) -> f32 {
    let of_face = |face: usize| {
        let (x, y) = (|at: usize| places[10 * face + 2 * at], |at: usize| places[10 * face + 2 * at + 1]);
        let depth = |at: usize| depths[5 * face + at] / range;
        let pairs = PAIRS
            .map(|[a, b]| 0.5 * ((x(a) + x(b)).abs() + (y(a) - y(b)).abs()) + (depth(a) - depth(b)).abs());
        let behind = OTHERS.map(|at| 0.25 * (depth(NOSE) - depth(at)).max(0.0));
        pairs.iter().chain(&behind).map(|error| f64::from(*error)).sum::<f64>()
    };
    let sum: f64 = known.iter().enumerate().map(|(face, known)| f64::from(*known) * of_face(face)).sum();
    (share(known) * sum) as f32
}

/// The slope of |x|: 0 at 0, NaN for NaN.
fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

pub fn gradients(
    [places, depths, known]: [&[f32]; 3],
    range: f32,
    dy: f32,
    dplaces: &mut [f32],
    ddepths: &mut [f32],
) {
    let share = (f64::from(dy) * share(known)) as f32;
    dplaces.fill(0.0);
    ddepths.fill(0.0);
    for (face, known) in known.iter().enumerate() {
        let (place, depth) = (10 * face, 5 * face);
        for [a, b] in PAIRS {
            for (axis, side) in [(0, 1.0), (1, -1.0)] {
                let [a, b] = [a, b].map(|at| place + 2 * at + axis);
                let slope = 0.5 * share * known * sign(places[a] + side * places[b]);
                dplaces[a] += slope;
                dplaces[b] += side * slope;
            }
            let slope = share * known / range * sign(depths[depth + a] - depths[depth + b]);
            ddepths[depth + a] += slope;
            ddepths[depth + b] -= slope;
        }
        for at in OTHERS {
            if depths[depth + NOSE] > depths[depth + at] {
                let slope = 0.25 * share * known / range;
                ddepths[depth + NOSE] += slope;
                ddepths[depth + at] -= slope;
            }
        }
    }
}
