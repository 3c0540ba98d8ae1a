//! Where work in progress lies, and how shards are packed of it.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

use relievo_files::write_durable;

use super::record::Record;
use super::report::{REPORT, Reported, read_json};
use super::run::CropError;

/// Inputs whose crops share a shard.
pub(super) const SHARD: u64 = 1000;

/// Where crops lie until their shard is written.
const UNFINISHED: &str = ".unfinished";

/// The output folder.
pub(super) struct Store {
    out: PathBuf,
    inputs: u64,
    /// Records of an earlier call that finished.
    reported: Vec<Record>,
}

impl Store {
    /// Of a folder with the results, or parts of them, of so many inputs.
    pub fn open(out: &Path, inputs: u64) -> Result<Self, CropError> {
        let report = out.join(REPORT);
        let reported = if report.exists() { read_json::<Reported>(&report)?.inputs } else { Vec::new() };
        Ok(Self { out: out.to_owned(), inputs, reported })
    }

    pub fn is_finished(&self) -> bool {
        !self.reported.is_empty()
    }

    pub fn shards(&self) -> u64 {
        self.inputs.div_ceil(SHARD)
    }

    pub fn inputs(&self, shard: u64) -> Range<u64> {
        shard * SHARD..self.inputs.min((shard + 1) * SHARD)
    }

    pub fn shard_path(&self, shard: u64) -> PathBuf {
        self.out.join(format!("faces-{shard:05}.tar"))
    }

    /// Where the records of a finished shard's inputs lie.
    fn records_path(&self, shard: u64) -> PathBuf {
        self.out.join(UNFINISHED).join(format!("{shard:05}.json"))
    }

    /// The folder of a shard's inputs until it is written.
    fn folder(&self, shard: u64) -> PathBuf {
        self.out.join(UNFINISHED).join(format!("{shard:05}"))
    }

    fn record_path(&self, input: u64) -> PathBuf {
        self.folder(input / SHARD).join(format!("{input:08}.json"))
    }

    pub fn crop_path(&self, input: u64, number: usize) -> PathBuf {
        self.folder(input / SHARD).join(format!("{input:08}.{number}.png"))
    }

    /// The records of a shard that is written, if it is; also gives whether the shard that they speak of is there.
    pub fn written(&self, shard: u64) -> Result<Option<(Vec<Record>, bool)>, CropError> {
        let path = self.records_path(shard);
        let inputs = self.inputs(shard);
        let records: Vec<Record> = if path.exists() {
            read_json(&path)?
        } else if self.reported.len() as u64 == self.inputs {
            self.reported[inputs.start as usize..inputs.end as usize].to_vec()
        } else {
            return Ok(None);
        };
        let is_there = records.iter().all(|record| record.files().next().is_none())
            || self.members(shard).is_ok_and(|members| {
                records.iter().flat_map(Record::files).all(|file| members.contains_key(file))
            });
        Ok(Some((records, is_there)))
    }

    /// The record of an input of a shard that is not written, or of one whose inputs are tried again.
    pub fn record(&self, input: u64) -> Result<Option<Record>, CropError> {
        let path = self.record_path(input);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }

    pub fn write_record(&self, input: u64, record: &Record) -> Result<(), CropError> {
        let text = serde_json::to_string(record).map_err(io::Error::other);
        Ok(write_durable(self.record_path(input), |file| writeln!(file, "{}", text?))?)
    }

    /// Where the files of a shard lie in it, and how many bytes they have.
    fn members(&self, shard: u64) -> io::Result<HashMap<String, [u64; 2]>> {
        let file = fs::File::open(self.shard_path(shard))?;
        let end = file.metadata()?.len();
        let mut archive = tar::Archive::new(file);
        let mut members = HashMap::new();
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let place = [entry.raw_file_position(), entry.size()];
            if place[0].checked_add(place[1]).is_none_or(|last| last > end) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            members.insert(String::from_utf8_lossy(&entry.path_bytes()).into_owned(), place);
        }
        Ok(members)
    }

    /// A file of a shard that is there.
    fn member(&self, shard: u64, [offset, bytes]: [u64; 2]) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(self.shard_path(shard))?;
        file.seek(io::SeekFrom::Start(offset))?;
        let mut content = vec![0; bytes as usize];
        file.read_exact(&mut content)?;
        Ok(content)
    }

    /// Packs the crops of a shard's inputs, notes that it is written, and clears up behind it. Inputs without a record in
    /// the hidden folder keep what an earlier call made of them.
    pub fn write_shard(&self, shard: u64, earlier: Option<Vec<Record>>) -> Result<(), CropError> {
        let old = if earlier.is_some() { self.members(shard).unwrap_or_default() } else { HashMap::new() };
        let mut earlier = earlier.unwrap_or_default().into_iter();
        let (mut records, mut members) = (Vec::new(), Vec::new());
        for input in self.inputs(shard) {
            let before = earlier.next();
            let record = match (self.record(input)?, before) {
                (Some(record), _) => {
                    let crops = record.files().enumerate();
                    members.extend(
                        crops.map(|(number, file)| (file.to_owned(), Some(self.crop_path(input, number)))),
                    );
                    record
                }
                (None, Some(before)) => {
                    members.extend(before.files().map(|file| (file.to_owned(), None)));
                    before
                }
                (None, None) => return Err(CropError::LostRecord { path: self.record_path(input) }),
            };
            records.push(record);
        }
        if !members.is_empty() {
            write_durable(self.shard_path(shard), |file| {
                let mut archive = tar::Builder::new(file);
                for (name, crop) in &members {
                    let bytes = match crop {
                        Some(crop) => relievo_files::read(crop).map_err(io::Error::other)?,
                        None => self.member(shard, *old.get(name).ok_or(io::ErrorKind::NotFound)?)?,
                    };
                    let mut header = tar::Header::new_gnu();
                    header.set_size(bytes.len() as u64);
                    header.set_mode(0o644);
                    // No time and no owner: the same crops make the same file.
                    archive.append_data(&mut header, name, bytes.as_slice())?;
                }
                archive.finish()
            })?;
        }
        let text = serde_json::to_string(&records).map_err(io::Error::other);
        write_durable(self.records_path(shard), |file| writeln!(file, "{}", text?))?;
        let _ = fs::remove_dir_all(self.folder(shard));
        Ok(())
    }

    /// The records of all inputs, once all shards are written.
    pub fn all_records(&self) -> Result<Vec<Record>, CropError> {
        let mut all = Vec::new();
        for shard in 0..self.shards() {
            let written = self.written(shard)?;
            let (records, _) =
                written.ok_or_else(|| CropError::LostRecord { path: self.records_path(shard) })?;
            all.extend(records);
        }
        Ok(all)
    }

    /// Inputs of which an earlier call, or this one, knows what became of them.
    pub fn known(&self) -> u64 {
        let is_known = |input: &u64| {
            self.record_path(*input).exists()
                || self.records_path(input / SHARD).exists()
                || self.reported.len() as u64 == self.inputs
        };
        (0..self.inputs).filter(is_known).count() as u64
    }

    /// Removes what only work in progress needs.
    pub fn clear_up(&self) {
        // If it cannot be removed, it does no harm.
        let _ = fs::remove_dir_all(self.out.join(UNFINISHED));
    }
}
