//! `relievo info`: what this program runs on, and what is in a weights file.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use relievo_model::{Model, Preset};
use relievo_settings::Value;
use relievo_tensor::{SimdLevel, cuda};
use relievo_train::Provenance;

use crate::console::{Console, clock, counted};
use crate::{filters, weights};

/// Print what the program runs on, and what a weights file holds
#[derive(Args)]
pub struct Options {
    /// Draw the filters of the loss `filter-bank` instead: those of a TOML file,
    /// or without one those of the program
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with = "model")]
    filters: Option<Option<PathBuf>>,
    /// Picture of the filters; with the ending .toml the bank itself, to be
    /// changed and given to `train --filters`
    #[arg(short, long, value_name = "FILE", default_value = "filters.png", requires = "filters")]
    out: PathBuf,
    /// Weights file, checkpoint, folder of a training run, or weights in the
    /// program: faces, faces-synthetic, cats [default: faces]
    #[arg(value_name = "FILE")]
    model: Option<PathBuf>,
}

pub fn run(options: &Options, console: &Console) -> anyhow::Result<()> {
    if let Some(file) = &options.filters {
        return filters::draw(file.as_deref(), &options.out, console);
    }
    let row = |name: &str, value: &dyn std::fmt::Display| console.result(format_args!("{name:<20}{value}"));
    row("relievo", &env!("CARGO_PKG_VERSION"));
    row("device", &format_args!("CPU, {}", counted(rayon::current_num_threads() as u64, "thread")));
    row("instructions", &format!("{:?}", SimdLevel::best()).to_lowercase());
    let gpus = (0..).map_while(|number| cuda::check(number).and_then(|()| cuda::name(number)).ok());
    let gpus: Vec<String> = gpus.collect();
    for (number, name) in gpus.iter().enumerate() {
        row(&format!("cuda:{number}"), name);
    }
    if gpus.is_empty() {
        row("gpu", &"none to be used; bench --device cuda:0 says why");
    }
    if options.model.is_none() && !weights::EMBEDDED {
        return Ok(());
    }
    let (bytes, origin) = weights::choose(options.model.as_deref())?.read()?;
    let model = Model::from_safetensors(&bytes, &origin)?;
    console.result("");
    row("weights", &origin);
    row("size", &format_args!("{:.1} MiB", bytes.len() as f64 / f64::from(1 << 20)));
    row(
        "ground truth",
        &if model.has_seen_truth() { "learned from, of synthetic images" } else { "not used" },
    );
    if model.has_seen_landmarks() {
        row("landmarks", &"learned from, of a face detector: not unsupervised");
    }
    let provenance = Provenance::read(&bytes);
    // Weights may be packed without what only training needs.
    let trained = provenance.as_ref().and_then(Provenance::model).unwrap_or_else(|| model.settings().clone());
    if let Some(preset) = Preset::in_weights(&bytes) {
        row("preset", &preset.name());
    }
    if let Some(provenance) = provenance {
        let Provenance { progress, settings } = provenance;
        let trained = Duration::try_from_secs_f64(progress.seconds).unwrap_or_default();
        row(
            "trained",
            &format_args!("{} steps on {} images, {}", progress.step, progress.images, clock(trained)),
        );
        for line in settings.lines().filter(|line| line.starts_with("source = ")) {
            row("on", &line.trim_start_matches("source = "));
        }
        if let Some(best) = progress.best {
            row("best validation", &format_args!("loss {:.3} after {} steps", best.loss, best.step));
        }
    }
    let networks = networks(&model);
    let all: usize = networks.iter().map(|(_, count)| count).sum();
    row("parameters", &grouped(all));
    for (network, count) in &networks {
        row(&format!("  {network}"), &grouped(*count));
    }
    console.result("");
    for ((setting, trained), (_, here)) in trained.settings().zip(model.settings().settings()) {
        match trained {
            Value::Unset => {}
            _ if trained == here => row(setting.name, &trained),
            _ => row(setting.name, &format_args!("{trained} in training, {here} in this file")),
        }
    }
    Ok(())
}

/// Parameters of each network, in the order of the model.
fn networks(model: &Model) -> Vec<(String, usize)> {
    let mut networks: Vec<(String, usize)> = Vec::new();
    for info in model.parameter_infos() {
        let network = info.name.split('.').next().unwrap_or_default();
        match networks.last_mut() {
            Some((last, count)) if last == network => *count += info.shape.numel(),
            _ => networks.push((network.to_owned(), info.shape.numel())),
        }
    }
    networks
}

/// A number with its digits in groups of three, right-aligned.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text:>11}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_threes() {
        assert_eq!(
            [7, 999, 1000, 12_979_648].map(|number| grouped(number).trim().to_owned()),
            ["7", "999", "1,000", "12,979,648"]
        );
    }
}
