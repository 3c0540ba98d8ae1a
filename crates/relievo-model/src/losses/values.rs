//! The values of the losses.

use std::fmt;
use std::ops::{Index, IndexMut};

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Loss;

/// The key of the total in JSON, beside the names of the losses.
const TOTAL: &str = "total";

/// The values of the losses of a batch. With confidence some are negative log likelihoods and may be below zero; losses
/// that a model does not have are 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// The sum that is minimised.
    pub total: f32,
    values: [f32; Loss::ALL.len()],
}

/// All 0. Not derived: arrays of more than 32 have no default.
impl Default for Losses {
    fn default() -> Self {
        Self { total: 0.0, values: [0.0; Loss::ALL.len()] }
    }
}

impl Index<Loss> for Losses {
    type Output = f32;
    fn index(&self, loss: Loss) -> &f32 {
        &self.values[loss as usize]
    }
}

impl IndexMut<Loss> for Losses {
    fn index_mut(&mut self, loss: Loss) -> &mut f32 {
        &mut self.values[loss as usize]
    }
}

impl Losses {
    /// All but the total, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, f32)> {
        Loss::ALL.iter().copied().zip(self.values)
    }

    /// Adds `weight` times the losses of one batch.
    pub fn add(&mut self, of_batch: &Self, weight: f32) {
        self.total += weight * of_batch.total;
        for (sum, value) in self.values.iter_mut().zip(of_batch.values) {
            *sum += weight * value;
        }
    }

    /// Name and value of the first loss that is infinite or NaN; of the total if only that is.
    pub fn first_not_finite(&self) -> Option<(&'static str, f32)> {
        let mut named = self.iter().map(|(loss, value)| (loss.name(), value)).chain([(TOTAL, self.total)]);
        named.find(|(_, value)| !value.is_finite())
    }
}

/// As a map from names to values, the total first.
impl Serialize for Losses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.values.len()))?;
        map.serialize_entry(TOTAL, &self.total)?;
        for (loss, value) in self.iter() {
            map.serialize_entry(loss.name(), &value)?;
        }
        map.end()
    }
}

/// A loss that is missing came with a later version and is 0; unknown names are passed over.
impl<'de> Deserialize<'de> for Losses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LossesVisitor)
    }
}

struct LossesVisitor;

impl<'de> Visitor<'de> for LossesVisitor {
    type Value = Losses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "losses by their names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Losses, A::Error> {
        let (mut losses, mut total) = (Losses::default(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name == TOTAL {
                total = Some(map.next_value()?);
            } else if let Some(loss) = Loss::ALL.iter().find(|loss| loss.name() == name) {
                losses[*loss] = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        losses.total = total.ok_or_else(|| A::Error::missing_field(TOTAL))?;
        Ok(losses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_every_loss_and_older_json_is_read() {
        let mut losses = Losses { total: 1.5, ..Losses::default() };
        losses[Loss::Photometric] = -0.25;
        losses[Loss::Perceptual] = 2.0;
        let json = serde_json::to_string(&losses).unwrap();
        let start = r#"{"total":1.5,"depth":0.0,"photometric":-0.25,"photometric-flip":0.0,"smoothness":0.0,"perceptual":2.0,"#;
        assert!(json.starts_with(start), "{json}");
        assert!(Loss::ALL.iter().all(|loss| json.contains(&format!("\"{}\":", loss.name()))), "{json}");
        assert_eq!(serde_json::from_str::<Losses>(&json).unwrap(), losses);
        let older = r#"{"total":1.5,"photometric":-0.25,"perceptual":2.0,"of-tomorrow":[1]}"#;
        assert_eq!(serde_json::from_str::<Losses>(older).unwrap(), losses);
        assert!(
            serde_json::from_str::<Losses>("{}").unwrap_err().to_string().contains("missing field `total`")
        );
    }

    #[test]
    fn sums_hold_every_loss() {
        let mut one = Losses { total: 1.0, ..Losses::default() };
        for (place, loss) in (2u8..).zip(Loss::ALL) {
            one[*loss] = f32::from(place);
        }
        let mut sum = one;
        sum.add(&one, 2.0);
        assert_eq!(sum.total, 3.0);
        assert!(sum.iter().zip(one.iter()).all(|((_, sum), (_, one))| sum == 3.0 * one));
    }

    #[test]
    fn the_first_that_is_not_finite_is_named() {
        let mut losses = Losses::default();
        assert_eq!(losses.first_not_finite(), None);
        losses.total = f32::INFINITY;
        assert_eq!(losses.first_not_finite(), Some(("total", f32::INFINITY)));
        losses[Loss::PerceptualFlip] = f32::INFINITY;
        assert_eq!(losses.first_not_finite(), Some(("perceptual-flip", f32::INFINITY)));
    }
}
