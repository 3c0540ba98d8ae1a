//! `metrics.jsonl`: one JSON object on a line for every logged step and every validation.
//!
//! Every line has a `kind` and a `step`. A run that resumes from a checkpoint removes the lines logged after
//! it, so the log is that of a run that never stopped. A line that cannot be written (a full disk) is kept in memory and
//! written with the next one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::Progress;

pub(crate) struct Log {
    file: File,
    /// Length of the file up to the last whole line.
    length: u64,
    /// Lines not yet in the file.
    pending: Vec<u8>,
}

/// The part of a line that decides whether it is kept.
#[derive(Deserialize)]
struct Line {
    kind: String,
    step: u64,
}

impl Line {
    /// Whether the line was written before the state of `progress` was saved. The validation after its last step may
    /// have been logged later than that: then it is still to come.
    fn is_before(&self, progress: &Progress) -> bool {
        let last = if self.kind == "validation" { progress.validated } else { progress.step };
        self.step <= last
    }
}

impl Log {
    /// Opens the log, or creates it, and truncates it at the first line that is later than `progress` or cannot be read.
    pub(crate) fn open(path: &Path, progress: &Progress) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let kept = |line: &&[u8]| {
            line.ends_with(b"\n")
                && serde_json::from_slice::<Line>(line).is_ok_and(|line| line.is_before(progress))
        };
        let length =
            text.split_inclusive(|byte| *byte == b'\n').take_while(kept).map(<[u8]>::len).sum::<usize>();
        let mut log = Self { file, length: length as u64, pending: Vec::new() };
        log.flush()?;
        Ok(log)
    }

    /// Appends a line.
    pub(crate) fn append(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.pending, line)?;
        self.pending.push(b'\n');
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        // Also removes the beginning of a line that could not be written completely.
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&self.pending)?;
        self.length += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Waits until all lines are on the disk: before a checkpoint that relies on them.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Line {
        kind: &'static str,
        step: u64,
    }

    fn line(step: u64) -> Line {
        Line { kind: "step", step }
    }

    fn at(step: u64, validated: u64) -> Progress {
        Progress { step, validated, ..Progress::default() }
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_after_the_checkpoint_are_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = Log::open(&path, &at(0, 0)).unwrap();
        for step in 1..=5 {
            log.append(&line(step)).unwrap();
        }
        drop(log);
        // The machine went down in the middle of a line.
        std::fs::write(&path, [&std::fs::read(&path).unwrap()[..], b"{\"step\":6,\"ki"].concat()).unwrap();
        let mut log = Log::open(&path, &at(3, 0)).unwrap();
        log.append(&Line { kind: "again", step: 4 }).unwrap();
        log.sync().unwrap();
        let lines = lines(&path);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[2..], [r#"{"kind":"step","step":3}"#, r#"{"kind":"again","step":4}"#]);
    }

    #[test]
    fn a_validation_stays_if_the_checkpoint_knows_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = Log::open(&path, &at(0, 0)).unwrap();
        log.append(&line(4)).unwrap();
        log.append(&Line { kind: "validation", step: 4 }).unwrap();
        for (validated, expected) in [(4, 2), (2, 1)] {
            Log::open(&path, &at(4, validated)).unwrap();
            assert_eq!(lines(&path).len(), expected);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lines_wait_for_a_full_disk_to_have_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = Log::open(&path, &at(0, 0)).unwrap();
        log.append(&line(1)).unwrap();
        // A read-only handle refuses to be written to, as a full disk does.
        let good = std::mem::replace(&mut log.file, File::open(&path).unwrap());
        assert!(log.append(&line(2)).is_err());
        assert!(log.append(&line(3)).is_err());
        log.file = good;
        log.append(&line(4)).unwrap();
        assert_eq!(lines(&path).len(), 4);
    }
}
