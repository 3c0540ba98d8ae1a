//! Images on disk: files in folders, and members of archives, as one numbered set.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use relievo_files::{Unreadable, mark};

use crate::decode::format::{Content, Ending, HEAD};
use crate::decode::{DecodeOptions, Decoded};
use crate::left_out::{LeftOut, LeftOutReason, leave_out, merge};
use crate::sample::{Image, Sample, SampleError, Source};
use crate::shard::{Listing, Place, Shard, ShardError};

/// A larger file is not read: no image that can be decoded within the limits needs it, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Shards that are kept open; systems often allow 1,024 files in all.
const OPEN_SHARDS: usize = 256;

/// The path that stands for standard input, and the name of what is read there.
const STANDARD_INPUT: [&str; 2] = ["-", "stdin"];

/// All images below some folders and in some archives, in the order of their names.
///
/// - A folder is searched with all its sub-folders; symbolic links are followed, each folder is visited once. Files
///   that end in .jpg, .jpeg, .jpe, .jfif, .png, .webp, .gif, .bmp, .tif or .tiff are images, those that end in .tar,
///   .tar.gz, .tgz, .tar.zst, .tzst or .zip are shards (capital letters make no difference). What is hidden (begins
///   with a dot) is ignored.
/// - What relievo made of other images is left out (of a folder of `relievo crop` only if it lies below one that was
///   given), and so is what cannot be read: [`Images::left_out`] says what and why.
/// - An image's name is its path below the folder that was given, with `/` on every system; in a shard,
///   `shard.tar/path/in/shard`. Several folders put their own names in front. Sorting by name makes image number N
///   the same one on every machine.
/// - Images of the same folder, but for the folder that was given and the top level of an archive, count as images of one
///   object ([`Source::object`]). Folders of the same name in several archives are several objects, but for the archives of
///   `relievo crop`, which are one set.
/// - Nothing is decoded on opening: a broken image is found out when it is asked for.
pub struct Images {
    entries: Vec<Entry>,
    shards: Vec<Opened>,
    description: String,
    left_out: Vec<LeftOut>,
}

struct Entry {
    name: String,
    /// The byte of the name at which its path below the folder that was given, or in its shard, begins.
    path_at: usize,
    place: Location,
}

struct Opened {
    path: PathBuf,
    shard: Shard,
    /// One of the shards of `relievo crop`: where one ends and the next begins means nothing.
    of_set: bool,
}

enum Location {
    File(PathBuf),
    Member {
        shard: usize,
        place: Place,
    },
    /// What was read from standard input.
    Memory(Vec<u8>),
}

/// Folders or shards that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A path that does not exist.
    #[error("{} does not exist; give a folder of images, images, or an archive (.tar, .tar.gz, .tar.zst, .zip)", .0.display())]
    Missing(PathBuf),
    /// A pattern that no path fits.
    #[error("no file or folder fits the pattern {0}")]
    NoMatch(String),
    /// A folder or file that cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A shard that is no archive or ends early.
    #[error("the archive {} is damaged ({source}); fetch or make it again", .path.display())]
    DamagedShard {
        /// The shard.
        path: PathBuf,
        /// Where it breaks off.
        source: io::Error,
    },
    /// A shard of a kind that is not read.
    #[error("{} is {kind}, which is not read; unpack it", .path.display())]
    UnsupportedShard {
        /// The shard.
        path: PathBuf,
        /// The kind, with its article.
        kind: &'static str,
    },
    /// A shard that grows without bounds when it is unpacked.
    #[error("{} is not unpacked: it grows to more than {} MiB, which images do not", .path.display(), .limit >> 20)]
    GrowingShard {
        /// The shard.
        path: PathBuf,
        /// The most that it may take, in bytes.
        limit: u64,
    },
    /// Nothing there.
    #[error("no images in {searched}, nor in sub-folders and archives there{}", found(.left_out))]
    NoImages {
        /// The paths that were searched.
        searched: String,
        /// What was found instead.
        left_out: Vec<LeftOut>,
    },
}

fn found(left_out: &[LeftOut]) -> String {
    left_out.iter().map(|entry| format!("; {entry}")).collect()
}

impl OpenError {
    /// Tells what is wrong with a shard from what is wrong with the machine (no permission, no room to unpack).
    fn shard(path: &Path, error: ShardError) -> Self {
        let path = path.to_owned();
        let source = match error {
            ShardError::Io(source) => source,
            ShardError::Unsupported(kind) => return Self::UnsupportedShard { path, kind },
            ShardError::Grows(limit) => return Self::GrowingShard { path, limit },
        };
        match source.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Other => Self::DamagedShard { path, source },
            _ => Self::Unreadable(Unreadable { path, source }),
        }
    }

    /// Why a shard in a folder is left out.
    fn reason(self) -> LeftOutReason {
        match self {
            Self::UnsupportedShard { kind, .. } => LeftOutReason::Archive { kind },
            Self::DamagedShard { source, .. } => LeftOutReason::DamagedArchive { reason: source.to_string() },
            Self::Unreadable(Unreadable { source, .. }) => {
                LeftOutReason::Unreadable { reason: source.to_string() }
            }
            other => LeftOutReason::DamagedArchive { reason: other.to_string() },
        }
    }
}

impl Images {
    /// Finds the images below the given folders, in the given archives, and the given files themselves (which may
    /// have any extension). A path that does not exist may be a pattern (`*`, `?`, `[..]`), as a shell would have
    /// expanded it; `-` is one image or archive on standard input.
    ///
    /// ```no_run
    /// let images = relievo_data::Images::open(&["photographs", "more.zip"])?;
    /// for left_out in images.left_out() {
    ///     eprintln!("{left_out}");
    /// }
    /// let first = images.image(0)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If a path does not exist, a path that was given cannot be read or is a damaged archive, or there is no image in
    /// any of them. Sub-folders and archives in folders that cannot be used are left out.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, OpenError> {
        Self::search(paths, Search::default())
    }

    /// As [`Images::open`], without a folder below one of those given: that of the results, say.
    ///
    /// # Errors
    /// As [`Images::open`].
    pub fn open_except<P: AsRef<Path>>(paths: &[P], except: &Path) -> Result<Self, OpenError> {
        // A folder that counts as visited is not visited.
        let visited = fs::canonicalize(except).into_iter().collect();
        Self::search(paths, Search { visited, ..Search::default() })
    }

    fn search<P: AsRef<Path>>(paths: &[P], mut search: Search) -> Result<Self, OpenError> {
        let paths: Vec<PathBuf> =
            paths.iter().map(|path| expanded(path.as_ref())).collect::<Result<Vec<_>, _>>()?.concat();
        for path in &paths {
            search.given(path, paths.len() > 1)?;
        }
        let searched = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let Search { mut entries, shards, mut left_out, .. } = search;
        left_out.sort_by(|a, b| a.reason.cmp(&b.reason));
        if entries.is_empty() {
            return Err(OpenError::NoImages { searched, left_out });
        }
        // Stable: images of the same name keep the order in which the paths were given.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let description = format!("{} images in {searched}", entries.len());
        Ok(Self { entries, shards, description, left_out })
    }

    /// What the search left out, by reasons.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Image `index < len()` as its file has it: not cropped, of its own size.
    ///
    /// # Errors
    /// As [`Source::sample`].
    pub fn image(&self, index: u64) -> Result<Image, SampleError> {
        self.decode(index, &DecodeOptions::default()).map(|decoded| decoded.image)
    }

    /// As [`Images::image`], and says what happened on the way.
    ///
    /// # Errors
    /// As [`Source::sample`].
    pub fn decode(&self, index: u64, options: &DecodeOptions) -> Result<Decoded, SampleError> {
        self.bytes(index)
            .and_then(|bytes| Image::decode_with(&bytes, options).map_err(|error| error.to_string()))
            .map_err(|reason| SampleError { name: self.location(index), reason })
    }

    /// The frames of image `index < len()`, if it is an animation: see [`Image::frames`].
    ///
    /// # Errors
    /// As [`Source::sample`].
    pub fn frames(
        &self,
        index: u64,
        most: usize,
        options: &DecodeOptions,
    ) -> Result<(Vec<Image>, usize), SampleError> {
        self.bytes(index)
            .and_then(|bytes| Image::frames(&bytes, most, options).map_err(|error| error.to_string()))
            .map_err(|reason| SampleError { name: self.location(index), reason })
    }

    fn bytes(&self, index: u64) -> Result<std::borrow::Cow<'_, [u8]>, String> {
        let unreadable = |error: io::Error| format!("cannot be read: {error}");
        let too_large = || format!("the file has more than {} MiB", MAX_FILE_BYTES >> 20);
        let content = match &self.entries[index as usize].place {
            Location::Memory(bytes) => return Ok(bytes.into()),
            Location::File(path) => fs::File::open(path)
                .and_then(|file| {
                    let mut content = Vec::with_capacity(file.metadata()?.len().min(MAX_FILE_BYTES) as usize);
                    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
                    Ok(content)
                })
                .map_err(unreadable)?,
            Location::Member { place, .. } if place.bytes() > MAX_FILE_BYTES => return Err(too_large()),
            Location::Member { shard, place, .. } => {
                self.shards[*shard].shard.read(place, MAX_FILE_BYTES).map_err(unreadable)?
            }
        };
        if content.len() as u64 > MAX_FILE_BYTES { Err(too_large()) } else { Ok(content.into()) }
    }

    /// The file of image `index < len()`, unless it lies in a shard.
    pub fn file(&self, index: u64) -> Option<&Path> {
        match &self.entries[index as usize].place {
            Location::File(path) => Some(path),
            Location::Member { .. } | Location::Memory(_) => None,
        }
    }

    /// Where to look for the file of image `index < len()`, for a message.
    pub fn location(&self, index: u64) -> String {
        let Entry { name, path_at, place } = &self.entries[index as usize];
        match place {
            Location::File(path) => path.display().to_string(),
            Location::Member { shard, .. } => {
                format!("{} in {}", &name[*path_at..], self.shards[*shard].path.display())
            }
            Location::Memory(_) => "standard input".into(),
        }
    }
}

impl Source for Images {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.left_out.iter().filter(|entry| entry.is_warning()).map(ToString::to_string).collect()
    }

    fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn name(&self, index: u64) -> String {
        self.entries[index as usize].name.clone()
    }

    /// A folder below the one that was given, or in an archive, is an object: its images show the same one.
    fn object(&self, index: u64) -> Option<String> {
        let Entry { name, path_at, place } = &self.entries[index as usize];
        let (folder, _) = name.rsplit_once('/')?;
        if folder.len() <= *path_at {
            return None;
        }
        match place {
            Location::Member { shard, .. } if self.shards[*shard].of_set => {
                let above = name[..path_at - 1].rfind('/').map_or("", |end| &name[..=end]);
                Some(format!("{above}{}", &folder[*path_at..]))
            }
            _ => Some(folder.to_owned()),
        }
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        let image = self.image(index)?.square(size);
        Ok(Sample { name: self.name(index), image, truth: None, points: None })
    }
}

/// The path, or the paths that fit the pattern which it is, in the order of their names.
fn expanded(path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let pattern =
        path.to_str().filter(|text| text.contains(['*', '?', '[']) && fs::symlink_metadata(path).is_err());
    let Some(pattern) = pattern else { return Ok(vec![path.to_owned()]) };
    // As a shell does it.
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let fitting = glob::glob_with(pattern, options).map_err(|_| OpenError::Missing(path.to_owned()))?;
    let fitting: Vec<PathBuf> = fitting.filter_map(Result::ok).collect();
    if fitting.is_empty() { Err(OpenError::NoMatch(pattern.to_owned())) } else { Ok(fitting) }
}

/// What has been found so far.
#[derive(Default)]
struct Search {
    entries: Vec<Entry>,
    shards: Vec<Opened>,
    left_out: Vec<LeftOut>,
    /// Where the path of an image below the folder that is searched begins in its name.
    path_at: usize,
    /// Folders already visited, by their real paths: a link to a parent would never end.
    visited: HashSet<PathBuf>,
}

/// The file that marks a folder of `relievo crop`. Images beside its shards are for people: a contact sheet is no
/// face. A folder that is given is read; one below it is left out, because its crops are of the photographs around it.
pub const CROPS: &str = "crop.json";

impl Search {
    /// A path that was given.
    fn given(&mut self, path: &Path, one_of_several: bool) -> Result<(), OpenError> {
        if path.as_os_str() == STANDARD_INPUT[0] {
            return self.standard_input();
        }
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => OpenError::Missing(path.to_owned()),
            _ => Unreadable { path: path.to_owned(), source }.into(),
        })?;
        let own_name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if metadata.is_dir() {
            let prefix = if one_of_several { own_name } else { String::new() };
            self.path_at = if prefix.is_empty() { 0 } else { prefix.len() + 1 };
            self.folder(path, &prefix)?;
        } else if Ending::from_name(&own_name) == Ending::Shard {
            self.shard(path, &own_name, false)?;
        } else if metadata.is_file() && is_result(path) {
            self.leave_out(own_name, LeftOutReason::Result);
        } else {
            self.entries.push(Entry { name: own_name, path_at: 0, place: Location::File(path.to_owned()) });
        }
        Ok(())
    }

    fn standard_input(&mut self) -> Result<(), OpenError> {
        let [_, name] = STANDARD_INPUT;
        let unreadable = Unreadable::at(Path::new("standard input"));
        let mut input = io::stdin().lock();
        let mut head = Vec::new();
        input.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(&unreadable)?;
        let is_tar = |bytes: &[u8]| bytes.get(257..262) == Some(b"ustar");
        let mut begin = head;
        input.by_ref().take(512 - begin.len() as u64).read_to_end(&mut begin).map_err(&unreadable)?;
        if is_tar(&begin) || matches!(Content::from_head(&begin), Content::Archive(_)) {
            // Members are read in place, so it goes into a file without a name.
            let mut spool = || {
                let mut file = tempfile::tempfile()?;
                file.write_all(&begin)?;
                io::copy(&mut input, &mut file)?;
                file.rewind()?;
                Ok(file)
            };
            let file = spool().map_err(&unreadable)?;
            let path = PathBuf::from(name);
            let opened = Shard::from_file(file).map_err(|error| OpenError::shard(&path, error))?;
            self.add_shard(path, name, opened, false);
            return Ok(());
        }
        input.take(MAX_FILE_BYTES).read_to_end(&mut begin).map_err(&unreadable)?;
        self.entries.push(Entry { name: name.to_owned(), path_at: 0, place: Location::Memory(begin) });
        Ok(())
    }

    fn leave_out(&mut self, name: impl Into<String>, reason: LeftOutReason) {
        leave_out(&mut self.left_out, name, reason);
    }

    fn folder(&mut self, folder: &Path, prefix: &str) -> Result<(), Unreadable> {
        let unreadable = Unreadable::at(folder);
        if !self.visited.insert(fs::canonicalize(folder).map_err(&unreadable)?) {
            return Ok(());
        }
        let mut children = Vec::new();
        for child in fs::read_dir(folder).map_err(&unreadable)? {
            children.push(child.map_err(&unreadable)?.path());
        }
        // The system lists in any order, and which of two links to a folder is followed must not depend on it.
        children.sort();
        let shards_only = folder.join(CROPS).is_file();
        for child in children {
            let file_name = child.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if file_name.starts_with('.') {
                continue;
            }
            let name = if prefix.is_empty() { file_name } else { format!("{prefix}/{file_name}") };
            match fs::metadata(&child) {
                Ok(metadata) if metadata.is_dir() => self.sub_folder(&child, &name),
                Ok(metadata) if metadata.is_file() => self.file(child, name, shards_only),
                Ok(_) => self.leave_out(name, LeftOutReason::Other),
                // A link that leads nowhere.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && Ending::from_name(&name) != Ending::Image =>
                {
                    self.leave_out(name, LeftOutReason::Other);
                }
                Err(error) => self.leave_out(name, LeftOutReason::Unreadable { reason: error.to_string() }),
            }
        }
        Ok(())
    }

    fn sub_folder(&mut self, folder: &Path, name: &str) {
        if mark::is_marked(folder) {
            let mut results = Search::default();
            let _ = results.folder(folder, name);
            for Entry { name, .. } in results.entries {
                self.leave_out(name, LeftOutReason::Result);
            }
            let marked = results.left_out.into_iter().filter(|entry| entry.reason == LeftOutReason::Result);
            marked.for_each(|entry| merge(&mut self.left_out, entry));
        } else if folder.join(CROPS).is_file() {
            // One that is being made of these very images is no news.
            if fs::canonicalize(folder).is_ok_and(|folder| self.visited.insert(folder)) {
                self.leave_out(name, LeftOutReason::Crops);
            }
        } else if let Err(error) = self.folder(folder, name) {
            self.leave_out(name, LeftOutReason::Unreadable { reason: error.source.to_string() });
        }
    }

    fn file(&mut self, path: PathBuf, name: String, shards_only: bool) {
        match Ending::from_name(&name) {
            Ending::Shard => {
                if let Err(error) = self.shard(&path, &name, shards_only) {
                    self.leave_out(name, error.reason());
                }
            }
            Ending::Image if shards_only || is_result(&path) => self.leave_out(name, LeftOutReason::Result),
            Ending::Image => {
                self.entries.push(Entry { name, path_at: self.path_at, place: Location::File(path) });
            }
            Ending::Unknown
                if matches!(Content::from_head(&head(&path)), Content::Image(_) | Content::Unread(_)) =>
            {
                self.leave_out(name, LeftOutReason::UnusualName);
            }
            other => self.leave_out(name, reason(other)),
        }
    }

    fn shard(&mut self, path: &Path, name: &str, of_set: bool) -> Result<(), OpenError> {
        let kept_open = self.shards.len() < OPEN_SHARDS;
        let opened = Shard::open(path, kept_open).map_err(|error| OpenError::shard(path, error))?;
        self.add_shard(path.to_owned(), name, opened, of_set);
        Ok(())
    }

    fn add_shard(&mut self, path: PathBuf, name: &str, (shard, listing): (Shard, Listing), of_set: bool) {
        let number = self.shards.len();
        for member in listing.members {
            let member_path = member.path.trim_start_matches("./");
            // A path may lead out of the archive; nothing is unpacked, and names of results stay in their folder.
            if member_path.split('/').any(|part| part.starts_with('.') && part != "..") {
                continue;
            }
            let full_name = format!("{name}/{member_path}");
            // Results are PNG files; most members need not be looked at.
            let is_png = member_path.len() > 4
                && member_path.as_bytes()[member_path.len() - 4..].eq_ignore_ascii_case(b".png");
            let is_result = || {
                let head = shard.read(&member.place, mark::PNG_HEAD as u64);
                is_png && head.is_ok_and(|head| mark::is_result_png(&head))
            };
            match Ending::from_name(member_path) {
                Ending::Image if is_result() => self.leave_out(full_name, LeftOutReason::Result),
                Ending::Image => {
                    let place = Location::Member { shard: number, place: member.place };
                    self.entries.push(Entry { name: full_name, path_at: name.len() + 1, place });
                }
                other => self.leave_out(full_name, reason(other)),
            }
        }
        for unread in listing.unread {
            let reason = "encrypted, or packed in a way that is not known".to_owned();
            self.leave_out(format!("{name}/{unread}"), LeftOutReason::Unreadable { reason });
        }
        self.shards.push(Opened { path, shard, of_set });
    }
}

/// Why a file that is no image is left out.
fn reason(ending: Ending) -> LeftOutReason {
    match ending {
        Ending::Unread(kind) => LeftOutReason::NotRead { kind: kind.name, remedy: kind.remedy },
        Ending::Archive(kind) => LeftOutReason::Archive { kind },
        Ending::Shard => LeftOutReason::Archive { kind: "an archive in an archive" },
        Ending::Image | Ending::Other | Ending::Unknown => LeftOutReason::Other,
    }
}

/// The first bytes of a file, or none if it cannot be read.
fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(HEAD as u64).read_to_end(&mut head);
    }
    head
}

/// Whether a file is a PNG image that relievo made of another image.
fn is_result(path: &Path) -> bool {
    let is_png = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
    is_png && mark::is_result_png(&head(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_no_fault_of_the_shard() {
        let message = |kind: io::ErrorKind| {
            OpenError::shard(Path::new("a.tar.gz"), ShardError::Io(kind.into())).to_string()
        };
        assert!(message(io::ErrorKind::StorageFull).starts_with("cannot read a.tar.gz: "));
        assert!(message(io::ErrorKind::UnexpectedEof).starts_with("the archive a.tar.gz is damaged"));
    }
}
