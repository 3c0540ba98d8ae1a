//! `relievo renderer`: a renderer that is learned, by `relievo_train`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use relievo_files::write_atomic;
use relievo_model::{LearnedRenderer, RendererSettings};
use relievo_synth::Heads;
use relievo_train::{
    Outcome, RendererRun, RendererStep, RendererTrainer, RendererTraining, RunFolder, evaluate_renderer,
    renderer_sheet,
};

use crate::Interrupted;
use crate::console::{Console, Progress, counted};
use crate::synth::MOST_HEADS;
use crate::train::{SAVING, stop_on_ctrl_c};

/// Train and measure a renderer without geometry, beside the exact one
///
/// A network learns to make images from canonical depth, albedo, light and
/// viewpoint, from those that the exact renderer makes of synthetic heads.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Train(Box<Train>),
    Resume(Resume),
    Eval(Eval),
}

/// Train a renderer on what the exact one makes of synthetic heads
///
/// Every step has other heads, lights and viewpoints. Ctrl-C saves and exits;
/// `relievo renderer resume` continues as if it had never stopped.
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct Train {
    /// Folder of the run: settings, log, checkpoints, weights
    #[arg(short, long, value_name = "FOLDER", default_value = "renderer")]
    out: PathBuf,
    #[command(flatten, next_help_heading = "Renderer")]
    renderer: RendererSettings,
    #[command(flatten, next_help_heading = "Training")]
    train: RendererTraining,
}

/// Resume the training of a renderer with the settings it was begun with
#[derive(Args)]
struct Resume {
    /// Folder of the run
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Print how far a learned renderer is from the exact one
///
/// On synthetic heads that it has not learned from (another seed than that of its
/// training, 0 by default), each under a new light and from a new viewpoint:
/// within the ranges of its training, and with a yaw of 60 to 90 degrees. Errors
/// of the image and of the mask, the cosine between the gradients of both
/// renderers with respect to depth and viewpoint, which is what training would
/// use, and the time that each takes.
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct Eval {
    /// File of a learned renderer, or the folder of its run
    #[arg(value_name = "FILE")]
    renderer: PathBuf,
    /// Number of synthetic heads
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(6..=MOST_HEADS))]
    count: u64,
    /// Seed of the synthetic heads, lights and viewpoints
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Also write a sheet with albedo, exact image, learned image and difference to this PNG file
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Also write all numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    match &options.task {
        Task::Train(options) => {
            let run = RendererRun { renderer: options.renderer.clone(), train: options.train.clone() };
            let heads = heads(&run.train);
            let folder = RunFolder::create(&options.out, false)?;
            train(RendererTrainer::begin(run, &heads, folder)?, &options.out, console)
        }
        Task::Resume(Resume { folder }) => {
            train(RendererTrainer::resume(RunFolder::open(folder)?, heads)?, folder, console)
        }
        Task::Eval(options) => eval(options, console),
    }
}

/// The heads that a run learns from.
fn heads(train: &RendererTraining) -> Heads {
    Heads::range(train.head_seed, 0, train.heads).frontal()
}

fn train(mut trainer: RendererTrainer, folder: &Path, console: &Console) -> anyhow::Result<()> {
    let stop = stop_on_ctrl_c(*console, SAVING)?;
    let steps = trainer.settings().train.steps;
    let mut bar: Progress = console.progress(steps, "steps");
    bar.set(trainer.step(), "");
    let mut show = |report: &RendererStep| {
        bar.set(report.step, format_args!("error: image {:.4}, mask {:.4}", report.image, report.mask));
    };
    let outcome = trainer.run(&mut show, &stop)?;
    drop(bar);
    let (step, folder) = (trainer.step(), folder.display());
    if outcome == Outcome::Interrupted {
        console
            .result(format_args!("stopped after {step} steps; go on with relievo renderer resume {folder}"));
        return Err(Interrupted.into());
    }
    console.result(format_args!("{} done: {folder}/model.safetensors", counted(step, "step")));
    Ok(())
}

fn eval(options: &Eval, console: &Console) -> anyhow::Result<()> {
    let path = match RunFolder::open(&options.renderer) {
        Ok(run) => run.model(),
        Err(_) => options.renderer.clone(),
    };
    let bytes = relievo_files::read(&path)?;
    let renderer = LearnedRenderer::from_safetensors(&bytes, &path.display().to_string())?;
    let heads = Heads::range(options.seed, 0, options.count).frontal();
    let evaluation = evaluate_renderer(&renderer, &heads, options.seed)?;
    console.result(&evaluation);
    if let Some(path) = &options.sheet {
        renderer_sheet(&renderer, &heads, options.seed)?.write_png(path)?;
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&evaluation).context("cannot write the numbers as JSON")?;
        write_atomic(path, |out| writeln!(out, "{text}"))?;
    }
    Ok(())
}
