//! A coloured patch over one side of an image, which no symmetric object can explain.
//!
//! The perturbation of Wu et al. 2020, section 4.2, which shows the effect of confidence maps: a rectangle of 20 to 50 % of the
//! image's height and width, of any colour, blended with an opacity of 0.5 to 1. Here it lies wholly in the image's
//! left or right half. The head behind it does not change.

use relievo_data::Image;

use crate::random::Draws;

/// Height and width in parts of the image's side.
const EXTENT: [f32; 2] = [0.2, 0.5];
/// Share of the patch's colour where it is.
const OPACITY: [f32; 2] = [0.5, 1.0];

pub(crate) struct Patch {
    /// Left, top, right and bottom in parts of the image's side.
    edges: [f32; 4],
    colour: [f32; 3],
    opacity: f32,
}

impl Patch {
    pub fn draw(draws: &mut Draws) -> Self {
        let half = if draws.chance(0.5) { 0.0 } else { 0.5 };
        let [width, height] = [0; 2].map(|_| draws.between(EXTENT[0], EXTENT[1]));
        let left = half + draws.between(0.0, 0.5 - width);
        let top = draws.between(0.0, 1.0 - height);
        let colour = [0; 3].map(|_| draws.uniform());
        let opacity = draws.between(OPACITY[0], OPACITY[1]);
        Self { edges: [left, top, left + width, top + height], colour, opacity }
    }

    /// Blends the patch over the image. A pixel is in it if its centre is.
    pub fn blend(&self, image: &mut Image) {
        let [left, top, right, bottom] = self.edges;
        let (columns, rows) = (image.width as usize, image.height as usize);
        // The pixels whose centres lie between two edges.
        let between = |from: f32, to: f32, pixels: usize| {
            let first = |edge: f32| (edge * pixels as f32 - 0.5).ceil() as usize;
            first(from)..first(to).min(pixels)
        };
        for row in between(top, bottom, rows) {
            for column in between(left, right, columns) {
                let pixel = &mut image.pixels[(row * columns + column) * 3..][..3];
                for (byte, colour) in pixel.iter_mut().zip(self.colour) {
                    let blended = f32::from(*byte) * (1.0 - self.opacity) + 255.0 * colour * self.opacity;
                    *byte = blended.round() as u8;
                }
            }
        }
    }
}
