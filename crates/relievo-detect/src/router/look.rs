//! A router looks at an image: a pyramid of it goes through the network, and places become frames.

use rayon::prelude::*;
use relievo_data::{Image, Rectangle};
use relievo_tensor::{Result, Tensor};

use super::category::{RouterCategory, View, certainty};
use super::network::{FEATURES, FRAME, Network, Output, SIDE, STRIDE};
use crate::Frame;

/// Long sides at which an image is seen. The network finds objects of an octave at each: from a fourteenth of the long
/// side to all of it.
const LEVELS: [u32; 4] = [320, 160, 80, 40];

/// However small an image is, this side is looked at, too.
const LEAST: u32 = 80;

/// An image is enlarged by this much at most, but for [`LEAST`].
const ENLARGED: f32 = 1.3;

/// Rows and columns of an image that is seen as a whole.
const WHOLE: u32 = 40;

/// Images that are seen as wholes together.
const TOGETHER: usize = 32;

/// The least certainty of what is mentioned at all.
const FAINT: f32 = 0.02;

/// Two frames that overlap by more are of the same object.
const SAME: f32 = 0.3;

/// A frame of which more lies within that of a more certain object is a part of it.
const PART: f32 = 0.7;

/// Something that a router sees.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sighting {
    /// Its category, by number.
    pub category: usize,
    /// How sure the router is, in \[0,1\].
    pub certainty: f32,
    /// Where it lies, in pixels of the image: the square that models of it learn from.
    pub frame: Frame,
}

/// The images of a pyramid, largest first, and for each the pixels of the original to one of it, across and down.
fn pyramid(image: &Image) -> Vec<(Image, [f32; 2])> {
    let long = image.width.max(image.height);
    let most = (ENLARGED * long as f32).max(LEAST as f32);
    let mut levels: Vec<(Image, [f32; 2])> = Vec::new();
    for side in LEVELS.into_iter().filter(|side| *side as f32 <= most) {
        let scaled =
            |extent: u32| (f64::from(extent) * f64::from(side) / f64::from(long)).round().max(1.0) as u32;
        let from = levels.last().map_or(image, |(level, _)| level);
        let [across, down] = [from.width, from.height].map(f64::from);
        let all = Rectangle { left: 0.0, top: 0.0, width: across, height: down };
        let level = from.resampled(all, scaled(image.width), scaled(image.height));
        let scale = [image.width as f32 / level.width as f32, image.height as f32 / level.height as f32];
        levels.push((level, scale));
    }
    levels
}

fn tensor(images: &[Image]) -> Result<Tensor> {
    let values: Vec<f32> = images.iter().flat_map(Image::signed).collect();
    Tensor::new(&values, [images.len(), images[0].height as usize, images[0].width as usize, 3])
}

/// Calls `found` with the features and the frame of each place of an image, in its pixels.
pub(super) fn places(network: &Network, image: &Image, mut found: impl FnMut(&[f32], Frame)) -> Result<()> {
    // Side by side: the small levels are too small to be shared out among cores.
    let outputs = pyramid(image)
        .into_par_iter()
        .with_max_len(1)
        .map(|(level, scale)| Ok((Network::forward(&network.parameters, &tensor(&[level])?)?, scale)));
    for (Output { features, frames }, [across, down]) in outputs.collect::<Result<Vec<_>>>()? {
        let columns = features.shape()[2];
        let places = features.data().chunks_exact(FEATURES).zip(frames.data().as_chunks::<FRAME>().0);
        for (at, (features, [x, y, size])) in places.enumerate() {
            let middle = |place: usize, offset: f32| STRIDE as f32 * (place as f32 + offset) + 0.5;
            let centre = [across * middle(at % columns, *x), down * middle(at / columns, *y)];
            let side = (across * down).sqrt() * SIDE * size.clamp(-3.0, 3.0).exp();
            found(features, Frame { centre, side, turned_degrees: 0.0 });
        }
    }
    Ok(())
}

/// The features of the middle squares of images, each seen as a whole, as it is and mirrored.
pub(super) fn whole(network: &Network, images: &[Image]) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::with_capacity(images.len());
    for some in images.chunks(TOGETHER) {
        let mirrored = |square: Image| [mirrored(&square), square];
        let squares: Vec<Image> = some.iter().flat_map(|image| mirrored(image.square(WHOLE))).collect();
        let features = Network::forward(&network.parameters, &tensor(&squares)?)?.features;
        let [_, rows, columns, _] = features.dims("router")?;
        // The four places around the middle.
        let middle = [(rows - 1) / 2, rows / 2]
            .map(|row| [(columns - 1) / 2, columns / 2].map(|column| (row * columns + column) * FEATURES));
        let of_image = rows * columns * FEATURES;
        for two in features.data().chunks_exact(2 * of_image) {
            let mut mean = vec![0.0; FEATURES];
            for (features, at) in two
                .chunks_exact(of_image)
                .flat_map(|one| middle.as_flattened().iter().map(move |at| (one, at)))
            {
                for (sum, value) in mean.iter_mut().zip(&features[*at..]) {
                    *sum += value / 8.0;
                }
            }
            all.push(mean);
        }
    }
    Ok(all)
}

fn mirrored(image: &Image) -> Image {
    let mut image = image.clone();
    for row in image.pixels.chunks_exact_mut(3 * image.width as usize) {
        row.as_chunks_mut::<3>().0.reverse();
    }
    image
}

/// What the categories see in an image, the most certain first; of what overlaps the most certain one.
pub(super) fn look(network: &Network, categories: &[RouterCategory], image: &Image) -> Result<Vec<Sighting>> {
    let mut sightings = Vec::new();
    let of_view =
        |view: View| categories.iter().enumerate().filter(move |(_, category)| category.view == view);
    places(network, image, |features, frame| {
        for (number, category) in of_view(View::Places) {
            let certainty = certainty(category.odds(features));
            if certainty >= FAINT && frame.side.is_finite() {
                sightings.push(Sighting { category: number, certainty, frame });
            }
        }
    })?;
    if of_view(View::Whole).next().is_some() {
        let features = &whole(network, std::slice::from_ref(image))?[0];
        let (width, height) = (image.width as f32, image.height as f32);
        let frame =
            Frame { centre: [width / 2.0, height / 2.0], side: width.min(height), turned_degrees: 0.0 };
        sightings.extend(of_view(View::Whole).filter_map(|(number, category)| {
            let certainty = certainty(category.odds(features));
            (certainty >= FAINT).then_some(Sighting { category: number, certainty, frame })
        }));
    }
    Ok(suppressed(sightings))
}

/// The most certain one of those that overlap.
fn suppressed(mut sightings: Vec<Sighting>) -> Vec<Sighting> {
    // Stable: equal ones stay in the order of places, which does not depend on threads.
    sightings.sort_by(|a, b| b.certainty.total_cmp(&a.certainty));
    let mut kept: Vec<Sighting> = Vec::new();
    for sighting in sightings {
        let area = sighting.frame.area();
        let is_new = |other: &Sighting| {
            let other = other.frame.area();
            other.overlap(&area) <= SAME && other.shared(&area) <= PART * area.pixels()
        };
        if kept.iter().all(is_new) {
            kept.push(sighting);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: u32, height: u32) -> Image {
        Image { width, height, pixels: vec![90; (width * height * 3) as usize] }
    }

    #[test]
    fn small_images_are_not_blown_up_and_large_ones_are_shrunk() {
        let sides = |width, height| -> Vec<(u32, u32)> {
            pyramid(&image(width, height)).iter().map(|(level, _)| (level.width, level.height)).collect()
        };
        assert_eq!(sides(640, 480), [(320, 240), (160, 120), (80, 60), (40, 30)]);
        assert_eq!(sides(64, 64), [(80, 80), (40, 40)]);
        assert_eq!(sides(1, 900), [(1, 320), (1, 160), (1, 80), (1, 40)]);
        let [(_, scale), ..] = &pyramid(&image(640, 480))[..] else { panic!("there are levels") };
        assert_eq!(*scale, [2.0, 2.0]);
    }

    #[test]
    fn of_sightings_that_overlap_the_most_certain_stays() {
        let sighting = |x: f32, side: f32, certainty: f32| Sighting {
            category: 0,
            certainty,
            frame: Frame { centre: [x, 50.0], side, turned_degrees: 0.0 },
        };
        let all = vec![
            sighting(50.0, 40.0, 0.6),
            sighting(54.0, 40.0, 0.9),
            sighting(54.0, 10.0, 0.8), // a part of it
            sighting(120.0, 40.0, 0.3),
        ];
        let kept: Vec<f32> = suppressed(all).iter().map(|sighting| sighting.certainty).collect();
        assert_eq!(kept, [0.9, 0.3]);
    }
}
