//! `relievo fit`: meshes, textures and cameras from images, by `relievo_fit`.

mod camera;
mod images;
mod shape;
mod texture;
mod vertices;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use relievo_export::{Animation, Chart};
use relievo_files::write_atomic;
use relievo_fit::Step;
use serde_json::{Value, json};

use crate::console::{Console, Progress, three_digits};
use images::Frames;

/// Fit a shape, a texture or a camera to images, by the renderer's gradients
///
/// Each task runs on your files, or without any on its own example, those of
/// Kato, Ushiku and Harada, Neural 3D Mesh Renderer (2018). The folder gets the
/// result, progress.gif, its last frame result.png, curve.png with the error of
/// every step, and fit.json.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Vertices(vertices::Options),
    Shape(shape::Options),
    Texture(texture::Options),
    Camera(camera::Options),
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    match &options.task {
        Task::Vertices(options) => vertices::run(options, console),
        Task::Shape(options) => shape::run(options, console),
        Task::Texture(options) => texture::run(options, console),
        Task::Camera(options) => camera::run(options, console),
    }
}

/// Options of all tasks.
#[derive(Args)]
struct Common {
    /// Folder to write to
    #[arg(short, long, value_name = "FOLDER", default_value = "fit")]
    out: PathBuf,
    /// Steps of the optimiser [default: those of the task]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    steps: Option<u64>,
    /// How far a parameter moves in a step, about [default: that of the task]
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
}

/// What happens while a task runs: progress, frames of the animation, the curve.
struct Report {
    losses: Vec<f32>,
    frames: Frames,
    total: u64,
    began: Instant,
    /// Drawing does not count.
    drawing: Duration,
    progress: Progress,
}

/// How long a frame of the animation is shown, and the last one.
const PAUSE: Duration = Duration::from_millis(120);
const HOLD: Duration = Duration::from_millis(1500);

/// Frames of an animation, about.
const FRAMES: u64 = 28;

impl Report {
    fn new(console: &Console, steps: u64) -> Self {
        let progress = console.progress(steps, "steps");
        let (frames, losses) = (Frames::default(), Vec::new());
        Self { losses, frames, total: steps, began: Instant::now(), drawing: Duration::ZERO, progress }
    }

    /// Notes a step. `draw` makes a frame of it, which is done often at first and seldom later.
    fn step(&mut self, step: &Step<'_>, draw: impl FnOnce() -> anyhow::Result<relievo_export::Canvas>) {
        self.losses.push(step.loss);
        let frame = |number: u64| ((number as f64 / self.total as f64).sqrt() * FRAMES as f64) as u64;
        if step.number == 1 || step.number == self.total || frame(step.number) > frame(step.number - 1) {
            let began = Instant::now();
            self.frames.add(draw());
            self.drawing += began.elapsed();
        }
        self.progress.set(step.number, format_args!("error {}", three_digits(f64::from(step.loss))));
    }

    /// Writes progress.gif, curve.png and fit.json, and says how it went.
    fn finish(
        self,
        out: &Path,
        title: &str,
        label: &str,
        mut record: Value,
        console: &Console,
    ) -> anyhow::Result<()> {
        let seconds = self.began.elapsed().saturating_sub(self.drawing).as_secs_f64();
        drop(self.progress);
        let steps = self.losses.len();
        let points = self.losses.iter().enumerate().map(|(step, loss)| [step as f64 + 1.0, f64::from(*loss)]);
        let chart = Chart::new(title, "step", label).curve("", points);
        chart.draw(640, 360).write_png(out.join("curve.png"))?;
        let frames = self.frames.finish()?;
        if let Some(last) = frames.last() {
            last.write_png(out.join("result.png"))?;
        }
        Animation::new(frames, PAUSE).holding_the_last(HOLD).write_gif(out.join("progress.gif"))?;
        record["relievo"] = env!("CARGO_PKG_VERSION").into();
        record["steps"] = steps.into();
        record["seconds"] = json!((seconds * 1000.0).round() / 1000.0);
        record["errors"] = json!(self.losses);
        let text = serde_json::to_string(&record)?;
        write_atomic(out.join("fit.json"), |file| writeln!(file, "{text}"))?;
        let (first, last) = (self.losses.first().copied(), self.losses.last().copied());
        console.result(format_args!(
            "{steps} steps in {seconds:.1} s: error {} to {}; look at {}",
            three_digits(f64::from(first.unwrap_or(f32::NAN))),
            three_digits(f64::from(last.unwrap_or(f32::NAN))),
            out.join("progress.gif").display()
        ));
        Ok(())
    }
}
