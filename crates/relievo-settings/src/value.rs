//! The types that settings may have.

use std::fmt;
use std::path::PathBuf;

/// The value of a setting, to be shown and compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An optional setting without a value.
    Unset,
    /// A whole number from 0.
    Integer(u64),
    /// Any other value, as the command line takes it.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => write!(f, "none"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text}"),
        }
    }
}

/// A type that a setting may have.
pub trait SettingType {
    /// The type of a value that is set: for an `Option<T>` that is `T`, otherwise the type itself.
    type Set;
    /// Whether a setting of this type may be left unset.
    const IS_OPTIONAL: bool = false;

    /// The value, if it is set.
    fn set(&self) -> Option<&Self::Set>;

    /// The value, to be shown and compared.
    fn value(&self) -> Value;

    /// The value as one or, for a list, several words of a command line.
    fn words(&self) -> Vec<String> {
        vec![self.value().to_string()]
    }
}

/// Whether an optional setting has no value: serde then leaves it out.
pub fn is_unset<T: SettingType>(value: &T) -> bool {
    value.set().is_none()
}

/// A number that may be restricted to a range.
pub trait Number: PartialOrd {
    /// Whether it is neither infinite nor NaN; `None` for whole numbers.
    fn is_finite(&self) -> Option<bool>;

    /// The number in a message.
    fn text(&self) -> String;
}

macro_rules! whole {
    ($($type:ty),+) => { $(
        impl SettingType for $type {
            type Set = Self;
            fn set(&self) -> Option<&Self> {
                Some(self)
            }
            fn value(&self) -> Value {
                Value::Integer(*self as u64)
            }
        }

        impl Number for $type {
            fn is_finite(&self) -> Option<bool> {
                None
            }
            fn text(&self) -> String {
                self.to_string()
            }
        }
    )+ };
}

macro_rules! fractional {
    ($($type:ty),+) => { $(
        impl SettingType for $type {
            type Set = Self;
            fn set(&self) -> Option<&Self> {
                Some(self)
            }
            fn value(&self) -> Value {
                Value::Text(self.to_string())
            }
        }

        impl Number for $type {
            fn is_finite(&self) -> Option<bool> {
                Some(<$type>::is_finite(*self))
            }
            fn text(&self) -> String {
                let is_plain = *self == 0.0 || (1e-4..1e7).contains(&self.abs()) || !<$type>::is_finite(*self);
                if is_plain { self.to_string() } else { format!("{self:e}") }
            }
        }
    )+ };
}

whole!(u64, usize);
fractional!(f32, f64);

impl SettingType for bool {
    type Set = Self;
    fn set(&self) -> Option<&Self> {
        Some(self)
    }
    fn value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl SettingType for PathBuf {
    type Set = Self;
    fn set(&self) -> Option<&Self> {
        Some(self)
    }
    fn value(&self) -> Value {
        Value::Text(self.display().to_string())
    }
}

impl<T: fmt::Display> SettingType for Vec<T> {
    type Set = Self;
    fn set(&self) -> Option<&Self> {
        Some(self)
    }
    fn value(&self) -> Value {
        Value::Text(self.words().join(" "))
    }
    fn words(&self) -> Vec<String> {
        self.iter().map(T::to_string).collect()
    }
}

impl<T: SettingType<Set = T>> SettingType for Option<T> {
    type Set = T;
    const IS_OPTIONAL: bool = true;
    fn set(&self) -> Option<&T> {
        self.as_ref()
    }
    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Unset, T::value)
    }
}
