//! Archives as sets of images: where each member lies is noted once, and members are read in place.
//!
//! A compressed tar file cannot be read in place, so it is unpacked once, when it is opened, into a temporary file
//! that has no name and goes away with the program. Images do not shrink by compression: plain tar is the better choice.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use relievo_zip::{self as zip, Packed, ReadAt};
use ruzstd::decoding::StreamingDecoder;
use tar::Archive;

use crate::decode::format::{Content, HEAD};

/// Compressed archives may grow to so many times their size, and [`ROOM`] bytes more, when they are unpacked. Images
/// hardly grow; what grows more is made to fill the disk.
const MOST_GROWTH: u64 = 100;

/// See [`MOST_GROWTH`].
const ROOM: u64 = 256 << 20;

/// An archive, or the tar file that it unpacks to.
pub(crate) enum Shard {
    /// Kept open.
    Open(File),
    /// Opened for each member that is read.
    At(PathBuf),
}

/// What is in a shard.
pub(crate) struct Listing {
    /// Its regular files.
    pub members: Vec<Member>,
    /// Paths of files in it that cannot be read: encrypted, or packed in a way that is not known.
    pub unread: Vec<String>,
}

/// A regular file inside a shard.
pub(crate) struct Member {
    /// Its path in the shard, with `/`.
    pub path: String,
    /// Where it is.
    pub place: Place,
}

/// Where a member lies.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// As it is.
    Plain {
        /// Where it begins.
        offset: u64,
        /// How many bytes it has.
        bytes: u64,
    },
    /// In a zip archive.
    Zip(Packed),
}

impl Place {
    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Plain { bytes, .. } => *bytes,
            Self::Zip(packed) => packed.bytes,
        }
    }
}

/// An archive that cannot be used.
pub(crate) enum ShardError {
    /// It cannot be read, or is damaged.
    Io(io::Error),
    /// It is of a kind that is not read.
    Unsupported(&'static str),
    /// It grows beyond a limit when it is unpacked, in bytes.
    Grows(u64),
}

impl From<io::Error> for ShardError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Shard {
    /// Opens an archive, whose first bytes tell its kind, and lists what is in it. It is left closed unless it is to be `kept_open` or was unpacked: a process may have only
    /// so many files open.
    ///
    /// # Errors
    /// If it cannot be read, is no archive, or ends early: half a shard would be trained on without a word.
    pub fn open(path: &Path, kept_open: bool) -> Result<(Self, Listing), ShardError> {
        let (file, is_unpacked, listing) = list(File::open(path)?)?;
        // What was unpacked has no name, so it stays open.
        let shard = if kept_open || is_unpacked { Self::Open(file) } else { Self::At(path.to_owned()) };
        Ok((shard, listing))
    }

    /// As [`Shard::open`], of an open file, which stays open.
    pub fn from_file(file: File) -> Result<(Self, Listing), ShardError> {
        let (file, _, listing) = list(file)?;
        Ok((Self::Open(file), listing))
    }

    /// The first `most` bytes of a member, or all of it.
    pub fn read(&self, place: &Place, most: u64) -> io::Result<Vec<u8>> {
        let opened;
        let file = match self {
            Self::Open(file) => file,
            Self::At(path) => {
                opened = File::open(path)?;
                &opened
            }
        };
        match place {
            Place::Plain { offset, bytes } => {
                let mut content = vec![0; most.min(*bytes) as usize];
                file.read_at(&mut content, *offset)?;
                Ok(content)
            }
            Place::Zip(packed) => packed.read(file, most),
        }
    }
}

/// The archive, or the tar file that it unpacks to, whether it was unpacked, and what is in it.
fn list(mut file: File) -> Result<(File, bool, Listing), ShardError> {
    let mut head = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    file.rewind()?;
    let limit = ROOM + MOST_GROWTH * file.metadata()?.len();
    let unpacked = match Content::from_head(&head) {
        Content::Archive("a zip archive") => {
            let (entries, unread) = zip::entries(&file)?;
            let member = |zip::Entry { path, packed }| Member { path, place: Place::Zip(packed) };
            let members = entries.into_iter().map(member).collect();
            return Ok((file, false, Listing { members, unread }));
        }
        Content::Archive("a gzip archive") => unpack(MultiGzDecoder::new(io::BufReader::new(file)), limit)?,
        Content::Archive("a zstd archive") => {
            let decoder = StreamingDecoder::new(io::BufReader::new(file));
            let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{error}"));
            unpack(decoder.map_err(damaged)?, limit)?
        }
        Content::Archive(kind) => return Err(ShardError::Unsupported(kind)),
        _ => {
            let members = tar_members(&file)?;
            return Ok((file, false, Listing { members, unread: Vec::new() }));
        }
    };
    let members = tar_members(&unpacked)?;
    Ok((unpacked, true, Listing { members, unread: Vec::new() }))
}

/// A file without a name in the folder for temporary files, which an error names.
fn temporary_file(folder: &Path) -> io::Result<File> {
    tempfile::tempfile_in(folder).map_err(|error| {
        io::Error::new(error.kind(), format!("it cannot be unpacked into {}: {error}", folder.display()))
    })
}

/// Unpacks into a file without a name, `limit` bytes at most.
fn unpack(mut packed: impl Read, limit: u64) -> Result<File, ShardError> {
    let mut unpacked = temporary_file(&std::env::temp_dir())?;
    if io::copy(&mut packed.by_ref().take(limit), &mut unpacked)? == limit && packed.read(&mut [0])? > 0 {
        return Err(ShardError::Grows(limit));
    }
    unpacked.rewind()?;
    Ok(unpacked)
}

/// The regular files of a tar file.
fn tar_members(file: &File) -> io::Result<Vec<Member>> {
    let end = file.metadata()?.len();
    let (mut members, mut read_to) = (Vec::new(), 0);
    for entry in Archive::new(file).entries_with_seek()? {
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
        members.push(Member { path, place: Place::Plain { offset, bytes } });
    }
    check_end(file, read_to, end)?;
    Ok(members)
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
    file.read_at(&mut rest, begin)?;
    if rest.iter().any(|byte| *byte != 0) {
        return broken("it has a hole: an empty block with more behind it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_beyond_the_limit_is_not_unpacked() {
        let unpacked = unpack(&[7; 1000][..], 1000).ok().map(|file| file.metadata().unwrap().len());
        assert_eq!(unpacked, Some(1000));
        assert!(matches!(unpack(&[7; 1001][..], 1000), Err(ShardError::Grows(1000))));
    }

    #[test]
    fn a_temporary_folder_that_cannot_be_used_is_named() {
        let error = temporary_file(Path::new("/nowhere/tmp")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("it cannot be unpacked into /nowhere/tmp: "), "{error}");
    }
}
