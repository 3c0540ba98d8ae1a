//! The ground truth of images, as losses compare with it.

use relievo_tensor::{Device, Error, Tensor};

/// The ground truth of B images of SxS pixels, in the view of the images. Images without a truth have zeros in `mask`,
/// `known` and `faces`, and any finite numbers in the others (depth above 0).
#[derive(Debug, Clone)]
pub struct GroundTruth {
    /// `[B,S,S]`, above 0.
    pub depth: Tensor,
    /// 1 where the object is and its truth is known, 0 elsewhere, `[B,S,S]`.
    pub mask: Tensor,
    /// `[B,S,S,3]` in [-1,1].
    pub albedo: Tensor,
    /// `[B,5]`: ambient, diffuse, direction, as [`crate::Prediction::light`].
    pub light: Tensor,
    /// `[B,6]`, as [`crate::Prediction::view`].
    pub view: Tensor,
    /// 1 for images with a truth, 0 for others, `[B]`.
    pub known: Tensor,
    /// Points of the face that a detector found, `[B,5,2]`: x, y from -1 to 1 (the centres of the outermost pixels) of right
    /// eye, left eye, tip of the nose, right and left corner of the mouth.
    pub points: Tensor,
    /// 1 for images with points, 0 for others, `[B]`.
    pub faces: Tensor,
}

impl GroundTruth {
    /// That of images of which nothing is known.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn unknown(device: Device, batch: usize, size: usize) -> Result<Self, Error> {
        Ok(Self {
            depth: Tensor::full_on(device, [batch, size, size], 1.0)?,
            mask: Tensor::full_on(device, [batch, size, size], 0.0)?,
            albedo: Tensor::full_on(device, [batch, size, size, 3], 0.0)?,
            light: Tensor::full_on(device, [batch, 5], 0.0)?,
            view: Tensor::full_on(device, [batch, 6], 0.0)?,
            known: Tensor::full_on(device, [batch], 0.0)?,
            points: Tensor::full_on(device, [batch, 5, 2], 0.0)?,
            faces: Tensor::full_on(device, [batch], 0.0)?,
        })
    }

    /// The tensors, in the order of the fields.
    pub fn tensors(&self) -> [&Tensor; 8] {
        let Self { depth, mask, albedo, light, view, known, points, faces } = self;
        [depth, mask, albedo, light, view, known, points, faces]
    }

    /// The tensors, to be written to, in the same order.
    pub fn tensors_mut(&mut self) -> [&mut Tensor; 8] {
        let Self { depth, mask, albedo, light, view, known, points, faces } = self;
        [depth, mask, albedo, light, view, known, points, faces]
    }

    /// The truth with `change` applied to each tensor.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor, Error>) -> Result<Self, Error> {
        Ok(Self {
            depth: change(&self.depth)?,
            mask: change(&self.mask)?,
            albedo: change(&self.albedo)?,
            light: change(&self.light)?,
            view: change(&self.view)?,
            known: change(&self.known)?,
            points: change(&self.points)?,
            faces: change(&self.faces)?,
        })
    }

    /// The same on a device.
    pub(crate) fn to_device(&self, device: Device) -> Result<Self, Error> {
        self.map(|tensor| tensor.to_device(device))
    }

    /// Refuses another number or size of images.
    pub(crate) fn check(&self, batch: usize, size: usize) -> Result<(), Error> {
        let shapes: [&[usize]; 8] = [
            &[batch, size, size],
            &[batch, size, size],
            &[batch, size, size, 3],
            &[batch, 5],
            &[batch, 6],
            &[batch],
            &[batch, 5, 2],
            &[batch],
        ];
        match self.tensors().into_iter().zip(shapes).find(|(tensor, shape)| tensor.shape()[..] != **shape) {
            None => Ok(()),
            Some((tensor, shape)) => {
                let detail = format!("a truth of shape {} in place of {shape:?}", tensor.shape());
                Err(Error::shape("losses", detail))
            }
        }
    }
}

/// What a batch is learned from besides its images, and how much of it counts now. A flip weight alone becomes one
/// without a truth.
#[derive(Debug, Clone, Copy)]
pub struct Objective<'a> {
    /// The weight of the mirrored reconstruction.
    pub flip_weight: f32,
    /// Factor on the weight of the perceptual loss; with 0 it is not computed.
    pub perceptual_factor: f32,
    /// The truth of the images, on the device of the images. Losses that need it are left out without it.
    pub truth: Option<&'a GroundTruth>,
    /// The other images of pairs, on the device of the images.
    pub partners: Partners<'a>,
}

/// The other images of pairs, for a model that learns from pairs. A model that learns from single images compares them
/// with their mirrored reconstructions in any case.
#[derive(Debug, Clone, Copy, Default)]
pub enum Partners<'a> {
    /// Each image is paired with its mirror image.
    #[default]
    Mirrored,
    /// Other images of the same objects, `[B,S,S,3]`.
    Images(&'a Tensor),
    /// Each image is compared with its own reconstruction alone, as in the fine-tuning of texture.
    Nobody,
}

impl<'a> Partners<'a> {
    /// Those of a batch: its partners, or mirror images where it has none.
    pub fn of(partners: Option<&'a Tensor>) -> Self {
        partners.map_or(Self::Mirrored, Self::Images)
    }
}

impl From<f32> for Objective<'_> {
    fn from(flip_weight: f32) -> Self {
        Self { flip_weight, perceptual_factor: 1.0, truth: None, partners: Partners::Mirrored }
    }
}

impl<'a> Objective<'a> {
    /// The same with the truth of the images.
    pub fn with_truth(self, truth: Option<&'a GroundTruth>) -> Self {
        Self { truth, ..self }
    }

    /// The same with the partners of the images.
    pub fn with_partners(self, partners: Partners<'a>) -> Self {
        Self { partners, ..self }
    }
}
