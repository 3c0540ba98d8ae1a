//! Gradients against central differences, as a whole and element by element.

use super::random_tensor;
use crate::{Result, Shape, Tape, Tensor};

/// How far the gradient of an input may be from central differences.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// The 2-norm of `gradient - difference`, relative to that of the differences: what rounding adds up to.
    pub norm: f64,
    /// `|gradient - difference| / (|difference| + root mean square of the differences)` of the worst element: what the
    /// norm does not see if a few elements of many are wrong. Relative for large elements; for small ones in units of a
    /// typical one, because rounding in the output is the same for all of them.
    pub element: f64,
}

/// An element whose gradient is further from its central difference than all others.
struct Worst {
    index: usize,
    gradient: f32,
    difference: f64,
    off: f64,
}

/// Asserts that the gradient of every input is within `tolerance` of central differences, and prints how far it is.
///
/// The function differentiated is the sum of the output's elements times fixed random numbers. `step` should be a
/// power of two, so that moving an input rounds nothing. Where the output has a kink between the ends of a step,
/// the difference is not the gradient: choose inputs that are away from kinks.
///
/// # Panics
/// If a gradient is further off (the message names the worst element) or the operation fails.
pub fn assert_gradients(
    inputs: &[Tensor],
    step: f32,
    tolerance: Tolerance,
    operation: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let compared = compare(inputs, step, operation).unwrap_or_else(|error| panic!("{error}"));
    for (input, (gradient, differences)) in compared.iter().enumerate() {
        let off = super::distance(gradient.data(), differences);
        let worst = worst_element(gradient.data(), differences);
        let message = format!(
            "the gradient of input {input} is off by {off:.1e} in norm, by {:.1e} at {:?} ({:e} instead of {:e})",
            worst.off,
            coordinates(gradient.shape(), worst.index),
            worst.gradient,
            worst.difference,
        );
        println!("{message}");
        // Written so that NaN fails.
        assert!(off <= tolerance.norm && worst.off <= tolerance.element, "{message}, {tolerance:?}");
    }
}

/// For every input, its gradient and the central differences.
fn compare(
    inputs: &[Tensor],
    step: f32,
    operation: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<(Tensor, Vec<f64>)>> {
    let tape = Tape::new();
    let variables: Vec<Tensor> = inputs.iter().map(|input| tape.watch(input)).collect();
    let output = operation(&variables)?;
    let factors = random_tensor(0x5eed, [output.numel()]).with_shape(output.shape());
    let mut gradients = tape.backward_from(&[(&output, factors.clone())])?;
    let objective = |inputs: &[Tensor]| -> Result<f64> {
        let output = operation(inputs)?;
        Ok(output.data().iter().zip(factors.data()).map(|(y, f)| f64::from(*y) * f64::from(*f)).sum())
    };
    let mut moved = inputs.to_vec();
    let mut compared = Vec::with_capacity(inputs.len());
    for (index, variable) in variables.iter().enumerate() {
        let mut differences = Vec::with_capacity(variable.numel());
        for element in 0..variable.numel() {
            let middle = inputs[index].data()[element];
            let mut at = |value: f32| {
                moved[index].data_mut()[element] = value;
                objective(&moved)
            };
            let difference = at(middle + step)? - at(middle - step)?;
            at(middle)?;
            differences.push(difference / (2.0 * f64::from(step)));
        }
        let gradient = gradients.take(variable).unwrap_or_else(|| Tensor::zeros(variable.shape()));
        compared.push((gradient, differences));
    }
    Ok(compared)
}

/// The element that is off most, as [`Tolerance::element`] has it; one that is not a number is worse than all others.
fn worst_element(gradient: &[f32], differences: &[f64]) -> Worst {
    let mean_square = differences.iter().map(|d| d * d).sum::<f64>() / differences.len().max(1) as f64;
    // All differences may be zero: the deviation is absolute then.
    let typical = if mean_square > 0.0 { mean_square.sqrt() } else { 1.0 };
    let deviations = gradient.iter().zip(differences).enumerate().map(|(index, (gradient, difference))| {
        let off = (f64::from(*gradient) - difference).abs() / (difference.abs() + typical);
        let off = if off.is_nan() { f64::INFINITY } else { off };
        Worst { index, gradient: *gradient, difference: *difference, off }
    });
    let none = Worst { index: 0, gradient: 0.0, difference: 0.0, off: 0.0 };
    deviations.max_by(|a, b| a.off.total_cmp(&b.off)).unwrap_or(none)
}

/// The place of element `index` along each axis.
fn coordinates(shape: Shape, mut index: usize) -> Vec<usize> {
    let mut places = Vec::with_capacity(shape.len());
    for extent in shape.iter().rev() {
        places.push(index % extent);
        index /= extent;
    }
    places.reverse();
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backward, Context, Operation, apply_one};

    /// y = x, with a gradient that is wrong at one element.
    struct Wrong {
        at: usize,
        by: f32,
    }

    impl Operation for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }
        fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
            Ok(vec![inputs[0].detach()])
        }
        fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
            let mut gradient = backward.gradient().clone();
            gradient.data_mut()[self.at] += self.by;
            Ok(vec![Some(gradient)])
        }
    }

    fn check(by: f32) {
        let tolerance = Tolerance { norm: 1e-2, element: 1e-2 };
        let x = [random_tensor(1, [50, 60])];
        assert_gradients(&x, 1.0 / 64.0, tolerance, |x| apply_one(Wrong { at: 2601, by }, &[&x[0]]));
    }

    #[test]
    fn a_right_gradient_passes() {
        check(0.0);
    }

    /// One wrong element of three thousand: 6e-3 of the norm, which alone would pass.
    #[test]
    #[should_panic(expected = "at [43, 21]")]
    fn one_wrong_element_of_many_is_found() {
        check(0.2);
    }

    #[test]
    #[should_panic(expected = "at [43, 21]")]
    fn a_gradient_that_is_not_a_number_fails() {
        check(f32::NAN);
    }
}
