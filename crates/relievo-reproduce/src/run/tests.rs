//! Tests of rows that are run.

use relievo_model::Method;

use super::*;
use crate::rows::Table;

/// Everything small: 8 heads to learn from, 2 to validate on; steps of 4 images.
fn recipe() -> Settings {
    let mut settings = Settings { model: relievo_model::ModelSettings::tiny(), ..Settings::default() };
    settings.data.synthetic_count = 10;
    settings.data.validation = 2.0;
    settings.data.held_out = HeldOut::Last;
    settings.data.workers = 1;
    let train = &mut settings.train;
    (train.batch_size, train.steps, train.keep, train.preview_images) = (4, 3, 1, 0);
    settings
}

fn open(folder: &tempfile::TempDir, recipe: Settings) -> Reproduction {
    Reproduction::open(folder.path().to_owned(), recipe, 3, 2).unwrap()
}

fn run(reproduction: &mut Reproduction, task: Task) -> Outcome {
    reproduction.run(task, &mut |_: Event<'_>| (), &AtomicBool::new(false)).unwrap()
}

#[test]
fn every_row_that_needs_no_vgg_is_run_and_measured_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut reproduction = open(&folder, recipe());
    let without_vgg = |table: Table| {
        let of_vgg = [
            Row::NoPerceptualLoss,
            Row::SelfSupervisedFeatures,
            Row::Relu12Photometric,
            Row::Relu22Photometric,
        ];
        let rows = table.rows().iter().copied().filter(|row| !of_vgg.contains(row));
        // Fitting takes long, and one row of it is like the other.
        rows.filter(|row| row.together().is_none_or(|count| count == 2)).collect::<Vec<_>>()
    };
    for table in Table::ALL.iter().copied() {
        for task in Task::for_rows(&without_vgg(table), &[0]) {
            if !reproduction.is_done(task).unwrap() {
                assert_eq!(run(&mut reproduction, task), Outcome::Finished);
            }
            assert!(reproduction.is_done(task).unwrap());
        }
        let lines = reproduction.results().summaries(table);
        assert_eq!(lines.iter().map(|line| line.row).collect::<Vec<_>>(), without_vgg(table));
        for line in &lines {
            let (side, mad) = (line.side.unwrap().mean, line.mad.unwrap().mean);
            assert!((0.001..0.2).contains(&side) && (5.0..90.0).contains(&mad), "{line:?}");
            assert_eq!(line.steps, if line.row.learns() { 3 } else { 0 });
            assert_eq!(line.heads, HeadCounts { training: 8, validation: 2, test: 3 });
            let reconstructs = ![Row::Supervised, Row::Together2].contains(&line.row) && line.row.learns();
            assert_eq!(line.reconstruction.is_some(), reconstructs, "{line:?}");
            assert_eq!(line.milliseconds.is_some(), line.row.learns());
            assert!(line.at_equal_time[1].is_none_or(|mad| (5.0..90.0).contains(&mad.mean)), "{line:?}");
        }
    }
    // Another call knows of all of it.
    let again = open(&folder, recipe());
    assert_eq!(again.results().results.len(), reproduction.results().results.len());
    assert!(
        Task::for_rows(&without_vgg(Table::Ablation), &[0]).iter().all(|task| again.is_done(*task).unwrap())
    );
    assert!(!again.is_done(Task { row: Row::Ours, seed: Some(1) }).unwrap());
    // In this recipe there is no perceptual loss, so leaving it out would change nothing but the name.
    for row in [Row::NoPerceptualLoss, Row::SelfSupervisedFeatures] {
        let task = Task { row, seed: Some(0) };
        let refusal = reproduction.run(task, &mut |_: Event<'_>| (), &AtomicBool::new(false)).unwrap_err();
        let expected = format!("the row {} changes nothing of this recipe", row.name());
        assert!(refusal.to_string().starts_with(&expected), "{refusal}");
    }
    // Rows have learned from what they say: perturbed images, or as many images in pairs of asymmetric heads.
    let settings =
        |row: &str| fs::read_to_string(folder.path().join(row).join("seed-0/settings.toml")).unwrap();
    assert!(settings("perturbed").contains("perturbed = true"));
    let pairs = settings("asymmetric-lemul-collection");
    for line in ["method = \"lemul\"", "pairs = \"collection\"", "batch-size = 2", "asymmetry = 4.0"] {
        assert!(pairs.lines().any(|of| of == line), "{line}: {pairs}");
    }
}

#[test]
fn features_are_learned_once_and_compared_by_the_row_that_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = recipe();
    (settings.model.perceptual_weight, settings.train.batch_size, settings.train.steps) = (1.0, 2, 1);
    settings.data.validation = 1.0;
    let mut reproduction = open(&folder, settings.clone());
    // What was learned of features, and the perceptual loss of the last step.
    let run_of = |reproduction: &mut Reproduction, row| {
        let (mut learned, mut perceptual, stop) = (Vec::new(), 0.0, AtomicBool::new(false));
        let mut observer = |event: Event<'_>| match event {
            Event::Features { step, steps, .. } => learned.push((step, steps)),
            Event::Run(relievo_train::Event::Stepped(report)) => {
                perceptual = report.losses[relievo_model::Loss::Perceptual];
            }
            _ => {}
        };
        reproduction.run(Task { row, seed: Some(0) }, &mut observer, &stop).unwrap();
        (learned, perceptual)
    };
    let (learned, of_these) = run_of(&mut reproduction, Row::SelfSupervisedFeatures);
    assert_eq!(learned, [(1, 2), (2, 2)]);
    let (learned, of_vgg) = run_of(&mut reproduction, Row::Ours);
    assert_eq!(learned, []);
    // The first step: the same model, other features.
    assert!(of_these.is_finite() && of_these != of_vgg, "{of_these}, {of_vgg}");
    let mut longer = settings.clone();
    longer.train.steps = 2;
    assert_eq!(run_of(&mut open(&folder, longer), Row::SelfSupervisedFeatures).0, []);
    settings.train.steps = 3;
    let mut others = Reproduction::open(folder.path().to_owned(), settings, 3, 5).unwrap();
    let task = Task { row: Row::SelfSupervisedFeatures, seed: Some(0) };
    let refusal = others.run(task, &mut |_: Event<'_>| (), &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(refusal.contains("features.safetensors were learned with other settings"), "{refusal}");
}

#[test]
fn rows_may_learn_from_photographs_and_are_measured_on_heads() {
    let folder = tempfile::tempdir().unwrap();
    // Heads in the place of photographs, which have names and no truth of use.
    let photographs = || -> Arc<dyn Source> { Arc::new(heads(&recipe().data, 100..109)) };
    let open = || open(&folder, recipe()).with_photographs(photographs(), "photographs".into()).unwrap();
    let task = Task { row: Row::FilterBank, seed: Some(0) };
    let mut reproduction = open();
    run(&mut reproduction, task);
    assert!(open().is_done(task).unwrap());
    let measured = &reproduction.results().results[0];
    assert_eq!(measured.heads, HeadCounts { training: 7, validation: 2, test: 3 });
    assert!(
        measured.reconstruction.is_some_and(|error| error > 0.0) && measured.visible.normal_error.is_some()
    );
    let settings = fs::read_to_string(folder.path().join("filter-bank/seed-0/settings.toml")).unwrap();
    assert!(
        settings.contains("/photographs\"]") && settings.contains("kind = \"filter-bank\""),
        "{settings}"
    );
    let few = Reproduction::open(folder.path().to_owned(), recipe(), 3, 2).unwrap();
    let few = few.with_photographs(Arc::new(heads(&recipe().data, 0..2)), "few".into());
    assert!(few.err().unwrap().to_string().contains("leaves no heads or photographs"));
}

#[test]
fn a_row_that_was_interrupted_ends_as_if_it_had_not_been() {
    let task = Task { row: Row::NoConfidence, seed: Some(1) };
    let [whole, parts] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut straight = open(&whole, recipe());
    run(&mut straight, task);
    let (stop, mut stopped) = (AtomicBool::new(false), open(&parts, recipe()));
    let mut after_one = |event: Event<'_>| {
        if let Event::Run(relievo_train::Event::Stepped(_)) = event {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    };
    assert_eq!(stopped.run(task, &mut after_one, &stop).unwrap(), Outcome::Interrupted);
    assert!(!stopped.is_done(task).unwrap() && stopped.results().results.is_empty());
    drop(stopped);
    let mut again = open(&parts, recipe());
    run(&mut again, task);
    let [one, other] = [&straight, &again].map(|of| &of.results().results[0]);
    assert_eq!((&one.visible, &one.whole, one.seed), (&other.visible, &other.whole, Some(1)));
}

#[test]
fn a_row_goes_on_to_more_steps_but_not_with_another_recipe_or_to_fewer() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task { row: Row::Supervised, seed: Some(0) };
    run(&mut open(&folder, recipe()), task);
    let more = |change: &dyn Fn(&mut Settings)| {
        let mut settings = recipe();
        settings.train.steps = 4;
        change(&mut settings);
        open(&folder, settings)
    };
    let mut longer = more(&|settings| settings.train.keep = 2);
    assert!(!longer.is_done(task).unwrap());
    run(&mut longer, task);
    assert_eq!(longer.results().results.len(), 1);
    assert_eq!(longer.results().results[0].steps, 4);
    let refusal = |mut reproduction: Reproduction| {
        let outcome = reproduction.run(task, &mut |_: Event<'_>| (), &AtomicBool::new(false));
        outcome.unwrap_err().to_string()
    };
    let message = refusal(more(&|settings| settings.train.learning_rate = 1e-3));
    assert!(message.contains("was begun with the learning-rate 0.0001 and now it is 0.001"), "{message}");
    let message = refusal(open(&folder, recipe()));
    assert!(message.contains("has taken 4 steps and 3 are asked for"), "{message}");
}

#[test]
fn a_recipe_that_cannot_be_every_rows_is_refused() {
    let refusal = |change: &dyn Fn(&mut Settings)| {
        let mut settings = recipe();
        change(&mut settings);
        let outcome = Reproduction::open(PathBuf::from("nowhere"), settings, 3, 2);
        outcome.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(refusal(&|_| ()), "");
    assert!(refusal(&|settings| settings.data.held_out = HeldOut::ByName).contains("held-out must be last"));
    assert!(refusal(&|settings| settings.train.minutes = 1.0).contains("minutes must be 0"));
    assert!(refusal(&|settings| settings.data.source = vec!["a".into()]).contains("must be synthetic"));
    let nothing = refusal(&|settings| (settings.train.steps, settings.train.epochs) = (0, 0));
    assert!(nothing.contains("one of them must say when to stop"), "{nothing}");
    assert!(refusal(&|settings| settings.data.validation = 10.0).contains("leaves no heads or photographs"));
    let landmarks = refusal(&|settings| settings.model.landmark_weight = Some(1.0));
    assert!(landmarks.contains("landmark-weight must be left out"), "{landmarks}");
    let terms = [(relievo_model::LossKind::Ssim, 1.0)];
    let listed = refusal(&|settings| settings.model.loss = relievo_model::LossList::of(&terms));
    assert!(listed.contains("loss must be left out"), "{listed}");
    let pairs = "its method must be unsup3d";
    assert!(refusal(&|settings| settings.data.asymmetry = 2.0).contains(pairs));
    assert!(refusal(&|settings| settings.data.synthetic_images = 2).contains(pairs));
    assert!(refusal(&|settings| settings.model.method = Method::Lemul).contains(pairs));
}

#[test]
fn seeds_come_one_after_the_other() {
    let tasks = Task::for_rows(Table::Comparison.rows(), &[3, 5]);
    let named: Vec<_> = tasks.iter().map(|task| (task.row, task.seed)).collect();
    let expected = [
        (Row::ConstantDepth, None),
        (Row::MeanDepth, None),
        (Row::Ours, Some(3)),
        (Row::Supervised, Some(3)),
        (Row::Ours, Some(5)),
        (Row::Supervised, Some(5)),
    ];
    assert_eq!(named, expected);
}
