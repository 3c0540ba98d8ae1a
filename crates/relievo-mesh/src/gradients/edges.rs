//! The boundary integral: the derivative of the image whose pixels are exact means over their area.
//!
//! Where an edge between a and b is seen, moving it by a little along its normal n changes the pixel below it by the jump of
//! the image across it. With x(s) = a + s (b - a), l the length in pixels and g the gradient of the pixel:
//!
//! dL/da = integral over the visible part of the edge of g (I(x - n 0) - I(x + n 0)) l n (1 - s) ds, dL/db the same with s.
//!
//! The edge is divided at the borders of pixels. A piece is looked at in its middle: two queries of the nearest face, a
//! thousandth of a pixel to either side, tell whether the edge is seen there and what the jump is. As the rest of the
//! integrand is linear, that is exact unless what is seen changes within the piece. This is edge sampling (Li, Aittala,
//! Durand, Lehtinen, *Differentiable Monte Carlo Ray Tracing through Edge Sampling*, SIGGRAPH Asia 2018) with the integral
//! done instead of sampled.
//!
//! Where two faces cut through each other there is no edge of the mesh, and nothing is heard.

use rayon::prelude::*;
use relievo_tensor::cuda::kernel_int;
use relievo_tensor::{Random, Result};

use super::drawn::{Drawn, Side};
use super::points::{Hit, Points};
use crate::cuda::boundary as gpu;
use crate::raster::Covered;
use crate::shade::Painted;

/// How far beside an edge the image is asked, in pixels.
const ASIDE: f64 = 1e-3;

/// Where edges are looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Places {
    /// So many per pixel that an edge crosses.
    PerPixel(usize),
    /// So many per edge, at random.
    Random { per_edge: usize, seed: u64 },
}

impl Places {
    /// As kernels have it.
    pub fn on_gpu(self) -> Result<gpu::Places> {
        let int = |value| kernel_int(value, "render");
        Ok(match self {
            Self::PerPixel(count) => gpu::Places { per_pixel: int(count)?, per_edge: 0, seed: 0 },
            Self::Random { per_edge, seed } => gpu::Places { per_pixel: 0, per_edge: int(per_edge)?, seed },
        })
    }
}

/// Gradients of an image, in its pixels, row 0 at the top; and what it takes to know what is seen.
pub(crate) struct Boundary<'a> {
    pub image: &'a Covered<'a>,
    /// Width and height in pixels.
    pub size: [usize; 2],
    pub near_far: [f32; 2],
    pub alpha: Option<&'a [f32]>,
    pub colour: Option<PaintedImage<'a>>,
    pub depth: Option<DepthOfPixels<'a>>,
}

/// The gradient of colour, with what faces look like.
#[derive(Clone, Copy)]
pub(crate) struct PaintedImage<'a> {
    pub gradient: &'a [f32],
    pub painted: &'a [Painted<'a>],
    pub background: [f32; 3],
}

/// The gradient of depth.
pub(crate) enum DepthOfPixels<'a> {
    /// Points without a face are at `far`.
    All(&'a [f32]),
    /// They do not count. Besides the gradient the image itself, and the covered share of each pixel.
    Covered { gradient: &'a [f32], depth: Vec<f32>, share: Vec<f32> },
}

/// A part of an edge, from `from` to `to` of its length, that one look stands for.
struct Piece {
    from: f64,
    to: f64,
    /// Where it is looked at.
    at: f64,
}

/// Adds the gradients in the screen coordinates of all vertices of the image.
pub(crate) fn add_boundary_gradients(boundary: &Boundary<'_>, places: Places, gradients: &mut [[f32; 3]]) {
    let drawn = Drawn::new(boundary.image, boundary.size);
    let looked =
        Looked { boundary, drawn: &drawn, points: Points::new(&drawn, boundary.size, boundary.near_far) };
    // Most edges hear nothing; the others stay in their order.
    let of_edge = |edge: usize| {
        let of_ends = looked.of_edge(edge, places);
        (of_ends != [[0.0; 2]; 2]).then_some((edge, of_ends))
    };
    let found: Vec<(usize, [[f64; 2]; 2])> =
        (0..drawn.edges()).into_par_iter().with_min_len(16).filter_map(of_edge).collect();
    let halves = boundary.size.map(|side| side as f64 / 2.0);
    for (edge, of_ends) in found {
        let sides = drawn.sides(edge);
        for side in sides {
            let vertices = boundary.image.geometry.corners(drawn.faces[side.face as usize].number as usize);
            for (corner, g) in side.corners().into_iter().zip(of_ends) {
                for axis in 0..2 {
                    gradients[vertices[corner]][axis] += (g[axis] * halves[axis] / sides.len() as f64) as f32;
                }
            }
        }
    }
}

struct Looked<'a> {
    boundary: &'a Boundary<'a>,
    drawn: &'a Drawn,
    points: Points<'a>,
}

impl Looked<'_> {
    /// The gradients of an edge's ends, in pixels.
    fn of_edge(&self, edge: usize, places: Places) -> [[f64; 2]; 2] {
        let mut sums = [[0.0; 2]; 2];
        // Across other edges only colour jumps.
        if self.boundary.colour.is_none() && !self.drawn.is_silhouette(edge) {
            return sums;
        }
        let [a, b] = self.drawn.ends(edge);
        let along = [b[0] - a[0], b[1] - a[1]];
        let length = along[0].hypot(along[1]);
        let (Some([first, last]), true) = (self.clip(a, along), length > 0.0) else { return sums };
        let normal = [along[1] / length, -along[0] / length];
        let sides = self.drawn.sides(edge);
        let mut look = |piece: Piece| {
            let x = [a[0] + piece.at * along[0], a[1] + piece.at * along[1]];
            let jump = self.jump(x, normal, sides) * length * (piece.to - piece.from);
            for (sum, share) in sums.iter_mut().zip([1.0 - piece.at, piece.at]) {
                sum.iter_mut().zip(normal).for_each(|(sum, n)| *sum += jump * share * n);
            }
        };
        match places {
            Places::PerPixel(count) => pixels_along(a, along, [first, last], |from, to| {
                let step = (to - from) / count as f64;
                for index in 0..count {
                    let from = from + index as f64 * step;
                    look(Piece { from, to: from + step, at: from + step / 2.0 });
                }
            }),
            Places::Random { per_edge, seed } => {
                // By the vertices, which are the same in whatever order edges come.
                let [low, high] = sides[0].ends().map(u64::from);
                let random = Random::new(seed, low << 32 | high);
                let step = (last - first) / per_edge as f64;
                for index in 0..per_edge {
                    let from = first + index as f64 * step;
                    let within = random.uniform(index as u64);
                    look(Piece { from, to: from + step, at: from + step * f64::from(within) });
                }
            }
        }
        sums
    }

    /// The part of an edge that is on the image.
    fn clip(&self, a: [f64; 2], along: [f64; 2]) -> Option<[f64; 2]> {
        let mut span = [0.0f64, 1.0];
        for axis in 0..2 {
            let side = self.boundary.size[axis] as f64;
            if along[axis] == 0.0 {
                if !(0.0..=side).contains(&a[axis]) {
                    return None;
                }
                continue;
            }
            let [p, q] = [-a[axis] / along[axis], (side - a[axis]) / along[axis]];
            span = [span[0].max(p.min(q)), span[1].min(p.max(q))];
        }
        (span[0] < span[1]).then_some(span)
    }

    /// How much better the image gets if the edge with these sides moves along `normal` at `x`, by pixel of way and length.
    fn jump(&self, x: [f64; 2], normal: [f64; 2], sides: &[Side]) -> f64 {
        let [width, height] = self.boundary.size;
        let (column, up) =
            ((x[0].max(0.0) as usize).min(width - 1), (x[1].max(0.0) as usize).min(height - 1));
        let pixel = (height - 1 - up) * width + column;
        if !self.boundary.hears(pixel) {
            return 0.0;
        }
        let beside = |by: f64| self.points.nearest([x[0] + by * normal[0], x[1] + by * normal[1]]);
        let [left, right] = [beside(-ASIDE), beside(ASIDE)];
        let own = |hit: &Option<Hit>| hit.is_some_and(|hit| sides.iter().any(|side| side.face == hit.face));
        if !(own(&left) || own(&right)) {
            return 0.0;
        }
        self.value(left, pixel) - self.value(right, pixel)
    }

    /// What is seen, times the gradients of the pixel.
    fn value(&self, hit: Option<Hit>, pixel: usize) -> f64 {
        let Boundary { image, alpha, colour, depth, near_far, .. } = self.boundary;
        let mut value = 0.0;
        if let (Some(alpha), Some(_)) = (alpha, hit) {
            value += f64::from(alpha[pixel]);
        }
        if let Some(PaintedImage { gradient, painted, background }) = colour {
            let seen = match hit {
                Some(Hit { face, weights, .. }) => {
                    let number = self.drawn.faces[face as usize].number;
                    Painted::colour_at(painted, image.geometry, number as usize, weights)
                }
                None => *background,
            };
            let g = &gradient[3 * pixel..3 * pixel + 3];
            value += g.iter().zip(seen).map(|(g, seen)| f64::from(*g) * f64::from(seen)).sum::<f64>();
        }
        match depth {
            Some(DepthOfPixels::All(gradient)) => {
                let seen = hit.map_or(f64::from(near_far[1]), |hit| hit.depth);
                value += f64::from(gradient[pixel]) * seen;
            }
            // The mean of the covered part: its sum over its share.
            Some(DepthOfPixels::Covered { gradient, depth, share }) if share[pixel] > 0.0 => {
                let seen = hit.map_or(0.0, |hit| hit.depth - f64::from(depth[pixel]));
                value += f64::from(gradient[pixel]) / f64::from(share[pixel]) * seen;
            }
            _ => {}
        }
        value
    }
}

impl Boundary<'_> {
    /// Whether a pixel has a gradient.
    fn hears(&self, pixel: usize) -> bool {
        let colour = self.colour.map(|colour| &colour.gradient[3 * pixel..3 * pixel + 3]);
        let depth = self.depth.as_ref().map(|depth| match depth {
            DepthOfPixels::All(gradient) | DepthOfPixels::Covered { gradient, .. } => gradient[pixel],
        });
        self.alpha.is_some_and(|alpha| alpha[pixel] != 0.0)
            || colour.is_some_and(|colour| colour != [0.0; 3])
            || depth.is_some_and(|depth| depth != 0.0)
    }
}

/// Calls `visit` with the part of an edge in each pixel that it crosses between `first` and `last` of its length.
fn pixels_along(a: [f64; 2], along: [f64; 2], [first, last]: [f64; 2], mut visit: impl FnMut(f64, f64)) {
    // The next border of each axis, and the step to the one after it.
    let mut borders = [0, 1].map(|axis| {
        let at = a[axis] + first * along[axis];
        if along[axis] > 0.0 { (at.floor() + 1.0, 1.0) } else { (at.ceil() - 1.0, -1.0) }
    });
    let reached = |(border, _): (f64, f64), axis: usize| match along[axis] == 0.0 {
        true => f64::INFINITY,
        false => (border - a[axis]) / along[axis],
    };
    let mut from = first;
    while from < last {
        let [x, y] = [0, 1].map(|axis| reached(borders[axis], axis));
        let to = x.min(y).min(last);
        if to > from {
            visit(from, to);
            from = to;
        }
        for (axis, border) in borders.iter_mut().enumerate() {
            if [x, y][axis] <= to {
                border.0 += border.1;
            }
        }
    }
}
