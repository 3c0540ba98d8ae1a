//! A run: its state, how it starts and resumes. The loop is in `session.rs`.
//!
//! A run is a sequence of states; state n+1 is a function of state n, the settings and the images. Work between
//! two steps (validating, drawing, saving) does not affect that sequence, so a run that resumes from a checkpoint equals
//! the run that never stopped, bit for bit.

mod error;
mod session;

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relievo_data::{CacheBudget, Cached, LoadError, Objects, Source, Split, WithoutTruth};
use relievo_files::{FolderLock, WriteError, write_durable};
use relievo_model::{
    GroundTruth, LearnedRenderer, Model, ModelError, Objective, Supervision, filters_from_toml,
};
use relievo_nets::{Vgg, VggError};
use relievo_tensor::ops::FilterBank;
use relievo_tensor::{Device, Tensor};

use crate::captured::CapturedStep;
use crate::checkpoint::{Checkpoint, Progress};
use crate::events::Observer;
use crate::folder::RunFolder;
use crate::learner::Learner;
use crate::log::Log;
use crate::optimiser::Moments;
use crate::provenance;
use crate::settings::{Change, EmbeddedWeights, Learn, Pairs, Settings, TrainSettings};
use crate::teacher::{Taught, teacher};
use session::Session;

pub use error::{LastSaved, TrainError};

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps were taken.
    Finished,
    /// The time was up.
    TimeUp,
    /// It was asked to stop; the run can be resumed.
    Interrupted,
}

/// A run, started or resumed, to be [run](Trainer::run).
pub struct Trainer {
    settings: Settings,
    settings_text: String,
    folder: RunFolder,
    learner: Learner,
    progress: Progress,
    images: Arc<dyn Source>,
    /// Images of an epoch, or pairs.
    examples: u64,
    held_out: Arc<dyn Source>,
    log: Log,
    /// The progress in the newest checkpoint on the disk.
    saved: Option<Progress>,
    /// Reported when the run starts.
    warnings: Vec<String>,
    /// Keeps other programs out of the folder.
    _lock: FolderLock,
}

impl Trainer {
    /// Starts a run in a folder. A run in it ([`RunFolder::create`] with `overwrite`) is deleted once nothing else can
    /// fail, so the new run may start from its weights.
    ///
    /// # Errors
    /// If the settings are invalid, too few images are left to learn from, or the folder cannot be written to.
    pub fn begin(settings: Settings, source: Arc<dyn Source>, folder: RunFolder) -> Result<Self, TrainError> {
        settings.check()?;
        let mut model = Model::new(settings.model.clone(), settings.train.seed)?;
        let mut warnings = Vec::new();
        model.set_seen_truth(settings.model.uses_truth() && settings.train.teacher.is_none());
        if let Some(path) = settings.train.initial_weights.clone() {
            let bytes = weights_at(&path, settings.embedded_weights);
            match bytes.and_then(|bytes| model.take_over(&bytes)) {
                Ok(otherwise) if otherwise.is_empty() => {}
                Ok(otherwise) => warnings.push(format!(
                    "the weights in {} were learned with {}: with other settings they mean other shapes",
                    path.display(),
                    otherwise.join(", ")
                )),
                Err(reason) => return Err(TrainError::InitialWeights { path, reason }),
            }
        }
        if let Some(path) = settings.train.renderer_weights.clone() {
            let renderer = weights_at(&path, EmbeddedWeights::default()).and_then(|bytes| {
                LearnedRenderer::from_safetensors(&bytes, "the file").map_err(|error| error.to_string())
            });
            renderer
                .and_then(|renderer| model.set_renderer(&renderer))
                .map_err(|reason| TrainError::RendererWeights { path, reason })?;
        }
        let moments = Moments::zeros(&model);
        let mut trainer = Self::assemble(settings, source, folder, model, moments, None)?;
        trainer.warnings.append(&mut warnings);
        Ok(trainer)
    }

    /// Resumes a run from its newest readable checkpoint; damaged ones are skipped with a warning. A run without
    /// checkpoints starts from the beginning. `settings` are those of the run ([`RunFolder::settings`]); those about
    /// schedule and computing may have changed.
    ///
    /// # Errors
    /// If there are or were checkpoints and none can be read, if the images or a setting changed that must stay, or the
    /// folder cannot be written to.
    pub fn resume(
        mut settings: Settings,
        source: Arc<dyn Source>,
        folder: RunFolder,
    ) -> Result<Self, TrainError> {
        settings.check()?;
        settings.make_absolute();
        let mut warnings = Vec::new();
        for step in folder.checkpoints()?.into_iter().rev() {
            match Checkpoint::read(&folder.checkpoint(step)) {
                Ok(Checkpoint { model, moments, progress, settings: then }) => {
                    check_unchanged(&settings, &then)?;
                    let mut trainer =
                        Self::assemble(settings, source, folder, model, moments, Some(progress))?;
                    if !warnings.is_empty() {
                        warnings.push(format!("going on from the checkpoint after step {step}"));
                    }
                    trainer.warnings.append(&mut warnings);
                    trainer.repair_model();
                    return Ok(trainer);
                }
                Err(error) => warnings.push(error.to_string()),
            }
        }
        if !warnings.is_empty() {
            let folder = folder.path().to_owned();
            return Err(TrainError::NoCheckpoint { folder, reasons: warnings });
        }
        if folder.model().exists() {
            let model = folder.model();
            return Err(TrainError::CheckpointsGone { folder: folder.path().to_owned(), model });
        }
        Self::begin(settings, source, folder)
    }

    fn assemble(
        mut settings: Settings,
        source: Arc<dyn Source>,
        folder: RunFolder,
        mut model: Model,
        mut moments: Moments,
        progress: Option<Progress>,
    ) -> Result<Self, TrainError> {
        let Split { train, validation } = settings.data.split(source)?;
        let budget = CacheBudget::new(settings.data.cache.saturating_mul(1 << 20));
        let cached = |source: Arc<dyn Source>| -> Arc<dyn Source> {
            Arc::new(Cached::new(source, settings.model.image_size as u32, budget.clone()))
        };
        let [images, held_out]: [Arc<dyn Source>; 2] = match &settings.train.teacher {
            Some(path) => {
                let teacher = teacher(path, settings.embedded_weights, &settings.model)
                    .map_err(|reason| TrainError::Teacher { path: path.clone(), reason })?;
                if teacher.has_seen_truth() {
                    model.set_seen_truth(true);
                }
                let teacher = Arc::new(teacher);
                [
                    Arc::new(Taught::new(train, Arc::clone(&teacher))),
                    Arc::new(Taught::new(validation, teacher)),
                ]
            }
            None if settings.model.uses_truth() => [Arc::new(train), Arc::new(validation)],
            None => [Arc::new(WithoutTruth(train)), Arc::new(validation)],
        };
        let [images, held_out] = [images, held_out].map(cached);
        let batch_size = settings.train.batch_size;
        let objects = (settings.data.pairs == Pairs::Collection).then(|| Objects::of(&*images));
        let examples = objects.as_ref().map_or(images.len(), Objects::len);
        if examples < batch_size as u64 {
            let source_is = objects.map_or_else(|| images.describe(), |all| all.describe(&*images));
            return Err(LoadError::TooFew { source_is, batch_size }.into());
        }
        let found = (images.len(), provenance::names_checksum(&*images));
        let saved = progress;
        let progress =
            saved.unwrap_or(Progress { images: found.0, names_checksum: found.1, ..Progress::default() });
        if (progress.images, progress.names_checksum) != found {
            return Err(TrainError::OtherImages { then: progress.images, now: found.0 });
        }
        if let Some(path) = settings.train.perceptual_features.as_deref()
            && settings.model.needs_vgg()
        {
            model.set_vgg(read_features(path)?);
        }
        if let Some(path) = settings.train.filters.as_deref() {
            model.set_filters(read_filters(path)?);
        }
        moments.keep_ema(&model, settings.train.ema_decay > 0.0).map_err(ModelError::from)?;
        let device = settings.compute.place(&mut model)?;
        moments.to_device(device).map_err(ModelError::from)?;
        let learner = match device {
            Device::Cuda(_)
                if settings.model.supervision == Supervision::None && settings.train.learn == Learn::All =>
            {
                let (train, micro_batch) = (&settings.train, settings.train.micro_batch_on(device));
                let captured = CapturedStep::new(model, moments, train, progress.step, micro_batch)?;
                Learner::Captured(Box::new(captured))
            }
            // Fewer networks: steps that the host directs are quick enough on a GPU, too.
            _ => Learner::Host { model: Box::new(model), moments },
        };
        settings.make_absolute();
        let settings_text = settings.to_toml()?;
        let claim = FolderLock::acquire(folder.path())?;
        folder.make_way()?;
        let write = write_durable(folder.settings(), |out| out.write_all(settings_text.as_bytes()));
        let last = LastSaved(saved.map(|saved| folder.checkpoint(saved.step)));
        write.map_err(|source| TrainError::Write { source, saved: last })?;
        let path = folder.metrics();
        let log = Log::open(&path, &progress).map_err(|source| TrainError::Log { path, source })?;
        let mut warnings = images.warnings();
        warnings.extend(objects.iter().flat_map(Objects::warnings));
        warnings.extend(folder.remove_partial().err().map(|error| error.to_string()));
        Ok(Self {
            settings,
            settings_text,
            folder,
            learner,
            progress,
            images,
            examples,
            held_out,
            log,
            saved,
            warnings,
            _lock: claim,
        })
    }

    /// The model in its present state.
    pub fn model(&self) -> &Model {
        self.learner.model()
    }

    /// Adam's state.
    pub fn moments(&self) -> &Moments {
        self.learner.moments()
    }

    /// The progress of the run.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Trains until the end of the run, or until `stop` is set; then it finishes the step in progress and saves.
    ///
    /// # Errors
    /// If a loss or a gradient is not finite, no image can be read, or the last state cannot be saved. An earlier state
    /// that cannot be saved is a warning, and saving is tried again.
    pub fn run(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome, TrainError> {
        Session::new(self, observer)?.run(stop)
    }

    fn steps_per_epoch(&self) -> u64 {
        self.examples / self.settings.train.batch_size as u64
    }

    /// The step at which the run ends, if its settings limit steps or epochs.
    fn last_step(&self) -> Option<u64> {
        let train = &self.settings.train;
        match (train.steps, train.epochs) {
            (0, 0) => None,
            (0, epochs) => Some(epochs.saturating_mul(self.steps_per_epoch())),
            (steps, _) => Some(steps),
        }
    }

    /// Whether work with a period of `steps` steps (0: an epoch) is due now.
    fn is_due(&self, steps: u64) -> bool {
        let period = if steps == 0 { self.steps_per_epoch() } else { steps };
        self.progress.step > 0 && self.progress.step.is_multiple_of(period)
    }

    /// Whether the present weights are the best ones validated so far.
    fn is_best(&self) -> bool {
        self.progress.best.is_none_or(|best| best.step == self.progress.step)
    }

    /// Writes the weights to use.
    fn write_model(&mut self) -> Result<(), WriteError> {
        let notes = provenance::provenance_notes(&self.progress, &self.settings_text);
        let path = self.folder.model();
        self.learner.with_weights_to_use(|model| {
            write_durable(path, |out| {
                out.write_all(&model.to_safetensors_with(notes).map_err(io::Error::other)?)
            })
        })
    }

    /// Writes the weights to use if the last session ended between a checkpoint and them; no later save would.
    fn repair_model(&mut self) {
        if self.is_best()
            && let Err(error) = self.write_model()
        {
            self.warnings.push(error.to_string());
        }
    }

    fn last_saved(&self) -> LastSaved {
        LastSaved(self.saved.map(|saved| self.folder.checkpoint(saved.step)))
    }
}

/// The bytes of weights: a file, the run in a folder, or embedded weights by their name. Files and runs take precedence
/// over names.
pub(crate) fn weights_at(path: &Path, known: EmbeddedWeights) -> Result<Cow<'static, [u8]>, String> {
    let run = RunFolder::open(path).ok();
    match known.find(path).filter(|_| !path.is_file() && run.is_none()) {
        Some(known) => Ok(known.into()),
        None => {
            let file = run.map_or_else(|| path.to_owned(), |run| run.model());
            std::fs::read(file).map(Cow::Owned).map_err(|error| error.to_string())
        }
    }
}

/// Reads perceptual features from a file.
fn read_features(path: &Path) -> Result<Vgg, TrainError> {
    let unusable = |reason: String| TrainError::Features { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    Vgg::from_safetensors(&bytes).map_err(|VggError::Damaged(reason)| unusable(reason))
}

/// Reads a bank of filters from a file.
fn read_filters(path: &Path) -> Result<FilterBank, TrainError> {
    let unusable = |reason: String| TrainError::Filters { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    filters_from_toml(&text).map_err(|error| unusable(error.to_string()))
}

/// Adds the micro-batch that would fit to an error about memory.
fn advised(error: ModelError, model: &Model, settings: &TrainSettings) -> TrainError {
    if !error.is_out_of_memory() {
        return error.into();
    }
    let (size, micro_batch) = (model.settings().image_size, settings.micro_batch_on(model.device()));
    let fits = ModelError::largest_that_fits(micro_batch, |count| {
        let images = Tensor::full_on(model.device(), [count, size, size, 3], 0.0)?;
        let truth = GroundTruth::unknown(model.device(), count, size)?;
        let objective = Objective::from(1.0).with_truth(Some(&truth));
        // The gradients of one micro-batch are held while those of the next are computed.
        let _kept = model.loss_and_gradients(&images, objective)?;
        model.loss_and_gradients(&images, objective).map(|_| ())
    });
    TrainError::OutOfMemory { source: error, micro_batch, fits }
}

/// Refuses settings that would make another run of this one.
fn check_unchanged(now: &Settings, then: &str) -> Result<(), TrainError> {
    match now.first_forbidden_change(then)? {
        Some(Change { key, now, then }) => Err(TrainError::Changed { key: key.to_owned(), now, then }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
