//! Files that appear whole or not at all.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that could not be written. What was there before under its name is untouched.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {reason}", .path.display())]
pub struct WriteError {
    /// The file that was to be written.
    pub path: PathBuf,
    /// What the system says, and what to do where that is known.
    pub reason: String,
}

/// Writes a file through `content`: first under a temporary name in the same folder, then, when all of it is written,
/// under its own name, which replaces what was there in one step. A crash of the program, a full disk or an error of
/// `content` leaves the old file as it was, and no temporary one. Missing folders are made.
///
/// The writer is buffered. For results that can be made again; what a later call goes on from wants [`write_durable`].
///
/// # Errors
/// Names the path: a folder that cannot be made or written to, a full disk, an error that `content` returned.
pub fn write_atomic(
    path: impl AsRef<Path>,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    write_named(path.as_ref(), content, false)
}

/// As [`write_atomic`], and returns when the file is on the disk: it outlives a power cut too. That takes milliseconds.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_durable(
    path: impl AsRef<Path>,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    write_named(path.as_ref(), content, true)
}

/// Whether a file has the kind of name under which files are written at first.
pub fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".partial")
}

/// Deletes the unfinished files in a folder that a program leaves behind that was killed while it wrote. None may be
/// writing there.
///
/// # Errors
/// If one cannot be deleted.
pub fn remove_partial(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_partial(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn write_named(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    durable: bool,
) -> Result<(), WriteError> {
    write(path, content, durable).map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!("the disk is full ({error}); free some space or write elsewhere")
            }
            io::ErrorKind::PermissionDenied => format!("no permission to write there ({error})"),
            _ => error.to_string(),
        };
        WriteError { path: path.to_owned(), reason }
    })
}

fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    durable: bool,
) -> io::Result<()> {
    // Links are followed, and what is no file (a pipe, a terminal) is written to: it has no old content to keep, and
    // must not give way to a file.
    let linked = if path.is_symlink() { path.canonicalize().ok() } else { None };
    let path = linked.as_deref().unwrap_or(path);
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        let mut writer = BufWriter::new(fs::OpenOptions::new().write(true).open(path)?);
        content(&mut writer)?;
        return writer.flush();
    }
    let name = path.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // Before any work: the rename at the end could not replace a folder either.
    if path.is_dir() {
        return Err(io::Error::other("there is a folder of that name"));
    }
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{}.", name.to_string_lossy());
    builder.prefix(&prefix).suffix(".partial");
    // Temporary files are private by default; this one is going to be an ordinary file (the umask applies).
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // Only the kind of the error: its text would name the temporary file, which says nothing to a person.
    let mut file = builder.tempfile_in(folder).map_err(|error| io::Error::from(error.kind()))?;
    let mut writer = BufWriter::new(file.as_file_mut());
    content(&mut writer)?;
    writer.flush()?;
    drop(writer);
    if durable {
        // Without this a power cut soon after the rename can leave an empty file under the old one's name.
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn folders_are_made_and_files_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c.txt");
        for text in ["first, and longer", "second"] {
            write_atomic(&path, |w| w.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(files(path.parent().unwrap()), ["c.txt"]);
    }

    #[cfg(unix)]
    #[test]
    fn files_have_the_usual_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        write_atomic(root.path().join("atomic"), |_| Ok(())).unwrap();
        fs::write(root.path().join("usual"), b"").unwrap();
        let mode = |name: &str| fs::metadata(root.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("atomic"), mode("usual"));
    }

    #[test]
    fn a_failure_half_way_keeps_the_old_file_and_leaves_no_other() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("checkpoint");
        write_atomic(&path, |w| w.write_all(b"good")).unwrap();
        let error = write_atomic(&path, |w| {
            w.write_all(&[0; 100_000])?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert_eq!(error.path, path);
        let expected = format!("cannot write {}: the disk is full", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"good");
        assert_eq!(files(root.path()), ["checkpoint"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_what_is_no_file_is_written_to() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("there"), "old").unwrap();
        std::os::unix::fs::symlink("there", at("link")).unwrap();
        write_atomic(at("link"), |w| w.write_all(b"new")).unwrap();
        assert!(at("link").is_symlink() && fs::read_to_string(at("there")).unwrap() == "new");
        write_atomic("/dev/null", |w| w.write_all(b"gone")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn impossible_places_are_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), b"").unwrap();
        for place in ["file/below", "folder", ".."] {
            fs::create_dir_all(root.path().join("folder")).unwrap();
            let path = root.path().join(place);
            let error = write_atomic(&path, |w| w.write_all(b"x")).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        assert_eq!(files(root.path()), ["file", "folder"]);
    }
}
