//! Soft faces: every face covers a sample with a probability that falls with its distance, and all of them are mixed.
//!
//! Liu, Li, Chen, Li, *Soft Rasterizer* (ICCV 2019, arXiv 1904.01786). With d_f the distance of a sample from the outline of
//! face f in pixels, counted positive inside:
//!
//! - D_f = sigmoid(sign(d_f) d_f^2 / sigma^2); faces further away than where that is 1e-4 are left out;
//! - alpha = 1 - prod(1 - D_f);
//! - colour = (sum D_f e^(z_f / gamma) C_f + e^(eps / gamma) C_background) / (sum D_f e^(z_f / gamma) + e^(eps / gamma)).
//!
//! z_f = (far - depth) / (far - near), depth and colour at the weights clamped to the face; gamma = 1e-4, eps = 1e-3. Faces of
//! which that depth is not between near and far are not seen. The published parameter is sigma^2 in units of the screen:
//! (2 sigma / image size)^2.
//!
//! All faces within reach are mixed, in the order of their numbers; there is no limit to their number. Threads take blocks of
//! samples forwards, faces backwards.

mod gpu;
mod near;

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Device, Operation, Result, Tensor, apply};

use super::average::average;
use super::drawn::{Flat, flats, on_surface};
use crate::check::as_vectors;
use crate::cuda::raster::Sorted;
use crate::raster::{Bins, Coverage, Covered, Geometry};
use crate::shade::{FaceSums, Painted, Paints, Surface};
use near::{CornerGradients, Near};

/// How sharply the nearest face wins.
const GAMMA: f64 = 1e-4;
/// The background is as near as this, of 1.
const BACKGROUND: f64 = 1e-3;
/// Faces with a lower probability are left out.
const LEAST_PROBABILITY: f64 = 1e-4;
/// A sample of which less than this is free is covered, as far as a number of 32 bits can tell: of silhouettes alone nothing
/// more is added to it, and nothing moves it.
const COVERED: f64 = 1e-20;
/// Samples along a side of the blocks that threads take.
const BLOCK: usize = 16;

/// How soft an image is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softness {
    /// In pixels.
    pub sigma: f32,
    pub near_far: [f32; 2],
    /// Samples along a side of a pixel.
    pub per_pixel: usize,
}

impl Softness {
    fn square(&self) -> f64 {
        f64::from(self.sigma) * f64::from(self.sigma)
    }

    /// The square of the distance, in pixels, beyond which faces are left out.
    fn reach(&self) -> f64 {
        self.square() * (1.0 / LEAST_PROBABILITY - 1.0).ln()
    }

    fn is_seen(&self, depth: f64) -> bool {
        depth > f64::from(self.near_far[0]) && depth < f64::from(self.near_far[1])
    }

    /// 1 at `near`, 0 at `far`.
    fn nearness(&self, depth: f64) -> f64 {
        let [near, far] = self.near_far.map(f64::from);
        (far - depth) / (far - near)
    }
}

/// Alpha `[B, H, W]` if it is wanted, and colour `[B, H, W, 3]` if there are `surfaces` with a background. `screens` are the
/// vertices of all parts of all images, `coverage` where they are.
///
/// Gradient: exact in the vertices, colours, lights and background, but that a texture which moves with its face moves no
/// vertex.
pub(crate) fn soften(
    coverage: &Coverage,
    screens: &[Tensor],
    alpha: bool,
    surfaces: Option<(&[Surface], &Tensor)>,
    softness: Softness,
) -> Result<[Option<Tensor>; 2]> {
    let mut inputs: Vec<&Tensor> = screens.iter().collect();
    let paints = match surfaces {
        Some((surfaces, background)) => {
            inputs.extend(Paints::inputs(surfaces, background));
            Some(Paints::new(surfaces)?)
        }
        None => None,
    };
    let size = [coverage.samples.columns, coverage.samples.rows].map(|side| side / softness.per_pixel);
    let margin = softness.reach().sqrt() + 1.0;
    let faces: Vec<Vec<Flat>> = match coverage.numbers.device() {
        Device::Cpu => coverage.images().map(|image| flats(&image, size, margin)).collect(),
        // Kernels find them.
        Device::Cuda(_) => Vec::new(),
    };
    let (coverage, sorted) = (coverage.clone(), OnceLock::new());
    let operation = Soften { coverage, faces: faces.into(), sorted, paints, alpha, softness };
    let outputs = apply(operation, &inputs)?;
    let mut images = outputs.iter().map(|samples| average(samples, softness.per_pixel));
    let alpha = if alpha { images.next().transpose()? } else { None };
    let colour = if surfaces.is_some() { images.next().transpose()? } else { None };
    Ok([alpha, colour])
}

/// Inputs: the vertices of all parts; if there is colour, the background, then light and colours of each part. Outputs:
/// alpha of the samples if it is wanted, then their colours.
struct Soften {
    coverage: Coverage,
    /// Of each image on the CPU, in the order of their numbers.
    faces: Arc<[Vec<Flat>]>,
    /// Those on a GPU.
    sorted: OnceLock<Sorted>,
    paints: Option<Paints>,
    alpha: bool,
    softness: Softness,
}

/// What a sample is mixed of.
#[derive(Clone, Copy, Debug)]
struct Mixture {
    /// prod(1 - D).
    free: f64,
    /// The greatest nearness of all that are mixed.
    most: f64,
    /// The sum of all shares, each divided by e^(most / gamma).
    total: f64,
    /// The sum of all colours times shares, likewise.
    colour: [f64; 3],
}

impl Mixture {
    fn new(background: [f32; 3]) -> Self {
        Self { free: 1.0, most: BACKGROUND, total: 1.0, colour: background.map(f64::from) }
    }

    fn add(&mut self, probability: f64, nearness: f64, colour: [f32; 3]) {
        if nearness > self.most {
            let by = ((self.most - nearness) / GAMMA).exp();
            self.total *= by;
            self.colour = self.colour.map(|c| c * by);
            self.most = nearness;
        }
        let share = probability * ((nearness - self.most) / GAMMA).exp();
        self.total += share;
        (0..3).for_each(|k| self.colour[k] += share * f64::from(colour[k]));
    }
}

impl Mixture {
    /// What the way back needs: prod(1 - D), the greatest nearness, and the total for that nearness as it is kept. Rounded by
    /// itself, the nearness would be off by some ten thousandths of gamma, and every share with it.
    fn kept(&self) -> [f32; 3] {
        let most = self.most as f32;
        let total = self.total * ((self.most - f64::from(most)) / GAMMA).exp();
        [self.free as f32, most, total as f32]
    }
}

/// 1 / (1 + e^-x).
#[inline(always)]
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One image with all that its samples are mixed of.
struct Scenery<'a> {
    image: Covered<'a>,
    faces: &'a [Flat],
    paint: Option<(&'a [Painted<'a>], [f32; 3])>,
    softness: Softness,
}

impl Scenery<'_> {
    /// The place of a sample in pixels from the lower left corner.
    fn place(&self, [column, row]: [usize; 2]) -> [f64; 2] {
        [column, row].map(|index| (index as f64 + 0.5) / self.softness.per_pixel as f64)
    }

    /// First and last column and row of the samples that a face reaches.
    fn range(&self, face: &Flat) -> Option<[[usize; 2]; 2]> {
        let (margin, side) = (self.softness.reach().sqrt(), self.softness.per_pixel as f64);
        let counts = [self.image.samples.columns, self.image.samples.rows];
        let bounds = face.bounds();
        let mut range = [[0; 2]; 2];
        for axis in 0..2 {
            let first = ((bounds[axis][0] - margin) * side - 0.5).ceil().max(0.0);
            let last = ((bounds[axis][1] + margin) * side - 0.5).floor().min(counts[axis] as f64 - 1.0);
            if first > last {
                return None;
            }
            range[axis] = [first as usize, last as usize];
        }
        Some(range)
    }

    /// The mixtures of the samples of a block of rows, from `row` on.
    fn mix(&self, list: &[u32], row: usize, mixtures: &mut [Mixture]) {
        let columns = self.image.samples.columns;
        let last_row = row + mixtures.len() / columns - 1;
        for face in list {
            let face = &self.faces[*face as usize];
            let Some([xs, ys]) = self.range(face) else { continue };
            for y in ys[0].max(row)..=ys[1].min(last_row) {
                for x in xs[0]..=xs[1] {
                    let mixture = &mut mixtures[(y - row) * columns + x];
                    if self.paint.is_none() && mixture.free < COVERED {
                        continue;
                    }
                    let Some(near) = Near::new(face, self.place([x, y]), self.softness.reach()) else {
                        continue;
                    };
                    if !self.softness.is_seen(near.depth) {
                        continue;
                    }
                    let exponent = near.signed_square / self.softness.square();
                    mixture.free *= sigmoid(-exponent);
                    if let Some((painted, _)) = self.paint {
                        let weights = on_surface(face, near.weights, near.depth);
                        let colour =
                            Painted::colour_at(painted, self.image.geometry, face.number as usize, weights);
                        mixture.add(sigmoid(exponent), self.softness.nearness(near.depth), colour);
                    }
                }
            }
        }
    }
}

/// What is kept of the samples of one image, and the gradients of what was made of them.
struct Upstream<'a> {
    alpha: Option<&'a [f32]>,
    colour: Option<&'a [[f32; 3]]>,
    /// prod(1 - D), greatest nearness, total.
    kept: &'a [[f32; 3]],
    /// The colours.
    made: &'a [[f32; 3]],
}

/// The gradients of one face.
struct OfFace {
    corners: CornerGradients,
    sums: Option<FaceSums>,
}

impl Scenery<'_> {
    fn gradients(&self, face: &Flat, upstream: &Upstream<'_>) -> OfFace {
        let number = face.number as usize;
        let paint = self.paint.filter(|_| upstream.colour.is_some());
        let mut found = OfFace {
            corners: CornerGradients::default(),
            sums: paint.map(|(painted, _)| FaceSums::new(painted, self.image.geometry, number)),
        };
        let Some([xs, ys]) = self.range(face) else { return found };
        let [near_plane, far_plane] = self.softness.near_far.map(f64::from);
        for y in ys[0]..=ys[1] {
            for x in xs[0]..=xs[1] {
                let sample = y * self.image.samples.columns + x;
                let of_alpha = upstream.alpha.map_or(0.0, |alpha| f64::from(alpha[sample]));
                let of_colour = upstream.colour.map_or([0.0; 3], |colour| colour[sample]);
                let [free, most, total] = upstream.kept[sample].map(f64::from);
                if (of_alpha == 0.0 || free < COVERED) && of_colour == [0.0; 3] {
                    continue;
                }
                let Some(near) = Near::new(face, self.place([x, y]), self.softness.reach()) else { continue };
                if !self.softness.is_seen(near.depth) {
                    continue;
                }
                let exponent = near.signed_square / self.softness.square();
                let probability = sigmoid(exponent);
                let (mut of_exponent, mut of_depth) = (of_alpha * free * probability, 0.0);
                if let (Some((painted, _)), Some(sums)) = (paint, &mut found.sums) {
                    let nearness = self.softness.nearness(near.depth);
                    let share = probability * ((nearness - most) / GAMMA).exp() / total;
                    let weights = on_surface(face, near.weights, near.depth);
                    let own = Painted::colour_at(painted, self.image.geometry, number, weights);
                    let made = upstream.made[sample];
                    let better: f64 =
                        (0..3).map(|k| f64::from(of_colour[k]) * f64::from(own[k] - made[k])).sum();
                    of_exponent += share * sigmoid(-exponent) * better;
                    of_depth = -share * better / GAMMA / (far_plane - near_plane);
                    sums.add(painted, self.image.geometry, weights, of_colour.map(|g| g * share as f32));
                }
                let of_square = of_exponent / self.softness.square();
                near.add_gradients(face, of_square, of_depth, &mut found.corners);
            }
        }
        found
    }

    /// Adds the gradients of the corners of all faces to those of the vertices on the screen.
    fn scatter(&self, found: &[OfFace], geometry: &Geometry, gradients: &mut [[f32; 3]]) {
        let samples = self.image.samples;
        let halves =
            [samples.columns, samples.rows].map(|count| (count / self.softness.per_pixel) as f64 / 2.0);
        for (face, OfFace { corners, .. }) in self.faces.iter().zip(found) {
            for (corner, vertex) in geometry.corners(face.number as usize).into_iter().enumerate() {
                let into = &mut gradients[vertex];
                (0..2).for_each(|axis| into[axis] += (corners.at[corner][axis] * halves[axis]) as f32);
                into[2] += corners.z[corner] as f32;
            }
        }
    }
}

impl Soften {
    fn sceneries<'a>(&'a self, painted: &'a [Painted<'a>], background: Option<&Tensor>) -> Vec<Scenery<'a>> {
        let mut first = 0;
        let of_image = |(index, image): (usize, Covered<'a>)| {
            let parts = image.geometry.parts().len();
            let own = first..first + parts;
            first += parts;
            let paint = background.map(|background| {
                let backgrounds = as_vectors(background);
                (&painted[own], backgrounds[index % backgrounds.len()])
            });
            Scenery { image, faces: &self.faces[index], paint, softness: self.softness }
        };
        self.coverage.images().enumerate().map(of_image).collect()
    }

    /// The mixtures of all samples of an image.
    fn mixtures(&self, scenery: &Scenery<'_>) -> Vec<Mixture> {
        let samples = scenery.image.samples;
        let bands = Bins::new(scenery.faces.len(), samples.rows.div_ceil(BLOCK), |face| {
            let rows = scenery.range(&scenery.faces[face]).map(|[_, rows]| rows);
            rows.into_iter().flat_map(|[first, last]| first / BLOCK..=last / BLOCK)
        });
        let background = scenery.paint.map_or([0.0; 3], |(_, background)| background);
        let mut mixtures = vec![Mixture::new(background); samples.count()];
        mixtures.par_chunks_mut(BLOCK * samples.columns).enumerate().for_each(|(band, mixtures)| {
            scenery.mix(bands.of(band), band * BLOCK, mixtures);
        });
        mixtures
    }

    fn parts(&self) -> usize {
        self.coverage.geometries.iter().map(|geometry| geometry.parts().len()).sum()
    }
}

impl Operation for Soften {
    fn name(&self) -> &'static str {
        "render"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let own = &inputs[self.parts()..];
        let painted = match &self.paints {
            Some(paints) => {
                paints.check(self.coverage.geometries.len(), own)?;
                paints.painted(own)
            }
            None => Vec::new(),
        };
        let sceneries = self.sceneries(&painted, own.first().copied());
        let samples = self.coverage.samples;
        let extents = [sceneries.len(), samples.rows, samples.columns];
        let mut alpha = self.alpha.then(|| Tensor::empty(extents));
        let [mut colour, mut kept] = [(); 2].map(|()| Tensor::empty([extents[0], extents[1], extents[2], 3]));
        for (index, scenery) in sceneries.iter().enumerate() {
            let mixtures = self.mixtures(scenery);
            let first = index * samples.count();
            if let Some(alpha) = &mut alpha {
                let alpha = &mut alpha.data_mut()[first..][..mixtures.len()];
                alpha.iter_mut().zip(&mixtures).for_each(|(alpha, m)| *alpha = (1.0 - m.free) as f32);
            }
            let [colour, kept] = [&mut colour, &mut kept]
                .map(|tensor| &mut tensor.data_mut().as_chunks_mut::<3>().0[first..][..mixtures.len()]);
            for ((colour, kept), m) in colour.iter_mut().zip(kept).zip(&mixtures) {
                *colour = m.colour.map(|c| (c / m.total) as f32);
                *kept = m.kept();
            }
        }
        [&kept, &colour].into_iter().chain(own.iter().copied()).for_each(|tensor| context.save(tensor));
        Ok([alpha, self.paints.is_some().then_some(colour)].into_iter().flatten().collect())
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [kept, made] = [0, 1].map(|index| as_vectors(&backward.saved[index]));
        let own: Vec<&Tensor> = backward.saved[2..].iter().collect();
        let painted = self.paints.as_ref().map_or_else(Vec::new, |paints| paints.painted(&own));
        let (count, parts) = (self.coverage.samples.count(), self.parts());
        let of_alpha = if self.alpha { backward.gradients[0].as_ref() } else { None };
        let of_colour = match self.paints {
            Some(_) => backward.gradients[usize::from(self.alpha)].as_ref(),
            None => None,
        };
        let mut gradients: Vec<Option<Tensor>> = Vec::with_capacity(parts + own.len());
        let mut of_paints: Vec<Option<Tensor>> = own
            .iter()
            .enumerate()
            .map(|(index, input)| {
                (of_colour.is_some() && backward.wants(parts + index)).then(|| Tensor::zeros(input.shape()))
            })
            .collect();
        for (index, scenery) in self.sceneries(&painted, own.first().copied()).iter().enumerate() {
            let image = index * count..(index + 1) * count;
            let upstream = Upstream {
                alpha: of_alpha.map(|alpha| &alpha.data()[image.clone()]),
                colour: of_colour.map(|colour| &as_vectors(colour)[image.clone()]),
                kept: &kept[image.clone()],
                made: &made[image.clone()],
            };
            let found: Vec<OfFace> =
                scenery.faces.par_iter().map(|face| scenery.gradients(face, &upstream)).collect();
            let geometry = scenery.image.geometry;
            let mut of_vertices = vec![[0.0; 3]; geometry.vertices()];
            scenery.scatter(&found, geometry, &mut of_vertices);
            for part in 0..geometry.parts().len() {
                let own = &of_vertices[geometry.part_vertices(part)];
                gradients.push(Some(Tensor::new(own.as_flattened(), [own.len(), 3])?));
            }
            if let (Some((painted, _)), Some(of_colour)) = (scenery.paint, upstream.colour) {
                let sums: Vec<FaceSums> = found.into_iter().filter_map(|of_face| of_face.sums).collect();
                FaceSums::scatter(&sums, painted, &mut of_paints);
                if let Some(background) = &mut of_paints[0] {
                    let mut sum = [0.0f64; 3];
                    for (g, [_, most, total]) in of_colour.iter().zip(upstream.kept) {
                        let share = ((BACKGROUND - f64::from(*most)) / GAMMA).exp() / f64::from(*total);
                        (0..3).for_each(|k| sum[k] += share * f64::from(g[k]));
                    }
                    let all = background.data_mut().as_chunks_mut::<3>().0;
                    let own = index % all.len();
                    (0..3).for_each(|k| all[own][k] += sum[k] as f32);
                }
            }
        }
        gradients.extend(of_paints);
        Ok(gradients)
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.forward_on_gpu(inputs, context)
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        self.backward_on_gpu(backward)
    }
}
