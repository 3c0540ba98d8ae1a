//! `relievo crop`: a training set from raw photographs, by `relievo_detect::crops`.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use relievo_detect::FaceSelection;
use relievo_detect::crops::{CropEvent, CropRun, CropSettings, REPORT, Record, Start, Summary};

use crate::console::{Console, counted};
use crate::{Interrupted, train};

/// Make a training set of faces from raw photographs
///
/// Finds faces and crops each from chin to forehead. Photographs are turned
/// upright by their EXIF orientation; heads that lean are not turned. `relievo
/// train FOLDER` learns from the result. Ctrl-C stops; the same command
/// continues.
///
/// The folder gets
///   faces-00000.tar ..  the crops as PNG files, those of 1000 inputs in each
///   report.json         what was found in each input, what was dropped and why
///   sheet.png           crops from all over the set
///   histograms.png      sizes of faces, and how far heads are turned
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Photographs, folders and archives of photographs
    #[arg(required = true, value_name = "INPUTS")]
    inputs: Vec<PathBuf>,
    /// Folder to write to
    #[arg(short, long, value_name = "FOLDER")]
    out: PathBuf,
    /// Height and width of the crops. Models take 64 by default; what is more serves --jitter and larger models
    #[arg(long, value_name = "PIXELS", default_value_t = 80, value_parser = clap::value_parser!(u32).range(16..=1024))]
    size: u32,
    /// Which faces of a photograph to crop
    #[arg(long, value_enum, default_value_t = FaceSelection::Largest)]
    faces: FaceSelection,
    /// Drop faces whose crop has fewer rows and columns than this in the photograph
    #[arg(long, value_name = "PIXELS", default_value_t = 40)]
    min_side: u32,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let &Options { ref inputs, ref out, size, faces, min_side } = options;
    let run = CropRun::new(inputs, out, CropSettings { size, faces, min_side })?;
    for left_out in run.left_out().iter().filter(|entry| entry.is_warning()) {
        console.warning(left_out);
    }
    match run.start() {
        Start::New => {}
        Start::Continued => console.note(format_args!("going on with what was begun in {}", out.display())),
        Start::Finished => {
            console.note(format_args!("{} is finished already; see {REPORT} there", out.display()));
        }
    }
    let stop = train::stop_on_ctrl_c(*console, "finishing the photographs at hand")?;
    let mut progress = console.progress(run.inputs(), "photographs");
    let mut observer = |event: CropEvent<'_>| match event {
        CropEvent::Done(done) => progress.set(done, ""),
        CropEvent::Skipped(error) => progress.warning(format_args!("skipped: {error}")),
        CropEvent::ShardLost(path) => {
            progress.warning(format_args!("{} is gone or damaged and is made again", path.display()));
        }
        _ => {}
    };
    let records = run.run(&stop, &mut observer)?;
    drop(progress);
    let Some(records) = records else {
        let (done, total) = (run.done(), run.inputs());
        console.result(format_args!("stopped after {done} of {total} photographs; the same command goes on"));
        return Err(Interrupted.into());
    };
    conclude(&records, options, console)
}

/// Says what came of the inputs.
fn conclude(records: &[Record], options: &Options, console: &Console) -> anyhow::Result<()> {
    let (summary, out) = (Summary::from_records(records), options.out.display());
    console.result(summary.table(records));
    ensure!(
        summary.unreadable == 0,
        "{} of the inputs could not be read (named in {out}/{REPORT}), {} in {out}; once they can, the same command \
         adds them",
        summary.unreadable,
        counted(summary.crops, "crop"),
    );
    ensure!(
        summary.crops > 0,
        "no crops of {}: see above, and {out}/{REPORT}",
        counted(summary.inputs, "photograph")
    );
    console.note(format_args!("{} in {out}: relievo train {out}", counted(summary.crops, "crop")));
    Ok(())
}
