//! `relievo demo`: learns for a few minutes, and shows and measures what it has learned.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::Context;
use clap::Args;
use relievo_data::{Picture, Sample, Source};
use relievo_export::{Canvas, Range, Sheet, depth_grey};
use relievo_model::{Model, Predictor};
use relievo_synth::Heads;
use relievo_tensor::Tensor;
use relievo_train::{Comparison, Event, RunFolder, Settings, Trainer};

use crate::console::{Console, counted};
use crate::panel::Part;
use crate::reconstruct::{Making, Subject};
use crate::{eval, reconstruct, train};

/// What it learns with.
const RECIPE: (&str, &str) =
    ("recipes/heads-on-two-cores.toml", include_str!("../../../recipes/heads-on-two-cores.toml"));

/// Heads that training does not see: those of another seed.
const UNSEEN_SEED: u64 = 1;
/// How many of them are measured.
const MEASURED: u64 = 256;
/// How many of them are on the picture.
const SHOWN: u64 = 5;

/// Rows and columns of a picture on the sheet.
const TILE: usize = 112;

/// Angles about the vertical axis of the views on the sheet, in degrees.
const YAWS: [f32; 4] = [-50.0, -25.0, 25.0, 50.0];

/// See assets/samples/README.md.
const SAMPLES: [(&str, &[u8]); 4] = [
    ("sample-7", include_bytes!("../../../assets/samples/000007.png")),
    ("sample-8", include_bytes!("../../../assets/samples/000008.png")),
    ("sample-9", include_bytes!("../../../assets/samples/000009.png")),
    ("sample-10", include_bytes!("../../../assets/samples/000010.png")),
];

/// Learn from synthetic heads for a few minutes and show the result
///
/// No trained weights come with this version, so the demo trains its own: a
/// small model, from pictures of synthetic heads alone, without their depth. Then
/// it takes heads apart that it has never seen, measures the depth it finds
/// against the true one, and writes demo.png, a panel for each sample picture
/// (see `relievo reconstruct`) and the run with the weights. Ctrl-C ends the
/// training early and shows what was learned so far.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Folder to write to; a demo that is there is replaced
    #[arg(short, long, value_name = "FOLDER", default_value = "demo")]
    out: PathBuf,
    /// How long to train
    #[arg(long, default_value_t = 5.0, value_parser = minutes)]
    minutes: f64,
    /// Train for this many steps, however long they take
    #[arg(long, value_name = "N", conflicts_with = "minutes", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if minutes > 0.0 && minutes < 1e6 => Ok(minutes),
        _ => Err("must be a number of minutes above 0 and below a million".to_owned()),
    }
}

/// The recipe for two cores, on the demo's clock. A few minutes are too short to stop for validations and previews.
fn settings(options: &Options) -> anyhow::Result<Settings> {
    let mut settings = Settings::from_toml(Path::new(RECIPE.0), RECIPE.1, None)?;
    let train = &mut settings.train;
    (train.steps, train.minutes) = options.steps.map_or((0, options.minutes), |steps| (steps, 0.0));
    (train.checkpoint_minutes, train.keep, train.preview_pictures) = (0.0, 1, 0);
    settings.data.validation = 0.0;
    Ok(settings)
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let out = &options.out;
    let settings = settings(options)?;
    console.note(format_args!(
        "No trained weights come with this version. This trains a small model on\n\
         synthetic heads, {}, and then shows heads it has never seen.",
        options.steps.map_or_else(|| format!("for {} min", options.minutes), |steps| counted(steps, "step"))
    ));
    let source = settings.data.open()?;
    let mut trainer = Trainer::begin(settings, source, RunFolder::create(out.join("run"), true)?)?;
    let stop = train::stop_on_ctrl_c(*console, train::SAVING)?;
    let mut display = train::Display::new(console);
    trainer.run(&mut |event: Event<'_>| display.show(&event), &stop)?;
    drop(display);
    // From here on nothing is left to save: Ctrl-C leaves at once.
    stop.store(true, Ordering::Relaxed);
    let (model, steps) = (trainer.model(), trainer.progress().step);

    console.note(format_args!("measuring on {MEASURED} heads it has never seen"));
    let evaluation = eval::on_heads(model, Heads::range(UNSEEN_SEED, 0, MEASURED), false)?;
    console.result(eval::table(&evaluation));
    eval::write_json(&evaluation, &out.join("errors.json"))?;

    let comparison = evaluation.in_sight.context("synthetic heads without their depth")?;
    let sheet = sheet(model, &title(steps, &comparison))?;
    sheet.write_png(out.join("demo.png"))?;
    let samples: Vec<Picture> = SAMPLES
        .iter()
        .map(|(name, bytes)| Picture::decode(bytes).map_err(|reason| anyhow::anyhow!("{name}: {reason}")))
        .collect::<Result<_, _>>()?;
    let subjects: Vec<_> = (SAMPLES.iter().zip(&samples))
        .map(|((name, _), picture)| Subject { name, stem: name, picture, place: None })
        .collect();
    reconstruct::write(&mut Predictor::new(model, subjects.len())?, &subjects, &Making::default(), out)?;
    console.result(format_args!(
        "\nlook at {}; panels of the sample pictures and the run lie beside it",
        out.join("demo.png").display()
    ));
    Ok(())
}

fn title(steps: u64, comparison: &Comparison) -> String {
    let side = |scores: &relievo_train::Scores| scores.depth_error.map_or(f64::NAN, |side| 100.0 * side.mean);
    format!(
        "heads never seen, after {steps} steps: depth error {:.2} (constant depth {:.2})",
        side(&comparison.model),
        side(&comparison.constant_depth)
    )
}

/// What the model makes of unseen heads, beside the truth.
fn sheet(model: &Model, title: &str) -> anyhow::Result<Canvas> {
    let size = model.settings().image_size;
    let heads = Heads::range(UNSEEN_SEED, 0, SHOWN);
    let samples: Vec<Sample> =
        (0..SHOWN).map(|index| heads.sample(index, size as u32)).collect::<Result<_, _>>()?;
    let values: Vec<f32> = samples.iter().flat_map(|sample| sample.picture.signed()).collect();
    let prediction = model.predict(&Tensor::new(&values, [samples.len(), size, size, 3])?)?;

    let captions = ["input", "reconstruction", "albedo", "depth found", "true depth", "normals"];
    let captions = captions.map(str::to_owned).into_iter().chain(YAWS.map(|yaw| format!("{yaw} degrees")));
    let mut sheet = Sheet::new(TILE).title(title).columns(captions);
    for (number, sample) in samples.iter().enumerate() {
        let part = Part::new(model, &prediction, number);
        let truth = sample.truth.as_ref().context("a synthetic head without its truth")?;
        let input = heads.sample(number as u64, TILE as u32)?.picture;
        let mut row = vec![
            Canvas::from_rgb8(&input.pixels, TILE),
            part.reconstruction(),
            part.albedo(),
            part.depth(),
            depth_grey(&truth.depth, size, Some(&truth.mask), Range::robust(&truth.depth, Some(&truth.mask))),
            part.normals(),
        ];
        row.extend(part.views(&YAWS)?);
        sheet.row("", row);
    }
    Ok(sheet.draw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_learns_by_the_recipe_on_a_clock_of_its_own() {
        let recipe = Settings::from_toml(Path::new(RECIPE.0), RECIPE.1, None).unwrap();
        let with = |steps| settings(&Options { out: PathBuf::new(), minutes: 5.0, steps }).unwrap();
        let (by_clock, counted) = (with(None), with(Some(7)));
        assert_eq!((by_clock.train.steps, by_clock.train.minutes), (0, 5.0));
        assert_eq!((counted.train.steps, counted.train.minutes), (7, 0.0));
        for settings in [by_clock, counted] {
            settings.check().unwrap();
            assert_eq!(settings.model, recipe.model);
            assert_eq!(settings.train.learning_rate, recipe.train.learning_rate);
        }
    }
}
