//! `relievo synth`: writes synthetic heads with their ground truth.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, bail, ensure};
use clap::Args;
use rayon::prelude::*;
use relievo::{Depth, LightRecord, ViewRecord};
use relievo_data::{Sample, Source};
use relievo_export::{Canvas, DepthScale, Range, Sheet, depth_grey, normals_rgb};
use relievo_files::{FolderLock, ensure_empty, write_atomic};
use relievo_synth::{Heads, Variation};
use serde::Serialize;

use crate::console::{Console, counted};
use crate::{Interrupted, train};

/// The file with the truth about each head.
const TRUTH: &str = "truth.jsonl";

/// The greatest `--start`: with the greatest number of heads added, it still fits 64 bits.
pub const MOST: u64 = i64::MAX as u64;

/// The most heads of a call: the truth about each is kept in memory until the end.
pub const MOST_HEADS: u64 = 10_000_000;

/// Heads rendered, written and reported together.
const CHUNK: u64 = 64;

/// Heads on a contact sheet.
const SHEET_HEADS: u64 = 96;
const SHEET_COLUMNS: usize = 12;
/// Most pixels of an image on it.
const SHEET_TILE: usize = 128;

/// Write synthetic heads with their exact depth and albedo
///
/// Head number N of a seed is always the same. The folder gets images/, depth/
/// (16 bits), normals/, albedo/ and mask/, and truth.jsonl with the light, the
/// viewpoint and the depth scale of each head. `relievo train FOLDER/images`
/// learns from them; `relievo train synthetic` renders heads while it trains.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Folder to write to
    #[arg(short, long, value_name = "FOLDER")]
    out: PathBuf,
    /// Number of heads
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=MOST_HEADS))]
    count: u64,
    /// Seed of the heads: each seed has its own
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of the first head
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=MOST))]
    start: u64,
    /// Height and width of the images
    #[arg(long, value_name = "PIXELS", default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=1024))]
    size: u32,
    /// Images of each head, with other expressions, viewpoints, lights and backgrounds; each head has a sub-folder then
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    images: u64,
    /// Occlude one side of each image with a coloured patch
    #[arg(long)]
    perturbed: bool,
    /// How far heads look up and down: the standard deviation of their pitch
    #[arg(long, value_name = "DEGREES", default_value_t = Variation::default().pitch_spread, value_parser = pitch_spread)]
    pitch_spread: f32,
    /// How far the light moves up and down: the standard deviation of the tangent of its elevation
    #[arg(long, value_name = "TANGENT", default_value_t = Variation::default().elevation_spread, value_parser = elevation_spread)]
    elevation_spread: f32,
    /// How much the sides of a face differ in shape: a factor on what is usual
    #[arg(long, value_name = "FACTOR", default_value_t = Variation::default().asymmetry, value_parser = asymmetry)]
    asymmetry: f32,
    /// Also write sheet.png: the first 96 images on one sheet
    #[arg(long)]
    sheet: bool,
}

fn pitch_spread(text: &str) -> Result<f32, String> {
    spread(text, Variation::LARGEST_PITCH_SPREAD)
}

fn elevation_spread(text: &str) -> Result<f32, String> {
    spread(text, Variation::LARGEST_ELEVATION_SPREAD)
}

pub fn asymmetry(text: &str) -> Result<f32, String> {
    spread(text, Variation::LARGEST_ASYMMETRY)
}

/// A number from 0 to `largest`.
fn spread(text: &str, largest: f32) -> Result<f32, String> {
    let number = text.parse().ok().filter(|number| (0.0..=largest).contains(number));
    number.ok_or_else(|| format!("it must be a number from 0 to {largest}"))
}

/// A line of the truth file.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Truth {
    seed: u64,
    number: u64,
    image: String,
    normals: String,
    albedo: String,
    mask: String,
    depth: Depth,
    light: LightRecord,
    view: ViewRecord,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let &Options { ref out, count: heads, images, seed, start, size, perturbed, sheet, .. } = options;
    ensure!(
        heads <= MOST_HEADS / images,
        "--count {heads} with --images {images} is more than {MOST_HEADS} images in all; give smaller numbers"
    );
    let count = heads * images;
    if out.join(TRUTH).exists() {
        bail!("{} already holds heads ({TRUTH}); give another folder with -o", out.display());
    }
    ensure_empty(out)?;
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let _lock = FolderLock::acquire(out)?;
    let stop = train::stop_on_ctrl_c(*console, "finishing the heads at hand")?;
    let &Options { pitch_spread, elevation_spread, asymmetry, .. } = options;
    let digits = (start + heads - 1).to_string().len().max(6);
    let heads = Heads::range(seed, start, heads).images_of_each(images);
    let heads = heads.varied(Variation { pitch_spread, elevation_spread, asymmetry });
    let heads = if perturbed { heads.perturbed() } else { heads };
    let image_digits = (images - 1).to_string().len();
    let mut lines = Vec::new();
    let mut progress = console.progress(count, "images");
    progress.set(0, "");
    for begin in (0..count).step_by(CHUNK as usize) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let end = count.min(begin + CHUNK);
        let chunk: Vec<String> = (begin..end)
            .into_par_iter()
            .map(|index| {
                let (number, image) = (start + index / images, index % images);
                let file = if images > 1 {
                    format!("{number:0digits$}/{image:0image_digits$}.png")
                } else {
                    format!("{number:0digits$}.png")
                };
                let truth = write_head(out, &file, [seed, number], &heads.sample(index, size)?)?;
                Ok(serde_json::to_string(&truth)?)
            })
            .collect::<anyhow::Result<_>>()?;
        lines.extend(chunk);
        progress.set(end, "");
    }
    drop(progress);
    let done = lines.len() as u64;
    if sheet && done == count {
        contact_sheet(&heads, size)?.write_png(out.join("sheet.png"))?;
    }
    // Written last: once it is there, so are all the files that it names.
    write_atomic(out.join(TRUTH), |file| lines.iter().try_for_each(|line| writeln!(file, "{line}")))?;
    if done < count {
        console.result(format_args!(
            "stopped after {done} of {}; {} has those",
            counted(count, "image"),
            out.display()
        ));
        return Err(Interrupted.into());
    }
    console.note(format_args!("{} of {size} x {size} pixels in {}", counted(count, "image"), out.display()));
    Ok(())
}

/// Writes the images of one head, each as `file` in a folder of its own below `out`.
fn write_head(out: &Path, file: &str, [seed, number]: [u64; 2], sample: &Sample) -> anyhow::Result<Truth> {
    let width = sample.image.width as usize;
    let truth = sample.truth.as_ref().context("a synthetic head without its truth")?;
    let name = |folder: &str| format!("{folder}/{file}");
    let (image, normals, albedo) = (name("images"), name("normals"), name("albedo"));
    let (mask, depth) = (name("mask"), name("depth"));
    Canvas::from_rgb8(&sample.image.pixels, width).write_input_png(out.join(&image))?;
    normals_rgb(&truth.normals, width).write_png(out.join(&normals))?;
    Canvas::from_unit(&truth.albedo, width).write_png(out.join(&albedo))?;
    mask_image(&truth.mask, width).write_png(out.join(&mask))?;
    let scale = DepthScale::write_png(out.join(&depth), &truth.depth, width, Some(&truth.mask))?;
    let depth = Depth::new(depth, scale);
    let (light, view) = (truth.light.into(), truth.view.into());
    Ok(Truth { seed, number, image, normals, albedo, mask, depth, light, view })
}

fn mask_image(mask: &[u8], width: usize) -> Canvas {
    let white: Vec<f32> = mask.iter().map(|&seen| f32::from(seen)).collect();
    Canvas::from_grey(&white, width)
}

/// The first heads: four rows (image, albedo, depth, normals) for every twelve.
fn contact_sheet(heads: &Heads, size: u32) -> anyhow::Result<Canvas> {
    let samples: Vec<Sample> = (0..heads.len().min(SHEET_HEADS))
        .into_par_iter()
        .map(|index| heads.sample(index, size))
        .collect::<Result<_, _>>()?;
    let width = size as usize;
    let mut sheet = Sheet::new(width.min(SHEET_TILE)).title(heads.describe());
    for row in samples.chunks(SHEET_COLUMNS) {
        let map = |draw: &dyn Fn(&relievo_data::Truth) -> Canvas| {
            row.iter().map(|sample| sample.truth.as_ref().map(draw)).collect::<Vec<_>>()
        };
        sheet.row("image", row.iter().map(|sample| Canvas::from_rgb8(&sample.image.pixels, width)));
        sheet.row("albedo", map(&|truth| Canvas::from_unit(&truth.albedo, width)));
        sheet.row(
            "depth",
            map(&|truth| {
                let range = Range::robust(&truth.depth, Some(&truth.mask));
                depth_grey(&truth.depth, width, Some(&truth.mask), range)
            }),
        );
        sheet.row("normals", map(&|truth| normals_rgb(&truth.normals, width)));
    }
    Ok(sheet.draw())
}
