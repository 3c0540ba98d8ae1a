//! The list `loss` of the settings: which terms compare the reconstruction with the image, and how much each counts.
//!
//! In a settings file each is a table, on the command line a word:
//!
//! ```toml
//! [[model.loss]]
//! kind = "ssim"
//! weight = 0.5
//! ```
//!
//! is `--loss ssim=0.5`.

use std::fmt;
use std::str::FromStr;

use relievo_settings::{Allowed, SettingType, Value};
use serde::{Deserialize, Serialize};

use super::LossKind;

/// The largest weight.
const MOST: f32 = 1e6;

impl LossKind {
    /// Whether it compares VGG16's features.
    pub fn needs_vgg(self) -> bool {
        matches!(self, Self::VggRelu12 | Self::VggRelu22)
    }
}

/// A term and its weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LossWeight {
    /// The term.
    pub kind: LossKind,
    /// Its weight in the total, from 0 (it is left out) to 1e6.
    pub weight: f32,
}

impl fmt::Display for LossWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind.name(), self.weight)
    }
}

/// From `KIND=WEIGHT`.
impl FromStr for LossWeight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, weight)) = text.split_once('=') else {
            return Err("a term is KIND=WEIGHT, such as ssim=0.5".into());
        };
        let Some(kind) = LossKind::ALL.iter().find(|kind| kind.name() == name) else {
            let names: Vec<&str> = LossKind::ALL.iter().map(|kind| kind.name()).collect();
            return Err(format!("there is no term `{name}`; there are {}", names.join(", ")));
        };
        let weight =
            weight.parse().map_err(|_| format!("the weight of {name} is `{weight}`, which is no number"))?;
        Ok(Self { kind: *kind, weight })
    }
}

/// Terms with their weights; each kind stands in it once at most. Empty it is today's loss.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossList(pub Vec<LossWeight>);

impl LossList {
    /// A list of terms.
    pub fn of(terms: &[(LossKind, f32)]) -> Self {
        Self(terms.iter().map(|&(kind, weight)| LossWeight { kind, weight }).collect())
    }

    /// The terms in order.
    pub fn iter(&self) -> impl Iterator<Item = &LossWeight> {
        self.0.iter()
    }

    /// The weight of a term; `None` if the list does not have it.
    pub fn weight(&self, kind: LossKind) -> Option<f32> {
        self.iter().find(|term| term.kind == kind).map(|term| term.weight)
    }
}

impl fmt::Display for LossList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.words().join(" "))
    }
}

/// An empty list is unset, so that files and checksums of runs without one stay the same.
impl SettingType for LossList {
    type Set = Self;
    const IS_OPTIONAL: bool = true;

    fn set(&self) -> Option<&Self> {
        (!self.0.is_empty()).then_some(self)
    }

    fn value(&self) -> Value {
        self.set().map_or(Value::Unset, |list| Value::Text(list.to_string()))
    }

    fn words(&self) -> Vec<String> {
        self.iter().map(LossWeight::to_string).collect()
    }
}

#[cfg(feature = "cli")]
impl relievo_settings::cli::ArgumentType for LossList {
    fn parsed(argument: clap::Arg) -> clap::Arg {
        argument
            .value_name("KIND=WEIGHT")
            .action(clap::ArgAction::Append)
            .value_parser(|text: &str| text.parse::<LossWeight>())
    }

    fn from_matches(matches: &clap::ArgMatches, id: &str) -> Option<Self> {
        Some(Self(matches.get_many::<LossWeight>(id)?.copied().collect()))
    }
}

/// The lists that have each kind once, with weights in their range.
pub(crate) struct EachOnce;

impl Allowed<LossList> for EachOnce {
    fn admits(&self, list: &LossList) -> bool {
        let is_first = |(at, term): (usize, &LossWeight)| list.0[..at].iter().all(|of| of.kind != term.kind);
        list.iter().all(|term| (0.0..=MOST).contains(&term.weight)) && list.iter().enumerate().all(is_first)
    }

    fn requirement(&self) -> String {
        format!("have each kind once, with a weight between 0 and {MOST}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelSettings;

    #[test]
    fn terms_are_read_as_they_are_written() {
        for kind in LossKind::ALL {
            let term = LossWeight { kind: *kind, weight: 0.25 };
            assert_eq!(term.to_string().parse(), Ok(term));
        }
        let refusal = |text: &str| text.parse::<LossWeight>().unwrap_err();
        assert!(refusal("photometric").contains("KIND=WEIGHT"));
        assert!(refusal("photo=1").starts_with("there is no term `photo`; there are photometric"));
        assert!(refusal("photometric=much").contains("`much`, which is no number"));
    }

    #[test]
    fn a_list_is_checked_and_an_empty_one_is_not_written() {
        let with = |terms: &[(LossKind, f32)]| ModelSettings {
            perceptual_weight: 1.0,
            loss: LossList::of(terms),
            ..ModelSettings::default()
        };
        let kind = LossKind::Photometric;
        assert!(!serde_json::to_string(&with(&[])).unwrap().contains("loss"));
        let some = with(&[(kind, 0.5)]);
        let text = toml::to_string(&some).unwrap();
        assert!(text.ends_with("[[loss]]\nkind = \"photometric\"\nweight = 0.5\n"), "{text}");
        assert_eq!(toml::from_str::<ModelSettings>(&text).unwrap(), some);
        for wrong in [&[(kind, -1.0)][..], &[(kind, f32::NAN)], &[(kind, 1.0), (kind, 2.0)]] {
            let refusal = with(wrong).check().unwrap_err().to_string();
            assert!(
                refusal.contains("it must have each kind once, with a weight between 0 and"),
                "{refusal}"
            );
        }
        let nothing = ModelSettings { perceptual_weight: 0.0, ..with(&[(kind, 0.0)]) };
        assert!(nothing.check().unwrap_err().to_string().contains("another term must compare"));
        with(&[(kind, 0.0)]).check().unwrap();
    }
}
