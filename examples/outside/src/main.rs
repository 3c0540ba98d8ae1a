//! What another program does with relievo's crates: a photograph to a GLB file, and a training step on images of its own
//! with a loss of its own.
//!
//!     cargo run --release --manifest-path examples/outside/Cargo.toml -- photo.jpg face.glb

mod edge_loss;
mod ellipses;

use std::error::Error;
use std::sync::Arc;

use relievo::{FaceSelection, Image, Reconstructor, Texture, Weights};
use relievo_data::{Loader, LoaderOptions, Training};
use relievo_model::{Model, ModelSettings};
use relievo_tensor::Tensor;
use relievo_tensor::ops::{AdamStep, concat_flipped};

use crate::edge_loss::edge_loss;
use crate::ellipses::Ellipses;

const BATCH: usize = 4;
/// Weight of the edge loss.
const EDGE_WEIGHT: f32 = 10.0;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [photograph, glb] = arguments.as_slice() else {
        return Err("give a photograph and the GLB file to write".into());
    };
    photograph_to_glb(photograph, glb)?;
    let losses = train(8)?;
    println!("edge loss on ellipses: {losses:.3?}");
    Ok(())
}

/// The largest face of a photograph as a textured mesh.
fn photograph_to_glb(photograph: &str, glb: &str) -> Result<(), Box<dyn Error>> {
    let reconstructor =
        Reconstructor::builder().weights(Weights::FacesSynthetic).faces(FaceSelection::Largest).build()?;
    let faces = reconstructor.reconstruct(&Image::open(photograph)?)?;
    let mesh = faces[0].mesh(Texture::Photograph)?;
    mesh.write_glb(glb)?;
    println!("{glb}: {} triangles", mesh.triangles().len());
    Ok(())
}

/// A few steps of a small model on images of [`Ellipses`], with the [`edge_loss`] besides the model's own losses; gives
/// its value in each.
fn train(steps: u64) -> Result<Vec<f32>, Box<dyn Error>> {
    let settings = ModelSettings {
        width: 8,
        code: 16,
        encoder_width: 8,
        perceptual_weight: 0.0,
        initial_depth_scale: 0.1,
        dome: 0.5,
        ..ModelSettings::default()
    };
    let options = LoaderOptions::new(BATCH, settings.image_size as u32);
    let mut model = Model::new(settings, 0)?;
    let mut loader = Loader::training(Arc::new(Ellipses { count: 256 }), options, Training::default())?;
    let zeros = || model.parameters().iter().map(|parameter| Tensor::zeros(parameter.shape())).collect();
    let (mut first, mut second): (Vec<Tensor>, Vec<Tensor>) = (zeros(), zeros());
    let mut losses = Vec::new();
    for step in 1..=steps {
        let batch = loader.next().ok_or("training never ends")??;
        // The model's losses, and the edges of both reconstructions besides: as seen, and from mirrored depth and albedo.
        let working = model.working_parameters()?;
        let flip_weight = model.settings().flip_weight;
        let found = model.differentiate(&working, &batch.images, flip_weight, |prediction, _| {
            let edges = edge_loss(&prediction.image, &concat_flipped(&batch.images, false)?)?;
            losses.push(edges.item()?);
            Ok(vec![(EDGE_WEIGHT, edges)])
        })?;
        drop(working);
        let rule = AdamStep { learning_rate: 1e-3, step, ..AdamStep::default() };
        rule.apply(model.parameters_mut(), &found.of_parameters, &mut first, &mut second)?;
    }
    Ok(losses)
}
