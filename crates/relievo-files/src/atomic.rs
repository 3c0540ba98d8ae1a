//! Files that appear whole or not at all.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

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
    named(path.as_ref(), |path| write(path, content, None))
}

/// As [`write_atomic`], and returns when the file and its name are on the disk: it outlives a power cut too. That takes
/// milliseconds.
///
/// # Errors
/// As [`write_atomic`]; if the disk cannot confirm.
pub fn write_durable(
    path: impl AsRef<Path>,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    named(path.as_ref(), |path| write(path, content, Some(&sync_folder)))
}

/// As [`write_atomic`], for what writes to a path and not to a writer (another program): `make` gets the temporary one.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_by(
    path: impl AsRef<Path>,
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), WriteError> {
    named(path.as_ref(), |path| replace(path, |file| make(file.path()), None))
}

/// Whether a file has the kind of name under which files are written at first.
pub fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".partial")
}

/// Deletes the temporary files in a folder that a program leaves behind when it is killed while it writes. No program
/// may be writing there.
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

fn named(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), WriteError> {
    write(path).map_err(|error| {
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

/// What puts a folder's list of names on the disk, or `None` where a power cut may undo the writing.
type SyncFolder<'a> = Option<&'a dyn Fn(&Path) -> io::Result<()>>;

fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    sync: SyncFolder<'_>,
) -> io::Result<()> {
    // Links are followed, and what is not a file (a pipe, a terminal) is written to directly: it has no old content to
    // keep, and a file must not take its place.
    let linked = if path.is_symlink() { path.canonicalize().ok() } else { None };
    let path = linked.as_deref().unwrap_or(path);
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        let mut writer = BufWriter::new(fs::OpenOptions::new().write(true).open(path)?);
        content(&mut writer)?;
        return writer.flush();
    }
    let through = |file: &mut NamedTempFile| {
        let mut writer = BufWriter::new(file.as_file_mut());
        content(&mut writer)?;
        writer.flush()
    };
    replace(path, through, sync)
}

/// Fills a temporary file beside `path` and renames it to that.
fn replace(
    path: &Path,
    fill: impl FnOnce(&mut NamedTempFile) -> io::Result<()>,
    sync: SyncFolder<'_>,
) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?;
    let folder = above(path);
    let made: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(folder)?;
    // Before any work: the rename at the end could not replace a folder either.
    if path.is_dir() {
        return Err(io::Error::other("there is a folder of that name"));
    }
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{}.", shortened(&name.to_string_lossy()));
    builder.prefix(&prefix).suffix(".partial");
    // Temporary files are private by default; this one is going to be an ordinary file (the umask applies).
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // Only the kind of the error: its text would name the temporary file, which says nothing to a person.
    let mut file = builder.tempfile_in(folder).map_err(|error| io::Error::from(error.kind()))?;
    fill(&mut file)?;
    if sync.is_some() {
        // Without this a power cut soon after the rename can leave an empty file under the old one's name.
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|error| error.error)?;
    if let Some(sync) = sync {
        // The new name stands in the folder, and each new folder's name in the one above.
        sync(folder)?;
        made.iter().map(|folder| above(folder)).try_for_each(sync)?;
    }
    Ok(())
}

/// The folder that holds a file or folder.
fn above(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The beginning of a name, so that prefix, suffix and what makes it unique fit into the 255 bytes of a file system.
fn shortened(name: &str) -> &str {
    let end = (0..=name.len().min(200)).rev().find(|at| name.is_char_boundary(*at));
    &name[..end.unwrap_or(0)]
}

/// Puts the names in a folder on the disk. Some file systems (on networks, mostly) cannot, and say so.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match fs::File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    }
}

/// Folders cannot be opened as files here; the system's journal keeps the names.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
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

    #[test]
    fn names_of_files_and_of_new_folders_are_synced() {
        let root = tempfile::tempdir().unwrap();
        let synced = std::cell::RefCell::new(Vec::new());
        let sync = |folder: &Path| {
            // By then the name is there.
            assert!(root.path().join("a/b/c").exists());
            synced.borrow_mut().push(folder.to_owned());
            Ok(())
        };
        let path = root.path().join("a/b/c");
        write(&path, |file| file.write_all(b"x"), Some(&sync)).unwrap();
        assert_eq!(
            synced.take(),
            ["a/b", "a", ""]
                .map(|below| root.path().join(below))
                .map(|path| path.components().collect::<PathBuf>())
        );
        write(&path, |file| file.write_all(b"y"), Some(&sync)).unwrap();
        assert_eq!(synced.take(), [root.path().join("a/b")]);
        sync_folder(root.path()).unwrap();
        assert!(sync_folder(&root.path().join("missing")).is_err());
    }

    #[test]
    fn what_another_program_makes_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("library.so");
        write_by(&path, |temporary| fs::write(temporary, b"code")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"code");
        write_by(&path, |temporary| {
            fs::write(temporary, b"half")?;
            Err(io::Error::other("the compiler failed"))
        })
        .unwrap_err();
        assert_eq!((fs::read(&path).unwrap(), files(root.path()).len()), (b"code".to_vec(), 1));
    }

    #[test]
    fn names_may_be_as_long_as_the_file_system_lets_them() {
        let root = tempfile::tempdir().unwrap();
        let name = "ä".repeat(120);
        write_atomic(root.path().join(&name), |file| file.write_all(b"x")).unwrap();
        assert_eq!(files(root.path()), [name]);
    }
}
