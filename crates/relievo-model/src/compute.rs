//! Where a model computes, and how precisely.

use std::fmt;
use std::str::FromStr;

use relievo_settings::{choices, setting_from_text, settings};
use relievo_tensor::{ConvPolicy, DataType, Device, Error, cuda};
use serde::{Deserialize, Serialize};

use crate::model::{Model, ModelError};

settings! {
    /// The settings of where and how to compute. They change how long it takes and the last digits, not what is
    /// computed.
    #[derive(Copy, Eq)]
    pub struct ComputeSettings {
        /// Where to compute: cpu, cuda:0, cuda:1, ..., or auto: the first GPU if it can be used, else the CPU
        device: DeviceChoice = DeviceChoice::default(), kind(Free);
        /// How a GPU computes the networks; a CPU always takes f32
        precision: Precision = Precision::Bf16, kind(Schedule);
        /// Give the same bits in every run on a GPU, as a CPU does anyway
        deterministic: bool = false, kind(Free);
    }
}

/// A device, or the choice of one. The CPU where nothing is said: the way through a GPU has been tested on an emulator
/// only, and nobody should take it without knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU if it can be used, else the CPU.
    Auto,
    /// This one.
    Only(Device),
}

choices! {
    /// How a GPU computes the networks. Geometry, losses and the optimiser are f32 in any case.
    #[derive(Default)]
    pub enum Precision {
        /// Stores activations as bf16 and adds up in f32
        #[default]
        Bf16,
        /// Stores f32, multiplies with 10 bits of mantissa
        Tf32,
        /// Stores and multiplies f32
        F32,
    }
}

setting_from_text!(DeviceChoice);

impl Default for DeviceChoice {
    fn default() -> Self {
        Self::Only(Device::Cpu)
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Only(device) => write!(f, "{device}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Only).map_err(|_| format!("{text} is none of auto, cpu, cuda:0, cuda:1, ..."))
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl ComputeSettings {
    /// The device chosen.
    ///
    /// # Errors
    /// If one was asked for that cannot be used.
    pub fn device(&self) -> Result<Device, Error> {
        match self.device {
            DeviceChoice::Auto => Ok(Device::best()),
            DeviceChoice::Only(Device::Cpu) => Ok(Device::Cpu),
            DeviceChoice::Only(Device::Cuda(ordinal)) => {
                cuda::check(ordinal)?;
                Ok(Device::Cuda(ordinal))
            }
        }
    }

    /// How exactly a GPU computes convolutions.
    pub fn conv_policy(&self) -> ConvPolicy {
        ConvPolicy { tf32: self.precision == Precision::Tf32, deterministic: self.deterministic }
    }

    /// Moves the model to the device chosen, in the precision chosen. Other models keep theirs.
    ///
    /// # Errors
    /// If the device cannot be used or is out of memory.
    pub fn place(&self, model: &mut Model) -> Result<Device, ModelError> {
        let device = self.device()?;
        model.set_conv_policy(self.conv_policy());
        let is_half = self.precision == Precision::Bf16 && device != Device::Cpu;
        model.to_device(device, if is_half { DataType::Bf16 } else { DataType::F32 })?;
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_chosen_by_name() {
        for name in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        let refusal = "gpu".parse::<DeviceChoice>().unwrap_err();
        assert_eq!(refusal, "gpu is none of auto, cpu, cuda:0, cuda:1, ...");
    }
}
