//! Zip archives read in place: the list of members is read once, then any member by itself (PKWARE's *APPNOTE*,
//! section 4). Members may be stored or deflated; archives may have more than 4 GiB.
//!
//! ```
//! // An archive without members is its end record alone.
//! let mut empty = b"PK\x05\x06".to_vec();
//! empty.resize(22, 0);
//! let (entries, unread) = relievo_zip::entries(&empty[..])?;
//! assert!(entries.is_empty() && unread.is_empty());
//! assert!(relievo_zip::entries(&b"no archive"[..]).is_err());
//! # Ok::<(), std::io::Error>(())
//! ```

mod read_at;
#[cfg(feature = "testing")]
pub mod testing;

use std::io::{self, Read};

use flate2::read::DeflateDecoder;

pub use read_at::{ReadAt, ReaderAt};

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

/// Bytes of the record at the end without its comment, which has 65,535 at most.
const END_BYTES: u64 = 22;

/// A longer list of members is not read, in bytes.
const MOST_LIST: u64 = 512 << 20;

/// What a 16-bit or 32-bit field holds whose number stands in the extra field.
const ELSEWHERE: u64 = 0xffff_ffff;

/// A file in an archive.
pub struct Entry {
    /// Its path, with `/`.
    pub path: String,
    /// Where it is.
    pub packed: Packed,
}

/// Where and how a file lies in an archive.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    /// Where its own header begins.
    header: u64,
    /// Bytes in the archive.
    pub stored: u64,
    /// Bytes of the file.
    pub bytes: u64,
    checksum: u32,
    is_deflated: bool,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    let field = bytes.get(at..at + 2).ok_or_else(|| damaged("its list of files is cut short"))?;
    Ok(u64::from(u16::from_le_bytes([field[0], field[1]])))
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    Ok(u16_at(bytes, at)? | u16_at(bytes, at + 2)? << 16)
}

fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    Ok(u32_at(bytes, at)? | u32_at(bytes, at + 4)? << 32)
}

/// The files of an archive that can be read, and the paths of those that cannot (encrypted, or packed in a way that is
/// not known).
///
/// # Errors
/// If it is not a zip archive, or cut short.
pub fn entries(file: &(impl ReadAt + ?Sized)) -> io::Result<(Vec<Entry>, Vec<String>)> {
    let (begin, length) = find_list(file)?;
    let mut list = vec![0; usize::try_from(length).map_err(|_| damaged("its list of files is too long"))?];
    file.read_at(&mut list, begin)?;
    let (mut entries, mut unread) = (Vec::new(), Vec::new());
    let mut rest = list.as_slice();
    while rest.starts_with(ENTRY) {
        let [name, extra, comment] = [28, 30, 32].map(|at| u16_at(rest, at));
        let (name, extra, comment) = (name? as usize, extra? as usize, comment? as usize);
        let path = rest.get(46..46 + name).ok_or_else(|| damaged("its list of files is cut short"))?;
        let path = String::from_utf8_lossy(path).replace('\\', "/");
        let extra_field = rest.get(46 + name..46 + name + extra).unwrap_or_default();
        let packed = packed(rest, extra_field)?;
        match packed {
            // A folder.
            _ if path.ends_with('/') => {}
            Some(packed) => entries.push(Entry { path, packed }),
            None => unread.push(path),
        }
        rest = rest.get(46 + name + extra + comment..).unwrap_or_default();
    }
    Ok((entries, unread))
}

/// Where the list of members begins and how long it is.
fn find_list(file: &(impl ReadAt + ?Sized)) -> io::Result<(u64, u64)> {
    let end = file.bytes()?;
    let tail_bytes = end.min(END_BYTES + 0xffff);
    let mut tail = vec![0; tail_bytes as usize];
    file.read_at(&mut tail, end - tail_bytes)?;
    let at =
        (0..tail.len().saturating_sub(END_BYTES as usize - 1)).rev().find(|at| tail[*at..].starts_with(END));
    let at = at.ok_or_else(|| {
        io::Error::new(io::ErrorKind::UnexpectedEof, "its list of files is missing at the end")
    })?;
    let (mut length, mut begin) = (u32_at(&tail, at + 12)?, u32_at(&tail, at + 16)?);
    let locator = at.checked_sub(20).map(|at| &tail[at..]).filter(|locator| locator.starts_with(LOCATOR_64));
    if let Some(locator) = locator.filter(|_| begin == ELSEWHERE || length == ELSEWHERE) {
        let mut record = [0; 56];
        file.read_at(&mut record, u64_at(locator, 8)?)?;
        if !record.starts_with(END_64) {
            return Err(damaged("its list of files is not where it should be"));
        }
        (length, begin) = (u64_at(&record, 40)?, u64_at(&record, 48)?);
    }
    if length > MOST_LIST || begin.checked_add(length).is_none_or(|last| last > end) {
        return Err(damaged("its list of files is not where it should be"));
    }
    Ok((begin, length))
}

/// Where an entry of the list lies; `None` if it cannot be read.
fn packed(entry: &[u8], extra: &[u8]) -> io::Result<Option<Packed>> {
    const ENCRYPTED: u64 = 1;
    let (flags, method) = (u16_at(entry, 8)?, u16_at(entry, 10)?);
    let checksum = u32_at(entry, 16)? as u32;
    let [mut stored, mut bytes] = [u32_at(entry, 20)?, u32_at(entry, 24)?];
    let mut header = u32_at(entry, 42)?;
    // Numbers that do not fit stand in a field of their own, in this order.
    let mut wide = wide_numbers(extra);
    for number in [&mut bytes, &mut stored, &mut header] {
        if *number == ELSEWHERE {
            *number = wide.next().ok_or_else(|| damaged("a size is missing in its list of files"))?;
        }
    }
    let is_deflated = method == 8;
    let is_read = flags & ENCRYPTED == 0 && (is_deflated || method == 0);
    Ok(is_read.then_some(Packed { header, stored, bytes, checksum, is_deflated }))
}

/// The 64-bit numbers of an extra field.
fn wide_numbers(mut extra: &[u8]) -> impl Iterator<Item = u64> + '_ {
    const WIDE: u64 = 1;
    let mut numbers: &[u8] = &[];
    while let (Ok(kind), Ok(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let content = extra.get(4..4 + length as usize).unwrap_or_default();
        if kind == WIDE {
            numbers = content;
        }
        extra = extra.get(4 + length as usize..).unwrap_or_default();
    }
    numbers.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Packed {
    /// The first `most` bytes of the file, or all of it, which is then checked against its checksum.
    ///
    /// # Errors
    /// If the archive cannot be read, or the file is cut short or damaged.
    pub fn read(&self, file: &(impl ReadAt + ?Sized), most: u64) -> io::Result<Vec<u8>> {
        let mut header = [0; 30];
        file.read_at(&mut header, self.header)?;
        if !header.starts_with(LOCAL) {
            return Err(damaged("a file is not where the list says"));
        }
        let begin = self.header + 30 + u16_at(&header, 26)? + u16_at(&header, 28)?;
        let reader = ReaderAt::new(file, begin).take(self.stored);
        let most = most.min(self.bytes);
        let mut content = Vec::with_capacity(most.min(1 << 20) as usize);
        if self.is_deflated {
            DeflateDecoder::new(io::BufReader::new(reader)).take(most).read_to_end(&mut content)?;
        } else {
            reader.take(most).read_to_end(&mut content)?;
        }
        if (content.len() as u64) < most {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file in the archive is cut short"));
        }
        if most == self.bytes {
            let mut checksum = flate2::Crc::new();
            checksum.update(&content);
            if checksum.sum() != self.checksum {
                return Err(damaged("a file in the archive is damaged: its checksum is another"));
            }
        }
        Ok(content)
    }
}
