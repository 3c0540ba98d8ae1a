//! The state of the optimiser.

use relievo_model::Model;
use relievo_tensor::{Device, Tensor};

/// State that one step hands to the next besides the parameters: one tensor for each parameter.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Adam's running mean of the gradients.
    pub exp_avg: Vec<Tensor>,
    /// Adam's running mean of the squared gradients.
    pub exp_avg_sq: Vec<Tensor>,
    /// The running mean of the parameters themselves; empty if none is kept.
    pub ema: Vec<Tensor>,
}

impl Moments {
    /// The state before the first step, on the CPU.
    pub fn zeros(model: &Model) -> Self {
        Self::zeros_for(model.parameters())
    }

    /// The state before the first step of what has these parameters, on the CPU.
    pub(crate) fn zeros_for(parameters: &[Tensor]) -> Self {
        let zeros = || parameters.iter().map(|parameter| Tensor::zeros(parameter.shape())).collect();
        Self { exp_avg: zeros(), exp_avg_sq: zeros(), ema: Vec::new() }
    }

    /// Starts the running mean of the parameters from their present values, unless there is one; drops it unless it is to
    /// be kept. On the CPU.
    ///
    /// # Errors
    /// Those of [`Tensor::new`].
    pub fn keep_ema(&mut self, model: &Model, keep: bool) -> Result<(), relievo_tensor::Error> {
        if !keep {
            self.ema = Vec::new();
        } else if self.ema.is_empty() {
            // A clone would share the memory, and both are changed in place.
            let copy = |parameter: &Tensor| Tensor::new(parameter.data(), parameter.shape());
            self.ema = model.parameters().iter().map(copy).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    /// Calls `look` with the model whose weights are to be used: the running mean of the trained ones, if one is kept. All
    /// tensors keep their memory, so a captured step is not disturbed.
    pub(crate) fn with_weights_to_use<T>(&mut self, model: &mut Model, look: impl FnOnce(&Model) -> T) -> T {
        let has_average = !self.ema.is_empty();
        if has_average {
            model.parameters_mut().swap_with_slice(&mut self.ema);
        }
        let seen = look(model);
        if has_average {
            model.parameters_mut().swap_with_slice(&mut self.ema);
        }
        seen
    }

    /// Moves them to a device.
    ///
    /// # Errors
    /// If the device is missing or out of memory.
    pub fn to_device(&mut self, device: Device) -> Result<(), relievo_tensor::Error> {
        for moments in [&mut self.exp_avg, &mut self.exp_avg_sq, &mut self.ema] {
            *moments = moments.iter().map(|moment| moment.to_device(device)).collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}
