//! The colours of samples.

mod by_face;
mod gpu;
mod points;

pub(crate) use by_face::SamplesByFace;
pub(crate) use gpu::{in_order, wanted};
pub(crate) use points::{FaceSums, Paints, Surfaces};

use std::sync::Arc;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Error, Operation, Result, Tensor, apply_one};

use crate::check::{as_vectors, floats, shape};
use crate::raster::{Coverage, Covered, Place};
use crate::vector::{Vector, add, scale};
use crate::{Faces, Wrap};

/// What the faces of an object look like, before light.
#[derive(Clone, Debug)]
pub enum Appearance {
    /// White all over.
    White,
    /// A cube of colours for each face, `[F, t, t, t, 3]` with t >= 2: axis k belongs to corner k of the face. The cube is
    /// sampled at the barycentric coordinates times t - 1, trilinearly. Source: Kato et al. 2018, section 3.2.
    Cubes(Tensor),
    /// A colour for each vertex, `[V, 3]`, interpolated over the faces.
    VertexColours(Tensor),
    /// An image, sampled at every sample.
    Image(ImageTexture),
}

/// An image on the faces of an object.
#[derive(Clone, Debug)]
pub struct ImageTexture {
    /// `[h, w, 3]`, row 0 at the top. It has a gradient; the coordinates have none.
    pub image: Tensor,
    /// (u, v) of the three corners of each face, v upwards: (0, 0) is the centre of the lower left pixel, (1, 1) that of the
    /// upper right one. Faces without are white.
    pub corners: Arc<[Option<[[f32; 2]; 3]>]>,
    /// How it continues along u and along v; each sample is wrapped by itself.
    pub wrap: [Wrap; 2],
}

impl Appearance {
    /// The tensor of colours.
    fn tensor(&self) -> Option<&Tensor> {
        match self {
            Self::White => None,
            Self::Cubes(tensor) | Self::VertexColours(tensor) => Some(tensor),
            Self::Image(texture) => Some(&texture.image),
        }
    }
}

/// An object as it is shaded.
#[derive(Clone, Debug)]
pub(crate) struct Surface {
    /// The faces as they were before any was cut.
    pub faces: Faces,
    pub vertices: usize,
    pub appearance: Appearance,
    /// The light on each face, `[F, 3]`, or `[2F, 3]` with their backs.
    pub light: Tensor,
}

/// The colours `[B, rows, columns, 3]` of all samples: those of the faces they show times the light on them, or the
/// `background` `[3]` or `[B, 3]`.
///
/// Gradient: exact in the colours, the light and the background. None in the vertices: what an edge uncovers is in
/// [`crate::Gradient`]; that of the position on the texture is left out, as in the published code.
///
/// # Errors
/// If a shape is another.
pub(crate) fn shade(coverage: Coverage, surfaces: &[Surface], background: &Tensor) -> Result<Tensor> {
    let kinds = surfaces.iter().map(Kind::new).collect::<Result<Vec<_>>>()?;
    let mut inputs: Vec<&Tensor> = vec![background];
    for surface in surfaces {
        inputs.push(&surface.light);
        inputs.extend(surface.appearance.tensor());
    }
    apply_one(Shade { coverage, kinds }, &inputs)
}

/// A surface without its tensors.
enum Kind {
    White { faces: usize },
    Cubes { faces: usize, side: usize },
    VertexColours { faces: Faces },
    Image { corners: Arc<[Option<[[f32; 2]; 3]>]>, wrap: [Wrap; 2], size: [usize; 2] },
}

/// What a cube ends short of, in texels, so that each sample has a next one.
const CUBE_EPS: f32 = 1e-3;

impl Kind {
    fn new(surface: &Surface) -> Result<Self> {
        let faces = surface.faces.len();
        match &surface.appearance {
            Appearance::White => Ok(Self::White { faces }),
            Appearance::Cubes(cubes) => {
                floats("render", &[cubes])?;
                match cubes.shape()[..] {
                    [count, side, b, c, 3] if count == faces && b == side && c == side && side >= 2 => {
                        Ok(Self::Cubes { faces, side })
                    }
                    _ => {
                        let detail = format!(
                            "texture cubes of {faces} faces are [{faces}, t, t, t, 3] with t >= 2, not {}",
                            cubes.shape()
                        );
                        Err(Error::shape("render", detail))
                    }
                }
            }
            Appearance::VertexColours(colours) => {
                shape("render", "vertex colours", colours, &[surface.vertices, 3])?;
                Ok(Self::VertexColours { faces: surface.faces.clone() })
            }
            Appearance::Image(ImageTexture { image, corners, wrap }) => {
                floats("render", &[image])?;
                let (corners, wrap) = (Arc::clone(corners), *wrap);
                match image.shape()[..] {
                    [height, width, 3] if height > 0 && width > 0 && corners.len() == faces => {
                        Ok(Self::Image { corners, wrap, size: [width, height] })
                    }
                    _ => {
                        let (shape, count) = (image.shape(), corners.len());
                        let detail = format!(
                            "an image is [h, w, 3] with coordinates of all {faces} faces, not {shape} with {count}"
                        );
                        Err(Error::shape("render", detail))
                    }
                }
            }
        }
    }

    fn faces(&self) -> usize {
        match self {
            Self::White { faces } | Self::Cubes { faces, .. } => *faces,
            Self::VertexColours { faces } => faces.len(),
            Self::Image { corners, .. } => corners.len(),
        }
    }

    fn inputs(&self) -> usize {
        match self {
            Self::White { .. } => 1,
            _ => 2,
        }
    }

    /// Vectors of the tensor of colours that one face refers to; 0 if that differs.
    fn per_face(&self) -> usize {
        match self {
            Self::White { .. } | Self::Image { .. } => 0,
            Self::Cubes { side, .. } => side * side * side,
            Self::VertexColours { .. } => 3,
        }
    }

    /// Calls `visit` with each colour that a position on a face is mixed of: its index among those of the face, or in the
    /// image, and its weight.
    #[inline(always)]
    fn mixture(&self, face: usize, weights: [f32; 3], mut visit: impl FnMut(usize, f32)) {
        match self {
            Self::White { .. } => {}
            Self::Cubes { side, .. } => {
                let most = (side - 1) as f32 - CUBE_EPS;
                let along = weights.map(|w| (w * (side - 1) as f32).max(0.0).min(most));
                let floor = along.map(|c| c as usize);
                let rest: Vector = std::array::from_fn(|k| along[k] - floor[k] as f32);
                for corner in 0..8 {
                    let bits = [corner & 1, corner >> 1 & 1, corner >> 2 & 1];
                    let mut weight = 1.0;
                    let mut index = 0;
                    for k in 0..3 {
                        weight *= if bits[k] == 1 { rest[k] } else { 1.0 - rest[k] };
                        index = index * side + floor[k] + bits[k];
                    }
                    visit(index, weight);
                }
            }
            Self::VertexColours { .. } => {
                weights.into_iter().enumerate().for_each(|(corner, weight)| visit(corner, weight));
            }
            Self::Image { corners, wrap, size } => {
                let Some(corners) = corners[face] else { return };
                let mut at = [[0; 2]; 2];
                let mut shares = [[0.0; 2]; 2];
                for axis in 0..2 {
                    let place = (0..3).map(|k| weights[k] * corners[k][axis]).sum();
                    // Beyond a border it is black.
                    let Some(place) = wrap[axis].apply(place) else { return };
                    let most = size[axis] - 1;
                    let place = if axis == 0 { place } else { 1.0 - place } * most as f32;
                    let first = (place.max(0.0) as usize).min(most);
                    at[axis] = [first, (first + 1).min(most)];
                    let rest = (place - first as f32).clamp(0.0, 1.0);
                    shares[axis] = [1.0 - rest, rest];
                }
                for (row, down) in at[1].into_iter().zip(shares[1]) {
                    for (column, across) in at[0].into_iter().zip(shares[0]) {
                        visit(row * size[0] + column, down * across);
                    }
                }
            }
        }
    }

    /// The index among all vectors of the tensor of colours.
    #[inline(always)]
    fn index(&self, face: usize, of_face: usize) -> usize {
        match self {
            Self::White { .. } => 0,
            Self::Cubes { .. } => face * self.per_face() + of_face,
            Self::VertexColours { faces } => faces.as_slice()[face][of_face] as usize,
            Self::Image { .. } => of_face,
        }
    }

    /// The colour at a position on a face.
    #[inline(always)]
    fn colour(&self, colours: &[Vector], face: usize, weights: [f32; 3]) -> Vector {
        let white = match self {
            Self::White { .. } => true,
            Self::Image { corners, .. } => corners[face].is_none(),
            _ => false,
        };
        if white {
            return [1.0; 3];
        }
        let mut colour = [0.0; 3];
        self.mixture(face, weights, |of_face, weight| {
            colour = add(colour, scale(colours[self.index(face, of_face)], weight));
        });
        colour
    }
}

/// Inputs: the background; then for each part of each image the light and, unless it is white, the colours.
struct Shade {
    coverage: Coverage,
    kinds: Vec<Kind>,
}

/// A surface with its tensors.
pub(crate) struct Painted<'a> {
    kind: &'a Kind,
    light: &'a [Vector],
    colours: &'a [Vector],
    /// The index of the light among the inputs.
    input: usize,
}

impl Painted<'_> {
    /// The index of the light on the side of a face that is seen.
    #[inline(always)]
    fn side(&self, face: usize, place: Place) -> usize {
        if place.back { face + self.kind.faces() } else { face }
    }
}

/// Checks the tensors that so many images are shaded with: the background, then those of each surface.
fn check(images: usize, inputs: &[&Tensor]) -> Result<()> {
    let background = inputs[0];
    if ![&[3][..], &[images, 3]].contains(&&background.shape()[..]) {
        let detail = format!("the background must be [3] or [{images}, 3], not {}", background.shape());
        return Err(Error::shape("render", detail));
    }
    floats("render", inputs)
}

/// The surfaces with their tensors. `inputs` are the background, then those of each surface.
fn painted<'a>(kinds: &'a [Kind], inputs: &[&'a Tensor]) -> Vec<Painted<'a>> {
    let mut input = 1;
    let of_kind = |kind: &'a Kind| {
        let own = &inputs[input..input + kind.inputs()];
        let painted = Painted {
            kind,
            light: as_vectors(own[0]),
            colours: own.get(1).map_or(&[], |colours| as_vectors(colours)),
            input,
        };
        input += kind.inputs();
        painted
    };
    kinds.iter().map(of_kind).collect()
}

impl Shade {
    /// The painted parts of each image.
    fn of_images<'a, 'b>(&'a self, painted: &'b [Painted<'a>]) -> Vec<(Covered<'a>, &'b [Painted<'a>])> {
        let mut rest = painted;
        let of_image = |image: Covered<'a>| {
            let (own, others) = rest.split_at(image.geometry.parts().len());
            rest = others;
            (image, own)
        };
        self.coverage.images().map(of_image).collect()
    }
}

impl Operation for Shade {
    fn name(&self) -> &'static str {
        "render"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let samples = self.coverage.samples;
        let images = self.coverage.geometries.len();
        let background = inputs[0];
        check(images, inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        let painted = painted(&self.kinds, inputs);
        let of_images = self.of_images(&painted);
        let backgrounds = as_vectors(background);
        let mut colours = Tensor::empty([images, samples.rows, samples.columns, 3]);
        colours.data_mut().par_chunks_mut(samples.columns * 3).enumerate().for_each(|(line, colours)| {
            let (index, row) = (line / samples.rows, line % samples.rows);
            let (image, painted) = &of_images[index];
            let background = backgrounds[index % backgrounds.len()];
            let numbers = &image.numbers[row * samples.columns..][..samples.columns];
            let mut last = None;
            for (column, (colour, number)) in
                colours.as_chunks_mut::<3>().0.iter_mut().zip(numbers).enumerate()
            {
                if *number < 0.0 {
                    *colour = background;
                    continue;
                }
                let (_, triangle, place) = match last {
                    Some(last @ (of, _, _)) if of == *number => last,
                    _ => (*number, image.triangle(*number), image.geometry.place(*number as usize)),
                };
                last = Some((*number, triangle, place));
                let part = &painted[place.part];
                let (face, weights) = image.geometry.on_face(place, triangle.surface_weights(column, row));
                let light = part.light[part.side(face, place)];
                let own = part.kind.colour(part.colours, face, weights);
                *colour = [own[0] * light[0], own[1] * light[1], own[2] * light[2]];
            }
        });
        Ok(vec![colours])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let inputs: Vec<&Tensor> = backward.saved.iter().collect();
        let painted = painted(&self.kinds, &inputs);
        let samples = self.coverage.samples;
        let mut gradients = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.iter().enumerate() {
            gradients.push(backward.wants(index).then(|| Tensor::zeros(input.shape())));
        }
        for (index, (image, painted)) in self.of_images(&painted).into_iter().enumerate() {
            let upstream = &backward.gradient().data()[index * samples.count() * 3..][..samples.count() * 3];
            let upstream = upstream.as_chunks::<3>().0;
            if let Some(background) = &mut gradients[0] {
                let mut sum = [0.0f64; 3];
                let uncovered = upstream.iter().zip(image.numbers).filter(|(_, number)| **number < 0.0);
                for (g, _) in uncovered {
                    sum.iter_mut().zip(g).for_each(|(sum, g)| *sum += f64::from(*g));
                }
                let own = background.data_mut().as_chunks_mut::<3>().0;
                let own = if own.len() == 1 { &mut own[0] } else { &mut own[index] };
                own.iter_mut().zip(sum).for_each(|(own, sum)| *own += sum as f32);
            }
            if gradients[1..].iter().all(Option::is_none) {
                continue;
            }
            let by_face = SamplesByFace::new(&image);
            let of_face = |(number, list): (u32, &[u32])| {
                let triangle = image.triangle(number as f32);
                let mut sums = FaceSums::new(painted, image.geometry, number as usize);
                for sample in list {
                    let (column, row) =
                        (*sample as usize % samples.columns, *sample as usize / samples.columns);
                    let weights = triangle.surface_weights(column, row);
                    sums.add(painted, image.geometry, weights, upstream[*sample as usize]);
                }
                sums
            };
            let found: Vec<FaceSums> = by_face.faces().into_par_iter().map(of_face).collect();
            FaceSums::scatter(&found, painted, &mut gradients);
        }
        Ok(gradients)
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        check(self.coverage.geometries.len(), inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        Ok(vec![self.forward_on_gpu(inputs)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        self.backward_on_gpu(backward)
    }
}
