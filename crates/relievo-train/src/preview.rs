//! The preview sheet: reconstructions of a few images, a row for each.

use relievo_export::{Canvas, Range, Sheet, depth_grey, normals_rgb, shading_grey, viridis};
use relievo_model::{FRAME, Model, ModelError};
use relievo_render::{ViewSettings, render_views};
use relievo_tensor::Tensor;

/// Pixels of an image on the sheet.
const TILE: usize = 128;

/// Turns about the vertical axis of the last three columns, in degrees.
const TURNS: [i16; 3] = [-45, 30, 60];

/// Draws a sheet for `images [B,S,S,3]` in [-1,1]: input, reconstruction, canonical image, albedo, depth, normals,
/// shading, confidence, and the canonical object turned to three sides.
///
/// # Errors
/// If the images have another size than the model's.
pub fn sheet(model: &Model, images: &Tensor, title: &str) -> Result<Canvas, ModelError> {
    let prediction = model.predict_with_confidence(images)?;
    let size = model.settings().image_size;
    let [batch, _, _, _] = images.dims("preview")?;
    let mut columns = vec!["input", "reconstruction", "canonical", "albedo", "depth", "normals", "shading"];
    if prediction.confidence.is_some() {
        columns.push("confidence");
    }
    let turns = TURNS.map(|degrees| format!("{degrees:+} degrees"));
    columns.extend(turns.iter().map(String::as_str));
    let viewpoints = TURNS.map(|degrees| [0.0, f32::from(degrees).to_radians(), 0.0, 0.0, 0.0, 0.0]);
    let settings =
        ViewSettings { crop: FRAME, size: TILE, ..ViewSettings::with_room(model.settings().camera()) };
    let views =
        render_views(&[&prediction.canonical_image], &prediction.canonical_depth, &viewpoints, &settings)?;
    // The depth of the border is set, so it has no part in the range to show.
    let inside: Vec<u8> =
        (0..size * size).map(|at| u8::from((FRAME..size - FRAME).contains(&(at % size)))).collect();
    let mut sheet = Sheet::new(TILE).title(title).columns(columns);
    for number in 0..batch {
        let part = |tensor: &Tensor, channels: usize| -> Vec<f32> {
            let elements = size * size * channels;
            tensor.data()[number * elements..(number + 1) * elements].to_vec()
        };
        let colours = |tensor: &Tensor| Canvas::from_signed(&part(tensor, 3), size);
        let depth = part(&prediction.canonical_depth, 1);
        let light = &prediction.light.data()[number * 5..];
        let mut row = vec![
            colours(images),
            colours(&prediction.image),
            colours(&prediction.canonical_image),
            colours(&prediction.albedo),
            depth_grey(&depth, size, None, Range::robust(&depth, Some(&inside))),
            normals_rgb(&part(&prediction.normals, 3), size),
            shading_grey(&part(&prediction.diffuse_shading, 1), [light[0], light[1]], size),
        ];
        if let Some((pixels, _)) = &prediction.confidence {
            // Channel 0 is the image as seen.
            let channels = pixels.numel() / (images.numel() / 3);
            let seen: Vec<f32> = part(pixels, channels).iter().step_by(channels).copied().collect();
            row.push(viridis(&seen, size, Range::robust(&seen, None)));
        }
        let views =
            views.images[0].data().chunks_exact(TILE * TILE * 3).skip(number * TURNS.len()).take(TURNS.len());
        row.extend(views.map(|view| Canvas::from_signed(view, TILE)));
        sheet.row("", row);
    }
    Ok(sheet.draw())
}
