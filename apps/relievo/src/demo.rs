//! `relievo demo`: what the program makes of sample images, and how good its model is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use relievo::{Canvas, Image, OutputFormat, OutputOptions, Reconstructor, ResultNames, Weights};
use relievo_data::{Sample, Source};
use relievo_export::{Range, Sheet, depth_grey};
use relievo_synth::Heads;
use relievo_train::{Comparison, EvaluationOptions, evaluate_beside};

use crate::console::{Console, counted};
use crate::{eval, weights};

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

/// Four people in one image of 1280x800 pixels, a JPEG file. See assets/README.md.
pub static SCENE: &[u8] = include_bytes!("../assets/scene.jpg");

/// What is reconstructed.
static SAMPLES: [(&str, &[u8]); 3] = [
    ("scene", SCENE),
    ("sample-7", include_bytes!("../assets/000007.png")),
    ("sample-8", include_bytes!("../assets/000008.png")),
];

/// Write reconstructions of sample images, and print how good the model is
///
/// Finds the faces in a scene with four people and in two images of one face
/// each (synthetic heads, no real persons) and writes a panel, maps and a mesh of
/// each, as `relievo reconstruct --faces all --format all` makes them of your
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
    let weights = match &options.model {
        None if weights::EMBEDDED => Weights::FacesSynthetic,
        model => weights::choose(model.as_deref())?,
    };
    let reconstructor = Reconstructor::builder().weights(weights).build()?;
    if !reconstructor.looks_for_faces() {
        let (origin, category) = (reconstructor.origin(), reconstructor.category());
        bail!(
            "the demo shows human faces, and {origin} is a model of {category}: give images of {category} to `relievo \
             reconstruct`"
        );
    }
    console.note("looking for the faces in the sample images and reconstructing them");
    let faces = reconstruct_samples(&reconstructor, out)?;
    console.note(format_args!("{} in {}", counted(faces, "face"), counted(SAMPLES.len() as u64, "image")));

    console.note(format_args!("measuring on {MEASURED} heads that it has not learned from"));
    let heads: Arc<dyn Source> = Arc::new(Heads::range(UNSEEN_SEED, 0, MEASURED));
    let how = EvaluationOptions::default();
    let evaluation = evaluate_beside(reconstructor.model(), &heads, &eval::other_heads(), how)?;
    console.result(&evaluation);
    evaluation.write_json(&out.join("errors.json"))?;
    let comparison = evaluation.visible.context("synthetic heads without their depth")?;
    sheet(&reconstructor, &title(&comparison))?.write_png(out.join("demo.png"))?;
    console.result(format_args!(
        "\nlook at {}; panels and meshes of the sample images lie beside it",
        out.join("demo.png").display()
    ));
    Ok(())
}

/// Writes the sample images and everything that is made of the faces in them; gives the number of faces.
fn reconstruct_samples(reconstructor: &Reconstructor, out: &Path) -> anyhow::Result<u64> {
    let decode =
        |(name, bytes): &(&str, &[u8])| Image::decode(bytes).map_err(|reason| anyhow!("{name}: {reason}"));
    let images = SAMPLES.iter().map(decode).collect::<anyhow::Result<Vec<_>>>()?;
    let output = OutputOptions { formats: OutputFormat::ALL.to_vec(), ..OutputOptions::default() };
    let (mut names, mut count) = (ResultNames::new(), 0);
    let faces = reconstructor.reconstruct_batch(&images);
    for ((faces, image), (name, _)) in faces.zip(&images).zip(&SAMPLES) {
        Canvas::from_rgb8(&image.pixels, image.width as usize)
            .write_input_png(out.join(format!("{name}.png")))?;
        for (number, face) in faces.with_context(|| *name)?.iter().enumerate() {
            face.write(out, &names.of_face(name, number), name, &output)?;
            count += 1;
        }
    }
    Ok(count)
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
fn sheet(reconstructor: &Reconstructor, title: &str) -> anyhow::Result<Canvas> {
    let size = reconstructor.model().settings().image_size;
    let heads = Heads::range(UNSEEN_SEED, 0, SHOWN);
    let samples: Vec<Sample> =
        (0..SHOWN).map(|index| heads.sample(index, size as u32)).collect::<Result<_, _>>()?;
    let images: Vec<Image> = samples.iter().map(|sample| sample.image.clone()).collect();

    let captions = ["input", "reconstruction", "albedo", "depth found", "true depth", "normals"];
    let captions = captions.map(str::to_owned).into_iter().chain(YAWS.map(|yaw| format!("{yaw} degrees")));
    let mut sheet = Sheet::new(TILE).title(title).columns(captions);
    for (number, (sample, face)) in samples.iter().zip(reconstructor.reconstruct_framed(&images)?).enumerate()
    {
        let truth = sample.truth.as_ref().context("a synthetic head without its truth")?;
        let input = heads.sample(number as u64, TILE as u32)?.image;
        // In the same greys, but for the factor that depth is found up to.
        let range = Range::robust(&truth.depth, Some(&truth.mask));
        let mask: Vec<u8> = face.mask().values().iter().map(|seen| u8::from(*seen > 0.5)).collect();
        let counts = |at: usize| mask[at] * truth.mask[at] != 0;
        let depth = scaled_to(face.depth().values(), &truth.depth, counts);
        let mut row = vec![
            Canvas::from_rgb8(&input.pixels, TILE),
            face.draw_reconstruction(),
            face.draw_albedo(),
            depth_grey(&depth, size, Some(&mask), range),
            depth_grey(&truth.depth, size, Some(&truth.mask), range),
            face.draw_normals(),
        ];
        row.extend(face.draw_views(&YAWS)?);
        sheet.row("", row);
    }
    Ok(sheet.draw())
}
