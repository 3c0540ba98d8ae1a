//! Which face every sample of an image shows.

mod draw;
mod geometry;
mod samples;
mod triangle;

pub(crate) use draw::Bins;
pub(crate) use geometry::{Geometry, Part, Piece, Place};
pub(crate) use samples::Samples;
pub(crate) use triangle::Triangle;

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Operation, Result, Tensor, apply};

use crate::check::{as_vectors, shape};
use crate::cuda::raster::{self as gpu, Drawn};

/// What all images of a batch show.
#[derive(Clone)]
pub(crate) struct Coverage {
    pub geometries: Arc<[Geometry]>,
    pub samples: Samples,
    /// `[B, rows, columns]`: the number of the face that a sample shows, -1 where there is none. Row 0 is the bottom.
    pub numbers: Tensor,
    /// All vertices of all images on the screen, `[n, 3]`; not on a GPU.
    screen: Tensor,
    /// What a GPU has drawn.
    drawn: Arc<OnceLock<Drawn>>,
    /// Depths of the samples, like `numbers`, where they were asked for; far where there is no face.
    pub depth: Option<Tensor>,
}

/// One image of a [`Coverage`].
#[derive(Clone, Copy)]
pub(crate) struct Covered<'a> {
    pub geometry: &'a Geometry,
    pub samples: Samples,
    pub numbers: &'a [f32],
    pub screen: &'a [[f32; 3]],
    pub depth: Option<&'a [f32]>,
}

impl Covered<'_> {
    /// The face of a number that some sample shows.
    pub fn triangle(&self, number: f32) -> Triangle {
        let triangle = self.geometry.triangle(number as usize, self.screen, self.samples);
        triangle.expect("only faces that are drawn are shown")
    }

    /// The numbers of the faces that some sample shows, ascending.
    pub fn visible(&self) -> Vec<u32> {
        let mut shown = vec![false; self.geometry.numbers()];
        let mut last = -1.0;
        for number in self.numbers {
            if *number != last {
                last = *number;
                if last >= 0.0 {
                    shown[last as usize] = true;
                }
            }
        }
        (0..shown.len()).filter(|number| shown[*number]).map(|number| number as u32).collect()
    }
}

/// Draws a batch. `screens` has the vertices `[V, 3]` of all parts of all images, in order.
pub(crate) fn cover(
    geometries: Vec<Geometry>,
    screens: &[Tensor],
    samples: Samples,
    near_far: [f32; 2],
    keep_depth: bool,
) -> Result<Coverage> {
    let geometries: Arc<[Geometry]> = geometries.into();
    let drawn = Arc::default();
    let operation = Cover {
        geometries: Arc::clone(&geometries),
        samples,
        near_far,
        keep_depth,
        drawn: Arc::clone(&drawn),
    };
    let screens: Vec<Tensor> = screens.iter().map(Tensor::detach).collect();
    let mut outputs = apply(operation, &screens.iter().collect::<Vec<_>>())?.into_iter();
    let [numbers, screen] = [(); 2].map(|()| outputs.next().expect("two outputs or three"));
    Ok(Coverage { geometries, samples, numbers, screen, drawn, depth: outputs.next() })
}

impl Coverage {
    /// What a GPU has drawn, if the images are there.
    pub fn drawn(&self) -> &Drawn {
        self.drawn.get().expect("the images are on a GPU")
    }

    /// The images, which must be on the CPU.
    pub fn images(&self) -> impl Iterator<Item = Covered<'_>> {
        let mut screen = as_vectors(&self.screen);
        let count = self.samples.count();
        self.geometries.iter().enumerate().map(move |(image, geometry)| {
            let (own, rest) = screen.split_at(geometry.vertices());
            screen = rest;
            let of_image = |tensor: &'_ Tensor| -> std::ops::Range<usize> {
                debug_assert_eq!(tensor.numel(), count * self.geometries.len());
                image * count..(image + 1) * count
            };
            let depth = self.depth.as_ref().map(|depth| &depth.data()[of_image(depth)]);
            let numbers = &self.numbers.data()[of_image(&self.numbers)];
            Covered { geometry, samples: self.samples, numbers, screen: own, depth }
        })
    }
}

struct Cover {
    geometries: Arc<[Geometry]>,
    samples: Samples,
    near_far: [f32; 2],
    keep_depth: bool,
    drawn: Arc<OnceLock<Drawn>>,
}

impl Operation for Cover {
    fn name(&self) -> &'static str {
        "render"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let mut screen = Tensor::empty([self.geometries.iter().map(Geometry::vertices).sum(), 3]);
        let mut rest = screen.data_mut();
        for (input, part) in inputs.iter().zip(self.geometries.iter().flat_map(Geometry::parts)) {
            shape(self.name(), "vertices on the screen", input, &[part.vertices, 3])?;
            let (own, others) = rest.split_at_mut(3 * part.vertices);
            own.copy_from_slice(input.data());
            rest = others;
        }
        let Samples { columns, rows } = self.samples;
        let extents = [self.geometries.len(), rows, columns];
        let mut numbers = Tensor::empty(extents);
        let mut depth = self.keep_depth.then(|| Tensor::empty(extents));
        let mut images = Vec::with_capacity(self.geometries.len());
        let mut depths = depth.as_mut().map(|depth| depth.data_mut().chunks_exact_mut(self.samples.count()));
        let mut vertices = as_vectors(&screen);
        for (geometry, numbers) in
            self.geometries.iter().zip(numbers.data_mut().chunks_exact_mut(self.samples.count()))
        {
            let (own, rest) = vertices.split_at(geometry.vertices());
            vertices = rest;
            images.push((geometry, own, numbers, depths.as_mut().and_then(Iterator::next)));
        }
        images.into_par_iter().for_each(|(geometry, screen, numbers, depth)| {
            draw::draw(geometry, screen, self.samples, self.near_far, numbers, depth);
        });
        Ok([Some(numbers), Some(screen), depth].into_iter().flatten().collect())
    }

    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        for (input, part) in inputs.iter().zip(self.geometries.iter().flat_map(Geometry::parts)) {
            shape(self.name(), "vertices on the screen", input, &[part.vertices, 3])?;
        }
        let device = inputs[0].device();
        let (geometries, samples) = (&self.geometries[..], self.samples);
        let (numbers, depth, drawn) =
            gpu::cover(geometries, inputs, samples, self.near_far, self.keep_depth, device)?;
        let _ = self.drawn.set(drawn);
        Ok([Some(numbers), Some(Tensor::zeros([0, 3])), depth].into_iter().flatten().collect())
    }

    /// Visibility has no derivative; what has one is in `resolve`.
    fn backward(&self, _: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![None; self.geometries.iter().map(|geometry| geometry.parts().len()).sum()])
    }
}
