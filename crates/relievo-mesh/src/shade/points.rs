//! Colours at any point of a face, and the gradients of what they are made of.

use relievo_tensor::{Device, Result, Tensor};

use super::{Kind, Painted, Surface, Vector, check, gpu, painted};
use crate::cuda::shade::Painted as OnGpu;
use crate::raster::{Geometry, Place};
use crate::vector::{add, scale};

/// All surfaces of a batch, without their tensors.
pub(crate) struct Paints {
    kinds: Vec<Kind>,
}

impl Paints {
    /// # Errors
    /// As [`super::shade`].
    pub fn new(surfaces: &[Surface]) -> Result<Self> {
        Ok(Self { kinds: surfaces.iter().map(Kind::new).collect::<Result<_>>()? })
    }

    /// The tensors: the background, then light and colours of each surface.
    pub fn inputs<'a>(surfaces: &'a [Surface], background: &'a Tensor) -> Vec<&'a Tensor> {
        let of_surface = |surface: &'a Surface| [Some(&surface.light), surface.appearance.tensor()];
        [background].into_iter().chain(surfaces.iter().flat_map(of_surface).flatten()).collect()
    }

    /// Checks the tensors of so many images.
    ///
    /// # Errors
    /// As [`super::shade`].
    pub fn check(&self, images: usize, inputs: &[&Tensor]) -> Result<()> {
        check(images, inputs)
    }

    /// The surfaces of all parts of all images, in order.
    pub fn painted<'a>(&'a self, inputs: &[&'a Tensor]) -> Vec<Painted<'a>> {
        painted(&self.kinds, inputs)
    }

    /// The same on a GPU, and the index of each one's light among the inputs.
    ///
    /// # Errors
    /// If the device fails.
    pub fn on_gpu<'a>(
        &self,
        geometries: &[Geometry],
        inputs: &[&'a Tensor],
        device: Device,
    ) -> Result<(Vec<OnGpu<'a>>, Vec<usize>)> {
        gpu::painted(&self.kinds, geometries, inputs, device)
    }
}

/// All surfaces of a batch, off the tape.
pub(crate) struct Surfaces {
    paints: Paints,
    inputs: Vec<Tensor>,
}

impl Surfaces {
    /// # Errors
    /// As [`super::shade`].
    pub fn new(surfaces: &[Surface], background: &Tensor) -> Result<Self> {
        let inputs = Paints::inputs(surfaces, background).into_iter().map(Tensor::detach).collect();
        Ok(Self { paints: Paints::new(surfaces)?, inputs })
    }

    /// The surfaces on a GPU, and the background.
    ///
    /// # Errors
    /// If the device fails.
    pub fn on_gpu(&self, geometries: &[Geometry], device: Device) -> Result<(Vec<OnGpu<'_>>, &Tensor)> {
        let inputs: Vec<&Tensor> = self.inputs.iter().collect();
        Ok((self.paints.on_gpu(geometries, &inputs, device)?.0, &self.inputs[0]))
    }

    /// The surfaces of all parts of all images, in order.
    pub fn painted(&self) -> Vec<Painted<'_>> {
        self.paints.painted(&self.inputs.iter().collect::<Vec<_>>())
    }

    /// The background of an image.
    pub fn background(&self, image: usize) -> Vector {
        let backgrounds = crate::check::as_vectors(&self.inputs[0]);
        backgrounds[image % backgrounds.len()]
    }
}

impl Painted<'_> {
    /// The colour of face `number` at a position with barycentric coordinates `weights` on the surface, under light. `parts` are
    /// those of its image.
    pub fn colour_at(parts: &[Self], geometry: &Geometry, number: usize, weights: [f32; 3]) -> Vector {
        let place = geometry.place(number);
        let part = &parts[place.part];
        let (face, weights) = geometry.on_face(place, weights);
        let light = part.light[part.side(face, place)];
        let own = part.kind.colour(part.colours, face, weights);
        [own[0] * light[0], own[1] * light[1], own[2] * light[2]]
    }
}

/// The gradients of one face: of its light, and of the colours that it refers to.
pub(crate) struct FaceSums {
    place: Place,
    face: usize,
    light: Vector,
    colours: Vec<Vector>,
    /// Of an image: what each pixel of it gets, in the order in which it was added.
    pixels: Vec<(u32, Vector)>,
}

impl FaceSums {
    /// Zeros, of face `number` of an image with the surfaces `parts`.
    pub fn new(parts: &[Painted<'_>], geometry: &Geometry, number: usize) -> Self {
        let place = geometry.place(number);
        let (face, _) = geometry.on_face(place, [0.0; 3]);
        let colours = vec![[0.0; 3]; parts[place.part].kind.per_face()];
        Self { place, face, light: [0.0; 3], colours, pixels: Vec::new() }
    }

    /// Adds those of the colour at a place, `g`; see [`Painted::colour_at`].
    pub fn add(&mut self, parts: &[Painted<'_>], geometry: &Geometry, weights: [f32; 3], g: Vector) {
        let part = &parts[self.place.part];
        let (face, weights) = geometry.on_face(self.place, weights);
        let light = part.light[part.side(face, self.place)];
        let own = part.kind.colour(part.colours, face, weights);
        let lit: Vector = std::array::from_fn(|channel| g[channel] * light[channel]);
        self.light = add(self.light, std::array::from_fn(|channel| g[channel] * own[channel]));
        part.kind.mixture(face, weights, |index, weight| match part.kind {
            Kind::Image { .. } => self.pixels.push((index as u32, scale(lit, weight))),
            _ => self.colours[index] = add(self.colours[index], scale(lit, weight)),
        });
    }

    /// Adds the sums of all faces of an image to the gradients of the background and all surfaces of the batch, as far as
    /// they are wanted.
    pub fn scatter(found: &[Self], parts: &[Painted<'_>], gradients: &mut [Option<Tensor>]) {
        // Part by part, so that each gradient is borrowed once.
        for (number, part) in parts.iter().enumerate() {
            let own = || found.iter().filter(|sums| sums.place.part == number);
            if let Some(light) = &mut gradients[part.input] {
                let light = light.data_mut().as_chunks_mut::<3>().0;
                for sums in own() {
                    let into = &mut light[part.side(sums.face, sums.place)];
                    *into = add(*into, sums.light);
                }
            }
            if part.kind.inputs() < 2 {
                continue;
            }
            if let Some(colours) = &mut gradients[part.input + 1] {
                let colours = colours.data_mut().as_chunks_mut::<3>().0;
                for sums in own() {
                    for (of_face, sum) in sums.colours.iter().enumerate() {
                        let into = &mut colours[part.kind.index(sums.face, of_face)];
                        *into = add(*into, *sum);
                    }
                    for (index, sum) in &sums.pixels {
                        let into = &mut colours[*index as usize];
                        *into = add(*into, *sum);
                    }
                }
            }
        }
    }
}
