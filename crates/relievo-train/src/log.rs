//! `metrics.jsonl`: one JSON object on a line for every logged step and every validation.
//!
//! Every line has a `step`. A run that goes on from a checkpoint cuts off what was logged after it, so that the log
//! is that of a run that never stopped. A line that cannot be written (a full disk) is kept in memory and tried again
//! with the next one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) struct Log {
    file: File,
    /// Length of the file up to the last whole line.
    length: u64,
    /// Lines not yet in the file.
    pending: Vec<u8>,
}

/// What every line has.
#[derive(Deserialize)]
struct Line {
    step: u64,
}

impl Log {
    /// Opens the log, made if it is not there, and cuts off the lines of steps after `step` and what cannot be read.
    pub(crate) fn open(path: &Path, step: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let kept = |line: &&[u8]| {
            line.ends_with(b"\n") && serde_json::from_slice::<Line>(line).is_ok_and(|line| line.step <= step)
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
        // Also takes away the beginning of a line that could not be written whole.
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
    struct Step {
        step: u64,
        loss: f32,
    }

    #[test]
    fn lines_after_the_checkpoint_are_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = Log::open(&path, 0).unwrap();
        for step in 1..=5 {
            log.append(&Step { step, loss: 0.5 }).unwrap();
        }
        drop(log);
        // The machine went down in the middle of a line.
        std::fs::write(&path, [&std::fs::read(&path).unwrap()[..], b"{\"step\":6,\"lo"].concat()).unwrap();
        let mut log = Log::open(&path, 3).unwrap();
        log.append(&Step { step: 4, loss: 0.25 }).unwrap();
        log.sync().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[2..], ["{\"step\":3,\"loss\":0.5}", "{\"step\":4,\"loss\":0.25}"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lines_wait_for_a_full_disk_to_have_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = Log::open(&path, 0).unwrap();
        log.append(&Step { step: 1, loss: 0.5 }).unwrap();
        // A read-only handle refuses to be written to, as a full disk does.
        let good = std::mem::replace(&mut log.file, File::open(&path).unwrap());
        assert!(log.append(&Step { step: 2, loss: 0.5 }).is_err());
        assert!(log.append(&Step { step: 3, loss: 0.5 }).is_err());
        log.file = good;
        log.append(&Step { step: 4, loss: 0.5 }).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
    }
}
