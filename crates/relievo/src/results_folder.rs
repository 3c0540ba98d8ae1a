//! The folder that results go to: beside what they are of, and never over what is to be read or another's.

use std::fs;
use std::path::{Path, PathBuf};

use relievo_data::naming::{self, InsideError};
use relievo_files::mark::FOLDER_FILE;
use relievo_files::{Unreadable, WriteError, write_atomic};

use crate::naming::{ResultNames, face_stem};
use crate::output::remove_results;

/// How the line of the mark begins that names what the results are of.
const OF: &str = "of: ";

/// A folder that cannot take results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It is the folder of the images itself.
    #[error("{} is the folder of the images", .0.display())]
    HoldsInputs(PathBuf),
    /// A file that is to be read has the name of a result.
    #[error("{} is to be read, and results might be written over it", .0.display())]
    OverInput(PathBuf),
    /// There is a file of that name.
    #[error("{} is a file, not a folder", .0.display())]
    IsFile(PathBuf),
    /// A folder that cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// A folder that results go to. It is made when the first file is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultsFolder {
    path: PathBuf,
    /// What its results are of, for its mark; none if the folder was chosen and may hold other things.
    of: Option<String>,
    /// Whether it was not there before.
    is_new: bool,
}

impl ResultsFolder {
    /// The folder at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { is_new: !path.exists(), path, of: None }
    }

    /// The folder for inputs that were given without one: beside a single one ([`ResultsFolder::beside`]), for several
    /// `results.relievo` in the working folder, or `results-2.relievo` and so on where that is taken by something else.
    pub fn for_inputs<P: AsRef<Path>>(inputs: &[P]) -> Self {
        /// Inputs that a mark names.
        const NAMED: usize = 3;
        if let [input] = inputs {
            return match input.as_ref().to_str() {
                Some("-") => Self::free("stdin", Path::new(""), "standard input".into()),
                _ => Self::beside(input.as_ref()),
            };
        }
        let names: Vec<_> = inputs.iter().map(|input| input.as_ref().to_string_lossy()).collect();
        let further = names.len().saturating_sub(NAMED);
        let named = names[..names.len().min(NAMED)].join(", ");
        let of = if further == 0 { named } else { format!("{named} and {further} more") };
        Self::free("results", Path::new(""), of)
    }

    /// The folder beside an image, or a folder or an archive of images: `NAME.relievo`, or `NAME-2.relievo` and so on
    /// where that is taken by something else than earlier results of the same input.
    pub fn beside(input: &Path) -> Self {
        // A path may end in `..` or be `.`: its own name says what it is.
        let input = input.canonicalize().unwrap_or_else(|_| input.to_owned());
        let of = input.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if input.is_dir() { input.file_name() } else { input.file_stem() };
        let name = name.unwrap_or_default().to_string_lossy().into_owned();
        Self::free(&name, &relative(input.parent().unwrap_or(Path::new(""))), of)
    }

    /// The first of `NAME.relievo`, `NAME-2.relievo`, ... in `parent` that is not there, or holds results of the same.
    fn free(name: &str, parent: &Path, of: String) -> Self {
        let names = std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}-{number}")));
        let mut paths = names.map(|name| parent.join(format!("{name}.relievo")));
        let is_free = |path: &PathBuf| !path.exists() || marked_of(path).is_some_and(|marked| marked == of);
        let path = paths.find(is_free).unwrap_or_default();
        Self { is_new: !path.exists(), path, of: Some(of) }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Marks the folder as one of results, if it was made for them: the next run does not take those for photographs.
    ///
    /// # Errors
    /// If the mark cannot be written.
    pub fn mark(&self) -> Result<(), WriteError> {
        let Some(of) = &self.of else { return Ok(()) };
        write_atomic(self.path.join(FOLDER_FILE), |file| {
            writeln!(
                file,
                "The images in this folder were made by relievo, which does not read them as photographs."
            )?;
            writeln!(file, "{OF}{of}")
        })
    }

    /// Removes the folder again if it was made for results and holds none, because nothing could be written.
    pub fn remove_if_empty(&self) {
        if self.is_new {
            let _ = fs::remove_dir(&self.path);
        }
    }

    /// If the folder lies inside a folder of images: how names of images in it begin.
    ///
    /// # Errors
    /// If it is that folder itself, or a folder cannot be read.
    pub fn inside(&self, images: &Path) -> Result<Option<String>, FolderError> {
        naming::inside(&self.path, images).map_err(|error| match error {
            InsideError::SameFolder(folder) => FolderError::HoldsInputs(folder),
            InsideError::Unreadable(error) => error.into(),
        })
    }

    /// Refuses to write over what is to be read: files that lie in the folder and whose names end as those of results do,
    /// in a dot and one of `endings`, or are among `names`.
    ///
    /// # Errors
    /// If there is such a file, the folder is itself a file, or it cannot be read.
    pub fn spare<'f>(
        &self,
        files: impl Iterator<Item = &'f Path>,
        endings: &[&str],
        names: &[&str],
    ) -> Result<(), FolderError> {
        if let Some(file) = self.path.ancestors().find(|path| path.is_file()) {
            return Err(FolderError::IsFile(file.to_owned()));
        }
        let folder = naming::real_path(&self.path)?;
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let is_result =
                names.contains(&&*name) || endings.iter().any(|ending| name.ends_with(&format!(".{ending}")));
            let is_inside = || file.canonicalize().is_ok_and(|file| file.parent() == Some(&folder));
            if is_result && is_inside() {
                return Err(FolderError::OverInput(file.to_owned()));
            }
        }
        Ok(())
    }

    /// Removes results of an earlier run for faces that this one did not find: those behind the first `faces` of the
    /// image whose results have the name `stem`. Names that this run gave out stay.
    pub fn remove_further_faces(&self, stem: &str, faces: usize, names: &ResultNames) {
        // Faces are numbered without gaps, but for numbers that are other images' names.
        for number in faces.max(1).. {
            let further = face_stem(stem, number);
            if !names.is_taken(&further) && !remove_results(&self.path, &further) {
                break;
            }
        }
    }
}

/// What the results in a marked folder are of.
fn marked_of(folder: &Path) -> Option<String> {
    let mark = fs::read_to_string(folder.join(FOLDER_FILE)).ok()?;
    mark.lines().find_map(|line| line.strip_prefix(OF)).map(str::to_owned)
}

/// A folder below the working folder without what they share: shorter to read.
fn relative(folder: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let below = here.ok().and_then(|here| folder.strip_prefix(here).ok().map(Path::to_owned));
    below.unwrap_or_else(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_lie_beside_their_input_and_never_over_anothers() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let beside = |name: &str| ResultsFolder::beside(&at(name));
        let name = |folder: &ResultsFolder| folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        fs::create_dir(at("faces")).unwrap();
        for file in ["photo.jpg", "photo.png", "faces.tar"] {
            fs::write(at(file), "").unwrap();
        }
        let first = beside("photo.jpg");
        assert_eq!((name(&first), first.path().exists()), ("photo.relievo".into(), false));
        first.mark().unwrap();
        assert_eq!(name(&beside("photo.jpg")), "photo.relievo", "its own earlier results");
        assert_eq!(name(&beside("photo.png")), "photo-2.relievo");
        fs::create_dir(at("faces.relievo")).unwrap();
        assert_eq!([name(&beside("faces")), name(&beside("faces.tar"))], ["faces-2.relievo"; 2]);
    }

    #[test]
    fn results_of_standard_input_have_its_name() {
        let folder = ResultsFolder::for_inputs(&["-"]);
        assert_eq!(folder.path(), Path::new("stdin.relievo"));
    }

    #[test]
    fn a_file_takes_no_results_and_an_empty_folder_does_not_stay() {
        let root = tempfile::tempdir().unwrap();
        let photo = root.path().join("photo.jpg");
        fs::write(&photo, "").unwrap();
        for path in [photo.clone(), photo.join("below")] {
            let error = ResultsFolder::new(path).spare([&*photo].into_iter(), &[], &[]).unwrap_err();
            assert_eq!(error.to_string(), format!("{} is a file, not a folder", photo.display()));
        }
        let made = ResultsFolder::new(root.path().join("results"));
        fs::create_dir(made.path()).unwrap();
        let there = ResultsFolder::new(made.path());
        there.remove_if_empty();
        assert!(made.path().exists(), "it was there before");
        fs::write(made.path().join("a.json"), "").unwrap();
        made.remove_if_empty();
        assert!(made.path().exists(), "it holds results");
        fs::remove_file(made.path().join("a.json")).unwrap();
        made.remove_if_empty();
        assert!(!made.path().exists());
    }

    #[test]
    fn a_folder_that_is_not_there_yet_lies_where_it_will() {
        let root = tempfile::tempdir().unwrap();
        let images = root.path().join("images");
        fs::create_dir(&images).unwrap();
        let inside = |below: &str| ResultsFolder::new(images.join(below)).inside(&images).unwrap();
        assert_eq!(inside("a/b"), Some("a/b/".into()));
        let outside = ResultsFolder::new(root.path().join("out"));
        assert_eq!(outside.inside(&images).unwrap(), None);
        let same = ResultsFolder::new(&images).inside(&images).unwrap_err().to_string();
        assert!(same.ends_with("is the folder of the images"), "{same}");
    }
}
