//! The tensor: a shape, a device and a shared buffer.

use std::fmt;
use std::sync::Arc;

use crate::shape::Shape;
use crate::storage::Buffer;
use crate::tape::Node;
use crate::{Error, Result};

/// Where a tensor lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// Main memory; the work is shared by all cores.
    #[default]
    Cpu,
}

/// An array of f32, row-major, channels last (`[B,H,W,C]`). A clone shares the buffer; writing through
/// [`Tensor::data_mut`] copies it first if it is shared.
#[derive(Clone)]
pub struct Tensor {
    shape: Shape,
    buffer: Arc<Buffer>,
    pub(crate) node: Option<Node>,
}

impl Tensor {
    /// A tensor of the given elements.
    ///
    /// # Errors
    /// If their number is not that of the shape.
    pub fn new(elements: &[f32], shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if elements.len() != shape.elements() {
            let detail = format!("{} elements do not fill the shape {shape}", elements.len());
            return Err(Error::shape("tensor", detail));
        }
        let mut buffer = Buffer::scratch(elements.len());
        buffer.copy_from_slice(elements);
        Ok(Self::from_buffer(buffer, shape))
    }

    /// A tensor on top of a buffer of exactly as many elements as the shape has.
    pub fn from_buffer(buffer: Buffer, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert_eq!(buffer.len(), shape.elements(), "buffer and shape {shape} differ in size");
        Self { shape, buffer: Arc::new(buffer), node: None }
    }

    /// A tensor whose elements are whatever the pool's buffer held: for outputs that are written whole.
    pub fn scratch(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self::from_buffer(Buffer::scratch(shape.elements()), shape)
    }

    /// All zeros.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        Self::full(shape, 0.0)
    }

    /// Every element `value`.
    pub fn full(shape: impl Into<Shape>, value: f32) -> Self {
        let mut tensor = Self::scratch(shape);
        tensor.data_mut().fill(value);
        tensor
    }

    /// A tensor without axes.
    pub fn scalar(value: f32) -> Self {
        Self::full([], value)
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The extents as a fixed array, or an error in the name of `operation`.
    ///
    /// # Errors
    /// If the tensor has not `N` axes.
    pub fn axes<const N: usize>(&self, operation: &'static str) -> Result<[usize; N]> {
        self.shape.axes().ok_or_else(|| {
            Error::shape(operation, format!("needs a tensor of {N} axes, got the shape {}", self.shape))
        })
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Where the tensor lives.
    pub fn device(&self) -> Device {
        Device::Cpu
    }

    /// The elements in row-major order.
    pub fn data(&self) -> &[f32] {
        &self.buffer
    }

    /// The elements, to be written. Copies the buffer first if another tensor shares it, and forgets the tape:
    /// the operation that made the old elements did not make the new ones.
    pub fn data_mut(&mut self) -> &mut [f32] {
        self.node = None;
        if Arc::get_mut(&mut self.buffer).is_none() {
            let mut own = Buffer::scratch(self.buffer.len());
            own.copy_from_slice(&self.buffer);
            self.buffer = Arc::new(own);
        }
        Arc::get_mut(&mut self.buffer).expect("the buffer was made unique above")
    }

    /// The only element of a tensor that has just one.
    ///
    /// # Errors
    /// If it has more.
    pub fn item(&self) -> Result<f32> {
        match self.data() {
            [only] => Ok(*only),
            _ => Err(Error::shape("item", format!("needs one element, got the shape {}", self.shape))),
        }
    }

    /// The same elements, off the tape: no gradient flows through the result.
    pub fn detach(&self) -> Self {
        Self { node: None, ..self.clone() }
    }

    /// The same elements in another shape, off the tape (the recorded form is [`crate::ops::reshape()`]).
    pub(crate) fn with_shape(&self, shape: Shape) -> Self {
        debug_assert_eq!(shape.elements(), self.elements());
        Self { shape, node: None, ..self.clone() }
    }

    /// Whether a gradient can be asked for this tensor.
    pub fn is_recorded(&self) -> bool {
        self.node.is_some()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = &self.data()[..self.elements().min(4)];
        write!(f, "Tensor{} {head:?}", self.shape)?;
        if self.elements() > head.len() { write!(f, "..") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_to_a_shared_tensor_copies_it() {
        let mut a = Tensor::new(&[1.0, 2.0], [2]).unwrap();
        let b = a.clone();
        a.data_mut()[0] = 5.0;
        assert_eq!((a.data(), b.data()), (&[5.0, 2.0][..], &[1.0, 2.0][..]));
    }

    #[test]
    fn a_wrong_number_of_elements_is_refused() {
        let error = Tensor::new(&[1.0; 5], [2, 3]).unwrap_err().to_string();
        assert_eq!(error, "tensor: 5 elements do not fill the shape [2, 3]");
    }
}
