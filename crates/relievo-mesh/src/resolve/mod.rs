//! From samples to images, and the gradient of what is seen where.

mod depth;
mod far;
mod gpu;
mod kato;
mod lines;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Operation, Result, Tensor, apply};

use crate::gradients::{Boundary, DepthOfPixels, Gradient, PaintedImage, add_boundary_gradients};
use crate::raster::{Coverage, Covered};
use crate::shade::{Painted, SamplesByFace, Surfaces};
use lines::Upstream;

/// What the samples of a pixel without a face count for in the depth of the pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DepthMean {
    /// They count as `far`, as in the published code: pixels at silhouettes are nearly that deep.
    All,
    /// They do not count; a pixel without any face has this depth.
    Covered {
        /// Depth where there is nothing.
        background: f32,
    },
}

/// Which images are made of the samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub alpha: bool,
    pub colour: bool,
    pub depth: bool,
}

/// How images are made of samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResolveSettings {
    /// Samples along a side of a pixel.
    pub per_pixel: usize,
    pub wanted: Wanted,
    pub near: f32,
    /// The depth of samples without a face.
    pub far: f32,
    pub depth_mean: DepthMean,
    pub gradient: Gradient,
}

/// Alpha `[B, H, W]`, colour `[B, H, W, 3]` and depth `[B, H, W]`, as far as wanted. `screens` are the vertices of all
/// parts; `colours` `[B, rows, columns, 3]` those of the samples; `surfaces` what they are the colours of, if the gradient
/// asks between samples.
pub(crate) fn resolve(
    coverage: Coverage,
    settings: ResolveSettings,
    screens: &[Tensor],
    colours: Option<&Tensor>,
    surfaces: Option<Surfaces>,
) -> Result<[Option<Tensor>; 3]> {
    let inputs: Vec<&Tensor> = screens.iter().chain(colours).collect();
    let mut outputs = apply(Resolve { coverage, settings, surfaces }, &inputs)?.into_iter();
    let Wanted { alpha, colour, depth } = settings.wanted;
    Ok([alpha, colour, depth].map(|wanted| if wanted { outputs.next() } else { None }))
}

/// Inputs: screen vertices of all parts, then the colours of the samples if they are wanted. Outputs: those wanted.
struct Resolve {
    coverage: Coverage,
    settings: ResolveSettings,
    surfaces: Option<Surfaces>,
}

/// Kato's eps, which keeps distances from zero, as the published code has it: for silhouettes alone, and with colours.
const SILHOUETTE_EPS: f32 = 1e-4;
const COLOUR_EPS: f32 = 1e-3;

impl Resolve {
    /// Width and height of the images.
    fn size(&self) -> [usize; 2] {
        [
            self.coverage.samples.columns / self.settings.per_pixel,
            self.coverage.samples.rows / self.settings.per_pixel,
        ]
    }

    /// The samples of row `y` of pixels, counted from the top, as a range of those of an image.
    fn samples_of_row(&self, y: usize) -> std::ops::Range<usize> {
        let [_, height] = self.size();
        let row = self.settings.per_pixel * self.coverage.samples.columns;
        (height - 1 - y) * row..(height - y) * row
    }

    /// The mean over the samples of each pixel of all images: of `value` of what `samples` has of an image.
    fn means<'a>(
        &self,
        pixels: &mut Tensor,
        samples: impl Fn(usize) -> &'a [f32] + Sync,
        value: impl Fn(f32) -> f32 + Sync,
    ) {
        let [width, height] = self.size();
        pixels.data_mut().par_chunks_mut(width).with_min_len(8).enumerate().for_each(|(line, pixels)| {
            let samples = &samples(line / height)[self.samples_of_row(line % height)];
            if self.settings.per_pixel == 2 {
                let (lower, upper) = samples.as_chunks::<2>().0.split_at(width);
                for (pixel, ([a, b], [c, d])) in pixels.iter_mut().zip(lower.iter().zip(upper)) {
                    *pixel = (value(*a) + value(*b) + value(*c) + value(*d)) * 0.25;
                }
            } else if self.settings.per_pixel == 1 {
                pixels.iter_mut().zip(samples).for_each(|(pixel, sample)| *pixel = value(*sample));
            } else {
                let side = self.settings.per_pixel;
                for (x, pixel) in pixels.iter_mut().enumerate() {
                    let rows = samples.chunks_exact(self.coverage.samples.columns);
                    let of_row = |row: &[f32]| -> f32 {
                        row[x * side..(x + 1) * side].iter().map(|sample| value(*sample)).sum()
                    };
                    *pixel = rows.map(of_row).sum::<f32>() / (side * side) as f32;
                }
            }
        });
    }

    /// The pixel of a sample, both as indices into an image.
    fn pixel_of(&self, sample: usize) -> usize {
        let ([width, height], columns) = (self.size(), self.coverage.samples.columns);
        let (row, column) =
            (sample / columns / self.settings.per_pixel, sample % columns / self.settings.per_pixel);
        (height - 1 - row) * width + column
    }

    /// The share of each sample in its pixel's depth, where only covered ones count.
    fn covered_shares(&self, image: &Covered<'_>) -> Vec<f32> {
        let [width, height] = self.size();
        let mut counts = vec![0.0f32; width * height];
        for (sample, number) in image.numbers.iter().enumerate() {
            counts[self.pixel_of(sample)] += f32::from(*number >= 0.0);
        }
        counts.iter_mut().for_each(|count| *count = 1.0 / count.max(1.0));
        counts
    }

    /// What the boundary integral needs to know.
    fn boundary<'a>(
        &self,
        image: &'a Covered<'a>,
        upstream: &Upstream<'a>,
        depth: Option<&'a [f32]>,
        painted: Option<(&'a [Painted<'a>], [f32; 3])>,
    ) -> Boundary<'a> {
        let colour = upstream
            .colour
            .zip(painted)
            .map(|([gradient, _], (painted, background))| PaintedImage { gradient, painted, background });
        let depth = depth.map(|gradient| match self.settings.depth_mean {
            DepthMean::All => DepthOfPixels::All(gradient),
            DepthMean::Covered { .. } => {
                let [width, height] = self.size();
                let [mut depth, mut share] = [(); 2].map(|()| vec![0.0; width * height]);
                let all = (self.settings.per_pixel * self.settings.per_pixel) as f32;
                let depths = image.depth.expect("depths were kept");
                for (sample, _) in image.numbers.iter().enumerate().filter(|(_, number)| **number >= 0.0) {
                    let pixel = self.pixel_of(sample);
                    depth[pixel] += depths[sample];
                    share[pixel] += 1.0;
                }
                for (depth, share) in depth.iter_mut().zip(&mut share).filter(|(_, share)| **share > 0.0) {
                    *depth /= *share;
                    *share /= all;
                }
                DepthOfPixels::Covered { gradient, depth, share }
            }
        });
        let near_far = [self.settings.near, self.settings.far];
        Boundary { image, size: self.size(), near_far, alpha: upstream.alpha, colour, depth }
    }

    /// Gradients of one image in all of its screen vertices.
    fn screen_gradients(
        &self,
        image: &Covered<'_>,
        upstream: &Upstream<'_>,
        depth: Option<&[f32]>,
        painted: Option<(&[Painted<'_>], [f32; 3])>,
    ) -> Vec<[f32; 3]> {
        let mut gradients = vec![[0.0; 3]; image.geometry.vertices()];
        if let Some(places) = self.settings.gradient.places() {
            let boundary = self.boundary(image, upstream, depth, painted);
            add_boundary_gradients(&boundary, places, &mut gradients);
        } else if upstream.alpha.is_some() || upstream.colour.is_some() {
            let eps = if self.settings.wanted.colour { COLOUR_EPS } else { SILHOUETTE_EPS };
            kato::add_edge_gradients(image, upstream, eps, &mut gradients);
        }
        if let Some(depth) = depth {
            let by_face = SamplesByFace::new(image);
            let all = 1.0 / (self.settings.per_pixel * self.settings.per_pixel) as f32;
            match self.settings.depth_mean {
                DepthMean::All => {
                    let of_sample = |sample: usize| depth[self.pixel_of(sample)] * all;
                    depth::add_depth_gradients(image, &by_face, of_sample, &mut gradients);
                }
                DepthMean::Covered { .. } => {
                    let shares = self.covered_shares(image);
                    let of_sample = |sample: usize| {
                        let pixel = self.pixel_of(sample);
                        depth[pixel] * shares[pixel]
                    };
                    depth::add_depth_gradients(image, &by_face, of_sample, &mut gradients);
                }
            }
        }
        gradients
    }
}

impl Operation for Resolve {
    fn name(&self) -> &'static str {
        "render"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let [width, height] = self.size();
        let images: Vec<Covered<'_>> = self.coverage.images().collect();
        let mut outputs = Vec::new();
        if self.settings.wanted.alpha {
            let mut alpha = Tensor::empty([images.len(), height, width]);
            self.means(&mut alpha, |image| images[image].numbers, |number| f32::from(number >= 0.0));
            outputs.push(alpha);
        }
        if self.settings.wanted.colour {
            let colours = inputs[inputs.len() - 1];
            context.save(colours);
            let samples = colours.data().as_chunks::<3>().0;
            let count = self.coverage.samples.count();
            let mut colour = Tensor::empty([images.len(), height, width, 3]);
            let share = 1.0 / (self.settings.per_pixel * self.settings.per_pixel) as f32;
            colour.data_mut().par_chunks_mut(width * 3).enumerate().for_each(|(line, pixels)| {
                let rows = &samples[line / height * count..][self.samples_of_row(line % height)];
                for (x, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                    let mut sum = [0.0; 3];
                    for row in rows.chunks_exact(self.coverage.samples.columns) {
                        for sample in &row[x * self.settings.per_pixel..(x + 1) * self.settings.per_pixel] {
                            sum.iter_mut().zip(sample).for_each(|(sum, value)| *sum += value);
                        }
                    }
                    *pixel = sum.map(|sum| sum * share);
                }
            });
            outputs.push(colour);
        }
        if self.settings.wanted.depth {
            let mut depth = Tensor::empty([images.len(), height, width]);
            let of = |image: usize| images[image].depth.expect("depths were kept");
            match self.settings.depth_mean {
                DepthMean::All => self.means(&mut depth, of, |depth| depth),
                DepthMean::Covered { background } => {
                    let mut covered = Tensor::empty([images.len(), height, width]);
                    self.means(
                        &mut covered,
                        |image| images[image].numbers,
                        |number| f32::from(number >= 0.0),
                    );
                    // Samples without a face are as deep as `far`, others less.
                    self.means(&mut depth, of, |depth| if depth < self.settings.far { depth } else { 0.0 });
                    for (depth, covered) in depth.data_mut().iter_mut().zip(covered.data()) {
                        *depth = if *covered > 0.0 { *depth / covered } else { background };
                    }
                }
            }
            outputs.push(depth);
        }
        Ok(outputs)
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let [width, height] = self.size();
        let (pixels, count) = (width * height, self.coverage.samples.count());
        let images: Vec<Covered<'_>> = self.coverage.images().collect();
        let mut given = backward.gradients.iter();
        let Wanted { alpha, colour, depth } = self.settings.wanted;
        let [alpha, colour, depth] = [alpha, colour, depth]
            .map(|wanted| if wanted { given.next().and_then(Option::as_ref) } else { None });
        let parts: usize = self.coverage.geometries.iter().map(|geometry| geometry.parts().len()).sum();
        let mut gradients: Vec<Option<Tensor>> = vec![None; parts];
        if (0..parts).any(|part| backward.wants(part)) {
            let painted = self.surfaces.as_ref().map(Surfaces::painted);
            let first_parts: Vec<usize> = images
                .iter()
                .scan(0, |next, image| Some(std::mem::replace(next, *next + image.geometry.parts().len())))
                .collect();
            let of_image = |(index, image): (usize, &Covered<'_>)| {
                let painted = painted.as_ref().zip(self.surfaces.as_ref()).map(|(painted, surfaces)| {
                    let own = &painted[first_parts[index]..][..image.geometry.parts().len()];
                    (own, surfaces.background(index))
                });
                let upstream = Upstream {
                    alpha: alpha.map(|alpha| &alpha.data()[index * pixels..][..pixels]),
                    colour: colour.map(|colour| {
                        let data = colour.data();
                        let colours = backward.saved[0].data();
                        [
                            &data[index * pixels * 3..][..pixels * 3],
                            &colours[index * count * 3..][..count * 3],
                        ]
                    }),
                    per_pixel: self.settings.per_pixel,
                };
                let depth = depth.map(|depth| &depth.data()[index * pixels..][..pixels]);
                self.screen_gradients(image, &upstream, depth, painted)
            };
            let found: Vec<Vec<[f32; 3]>> = images.par_iter().enumerate().map(of_image).collect();
            let mut next = gradients.iter_mut();
            for (image, found) in images.iter().zip(&found) {
                for part in 0..image.geometry.parts().len() {
                    let own = &found[image.geometry.part_vertices(part)];
                    let gradient = Tensor::new(own.as_flattened(), [own.len(), 3])?;
                    *next.next().expect("a gradient for each part") = Some(gradient);
                }
            }
        }
        if self.settings.wanted.colour {
            let wanted = colour.filter(|_| backward.wants(parts));
            gradients.push(wanted.map(|colour| self.spread(colour, images.len())));
        }
        Ok(gradients)
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let colours = self.settings.wanted.colour.then(|| inputs[inputs.len() - 1]);
        colours.into_iter().for_each(|colours| context.save(colours));
        self.forward_on_gpu(colours)
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        self.backward_on_gpu(backward)
    }
}

impl Resolve {
    /// The gradient of all samples' colours from that of the pixels.
    fn spread(&self, colour: &Tensor, images: usize) -> Tensor {
        let ([width, height], samples) = (self.size(), self.coverage.samples);
        let share = 1.0 / (self.settings.per_pixel * self.settings.per_pixel) as f32;
        let mut spread = Tensor::empty([images, samples.rows, samples.columns, 3]);
        let pixels = colour.data().as_chunks::<3>().0;
        spread.data_mut().par_chunks_mut(samples.columns * 3).enumerate().for_each(|(line, row)| {
            let (image, y) =
                (line / samples.rows, height - 1 - line % samples.rows / self.settings.per_pixel);
            let pixels = &pixels[(image * height + y) * width..][..width];
            for (samples, pixel) in row.chunks_exact_mut(self.settings.per_pixel * 3).zip(pixels) {
                let g = pixel.map(|g| g * share);
                samples.as_chunks_mut::<3>().0.iter_mut().for_each(|sample| *sample = g);
            }
        });
        spread
    }
}
