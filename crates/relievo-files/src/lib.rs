//! Files written whole or not at all, folder locks, and the mark by which relievo knows its own results.
//!
//! [`write_atomic`] writes under a temporary name and renames; [`write_durable`] also waits until file and name are on
//! the disk. A [`FolderLock`] keeps two programs from writing to one folder. [`mark`] names what relievo has made, so
//! that results of one run are never read as photographs by the next.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("results/record.json");
//! relievo_files::write_atomic(&path, |file| writeln!(file, "{{}}"))?;
//! assert_eq!(relievo_files::read(&path)?, b"{}\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic;
mod folder_lock;
pub mod mark;
mod read;

pub use atomic::{WriteError, is_partial, remove_partial, write_atomic, write_by, write_durable};
pub use folder_lock::{FolderLock, FolderLocked};
pub use read::{NotEmptyError, Unreadable, ensure_empty, read, read_to_string};
