//! Runs of a few steps of a tiny model: what they keep, how they stop, what they refuse.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use relievo_data::{Image, Sample, SampleError};
use relievo_model::Loss;
use relievo_synth::Heads;
use relievo_tensor::Random;
use relievo_tensor::ops::squared_norm;

use super::*;
use crate::evaluation::{EvaluationOptions, evaluate};
use crate::events::{Event, StepReport};
use crate::settings::{DataSettings, EmbeddedWeights, HeldOut, Learn, Pairs, TrainSettings};

/// So many images of noise, with names; the one of the second number cannot be read.
struct Noise(u64, u64);

impl Source for Noise {
    fn describe(&self) -> String {
        format!("{} images of noise", self.0)
    }
    fn len(&self) -> u64 {
        self.0
    }
    fn name(&self, index: u64) -> String {
        format!("noise {index}")
    }
    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        if index == self.1 {
            return Err(SampleError { name: self.name(index), reason: "is cut off".into() });
        }
        let random = Random::new(index, 0);
        let pixels = (0..u64::from(size * size * 3)).map(|i| random.bits(i) as u8).collect();
        let image = Image { width: size, height: size, pixels };
        Ok(Sample { name: self.name(index), image, truth: None, points: None })
    }
}

/// Two epochs of four steps.
fn settings() -> Settings {
    Settings {
        model: relievo_model::ModelSettings::tiny(),
        data: DataSettings { validation: 2.0, ..DataSettings::default() },
        train: TrainSettings {
            epochs: 2,
            batch_size: 2,
            checkpoint_minutes: 0.0,
            preview_images: 0,
            ..TrainSettings::default()
        },
        ..Settings::default()
    }
}

struct Run {
    root: tempfile::TempDir,
    settings: Settings,
}

impl Run {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        Self { root: tempfile::tempdir().unwrap(), settings }
    }

    fn folder(&self) -> RunFolder {
        RunFolder::open(self.root.path()).unwrap()
    }

    fn begin(&self) -> Trainer {
        let folder = RunFolder::create(self.root.path(), false).unwrap();
        Trainer::begin(self.settings.clone(), Arc::new(Noise(10, 3)), folder).unwrap()
    }

    fn resume(&self, source: impl Source + 'static) -> Result<Trainer, TrainError> {
        Trainer::resume(self.settings.clone(), Arc::new(source), self.folder())
    }
}

/// Runs with an observer that may stop it, and returns the warnings.
fn run(trainer: &mut Trainer, stop_after: u64) -> (Result<Outcome, TrainError>, Vec<String>) {
    let (stop, mut warnings) = (AtomicBool::new(false), Vec::new());
    let outcome = trainer.run(
        &mut |event: Event<'_>| match event {
            Event::Stepped(report) => stop.store(report.step >= stop_after, Ordering::Relaxed),
            Event::Warned(warning) => warnings.push(warning.to_owned()),
            _ => {}
        },
        &stop,
    );
    (outcome, warnings)
}

#[test]
fn a_run_keeps_its_last_checkpoints_and_the_best() {
    let run_of = Run::new(|settings| {
        settings.train.checkpoint_steps = 1;
        settings.train.keep = 2;
    });
    let mut trainer = run_of.begin();
    let (outcome, warnings) = run(&mut trainer, u64::MAX);
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    assert_eq!(warnings, ["skipped noise 3: is cut off"]);
    let best = trainer.progress().best.unwrap().step;
    let mut expected = vec![best, 7, 8];
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(run_of.folder().checkpoints().unwrap(), expected);
    let weights = fs::read(run_of.folder().model()).unwrap();
    let weights = Model::from_safetensors(&weights, "model").unwrap();
    let of_best = Checkpoint::read(&run_of.folder().checkpoint(best)).unwrap();
    assert_eq!(weights.parameters()[0].data(), of_best.model.parameters()[0].data());
    let log = fs::read_to_string(run_of.folder().metrics()).unwrap();
    let of_kind =
        |kind: &str| log.lines().filter(|line| line.contains(&format!("\"kind\":\"{kind}\""))).count();
    assert_eq!((of_kind("step"), of_kind("validation")), (8, 2));
    assert_eq!(Settings::layered(Some(&run_of.folder().settings()), None).unwrap(), run_of.settings);
}

#[test]
fn a_run_without_its_checkpoints_is_not_begun_anew() {
    let run_of = Run::new(|settings| settings.train.steps = 2);
    run(&mut run_of.begin(), u64::MAX).0.unwrap();
    fs::remove_dir_all(run_of.root.path().join("checkpoints")).unwrap();
    let refusal = Trainer::resume(run_of.settings.clone(), Arc::new(Noise(10, 3)), run_of.folder());
    let refusal = refusal.err().unwrap().to_string();
    assert!(
        refusal.starts_with("there is no checkpoint in ") && refusal.contains("model.safetensors"),
        "{refusal}"
    );
}

#[test]
fn a_run_begins_with_the_weights_of_another() {
    let known = Run::new(|settings| settings.train.steps = 1);
    run(&mut known.begin(), u64::MAX).0.unwrap();
    let weights = known.folder().model();
    let run_of = Run::new(|settings| {
        settings.train.seed = 7;
        settings.train.initial_weights = Some(weights.clone());
    });
    let known = Model::from_safetensors(&fs::read(&weights).unwrap(), "model").unwrap();
    let began = run_of.begin();
    for (found, right) in began.model().parameters().iter().zip(known.parameters()) {
        assert_eq!(found.data(), right.data());
    }
    // By name, from any folder.
    let bytes: &'static [u8] = fs::read(&weights).unwrap().leak();
    let by_name = Run::new(|settings| {
        settings.train.initial_weights = Some("heads".into());
        settings.embedded_weights = EmbeddedWeights(Vec::leak(vec![("heads", bytes)]));
    });
    for (found, right) in by_name.begin().model().parameters().iter().zip(known.parameters()) {
        assert_eq!(found.data(), right.data());
    }
    let written = fs::read_to_string(by_name.folder().settings()).unwrap();
    assert!(written.contains("initial-weights = \"heads\"\n"), "{written}");
    // Checked before anything is written to the folder.
    let other = Run::new(|settings| settings.train.initial_weights = Some("none.safetensors".into()));
    let folder = RunFolder::create(other.root.path(), false).unwrap();
    let refusal = Trainer::begin(other.settings.clone(), Arc::new(Noise(10, 3)), folder).err().unwrap();
    assert!(
        refusal.to_string().starts_with("cannot begin with the weights in none.safetensors: "),
        "{refusal}"
    );
}

#[test]
fn a_run_gives_way_only_to_one_that_begins() {
    let old = Run::new(|settings| settings.train.steps = 1);
    run(&mut old.begin(), u64::MAX).0.unwrap();
    let weights = fs::read(old.folder().model()).unwrap();
    let begin = |initial: PathBuf| {
        let mut settings = old.settings.clone();
        settings.train.initial_weights = Some(initial);
        let folder = RunFolder::create(old.root.path(), true).unwrap();
        Trainer::begin(settings, Arc::new(Noise(10, 3)), folder)
    };
    assert!(begin("none.safetensors".into()).is_err());
    assert_eq!(fs::read(old.folder().model()).unwrap(), weights);
    // With its own weights, named by the folder: they are read before it is cleared.
    let new = begin(old.root.path().to_owned()).unwrap();
    let known = Model::from_safetensors(&weights, "model").unwrap();
    assert_eq!(new.model().parameters()[0].data(), known.parameters()[0].data());
    assert!(!old.folder().model().exists() && old.folder().checkpoints().unwrap().is_empty());
}

#[test]
fn what_a_run_began_with_stays() {
    let known = Run::new(|settings| settings.train.steps = 1);
    run(&mut known.begin(), u64::MAX).0.unwrap();
    let mut run_of = Run::new(|settings| settings.train.steps = 1);
    run(&mut run_of.begin(), u64::MAX).0.unwrap();
    run_of.settings.train.initial_weights = Some(known.folder().model());
    let refusal = run_of.resume(Noise(10, 3)).err().unwrap().to_string();
    assert!(
        refusal.starts_with("initial-weights is \"/") && refusal.contains("begun with none"),
        "{refusal}"
    );
    run_of.settings.train.initial_weights = None;
    run_of.settings.train.perceptual_features = Some(known.folder().model());
    let refusal = run_of.resume(Noise(10, 3)).err().unwrap().to_string();
    assert!(refusal.starts_with("perceptual-features is \"/"), "{refusal}");
}

#[test]
fn weights_of_another_geometry_are_taken_with_a_warning() {
    let known = Run::new(|settings| settings.train.steps = 1);
    run(&mut known.begin(), u64::MAX).0.unwrap();
    let run_of = Run::new(|settings| {
        settings.train.steps = 1;
        settings.model.dome = 0.5;
        settings.train.initial_weights = Some(known.root.path().to_owned());
    });
    let (_, warnings) = run(&mut run_of.begin(), u64::MAX);
    assert!(warnings[0].contains(" were learned with dome 0 (here 0.5): "), "{warnings:?}");
}

#[test]
fn the_running_mean_of_the_weights_is_what_is_validated_and_written() {
    let run_of = Run::new(|settings| {
        settings.train.steps = 3;
        settings.train.ema_decay = 0.75;
        settings.train.keep = 9;
        settings.train.checkpoint_steps = 1;
    });
    let mut trainer = run_of.begin();
    let mut mean: Vec<Vec<f32>> = trainer.model().parameters().iter().map(|p| p.data().to_vec()).collect();
    let mut validated = None;
    let mut observer = |event: Event<'_>| {
        if let Event::Validated(report) = event {
            validated = report.evaluation.losses;
        }
    };
    trainer.run(&mut observer, &AtomicBool::new(false)).unwrap();
    for step in 1..=3 {
        let Checkpoint { model, moments, .. } = Checkpoint::read(&run_of.folder().checkpoint(step)).unwrap();
        for ((mean, p), average) in mean.iter_mut().zip(model.parameters()).zip(&moments.ema) {
            mean.iter_mut().zip(p.data()).for_each(|(mean, p)| *mean += 0.25 * (p - *mean));
            assert!(mean == average.data() && (step == 3 || p.numel() < 100 || mean != p.data()));
        }
    }
    let written = fs::read(run_of.folder().model()).unwrap();
    let written = Model::from_safetensors(&written, "model").unwrap();
    for (written, mean) in written.parameters().iter().zip(&mean) {
        assert!(written.data() == mean);
    }
    let options = EvaluationOptions { losses: true, ..EvaluationOptions::new(2, 1) };
    assert_eq!(evaluate(&written, &trainer.held_out, &options).unwrap().losses, validated);
    // What learns are the weights themselves.
    let learning = trainer.model().parameters();
    assert!(learning.iter().zip(&mean).any(|(p, mean)| p.data() != mean));
    drop(trainer);
    // Without a running mean from here on, and with one from there on.
    let changed = |decay: f64, steps: u64| {
        let mut settings = run_of.settings.clone();
        (settings.train.ema_decay, settings.train.steps) = (decay, steps);
        let mut trainer = Trainer::resume(settings, Arc::new(Noise(10, 3)), run_of.folder()).unwrap();
        run(&mut trainer, u64::MAX).0.unwrap();
        trainer
    };
    assert!(changed(0.0, 4).moments().ema.is_empty());
    let again = changed(0.5, 5);
    assert_eq!(again.moments().ema.len(), again.model().parameters().len());
}

#[test]
fn an_interrupted_run_is_saved_and_ends_where_it_should() {
    let run_of = Run::new(|_| ());
    let (outcome, _) = run(&mut run_of.begin(), 4);
    assert_eq!(outcome.unwrap(), Outcome::Interrupted);
    let mut trainer = run_of.resume(Noise(10, 3)).unwrap();
    assert_eq!(trainer.progress().step, 4);
    // The validation due after step 4 was left for now.
    assert_eq!(trainer.progress().validated, 0);
    let (outcome, _) = run(&mut trainer, u64::MAX);
    assert_eq!((outcome.unwrap(), trainer.progress().step), (Outcome::Finished, 8));
    let log = fs::read_to_string(run_of.folder().metrics()).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("validation")).count(), 2);
    // Nobody else writes there meanwhile.
    assert!(matches!(run_of.resume(Noise(10, 3)), Err(TrainError::FolderLocked(_))));
    drop(trainer);
    // Going on after the end does nothing.
    let (outcome, _) = run(&mut run_of.resume(Noise(10, 3)).unwrap(), u64::MAX);
    assert_eq!(outcome.unwrap(), Outcome::Finished);
}

#[test]
fn numbers_that_are_not_finite_stop_the_run_and_are_not_saved() {
    let run_of = Run::new(|settings| settings.train.checkpoint_steps = 2);
    let mut trainer = run_of.begin();
    run(&mut trainer, 2).0.unwrap();
    let Learner::Host { model, .. } = &mut trainer.learner else { panic!("on the CPU the host directs") };
    model.parameters_mut()[0].data_mut()[0] = f32::NAN;
    let error = run(&mut trainer, u64::MAX).0.unwrap_err().to_string();
    assert!(error.starts_with("stopped before step 3: the "), "{error}");
    assert!(error.contains(" loss is NaN on the images noise "), "{error}");
    assert!(error.contains("the last good checkpoint is") && error.contains("step-0000002"), "{error}");
    assert_eq!(run_of.folder().checkpoints().unwrap(), [2]);
    // Nor is a state saved that breaks in the step before saving.
    trainer.progress.step = 3;
    let outcome = trainer.run(&mut |_: Event<'_>| (), &AtomicBool::new(true));
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("a parameter is not finite after the last step; the model of before"), "{error}");
    assert_eq!(run_of.folder().checkpoints().unwrap(), [2]);
    drop(trainer);
    let good = run_of.resume(Noise(10, 3)).unwrap();
    assert!(squared_norm(good.model().parameters()).unwrap().is_finite());
}

#[test]
fn a_checkpoint_that_cannot_be_saved_is_a_warning_until_the_end() {
    let run_of = Run::new(|settings| {
        settings.train.checkpoint_steps = 2;
        settings.train.steps = 4;
    });
    let mut trainer = run_of.begin();
    // A file where the folder should be: for the writer as good as a full disk.
    let in_the_way = run_of.root.path().join("checkpoints");
    fs::write(&in_the_way, "").unwrap();
    let (outcome, warnings) = run(&mut trainer, u64::MAX);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("no checkpoint has been saved yet"), "{error}");
    assert!(
        warnings.iter().any(|warning| warning.contains("training goes on and will try again")),
        "{warnings:?}"
    );
    assert_eq!(trainer.progress().best, None);
    // Nothing is lost: with the obstacle gone the same run is saved.
    fs::remove_file(&in_the_way).unwrap();
    assert_eq!(run(&mut trainer, u64::MAX).0.unwrap(), Outcome::Finished);
    assert_eq!(run_of.folder().checkpoints().unwrap(), [4]);
    assert!(run_of.folder().model().exists());
}

#[test]
fn images_held_out_that_cannot_be_read_are_no_reason_to_stop() {
    let change = |settings: &mut Settings| {
        settings.data.validation = 1.0;
        settings.train.preview_images = 1;
        settings.train.steps = 1;
    };
    let held_out = Run::new(change).begin().held_out.name(0);
    let bad = held_out.strip_prefix("noise ").unwrap().parse().unwrap();
    let run_of = Run::new(change);
    let folder = RunFolder::create(run_of.root.path(), false).unwrap();
    let mut trainer = Trainer::begin(run_of.settings.clone(), Arc::new(Noise(10, bad)), folder).unwrap();
    let (outcome, warnings) = run(&mut trainer, u64::MAX);
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    let [draw, validate] = ["cannot draw a preview: ", "cannot validate: "];
    assert!(warnings[0].starts_with(draw) && warnings[1].starts_with(validate), "{warnings:?}");
    assert!(run_of.folder().model().exists());
}

#[test]
fn damaged_checkpoints_are_passed_over() {
    let run_of = Run::new(|settings| settings.train.checkpoint_steps = 2);
    run(&mut run_of.begin(), 5).0.unwrap();
    assert_eq!(run_of.folder().checkpoints().unwrap(), [4, 5]);
    let damage = |step| {
        let path = run_of.folder().checkpoint(step);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    };
    damage(5);
    let mut trainer = run_of.resume(Noise(10, 3)).unwrap();
    assert_eq!(trainer.progress().step, 4);
    let (_, warnings) = run(&mut trainer, 4);
    assert!(warnings[0].contains("step-0000005.safetensors is damaged"), "{warnings:?}");
    damage(4);
    damage(5);
    let error = run_of.resume(Noise(10, 3)).err().unwrap().to_string();
    assert!(error.starts_with("no checkpoint in ") && error.contains("step-0000004"), "{error}");
}

#[test]
fn a_damaged_checkpoint_does_not_drive_out_a_good_one() {
    let run_of = Run::new(|settings| {
        settings.train.checkpoint_steps = 1;
        settings.train.keep = 1;
    });
    run(&mut run_of.begin(), 2).0.unwrap();
    let later = run_of.folder().checkpoint(7);
    fs::write(&later, "half a checkpoint").unwrap();
    run(&mut run_of.resume(Noise(10, 3)).unwrap(), 3).0.unwrap();
    assert_eq!(run_of.folder().checkpoints().unwrap(), [3, 7]);
    assert_eq!(run_of.resume(Noise(10, 3)).unwrap().progress().step, 3);
}

#[test]
fn weights_that_were_not_written_with_their_checkpoint_are_written_on_resuming() {
    let run_of = Run::new(|_| ());
    run(&mut run_of.begin(), 2).0.unwrap();
    let written = fs::read(run_of.folder().model()).unwrap();
    fs::remove_file(run_of.folder().model()).unwrap();
    let half = run_of.root.path().join(".model.safetensors.Ab12.partial");
    fs::write(&half, "").unwrap();
    run_of.resume(Noise(10, 3)).unwrap();
    let [again, before] = [fs::read(run_of.folder().model()).unwrap(), written]
        .map(|bytes| Model::from_safetensors(&bytes, "model").unwrap());
    assert_eq!(again.parameters()[0].data(), before.parameters()[0].data());
    assert!(!half.exists());
}

/// Noise on a disk that may go away.
struct Unplugged(Noise, Arc<AtomicBool>);

impl Source for Unplugged {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn name(&self, index: u64) -> String {
        self.0.name(index)
    }
    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        if self.1.load(Ordering::Relaxed) {
            return Err(SampleError { name: self.name(index), reason: "is gone".into() });
        }
        self.0.sample(index, size)
    }
}

#[test]
fn what_was_learned_is_saved_when_the_images_go_away() {
    // What is in memory would stay.
    let run_of = Run::new(|settings| settings.data.cache = 0);
    let gone = Arc::new(AtomicBool::new(false));
    let source = Arc::new(Unplugged(Noise(10, 3), Arc::clone(&gone)));
    let folder = RunFolder::create(run_of.root.path(), false).unwrap();
    let mut trainer = Trainer::begin(run_of.settings.clone(), source, folder).unwrap();
    let mut pull = |event: Event<'_>| {
        if let Event::Stepped(_) = event {
            gone.store(true, Ordering::Relaxed);
        }
    };
    let error = trainer.run(&mut pull, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, TrainError::Load(LoadError::NoneGood { .. })), "{error}");
    let step = trainer.progress().step;
    assert!(step >= 1);
    assert_eq!(run_of.folder().checkpoints().unwrap().last(), Some(&step));
}

#[test]
fn a_run_goes_on_only_as_itself() {
    let mut run_of = Run::new(|_| ());
    run(&mut run_of.begin(), 1).0.unwrap();
    let error = run_of.resume(Noise(11, 3)).err().unwrap().to_string();
    assert!(error.contains("begun with 8 images to learn from and now there are 9"), "{error}");
    run_of.settings.train.epochs = 1;
    run_of.settings.train.learning_rate = 5e-5;
    assert!(run_of.resume(Noise(10, 3)).is_ok());
    run_of.settings.train.batch_size = 1;
    let error = run_of.resume(Noise(10, 3)).err().unwrap().to_string();
    assert!(error.starts_with("batch-size is 1 but the run was begun with 2"), "{error}");
    run_of.settings = settings();
    run_of.settings.model.width = 12;
    assert!(run_of.resume(Noise(10, 3)).err().unwrap().to_string().starts_with("width is 12"));
    // A run that was stopped before its first checkpoint begins anew.
    fs::remove_dir_all(run_of.root.path().join("checkpoints")).unwrap();
    fs::remove_file(run_of.folder().model()).unwrap();
    run_of.settings = settings();
    assert_eq!(run_of.resume(Noise(10, 3)).unwrap().progress().step, 0);
}

#[test]
fn the_mirrored_half_counts_fully_in_the_first_epochs() {
    let run_of = Run::new(|settings| {
        settings.train.full_flip_epochs = 1;
        settings.train.steps = 5;
    });
    let (mut weights, stop) = (Vec::new(), AtomicBool::new(false));
    let mut trainer = run_of.begin();
    let outcome = trainer.run(
        &mut |event: Event<'_>| {
            if let Event::Stepped(StepReport { losses, .. }) = event {
                weights.push((losses.total - losses[Loss::Photometric]) / losses[Loss::PhotometricFlip]);
            }
        },
        &stop,
    );
    outcome.unwrap();
    for (weight, expected) in weights.iter().zip([1.0, 1.0, 1.0, 1.0, 0.5]) {
        assert!((weight - expected).abs() < 1e-3, "{weights:?}");
    }
}

#[test]
fn texture_learns_alone() {
    let shape = Run::new(|settings| settings.train.steps = 1);
    run(&mut shape.begin(), u64::MAX).0.unwrap();
    let weights = shape.root.path().to_owned();
    let texture = Run::new(|settings| {
        settings.train.steps = 2;
        settings.train.ema_decay = 0.5;
        settings.train.learn = Learn::Texture;
        settings.train.initial_weights = Some(weights);
    });
    let mut trainer = texture.begin();
    let before = trainer.model().parameters().iter().map(|p| p.data().to_vec()).collect::<Vec<_>>();
    run(&mut trainer, u64::MAX).0.unwrap();
    let model = trainer.model();
    for ((info, parameter), before) in model.parameter_infos().iter().zip(model.parameters()).zip(before) {
        let stays = ["depth.", "view."].iter().any(|network| info.name.starts_with(network));
        assert_eq!(parameter.data() == before, stays, "{}", info.name);
    }
    let refusal = |change: &dyn Fn(&mut Settings)| {
        let mut settings = texture.settings.clone();
        change(&mut settings);
        settings.check().unwrap_err().to_string()
    };
    assert!(
        refusal(&|settings| settings.train.initial_weights = None).starts_with("learn is texture; the shape")
    );
    assert!(
        refusal(&|settings| settings.data.pairs = Pairs::Collection)
            .starts_with("pairs is collection; unsup3d")
    );
}

#[test]
fn the_clock_ends_a_run_too() {
    let run_of = Run::new(|settings| settings.train.minutes = 1e-6);
    let mut trainer = run_of.begin();
    assert_eq!(run(&mut trainer, u64::MAX).0.unwrap(), Outcome::TimeUp);
    assert!(run_of.folder().model().exists());
}

#[test]
fn too_few_images_are_refused_at_once() {
    let run_of = Run::new(|settings| settings.train.batch_size = 9);
    let folder = RunFolder::create(run_of.root.path(), false).unwrap();
    let error = Trainer::begin(run_of.settings.clone(), Arc::new(Noise(10, 3)), folder).err().unwrap();
    assert!(error.to_string().contains("too few for a batch of 9"), "{error}");
}

#[test]
fn a_model_learns_depth_from_true_depth_and_goes_on_with_it() {
    let run_of = Run::new(|settings| {
        settings.data = DataSettings { synthetic_count: 12, validation: 4.0, ..DataSettings::default() };
        settings.data.held_out = HeldOut::Last;
        settings.model.supervision = Supervision::Depth;
        (settings.model.initial_depth_scale, settings.train.learning_rate) = (0.1, 1e-3);
        (settings.train.batch_size, settings.train.steps) = (4, 24);
    });
    let source = || Arc::new(Heads::range(0, 0, 12));
    let folder = RunFolder::create(run_of.root.path(), false).unwrap();
    let mut trainer = Trainer::begin(run_of.settings.clone(), source(), folder).unwrap();
    let names: Vec<String> = (0..4).map(|index| trainer.held_out.name(index)).collect();
    assert_eq!(names, ["8", "9", "10", "11"]);
    assert_eq!(run(&mut trainer, 2).0.unwrap(), Outcome::Interrupted);
    drop(trainer);
    let mut trainer = Trainer::resume(run_of.settings.clone(), source(), run_of.folder()).unwrap();
    let mut losses = Vec::new();
    let outcome = trainer.run(
        &mut |event: Event<'_>| {
            if let Event::Stepped(report) = event {
                losses.push(report.losses);
            }
        },
        &AtomicBool::new(false),
    );
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    assert!(losses.iter().all(|losses| losses[Loss::Photometric] == 0.0 && losses[Loss::Depth] > 0.0));
    let [first, last] = [losses.first(), losses.last()].map(|losses| losses.unwrap()[Loss::Depth]);
    assert!(last < 0.8 * first, "{first} to {last}");
    let log = fs::read_to_string(run_of.folder().metrics()).unwrap();
    assert!(log.lines().any(|line| line.contains("validation") && line.contains("\"depth-error\"")));
}

#[test]
fn who_learns_from_depth_needs_images_whose_depth_is_known() {
    let mut settings = settings();
    settings.model.supervision = Supervision::Depth;
    settings.check().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(folder.path(), false).unwrap();
    let mut trainer = Trainer::begin(settings.clone(), Arc::new(Noise(10, 3)), folder).unwrap();
    let error = run(&mut trainer, u64::MAX).0.unwrap_err().to_string();
    assert!(error.contains("has no true depth; only synthetic images have one"), "{error}");
    settings.data.source = vec!["faces".into()];
    assert!(settings.check().unwrap_err().to_string().starts_with("supervision is depth"));
}

/// Noise without a truth and heads with theirs, in turn.
struct Mixed(Noise, Heads);

impl Source for Mixed {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn len(&self) -> u64 {
        self.0.len() + self.1.len()
    }
    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        let number = index / 2;
        if index.is_multiple_of(2) { self.0.sample(number, size) } else { self.1.sample(number, size) }
    }
}

#[test]
fn photographs_and_heads_are_learned_from_together() {
    let run_of = Run::new(|settings| {
        settings.model.truth_weight = 1.0;
        (settings.data.jitter, settings.data.roll) = (0.05, 10.0);
        (settings.train.batch_size, settings.train.steps) = (4, 2);
    });
    let both = Mixed(Noise(5, 99), Heads::range(0, 0, 5));
    let folder = RunFolder::create(run_of.root.path(), false).unwrap();
    let mut trainer = Trainer::begin(run_of.settings.clone(), Arc::new(both), folder).unwrap();
    let mut observer = |event: Event<'_>| {
        if let Event::Stepped(report) = event {
            assert!(report.losses[Loss::TruthDepth] > 0.0 && report.losses[Loss::TruthView] > 0.0);
        }
    };
    assert_eq!(trainer.run(&mut observer, &AtomicBool::new(false)).unwrap(), Outcome::Finished);
    assert!(trainer.model().has_seen_truth());
    let mut settings = run_of.settings.clone();
    settings.data.source = vec!["faces".into()];
    assert!(settings.check().unwrap_err().to_string().starts_with("truth-weight is 1; it needs images"));
    settings.model.supervision = Supervision::Depth;
    assert!(settings.check().unwrap_err().to_string().contains("it must be 0 with supervision depth"));
}

#[test]
fn a_student_learns_its_teachers_answers_and_no_truth() {
    let teacher = Run::new(|settings| settings.train.steps = 1);
    run(&mut teacher.begin(), u64::MAX).0.unwrap();
    let student = |name: &str, settings: &mut Settings| {
        settings.model.truth_weight = 1.0;
        settings.train.teacher = Some(name.into());
        settings.train.steps = 2;
    };
    let student_of = Run::new(|settings| student(teacher.root.path().to_str().unwrap(), settings));
    let mut trainer = student_of.begin();
    let mut observer = |event: Event<'_>| {
        if let Event::Stepped(report) = event {
            assert!(report.losses[Loss::TruthDepth] > 0.0 && report.losses[Loss::TruthAlbedo] > 0.0);
        }
    };
    assert_eq!(trainer.run(&mut observer, &AtomicBool::new(false)).unwrap(), Outcome::Finished);
    assert!(!trainer.model().has_seen_truth(), "the teacher learned from photographs alone");
    let bytes = fs::read(student_of.folder().model()).unwrap();
    assert!(!Model::from_safetensors(&bytes, "student").unwrap().has_seen_truth());

    let gone = Run::new(|settings| student("no such file", settings));
    let folder = RunFolder::create(gone.root.path(), false).unwrap();
    let refused = Trainer::begin(gone.settings.clone(), Arc::new(Noise(10, 3)), folder);
    assert!(refused.err().unwrap().to_string().starts_with("cannot learn from the teacher no such file: "));
    let mut settings = student_of.settings.clone();
    settings.model.truth_weight = 0.0;
    assert!(settings.check().unwrap_err().to_string().starts_with("truth-weight is 0; with a teacher"));
}

#[test]
fn a_frozen_renderer_stays_and_another_learns_along() {
    use relievo_model::{LearnedRenderer, Renderer, RendererSettings};

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("renderer.safetensors");
    let with_renderer = |settings: &mut Settings, renderer, learn| {
        settings.train.steps = 2;
        settings.train.learn = learn;
        settings.train.renderer_weights = Some(file.clone());
        settings.model.pixel_centre = 0.0;
        (settings.model.renderer, settings.model.renderer_width) = (Some(renderer), Some(4));
    };
    let learned = RendererSettings { width: 4, ..RendererSettings::default() };
    let learned = LearnedRenderer::new(learned, 5).unwrap();
    fs::write(&file, learned.to_safetensors().unwrap()).unwrap();
    for (renderer, learn) in [
        (Renderer::Learned, Learn::Decomposition),
        (Renderer::Learned, Learn::All),
        (Renderer::Both, Learn::All),
    ] {
        let run_of = Run::new(|settings| with_renderer(settings, renderer, learn));
        let mut trainer = run_of.begin();
        run(&mut trainer, u64::MAX).0.unwrap();
        let model = trainer.model();
        let at = model.parameter_infos().iter().position(|info| info.name.starts_with("renderer.")).unwrap();
        let stays =
            model.parameters()[at..].iter().zip(learned.parameters()).all(|(a, b)| a.data() == b.data());
        assert_eq!(stays, learn == Learn::Decomposition, "{renderer:?} {learn:?}");
        assert!(model.parameters()[..at].iter().any(|parameter| parameter.data().iter().any(|p| *p != 0.0)));
    }
    let refusal = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        with_renderer(&mut settings, Renderer::Learned, Learn::All);
        change(&mut settings);
        let run_of = Run { root: tempfile::tempdir().unwrap(), settings };
        let folder = RunFolder::create(run_of.root.path(), false).unwrap();
        Trainer::begin(run_of.settings, Arc::new(Noise(10, 3)), folder).err().unwrap().to_string()
    };
    let exact = refusal(&|settings| settings.model.renderer = None);
    assert!(exact.starts_with("renderer-weights are those of a learned renderer"), "{exact}");
    let nothing = refusal(&|settings| settings.train.renderer_weights = None);
    assert!(nothing.starts_with("renderer is learned; one that has learned nothing"), "{nothing}");
    let wide = refusal(&|settings| settings.model.renderer_width = Some(8));
    assert!(wide.contains("it has 4 channels at its finest level, not 8: say renderer-width 4"), "{wide}");
    let frozen = refusal(&|settings| {
        (settings.model.renderer, settings.train.renderer_weights) = (None, None);
        settings.train.learn = Learn::Decomposition;
    });
    assert!(frozen.starts_with("learn is decomposition"), "{frozen}");
}
