//! What became of each input, and all of that in numbers.

use serde::{Deserialize, Serialize};

use crate::{FaceLocation, FaceSelection};

/// What must be the same for work to go on.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Plan {
    pub version: u32,
    pub size: u32,
    pub faces: FaceSelection,
    pub min_side: u32,
    pub inputs: u64,
    /// CRC-32 of the inputs' names.
    pub names: u32,
}

/// What became of an input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// Its name.
    pub input: String,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its faces that count, the largest first, with those that were dropped.
    pub faces: Vec<Outcome>,
}

impl Record {
    /// Names of its crops in the shard.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.faces.iter().filter_map(|face| face.file.as_deref())
    }
}

/// What became of a face.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// The file in the shard; none if it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Why it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Reason>,
    /// In degrees, positive where the face looks to the left of the image; from the landmarks, so about.
    pub yaw: f32,
    /// Where it is in the photograph.
    #[serde(flatten)]
    pub place: FaceLocation,
}

/// Why a face was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Too much of its crop lies outside the photograph.
    OutsideThePhotograph,
    /// Its crop has fewer pixels than asked for.
    TooSmall,
}

/// Records in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Summary {
    /// Inputs.
    pub inputs: u64,
    /// Inputs that could not be read.
    pub unreadable: u64,
    /// Inputs without a face.
    pub without_face: u64,
    /// Crops in the shards.
    pub crops: u64,
    /// Faces that lie too far outside their photographs.
    pub dropped_outside: u64,
    /// Faces that are too small.
    pub dropped_too_small: u64,
}

impl Summary {
    /// Counts.
    pub fn from_records(records: &[Record]) -> Self {
        let mut summary = Self { inputs: records.len() as u64, ..Self::default() };
        for record in records {
            summary.unreadable += u64::from(record.error.is_some());
            summary.without_face += u64::from(record.error.is_none() && record.faces.is_empty());
            for face in &record.faces {
                match face.dropped {
                    None => summary.crops += 1,
                    Some(Reason::OutsideThePhotograph) => summary.dropped_outside += 1,
                    Some(Reason::TooSmall) => summary.dropped_too_small += 1,
                }
            }
        }
        summary
    }

    /// A table for a person: the numbers, and the middle of the crops' sizes and yaws.
    pub fn table(&self, records: &[Record]) -> String {
        let row = |name: &str, number: u64| format!("{name:<34}{number:>8}\n");
        let mut text = row("photographs", self.inputs);
        text += &row("crops", self.crops);
        text += &row("without a face", self.without_face);
        text += &row("dropped: too far outside", self.dropped_outside);
        text += &row("dropped: too small", self.dropped_too_small);
        text += &row("unreadable", self.unreadable);
        let mut sides = values(records, |face| face.place.crop.side);
        let mut turned = values(records, |face| face.yaw.abs());
        for values in [&mut sides, &mut turned] {
            values.sort_by(f32::total_cmp);
        }
        if let (Some(side), Some(turned)) = (sides.get(sides.len() / 2), turned.get(turned.len() / 2)) {
            text += &format!(
                "{:<34}{side:>8.0}\n{:<34}{turned:>8.0}\n",
                "median side, pixels", "median yaw to either side, degrees"
            );
        }
        text.trim_end().to_owned()
    }
}

/// A number of every face that was not dropped.
pub(super) fn values(records: &[Record], value: impl Fn(&Outcome) -> f32) -> Vec<f32> {
    let faces = records.iter().flat_map(|record| &record.faces);
    faces.filter(|face| face.file.is_some()).map(value).collect()
}
