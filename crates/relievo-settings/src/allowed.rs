//! Which values a setting may have, and how a message says so.

use std::ops::{Range, RangeFrom, RangeInclusive};

use crate::value::{Number, SettingType};

/// A value that a setting must not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The setting, in kebab-case.
    pub setting: &'static str,
    /// The whole message: the setting, its value and what it must be.
    pub reason: String,
}

impl Invalid {
    /// `requirement` completes the sentence "it must ...".
    pub fn new(setting: &'static str, value: impl std::fmt::Display, requirement: &str) -> Self {
        Self { setting, reason: format!("{setting} is {value}; it must {requirement}") }
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Invalid {}

/// A set of values that a setting may have.
pub trait Allowed<T> {
    /// Whether the value is one of them.
    fn admits(&self, value: &T) -> bool;

    /// What completes the sentence "it must ...".
    fn requirement(&self) -> String;
}

/// Checks a setting that is called `name`. One that is unset is valid.
///
/// # Errors
/// If `allowed` does not admit the value.
pub fn check<T: SettingType>(
    name: &'static str,
    value: &T,
    allowed: &impl Allowed<T::Set>,
) -> Result<(), Invalid> {
    match value.set() {
        Some(set) if !allowed.admits(set) => Err(Invalid::new(name, value.value(), &allowed.requirement())),
        _ => Ok(()),
    }
}

impl<T: Number> Allowed<T> for RangeInclusive<T> {
    fn admits(&self, value: &T) -> bool {
        self.contains(value)
    }
    fn requirement(&self) -> String {
        format!("lie between {} and {}", self.start().text(), self.end().text())
    }
}

impl<T: Number> Allowed<T> for Range<T> {
    fn admits(&self, value: &T) -> bool {
        self.contains(value)
    }
    fn requirement(&self) -> String {
        format!("be at least {} and less than {}", self.start.text(), self.end.text())
    }
}

/// Without an end; infinity is refused all the same.
impl<T: Number> Allowed<T> for RangeFrom<T> {
    fn admits(&self, value: &T) -> bool {
        self.contains(value) && value.is_finite().unwrap_or(true)
    }
    fn requirement(&self) -> String {
        match self.start.is_finite() {
            Some(_) => format!("be a finite number, at least {}", self.start.text()),
            None => format!("be at least {}", self.start.text()),
        }
    }
}

/// The multiples of `step` in a range.
pub fn multiple_of(step: usize, range: RangeInclusive<usize>) -> impl Allowed<usize> {
    Which {
        range,
        holds: move |value: usize| value.is_multiple_of(step),
        what: format!("multiple of {step}"),
    }
}

/// The powers of two in a range.
pub fn power_of_two(range: RangeInclusive<usize>) -> impl Allowed<usize> {
    Which { range, holds: |value: usize| value.is_power_of_two(), what: "power of two".to_owned() }
}

/// The same values; a message adds their unit.
pub fn with_unit<T>(allowed: impl Allowed<T>, unit: &'static str) -> impl Allowed<T> {
    WithUnit { allowed, unit }
}

struct Which<F> {
    range: RangeInclusive<usize>,
    holds: F,
    what: String,
}

impl<F: Fn(usize) -> bool> Allowed<usize> for Which<F> {
    fn admits(&self, value: &usize) -> bool {
        self.range.contains(value) && (self.holds)(*value)
    }
    fn requirement(&self) -> String {
        format!("be a {} from {} to {}", self.what, self.range.start(), self.range.end())
    }
}

struct WithUnit<A> {
    allowed: A,
    unit: &'static str,
}

impl<T, A: Allowed<T>> Allowed<T> for WithUnit<A> {
    fn admits(&self, value: &T) -> bool {
        self.allowed.admits(value)
    }
    fn requirement(&self) -> String {
        format!("{} {}", self.allowed.requirement(), self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: SettingType>(value: T, allowed: impl Allowed<T::Set>) -> String {
        check("width", &value, &allowed).err().map(|invalid| invalid.to_string()).unwrap_or_default()
    }

    #[test]
    fn messages_name_the_setting_its_value_and_what_it_must_be() {
        assert_eq!(
            message(65usize, power_of_two(64..=1024)),
            "width is 65; it must be a power of two from 64 to 1024"
        );
        assert_eq!(
            message(6usize, multiple_of(4, 4..=512)),
            "width is 6; it must be a multiple of 4 from 4 to 512"
        );
        assert_eq!(message(0u64, 1..), "width is 0; it must be at least 1");
        assert_eq!(
            message(1e-60, 1e-37..=1e38),
            "width is 0.000000000000000000000000000000000000000000000000000000000001; it must lie between 1e-37 and 1e38"
        );
        assert_eq!(
            message(181.0f32, with_unit(0.0..=180.0, "degrees")),
            "width is 181; it must lie between 0 and 180 degrees"
        );
        assert_eq!(message(1.0, 0.0..1.0), "width is 1; it must be at least 0 and less than 1");
    }

    #[test]
    fn what_is_no_number_is_never_allowed_and_what_is_unset_always() {
        for number in [f64::NAN, f64::INFINITY] {
            assert_eq!(
                message(number, 0.0..),
                format!("width is {number}; it must be a finite number, at least 0")
            );
            assert!(!message(number, 0.0..=1e6).is_empty());
        }
        assert_eq!(message(None::<usize>, multiple_of(4, 4..=512)), "");
        assert!(message(Some(3usize), multiple_of(4, 4..=512)).starts_with("width is 3;"));
        assert_eq!(message(512usize, multiple_of(4, 4..=512)), "");
    }
}
