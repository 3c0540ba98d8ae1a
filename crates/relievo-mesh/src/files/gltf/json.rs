//! JSON values that know where they stand.

use serde_json::Value;

use crate::files::{Fault, Place, ReadError};

/// A value and its path in the document, for errors.
#[derive(Clone)]
pub(super) struct At<'a> {
    pub value: &'a Value,
    path: String,
}

impl<'a> At<'a> {
    pub fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    pub fn error(&self, fault: Fault) -> ReadError {
        let path = if self.path.is_empty() { "the JSON" } else { &self.path };
        fault.at(Place::Json(path.to_owned()))
    }

    pub fn unexpected(&self, expected: &'static str) -> ReadError {
        let found = match self.value {
            Value::Array(items) => format!("a list of {}", items.len()),
            Value::Object(_) => "an object".to_owned(),
            other => other.to_string().chars().take(60).collect(),
        };
        self.error(Fault::Unexpected { expected, found })
    }

    pub fn missing(&self, key: &'static str) -> ReadError {
        self.error(Fault::Unexpected { expected: key, found: "nothing".to_owned() })
    }

    /// The member of an object, if it is there.
    pub fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key)?;
        let dot = if self.path.is_empty() { "" } else { "." };
        Some(Self { value, path: format!("{}{dot}{key}", self.path) })
    }

    /// The items of a list member; none if it is not there.
    pub fn items(&self, key: &str) -> Result<Vec<Self>, ReadError> {
        let Some(list) = self.get(key) else { return Ok(vec![]) };
        let Value::Array(items) = list.value else { return Err(list.unexpected("a list")) };
        let at = |(at, value)| Self { value, path: format!("{}[{at}]", list.path) };
        Ok(items.iter().enumerate().map(at).collect())
    }

    /// An item of a list in the root, such as a mesh.
    pub fn item(&self, key: &'static str, index: usize) -> Option<Self> {
        let value = self.value.get(key)?.get(index)?;
        Some(Self { value, path: format!("{key}[{index}]") })
    }

    /// A whole number that is not negative.
    pub fn number(&self) -> Result<usize, ReadError> {
        let number = match self.value {
            Value::Number(number) => number.as_u64().or_else(|| {
                // Some programs write 3.0.
                let number = number.as_f64()?;
                (number >= 0.0 && number.fract() == 0.0 && number < 9e15).then_some(number as u64)
            }),
            _ => None,
        };
        let number = number.and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| self.unexpected("a whole number"))
    }

    /// A member that is a whole number, if it is there.
    pub fn optional(&self, key: &str) -> Result<Option<usize>, ReadError> {
        self.get(key).map(|member| member.number()).transpose()
    }

    pub fn required(&self, key: &'static str) -> Result<usize, ReadError> {
        self.optional(key)?.ok_or_else(|| self.missing(key))
    }

    /// A member that is a text, if it is there.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ReadError> {
        let Some(member) = self.get(key) else { return Ok(None) };
        member.value.as_str().map(Some).ok_or_else(|| member.unexpected("a text"))
    }

    /// A member that is a list of N numbers, if it is there.
    pub fn numbers<const N: usize>(&self, key: &str) -> Result<Option<[f64; N]>, ReadError> {
        let Some(member) = self.get(key) else { return Ok(None) };
        let items = member.value.as_array().filter(|items| items.len() == N);
        let items = items.ok_or_else(|| member.unexpected("a list of numbers of the right length"))?;
        let mut numbers = [0.0; N];
        for (number, item) in numbers.iter_mut().zip(items) {
            *number = item.as_f64().ok_or_else(|| member.unexpected("numbers"))?;
        }
        Ok(Some(numbers))
    }
}
