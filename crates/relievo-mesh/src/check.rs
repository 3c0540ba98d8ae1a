//! What the operations of this crate demand of their inputs.

use relievo_tensor::{DataType, Error, Result, Tensor};

/// Checks that the inputs are f32: the renderer has no other kernels.
pub(crate) fn floats(operation: &'static str, inputs: &[&Tensor]) -> Result<()> {
    match inputs.iter().find(|input| input.data_type() != DataType::F32) {
        Some(other) => {
            let detail = format!("needs f32, got {:?} of shape {}", other.data_type(), other.shape());
            Err(Error::shape(operation, detail))
        }
        None => Ok(()),
    }
}

/// Checks that `input` has the given extents.
pub(crate) fn shape(operation: &'static str, what: &str, input: &Tensor, shape: &[usize]) -> Result<()> {
    floats(operation, &[input])?;
    if input.shape()[..] != *shape {
        return Err(Error::shape(operation, format!("{what} must be {shape:?}, not {}", input.shape())));
    }
    Ok(())
}

/// The length of a list of vectors `[n, 3]`.
pub(crate) fn vectors(operation: &'static str, what: &str, input: &Tensor) -> Result<usize> {
    floats(operation, &[input])?;
    match input.shape()[..] {
        [count, 3] => Ok(count),
        _ => Err(Error::shape(operation, format!("{what} must be [n, 3], not {}", input.shape()))),
    }
}

/// The vectors of a tensor `[n, 3]`.
pub(crate) fn as_vectors(tensor: &Tensor) -> &[[f32; 3]] {
    tensor.data().as_chunks().0
}

/// The vector of a tensor `[3]`.
pub(crate) fn as_vector(tensor: &Tensor) -> [f32; 3] {
    let data = tensor.data();
    [data[0], data[1], data[2]]
}

/// The matrix of a tensor `[3, 3]`.
pub(crate) fn as_matrix(tensor: &Tensor) -> [[f32; 3]; 3] {
    let data = tensor.data();
    std::array::from_fn(|row| std::array::from_fn(|column| data[3 * row + column]))
}

/// A tensor `[3]` of sums in f64.
pub(crate) fn vector_of(sums: [f64; 3]) -> Tensor {
    matrix_of(&sums, &[3])
}

/// A tensor of sums in f64.
pub(crate) fn matrix_of(sums: &[f64], shape: &[usize]) -> Tensor {
    let mut tensor = Tensor::empty(shape);
    tensor.data_mut().iter_mut().zip(sums).for_each(|(to, sum)| *to = *sum as f32);
    tensor
}
