//! The optimiser of all tasks.

use relievo_tensor::ops::AdamStep;
use relievo_tensor::{Device, Error, Result, Tape, Tensor};

use crate::cuda;

/// Numbers of the optimiser, Adam (Kingma and Ba 2015).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitSettings {
    /// The learning rate: how far a parameter moves in a step, about.
    pub learning_rate: f64,
    /// The decay rates of the moments.
    pub betas: [f64; 2],
}

impl Default for FitSettings {
    /// Those of the published examples, but for the learning rate, which each task has.
    fn default() -> Self {
        Self { learning_rate: 1e-3, betas: [0.9, 0.999] }
    }
}

/// Parameters on their way to a minimum.
#[derive(Debug)]
pub struct Fit {
    parameters: Vec<Tensor>,
    moments: [Vec<Tensor>; 2],
    settings: AdamStep,
}

/// What a callback hears after every step.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The number of the step, from 1.
    pub number: u64,
    /// The loss before the step.
    pub loss: f32,
    /// The parameters behind it.
    pub parameters: &'a [Tensor],
}

impl Fit {
    /// An optimiser of these parameters.
    ///
    /// # Errors
    /// If moments cannot be allocated on a GPU.
    pub fn new(parameters: Vec<Tensor>, settings: FitSettings) -> Result<Self> {
        let zeros = || parameters.iter().map(Tensor::zeros_like).collect::<Result<Vec<_>>>();
        let moments = [zeros()?, zeros()?];
        let FitSettings { learning_rate, betas } = settings;
        let settings = AdamStep { learning_rate, betas, step: 0, ..AdamStep::default() };
        Ok(Self { parameters, moments, settings })
    }

    /// One step: `loss` (a scalar, of the parameters on a tape) is differentiated and followed downhill. Gives the loss
    /// before the step. Parameters on which it does not depend stay.
    ///
    /// # Errors
    /// Those of `loss`; if it is not a scalar.
    pub fn step(&mut self, loss: impl FnOnce(&[Tensor]) -> Result<Tensor>) -> Result<f32> {
        let tape = Tape::new();
        let watched: Vec<Tensor> = self.parameters.iter().map(|parameter| tape.watch(parameter)).collect();
        let loss = loss(&watched)?;
        let value = loss.item()?;
        let mut found = if loss.is_recorded() { Some(tape.backward(&loss)?) } else { None };
        let gradient = |parameter: &Tensor| match found.as_mut().and_then(|found| found.take(parameter)) {
            Some(gradient) => Ok(gradient),
            None => parameter.zeros_like(),
        };
        let gradients = watched.iter().map(gradient).collect::<Result<Vec<_>>>()?;
        // The tape shares the parameters' buffers; without it they are updated in place.
        drop((loss, watched, found, tape));
        self.settings.step += 1;
        let [first, second] = &mut self.moments;
        self.settings.apply(&mut self.parameters, &gradients, first, second)?;
        Ok(value)
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.settings.learning_rate
    }

    /// Changes the learning rate of the steps to come.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.settings.learning_rate = learning_rate;
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// Keeps the numbers of a parameter in `low..=high`.
    ///
    /// # Errors
    /// If there is no parameter of that index, or the device fails.
    pub fn clamp(&mut self, index: usize, low: f32, high: f32) -> Result<()> {
        let count = self.parameters.len();
        let Some(parameter) = self.parameters.get_mut(index) else {
            return Err(Error::shape("fit", format!("parameter {index} of {count}")));
        };
        match parameter.device() {
            Device::Cpu => parameter.data_mut().iter_mut().for_each(|x| *x = x.max(low).min(high)),
            Device::Cuda(_) => cuda::clamp(parameter, low, high)?,
        }
        Ok(())
    }

    /// Steps that are done.
    pub fn steps(&self) -> u64 {
        self.settings.step
    }
}

#[cfg(test)]
mod tests {
    use relievo_tensor::ops::weighted_elements_sum;

    use super::*;

    #[test]
    fn the_first_step_is_as_long_as_the_learning_rate() {
        let mut fit = Fit::new(
            vec![Tensor::zeros([2]), Tensor::full([1], 5.0)],
            FitSettings { learning_rate: 0.25, ..FitSettings::default() },
        )
        .unwrap();
        let loss = fit.step(|parameters| weighted_elements_sum(&parameters[0], &[3.0, -7.0])).unwrap();
        assert_eq!(loss, 0.0);
        let moved = fit.parameters()[0].data();
        assert!((moved[0] + 0.25).abs() < 1e-6 && (moved[1] - 0.25).abs() < 1e-6, "{moved:?}");
        assert_eq!((fit.parameters()[1].data(), fit.steps()), (&[5.0][..], 1));
        fit.clamp(0, -0.125, 0.0625).unwrap();
        assert_eq!(fit.parameters()[0].data(), [-0.125, 0.0625]);
        assert!(fit.clamp(2, 0.0, 1.0).is_err());
    }
}
