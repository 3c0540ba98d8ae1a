//! `relievo train`: trains a model in the folder of a run, which a later call can resume.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::{ArgMatches, Args};
use relievo_model::Loss;
use relievo_train::{
    Event, GivenSettings, Outcome, RunFolder, Settings, StepReport, Trainer, ValidationReport,
};

use crate::console::{Console, Progress, counted};
use crate::{INTERRUPTED, Interrupted, sources, weights};

/// Train a model on images alone and write its weights
///
/// SOURCE is a folder or a .tar file of images of one category of objects,
/// cropped to them, or the word `synthetic` for generated heads. Settings come
/// from the preset, then from the file of --config, then from the options below;
/// all of them are written, with explanations, to settings.toml in the folder of
/// the run. Ctrl-C saves and exits; --resume continues as if it had never
/// stopped.
///
/// Progress shows losses of the reconstruction as seen/mirrored; validation shows
/// in brackets the errors of a flat, constant depth.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Folder of the run: settings, log, checkpoints, previews, weights
    #[arg(short, long, value_name = "FOLDER", default_value = "run")]
    out: PathBuf,
    /// Resume the run in this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["out", "config", "preset"])]
    resume: Option<PathBuf>,
    /// Delete the run in the folder and start a new one
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Runs the command; `matches` are those of this subcommand.
pub fn run(options: &Options, matches: &ArgMatches, console: &Console) -> anyhow::Result<()> {
    let Options { out, resume, overwrite, config, settings } = options;
    let given = GivenSettings::from_matches(settings, matches)?;
    let layered = |file: Option<&Path>| -> anyhow::Result<Settings> {
        let mut settings = Settings::layered(file, Some(&given))?;
        settings.embedded_weights = weights::KNOWN;
        Ok(settings)
    };
    let mut trainer = match resume {
        Some(folder) => {
            let folder = RunFolder::open(folder)?;
            let settings = layered(Some(&folder.settings()))?;
            let source = sources::open(&settings)?;
            Trainer::resume(settings, source, folder)?
        }
        None => {
            let settings = layered(config.as_deref())?;
            let source = sources::open(&settings)?;
            Trainer::begin(settings, source, RunFolder::create(out, *overwrite)?)?
        }
    };
    let stop = stop_on_ctrl_c(*console, SAVING)?;
    let mut display = Display::new(console);
    let outcome = trainer.run(&mut |event: Event<'_>| display.show(&event), &stop)?;
    drop(display);
    let folder = resume.as_ref().unwrap_or(out).display();
    let step = trainer.progress().step;
    match outcome {
        Outcome::Finished => {
            console.result(format_args!("{} done: {folder}/model.safetensors", counted(step, "step")));
        }
        Outcome::TimeUp => {
            console.result(format_args!("time is up after {step} steps: {folder}/model.safetensors"));
        }
        Outcome::Interrupted => {
            console.result(format_args!("stopped after {step} steps; go on with --resume {folder}"));
            return Err(Interrupted.into());
        }
    }
    Ok(())
}

/// What a training does between Ctrl-C and its end.
pub const SAVING: &str = "finishing the step and saving";

/// The first Ctrl-C asks the command to finish, which does `last` before; the second one exits at once.
pub fn stop_on_ctrl_c(console: Console, last: &'static str) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let handler = move || {
        if asked.swap(true, Ordering::Relaxed) {
            // The exit code that shells expect after SIGINT.
            std::process::exit(INTERRUPTED.into());
        }
        console.note(format_args!("{last}; press Ctrl-C again to leave at once"));
    };
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// Turns events into a bar and lines.
pub struct Display<'a> {
    console: &'a Console,
    bar: Option<Progress>,
    /// Whether the bar counts seconds because no step is known to be the last.
    by_clock: bool,
}

impl<'a> Display<'a> {
    pub fn new(console: &'a Console) -> Self {
        Self { console, bar: None, by_clock: false }
    }

    /// Shows a step of learning perceptual features, of `steps`, and its loss.
    pub fn show_features(&mut self, step: u64, steps: u64, loss: f32) {
        let bar = self.bar.get_or_insert_with(|| {
            self.console.note("learning features for the perceptual loss, without labels");
            self.console.progress(steps, "steps")
        });
        bar.set(step, format_args!("mean error {loss:.3}"));
    }

    pub fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Started(run) => {
                self.console.note(format_args!("learning from {}; {} held out", run.source, run.held_out));
                self.by_clock = run.steps.is_none();
                self.bar = None;
                if let Some(steps) = run.steps {
                    let mut bar = self.console.progress(steps, "steps");
                    bar.set(run.step, "");
                    self.bar = Some(bar);
                }
            }
            Event::Stepped(report) => {
                if self.by_clock && self.bar.is_none() {
                    let seconds = report.seconds + report.seconds_left;
                    self.bar = Some(self.console.countdown(seconds.round() as u64));
                }
                let done = if self.by_clock { report.seconds as u64 } else { report.step };
                if let Some(bar) = &mut self.bar {
                    bar.set(done, step(report, self.by_clock));
                }
            }
            Event::Validated(report) => self.note(&validation(report)),
            Event::Previewed(path) => self.note(&format!("preview: {}", path.display())),
            Event::Saved(path) => self.note(&format!("saved {}", path.display())),
            Event::Warned(warning) => match &self.bar {
                Some(bar) => bar.warning(warning),
                None => self.console.warning(warning),
            },
            _ => {}
        }
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.note(text),
            None => self.console.note(text),
        }
    }
}

/// A step in a few words, with its number where the bar does not show it.
fn step(report: &StepReport, with_number: bool) -> String {
    let losses = &report.losses;
    let mut text = format!("loss {:.3}", losses.total);
    if with_number {
        text = format!("step {}, {text}", report.step);
    }
    let mut separator = ": ";
    for group in Loss::GROUPS {
        let values = group.losses.iter().map(|loss| losses[*loss]);
        if let Some(label) = group.label.filter(|_| values.clone().any(|value| value != 0.0)) {
            let digits = if group.losses.len() > 1 { 3 } else { 4 };
            let values: Vec<String> = values.map(|value| format!("{value:.digits$}")).collect();
            text = format!("{text}{separator}{label} {}", values.join("/"));
            separator = ", ";
        }
    }
    if report.data_wait > 0.05 {
        text = format!("{text}, {:.0} % waiting", 100.0 * report.data_wait);
    }
    text
}

/// A validation in a line; in brackets the errors of a constant depth.
fn validation(report: &ValidationReport) -> String {
    let mut line = format!("step {} held out:", report.step);
    if let Some(losses) = &report.evaluation.losses {
        line = format!("{line} loss {:.3}{}", losses.total, if report.best { " best" } else { "" });
    }
    let errors = report.evaluation.visible.as_ref();
    if let Some((side, constant)) =
        errors.and_then(|c| Some((c.model.depth_error?, c.constant_depth.depth_error?)))
    {
        line = format!("{line}, SIDE {:.2} (flat {:.2})", 100.0 * side.mean, 100.0 * constant.mean);
    }
    if let Some((mad, constant)) =
        errors.and_then(|c| Some((c.model.normal_error?, c.constant_depth.normal_error?)))
    {
        line = format!("{line}, MAD {:.1} ({:.1})", mad.mean, constant.mean);
    }
    line
}

#[cfg(test)]
mod tests {
    use relievo_model::Losses;
    use relievo_train::metrics::Statistic;
    use relievo_train::{Comparison, Evaluation, Scores};

    use super::*;

    #[test]
    fn lines_fit_into_80_columns() {
        let mut losses = Losses::default();
        losses.total = -1.234;
        (losses[Loss::Photometric], losses[Loss::PhotometricFlip]) = (-1.234, -1.234);
        (losses[Loss::Perceptual], losses[Loss::PerceptualFlip]) = (12.345, 12.345);
        let report = StepReport {
            step: 123_456,
            epoch: 99,
            losses,
            learning_rate: 1e-4,
            gradient_norm: 1.0,
            images_per_second: 1.0,
            data_wait: 0.25,
            seconds: 1.0,
            seconds_left: 1.0,
        };
        let errors = |side, mad| {
            let statistic = |mean| Some(Statistic { mean, ..Statistic::default() });
            Scores { depth_error: statistic(side), normal_error: statistic(mad), ..Scores::default() }
        };
        let comparison =
            Comparison { model: errors(0.01, 20.0), constant_depth: errors(0.02, 40.0), mean_depth: None };
        let evaluation = Evaluation {
            source: String::new(),
            images: 1,
            skipped: 0,
            losses: Some(losses),
            reconstruction: None,
            visible: Some(comparison),
            whole: None,
            uncovered: None,
            viewpoint: None,
        };
        let validated = ValidationReport { step: 123_456, epoch: 99, best: true, evaluation };
        // Two columns stand before the line of a step.
        for line in [format!("  {}", step(&report, true)), validation(&validated)] {
            assert!(line.len() <= 80, "{} columns: {line}", line.len());
        }
    }
}
