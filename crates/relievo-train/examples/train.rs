//! Training from the library, the whole loop on one page: a source of images, a model, losses, gradients, Adam.
//!
//!     cargo run --release -p relievo-train --example train -- balls.safetensors
//!
//! `relievo_train::Trainer` is this loop with what a run of days needs besides: checkpoints, validation, a log, GPUs.

use std::error::Error;
use std::sync::Arc;

use relievo_data::{Image, Loader, LoaderOptions, Sample, SampleError, Source, Training};
use relievo_model::{Model, ModelSettings};
use relievo_tensor::{Random, ops::AdamStep};
use relievo_train::Moments;

/// Coloured balls before a grey wall, each lit from a direction of its own. Image `index` is always the same one.
struct Balls;

impl Source for Balls {
    fn describe(&self) -> String {
        format!("{} balls", self.len())
    }

    fn len(&self) -> u64 {
        1_000
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        let random = Random::new(7, index);
        let [x_light, y_light, red, green, blue] = [0, 1, 2, 3, 4].map(|draw| random.uniform(draw));
        let place = |pixel: u32| 2.4 * (pixel as f32 + 0.5) / size as f32 - 1.2;
        let pixels = (0..size).flat_map(|row| (0..size).map(move |column| [place(column), place(row)]));
        let colours = pixels.flat_map(|[x, y]| {
            let z_squared = 1.0 - x * x - y * y;
            let towards_light = (x_light - 0.5) * x + (y_light - 0.5) * y + z_squared.max(0.0).sqrt();
            let shading = 0.3 + 0.5 * towards_light.max(0.0);
            let ball = [red, green, blue].map(|colour| (0.3 + 0.7 * colour) * shading);
            if z_squared > 0.0 { ball } else { [0.5; 3] }.map(|value| (255.0 * value) as u8)
        });
        let image = Image { width: size, height: size, pixels: colours.collect() };
        Ok(Sample { name: self.name(index), image, truth: None, points: None })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: train WEIGHTS.safetensors [STEPS]")?;
    let steps: u64 = std::env::args().nth(2).map_or(Ok(200), |steps| steps.parse())?;
    // Small enough to see something happen within a minute on two cores.
    let small = ModelSettings { width: 16, code: 64, encoder_width: 16, ..ModelSettings::default() };
    let mut model = Model::new(ModelSettings { perceptual_weight: 0.0, confidence: false, ..small }, 0)?;
    let mut moments = Moments::zeros(&model);
    let options = LoaderOptions::new(8, model.settings().image_size as u32);
    let order = Training { seed: 0, mirror: true, ..Training::default() };
    for (step, batch) in (1..=steps).zip(Loader::training(Arc::new(Balls), options, order)?) {
        let (losses, gradients) = model.loss_and_gradients(&batch?.images, model.settings().flip_weight)?;
        let adam = AdamStep { learning_rate: 5e-4, step, ..AdamStep::default() };
        adam.apply(model.parameters_mut(), &gradients, &mut moments.exp_avg, &mut moments.exp_avg_sq)?;
        println!("step {step}: loss {:.4}", losses.total);
    }
    // `relievo reconstruct --framed -m WEIGHTS.safetensors IMAGES` reads it.
    std::fs::write(path, model.to_safetensors()?)?;
    Ok(())
}
