//! Folders that one program at a time writes to.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Somebody else writes there.
#[derive(Debug, thiserror::Error)]
#[error("another relievo is writing to {}; wait until it is done, or give another folder", .0.display())]
pub struct FolderLocked(pub PathBuf);

/// A folder is one's own until this is dropped, or the program ends in whatever way.
#[derive(Debug)]
pub struct FolderLock {
    /// The folder itself, open and locked; none where that cannot be done.
    _folder: Option<File>,
}

impl FolderLock {
    /// Claims a folder that is there. It is a lock that programs ask for, and keeps nobody else from writing. Where
    /// folders or a file system cannot be locked (Windows, some networks), everybody gets it.
    ///
    /// # Errors
    /// If another program, or another part of this one, has it.
    pub fn acquire(folder: &Path) -> Result<Self, FolderLocked> {
        let Ok(file) = File::open(folder) else { return Ok(Self { _folder: None }) };
        match file.try_lock() {
            Ok(()) => Ok(Self { _folder: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(FolderLocked(folder.to_owned())),
            Err(TryLockError::Error(_)) => Ok(Self { _folder: None }),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = FolderLock::acquire(root.path()).unwrap();
        let refusal = FolderLock::acquire(root.path()).unwrap_err().to_string();
        assert!(refusal.starts_with("another relievo is writing to /"), "{refusal}");
        drop(first);
        FolderLock::acquire(root.path()).unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
