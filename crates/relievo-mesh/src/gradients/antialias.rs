//! Silhouettes drawn with the share that they cover of a sample, and the exact derivative of that.
//!
//! Laine et al., *Modular Primitives for High-Performance Differentiable Rendering* (SIGGRAPH Asia 2020, arXiv 2011.03277).
//! Of two neighbouring samples that show different faces, the nearer face is looked at, from the sample that shows it, its
//! *own*. The line through both crosses an edge of the face at c, in distances of samples from the own one. If that edge is a
//! silhouette, and steeper than 45 degrees against the line, one of the two samples is mixed: the own one with a share
//! 1/2 - c of the other if c < 1/2, the other with a share c - 1/2 of the own one if c > 1/2. So an edge is heard one sample
//! to either side of it, and edges between two visible faces not at all.
//!
//! The samples of all images are mixed at once, from values as they were before. Where several edges cross around one sample
//! their shares are added up, as published; they may come to more than one.

use std::sync::Arc;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Device, Operation, Result, Tensor, apply};

use super::average::average;
use super::drawn::Drawn;
use crate::check::as_vectors;
use crate::cuda::antialias::Silhouettes;
use crate::raster::{Coverage, Covered, Geometry};

/// How far beyond a pair of samples a crossing may lie, by rounding.
const BEYOND: f64 = 1.0 / 16.0;
/// What keeps the height of an edge away from zero in derivatives.
const LEAST_HEIGHT: f64 = 1e-3;

/// Alpha `[B, H, W]` and colour `[B, H, W, 3]`, the former if `alpha`, the latter if there are `colours`
/// `[B, rows, columns, 3]` of the samples. `screens` are the vertices of all parts.
pub(crate) fn antialias(
    coverage: &Coverage,
    screens: &[Tensor],
    alpha: bool,
    colours: Option<&Tensor>,
    per_pixel: usize,
) -> Result<[Option<Tensor>; 2]> {
    let blends: Vec<Vec<Blend>> = match coverage.numbers.device() {
        Device::Cpu => coverage.images().map(|image| blends(&image)).collect(),
        // Kernels find them.
        Device::Cuda(_) => Vec::new(),
    };
    let operation = Antialias { coverage: coverage.clone(), blends: blends.into(), alpha };
    let inputs: Vec<&Tensor> = screens.iter().chain(colours).collect();
    let outputs = apply(operation, &inputs)?;
    let mut images = outputs.iter().map(|samples| average(samples, per_pixel));
    let alpha = if alpha { images.next().transpose()? } else { None };
    Ok([alpha, images.next().transpose()?])
}

/// A sample that is mixed with its neighbour.
struct Blend {
    target: u32,
    neighbour: u32,
    /// Of the neighbour in the target, 0 to 1/2.
    share: f32,
    /// Whether the target is the sample that shows the face of the edge.
    own: bool,
    /// The ends of the edge among the vertices of the image, and the derivatives of c by their places on the screen; zero
    /// where c is clamped.
    ends: [u32; 2],
    slopes: [[f32; 2]; 2],
}

/// For each face, by number, a bit for each corner: whether the side from it to the next is a silhouette.
fn silhouettes(image: &Covered<'_>) -> Vec<u8> {
    let samples = [image.samples.columns, image.samples.rows];
    let drawn = Drawn::new(image, samples);
    let mut bits = vec![0u8; image.geometry.numbers()];
    for edge in (0..drawn.edges()).filter(|edge| drawn.is_silhouette(*edge)) {
        for side in drawn.sides(edge) {
            bits[drawn.faces[side.face as usize].number as usize] |= 1 << side.first_corner();
        }
    }
    bits
}

/// All blends of an image: pairs along rows, then pairs along columns.
fn blends(image: &Covered<'_>) -> Vec<Blend> {
    let (columns, rows) = (image.samples.columns, image.samples.rows);
    let silhouettes = silhouettes(image);
    let along = |axis: usize| {
        let of_row = |row: usize| {
            let (last, step) = if axis == 0 { (columns - 1, 1) } else { (columns, columns) };
            let silhouettes = &silhouettes;
            (0..last).filter_map(move |column| {
                let sample = row * columns + column;
                blend(image, silhouettes, [sample, sample + step], axis)
            })
        };
        let rows = if axis == 0 { rows } else { rows - 1 };
        (0..rows).into_par_iter().flat_map_iter(of_row).collect::<Vec<Blend>>()
    };
    let mut all = along(0);
    all.append(&mut along(1));
    all
}

/// The blend of two samples that are neighbours along `axis`, if there is one.
fn blend(image: &Covered<'_>, silhouettes: &[u8], pair: [usize; 2], axis: usize) -> Option<Blend> {
    let numbers = pair.map(|sample| image.numbers[sample]);
    if numbers[0] == numbers[1] {
        return None;
    }
    let (columns, rows) = (image.samples.columns, image.samples.rows);
    let depth = |k: usize| match numbers[k] >= 0.0 {
        true => image.triangle(numbers[k]).weights(pair[k] % columns, pair[k] / columns).1,
        false => f32::INFINITY,
    };
    // Of equals the first.
    let own = usize::from(depth(1) < depth(0));
    let number = numbers[own] as usize;
    if silhouettes[number] == 0 {
        return None;
    }
    let triangle = image.triangle(numbers[own]);
    let origin = [pair[own] % columns, pair[own] / columns].map(|at| at as f64);
    let towards = if own == 0 { 1.0 } else { -1.0 };
    let place = |corner: usize| {
        let at = [f64::from(triangle.px[corner]) - origin[0], f64::from(triangle.py[corner]) - origin[1]];
        [towards * at[axis], at[1 - axis]]
    };
    let corners = [0, 1, 2].map(place);
    let crossing = |corner: usize| {
        let ([x1, y1], [x2, y2]) = (corners[corner], corners[(corner + 1) % 3]);
        ((y1 < 0.0) != (y2 < 0.0)).then(|| (corner, (x1 * y2 - x2 * y1) / (y2 - y1)))
    };
    let (corner, c) = (0..3).filter_map(crossing).max_by(|a, b| a.1.total_cmp(&b.1))?;
    let next = (corner + 1) % 3;
    let ([x1, y1], [x2, y2]) = (corners[corner], corners[next]);
    let is_steep = (y2 - y1).abs() >= (x2 - x1).abs();
    let is_between = c > -BEYOND && c < 1.0 + BEYOND;
    if silhouettes[number] & 1 << corner == 0 || !is_steep || !is_between {
        return None;
    }
    let height = y2 - y1 + LEAST_HEIGHT.copysign(y2 - y1);
    let is_clamped = !(c > 0.0 && c < 1.0);
    let counts = [columns, rows].map(|count| count as f64 / 2.0);
    let c = c.clamp(0.0, 1.0);
    let slopes = [[y2, c - x2], [-y1, x1 - c]].map(|[along, across]| {
        let mut slope = [0.0; 2];
        slope[axis] = (towards * along / height * counts[axis]) as f32;
        slope[1 - axis] = (across / height * counts[1 - axis]) as f32;
        if is_clamped { [0.0; 2] } else { slope }
    });
    let vertices = image.geometry.corners(number);
    let mixes_own = c < 0.5;
    let [own_sample, other_sample] = [pair[own] as u32, pair[1 - own] as u32];
    let (target, neighbour) = if mixes_own { (own_sample, other_sample) } else { (other_sample, own_sample) };
    let ends = [vertices[corner] as u32, vertices[next] as u32];
    Some(Blend { target, neighbour, share: (0.5 - c).abs() as f32, own: mixes_own, ends, slopes })
}

/// Inputs: the vertices of all parts, then the colours of the samples if there are any. Outputs: alpha of the samples if it
/// is wanted, then their colours.
struct Antialias {
    coverage: Coverage,
    /// Of each image on the CPU.
    blends: Arc<[Vec<Blend>]>,
    alpha: bool,
}

/// Mixes the samples of one image, `C` channels each, from `before` into `after`.
fn mix<const C: usize>(blends: &[Blend], before: &[[f32; C]], after: &mut [[f32; C]]) {
    for Blend { target, neighbour, share, .. } in blends {
        let (target, neighbour) = (*target as usize, *neighbour as usize);
        for channel in 0..C {
            after[target][channel] += share * (before[neighbour][channel] - before[target][channel]);
        }
    }
}

/// The gradient of the samples before they were mixed, from `after` into `before`.
fn mix_back<const C: usize>(blends: &[Blend], after: &[[f32; C]], before: &mut [[f32; C]]) {
    for Blend { target, neighbour, share, .. } in blends {
        let (target, neighbour) = (*target as usize, *neighbour as usize);
        for channel in 0..C {
            let g = share * after[target][channel];
            before[target][channel] -= g;
            before[neighbour][channel] += g;
        }
    }
}

/// Adds the gradients of the vertices of one image, given the samples' values before and the gradients after.
fn add_to_vertices<const C: usize>(
    blends: &[Blend],
    before: &[[f32; C]],
    after: &[[f32; C]],
    gradients: &mut [[f32; 3]],
) {
    for Blend { target, neighbour, own, ends, slopes, .. } in blends {
        let (target, neighbour) = (*target as usize, *neighbour as usize);
        // Whichever of the two is mixed, it becomes more of the own one as the edge moves away from it.
        let (own, other) = if *own { (target, neighbour) } else { (neighbour, target) };
        let of_crossing: f32 = (0..C)
            .map(|channel| after[target][channel] * (before[own][channel] - before[other][channel]))
            .sum();
        for (end, slope) in ends.iter().zip(slopes) {
            let gradient = &mut gradients[*end as usize];
            (0..2).for_each(|axis| gradient[axis] += of_crossing * slope[axis]);
        }
    }
}

fn covered(image: &Covered<'_>) -> Vec<[f32; 1]> {
    image.numbers.iter().map(|number| [f32::from(*number >= 0.0)]).collect()
}

impl Operation for Antialias {
    fn name(&self) -> &'static str {
        "render"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let samples = self.coverage.samples;
        let images: Vec<Covered<'_>> = self.coverage.images().collect();
        let count = samples.count();
        let mut outputs = Vec::new();
        if self.alpha {
            let mut alpha = Tensor::empty([images.len(), samples.rows, samples.columns]);
            let each = alpha.data_mut().par_chunks_mut(count).zip(&images).zip(self.blends.par_iter());
            each.for_each(|((alpha, image), blends)| {
                let before = covered(image);
                let after = alpha.as_chunks_mut::<1>().0;
                after.copy_from_slice(&before);
                mix(blends, &before, after);
            });
            outputs.push(alpha);
        }
        let parts: usize = images.iter().map(|image| image.geometry.parts().len()).sum();
        if let Some(colours) = inputs.get(parts) {
            context.save(colours);
            let mut mixed = Tensor::new(colours.data(), colours.shape())?;
            let before = colours.data().par_chunks(3 * count);
            let each = mixed.data_mut().par_chunks_mut(3 * count).zip(before).zip(self.blends.par_iter());
            each.for_each(|((after, before), blends)| {
                mix(blends, before.as_chunks::<3>().0, after.as_chunks_mut::<3>().0);
            });
            outputs.push(mixed);
        }
        Ok(outputs)
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let count = self.coverage.samples.count();
        let images: Vec<Covered<'_>> = self.coverage.images().collect();
        let parts: usize = images.iter().map(|image| image.geometry.parts().len()).sum();
        let of_alpha = if self.alpha { backward.gradients[0].as_ref() } else { None };
        let of_colour = backward.gradients.get(usize::from(self.alpha)).and_then(Option::as_ref);
        let colours = backward.saved.first();
        let of_image = |(index, image): (usize, &Covered<'_>)| {
            let mut gradients = vec![[0.0; 3]; image.geometry.vertices()];
            let blends = &self.blends[index];
            if let Some(g) = of_alpha {
                let g = g.data()[index * count..][..count].as_chunks::<1>().0;
                add_to_vertices(blends, &covered(image), g, &mut gradients);
            }
            if let (Some(g), Some(colours)) = (of_colour, colours) {
                let [before, after] = [colours, g].map(|all| &as_vectors(all)[index * count..][..count]);
                add_to_vertices(blends, before, after, &mut gradients);
            }
            gradients
        };
        let found: Vec<Vec<[f32; 3]>> = images.par_iter().enumerate().map(of_image).collect();
        let mut gradients = Vec::with_capacity(parts + 1);
        for (image, found) in images.iter().zip(&found) {
            for part in 0..image.geometry.parts().len() {
                let own = &found[image.geometry.part_vertices(part)];
                gradients.push(Some(Tensor::new(own.as_flattened(), [own.len(), 3])?));
            }
        }
        if colours.is_some() {
            gradients.push(match of_colour {
                Some(g) => {
                    let mut before = Tensor::new(g.data(), g.shape())?;
                    let after = g.data().par_chunks(3 * count);
                    let each =
                        before.data_mut().par_chunks_mut(3 * count).zip(after).zip(self.blends.par_iter());
                    each.for_each(|((before, after), blends)| {
                        mix_back(blends, after.as_chunks::<3>().0, before.as_chunks_mut::<3>().0);
                    });
                    Some(before)
                }
                None => None,
            });
        }
        Ok(gradients)
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let parts = self.coverage.geometries.iter().flat_map(Geometry::parts).count();
        let colours = inputs.get(parts).copied();
        colours.into_iter().for_each(|colours| context.save(colours));
        Silhouettes::new(self.coverage.drawn(), &self.coverage.numbers)?.mixed(self.alpha, colours)
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let of_alpha = if self.alpha { backward.gradients[0].as_ref() } else { None };
        let of_colour = backward.gradients.get(usize::from(self.alpha)).and_then(Option::as_ref);
        let colours = backward.saved.first();
        let silhouettes = Silhouettes::new(self.coverage.drawn(), &self.coverage.numbers)?;
        let colour = of_colour.zip(colours).map(|(gradient, colours)| [gradient, colours]);
        let found = silhouettes.vertices(&self.coverage.geometries, of_alpha, colour)?;
        let mut gradients: Vec<Option<Tensor>> = found.into_iter().map(Some).collect();
        if colours.is_some() {
            gradients.push(of_colour.map(|gradient| silhouettes.mixed_back(gradient)).transpose()?);
        }
        Ok(gradients)
    }
}
