//! The state of a run, in one file.
//!
//! The file is a safetensors file: the parameters under their names, Adam's two means of each under `adam.mean.NAME`
//! and `adam.square.NAME`, their running mean under `average.NAME` if there is one; in the metadata the model's
//! settings (so that every checkpoint is a weights file too), the settings of the run as TOML, the progress as JSON,
//! and a checksum: the CRC-32 of the tensors' bytes and that of the header, eight hexadecimal digits each. The header's
//! is taken with zeros in its own place. (Files of version 0.1 have the tensors' alone.) The file is written in a stream:
//! a second copy of three times the parameters would be a lot of memory on a small machine.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use relievo_files::Unreadable;
use relievo_model::{Model, RUN_KEY, SETTINGS_KEY, WeightsError};
use relievo_nets::ParameterInfo;
use relievo_tensor::safetensors::SafetensorsFile;
use relievo_tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::optimiser::Moments;

pub(crate) const PROGRESS_KEY: &str = "relievo.progress";
const CHECKSUM_KEY: &str = "relievo.checksum";
/// Digits of the checksum of version 0.1, which is that of the tensors alone.
const LENGTH_IN_0_1: usize = 8;

/// Prefix of the names of the parameters' running means.
const EMA: &str = "average.";

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Optimiser steps taken. With the number of batches in an epoch this determines the next batch.
    pub step: u64,
    /// Seconds of training so far, over all sessions.
    pub seconds: f64,
    /// The step after which the model was last validated; 0 if never.
    pub validated: u64,
    /// The step after which a preview was last drawn; 0 if never.
    pub previewed: u64,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Number of training images. With the checksum over their names it identifies the set: another one would not
    /// continue this run.
    #[serde(alias = "pictures")]
    pub images: u64,
    /// CRC-32 over the names of the training images, in their order.
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

/// A checkpoint read from a file.
pub struct Checkpoint {
    /// The model with its parameters.
    pub model: Model,
    /// Adam's state.
    pub moments: Moments,
    /// The progress of the run.
    pub progress: Progress,
    /// The settings of the run, as TOML.
    pub settings: String,
}

/// A checkpoint that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The file is cut off, damaged, or no checkpoint.
    #[error("the checkpoint {} is damaged or no checkpoint: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
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
pub(crate) fn write(
    out: &mut dyn Write,
    model: &Model,
    moments: &Moments,
    progress: &Progress,
    settings: &str,
) -> io::Result<()> {
    let mut notes =
        Map::from_iter([(SETTINGS_KEY.to_owned(), serde_json::to_string(model.settings())?.into())]);
    for (key, note) in model.supervision_notes() {
        notes.insert(key.to_owned(), note.into());
    }
    write_state(out, (model.parameter_infos(), model.parameters()), moments, progress, settings, notes)
}

/// Writes the state of anything that is learned by Adam: its parameters, and `notes` for the metadata.
///
/// # Errors
/// Those of the writer.
pub(crate) fn write_state(
    out: &mut dyn Write,
    (infos, parameters): (&[ParameterInfo], &[Tensor]),
    moments: &Moments,
    progress: &Progress,
    settings: &str,
    notes: Map<String, Value>,
) -> io::Result<()> {
    let Moments { exp_avg, exp_avg_sq, ema } = moments;
    let groups = [("", parameters), ("adam.mean.", exp_avg), ("adam.square.", exp_avg_sq), (EMA, ema)];
    let tensors = || groups.iter().flat_map(|(_, tensors)| tensors.iter());

    let mut hasher = crc32fast::Hasher::new();
    for tensor in tensors() {
        in_bytes(fetch(tensor)?.data(), |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
    }
    let data = hasher.finalize();
    let mut metadata = notes;
    metadata.insert(RUN_KEY.to_owned(), settings.into());
    metadata.insert(PROGRESS_KEY.to_owned(), serde_json::to_string(progress)?.into());
    metadata.insert(CHECKSUM_KEY.to_owned(), checksums(data, 0).into());
    let mut header = Map::from_iter([("__metadata__".to_owned(), Value::Object(metadata))]);
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
    let complete = checksums(data, crc32fast::hash(header.as_bytes()));
    let header = with_checksums(&header, &checksums(data, 0), &complete);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for tensor in tensors() {
        in_bytes(fetch(tensor)?.data(), |bytes| out.write_all(bytes))?;
    }
    Ok(())
}

/// The checksums of the tensors' bytes and of the header as they stand in the metadata.
fn checksums(data: u32, header: u32) -> String {
    format!("{data:08x}{header:08x}")
}

/// The header with other checksums. In a string of the header, the run's settings for instance, the quotes around the key
/// would be escaped, so the first place that fits is the only one.
fn with_checksums(header: &str, old: &str, new: &str) -> String {
    let entry = |checksums: &str| format!("\"{CHECKSUM_KEY}\":\"{checksums}\"");
    header.replacen(&entry(old), &entry(new), 1)
}

/// The checksums of a file with this `header` and these `data` of tensors, in the form (of this version or of 0.1) of the
/// `stored` ones.
fn expected_checksums(header: &[u8], data: &[u8], stored: &str) -> String {
    let data = crc32fast::hash(data);
    if stored.len() == LENGTH_IN_0_1 {
        return format!("{data:08x}");
    }
    let blank = with_checksums(&String::from_utf8_lossy(header), stored, &checksums(data, 0));
    checksums(data, crc32fast::hash(blank.as_bytes()))
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

impl Checkpoint {
    /// Reads the checkpoint of a run.
    ///
    /// # Errors
    /// If the file cannot be read, is cut off or altered, or its parameters do not fit its settings.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = relievo_files::read(path)?;
        let model = |origin: &str| Model::from_safetensors(&bytes, origin);
        let (model, State { moments, progress, settings }) =
            State::read(&bytes, path, model, Model::parameter_infos)?;
        Ok(Self { model, moments, progress, settings })
    }
}

/// What a checkpoint has besides what was learned.
pub(crate) struct State {
    pub moments: Moments,
    pub progress: Progress,
    pub settings: String,
}

impl State {
    /// Reads what was learned by `learned`, which gets the file's name for its messages, and the state around it from the
    /// `bytes` of the checkpoint at `path`.
    pub fn read<T>(
        bytes: &[u8],
        path: &Path,
        learned: impl FnOnce(&str) -> Result<T, WeightsError>,
        infos: impl FnOnce(&T) -> &[ParameterInfo],
    ) -> Result<(T, Self), CheckpointError> {
        let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
        let file = SafetensorsFile::open(bytes).map_err(|error| damaged(error.to_string()))?;
        let entry =
            |key: &str| file.metadata(key).ok_or_else(|| damaged(format!("its metadata has no `{key}`")));
        let stored = entry(CHECKSUM_KEY)?;
        if stored != expected_checksums(file.header(), file.content(), stored) {
            return Err(damaged("its contents do not agree with their checksum".into()));
        }
        let progress = serde_json::from_str(entry(PROGRESS_KEY)?)
            .map_err(|error| damaged(format!("its progress is unreadable: {error}")))?;
        let settings = entry(RUN_KEY)?.to_owned();
        let learned = learned(&path.display().to_string())?;
        let infos = infos(&learned);
        let group = |prefix: &str| -> Result<Vec<Tensor>, CheckpointError> {
            let tensor = |info: &ParameterInfo| {
                let name = format!("{prefix}{}", info.name);
                file.tensor(&name, info.shape).map_err(|error| error.to_string())
            };
            infos.iter().map(|info| tensor(info).map_err(damaged)).collect()
        };
        let has_ema = file.names().any(|name| name.starts_with(EMA));
        let ema = if has_ema { group(EMA)? } else { Vec::new() };
        let moments = Moments { exp_avg: group("adam.mean.")?, exp_avg_sq: group("adam.square.")?, ema };
        Ok((learned, Self { moments, progress, settings }))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    pub(crate) fn small() -> (Model, Moments, Progress) {
        let model = Model::new(relievo_model::ModelSettings::tiny(), 5).unwrap();
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

    /// A checkpoint of [`small`].
    pub(crate) fn written() -> Vec<u8> {
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
    fn a_checkpoint_says_whether_truth_was_used() {
        let settings =
            relievo_model::ModelSettings { truth_weight: 1.0, ..relievo_model::ModelSettings::tiny() };
        let truth = Model::new(settings, 5).unwrap().to_safetensors().unwrap();
        let (mut model, moments, progress) = small();
        assert!(!read(&written()).unwrap().model.has_seen_truth());
        model.take_over(&truth).unwrap();
        let mut bytes = Vec::new();
        write(&mut bytes, &model, &moments, &progress, "settings").unwrap();
        assert!(read(&bytes).unwrap().model.has_seen_truth());
    }

    #[test]
    fn a_checkpoint_is_a_weights_file() {
        let model = Model::from_safetensors(&written(), "step").unwrap();
        assert_eq!(model.settings(), small().0.settings());
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
    fn no_part_of_the_header_can_change_unnoticed() {
        let good = written();
        let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        let progress = good.windows(11).position(|part| part == b"\\\"step\\\":7,").unwrap();
        for at in (8..8 + header).step_by(61).chain([progress + 9]) {
            let mut altered = good.clone();
            altered[at] ^= 1;
            let message = read(&altered).err().unwrap_or_else(|| panic!("byte {at} of the header"));
            assert!(message.contains("is damaged or no checkpoint"), "{message}");
        }
    }

    #[test]
    fn a_checkpoint_of_version_0_1_is_read() {
        let mut bytes = written();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
        let at = header.find(CHECKSUM_KEY).unwrap() + CHECKSUM_KEY.len() + 3;
        // The tensors' checksum alone, and spaces at the end for the eight digits that are gone.
        let older = format!("{}{}        ", &header[..at + 8], &header[at + 16..]);
        bytes[8..8 + length].copy_from_slice(older.as_bytes());
        assert_eq!(read(&bytes).unwrap().progress, small().2);
        bytes[8 + length + 5] ^= 1;
        assert!(read(&bytes).err().unwrap().contains("checksum"));
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
