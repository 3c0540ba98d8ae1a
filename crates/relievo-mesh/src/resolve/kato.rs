//! The gradient of Kato, Ushiku and Harada (CVPR 2018, section 3.3): what an edge would change if it moved.
//!
//! Every edge of every visible face is looked at where it crosses a row or a column of samples. A sample that the edge would
//! uncover or cover if its end moved by D along the line, and that would be better for it (G > 0), pulls that end by
//! G / D. *Outwards* every sample up to the border of the image may be covered; *inwards* those of the face itself may
//! be uncovered. Samples that would get worse say nothing, so the gradient is not linear in the upstream gradients: those
//! of all losses must be added before, which the tape does.
//!
//! Threads take blocks of lines; the sums of each block are added in the order of blocks.

use rayon::prelude::*;

use super::lines::{Axis, BLOCK, ColourLines, Crossing, Lines, SilhouetteLines, Upstream};
use crate::lanes::{Lanes, Work, run};
use crate::raster::{Bins, Covered, Triangle};

/// Adds the gradients in the screen coordinates of all vertices of one image. `eps` is what D is kept away from zero by, in
/// units of the screen.
pub(super) fn add_edge_gradients(
    image: &Covered<'_>,
    upstream: &Upstream<'_>,
    eps: f32,
    gradients: &mut [[f32; 3]],
) {
    let visible: Vec<Triangle> =
        image.visible().into_iter().map(|number| image.triangle(number as f32)).collect();
    let sums = [Axis::Column, Axis::Row].map(|axis| match upstream.colour {
        None => axis_sums::<SilhouetteLines>(image, &visible, upstream, axis, eps),
        Some(_) => axis_sums::<ColourLines>(image, &visible, upstream, axis, eps),
    });
    for (triangle, [along_y, along_x]) in
        visible.iter().zip(sums[0].iter().zip(&sums[1]).map(|(y, x)| [y, x]))
    {
        for (corner, vertex) in image.geometry.corners(triangle.number as usize).into_iter().enumerate() {
            gradients[vertex][0] -= along_x[corner];
            gradients[vertex][1] -= along_y[corner];
        }
    }
}

/// For each face the sums of its corners along the lines of one axis.
fn axis_sums<G: Lines>(
    image: &Covered<'_>,
    visible: &[Triangle],
    upstream: &Upstream<'_>,
    axis: Axis,
    eps: f32,
) -> Vec<[f32; 3]> {
    let [lines, length] = axis.extents(image.samples);
    let blocks = Bins::new(visible.len(), lines.div_ceil(BLOCK), |face| {
        let [u, _] = across_and_along(&visible[face], axis);
        let crossed = lines_between(u[0].min(u[1]).min(u[2]), u[0].max(u[1]).max(u[2]), lines);
        crossed.into_iter().flat_map(|[first, last]| first / BLOCK..=last / BLOCK)
    });
    let shared = Shared { image, visible, upstream, axis, eps };
    let found: Vec<Vec<[f32; 3]>> = (0..lines.div_ceil(BLOCK))
        .into_par_iter()
        .map_init(
            || G::new(length),
            |scratch, block| {
                let list = blocks.of(block);
                let mut sums = vec![[0.0; 3]; list.len()];
                if !list.is_empty() {
                    let range = [block * BLOCK, ((block + 1) * BLOCK).min(lines) - 1];
                    run(SweepBlock { shared: &shared, lines: scratch, range, list, sums: &mut sums });
                }
                sums
            },
        )
        .collect();
    let mut sums = vec![[0.0f32; 3]; visible.len()];
    for (block, found) in found.iter().enumerate() {
        for (face, found) in blocks.of(block).iter().zip(found) {
            sums[*face as usize].iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
        }
    }
    sums
}

/// Coordinates of the corners: which line they are on, and where on it.
#[inline(always)]
fn across_and_along(triangle: &Triangle, axis: Axis) -> [[f32; 3]; 2] {
    match axis {
        Axis::Column => [triangle.px, triangle.py],
        Axis::Row => [triangle.py, triangle.px],
    }
}

/// First and last line between two coordinates. An edge that ends between the lines -1 and 0 reaches line 0, as in the
/// original, which rounds towards zero.
#[inline(always)]
fn lines_between(least: f32, greatest: f32, lines: usize) -> Option<[usize; 2]> {
    let first = least.ceil().max(0.0);
    let last = greatest.min((lines - 1) as f32).trunc();
    (first <= last).then_some([first as usize, last as usize])
}

/// What all blocks share.
struct Shared<'a> {
    image: &'a Covered<'a>,
    visible: &'a [Triangle],
    upstream: &'a Upstream<'a>,
    axis: Axis,
    eps: f32,
}

/// The sums of some faces over a block of lines.
struct SweepBlock<'a, G> {
    shared: &'a Shared<'a>,
    /// Room for the lines.
    lines: &'a mut G,
    /// First and last line.
    range: [usize; 2],
    list: &'a [u32],
    sums: &'a mut [[f32; 3]],
}

impl<G: Lines> Work for SweepBlock<'_, G> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { shared, lines, range, list, sums } = self;
        lines.gather(shared.axis, range[0], range[1] + 1 - range[0], shared.image, shared.upstream);
        for (face, sums) in list.iter().zip(sums) {
            let triangle = &shared.visible[*face as usize];
            for edge in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
                sweep_edge(l, &*lines, shared, triangle, edge, range, sums);
            }
        }
    }
}

/// The slope of the line through two corners.
#[inline(always)]
fn slope([ua, va]: [f32; 2], [ub, vb]: [f32; 2]) -> f32 {
    (vb - va) / (ub - ua)
}

/// Steeper than any edge on a screen; keeps products finite.
const STEEPEST: f32 = 1e15;

/// Adds what the edge between corners `a` and `b` gets, `c` the other corner.
#[inline(always)]
fn sweep_edge<L: Lanes, G: Lines>(
    l: L,
    lines: &G,
    shared: &Shared<'_>,
    triangle: &Triangle,
    [a, b, c]: [usize; 3],
    range: [usize; 2],
    sums: &mut [f32; 3],
) {
    let [u, v] = across_and_along(triangle, shared.axis);
    let [count, length] = shared.axis.extents(shared.image.samples);
    let (ua, ub) = (u[a], u[b]);
    let Some([first, last]) = lines_between(ua.min(ub), ua.max(ub), count) else { return };
    if ua == ub {
        return;
    }
    // The side of the edge that is outside of the face.
    let up = (shared.axis == Axis::Row) == (ua < ub);
    let step = if up { 1.0 } else { -1.0 };
    let number = triangle.number as f32;
    let corner = |k: usize| [u[k], v[k]];
    let unit = 2.0 / length as f32;
    let most = (length - 1) as f32;
    let along = slope(corner(a), corner(b));
    // Of the other two sides, as they are needed.
    let mut others: Option<[f32; 2]> = None;
    for line in first.max(range[0])..=last.min(range[1]) {
        let q = line as f32;
        let at = along * (q - ua) + v[a];
        let inner = if up { at.floor() } else { at.ceil() };
        let outer = inner + step;
        // Written so that NaN is skipped.
        if !(inner >= 0.0 && inner <= most && outer >= 0.0 && outer <= most) {
            continue;
        }
        let (inner, outer) = (inner as usize, outer as usize);
        let own = line - range[0];
        let outward = lines.shows(own, inner) == number && lines.pulls_outward(own, inner, up);
        let inward = lines.pulls_inward(own, outer);
        if !(outward || inward) {
            continue;
        }
        // An end on the line itself is not moved by the other end.
        let (by_a, by_b) = (ub - q, q - ua);
        let slope_by = |arm: f32| {
            if arm == 0.0 { 1.0 } else { ((ub - ua) / arm).clamp(-STEEPEST, STEEPEST) * unit }
        };
        let crossed = Crossing { at, slopes: [slope_by(by_a), slope_by(by_b)], eps: shared.eps };
        let mut found = [0.0; 2];
        if outward {
            found = lines.outward(l, own, inner, up, &crossed);
        }
        if inward {
            let [from_a, from_c] =
                *others.get_or_insert_with(|| [slope(corner(a), corner(c)), slope(corner(c), corner(b))]);
            let end = if (q - ua) * (q - u[c]) < 0.0 {
                from_a * (q - ua) + v[a]
            } else {
                from_c * (q - u[c]) + v[c]
            };
            // NaN becomes 0, as a conversion to integers on a GPU does.
            let end = (if up { end.ceil() } else { end.floor() }) as i32;
            let span =
                [end.min(inner as i32).max(0) as usize, (end.max(inner as i32) as usize).min(length - 1)];
            let inward = lines.inward(l, own, outer, number, span, &crossed);
            found = [found[0] + inward[0], found[1] + inward[1]];
        }
        if by_a != 0.0 {
            sums[a] += found[0];
        }
        if by_b != 0.0 {
            sums[b] += found[1];
        }
    }
}
