//! Tests of settings and their layers.

use std::fs;
use std::sync::Arc;

use clap::{FromArgMatches, Parser};
use relievo_data::{Registry, SYNTHETIC, Source};
use relievo_synth::Heads;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    settings: Settings,
}

fn layered(file: Option<&str>, line: &[&str]) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    if let Some(text) = file {
        fs::write(&path, text).unwrap();
    }
    let words = ["relievo"].iter().chain(line);
    let matches = <Line as clap::CommandFactory>::command().get_matches_from(words);
    let line = Line::from_arg_matches(&matches).unwrap();
    let given = GivenSettings::from_matches(&line.settings, &matches)?;
    Settings::layered(file.map(|_| path.as_path()), Some(&given))
}

fn refusal(file: Option<&str>, line: &[&str]) -> String {
    layered(file, line).unwrap_err().to_string()
}

#[test]
fn command_line_defaults_are_the_default() {
    assert_eq!(Line::parse_from(["relievo"]).settings, Settings::default());
    assert_eq!(layered(None, &[]).unwrap(), Settings::default());
    Settings::default().check().unwrap();
}

#[test]
fn a_preset_lies_below_the_file_and_the_file_below_the_command_line() {
    let cat = layered(None, &["--preset", "cat"]).unwrap();
    assert_eq!(cat, Settings::from_preset(Preset::Cat));
    assert_eq!((cat.train.epochs, cat.train.full_flip_epochs), (200, 10));

    let file = "preset = \"car\"\n[train]\nepochs = 7\nlearning-rate = 0.001\n[data]\nsource = [\"cars\"]\n";
    let car = layered(Some(file), &["--epochs", "9", "--border-depth", "1.02"]).unwrap();
    assert_eq!(car.model, ModelSettings { border_depth: 1.02, ..Preset::Car.model() });
    assert_eq!((car.train.epochs, car.train.learning_rate), (9, 0.001));
    assert_eq!(car.data.source, [SourceSpec::from("cars")]);
    // An option that repeats the default is given all the same.
    assert_eq!(layered(Some(file), &["--epochs", "30"]).unwrap().train.epochs, 30);
    let given = layered(Some(file), &["faces", "more"]).unwrap().data.source;
    assert_eq!(given, ["faces", "more"].map(SourceSpec::from));
}

#[test]
fn settings_survive_the_file_and_are_explained_in_it() {
    for preset in [Preset::Face, Preset::Cat, Preset::Car] {
        let mut settings = Settings::from_preset(preset);
        settings.train.learning_rate = 0.1;
        settings.data.source = vec!["a \"b\"".into(), "c\\d".into()];
        let text = settings.to_toml().unwrap();
        assert_eq!(layered(Some(&text), &[]).unwrap(), settings);
        assert!(text.contains("# Learning rate of Adam\nlearning-rate = 0.1\n"), "{text}");
        let keys = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
        let comments = text.lines().filter(|line| line.starts_with("# ")).count();
        assert_eq!(keys, comments, "{text}");
    }
}

#[test]
fn errors_name_the_file_the_line_and_the_key() {
    let message = refusal(Some("[train]\nepochs = 3\nlerning-rate = 0.1\n"), &[]);
    assert!(message.contains("run.toml") && message.contains("line 3"), "{message}");
    assert!(message.contains("lerning-rate"), "{message}");
    let message = refusal(Some("[model]\nwidth = \"wide\"\n"), &[]);
    assert!(message.contains("line 2") && message.contains("width"), "{message}");
    let message = refusal(Some("[train]\n\nbatch-size = 0\n"), &[]);
    assert!(message.ends_with("run.toml, line 3: batch-size is 0; it must be at least 1"), "{message}");
    let message = refusal(None, &["--image-size", "65"]);
    assert!(message.starts_with("on the command line: image-size is 65"), "{message}");
    for option in ["seed", "batch-size", "width"] {
        let message = refusal(None, &[&format!("--{option}"), "18446744073709551615"]);
        assert!(message.starts_with(&format!("on the command line: {option} is 1844")), "{message}");
    }
    let message = refusal(Some("preset = \"car\"\n"), &["--preset", "cat"]);
    assert!(message.contains("the preset car and the command line from cat"), "{message}");
    let missing = Settings::layered(Some(Path::new("/nowhere/run.toml")), None).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read /nowhere/run.toml"), "{missing}");
}

#[test]
fn old_names_of_settings_are_still_read() {
    let file = "[train]\naverage-decay = 0.5\npreview-pictures = 3\n";
    let settings = layered(Some(file), &["--average-decay", "0.25"]).unwrap();
    assert_eq!((settings.train.ema_decay, settings.train.preview_images), (0.25, 3));
    assert!(settings.to_toml().unwrap().contains("\nema-decay = 0.25\n"));
}

#[test]
fn terms_of_the_loss_are_a_list() {
    use relievo_model::LossList;

    let file = "[model]\nwidth = 32\n[[model.loss]]\nkind = \"ssim\"\nweight = 0.5\n\n[[model.loss]]\nkind = \"census\"\nweight = 2\n";
    let settings = layered(Some(file), &[]).unwrap();
    let terms = [(LossKind::Ssim, 0.5), (LossKind::Census, 2.0)];
    assert_eq!((settings.model.width, &settings.model.loss), (32, &LossList::of(&terms)));
    let text = settings.to_toml().unwrap();
    assert!(text.contains("# A term of the loss that compares"), "{text}");
    assert_eq!(layered(Some(&text), &[]).unwrap(), settings);
    let line = ["--loss", "photometric=0", "--loss", "filter-bank=1", "--filters", "bank.toml"];
    let given = layered(Some(file), &line).unwrap();
    let terms = [(LossKind::Photometric, 0.0), (LossKind::FilterBank, 1.0)];
    assert_eq!(given.model.loss, LossList::of(&terms));
    assert!(!Settings::default().to_toml().unwrap().contains("model.loss"));
    let twice = refusal(Some(&file.replace("census", "ssim")), &[]);
    assert!(twice.contains("run.toml, line 3: loss is ssim=0.5 ssim=2; it must"), "{twice}");
    let alone = refusal(None, &line[4..]);
    assert!(alone.starts_with("on the command line: filters are those of a term"), "{alone}");
    let depths = ["--loss", "photometric=0", "--perceptual-every", "2"];
    assert!(refusal(None, &depths).contains("perceptual-every must be 1"));
    let forbidden = given.first_forbidden_change(&settings.to_toml().unwrap()).unwrap().unwrap();
    assert_eq!(forbidden.key, "loss");
}

#[test]
fn heads_may_stand_beside_images() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.png"), [1]).unwrap();
    let path = folder.path().to_str().unwrap();
    let data = |line: &[&str]| layered(None, line).unwrap().data;
    let heads = |data: &DataSettings, _: &str| -> Result<Arc<dyn Source>, String> {
        Ok(Arc::new(Heads::range(data.synthetic_seed, 0, data.synthetic_count)))
    };
    let registry = Registry::default().register(SYNTHETIC, heads);
    let both = data(&[SYNTHETIC, path, "--synthetic-count", "3"]);
    assert!(!both.is_generated());
    let joined = both.open(&registry).unwrap();
    let names: Vec<String> = (0..joined.len()).map(|index| joined.name(index)).collect();
    assert_eq!(
        (names.len(), names[0].as_str(), joined.sample(2, 64).unwrap().truth.is_some()),
        (4, "a.png", true)
    );
    assert_eq!(data(&[path]).open(&registry).unwrap().len(), 1);
    assert!(data(&[SYNTHETIC]).is_generated());
}

#[test]
fn what_makes_another_run_of_it_must_not_change() {
    let run = Settings::from_preset(Preset::Face);
    let then = run.to_toml().unwrap();
    let change = |change: &dyn Fn(&mut Settings)| {
        let mut now = run.clone();
        change(&mut now);
        let found = now.first_forbidden_change(&then).unwrap();
        found.map(|Change { key, now, then }| format!("{key}: {then} to {now}"))
    };
    let refused = |settings: &dyn Fn(&mut Settings)| change(settings).unwrap();
    assert_eq!(refused(&|now| now.model.border_depth = 1.05), "border-depth: 1.04 to 1.05");
    assert_eq!(refused(&|now| now.model.albedo_width = Some(32)), "albedo-width: none to 32");
    assert_eq!(refused(&|now| now.data.mirror = false), "mirror: true to false");
    assert_eq!(refused(&|now| now.train.seed = 1), "seed: 0 to 1");
    assert_eq!(
        refused(&|now| now.train.initial_weights = Some("a".into())),
        "initial-weights: none to \"a\""
    );
    assert!(
        refused(&|now| now.train.perceptual_features = Some("a".into())).starts_with("perceptual-features")
    );
    let may_change: [&dyn Fn(&mut Settings); 4] = [
        &|now| now.train.learning_rate = 1e-3,
        &|now| now.train.steps = 7,
        &|now| now.data.source = vec![SourceSpec::Path("moved".into())],
        &|now| now.data.workers = 3,
    ];
    for setting in may_change {
        assert_eq!(change(setting), None);
    }
    // An older file lacks settings that came later.
    let older: String =
        then.lines().filter(|line| !line.starts_with("dome")).map(|line| format!("{line}\n")).collect();
    assert!(run.first_forbidden_change(&older).unwrap().is_none());
    // A file of features may have moved.
    let mut moved = run.clone();
    moved.train.perceptual_features = Some("a".into());
    let then = moved.to_toml().unwrap();
    moved.train.perceptual_features = Some("b".into());
    assert!(moved.first_forbidden_change(&then).unwrap().is_none());
}

#[test]
fn runs_are_compared_by_all_but_what_makes_no_difference() {
    let ignored: Vec<&str> = Settings::declared()
        .map(|(_, setting)| setting.name)
        .filter(|name| !Settings::is_compared(name))
        .collect();
    let mut expected = vec![
        "device",
        "deterministic",
        "perceptual-features",
        "workers",
        "cache",
        "seed",
        "steps",
        "filters",
        "epochs",
        "minutes",
        "log-steps",
        "checkpoint-minutes",
        "checkpoint-steps",
        "keep",
        "preview-steps",
        "preview-images",
    ];
    expected.sort_unstable();
    let mut sorted = ignored.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert!(Settings::is_compared("preset") && Settings::is_compared("model"));
}

#[test]
fn names_of_settings_are_unique() {
    let mut names: Vec<&str> = Settings::declared()
        .flat_map(|(_, setting)| [Some(setting.name), setting.formerly])
        .flatten()
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn nonsense_is_refused() {
    for line in [
        ["--validation", "1.5"],
        ["--learning-rate", "NaN"],
        ["--beta2", "1"],
        ["--ema-decay", "1"],
        ["--jitter", "1"],
        ["--roll", "181"],
        ["--pitch-spread", "21"],
        ["--pitch-spread", "NaN"],
        ["--elevation-spread", "2.5"],
        ["--jitter", "NaN"],
        ["--epochs", "0"],
        ["--epsilon", "1e-60"],
        ["--synthetic-count", "0"],
        ["--synthetic-count", "9000000000000000000"],
        ["--workers", "100000000"],
        ["--seed", "18446744073709551615"],
    ] {
        assert!(layered(None, &line).is_err(), "{line:?}");
    }
}
