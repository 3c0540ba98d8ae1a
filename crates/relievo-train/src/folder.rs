//! The folder of a run and the files in it.
//!
//! ```text
//! settings.toml                            every setting, explained
//! metrics.jsonl                            one line for every logged step and every validation
//! curves.png                               the log drawn, as of the last validation
//! model.safetensors                        the weights of the best validation, or the last without validation
//! checkpoints/step-0001234.safetensors     everything needed to resume: the last ones and the best
//! preview/epoch-003.png                    reconstructions of a few images held out
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use relievo_files::{is_partial, remove_partial};

const SETTINGS: &str = "settings.toml";
const METRICS: &str = "metrics.jsonl";
const CURVES: &str = "curves.png";
const MODEL: &str = "model.safetensors";
const CHECKPOINTS: &str = "checkpoints";
const PREVIEW: &str = "preview";

/// A run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
    /// Whether a run in it is deleted for a new one.
    overwrite: bool,
}

/// A folder that cannot be used for a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It is not empty.
    #[error("{} is not empty", .0.display())]
    Occupied(PathBuf),
    /// It holds other things than a run.
    #[error("{} holds other things than a run, so it is not overwritten", .0.display())]
    Foreign(PathBuf),
    /// No run in it.
    #[error("{} holds no run (there is no {SETTINGS} in it)", .0.display())]
    NoRun(PathBuf),
    /// It cannot be read or written.
    #[error("cannot use the folder {}: {source}", .path.display())]
    Unusable {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl RunFolder {
    /// A folder for a new run, created if it does not exist. It must be empty; with `overwrite` it may hold a run, which
    /// [`Trainer::begin`] deletes once nothing else can fail.
    ///
    /// [`Trainer::begin`]: crate::Trainer::begin
    ///
    /// # Errors
    /// If the folder is not empty, or, with `overwrite`, holds anything that is not of a run.
    pub fn create(path: impl Into<PathBuf>, overwrite: bool) -> Result<Self, FolderError> {
        let folder = Self { path: path.into(), overwrite };
        fs::create_dir_all(&folder.path).map_err(|source| folder.unusable(source))?;
        let names = names_in(&folder.path).map_err(|source| folder.unusable(source))?;
        if names.iter().all(|name| is_partial(name)) {
            return Ok(folder);
        }
        if !overwrite {
            return Err(FolderError::Occupied(folder.path));
        }
        let of_a_run = [SETTINGS, METRICS, CURVES, MODEL, CHECKPOINTS, PREVIEW];
        let only = |folder: PathBuf, ending: &str| {
            let names = names_in(&folder).unwrap_or_default();
            names.iter().all(|name| name.ends_with(ending) || is_partial(name))
        };
        let is_a_run = folder.settings().is_file()
            && names.iter().all(|name| of_a_run.contains(&name.as_str()) || is_partial(name))
            && only(folder.path.join(CHECKPOINTS), ".safetensors")
            && only(folder.path.join(PREVIEW), ".png");
        if !is_a_run {
            return Err(FolderError::Foreign(folder.path));
        }
        Ok(folder)
    }

    /// Deletes the run that a new one may replace.
    pub(crate) fn make_way(&self) -> Result<(), FolderError> {
        if !self.overwrite {
            return Ok(());
        }
        for name in names_in(&self.path).map_err(|source| self.unusable(source))? {
            let path = self.path.join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|source| FolderError::Unusable { path, source })?;
        }
        Ok(())
    }

    /// The folder of an existing run.
    ///
    /// # Errors
    /// If there is no run in it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FolderError> {
        let folder = Self { path: path.into(), overwrite: false };
        if folder.settings().is_file() { Ok(folder) } else { Err(FolderError::NoRun(folder.path)) }
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the settings.
    pub fn settings(&self) -> PathBuf {
        self.path.join(SETTINGS)
    }

    /// The log.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// The log drawn.
    pub(crate) fn curves(&self) -> PathBuf {
        self.path.join(CURVES)
    }

    /// The weights to use.
    pub fn model(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// The checkpoint after `step` steps.
    pub(crate) fn checkpoint(&self, step: u64) -> PathBuf {
        self.path.join(CHECKPOINTS).join(format!("step-{step:07}.safetensors"))
    }

    /// A preview sheet, `name` without extension.
    pub(crate) fn preview(&self, name: &str) -> PathBuf {
        self.path.join(PREVIEW).join(format!("{name}.png"))
    }

    /// The steps after which there is a checkpoint, in order.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(crate) fn checkpoints(&self) -> Result<Vec<u64>, FolderError> {
        let path = self.path.join(CHECKPOINTS);
        let names = match names_in(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.map_err(|source| FolderError::Unusable { path, source })?,
        };
        let step = |name: &String| name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
        let mut steps: Vec<u64> = names.iter().filter_map(step).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Deletes the checkpoints up to step `newest`, except the last `keep` of them and the one after step `best`.
    /// Checkpoints beyond `newest` are damaged, or the run would have resumed from them; they are neither deleted nor
    /// counted, so that they do not displace a good one.
    ///
    /// # Errors
    /// If one cannot be deleted.
    pub(crate) fn prune(&self, newest: u64, keep: usize, best: Option<u64>) -> Result<(), FolderError> {
        let mut steps = self.checkpoints()?;
        steps.retain(|step| *step <= newest);
        for &step in &steps[..steps.len().saturating_sub(keep)] {
            if best != Some(step) {
                let path = self.checkpoint(step);
                fs::remove_file(&path).map_err(|source| FolderError::Unusable { path, source })?;
            }
        }
        Ok(())
    }

    /// Deletes the unfinished files of a program that was killed while it wrote.
    ///
    /// # Errors
    /// If one cannot be deleted.
    pub(crate) fn remove_partial(&self) -> Result<(), FolderError> {
        for path in [self.path.clone(), self.path.join(CHECKPOINTS), self.path.join(PREVIEW)] {
            remove_partial(&path).map_err(|source| FolderError::Unusable { path, source })?;
        }
        Ok(())
    }

    fn unusable(&self, source: io::Error) -> FolderError {
        FolderError::Unusable { path: self.path.clone(), source }
    }
}

fn names_in(path: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_overwritten_without_being_told() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/run");
        let folder = RunFolder::create(&path, false).unwrap();
        assert_eq!(
            RunFolder::open(&path).unwrap_err().to_string(),
            FolderError::NoRun(path.clone()).to_string()
        );
        fs::write(folder.settings(), "").unwrap();
        fs::create_dir(path.join("preview")).unwrap();
        assert_eq!(RunFolder::open(&path).unwrap(), folder);
        assert!(matches!(RunFolder::create(&path, false), Err(FolderError::Occupied(_))));
        fs::write(path.join("thesis.tex"), "").unwrap();
        assert!(matches!(RunFolder::create(&path, true), Err(FolderError::Foreign(_))));
        assert!(folder.settings().exists());
        fs::rename(path.join("thesis.tex"), path.join("preview/thesis.tex")).unwrap();
        assert!(matches!(RunFolder::create(&path, true), Err(FolderError::Foreign(_))));
        fs::remove_file(path.join("preview/thesis.tex")).unwrap();
        fs::write(path.join(".model.safetensors.x7Qa.partial"), "").unwrap();
        let overwritten = RunFolder::create(&path, true).unwrap();
        assert!(folder.settings().exists());
        overwritten.make_way().unwrap();
        assert!(names_in(&path).unwrap().is_empty());
        // Unfinished files of a program that was killed before its first one do not count.
        fs::write(path.join(".settings.toml.x7Qa.partial"), "").unwrap();
        RunFolder::create(&path, false).unwrap();
    }

    #[test]
    fn the_last_and_the_best_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(root.path(), false).unwrap();
        assert!(folder.checkpoints().unwrap().is_empty());
        fs::create_dir(root.path().join("checkpoints")).unwrap();
        fs::write(root.path().join("checkpoints/notes.txt"), "").unwrap();
        for step in [10, 2_000, 300, 12_345_678] {
            fs::write(folder.checkpoint(step), "").unwrap();
        }
        assert_eq!(folder.checkpoints().unwrap(), [10, 300, 2_000, 12_345_678]);
        folder.prune(12_345_678, 2, Some(10)).unwrap();
        assert_eq!(folder.checkpoints().unwrap(), [10, 2_000, 12_345_678]);
        folder.prune(2_000, 1, None).unwrap();
        assert_eq!(folder.checkpoints().unwrap(), [2_000, 12_345_678]);
    }

    #[test]
    fn what_a_killed_program_leaves_is_swept_up() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(root.path(), false).unwrap();
        folder.remove_partial().unwrap();
        let mut halves = vec![root.path().join(".settings.toml.Ab12.partial")];
        for part in [CHECKPOINTS, PREVIEW] {
            fs::create_dir(root.path().join(part)).unwrap();
            halves.push(root.path().join(part).join(".file.Ab12.partial"));
        }
        halves.iter().for_each(|half| fs::write(half, "").unwrap());
        fs::write(folder.checkpoint(3), "").unwrap();
        folder.remove_partial().unwrap();
        assert!(halves.iter().all(|half| !half.exists()) && folder.checkpoint(3).exists());
    }
}
