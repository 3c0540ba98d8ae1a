//! Paints the scene that `relievo demo` begins with: synthetic heads of several sizes in the rows of a hall.
//!
//!     cargo run --release -p relievo-synth --example paint_scene -- apps/relievo/assets/scene.jpg
//!
//! Everything in it comes from seed [`SEED`], so every run paints the same image. The heads were chosen because their
//! own lights come from about the same side. The model's heads end below the shoulders: the backs of the seats before
//! them, or the lower edge of the image, hide where. Painted at twice its size and reduced, which leaves outlines
//! smoother than the four samples of a pixel do.

use std::env;
use std::fs::File;
use std::io::BufWriter;

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use relievo_data::{Image, Rectangle};
use relievo_synth::{CutOut, Heads};

/// No weights that come with the program have learned from heads of this seed.
const SEED: u64 = 3;
/// Columns and rows.
const SIZE: [u32; 2] = [1280, 800];
/// It is painted this many times as large.
const SCALE: u32 = 2;
/// Quality of the JPEG file: below it blocks show in the smooth parts.
const QUALITY: u8 = 85;
/// The wall at the back of the hall, and the backs of its seats: numbers of images whose backgrounds they are.
const WALL: u64 = 43;
const SEATS: u64 = 77;

/// Height of the rail on the seats before a face of 64 pixels, in pixels, and how much brighter it is.
const RAIL: u32 = 3;
const RAIL_LIGHT: u8 = 45;

/// A row of seats with somebody in it.
struct Row {
    head: u64,
    /// Middle of the face (x, y), pixels.
    middle: [u32; 2],
    /// Side of the face's frame, from chin to forehead, pixels.
    side: u32,
    /// Upper edge of the seats before it; none before the first row.
    seats: Option<u32>,
}

/// From the back to the front.
const ROWS: [Row; 4] = [
    Row { head: 256, middle: [1120, 140], side: 64, seats: Some(186) },
    Row { head: 522, middle: [560, 260], side: 105, seats: Some(338) },
    Row { head: 493, middle: [290, 466], side: 190, seats: Some(608) },
    Row { head: 555, middle: [880, 572], side: 330, seats: None },
];

fn main() -> Result<()> {
    let path = env::args().nth(1).context("give the JPEG file to write")?;
    let scene = scene(SCALE)?;
    let [right, bottom] = [scene.width, scene.height].map(f64::from);
    let whole = Rectangle { left: 0.0, top: 0.0, width: right, height: bottom };
    let scene = scene.resampled(whole, SIZE[0], SIZE[1]);
    let file = BufWriter::new(File::create(&path).with_context(|| format!("cannot write {path}"))?);
    JpegEncoder::new_with_quality(file, QUALITY).encode(
        &scene.pixels,
        scene.width,
        scene.height,
        image::ExtendedColorType::Rgb8,
    )?;
    Ok(())
}

/// The scene at `scale` times its size.
fn scene(scale: u32) -> Result<Image> {
    let numbers = ROWS.iter().map(|row| row.head).chain([WALL, SEATS]);
    let heads = Heads::range(SEED, 0, 1 + numbers.max().unwrap_or_default());
    let [width, height] = SIZE.map(|extent| extent * scale);
    let mut scene = heads.background(WALL, width, height)?;
    let seats = heads.background(SEATS, width, height)?;
    for row in &ROWS {
        let side = row.side * scale;
        // Hair and shoulders reach about as far beyond the frame as it is large.
        let head = heads.cut_out(row.head, side, side)?;
        blend(&mut scene, &head, row.middle.map(|place| place * scale));
        if let Some(top) = row.seats {
            let top = top * scale;
            // The same for all rows, from its upper edge on, which is a rail in the light.
            let row = (width * 3) as usize;
            let (kept, rail) = (top as usize * row, (RAIL * side / 64) as usize * row);
            let lit =
                |(at, &value): (usize, &u8)| if at < rail { value.saturating_add(RAIL_LIGHT) } else { value };
            scene.pixels.truncate(kept);
            scene.pixels.extend(seats.pixels[..seats.pixels.len() - kept].iter().enumerate().map(lit));
        }
    }
    Ok(scene)
}

/// Lays a head on an image, its middle at `middle`.
fn blend(image: &mut Image, head: &CutOut, [x, y]: [u32; 2]) {
    let [width, height] = [image.width, image.height].map(|extent| extent as usize);
    for (at, (colour, cover)) in head.colours.iter().zip(&head.cover).enumerate() {
        let column = (x as usize + at % head.side).checked_sub(head.side / 2);
        let row = (y as usize + at / head.side).checked_sub(head.side / 2);
        let (Some(column), Some(row)) = (column, row) else { continue };
        if column >= width || row >= height {
            continue;
        }
        let pixel = &mut image.pixels[(row * width + column) * 3..][..3];
        for (value, above) in pixel.iter_mut().zip(colour) {
            let below = f32::from(*value) / 255.0;
            *value = ((below + (above - below) * cover) * 255.0).round() as u8;
        }
    }
}
