//! What a reconstruction is given out as: maps, views, a panel of all of it, a mesh, and a record to go with them.
//!
//! [`reconstruct`] takes images apart and writes the files of each; [`ImageResult`] is one image of a prediction, whose
//! maps and views it draws.

mod image_result;
mod mesh;
mod record;

use std::path::Path;

use clap::Args;
use rayon::prelude::*;
use relievo_data::Image;
use relievo_detect::FaceLocation;
use relievo_export::{Canvas, DepthScale, Sheet, WriteError, write_atomic};
use relievo_model::{ModelError, Predictor};
use relievo_tensor::Tensor;
use serde::Serialize;

pub use image_result::{ImageResult, TILE};
pub use mesh::{LEAST_TEXTURE, Mesh, Texture};
pub use record::{Depth, Light, View};

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine refused an operation.
    #[error(transparent)]
    Engine(#[from] relievo_tensor::Error),
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Weights that are damaged, or of a training that went wrong.
    #[error("{0}: what the model says is not finite; its weights are damaged, or its training went wrong")]
    NotFinite(String),
}

/// Rows and columns of an image on the sheet.
const SHEET_TILE: usize = 128;

/// Angles about the vertical axis of the views on the sheet, in degrees.
const SHEET_YAWS: [f32; 3] = [-45.0, 25.0, 60.0];

/// What stands beside the images of one reconstruction.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Record<'a> {
    image: &'a str,
    /// Where in it the face is that all maps show; none if it was taken as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<FaceLocation>,
    /// Rows and columns of all maps.
    size: usize,
    field_of_view_degrees: f32,
    light: Light,
    view: View,
    /// Steps in which they were fitted to the image; none if they are what the networks say.
    #[serde(skip_serializing_if = "Option::is_none")]
    refined: Option<u16>,
    depth: Depth,
    canonical_depth: Depth,
    normals: String,
    albedo: String,
    panel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh: Option<Mesh>,
}

/// An image as the model wants it, and the place of its results.
pub struct Input<'a> {
    /// What a person calls it.
    pub name: &'a str,
    /// Where its results go, without the endings: relative to the folder, with `/`.
    pub stem: &'a str,
    /// Of any size; of one that is not square the middle counts.
    pub image: &'a Image,
    /// Where in a photograph it was cut out.
    pub place: Option<FaceLocation>,
}

/// What is made of images.
#[derive(Debug, Clone, Args, Default)]
pub struct OutputOptions {
    /// What is seen on the mesh
    #[arg(long, value_enum, default_value_t)]
    pub texture: Texture,
    /// Then fit depth, albedo, light and viewpoint to each image in so many steps; 50 bring the
    /// reconstruction much closer to it, and take a few times as long
    #[arg(long, value_name = "STEPS", default_value_t = 0, value_parser = clap::value_parser!(u16))]
    pub refine: u16,
}

/// Endings of what is written for an image.
pub const ENDINGS: [&str; 10] = [
    "panel.png",
    "depth.png",
    "canonical-depth.png",
    "normals.png",
    "albedo.png",
    "texture.png",
    "glb",
    "obj",
    "mtl",
    "json",
];

/// Takes images apart and writes the files of each below `out`, named by its stem and [`ENDINGS`]; gives rows of a
/// [`sheet`] for the first `wanted` of them. The images go through the networks together, and side by side from
/// there.
///
/// # Errors
/// If the model refuses the images or runs out of memory, says what is not finite, or a file cannot be written. The
/// files of other images may be there then.
pub fn reconstruct(
    predictor: &mut Predictor<'_>,
    subjects: &[Input<'_>],
    making: &OutputOptions,
    wanted: usize,
    out: &Path,
) -> Result<Vec<Vec<Canvas>>, ResultsError> {
    if subjects.is_empty() {
        return Ok(Vec::new());
    }
    let model = predictor.model();
    let size = model.settings().image_size;
    let values: Vec<f32> = subjects
        .iter()
        .flat_map(|subject| subject.image.square(size as u32).signed().collect::<Vec<_>>())
        .collect();
    let images = Tensor::new(&values, [subjects.len(), size, size, 3])?;
    let prediction = match making.refine {
        0 => predictor.predict(&images)?.fetch_all()?,
        steps => model.refine(&images, steps.into())?,
    };
    let rows = subjects.par_iter().enumerate().map(|(number, subject)| {
        let part = ImageResult::new(model, &prediction, number);
        write_one(&part, subject, making, out)?;
        (number < wanted).then(|| Ok(part.row(subject.image, SHEET_TILE, &SHEET_YAWS)?)).transpose()
    });
    Ok(rows.collect::<Result<Vec<_>, ResultsError>>()?.into_iter().flatten().collect())
}

fn write_one(
    part: &ImageResult<'_>,
    subject: &Input<'_>,
    making: &OutputOptions,
    out: &Path,
) -> Result<(), ResultsError> {
    let &Input { name, stem, image, place } = subject;
    let size = part.size();
    let path = |ending: &str| out.join(format!("{stem}.{ending}"));
    // The files of an image lie beside each other: the record names them without their folder.
    let file = |ending: &str| {
        let path = path(ending);
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    };
    let depth = |ending: &str, depth: &[f32], mask: Option<&[u8]>| -> Result<Depth, ResultsError> {
        Ok(Depth::new(file(ending), DepthScale::write_png(path(ending), depth, size, mask)?))
    };
    if !part.is_finite() {
        return Err(ResultsError::NotFinite(name.to_owned()));
    }
    let fine = image.square((LEAST_TEXTURE as u32).min(image.width.min(image.height)).max(size as u32));
    let prediction = part.prediction();
    part.normals().write_png(path("normals.png"))?;
    part.albedo().write_png(path("albedo.png"))?;
    let record = Record {
        image: name,
        place,
        size,
        field_of_view_degrees: part.settings().field_of_view,
        light: part.light().into(),
        view: part.view().into(),
        refined: (making.refine > 0).then_some(making.refine),
        depth: depth("depth.png", part.of(&prediction.depth), Some(&part.mask()))?,
        canonical_depth: depth("canonical-depth.png", part.of(&prediction.canonical_depth), None)?,
        normals: file("normals.png"),
        albedo: file("albedo.png"),
        panel: file("panel.png"),
        mesh: mesh::write(part, making.texture, &fine, path)?,
    };
    part.draw(&fine)?.write_png(path("panel.png"))?;
    let text = serde_json::to_string_pretty(&record).expect("a record is plain numbers and names");
    write_atomic(path("json"), |file| writeln!(file, "{text}"))?;
    Ok(())
}

/// A sheet of rows that [`reconstruct`] gave.
pub fn sheet(rows: &[Vec<Canvas>]) -> Sheet {
    let captions = ["input", "reconstruction", "depth", "normals", "albedo"].map(str::to_owned);
    let views = SHEET_YAWS.map(|yaw| format!("{yaw} degrees"));
    let mut sheet = Sheet::new(SHEET_TILE).columns(captions.into_iter().chain(views));
    for row in rows {
        sheet.row("", row.iter().cloned());
    }
    sheet
}

#[cfg(test)]
mod tests {
    use relievo_model::{Model, ModelSettings};

    use super::*;

    fn model() -> Model {
        let settings = ModelSettings {
            width: 8,
            code: 16,
            encoder_width: 8,
            perceptual_weight: 0.0,
            initial_depth_scale: 0.02,
            dome: 0.5,
            ..ModelSettings::default()
        };
        Model::new(settings, 3).unwrap()
    }

    fn image() -> Image {
        let pixels = (0..96 * 80).flat_map(|at| [(at % 96) as u8 * 2, (at / 96) as u8 * 2, 90]).collect();
        Image { width: 96, height: 80, pixels }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn every_image_gets_all_files_and_the_first_ones_a_row() {
        let (model, image, root) = (model(), image(), tempfile::tempdir().unwrap());
        let subjects = ["a", "b"].map(|stem| Input { name: stem, stem, image: &image, place: None });
        let mut predictor = Predictor::new(&model, 2).unwrap();
        let rows = reconstruct(&mut predictor, &subjects, &OutputOptions::default(), 1, root.path()).unwrap();
        // Input, reconstruction, depth, normals, albedo, and the views.
        assert_eq!((rows.len(), rows[0].len()), (1, 5 + SHEET_YAWS.len()));
        let mut expected: Vec<String> =
            ["a", "b"].iter().flat_map(|stem| ENDINGS.map(|ending| format!("{stem}.{ending}"))).collect();
        expected.sort();
        assert_eq!(names(root.path()), expected);
        let record = std::fs::read_to_string(root.path().join("b.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        assert_eq!((&record["image"], &record["mesh"]["gltf"]), (&"b".into(), &"b.glb".into()));
    }

    #[test]
    fn what_is_not_finite_is_not_given_out() {
        let (mut model, image, root) = (model(), image(), tempfile::tempdir().unwrap());
        model.parameters_mut().iter_mut().for_each(|p| p.data_mut().iter_mut().for_each(|x| *x *= 1e20));
        let subject = [Input { name: "a.jpg", stem: "a", image: &image, place: None }];
        let mut predictor = Predictor::new(&model, 1).unwrap();
        let refusal =
            reconstruct(&mut predictor, &subject, &OutputOptions::default(), 0, root.path()).unwrap_err();
        assert!(refusal.to_string().starts_with("a.jpg: what the model says is not finite"), "{refusal}");
        assert!(names(root.path()).is_empty());
    }
}
