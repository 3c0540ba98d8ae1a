//! Swaps: the depth and albedo of one image under the light and the viewpoint of another, as LeMul learns from them (Ho
//! et al. 2021).
//!
//!     cargo run --release -p relievo-train --example swap_sheet -- WEIGHTS.safetensors SHEET.png [ASYMMETRY]
//!
//! draws synthetic heads that no training with the usual seed has seen. The first row has the images, two of each head. Each
//! further row has the depth and albedo of the first image of one head, under the light and the viewpoint of each column's
//! image: where both show one head, the result should be the column's image, as far as expression and background allow.

use relievo_data::Source;
use relievo_export::{Canvas, Sheet};
use relievo_model::{Model, Prediction};
use relievo_render::{ViewSettings, diffuse_shading, render_views, shade};
use relievo_synth::{Heads, Variation};
use relievo_tensor::Tensor;

/// Pixels of an image on the sheet.
const TILE: usize = 96;
/// Heads on the sheet, and images of each.
const HEADS: u64 = 3;
const IMAGES: u64 = 2;
/// No training takes this seed without being asked.
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(weights), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("name a weights file and the sheet".into());
    };
    let asymmetry = arguments.next().map_or(Ok(1.0), |text| text.parse::<f32>())?;
    let model = Model::from_safetensors(&std::fs::read(&weights)?, &weights)?;
    let size = model.settings().image_size;

    let heads = Heads::range(SEED, 0, HEADS).images_of_each(IMAGES);
    let heads = heads.varied(Variation { asymmetry, ..Variation::default() });
    let mut values = Vec::new();
    for index in 0..heads.len() {
        values.extend(heads.sample(index, size as u32)?.image.signed());
    }
    let images = Tensor::new(&values, [heads.len() as usize, size, size, 3])?;
    let found = model.predict(&images)?;

    let columns: Vec<String> =
        (0..heads.len()).map(|at| format!("{}{}", letter(at / IMAGES), at % IMAGES + 1)).collect();
    let mut sheet = Sheet::new(TILE).columns(&columns);
    let seen = values.chunks_exact(size * size * 3).map(|image| Canvas::from_signed(image, size));
    sheet.row("image", seen);
    for head in 0..HEADS {
        let of = (head * IMAGES) as usize;
        let swaps: Vec<Canvas> =
            (0..columns.len()).map(|like| swap(&model, &found, of, like)).collect::<Result<_, _>>()?;
        sheet.row(format!("depth, albedo of {}1", letter(head)), swaps);
    }
    sheet.draw().write_png(path)?;
    Ok(())
}

/// The name of a head.
fn letter(head: u64) -> char {
    char::from(b'A' + head as u8)
}

/// Depth and albedo of image `of` under the light and the viewpoint of image `like`.
fn swap(model: &Model, found: &Prediction, of: usize, like: usize) -> relievo_tensor::Result<Canvas> {
    let camera = model.settings().camera();
    let (depth, albedo) = (found.canonical_depth.narrow(of, 1)?, found.albedo.narrow(of, 1)?);
    let (light, view) = (found.light.narrow(like, 1)?, found.view.narrow(like, 1)?);
    let [_, shading] = diffuse_shading(&depth, &light, camera)?;
    let image = shade(&albedo, &shading, &light)?;
    let view = std::array::from_fn(|at| view.data()[at]);
    let settings = ViewSettings { size: TILE, ..ViewSettings::new(camera) };
    let views = render_views(&[&image], &depth, &[view], &settings)?;
    Ok(Canvas::from_signed(views.images[0].data(), TILE))
}
