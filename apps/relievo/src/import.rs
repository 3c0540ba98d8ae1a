//! `relievo import`: weights from a checkpoint of the original programs, by `relievo_pytorch`.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use relievo_files::write_atomic;
use relievo_model::Preset;
use relievo_pytorch::{Import, ImportSettings, Origin};

use crate::console::Console;

/// Write a weights file from a PyTorch checkpoint of unsup3d or LeMul
///
/// The result serves wherever weights do (-m FILE). The checkpoint is read
/// without running anything in it: it may hold tensors and plain data, and any
/// other Python object is an error. Sizes of the networks follow from their
/// parameters. What a checkpoint does not say comes from --preset and the options
/// below it, and is written to the file.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Checkpoint of PyTorch, by whatever version it was written
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: PathBuf,
    /// Weights file to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Recipe of its training, one of `relievo train --preset` [default: face, or
    /// car without confidence network; lemul-celeba for LeMul]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "PRESET")]
    preset: Option<Preset>,
    /// Largest rotation about each axis, in degrees, if it is not the preset's:
    /// 90 for LeMul's model of BFM
    #[arg(long, value_name = "DEGREES")]
    rotation_range: Option<f32>,
    /// Largest translation along z, if it is not the preset's
    #[arg(long, value_name = "X")]
    z_translation_range: Option<f32>,
    /// Canonical depth of the two outermost columns, if it is not the preset's
    #[arg(long, value_name = "X")]
    border_depth: Option<f32>,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    let Options { checkpoint, out, .. } = options;
    let settings = ImportSettings {
        preset: options.preset,
        rotation_range: options.rotation_range,
        z_translation_range: options.z_translation_range,
        border_depth: options.border_depth,
    };
    let import = Import::open(checkpoint, &settings).with_context(|| checkpoint.display().to_string())?;
    let real = |path: &PathBuf| path.canonicalize().ok();
    ensure!(
        real(out).is_none() || real(out) != real(checkpoint),
        "{} is the checkpoint itself; give the weights another name with --out",
        out.display()
    );
    if options.preset.is_none() {
        console.note(format_args!(
            "taken as a model of preset {}, because a checkpoint does not say what its images showed; --preset does",
            import.preset.name()
        ));
    }
    if import.has_assumed_groups() {
        console.warning(
            "its networks are not as wide as the published ones: normalisations are taken to have groups of four \
             channels, which a checkpoint does not say",
        );
    }
    let bytes = import.to_safetensors()?;
    write_atomic(out, |file| file.write_all(&bytes))?;
    let origin = match import.origin {
        Origin::LeMul => "LeMul",
        _ => "unsup3d",
    };
    let epoch = import.epoch.map_or_else(String::new, |epoch| format!(" after {epoch} epochs"));
    console.result(format_args!("{}: the weights of {origin}{epoch}", out.display()));
    Ok(())
}
