//! Tar files as a set of pictures: where each member lies is noted once, and members are read in place.
//!
//! A compressed shard cannot be read in place, so it is unpacked once, when it is opened, into a temporary file
//! that has no name and goes away with the program. Pictures do not shrink under gzip: plain tar is the better choice.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::Archive;

/// An open tar file.
pub(crate) struct Shard {
    file: File,
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
    /// Opens a shard, compressed or not (its first bytes tell), and lists its regular files.
    ///
    /// # Errors
    /// If it cannot be read, is no tar file, or ends early: half a shard would be trained on without a word.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Member>)> {
        let mut file = File::open(path)?;
        let mut magic = Vec::new();
        file.by_ref().take(2).read_to_end(&mut magic)?;
        file.rewind()?;
        if magic == [0x1f, 0x8b] {
            let mut unpacked = tempfile::tempfile()?;
            io::copy(&mut MultiGzDecoder::new(io::BufReader::new(file)), &mut unpacked)?;
            unpacked.rewind()?;
            file = unpacked;
        }
        let end = file.metadata()?.len();
        let mut members = Vec::new();
        for entry in Archive::new(&file).entries_with_seek()? {
            let entry = entry?;
            let (offset, bytes) = (entry.raw_file_position(), entry.size());
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if !entry.header().entry_type().is_file() {
                continue;
            }
            if offset.checked_add(bytes).is_none_or(|last| last > end) {
                let missing = format!("it ends in the middle of {path}");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, missing));
            }
            members.push(Member { path, offset, bytes });
        }
        // An archive cut off between two members reads like a whole one but for this.
        let mut last_block = [0; 512];
        let has_end_mark = end >= 512
            && read_at(&file, &mut last_block, end - 512).is_ok()
            && last_block.iter().all(|byte| *byte == 0);
        if !has_end_mark {
            let missing = "it breaks off: the empty blocks at the end are missing";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, missing));
        }
        Ok((Self { file }, members))
    }

    /// The bytes of a member.
    pub fn read(&self, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut content = vec![0; bytes as usize];
        read_at(&self.file, &mut content, offset)?;
        Ok(content)
    }
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
