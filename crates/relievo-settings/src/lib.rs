//! Settings by one declaration.
//!
//! [`settings!`] turns a list of settings into a struct with documentation, defaults, a check of each value, names for
//! serde and, with the feature `cli`, options for clap; it also lists the settings with their [`Kind`], so that code
//! which treats settings of one kind alike needs no list of its own. [`choices!`] does the same for an enum of names.
//!
//! ```
//! use relievo_settings::{Kind, Value, multiple_of, settings};
//!
//! settings! {
//!     /// How large a network is.
//!     pub struct Size {
//!         /// Channels at the first level
//!         width: usize = 64, in multiple_of(4, 4..=512), kind(Architecture);
//!         /// Learning rate
//!         learning_rate: f64 = 1e-4, in 0.0.., formerly "rate", kind(Schedule);
//!     }
//! }
//!
//! let size = Size { width: 6, ..Size::default() };
//! let message = size.check_each().unwrap_err().to_string();
//! assert_eq!(message, "width is 6; it must be a multiple of 4 from 4 to 512");
//!
//! let old: Size = serde_json::from_str(r#"{"rate": 0.5}"#).unwrap();
//! let (setting, value) = old.settings().find(|(setting, _)| setting.kind == Kind::Schedule).unwrap();
//! assert_eq!((setting.name, value), ("learning-rate", Value::Text("0.5".into())));
//! ```

mod allowed;
#[cfg(feature = "cli")]
pub mod cli;
mod declaration;
mod value;

pub use allowed::{Allowed, Invalid, check, multiple_of, power_of_two, with_unit};
#[doc(hidden)]
pub use declaration::{kebab, kebab_length, replaced, text};
pub use value::{Number, SettingType, Value, is_unset};

/// What a setting decides, and so where its value may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Which parameters the networks have. Fixed within a run.
    Architecture,
    /// What the networks' outputs mean: with other values the same weights make other surfaces, views and lights. Fixed
    /// within a run.
    Meaning,
    /// What is minimised, and from where. Fixed within a run.
    Objective,
    /// Which images are learned from. Fixed within a run.
    Data,
    /// Which of the equally good runs of a recipe this one is. Fixed within a run; runs are compared across seeds.
    Seed,
    /// Where the images lie. They may move within a run, which knows them by their names.
    Source,
    /// A file that is read again when a run goes on. It may move, but not come or go; runs are compared by its content.
    File,
    /// How one step leads to the next, and which step is kept. May change within a run.
    Schedule,
    /// Nothing that the state after a given step depends on: where and how long to compute, what to write on the way.
    Free,
}

impl Kind {
    /// Whether a setting of this kind must keep its value as long as a run lasts.
    pub fn is_fixed(self) -> bool {
        matches!(self, Self::Architecture | Self::Meaning | Self::Objective | Self::Data | Self::Seed)
    }

    /// Whether two runs whose settings of this kind differ follow different recipes.
    pub fn is_compared(self) -> bool {
        !matches!(self, Self::Seed | Self::File | Self::Free)
    }
}

/// What was declared of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name in files and on the command line, in kebab-case.
    pub name: &'static str,
    /// Its documentation, on one line.
    pub help: &'static str,
    /// What it decides.
    pub kind: Kind,
    /// The name it had in an earlier version. Files and command lines with that name are still read.
    pub formerly: Option<&'static str>,
    /// Whether it may be left unset.
    pub is_optional: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    choices! {
        /// Shapes of corners.
        pub enum Corner {
            /// Not round
            Sharp,
            /// A quarter of a circle
            QuarterRound,
            /// By two numbers
            B2,
        }
    }

    #[test]
    fn names_of_choices_are_those_of_files() {
        assert_eq!(
            Corner::ALL.iter().map(|corner| corner.name()).collect::<Vec<_>>(),
            ["sharp", "quarter-round", "b2"]
        );
        for corner in Corner::ALL {
            assert_eq!(serde_json::to_value(corner).unwrap(), corner.name());
        }
        assert_eq!(Some(Corner::QuarterRound).value(), Value::Text("quarter-round".into()));
        assert_eq!(None::<Corner>.value(), Value::Unset);
    }

    #[cfg(feature = "cli")]
    #[test]
    fn names_of_choices_are_those_of_the_command_line() {
        use clap::ValueEnum as _;

        for corner in Corner::ALL {
            assert_eq!(corner.to_possible_value().unwrap().get_name(), corner.name());
        }
    }
}
