//! Reading, with the path in the error.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file or folder that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", .path.display())]
pub struct Unreadable {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl Unreadable {
    /// Puts the path to an error of the system, for `map_err`.
    pub fn at(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self { path: path.to_owned(), source }
    }
}

/// The bytes of a file.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, Unreadable> {
    fs::read(path).map_err(Unreadable::at(path))
}

/// The text of a file.
///
/// # Errors
/// If it cannot be read or is not UTF-8.
pub fn read_to_string(path: &Path) -> Result<String, Unreadable> {
    fs::read_to_string(path).map_err(Unreadable::at(path))
}

/// A folder that should be empty and is not known to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotEmptyError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// There is something in it.
    #[error("{} is not empty ({found} is there)", .folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
        /// A file or folder in it.
        found: String,
    },
}

/// Checks that a folder holds nothing over which the results of a whole folder might be written. Hidden files do not
/// count; a folder that does not exist is empty.
///
/// # Errors
/// If it holds something, or cannot be read.
pub fn ensure_empty(folder: &Path) -> Result<(), NotEmptyError> {
    if !folder.exists() {
        return Ok(());
    }
    let entries = folder.read_dir().map_err(Unreadable::at(folder))?;
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    let found = names.map(|name| name.to_string_lossy().into_owned()).find(|name| !name.starts_with('.'));
    found.map_or(Ok(()), |found| Err(NotEmptyError::NotEmpty { folder: folder.to_owned(), found }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_path() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("missing");
        let expected = format!("cannot read {}: ", path.display());
        assert!(read(&path).unwrap_err().to_string().starts_with(&expected));
        assert!(read_to_string(&path).unwrap_err().to_string().starts_with(&expected));
    }

    #[test]
    fn only_what_is_seen_makes_a_folder_full() {
        let root = tempfile::tempdir().unwrap();
        ensure_empty(&root.path().join("missing")).unwrap();
        fs::write(root.path().join(".hidden"), "").unwrap();
        ensure_empty(root.path()).unwrap();
        fs::write(root.path().join("notes.txt"), "").unwrap();
        let refusal = ensure_empty(root.path()).unwrap_err().to_string();
        assert!(refusal.ends_with(" is not empty (notes.txt is there)"), "{refusal}");
    }
}
