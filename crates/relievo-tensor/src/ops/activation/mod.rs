//! The activations that other operations end in.

/// A function applied to each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`; the derivative at 0 is 0.
    Relu,
    /// `x` above zero, `0.2 x` below; the derivative at 0 is 0.2.
    LeakyRelu,
}
