//! Settings as options of a command line: what the macros' code calls.

use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::value::SettingType;

/// A type that an option may have.
pub trait ArgumentType: SettingType + Clone + Send + Sync + 'static {
    /// The argument with the parser of this type.
    fn parsed(argument: Arg) -> Arg;

    /// The value of the argument `id`; `None` if it was not given and has no default.
    fn from_matches(matches: &ArgMatches, id: &str) -> Option<Self> {
        matches.get_one::<Self>(id).cloned()
    }
}

/// The argument for a setting. `names` are those of the field, of the option and of its value in the help; `default` is
/// what the command line would say for the default.
pub fn argument<T: ArgumentType>(
    [id, long, value]: [&'static str; 3],
    help: &'static str,
    default: &'static [String],
) -> Arg {
    let argument = T::parsed(Arg::new(id).long(long).value_name(value).help(help));
    if T::IS_OPTIONAL { argument } else { argument.default_values(default.iter().map(String::as_str)) }
}

macro_rules! parsed {
    ($($type:ty),+) => { $(
        impl ArgumentType for $type {
            fn parsed(argument: Arg) -> Arg {
                argument.value_parser(value_parser!($type))
            }
        }
    )+ };
}

parsed!(u64, usize, f32, f64);

/// Always with a value: `--confidence false`.
impl ArgumentType for bool {
    fn parsed(argument: Arg) -> Arg {
        argument.action(ArgAction::Set).value_parser(value_parser!(bool))
    }
}

impl ArgumentType for PathBuf {
    fn parsed(argument: Arg) -> Arg {
        argument.value_name("FILE").value_parser(value_parser!(PathBuf))
    }
}

/// The arguments that stand without an option.
impl<T> ArgumentType for Vec<T>
where
    T: FromStr<Err: Into<Box<dyn Error + Send + Sync>>> + Display + Clone + Send + Sync + 'static,
{
    fn parsed(argument: Arg) -> Arg {
        argument
            .long(None::<&'static str>)
            .help_heading("Arguments")
            .num_args(1..)
            .action(ArgAction::Append)
            .value_parser(|text: &str| text.parse::<T>())
    }

    fn from_matches(matches: &ArgMatches, id: &str) -> Option<Self> {
        Some(matches.get_many::<T>(id)?.cloned().collect())
    }
}

impl<T: ArgumentType + SettingType<Set = T>> ArgumentType for Option<T> {
    fn parsed(argument: Arg) -> Arg {
        T::parsed(argument)
    }

    fn from_matches(matches: &ArgMatches, id: &str) -> Option<Self> {
        T::from_matches(matches, id).map(Some)
    }
}
