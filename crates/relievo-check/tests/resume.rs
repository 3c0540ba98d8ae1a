//! A run that is stopped and gone on with is the run that never stopped, bit for bit, whatever the number of threads.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relievo_model::{Method, ModelSettings};
use relievo_synth::Heads;
use relievo_train::checkpoint::{Checkpoint, Progress};
use relievo_train::{DataSettings, Event, Outcome, Pairs, RunFolder, Settings, TrainSettings, Trainer};
use serde_json::Value;

/// Two epochs and a half of three steps, with everything in them that could go differently: a shuffled order, mirrored
/// images, moved crops with their truth, uneven micro-batches, clipping, a warm-up, a running mean of the weights, a change
/// of the flip weight between epochs, steps without the perceptual loss.
fn settings() -> Settings {
    Settings {
        model: ModelSettings {
            width: 8,
            code: 16,
            encoder_width: 8,
            truth_weight: 1.0,
            view_prior_weight: 0.1,
            light_prior_weight: 0.1,
            ..ModelSettings::default()
        },
        data: DataSettings {
            validation: 2.0,
            synthetic_count: 11,
            jitter: 0.05,
            roll: 10.0,
            ..DataSettings::default()
        },
        train: TrainSettings {
            steps: 8,
            batch_size: 3,
            micro_batch: 2,
            clip_norm: 1.0,
            ema_decay: 0.5,
            warm_up_steps: 5,
            full_flip_epochs: 1,
            perceptual_every: 4,
            checkpoint_minutes: 0.0,
            keep: 10,
            preview_steps: 2,
            preview_images: 1,
            ..TrainSettings::default()
        },
        ..Settings::default()
    }
}

/// The same for pairs out of a collection, which know no truth.
fn collection() -> Settings {
    let Settings { model, data, train, .. } = settings();
    Settings {
        model: ModelSettings { method: Method::Lemul, albedo_weight: 0.5, truth_weight: 0.0, ..model },
        data: DataSettings { pairs: Pairs::Collection, synthetic_images: 3, ..data },
        train: TrainSettings { steps: 4, ..train },
        ..settings()
    }
}

/// Begins or goes on, on `threads` threads, until the end or until `stop_after` steps are done.
fn session(settings: &Settings, folder: &Path, threads: usize, stop_after: u64) -> (Trainer, Outcome) {
    let DataSettings { synthetic_count, synthetic_images, .. } = settings.data;
    let source = Arc::new(Heads::range(3, 0, synthetic_count).images_of_each(synthetic_images));
    let mut trainer = if folder.join("settings.toml").exists() {
        Trainer::resume(settings.clone(), source, RunFolder::open(folder).unwrap()).unwrap()
    } else {
        Trainer::begin(settings.clone(), source, RunFolder::create(folder, false).unwrap()).unwrap()
    };
    let stop = AtomicBool::new(false);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let outcome = pool.install(|| {
        let mut observer = |event: Event<'_>| {
            if let Event::Stepped(report) = event {
                stop.store(report.step >= stop_after, Ordering::Relaxed);
            }
        };
        trainer.run(&mut observer, &stop).unwrap()
    });
    (trainer, outcome)
}

/// The lines of the log without what depends on the clock.
fn log(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        for key in ["seconds", "images-per-second", "data-wait"] {
            line.as_object_mut().unwrap().remove(key);
        }
        line
    };
    text.lines().map(line).collect()
}

fn assert_same(a: &(Trainer, &Path), b: &(Trainer, &Path)) {
    let tensors = |trainer: &Trainer| {
        let moments = trainer.moments();
        [trainer.model().parameters(), &moments.exp_avg, &moments.exp_avg_sq, &moments.ema].concat()
    };
    for (number, (a, b)) in tensors(&a.0).iter().zip(tensors(&b.0)).enumerate() {
        assert!(
            a.data().iter().map(|x| x.to_bits()).eq(b.data().iter().map(|x| x.to_bits())),
            "tensor {number}"
        );
    }
    let progress = |trainer: &Trainer| Progress { seconds: 0.0, ..*trainer.progress() };
    assert_eq!(progress(&a.0), progress(&b.0));
    assert_eq!(log(a.1), log(b.1));
}

#[test]
fn a_resumed_run_is_the_run_that_never_stopped() {
    let roots: [_; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [whole, parts] = [roots[0].path(), roots[1].path()];
    let (trainer, outcome) = session(&settings(), whole, 2, u64::MAX);
    assert_eq!(outcome, Outcome::Finished);
    let whole = (trainer, whole);
    assert_eq!(log(whole.1).iter().filter(|line| line["kind"] == "validation").count(), 3);

    // In the middle of an epoch, before the validation at the end of one, and on another number of threads.
    for (threads, stop_after) in [(1, 1), (2, 3), (1, 5)] {
        let (trainer, outcome) = session(&settings(), parts, threads, stop_after);
        assert_eq!((outcome, trainer.progress().step), (Outcome::Interrupted, stop_after));
    }
    let (trainer, outcome) = session(&settings(), parts, 1, u64::MAX);
    assert_eq!(outcome, Outcome::Finished);
    assert_same(&whole, &(trainer, parts));

    // A machine that goes down leaves a log that is ahead of the checkpoint, and perhaps half a checkpoint.
    let newer = |step: u64| parts.join(format!("checkpoints/step-{step:07}.safetensors"));
    let last = fs::read(newer(8)).unwrap();
    fs::write(newer(8), &last[..last.len() / 2]).unwrap();
    fs::remove_file(newer(6)).unwrap();
    let (trainer, outcome) = session(&settings(), parts, 2, u64::MAX);
    assert_eq!(outcome, Outcome::Finished);
    assert_same(&whole, &(trainer, parts));
    assert!(Checkpoint::read(&newer(8)).is_ok(), "the damaged checkpoint is written anew");
}

#[test]
fn a_resumed_run_on_a_collection_is_the_run_that_never_stopped() {
    let roots: [_; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [whole, parts] = [roots[0].path(), roots[1].path()];
    let settings = collection();
    let (trainer, outcome) = session(&settings, whole, 2, u64::MAX);
    assert_eq!(outcome, Outcome::Finished);
    // Eleven heads, of which one is held out with all its three images: an epoch is three batches of three heads.
    let epochs: Vec<u64> = log(whole).iter().filter_map(|line| line["epoch"].as_u64()).collect();
    assert_eq!((trainer.progress().images, epochs.iter().max()), (30, Some(&2)));
    let (_, outcome) = session(&settings, parts, 1, 2);
    assert_eq!(outcome, Outcome::Interrupted);
    let (resumed, _) = session(&settings, parts, 1, u64::MAX);
    assert_same(&(trainer, whole), &(resumed, parts));
}
