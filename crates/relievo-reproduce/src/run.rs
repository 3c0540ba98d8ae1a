//! Running rows: an ordinary run for each, and its measurement.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relievo_data::{CacheBudget, Cached, SYNTHETIC, Source, SourceSpec, Split, WithoutTruth};
use relievo_files::{Unreadable, write_durable};
use relievo_model::{Model, ModelError};
use relievo_tensor::safetensors::SafetensorsFile;
use relievo_tensor::{Device, cuda};
use relievo_train::{
    EvaluationError, EvaluationOptions, FolderError, HeldOut, Outcome, RunFolder, Scores, Settings, Trainer,
    baselines, evaluate, mean_depth,
};

use crate::error::{RecipeError, ReproduceError};
use crate::features::{self, FeatureSettings};
use crate::heads::heads;
use crate::recipe::{first_difference, is_of_single_images, table};
use crate::results::{HeadCounts, Measured, Results, today};
use crate::rows::Row;

/// Heads whose mean depth is the second baseline, at most: more would change nothing that is printed.
const MEAN_HEADS: u64 = 20_000;

/// What rows that fit images of one head are measured on: heads at most, images of each, of which as many as the row says
/// are explained together, and the steps of their refinement. It takes a hundred times as long as the networks' answer.
const FITTED_HEADS: u64 = 40;
const FITTED_IMAGES: u64 = 8;
const FITTED_STEPS: usize = 50;

/// The step of Adam that features are learned with.
const FEATURE_LEARNING_RATE: f64 = 3e-4;

/// The file of the results.
pub const RESULTS: &str = "results.json";

/// The file of self-supervised features, and the key of its metadata that says what they were learned with.
const FEATURES: &str = "features.safetensors";
const FEATURES_KEY: &str = "relievo.features";

/// A unit of work: a row with a seed, or a baseline, which has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// The row.
    pub row: Row,
    /// The seed of the training.
    pub seed: Option<u64>,
}

impl Task {
    /// The tasks of some rows: all rows of the first seed, then of the next, so that a table is whole early.
    pub fn for_rows(rows: &[Row], seeds: &[u64]) -> Vec<Self> {
        let baselines = rows.iter().filter(|row| !row.learns()).map(|row| Self { row: *row, seed: None });
        let learning = |seed: u64| {
            rows.iter().filter(|row| row.learns()).map(move |row| Self { row: *row, seed: Some(seed) })
        };
        baselines.chain(seeds.iter().flat_map(|seed| learning(*seed))).collect()
    }
}

/// Something that happened while a row was run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step of learning perceptual features was taken; that comes before the run that needs them.
    Features {
        /// Steps taken.
        step: u64,
        /// Steps to take.
        steps: u64,
        /// Mean absolute error of the restored image, in [-1,1].
        loss: f32,
    },
    /// Something that happened in the row's run.
    Run(relievo_train::Event<'a>),
}

/// Hears what happens; training waits until it returns.
type Observe<'a> = &'a mut (dyn FnMut(Event<'_>) + Send);

/// Tables in the making, in a folder.
pub struct Reproduction {
    folder: PathBuf,
    recipe: Settings,
    heads: HeadCounts,
    feature_steps: u64,
    results: Results,
}

impl Reproduction {
    /// Opens a folder, which need not exist, to run rows of `recipe` and to measure them on the `test` heads that
    /// follow those of the recipe. Self-supervised features take `feature_steps` steps to learn, before the row that
    /// needs them.
    ///
    /// # Errors
    /// If the recipe is invalid, does not learn from synthetic heads and hold out the last of them, or takes no steps; or
    /// if existing results cannot be read.
    pub fn open(
        folder: PathBuf,
        recipe: Settings,
        test: u64,
        feature_steps: u64,
    ) -> Result<Self, ReproduceError> {
        recipe.check()?;
        let (data, train) = (&recipe.data, &recipe.train);
        let is_of_heads = data.source.iter().all(|source| *source == SourceSpec::registered(SYNTHETIC));
        let rules = [
            (is_of_heads, RecipeError::Source),
            (!data.perturbed, RecipeError::Perturbed),
            (is_of_single_images(&recipe), RecipeError::Pairs),
            (data.held_out == HeldOut::Last, RecipeError::HeldOut),
            (train.minutes == 0.0, RecipeError::Minutes),
            (train.perceptual_features.is_none(), RecipeError::Features),
            (train.initial_weights.is_none(), RecipeError::InitialWeights),
            ((data.validation as u64) < data.synthetic_count, RecipeError::NoHeads),
        ];
        if let Some((_, broken)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(broken.into());
        }
        let held_out = data.validation as u64;
        let heads = HeadCounts { training: data.synthetic_count - held_out, validation: held_out, test };
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let results = Results::read(&folder.join(RESULTS))?;
        let reproduction = Self { folder, recipe, heads, feature_steps, results };
        if reproduction.steps() == 0 { Err(RecipeError::NoSteps.into()) } else { Ok(reproduction) }
    }

    /// The measurements so far.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// The split.
    pub fn heads(&self) -> HeadCounts {
        self.heads
    }

    /// Optimiser steps of every row.
    pub fn steps(&self) -> u64 {
        let train = &self.recipe.train;
        match train.steps {
            0 => train.epochs.saturating_mul(self.heads.training / train.batch_size as u64),
            steps => steps,
        }
    }

    /// Whether a task has been measured with this recipe.
    ///
    /// # Errors
    /// If a number of the settings is too large for TOML.
    pub fn is_done(&self, task: Task) -> Result<bool, ReproduceError> {
        let recipe = self.checksum(task)?;
        let steps = if task.seed.is_some() { self.steps() } else { 0 };
        Ok(self.results.results.iter().any(|of| {
            (of.row, of.seed, of.steps, of.heads, &of.recipe)
                == (task.row, task.seed, steps, self.heads_of(task.row), &recipe)
        }))
    }

    /// Runs a task, resuming where an earlier call stopped, and adds its measurement to the results.
    ///
    /// # Errors
    /// If the row was begun with other settings or has gone further, training or measuring fails, or something cannot
    /// be read or written.
    pub fn run(
        &mut self,
        task: Task,
        observe: Observe<'_>,
        stop: &AtomicBool,
    ) -> Result<Outcome, ReproduceError> {
        let settings = self.settings(task);
        let is_ours = settings == self.settings(Task { row: Row::Ours, ..task })
            || task.row == Row::SelfSupervisedFeatures && settings.model.perceptual_weight == 0.0;
        if task.seed.is_some() && task.row.trained_as() != Row::Ours && is_ours {
            return Err(ReproduceError::Nothing(task.row));
        }
        if task.row == Row::SelfSupervisedFeatures && !self.learn_features(&settings, observe, stop)? {
            return Ok(Outcome::Interrupted);
        }
        let measured = match task.seed {
            None => self.measure_baselines(task, &settings)?.into(),
            Some(seed) => {
                let folder = self.folder.join(task.row.trained_as().name()).join(format!("seed-{seed}"));
                let mut trainer = self.trainer(&settings, folder.clone())?;
                let taken = trainer.progress().step;
                if taken > self.steps() {
                    return Err(ReproduceError::Further { folder, taken, asked: self.steps() });
                }
                let mut of_run = |event: relievo_train::Event<'_>| observe(Event::Run(event));
                let outcome = trainer.run(&mut of_run, stop)?;
                if outcome != Outcome::Finished {
                    return Ok(outcome);
                }
                let hours = trainer.progress().seconds / 3600.0;
                drop(trainer);
                vec![self.measure(task, &settings, &RunFolder::open(folder)?, hours)?]
            }
        };
        measured.into_iter().for_each(|measured| self.results.add(measured));
        self.results.write(self.folder.join(RESULTS))?;
        Ok(Outcome::Finished)
    }

    /// The recipe with what makes the task.
    fn settings(&self, task: Task) -> Settings {
        let mut settings = self.recipe.clone();
        task.row.change(&mut settings);
        // Rows take the same number of steps, though an epoch of pairs has more of them.
        (settings.train.steps, settings.train.epochs) = (self.steps(), 0);
        if let Some(seed) = task.seed {
            settings.train.seed = seed;
        }
        if task.row == Row::SelfSupervisedFeatures {
            settings.train.perceptual_features = Some(self.folder.join(FEATURES));
        }
        settings
    }

    /// A checksum over everything that affects a task's numbers, except the number of steps and the split.
    fn checksum(&self, task: Task) -> Result<String, ReproduceError> {
        let mut text = table(&self.settings(task))?.to_string();
        if task.row == Row::SelfSupervisedFeatures {
            text = format!("{text}{}", self.feature_settings());
        }
        Ok(format!("{:08x}", crc32fast::hash(text.as_bytes())))
    }

    /// Describes how features are learned; features with another description are other features.
    fn feature_settings(&self) -> String {
        let HeadCounts { training, .. } = self.heads;
        let (seed, size) = (self.recipe.data.synthetic_seed, self.recipe.model.image_size);
        let (steps, batch) = (self.feature_steps, self.recipe.train.batch_size);
        format!("{steps} steps of {batch} of {training} heads of seed {seed}, {size} pixels")
    }

    /// Learns the features of [`Row::SelfSupervisedFeatures`] unless they exist; false if it is told to stop.
    fn learn_features(
        &mut self,
        settings: &Settings,
        observe: Observe<'_>,
        stop: &AtomicBool,
    ) -> Result<bool, ReproduceError> {
        let (path, note) = (self.folder.join(FEATURES), self.feature_settings());
        match fs::read(&path) {
            Ok(bytes) => {
                let file = SafetensorsFile::open(&bytes).ok();
                let is_same = file.and_then(|file| Some(file.metadata(FEATURES_KEY)? == note)) == Some(true);
                return if is_same { Ok(true) } else { Err(ReproduceError::OtherFeatures(path)) };
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Unreadable::at(&path)(error).into()),
        }
        let Split { train, .. } = Split::new(self.learned_from(settings), settings.data.holdout())?;
        let device = settings.compute.device().map_err(ModelError::from)?;
        let of_features = FeatureSettings {
            steps: self.feature_steps,
            batch_size: settings.train.batch_size,
            learning_rate: FEATURE_LEARNING_RATE,
            seed: 0,
            workers: settings.data.workers_beside(device),
            policy: settings.compute.conv_policy(),
        };
        let budget = CacheBudget::new(settings.data.cache.saturating_mul(1 << 20));
        let size = settings.model.image_size;
        let images: Arc<dyn Source> =
            Arc::new(Cached::new(Arc::new(WithoutTruth(train)), size as u32, budget));
        let steps = self.feature_steps;
        let mut told = |step, loss| observe(Event::Features { step, steps, loss });
        let learned = features::learn(&images, size, &of_features, device, &mut told, stop)?;
        let Some(learned) = learned else { return Ok(false) };
        let bytes = learned.to_safetensors([(FEATURES_KEY.to_owned(), note)]).map_err(ModelError::from)?;
        write_durable(path, |file| file.write_all(&bytes))?;
        Ok(true)
    }

    /// The run of a row, started or resumed.
    fn trainer(&mut self, settings: &Settings, folder: PathBuf) -> Result<Trainer, ReproduceError> {
        let source = self.learned_from(settings);
        match RunFolder::open(&folder) {
            Err(FolderError::NoRun(_)) => {
                Ok(Trainer::begin(settings.clone(), source, RunFolder::create(folder, false)?)?)
            }
            run => {
                let run = run?;
                let then = Settings::layered(Some(&run.settings()), None)?;
                if let Some((key, [now, then])) = first_difference(&table(settings)?, &table(&then)?) {
                    return Err(ReproduceError::OtherRecipe { folder, key, now, then });
                }
                Ok(Trainer::resume(settings.clone(), source, run)?)
            }
        }
    }

    /// Measures the weights of a run on the test.
    fn measure(
        &self,
        task: Task,
        settings: &Settings,
        run: &RunFolder,
        hours: f64,
    ) -> Result<Measured, ReproduceError> {
        let path = run.model();
        let bytes = relievo_files::read(&path)?;
        let mut model = Model::from_safetensors(&bytes, &path.display().to_string())?;
        let device = settings.compute.place(&mut model)?;
        let workers = settings.data.workers_beside(device);
        let mut options = EvaluationOptions::new(settings.train.micro_batch_on(device), workers);
        if let Some(together) = task.row.together() {
            (options.together, options.refine) = (together, FITTED_STEPS);
        }
        let evaluation = evaluate(&model, &self.test(task.row, settings), &options)?;
        let no_truth = || EvaluationError::NoTruth(evaluation.source.clone());
        let visible = evaluation.visible.clone().ok_or_else(no_truth)?.model;
        let whole = evaluation.whole.clone().ok_or_else(no_truth)?.model;
        Ok(Measured {
            row: task.row,
            seed: task.seed,
            steps: self.steps(),
            hours,
            device: name(device),
            date: today(),
            heads: self.heads_of(task.row),
            recipe: self.checksum(task)?,
            visible,
            whole,
        })
    }

    /// Measures the baselines on the test, both at once: rendering the heads takes most of the time.
    fn measure_baselines(&self, task: Task, settings: &Settings) -> Result<[Measured; 2], ReproduceError> {
        let workers = settings.data.workers_beside(Device::Cpu);
        let known: Arc<dyn Source> = Arc::new(heads(&settings.data, 0..self.heads.training.min(MEAN_HEADS)));
        let mean = mean_depth(&known, settings.model.image_size, workers)?;
        let found = baselines(&self.test(task.row, settings), settings.model.camera(), &mean, workers)?;
        let recipe = self.checksum(task)?;
        let measured = |(row, scores): (Row, Scores)| Measured {
            row,
            seed: None,
            steps: 0,
            hours: 0.0,
            device: name(Device::Cpu),
            date: today(),
            heads: self.heads,
            recipe: recipe.clone(),
            visible: scores.clone(),
            whole: scores,
        };
        Ok([(Row::ConstantDepth, found.constant_depth), (Row::MeanDepth, found.mean_depth)].map(measured))
    }

    /// The heads of the recipe, to learn from and to validate on.
    fn learned_from(&self, settings: &Settings) -> Arc<dyn Source> {
        Arc::new(heads(&settings.data, 0..settings.data.synthetic_count))
    }

    /// The heads that no row has learned from or validated on: one image of each, or several that are fitted.
    fn test(&self, row: Row, settings: &Settings) -> Arc<dyn Source> {
        let HeadCounts { training, validation, test } = self.heads_of(row);
        let first = training + validation;
        let images = if row.together().is_some() { FITTED_IMAGES } else { 1 };
        Arc::new(heads(&settings.data, first..first + test).images_of_each(images))
    }

    /// The split for a row.
    fn heads_of(&self, row: Row) -> HeadCounts {
        let test = if row.together().is_some() { self.heads.test.min(FITTED_HEADS) } else { self.heads.test };
        HeadCounts { test, ..self.heads }
    }
}

/// The name of a device, for readers on another machine.
fn name(device: Device) -> String {
    match device {
        Device::Cpu => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            format!("CPU, {threads} thread{}", if threads == 1 { "" } else { "s" })
        }
        Device::Cuda(ordinal) => cuda::name(ordinal).unwrap_or_else(|_| device.to_string()),
    }
}

#[cfg(test)]
mod tests {
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
            let of_vgg = [Row::NoPerceptualLoss, Row::SelfSupervisedFeatures];
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
            }
        }
        // Another call knows of all of it.
        let again = open(&folder, recipe());
        assert_eq!(again.results().results.len(), reproduction.results().results.len());
        assert!(
            Task::for_rows(&without_vgg(Table::Ablation), &[0])
                .iter()
                .all(|task| again.is_done(*task).unwrap())
        );
        assert!(!again.is_done(Task { row: Row::Ours, seed: Some(1) }).unwrap());
        // In this recipe there is no perceptual loss, so leaving it out would change nothing but the name.
        for row in [Row::NoPerceptualLoss, Row::SelfSupervisedFeatures] {
            let task = Task { row, seed: Some(0) };
            let refusal =
                reproduction.run(task, &mut |_: Event<'_>| (), &AtomicBool::new(false)).unwrap_err();
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
        let refusal =
            others.run(task, &mut |_: Event<'_>| (), &AtomicBool::new(false)).unwrap_err().to_string();
        assert!(refusal.contains("features.safetensors were learned with other settings"), "{refusal}");
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
        assert!(
            refusal(&|settings| settings.data.held_out = HeldOut::ByName).contains("held-out must be last")
        );
        assert!(refusal(&|settings| settings.train.minutes = 1.0).contains("minutes must be 0"));
        assert!(refusal(&|settings| settings.data.source = vec!["a".into()]).contains("must be synthetic"));
        let nothing = refusal(&|settings| (settings.train.steps, settings.train.epochs) = (0, 0));
        assert!(nothing.contains("one of them must say when to stop"), "{nothing}");
        assert!(refusal(&|settings| settings.data.validation = 10.0).contains("leaves no heads"));
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
}
