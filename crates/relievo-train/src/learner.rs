//! A model that learns, with the optimiser's state, wherever its steps are directed from.

use relievo_model::Model;

use crate::captured::CapturedStep;
use crate::optimiser::Moments;

/// A model that learns, with Adam's state.
pub(crate) enum Learner {
    /// The host directs each step.
    Host { model: Box<Model>, moments: Moments },
    /// Steps are captured and replayed on a GPU.
    Captured(Box<CapturedStep>),
}

impl Learner {
    pub fn model(&self) -> &Model {
        match self {
            Self::Host { model, .. } => model,
            Self::Captured(captured) => captured.model(),
        }
    }

    pub fn moments(&self) -> &Moments {
        match self {
            Self::Host { moments, .. } => moments,
            Self::Captured(captured) => captured.moments(),
        }
    }

    /// Calls `look` with the model whose weights are to be used: the running mean of the trained ones, if one is kept.
    pub fn with_weights_to_use<T>(&mut self, look: impl FnOnce(&Model) -> T) -> T {
        match self {
            Self::Host { model, moments } => moments.with_weights_to_use(model, look),
            Self::Captured(captured) => captured.with_weights_to_use(look),
        }
    }
}
