//! Newell's teapot.
//!
//! Martin Newell's measurements of 1975 (*The Utilization of Procedure Models in Digital Image Synthesis*), 32 bicubic
//! Bezier patches with the bottom that Frank Crow added (*The Origins of the Teapot*, IEEE CG&A 1987). Body, lid and
//! bottom are quarter turns of a profile, handle and spout are symmetric, so a few control points give all of them.

use super::add_tube;
use crate::mesh::Mesh;

/// A control point of a profile: radius, height, and the second radius by which a quarter turn is bent.
type Turned = (f64, f64, f64);

/// Control points (x, y, z), z up, from the upper to the lower side of a cross-section's half with y <= 0.
type HalfSection = [[f64; 3]; 4];

/// Rim, upper and lower body, bottom: four cubics, of which neighbours share an end.
const BODY: [Turned; 13] = [
    (1.4, 2.4, 0.784),
    (1.3375, 2.53125, 0.749),
    (1.4375, 2.53125, 0.805),
    (1.5, 2.4, 0.84),
    (1.75, 1.875, 0.98),
    (2.0, 1.35, 1.12),
    (2.0, 0.9, 1.12),
    (2.0, 0.45, 1.12),
    (1.5, 0.225, 0.84),
    (1.5, 0.15, 0.84),
    (1.5, 0.075, 0.84),
    (1.425, 0.0, 0.798),
    (0.0, 0.0, 0.0),
];

/// Knob and lid: two cubics.
const LID: [Turned; 7] = [
    (0.0, 3.15, 0.0),
    (0.8, 3.15, 0.45),
    (0.0, 2.85, 0.0),
    (0.2, 2.7, 0.112),
    (0.4, 2.55, 0.224),
    (1.3, 2.55, 0.728),
    (1.3, 2.4, 0.728),
];

/// From the upper end to the lower: two cubics.
const HANDLE: [HalfSection; 7] = [
    [[-1.6, 0.0, 2.025], [-1.6, -0.3, 2.025], [-1.5, -0.3, 2.25], [-1.5, 0.0, 2.25]],
    [[-2.3, 0.0, 2.025], [-2.3, -0.3, 2.025], [-2.5, -0.3, 2.25], [-2.5, 0.0, 2.25]],
    [[-2.7, 0.0, 2.025], [-2.7, -0.3, 2.025], [-3.0, -0.3, 2.25], [-3.0, 0.0, 2.25]],
    [[-2.7, 0.0, 1.8], [-2.7, -0.3, 1.8], [-3.0, -0.3, 1.8], [-3.0, 0.0, 1.8]],
    [[-2.7, 0.0, 1.575], [-2.7, -0.3, 1.575], [-3.0, -0.3, 1.35], [-3.0, 0.0, 1.35]],
    [[-2.5, 0.0, 1.125], [-2.5, -0.3, 1.125], [-2.65, -0.3, 0.9375], [-2.65, 0.0, 0.9375]],
    [[-2.0, 0.0, 0.9], [-2.0, -0.3, 0.9], [-1.9, -0.3, 0.6], [-1.9, 0.0, 0.6]],
];

/// From the body to the mouth, and a little way back inside: two cubics.
const SPOUT: [HalfSection; 7] = [
    [[1.7, 0.0, 1.425], [1.7, -0.66, 1.425], [1.7, -0.66, 0.6], [1.7, 0.0, 0.6]],
    [[2.6, 0.0, 1.425], [2.6, -0.66, 1.425], [3.1, -0.66, 0.825], [3.1, 0.0, 0.825]],
    [[2.3, 0.0, 2.1], [2.3, -0.25, 2.1], [2.4, -0.25, 2.025], [2.4, 0.0, 2.025]],
    [[2.7, 0.0, 2.4], [2.7, -0.25, 2.4], [3.3, -0.25, 2.4], [3.3, 0.0, 2.4]],
    [[2.8, 0.0, 2.475], [2.8, -0.25, 2.475], [3.525, -0.25, 2.49375], [3.525, 0.0, 2.49375]],
    [[2.9, 0.0, 2.475], [2.9, -0.15, 2.475], [3.45, -0.15, 2.5125], [3.45, 0.0, 2.5125]],
    [[2.8, 0.0, 2.4], [2.8, -0.15, 2.4], [3.2, -0.15, 2.4], [3.2, 0.0, 2.4]],
];

/// Newell's teapot in his units (3.15 high, 6.43 long), y up, the spout towards +x, standing on y = 0. Each of the 32
/// patches is divided into `segments` times `segments` squares, which gives `64 * segments^2 - 8 * segments` faces: 2,256
/// for 6, 16,320 for 16. Body, lid, handle and spout are apart from each other and open where they meet.
///
/// # Panics
/// If `segments` is 0 or above 4,096.
pub fn teapot(segments: u32) -> Mesh {
    assert!(
        (1..=4096).contains(&segments),
        "a teapot of {segments} segments a patch; 1 to 4096 are possible"
    );
    let segments = segments as usize;
    let mut mesh = Mesh { name: "teapot".into(), ..Mesh::default() };
    let mut add = |controls: Vec<Vec<[f64; 3]>>, poles| {
        let [rows, columns] = [(controls.len() - 1) / 3 * segments, controls[0].len() / 3 * segments];
        add_tube(&mut mesh, rows, columns, poles, &|row, column| surface(&controls, segments, row, column));
    };
    add(BODY.map(turned).to_vec(), [false, true]);
    add(LID.map(turned).to_vec(), [true, false]);
    add(HANDLE.map(closed).to_vec(), [false; 2]);
    add(SPOUT.map(closed).to_vec(), [false; 2]);
    mesh
}

/// The twelve control points of a full turn, clockwise as seen from above.
fn turned((radius, height, bend): Turned) -> Vec<[f64; 3]> {
    let quarter = [[radius, 0.0], [radius, -bend], [bend, -radius]];
    let turn = |[x, y]: [f64; 2]| [y, -x];
    let mut curve = quarter.to_vec();
    for _ in 1..4 {
        curve.extend_from_within(curve.len() - 3..);
        let added = curve.len() - 3;
        curve[added..].iter_mut().for_each(|point| *point = turn(*point));
    }
    curve.into_iter().map(|[x, y]| [x, y, height]).collect()
}

/// The six control points of a section and its mirror image.
fn closed(half: HalfSection) -> Vec<[f64; 3]> {
    let mirrored = |[x, y, z]: [f64; 3]| [x, -y, z];
    half.into_iter().chain([mirrored(half[2]), mirrored(half[1])]).collect()
}

/// A point of the surface over closed control curves. Height becomes y, and since every part is its own mirror image, y
/// may become z without a change of sign.
fn surface(controls: &[Vec<[f64; 3]>], segments: usize, row: usize, column: usize) -> [f64; 3] {
    let last = (controls.len() - 1) / 3 - 1;
    let patch = (row / segments).min(last);
    let along = bernstein(row - patch * segments, segments);
    let around = bernstein(column % segments, segments);
    let mut sum = [0.0; 3];
    for (curve, along) in controls[3 * patch..].iter().zip(along) {
        for (step, around) in around.iter().enumerate() {
            let [x, y, z] = curve[(column / segments * 3 + step) % curve.len()];
            sum.iter_mut().zip([x, z, y]).for_each(|(sum, value)| *sum += along * around * value);
        }
    }
    sum
}

/// The cubic Bernstein polynomials at step/steps.
fn bernstein(step: usize, steps: usize) -> [f64; 4] {
    let t = step as f64 / steps as f64;
    let s = 1.0 - t;
    [s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t]
}
