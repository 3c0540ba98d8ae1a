//! Running rows: an ordinary run for each, and its measurement.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relievo_data::{CacheBudget, Cached, SYNTHETIC, Source, SourceSpec, Split, WithoutTruth};
use relievo_files::{Unreadable, write_durable};
use relievo_model::{Model, ModelError, Supervision};
use relievo_tensor::safetensors::SafetensorsFile;
use relievo_tensor::{Device, cuda};
use relievo_train::{
    EvaluationError, EvaluationOptions, FolderError, HeldOut, Outcome, RunFolder, Scores, Settings, Trainer,
    baselines, evaluate, mean_depth,
};

use crate::course::Course;
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
    /// What rows learn from, if not heads.
    photographs: Option<Arc<dyn Source>>,
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
            (!recipe.model.uses_landmarks(), RecipeError::Landmarks),
            (recipe.model.loss.0.is_empty(), RecipeError::Loss),
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
        let reproduction = Self { folder, recipe, heads, feature_steps, results, photographs: None };
        if reproduction.steps() == 0 { Err(RecipeError::NoSteps.into()) } else { Ok(reproduction) }
    }

    /// Lets rows learn from photographs, which lie at `path`, in place of heads. Their depth is still measured on heads,
    /// the error of their reconstructions on the photographs that are held out.
    ///
    /// # Errors
    /// If too few photographs would be left to learn from.
    pub fn with_photographs(
        mut self,
        photographs: Arc<dyn Source>,
        path: PathBuf,
    ) -> Result<Self, ReproduceError> {
        let held_out = self.heads.validation;
        let training = photographs.len().checked_sub(held_out).filter(|left| *left > 0);
        self.heads.training = training.ok_or(RecipeError::NoHeads)?;
        let path = std::path::absolute(&path).unwrap_or(path);
        self.recipe.data.source = vec![SourceSpec::Path(path)];
        self.photographs = Some(photographs);
        Ok(self)
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
        options.reconstruction =
            task.row.together().is_none() && settings.model.supervision == Supervision::None;
        let evaluation = evaluate(&model, &self.test(task.row, settings), &options)?;
        let no_truth = || EvaluationError::NoTruth(evaluation.source.clone());
        let visible = evaluation.visible.clone().ok_or_else(no_truth)?.model;
        let whole = evaluation.whole.clone().ok_or_else(no_truth)?.model;
        let reconstruction = match &self.photographs {
            Some(photographs) if options.reconstruction => {
                let split = Split::new(Arc::clone(photographs), settings.data.holdout())?;
                evaluate(&model, &(Arc::new(split.validation) as Arc<dyn Source>), &options)?.reconstruction
            }
            _ => evaluation.reconstruction,
        };
        let Course { milliseconds, validations } = Course::read(&run.metrics(), settings.train.batch_size)
            .map_err(Unreadable::at(&run.metrics()))?;
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
            reconstruction,
            milliseconds,
            validations,
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
            reconstruction: None,
            milliseconds: None,
            validations: Vec::new(),
        };
        Ok([(Row::ConstantDepth, found.constant_depth), (Row::MeanDepth, found.mean_depth)].map(measured))
    }

    /// The heads of the recipe, to learn from and to validate on.
    fn learned_from(&self, settings: &Settings) -> Arc<dyn Source> {
        if let Some(photographs) = &self.photographs {
            return Arc::clone(photographs);
        }
        Arc::new(heads(&settings.data, 0..settings.data.synthetic_count))
    }

    /// The heads that no row has learned from or validated on: one image of each, or several that are fitted.
    fn test(&self, row: Row, settings: &Settings) -> Arc<dyn Source> {
        let HeadCounts { test, .. } = self.heads_of(row);
        // Behind those of the recipe, also where rows learn from photographs.
        let first = settings.data.synthetic_count;
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
mod tests;
