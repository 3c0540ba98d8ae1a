//! A training set of faces from raw photographs: [`CropRun`].
//!
//! Inputs are numbered in the order of their names. The crops of a thousand inputs become a shard. Until all of those
//! are done, their crops and what is known of each input lie as files in a hidden folder, each written whole or not at
//! all, the record of an input after its crops. So whatever ends the program, the same call finds what is done, and
//! makes the shards that it would have made in one go. Inputs that could not be read are tried again by each call, and
//! a shard that is gone is made again.
//!
//! The folder gets `faces-00000.tar` and so on (PNG crops), `report.json` (what was found in each input, what was
//! dropped and why), `sheet.png` (crops from all over the set) and `histograms.png` (sizes of faces, and how far heads
//! are turned).

mod names;
mod record;
mod report;
mod run;
mod shards;

pub use record::{Outcome, Reason, Record, Summary};
pub use report::REPORT;
pub use run::{CropError, CropEvent, CropRun, CropSettings, Start};
