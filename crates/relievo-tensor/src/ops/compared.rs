//! What operations share that compare a reconstruction with its target under a mask.

use crate::{DataType, Error, Result, Tensor};

/// The extents of a reconstruction `[n,H,W,C]`, its target `[B,H,W,C]` and a mask `[B,H,W]` or `[n,H,W]`, with n = B or
/// 2 B: both halves are compared with the same images.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    /// Reconstructions.
    pub images: usize,
    /// Images they are compared with.
    pub targets: usize,
    /// Masks.
    pub masks: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Compared {
    /// The extents of reconstruction, target and mask.
    ///
    /// # Errors
    /// If they do not fit, or are not f32.
    pub fn new(name: &'static str, inputs: &[&Tensor]) -> Result<Self> {
        let [reconstruction, target, mask] = *inputs else {
            return Err(Error::shape(name, format!("{} inputs in place of 3", inputs.len())));
        };
        let [images, height, width, channels] = reconstruction.dims(name)?;
        let [targets, ..] = target.dims::<4>(name)?;
        let [masks, ..] = mask.dims::<3>(name)?;
        let fits = *target.shape() == [targets, height, width, channels]
            && *mask.shape() == [masks, height, width]
            && (images == targets || images == 2 * targets)
            && (masks == images || masks == targets)
            && reconstruction.numel() > 0
            && inputs.iter().all(|input| input.data_type() == DataType::F32);
        if fits {
            return Ok(Self { images, targets, masks, height, width, channels });
        }
        let [reconstruction, target, mask] = [reconstruction, target, mask].map(Tensor::shape);
        let detail = format!(
            "a reconstruction of shape {reconstruction} for a target of {target} under a mask of {mask}, all f32"
        );
        Err(Error::shape(name, detail))
    }

    /// Pixels of an image.
    pub fn pixels(self) -> usize {
        self.height * self.width
    }

    /// The pixels of a reconstruction's target, and of its mask.
    pub fn parts(self, image: usize, [target, mask]: [&[f32]; 2]) -> [&[f32]; 2] {
        let numbers = self.pixels() * self.channels;
        [
            &target[image % self.targets * numbers..][..numbers],
            &mask[image % self.masks * self.pixels()..][..self.pixels()],
        ]
    }
}

/// The extents as in `window.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Extents {
    images: i32,
    targets: i32,
    masks: i32,
    height: i32,
    width: i32,
    channels: i32,
}

impl From<Compared> for Extents {
    fn from(compared: Compared) -> Self {
        let Compared { images, targets, masks, height, width, channels } = compared;
        let [images, targets, masks, height, width, channels] =
            [images, targets, masks, height, width, channels].map(|extent| extent as i32);
        Self { images, targets, masks, height, width, channels }
    }
}

/// The elements of reconstruction, target and mask.
pub fn elements<'a>(inputs: &[&'a Tensor]) -> [&'a [f32]; 3] {
    [inputs[0].data(), inputs[1].data(), inputs[2].data()]
}
