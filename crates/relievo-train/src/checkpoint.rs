//! All that a run is at one moment, in one file.
//!
//! The file is a safetensors file: the parameters under their names, Adam's two means of each under `adam.mean.NAME`
//! and `adam.square.NAME`, their running mean under `average.NAME` if there is one; in the metadata the model's
//! settings (so that every checkpoint is a weights file too), the settings of the run as TOML, the progress as JSON,
//! and the CRC-32 of the tensors' bytes. It is written in a stream, because three times the parameters in memory once
//! more is a lot on a small machine.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relievo_data::{OpenError, Source, Split};
use relievo_model::{Model, Preset, SETTINGS_KEY, WeightsError};
use relievo_tensor::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::settings::DataSettings;

const RUN_KEY: &str = "relievo.run";
const PROGRESS_KEY: &str = "relievo.progress";
const CHECKSUM_KEY: &str = "relievo.checksum";

/// How names of running means of parameters begin.
const EMA: &str = "average.";

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Optimiser steps done. With the number of batches in an epoch it says which batch comes next.
    pub step: u64,
    /// Seconds of training so far, over all sessions.
    pub seconds: f64,
    /// The step after which the model was validated last; 0 if never.
    pub validated: u64,
    /// The step after which a preview was drawn last; 0 if never.
    pub previewed: u64,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Number of images learned from, and a checksum over their names: another set would not continue this run.
    #[serde(alias = "pictures")]
    pub images: u64,
    /// See `images`.
    pub names_checksum: u32,
}

/// The best validation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Best {
    /// The step after which it was reached.
    pub step: u64,
    /// The mean total loss on the images held out.
    pub loss: f32,
}

/// What training remembers of earlier steps, one tensor for each parameter.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Adam's running mean of the gradients.
    pub exp_avg: Vec<Tensor>,
    /// Adam's running mean of the squared gradients.
    pub exp_avg_sq: Vec<Tensor>,
    /// The running mean of the parameters themselves; empty if none is kept.
    pub ema: Vec<Tensor>,
}

impl Moments {
    /// Those of a model that has not learned yet, on the CPU.
    pub fn zeros(model: &Model) -> Self {
        let zeros = || model.parameters().iter().map(|parameter| Tensor::zeros(parameter.shape())).collect();
        Self { exp_avg: zeros(), exp_avg_sq: zeros(), ema: Vec::new() }
    }

    /// Begins the running mean of the parameters with what they are now, unless it has begun; drops it if none is to be
    /// kept. On the CPU.
    ///
    /// # Errors
    /// Those of [`Tensor::new`].
    pub fn keep_ema(&mut self, model: &Model, keep: bool) -> Result<(), relievo_tensor::Error> {
        if !keep {
            self.ema = Vec::new();
        } else if self.ema.is_empty() {
            // Not a clone, which would share the memory: both are changed in place.
            let copy = |parameter: &Tensor| Tensor::new(parameter.data(), parameter.shape());
            self.ema = model.parameters().iter().map(copy).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    /// Moves them to a device.
    ///
    /// # Errors
    /// If the device is not there or out of memory.
    pub fn to_device(&mut self, device: Device) -> Result<(), relievo_tensor::Error> {
        for moments in [&mut self.exp_avg, &mut self.exp_avg_sq, &mut self.ema] {
            *moments = moments.iter().map(|moment| moment.to_device(device)).collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

/// A checkpoint read from a file.
pub struct Checkpoint {
    /// The model with its parameters.
    pub model: Model,
    /// Adam's state.
    pub moments: Moments,
    /// How far the run had come.
    pub progress: Progress,
    /// The settings of the run, as TOML.
    pub settings: String,
}

/// A checkpoint that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("cannot read the checkpoint {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is cut off, damaged, or no checkpoint.
    #[error("the checkpoint {} is damaged or no checkpoint: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its parameters make no model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// The tensor on the CPU.
fn fetch(tensor: &Tensor) -> io::Result<Tensor> {
    tensor.to_device(Device::Cpu).map_err(io::Error::other)
}

/// Writes a checkpoint.
///
/// # Errors
/// Those of the writer.
pub fn write(
    out: &mut dyn Write,
    model: &Model,
    moments: &Moments,
    progress: &Progress,
    settings: &str,
) -> io::Result<()> {
    let infos = model.parameter_infos();
    let Moments { exp_avg, exp_avg_sq, ema } = moments;
    let groups =
        [("", model.parameters()), ("adam.mean.", exp_avg), ("adam.square.", exp_avg_sq), (EMA, ema)];
    let tensors = || groups.iter().flat_map(|(_, tensors)| tensors.iter());

    let mut hasher = crc32fast::Hasher::new();
    for tensor in tensors() {
        in_bytes(fetch(tensor)?.data(), |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
    }
    let metadata = json!({
        SETTINGS_KEY: serde_json::to_string(model.settings())?,
        RUN_KEY: settings,
        PROGRESS_KEY: serde_json::to_string(progress)?,
        CHECKSUM_KEY: format!("{:08x}", hasher.finalize()),
    });
    let mut header = Map::from_iter([("__metadata__".to_owned(), metadata)]);
    let mut begin = 0;
    for (prefix, tensors) in groups {
        for (info, tensor) in infos.iter().zip(tensors) {
            let end = begin + tensor.numel() * size_of::<f32>();
            let entry = json!({"dtype": "F32", "shape": &tensor.shape()[..], "data_offsets": [begin, end]});
            header.insert(format!("{prefix}{}", info.name), entry);
            begin = end;
        }
    }
    let mut header = serde_json::to_string(&Value::Object(header))?;
    // The format asks for data that begins at a multiple of eight bytes, and pads with spaces.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for tensor in tensors() {
        in_bytes(fetch(tensor)?.data(), |bytes| out.write_all(bytes))?;
    }
    Ok(())
}

/// Hands the little-endian bytes of the numbers on, in pieces.
fn in_bytes(numbers: &[f32], mut hand_on: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 16);
    for piece in numbers.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(piece.iter().flat_map(|number| number.to_le_bytes()));
        hand_on(&bytes)?;
    }
    Ok(())
}

/// Where weights come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// How far the run had come when they were saved.
    pub progress: Progress,
    /// The settings of the run, as TOML.
    pub settings: String,
}

/// What goes into the metadata of a run's weights file for [`Provenance::read`].
pub(crate) fn provenance_notes(progress: &Progress, settings: &str) -> [(String, String); 2] {
    let progress = serde_json::to_string(progress).expect("progress is plain numbers");
    [(RUN_KEY.to_owned(), settings.to_owned()), (PROGRESS_KEY.to_owned(), progress)]
}

impl Provenance {
    /// Reads it from the bytes of a weights file or a checkpoint of a run; `None` if they do not say.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
        let notes = metadata.metadata().as_ref()?;
        let progress = serde_json::from_str(notes.get(PROGRESS_KEY)?).ok()?;
        Some(Self { progress, settings: notes.get(RUN_KEY)?.clone() })
    }

    /// The recipe of the run, and with it the kind of object that its images show. The other settings need not be
    /// ones that this version knows; `None` if there is no such preset.
    pub fn preset(&self) -> Option<Preset> {
        let settings: toml::Table = self.settings.parse().ok()?;
        settings.get("preset")?.clone().try_into().ok()
    }

    /// What the run held out, so did not learn from: of its own sources or, if any are named, of those in their place.
    ///
    /// # Errors
    /// If that is not known, the images cannot be read, or they are not those of the run.
    pub fn held_out(&self, sources: &[String]) -> Result<Arc<dyn Source>, HeldOutError> {
        let unknown = |error: toml::de::Error| HeldOutError::Unknown(error.message().to_owned());
        let mut settings: toml::Table = self.settings.parse().map_err(unknown)?;
        let section = settings.remove("data").unwrap_or(toml::Table::new().into());
        let mut data: DataSettings = section.try_into().map_err(unknown)?;
        if !sources.is_empty() {
            data.source = sources.to_vec();
        }
        let Progress { images: then, names_checksum: checksum, .. } = self.progress;
        let others = |now| HeldOutError::OtherImages { then, now };
        // Of too few images all would be held out.
        let split = Split::new(data.open()?, data.holdout()).map_err(|_| others(0))?;
        let Split { train, validation } = split;
        if (train.len(), names_checksum(&train)) != (then, checksum) {
            return Err(others(train.len()));
        }
        if validation.is_empty() {
            return Err(HeldOutError::Nothing);
        }
        Ok(Arc::new(validation))
    }
}

/// Why it cannot be told what a run held out.
#[derive(Debug, thiserror::Error)]
pub enum HeldOutError {
    /// Settings of another version.
    #[error("the settings of the run cannot be read: {0}")]
    Unknown(String),
    /// The images cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// They are others.
    #[error(
        "these are not the images of the run: it learned from {then}, and of these it would have from {now}, or from others; \
         give it the sources it had, in their order"
    )]
    OtherImages {
        /// Number of images it learned from.
        then: u64,
        /// Number of images it would learn from.
        now: u64,
    },
    /// It learned from all.
    #[error("the run held out nothing (--validation 0)")]
    Nothing,
}

/// A checksum over the names of images, in their order.
pub(crate) fn names_checksum(images: &dyn Source) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for index in 0..images.len() {
        hasher.update(images.name(index).as_bytes());
        hasher.update(&[0]);
    }
    hasher.finalize()
}

impl Checkpoint {
    /// Reads what [`write()`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read, is cut off or altered, or its parameters do not fit its settings.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let bytes =
            fs::read(path).map_err(|source| CheckpointError::Unreadable { path: path.to_owned(), source })?;
        let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
        let unreadable = |error: safetensors::SafeTensorError| damaged(format!("{error}; it may be cut off"));
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(unreadable)?;
        let file = SafeTensors::deserialize(&bytes).map_err(unreadable)?;
        let entry = |key: &str| {
            let found = metadata.metadata().as_ref().and_then(|all| all.get(key));
            found.ok_or_else(|| damaged(format!("its metadata has no `{key}`")))
        };
        let checksum = format!("{:08x}", crc32fast::hash(&bytes[size_of::<u64>() + header..]));
        if *entry(CHECKSUM_KEY)? != checksum {
            return Err(damaged("its numbers do not agree with their checksum".into()));
        }
        let progress = serde_json::from_str(entry(PROGRESS_KEY)?)
            .map_err(|error| damaged(format!("its progress is unreadable: {error}")))?;
        let settings = entry(RUN_KEY)?.clone();
        let model = Model::from_safetensors(&bytes, &path.display().to_string())?;
        let group = |prefix: &str| -> Result<Vec<Tensor>, CheckpointError> {
            let tensor = |info: &relievo_nets::ParameterInfo| {
                let name = format!("{prefix}{}", info.name);
                let view = file.tensor(&name).map_err(|error| error.to_string())?;
                if view.dtype() != Dtype::F32 || view.shape() != &info.shape[..] {
                    return Err(format!("{name} is {:?} {:?}", view.dtype(), view.shape()));
                }
                let numbers: Vec<f32> =
                    view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                Tensor::new(&numbers, info.shape).map_err(|error| error.to_string())
            };
            model.parameter_infos().iter().map(|info| tensor(info).map_err(damaged)).collect()
        };
        let has_ema = file.names().iter().any(|name| name.starts_with(EMA));
        let ema = if has_ema { group(EMA)? } else { Vec::new() };
        let moments = Moments { exp_avg: group("adam.mean.")?, exp_avg_sq: group("adam.square.")?, ema };
        Ok(Self { model, moments, progress, settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    fn small() -> (Model, Moments, Progress) {
        let model = Model::new(tiny(), 5).unwrap();
        let mut moments = Moments::zeros(&model);
        moments.keep_ema(&model, true).unwrap();
        let Moments { exp_avg, exp_avg_sq, ema } = &mut moments;
        for (number, tensor) in exp_avg.iter_mut().chain(exp_avg_sq).chain(ema).enumerate() {
            tensor.data_mut().fill(number as f32);
        }
        let best = Some(Best { step: 5, loss: -0.1 });
        let progress = Progress { step: 7, seconds: 0.1, best, images: 9, ..Progress::default() };
        (model, moments, progress)
    }

    fn written() -> Vec<u8> {
        let (model, moments, progress) = small();
        let mut bytes = Vec::new();
        write(&mut bytes, &model, &moments, &progress, "settings").unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Checkpoint, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step");
        fs::write(&path, bytes).unwrap();
        Checkpoint::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_survives_the_file() {
        let (model, moments, progress) = small();
        let again = read(&written()).unwrap();
        let same = |a: &[Tensor], b: &[Tensor]| {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| assert_eq!((a.shape(), a.data()), (b.shape(), b.data())));
        };
        same(again.model.parameters(), model.parameters());
        same(&again.moments.exp_avg, &moments.exp_avg);
        same(&again.moments.exp_avg_sq, &moments.exp_avg_sq);
        same(&again.moments.ema, &moments.ema);
        assert_eq!((again.progress, again.settings.as_str()), (progress, "settings"));
    }

    #[test]
    fn a_checkpoint_is_a_weights_file() {
        let model = Model::from_safetensors(&written(), "step").unwrap();
        assert_eq!(model.settings(), small().0.settings());
    }

    #[test]
    fn weights_and_checkpoints_say_where_they_come_from() {
        let (model, _, progress) = small();
        let expected = Some(Provenance { progress, settings: "settings".into() });
        let weights = model.to_safetensors_with(provenance_notes(&progress, "settings")).unwrap();
        assert_eq!(Provenance::read(&weights), expected);
        assert_eq!(Provenance::read(&written()), expected);
        assert_eq!(Provenance::read(&model.to_safetensors().unwrap()), None);
        assert_eq!(Model::from_safetensors(&weights, "weights").unwrap().settings(), model.settings());
    }

    #[test]
    fn the_preset_is_told_whatever_else_stands_in_the_settings() {
        let of = |settings: &str| Provenance { progress: small().2, settings: settings.into() }.preset();
        assert_eq!(of("preset = \"cat\"\n[train]\nsetting-of-tomorrow = 3\n"), Some(Preset::Cat));
        assert_eq!(of("# a comment\npreset = \"synthetic-face\""), Some(Preset::SyntheticFace));
        for unknown in ["", "preset = 3", "preset = \"horse\"", "[data]\npreset = \"cat\"", "not TOML"] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let good = written();
        for length in [0, 5, 1000, good.len() / 2, good.len() - 1] {
            let message = read(&good[..length]).err().unwrap();
            assert!(message.contains("is damaged or no checkpoint"), "{message}");
        }
        let mut altered = good.clone();
        let middle = good.len() * 2 / 3;
        altered[middle] ^= 1;
        assert!(read(&altered).err().unwrap().contains("checksum"));
        let weights = small().0.to_safetensors().unwrap();
        assert!(read(&weights).err().unwrap().contains("has no `relievo."));
    }

    #[test]
    fn a_full_disk_is_an_error() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.0 < bytes.len() {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0 -= bytes.len();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (model, moments, progress) = small();
        let error = write(&mut Full(100_000), &model, &moments, &progress, "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
