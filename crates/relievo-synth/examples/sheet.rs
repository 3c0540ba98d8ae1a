//! A look at the heads: `cargo run --release -p relievo-synth --example sheet -- OUT.png [SIZE COLUMNS ROWS FIRST]`.
//!
//! Each tile is a picture; below it, with a sixth argument, albedo, depth and normals.

use std::env;

use anyhow::{Context, Result};
use image::{Rgb, RgbImage};
use relievo_data::Source;
use relievo_synth::Heads;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().context("usage: OUT.png [SIZE COLUMNS ROWS FIRST maps]")?;
    let mut number = |default: u32| arguments.next().map_or(Ok(default), |text| text.parse());
    let (size, columns, rows, first) = (number(64)?, number(12)?, number(8)?, number(0)?);
    let maps = if arguments.next().is_some() { 4 } else { 1 };
    let heads = Heads::range(0, u64::from(first), u64::from(columns * rows));
    let mut sheet = RgbImage::new(columns * size, rows * size * maps);
    for index in 0..columns * rows {
        let sample = heads.sample(u64::from(index), size)?;
        let truth = sample.truth.context("no truth")?;
        let (left, top) = (index % columns * size, index / columns * size * maps);
        for (row, column) in (0..size).flat_map(|row| (0..size).map(move |column| (row, column))) {
            let pixel = (row * size + column) as usize;
            let mut put = |map: u32, colour: [u8; 3]| {
                sheet.put_pixel(left + column, top + map * size + row, Rgb(colour));
            };
            let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0) as u8;
            put(0, std::array::from_fn(|c| sample.picture.pixels[pixel * 3 + c]));
            if maps > 1 {
                put(1, std::array::from_fn(|c| byte(truth.albedo[pixel * 3 + c])));
                put(2, [byte((1.1 - truth.depth[pixel]) / 0.2); 3]);
                put(3, std::array::from_fn(|c| byte(truth.normals[pixel * 3 + c] * 0.5 + 0.5)));
            }
        }
    }
    sheet.save(&path).with_context(|| format!("writing {path}"))
}
