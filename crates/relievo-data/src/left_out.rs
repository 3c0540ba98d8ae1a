//! What a search for images leaves out, and why: nothing is passed over in silence.

use std::fmt;

use serde::Serialize;

/// Names that are kept of each reason, at most.
const MOST_NAMES: usize = 20;

/// Names that a sentence has, at most.
const NAMES_IN_SENTENCE: usize = 3;

/// Why a file or folder is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LeftOutReason {
    /// relievo made it of another image.
    Result,
    /// A folder of `relievo crop` below one that was given: its crops would be a second copy of the photographs there.
    Crops,
    /// An image of a kind that is not read.
    NotRead {
        /// The kind, with its article: "a HEIC image".
        kind: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// It holds an image, and its name does not end like one.
    UnusualName,
    /// An archive of a kind that is not read.
    Archive {
        /// The kind, with its article: "a RAR archive".
        kind: &'static str,
    },
    /// An archive that is damaged.
    DamagedArchive {
        /// What is wrong.
        reason: String,
    },
    /// A file or folder that cannot be read.
    Unreadable {
        /// What the system says.
        reason: String,
    },
    /// Another kind of file. Not worth a warning.
    Other,
}

/// Files and folders that are left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct LeftOut {
    /// The reason.
    pub reason: LeftOutReason,
    /// How many they are.
    pub count: u64,
    /// Their names, the first twenty, in the order of the search.
    pub names: Vec<String>,
}

impl LeftOut {
    /// Whether a person should hear of it: all but files that are no images.
    pub fn is_warning(&self) -> bool {
        self.reason != LeftOutReason::Other
    }
}

impl fmt::Display for LeftOut {
    /// A sentence with number, reason, first names, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, count, names } = self;
        let many = *count > 1;
        let shown = names[..names.len().min(NAMES_IN_SENTENCE)].join(", ");
        let more = if *count > NAMES_IN_SENTENCE as u64 { ", .." } else { "" };
        let of_kind = |kind: &str| {
            // Without its article.
            let noun = kind.split_once(' ').map_or(kind, |(_, noun)| noun);
            if many { format!("{count} times {kind}") } else { format!("1 {noun}") }
        };
        match reason {
            LeftOutReason::Result => {
                let images = if many { "images" } else { "image" };
                write!(f, "left out: {count} {images} that relievo made ({shown}{more})")
            }
            LeftOutReason::Crops => {
                let sets = if many { "training sets" } else { "training set" };
                write!(
                    f,
                    "left out: {count} {sets} that `relievo crop` made ({shown}{more}): give the folder itself to read it"
                )
            }
            LeftOutReason::NotRead { kind, remedy } => {
                write!(f, "left out: {}, which is not read ({shown}{more}): {remedy}", of_kind(kind))
            }
            LeftOutReason::UnusualName => {
                let files = if many {
                    "files hold images and are not named"
                } else {
                    "file holds an image and is not named"
                };
                write!(
                    f,
                    "left out: {count} {files} like one ({shown}{more}): rename, or give the name itself"
                )
            }
            LeftOutReason::Archive { kind } => {
                write!(f, "left out: {}, which is not read ({shown}{more}): unpack it", of_kind(kind))
            }
            LeftOutReason::DamagedArchive { reason } => {
                let archives = if many { "damaged archives" } else { "damaged archive" };
                write!(f, "left out: {count} {archives} ({shown}{more}: {reason}); fetch or make it again")
            }
            LeftOutReason::Unreadable { reason } => {
                let files = if many { "files or folders" } else { "file or folder" };
                write!(f, "left out: {count} {files} that cannot be read ({shown}{more}: {reason})")
            }
            LeftOutReason::Other => {
                let files = if many { "files" } else { "file" };
                write!(f, "left out: {count} {files} of other kinds ({shown}{more})")
            }
        }
    }
}

/// Adds a file or folder to a list by reasons.
pub(crate) fn leave_out(list: &mut Vec<LeftOut>, name: impl Into<String>, reason: LeftOutReason) {
    merge(list, LeftOut { reason, count: 1, names: vec![name.into()] });
}

/// Adds files and folders to a list by reasons.
pub(crate) fn merge(list: &mut Vec<LeftOut>, more: LeftOut) {
    let Some(entry) = list.iter_mut().find(|entry| entry.reason == more.reason) else {
        list.push(more);
        return;
    };
    entry.count += more.count;
    let room = MOST_NAMES.saturating_sub(entry.names.len());
    entry.names.extend(more.names.into_iter().take(room));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_name_count_reason_and_remedy() {
        let mut list = Vec::new();
        let heic = LeftOutReason::NotRead { kind: "a HEIC image", remedy: "convert it" };
        leave_out(&mut list, "a.heic", heic.clone());
        assert_eq!(list[0].to_string(), "left out: 1 HEIC image, which is not read (a.heic): convert it");
        for name in ["b.heic", "c.heic", "d.heic"] {
            leave_out(&mut list, name, heic.clone());
        }
        let text = list[0].to_string();
        assert_eq!(
            text,
            "left out: 4 times a HEIC image, which is not read (a.heic, b.heic, c.heic, ..): convert it"
        );
        for number in 0..30 {
            leave_out(&mut list, number.to_string(), LeftOutReason::Other);
        }
        assert_eq!((list.len(), list[1].count, list[1].names.len()), (2, 30, MOST_NAMES));
        assert!(!list[1].is_warning() && list[0].is_warning());
    }
}
