//! Colours at any point of a face, beside those of the samples.

use relievo_tensor::{Device, Result, Tensor};

use super::{Kind, Painted, Surface, Vector, painted};
use crate::raster::Geometry;

/// All surfaces of a batch, off the tape.
pub(crate) struct Surfaces {
    kinds: Vec<Kind>,
    /// The background, then light and colours of each surface.
    inputs: Vec<Tensor>,
}

impl Surfaces {
    /// # Errors
    /// As [`super::shade`].
    pub fn new(surfaces: &[Surface], background: &Tensor) -> Result<Self> {
        let kinds = surfaces.iter().map(Kind::new).collect::<Result<Vec<_>>>()?;
        let mut inputs = vec![background.detach()];
        for surface in surfaces {
            inputs.push(surface.light.detach());
            inputs.extend(surface.appearance.tensor().map(Tensor::detach));
        }
        Ok(Self { kinds, inputs })
    }

    /// The same on the CPU.
    ///
    /// # Errors
    /// If the device fails.
    pub fn on_host(self) -> Result<Self> {
        let inputs = self.inputs.iter().map(|tensor| tensor.to_device(Device::Cpu));
        Ok(Self { inputs: inputs.collect::<Result<_>>()?, kinds: self.kinds })
    }

    /// The surfaces of all parts of all images, in order.
    pub fn painted(&self) -> Vec<Painted<'_>> {
        painted(&self.kinds, &self.inputs.iter().collect::<Vec<_>>())
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
