//! Tables of papers on synthetic heads: which rows they have, how a row is run, and what was measured.
//!
//! A row is the recipe of all rows with one point changed. It is trained once for each seed, in the
//! folder of an ordinary run, and measured on heads that no row has learned from:
//!
//! ```text
//! ours/seed-0/           a run, as `relievo train` makes it
//! supervised/seed-0/
//! features.safetensors   self-supervised features, for the row that compares those
//! results.json           the measurements, row by row and seed by seed
//! ```
//!
//! Heads are split by their numbers: training takes the recipe's `synthetic-count` heads but its last `validation` ones,
//! which are validated on; the heads that follow are the test. Tables share the rows they have in common.
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//!
//! use relievo_reproduce::{Event, Reproduction, Table, Task};
//! use relievo_train::Settings;
//!
//! let mut recipe = Settings::default();
//! recipe.data.validation = 1_000.0;
//! recipe.data.held_out = relievo_train::HeldOut::Last;
//! // Measured on 2,000 heads; self-supervised features take 10,000 steps to learn.
//! let mut tables = Reproduction::open("tables".into(), recipe, 2_000, 10_000)?;
//! let never = AtomicBool::new(false);
//! for task in Task::for_rows(Table::Comparison.rows(), &[0, 1, 2]) {
//!     if !tables.is_done(task)? {
//!         tables.run(task, &mut |_: Event<'_>| (), &never)?;
//!     }
//! }
//! for line in tables.results().summaries(Table::Comparison) {
//!     println!("{}: SIDE {:?}, MAD {:?}", line.row.title(), line.side, line.mad);
//! }
//! # Ok::<(), relievo_reproduce::ReproduceError>(())
//! ```
//!
//! Source: Wu, Rupprecht and Vedaldi 2020, section 4 (tables 2 to 4). The figures that the paper gives for its own data
//! ([`Row::published`]) cannot be reached with these heads; they stand beside ours because their order should be the
//! same.

mod course;
mod error;
mod features;
mod heads;
mod recipe;
mod results;
mod rows;
mod run;

pub use error::{FeatureError, RecipeError, ReproduceError};
pub use heads::heads;
pub use results::{HeadCounts, Measured, Results, Spread, Summary, Validated};
pub use rows::{Published, Row, Table};
pub use run::{Event, RESULTS, Reproduction, Task};
