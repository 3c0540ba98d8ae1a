//! How far a reconstruction is to be trusted, in numbers.
//!
//! A model answers whatever it is shown: of a masked face it makes a face. What the answer does not explain says so.

use std::fmt;

use relievo_data::Image;
use serde::Serialize;

// Thresholds by `examples/calibrate_quality.rs`, with the weights `faces`, on 240 photographs of faces (CelebA), as they
// are and disturbed: a bar of colour before the mouth or the eyes, blurred to 16 pixels, darkened to a tenth. Of the
// photographs as they are, 4 raise a doubt.

/// Least certainty of the detector that raises no doubt: the least among the photographs is .82.
const LEAST_SCORE: f32 = 0.6;

/// Largest reconstruction error of a face that nothing covers: the 99th percentile of the photographs is .205, the
/// median with a bar .230.
const MOST_ERROR: f32 = 0.21;

/// Colours that differ by more, in \[-1,1\] and on average over the channels, are not explained.
const EXPLAINED_WITHIN: f32 = 0.35;

/// Least share of the face that is explained where nothing covers it: the 1st percentile of the photographs is .772, the
/// 5th with a bar .533.
const LEAST_EXPLAINED: f32 = 0.77;

/// Least sharpness of an image that shows as much as the model can see: the 1st percentile of the photographs is .062,
/// the 99th of those blurred .035.
const LEAST_SHARPNESS: f32 = 0.05;

/// Least brightness at which colours and shape are still told from noise: the 1st percentile of the photographs is .255,
/// the 99th of those darkened .068.
const LEAST_BRIGHTNESS: f32 = 0.1;

/// The radius of the circle about the middle of the crop that the face fills, in sides of the crop.
const FACE_RADIUS: f32 = 0.4;

/// How far a reconstruction is to be trusted. The networks' own answer is judged, before any refinement: what refines
/// paints a mask on the face, and explains it that way.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Quality {
    /// How certain the detector is that this is a face, in \[0,1\]; `None` if none was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detector_score: Option<f32>,
    /// Mean absolute difference between crop and reconstruction where the object is seen, of colours in \[-1,1\].
    pub reconstruction_error: f32,
    /// The share of the middle of the crop that the reconstruction shows in about the right colour, in \[0,1\].
    pub explained: f32,
    /// How much of the contrast of the crop, at the model's resolution, lies between neighbouring pixels: near 0 for a
    /// blurred image or one that was enlarged.
    pub sharpness: f32,
    /// Mean luminance of the crop, in \[0,1\].
    pub brightness: f32,
    /// What speaks against the result; empty if nothing does.
    pub doubts: Vec<Doubt>,
}

/// A reason to doubt a reconstruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Doubt {
    /// The detector is not sure that this is a face.
    UncertainFace,
    /// Much of the face looks otherwise than the model says: something covers it, or it is no photograph of a face.
    Unexplained,
    /// The image shows less detail than the model can see.
    Blurred,
    /// The image is so dark that colours and shape are guesses.
    Dark,
    /// The photograph has too little around the face: pixels of its border are repeated.
    Tight,
    /// A larger face is cut by the border of the photograph, so this one was taken.
    LargerFaceCut,
    /// Of several photographs of one object: this one is explained much worse together with the others than alone.
    AnotherObject,
}

impl fmt::Display for Doubt {
    /// A sentence without a full stop.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UncertainFace => "the detector is not sure that this is a face",
            Self::Unexplained => {
                "much of it does not look like the reconstruction: the face may be covered, or no photograph"
            }
            Self::Blurred => "the face is blurred or very small, so its details are guessed",
            Self::Dark => "the face is very dark, so its colours and shape are guessed",
            Self::Tight => "the photograph is tight around the face: pixels of its border are repeated",
            Self::LargerFaceCut => "the border cuts a larger face, so this one was taken",
            Self::AnotherObject => {
                "it does not fit the other photographs: it may show someone else, or a grimace"
            }
        })
    }
}

impl Quality {
    /// Of an answer of networks for `seen`, the crop at their size: the image put together again `[S,S,3]` in \[-1,1\],
    /// and where the object is, `[S,S]`.
    pub(crate) fn new(
        seen: &Image,
        reconstruction: &[f32],
        mask: &[f32],
        detector_score: Option<f32>,
    ) -> Self {
        let size = seen.width as usize;
        let values: Vec<f32> = seen.signed().collect();
        let differences: Vec<f32> = (values.as_chunks::<3>().0.iter())
            .zip(reconstruction.as_chunks::<3>().0)
            .map(|(a, b)| (0..3).map(|channel| (a[channel] - b[channel]).abs()).sum::<f32>() / 3.0)
            .collect();
        let is_seen = |at: usize| mask[at] > 0.5;
        let reconstruction_error = mean((0..size * size).filter(|at| is_seen(*at)).map(|at| differences[at]));
        let middle = (size as f32 - 1.0) / 2.0;
        let in_face = |at: usize| {
            let (x, y) = ((at % size) as f32 - middle, (at / size) as f32 - middle);
            x.hypot(y) <= FACE_RADIUS * size as f32
        };
        let is_explained =
            |at: usize| f32::from(u8::from(is_seen(at) && differences[at] <= EXPLAINED_WITHIN));
        let explained = mean((0..size * size).filter(|at| in_face(*at)).map(is_explained));
        let luminance: Vec<f32> = (seen.pixels.as_chunks::<3>().0.iter())
            .map(|&[r, g, b]| (0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)) / 255.0)
            .collect();
        let brightness = mean(luminance.iter().copied());
        let sharpness = sharpness(&luminance, size, brightness);
        let mut quality = Self {
            detector_score,
            reconstruction_error,
            explained,
            sharpness,
            brightness,
            doubts: Vec::new(),
        };
        quality.doubts = quality.find_doubts();
        quality
    }

    fn find_doubts(&self) -> Vec<Doubt> {
        let reasons = [
            (self.detector_score.is_some_and(|score| score < LEAST_SCORE), Doubt::UncertainFace),
            (self.explained < LEAST_EXPLAINED || self.reconstruction_error > MOST_ERROR, Doubt::Unexplained),
            (self.sharpness < LEAST_SHARPNESS, Doubt::Blurred),
            (self.brightness < LEAST_BRIGHTNESS, Doubt::Dark),
        ];
        reasons.into_iter().filter(|(applies, _)| *applies).map(|(_, doubt)| doubt).collect()
    }
}

/// The root mean square of the second differences of luminance, over its standard deviation.
fn sharpness(luminance: &[f32], size: usize, brightness: f32) -> f32 {
    let inner = (1..size - 1).flat_map(|row| (1..size - 1).map(move |column| row * size + column));
    let second = |at: usize| {
        let around = luminance[at - 1] + luminance[at + 1] + luminance[at - size] + luminance[at + size];
        (around / 4.0 - luminance[at]).powi(2)
    };
    let variance = mean(luminance.iter().map(|value| (value - brightness).powi(2)));
    (mean(inner.map(second)) / variance.max(1e-8)).sqrt()
}

/// The mean, 0 of nothing.
fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) =
        values.fold((0.0_f64, 0_u32), |(sum, count), value| (sum + f64::from(value), count + 1));
    (sum / f64::from(count.max(1))) as f32
}
