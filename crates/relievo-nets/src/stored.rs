//! Weights in files: safetensors in f16 or f32.

use half::f16;
use relievo_tensor::Tensor;
use safetensors::{Dtype, SafeTensors};

/// An open file of weights. Errors are sentences for a person, without the file's name.
pub struct StoredWeights<'a>(SafeTensors<'a>);

impl<'a> StoredWeights<'a> {
    /// Reads the list of what is there.
    ///
    /// # Errors
    /// If the bytes are no safetensors file, or cut short.
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        SafeTensors::deserialize(bytes).map(Self).map_err(|error| error.to_string())
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_ok()
    }

    /// The numbers and the shape of a tensor.
    ///
    /// # Errors
    /// If it is not there, or neither f16 nor f32.
    pub fn numbers(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>), String> {
        let view = self.0.tensor(name).map_err(|error| error.to_string())?;
        let numbers = match view.dtype() {
            Dtype::F16 => {
                view.data().as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            other => return Err(format!("{name} is {other:?}, neither F16 nor F32")),
        };
        Ok((numbers, view.shape().to_vec()))
    }

    /// A tensor that must have the given shape.
    ///
    /// # Errors
    /// As [`StoredWeights::numbers`]; if its shape is another one.
    pub fn tensor<const N: usize>(&self, name: &str, shape: [usize; N]) -> Result<Tensor, String> {
        let (numbers, found) = self.numbers(name)?;
        if found != shape {
            return Err(format!("{name} has the shape {found:?}, not {shape:?}"));
        }
        Tensor::new(&numbers, shape).map_err(|error| error.to_string())
    }
}
