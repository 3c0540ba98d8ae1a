//! `relievo demo`: what the program makes of sample images, and how good its model is.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use relievo_data::{Image, Sample, Source};
use relievo_detect::{Detector, FaceSelection};
use relievo_export::{Canvas, Range, Sheet, depth_grey};
use relievo_model::{Model, Predictor};
use relievo_results::{ImageResult, Input, LEAST_TEXTURE, OutputOptions};
use relievo_synth::Heads;
use relievo_tensor::Tensor;
use relievo_train::Comparison;

use crate::console::{Console, counted};
use crate::{eval, reconstruct, weights};

/// Heads that no weights that come with the program have learned from: those of another seed.
const UNSEEN_SEED: u64 = 1;
/// How many of them are measured.
const MEASURED: u64 = 256;
/// How many of them are on the image.
const SHOWN: u64 = 5;

/// Rows and columns of an image on the sheet.
const TILE: usize = 112;

/// Angles about the vertical axis of the views on the sheet, in degrees.
const YAWS: [f32; 4] = [-50.0, -25.0, 25.0, 50.0];

/// Four people in one image of 1280x800 pixels, a JPEG file. See assets/samples/README.md.
pub const SCENE: &[u8] = include_bytes!("../../../assets/samples/scene.jpg");

/// What is taken apart.
const SAMPLES: [(&str, &[u8]); 3] = [
    ("scene", SCENE),
    ("sample-7", include_bytes!("../../../assets/samples/000007.png")),
    ("sample-8", include_bytes!("../../../assets/samples/000008.png")),
];

/// Take sample images apart and measure the model that comes with the program
///
/// Finds the faces in a scene with four people and in two images of one face
/// each (synthetic heads, no real persons) and takes them apart: a panel, maps
/// and a mesh of each, as `relievo reconstruct --faces all` makes them of your
/// photographs. The images lie beside them. Then measures the depth of heads
/// that the model has never seen against the true one, and draws some of them:
/// demo.png.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Folder to write to
    #[arg(short, long, value_name = "FOLDER", default_value = "demo")]
    out: PathBuf,
    /// Weights file, folder of a training run, or weights in the program: faces,
    /// faces-synthetic, cats [default: faces-synthetic, which know heads like these]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let out = &options.out;
    let usual = weights::EMBEDDED.then(|| Path::new(weights::SYNTHETIC));
    let loaded = weights::load(options.model.as_deref().or(usual))?;
    if let Some(object) = loaded.other_object() {
        bail!(
            "the demo shows human faces, and {} is a model of {object}: give images of {object} to `relievo reconstruct`",
            loaded.origin
        );
    }
    let model = loaded.model;
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    console.note("looking for the faces in the sample images and taking them apart");
    let detector = Detector::new()?;
    let size = LEAST_TEXTURE.max(model.settings().image_size) as u32;
    let mut taken = HashSet::new();
    let mut cuts = Vec::new();
    for (name, bytes) in SAMPLES {
        let image = Image::decode(bytes).map_err(|reason| anyhow!("{name}: {reason}"))?;
        Canvas::from_rgb8(&image.pixels, image.width as usize).write_png(out.join(format!("{name}.png")))?;
        let found = reconstruct::cut(&detector, &image, FaceSelection::All, size, name, &mut taken);
        cuts.extend(found.with_context(|| name)?.into_iter().map(|cut| (name, cut)));
    }
    let subjects: Vec<_> = (cuts.iter())
        .map(|(name, (stem, image, place))| Input { name, stem, image, place: *place })
        .collect();
    let mut predictor = Predictor::new(&model, subjects.len())?;
    relievo_results::reconstruct(&mut predictor, &subjects, &OutputOptions::default(), 0, out)?;
    console.note(format_args!(
        "{} in {}",
        counted(subjects.len() as u64, "face"),
        counted(SAMPLES.len() as u64, "image")
    ));

    console.note(format_args!("measuring on {MEASURED} heads that it has not learned from"));
    let heads: Arc<dyn Source> = Arc::new(Heads::range(UNSEEN_SEED, 0, MEASURED));
    let evaluation = eval::measured(&model, &heads, eval::usual())?;
    console.result(eval::table(&evaluation));
    eval::write_json(&evaluation, &out.join("errors.json"))?;
    let comparison = evaluation.visible.context("synthetic heads without their depth")?;
    sheet(&model, &title(&comparison))?.write_png(out.join("demo.png"))?;
    console.result(format_args!(
        "\nlook at {}; panels and meshes of the sample images lie beside it",
        out.join("demo.png").display()
    ));
    Ok(())
}

fn title(comparison: &Comparison) -> String {
    let side = |scores: &relievo_train::Scores| scores.depth_error.map_or(f64::NAN, |side| 100.0 * side.mean);
    format!(
        "heads never seen: depth error (SIDE x 100) {:.2}, that of a constant depth {:.2}",
        side(&comparison.model),
        side(&comparison.constant_depth)
    )
}

/// `depth` times the factor that brings it nearest to `right`, in logarithms, where both count.
fn scaled_to(depth: &[f32], right: &[f32], counts: impl Fn(usize) -> bool) -> Vec<f32> {
    let logarithms: Vec<f32> =
        (0..depth.len()).filter(|at| counts(*at)).map(|at| (right[at] / depth[at]).ln()).collect();
    let factor = (logarithms.iter().sum::<f32>() / logarithms.len().max(1) as f32).exp();
    depth.iter().map(|depth| factor * depth).collect()
}

/// What the model makes of unseen heads, beside the truth.
fn sheet(model: &Model, title: &str) -> anyhow::Result<Canvas> {
    let size = model.settings().image_size;
    let heads = Heads::range(UNSEEN_SEED, 0, SHOWN);
    let samples: Vec<Sample> =
        (0..SHOWN).map(|index| heads.sample(index, size as u32)).collect::<Result<_, _>>()?;
    let values: Vec<f32> = samples.iter().flat_map(|sample| sample.image.signed()).collect();
    let prediction = model.predict(&Tensor::new(&values, [samples.len(), size, size, 3])?)?;

    let captions = ["input", "reconstruction", "albedo", "depth found", "true depth", "normals"];
    let captions = captions.map(str::to_owned).into_iter().chain(YAWS.map(|yaw| format!("{yaw} degrees")));
    let mut sheet = Sheet::new(TILE).title(title).columns(captions);
    for (number, sample) in samples.iter().enumerate() {
        let part = ImageResult::new(model, &prediction, number);
        let truth = sample.truth.as_ref().context("a synthetic head without its truth")?;
        let input = heads.sample(number as u64, TILE as u32)?.image;
        // In the same greys, but for the factor that depth is found up to.
        let range = Range::robust(&truth.depth, Some(&truth.mask));
        let mask = part.mask();
        let depth = scaled_to(part.of(&prediction.depth), &truth.depth, |at| mask[at] * truth.mask[at] != 0);
        let found = depth_grey(&depth, size, Some(&mask), range);
        let mut row = vec![
            Canvas::from_rgb8(&input.pixels, TILE),
            part.reconstruction(),
            part.albedo(),
            found,
            depth_grey(&truth.depth, size, Some(&truth.mask), range),
            part.normals(),
        ];
        row.extend(part.views(&YAWS)?);
        sheet.row("", row);
    }
    Ok(sheet.draw())
}
