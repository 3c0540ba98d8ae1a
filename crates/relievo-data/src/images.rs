//! Images on disk: files in folders, and members of tar shards, as one numbered set.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::sample::{Image, Sample, SampleError, Source};
use crate::shard::Shard;

/// A larger file is not read: no image that can be decoded within the limits needs it, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Shards that are kept open; systems often allow 1,024 files in all.
const OPEN_SHARDS: usize = 256;

const IMAGES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
const SHARDS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// All images below some folders and in some tar shards, in the order of their names.
///
/// - A folder is searched with all its sub-folders; symbolic links are followed, each folder is visited once. Files
///   that end in .jpg, .jpeg, .png or .webp are images, those that end in .tar, .tar.gz or .tgz are shards (capital
///   letters make no difference); other files are ignored, and so is what is hidden (begins with a dot).
/// - An image's name is its path below the folder that was given, with `/` on every system; in a shard,
///   `shard.tar/path/in/shard`. Several folders put their own names in front. Sorting by name makes image number N
///   the same one on every machine.
/// - Nothing is decoded on opening: a broken image is found out when it is asked for.
pub struct Images {
    entries: Vec<Entry>,
    shards: Vec<(PathBuf, Shard)>,
    description: String,
}

struct Entry {
    name: String,
    place: Location,
}

enum Location {
    File(PathBuf),
    /// The member's own path begins at byte `path_at` of the name.
    Member {
        shard: usize,
        path_at: usize,
        offset: u64,
        bytes: u64,
    },
}

/// Folders or shards that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A path that does not exist.
    #[error("{} does not exist; give a folder of images or a .tar file", .0.display())]
    Missing(PathBuf),
    /// A folder or file that cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A shard that is no tar file or ends early.
    #[error("the shard {} is damaged ({source}); fetch or make it again", .path.display())]
    DamagedShard {
        /// The shard.
        path: PathBuf,
        /// Where it breaks off.
        source: io::Error,
    },
    /// Nothing there.
    #[error(
        "no images in {searched}: looked for .jpg, .jpeg, .png and .webp files, in sub-folders and in .tar, \
         .tar.gz and .tgz files too, and found {others} files of other kinds"
    )]
    NoImages {
        /// The paths that were searched.
        searched: String,
        /// Files that were passed over.
        others: usize,
    },
}

impl OpenError {
    /// Tells what is wrong with a shard from what is wrong with the machine (no permission, no room to unpack).
    fn shard(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Other => Self::DamagedShard { path, source },
            _ => Self::Unreadable { path, source },
        }
    }
}

impl Images {
    /// Finds the images below the given folders, in the given shards, and the given files themselves (which may
    /// have any extension).
    ///
    /// # Errors
    /// If a path does not exist, a folder cannot be read, a shard is damaged, or there is no image in any of them.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, OpenError> {
        let mut found = Search::default();
        for path in paths {
            let path = path.as_ref();
            let metadata = fs::metadata(path).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => OpenError::Missing(path.to_owned()),
                _ => OpenError::Unreadable { path: path.to_owned(), source },
            })?;
            let own_name =
                path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            if metadata.is_dir() {
                let prefix = if paths.len() > 1 { own_name } else { String::new() };
                found.folder(path, &prefix)?;
            } else if is_shard(&own_name) {
                found.shard(path, &own_name)?;
            } else {
                found.entries.push(Entry { name: own_name, place: Location::File(path.to_owned()) });
            }
        }
        let searched =
            paths.iter().map(|path| path.as_ref().display().to_string()).collect::<Vec<_>>().join(", ");
        if found.entries.is_empty() {
            return Err(OpenError::NoImages { searched, others: found.others });
        }
        let Search { mut entries, shards, .. } = found;
        // Stable: images of the same name keep the order in which the paths were given.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let description = format!("{} images in {searched}", entries.len());
        Ok(Self { entries, shards, description })
    }

    /// Image `index < len()` as its file has it: not cropped, of its own size.
    ///
    /// # Errors
    /// As [`Source::sample`].
    pub fn image(&self, index: u64) -> Result<Image, SampleError> {
        let entry = &self.entries[index as usize];
        self.read(&entry.place)
            .and_then(|bytes| Image::decode(&bytes))
            .map_err(|reason| SampleError { name: self.location(index), reason })
    }

    fn read(&self, place: &Location) -> Result<Vec<u8>, String> {
        let (bytes, content) = match place {
            Location::File(path) => {
                let read = || {
                    let file = fs::File::open(path)?;
                    let bytes = file.metadata()?.len();
                    let mut content = Vec::with_capacity(bytes.min(MAX_FILE_BYTES) as usize);
                    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
                    Ok((content.len() as u64, content))
                };
                read().map_err(|error: io::Error| format!("cannot be read: {error}"))?
            }
            Location::Member { bytes, .. } if *bytes > MAX_FILE_BYTES => (*bytes, Vec::new()),
            Location::Member { shard, offset, bytes, .. } => {
                let content = self.shards[*shard].1.read(*offset, *bytes);
                (*bytes, content.map_err(|error| format!("cannot be read: {error}"))?)
            }
        };
        if bytes > MAX_FILE_BYTES {
            return Err(format!("the file has more than {} MiB", MAX_FILE_BYTES >> 20));
        }
        Ok(content)
    }

    /// The file of image `index < len()`, unless it lies in a shard.
    pub fn file(&self, index: u64) -> Option<&Path> {
        match &self.entries[index as usize].place {
            Location::File(path) => Some(path),
            Location::Member { .. } => None,
        }
    }

    /// Where to look for the file of image `index < len()`, for a message.
    pub fn location(&self, index: u64) -> String {
        let Entry { name, place } = &self.entries[index as usize];
        match place {
            Location::File(path) => path.display().to_string(),
            Location::Member { shard, path_at, .. } => {
                format!("{} in {}", &name[*path_at..], self.shards[*shard].0.display())
            }
        }
    }
}

impl Source for Images {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn name(&self, index: u64) -> String {
        self.entries[index as usize].name.clone()
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        let image = self.image(index)?.square(size);
        Ok(Sample { name: self.name(index), image, truth: None })
    }
}

/// What has been found so far.
#[derive(Default)]
struct Search {
    entries: Vec<Entry>,
    shards: Vec<(PathBuf, Shard)>,
    /// Files that are neither images nor shards.
    others: usize,
    /// Folders already visited, by their real paths: a link to a parent would never end.
    visited: HashSet<PathBuf>,
}

/// The file that marks a folder of `relievo crop`. Images beside its shards are for people: a contact sheet is no
/// face.
pub const CROPS: &str = "crop.json";

impl Search {
    fn folder(&mut self, folder: &Path, prefix: &str) -> Result<(), OpenError> {
        let unreadable = |source| OpenError::Unreadable { path: folder.to_owned(), source };
        if !self.visited.insert(fs::canonicalize(folder).map_err(unreadable)?) {
            return Ok(());
        }
        let mut children = Vec::new();
        for child in fs::read_dir(folder).map_err(unreadable)? {
            children.push(child.map_err(unreadable)?.path());
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
            // A link that leads nowhere is not an image; it has no metadata.
            match fs::metadata(&child) {
                Ok(metadata) if metadata.is_dir() => self.folder(&child, &name)?,
                Ok(metadata) if metadata.is_file() && is_shard(&name) => self.shard(&child, &name)?,
                Ok(metadata) if metadata.is_file() && is_image(&name) && !shards_only => {
                    self.entries.push(Entry { name, place: Location::File(child) });
                }
                _ => self.others += 1,
            }
        }
        Ok(())
    }

    fn shard(&mut self, path: &Path, name: &str) -> Result<(), OpenError> {
        let number = self.shards.len();
        let kept_open = number < OPEN_SHARDS;
        let (shard, members) =
            Shard::open(path, kept_open).map_err(|source| OpenError::shard(path, source))?;
        self.shards.push((path.to_owned(), shard));
        for member in members {
            let path = member.path.trim_start_matches("./");
            let hidden = path.split('/').any(|part| part.starts_with('.'));
            if hidden || !is_image(path) {
                self.others += usize::from(!hidden);
                continue;
            }
            let (path_at, offset, bytes) = (name.len() + 1, member.offset, member.bytes);
            let place = Location::Member { shard: number, path_at, offset, bytes };
            self.entries.push(Entry { name: format!("{name}/{path}"), place });
        }
        Ok(())
    }
}

fn is_image(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| IMAGES.iter().any(|e| extension.eq_ignore_ascii_case(e)))
}

fn is_shard(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SHARDS.iter().any(|extension| name.ends_with(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_no_fault_of_the_shard() {
        let message = |kind: io::ErrorKind| OpenError::shard(Path::new("a.tar.gz"), kind.into()).to_string();
        assert!(message(io::ErrorKind::StorageFull).starts_with("cannot read a.tar.gz: "));
        assert!(message(io::ErrorKind::UnexpectedEof).starts_with("the shard a.tar.gz is damaged"));
    }
}
