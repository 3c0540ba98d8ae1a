//! What the numbers of [`relievo::Quality`] are for faces that are well seen and for those that are not: the basis of
//! the thresholds in `src/quality.rs`.
//!
//!     cargo run --release -p relievo --features weights-research --example calibrate_quality -- [PHOTOGRAPHS]
//!
//! prints percentiles of each number: of synthetic heads as they are, with a patch of colour before one side, blurred,
//! and darkened; and of the images in a folder of photographs, if one is given, likewise.

use relievo::{FaceSelection, Image, Quality, Reconstructor};
use relievo_data::{Images, Source};
use relievo_synth::Heads;

/// Heads of each kind.
const HEADS: u64 = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let heads = Reconstructor::builder().framing(relievo::Framing::Whole).build()?;
    let plain = Heads::range(1, 0, HEADS);
    let perturbed = Heads::range(1, 0, HEADS).perturbed();
    println!("{:<28}{:>38}{:>38}{:>38}{:>38}", "", "error", "explained", "sharpness", "brightness");
    let of = |source: &dyn Source| -> Result<Vec<Image>, relievo::SampleError> {
        (0..HEADS).map(|index| Ok(source.sample(index, 128)?.image)).collect()
    };
    rows("synthetic", &heads, of(&plain)?)?;
    rows("synthetic, patch", &heads, of(&perturbed)?)?;
    if let Some(folder) = std::env::args().nth(1) {
        let faces = Reconstructor::builder().faces(FaceSelection::Largest).build()?;
        let images = Images::open(&[folder])?;
        let photographs: Vec<Image> =
            (0..images.len()).filter_map(|index| images.image(index).ok()).collect();
        let crops: Vec<Image> = faces
            .reconstruct_batch(&photographs)
            .filter_map(Result::ok)
            .map(|faces| faces[0].crop().clone())
            .collect();
        let covered = crops.iter().enumerate().map(|(number, crop)| cover(crop, number)).collect();
        rows("photographs, patch", &heads, covered)?;
        rows("photographs", &heads, crops)?;
    }
    Ok(())
}

fn rows(
    name: &str,
    reconstructor: &Reconstructor,
    images: Vec<Image>,
) -> Result<(), Box<dyn std::error::Error>> {
    let blurred = images.iter().map(blur).collect();
    let dark = images.iter().map(darken).collect();
    for (kind, images) in [("", images), (", blurred", blurred), (", dark", dark)] {
        let results: Vec<_> = reconstructor.reconstruct_batch(&images).collect::<Result<Vec<_>, _>>()?;
        let qualities: Vec<&Quality> = results.iter().map(|faces| faces[0].quality()).collect();
        print!("{:<28}", format!("{name}{kind}"));
        for value in [
            (|quality: &Quality| quality.reconstruction_error) as fn(&Quality) -> f32,
            |quality| quality.explained,
            |quality| quality.sharpness,
            |quality| quality.brightness,
        ] {
            let mut values: Vec<f32> = qualities.iter().map(|quality| value(quality)).collect();
            values.sort_by(f32::total_cmp);
            let at = |percent: usize| values[(values.len() - 1) * percent / 100];
            print!("  {:>7.3}{:>7.3}{:>7.3}{:>7.3}{:>7.3} ", at(1), at(5), at(50), at(95), at(99));
        }
        let doubted = qualities.iter().filter(|quality| !quality.doubts.is_empty()).count();
        println!("  doubts {:>3.0} %", 100.0 * doubted as f64 / qualities.len().max(1) as f64);
    }
    Ok(())
}

/// The image with a grey or coloured bar before its lower or upper half, as a mask or a hand would lie.
fn cover(image: &Image, number: usize) -> Image {
    let colours = [[235, 235, 240], [40, 70, 140], [20, 20, 22], [190, 60, 50]];
    let (colour, size) = (colours[number % colours.len()], image.width as usize);
    let rows = if number.is_multiple_of(2) { 55..95 } else { 15..50 };
    let mut covered = image.clone();
    for row in rows.start * size / 100..rows.end * size / 100 {
        for pixel in covered.pixels[3 * row * size..][..3 * size].as_chunks_mut::<3>().0 {
            *pixel = colour;
        }
    }
    covered
}

/// As if the face had 16 pixels only.
fn blur(image: &Image) -> Image {
    image.square(16).square(image.width.min(image.height))
}

fn darken(image: &Image) -> Image {
    let pixels = image.pixels.iter().map(|value| value / 10).collect();
    Image { pixels, ..*image }
}
