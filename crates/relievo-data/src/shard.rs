//! Tar files as a set of images: where each member lies is noted once, and members are read in place.
//!
//! A compressed shard cannot be read in place, so it is unpacked once, when it is opened, into a temporary file
//! that has no name and goes away with the program. Images do not shrink under gzip: plain tar is the better choice.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tar::Archive;

/// A tar file, or what it unpacks to.
pub(crate) enum Shard {
    /// Kept open.
    Open(File),
    /// Opened for each member that is read.
    At(PathBuf),
}

/// A regular file inside a shard.
pub(crate) struct Member {
    /// Its path in the shard, with `/`.
    pub path: String,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
}

impl Shard {
    /// Opens a shard, compressed or not (its first bytes tell), and lists its regular files. One that is not compressed
    /// is left closed unless it is to be `kept_open`: a process may have so many files open only.
    ///
    /// # Errors
    /// If it cannot be read, is no tar file, or ends early: half a shard would be trained on without a word.
    pub fn open(path: &Path, kept_open: bool) -> io::Result<(Self, Vec<Member>)> {
        let mut file = File::open(path)?;
        let mut magic = Vec::new();
        file.by_ref().take(2).read_to_end(&mut magic)?;
        file.rewind()?;
        let is_compressed = magic == [0x1f, 0x8b];
        if is_compressed {
            let mut unpacked = tempfile::tempfile()?;
            io::copy(&mut MultiGzDecoder::new(io::BufReader::new(file)), &mut unpacked)?;
            unpacked.rewind()?;
            file = unpacked;
        }
        let end = file.metadata()?.len();
        let (mut members, mut read_to) = (Vec::new(), 0);
        for entry in Archive::new(&file).entries_with_seek()? {
            let entry = entry?;
            let (offset, bytes) = (entry.raw_file_position(), entry.size());
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let sparse = entry.header().entry_type() == tar::EntryType::GNUSparse;
            let stored = if sparse { entry.header().entry_size()? } else { bytes };
            read_to = offset.saturating_add(stored).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
            if !entry.header().entry_type().is_file() {
                continue;
            }
            if offset.checked_add(bytes).is_none_or(|last| last > end) {
                let missing = format!("it ends in the middle of {path}");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, missing));
            }
            members.push(Member { path, offset, bytes });
        }
        check_end(&file, read_to, end)?;
        let shard = if kept_open || is_compressed { Self::Open(file) } else { Self::At(path.to_owned()) };
        Ok((shard, members))
    }

    /// The bytes of a member.
    pub fn read(&self, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut content = vec![0; bytes as usize];
        match self {
            Self::Open(file) => read_at(file, &mut content, offset)?,
            Self::At(path) => read_at(&File::open(path)?, &mut content, offset)?,
        }
        Ok(content)
    }
}

/// The unit of a tar file, in bytes.
const BLOCK: u64 = 512;

/// More empty bytes than any writer puts at the end of a tar file.
const MOST_EMPTY: u64 = 16 << 20;

/// Checks what lies behind the last member, from `begin` to `end`: an archive that was cut off between two members, or
/// has a hole (a disk that failed, a download that was never filled), reads like a whole one but for this.
fn check_end(file: &File, begin: u64, end: u64) -> io::Result<()> {
    let broken = |what: &str| Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
    let empty = end.saturating_sub(begin);
    if empty < BLOCK {
        return broken("it breaks off: the empty blocks at the end are missing");
    }
    if empty > MOST_EMPTY {
        return broken("it has a hole: its last part is empty");
    }
    let mut rest = vec![0; empty as usize];
    read_at(file, &mut rest, begin)?;
    if rest.iter().any(|byte| *byte != 0) {
        return broken("it has a hole: an empty block with more behind it");
    }
    Ok(())
}

/// Reads at an offset without the file's cursor, so that threads can share the file.
#[cfg(unix)]
fn read_at(file: &File, content: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, content, offset)
}

/// Where there is no such call the threads take turns with the cursor.
#[cfg(not(unix))]
fn read_at(mut file: &File, content: &mut [u8], offset: u64) -> io::Result<()> {
    static CURSOR: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = CURSOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    file.seek(io::SeekFrom::Start(offset))?;
    file.read_exact(content)
}
