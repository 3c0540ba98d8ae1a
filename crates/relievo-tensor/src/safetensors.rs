//! The one reader of safetensors files: weights, checkpoints, reference tensors.
//!
//! ```
//! use relievo_tensor::safetensors::{Dtype, SafetensorsFile};
//!
//! let numbers: Vec<u8> = [1.0_f32, 2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
//! let bias = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &numbers)?;
//! let bytes = safetensors::serialize([("bias", bias)], None)?;
//! let file = SafetensorsFile::open(&bytes)?;
//! assert_eq!(file.tensor("bias", [2])?.data(), [1.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashMap;

pub use ::safetensors::Dtype;
use ::safetensors::SafeTensors;
use ::safetensors::tensor::TensorView;
use half::f16;

use crate::{Shape, Tensor};

/// Why a file or a tensor in it cannot be read; without the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A checkpoint of PyTorch, or another zip archive or pickle.
    #[error("it is {0}, not a safetensors file")]
    PyTorch(&'static str),
    /// Another kind of file, recognised by its first bytes.
    #[error("it is {0}, not a safetensors file")]
    OtherKind(&'static str),
    /// Not a safetensors file, or one that is cut off or altered.
    #[error("{0}; it may be cut off or of another kind")]
    Damaged(String),
    /// There is no tensor of this name.
    #[error("there is no tensor {0}")]
    Missing(String),
    /// A tensor of numbers of another type.
    #[error("{name} is {found}, not {expected}")]
    DataType {
        /// The tensor.
        name: String,
        /// The type it has.
        found: String,
        /// The types that can be read.
        expected: String,
    },
    /// A tensor of another shape.
    #[error("{name} has the shape {found:?}, not {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape it has.
        found: Vec<usize>,
        /// The shape it must have.
        expected: Vec<usize>,
    },
}

/// The two formats of PyTorch's checkpoints, by the first bytes of a file.
const PYTORCH: [(&[u8], &str); 5] = [
    (b"PK\x03\x04", "a PyTorch checkpoint or another zip archive"),
    (b"\x80\x02", "a PyTorch checkpoint of the old kind (a pickle)"),
    (b"\x80\x03", "a pickle of Python objects"),
    (b"\x80\x04", "a pickle of Python objects"),
    (b"\x80\x05", "a pickle of Python objects"),
];

/// What other programs keep weights in, by the first bytes of a file.
const OTHER_KINDS: [(&[u8], &str); 3] = [
    (b"\x89HDF\r\n", "an HDF5 file (Keras weights, perhaps)"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a NumPy array"),
];

/// An open file: its list of tensors, its metadata, and the bytes it was opened from.
#[derive(Debug)]
pub struct SafetensorsFile<'a> {
    file: SafeTensors<'a>,
    metadata: HashMap<String, String>,
    header: &'a [u8],
    content: &'a [u8],
}

impl<'a> SafetensorsFile<'a> {
    /// Reads the list of tensors and the metadata.
    ///
    /// # Errors
    /// If the bytes are not a safetensors file, or one that is cut off.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let damaged = |error: ::safetensors::SafeTensorError| {
            // The length of the header comes first: eight bytes that make sense, or a file of another kind.
            let kind = |kinds: &[(&[u8], &'static str)]| {
                kinds.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, kind)| *kind)
            };
            let pytorch = kind(&PYTORCH).map(ReadError::PyTorch);
            let other = pytorch.or_else(|| kind(&OTHER_KINDS).map(ReadError::OtherKind));
            other.unwrap_or_else(|| ReadError::Damaged(error.to_string()))
        };
        let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        let (header, content) = bytes[size_of::<u64>()..].split_at(header);
        Ok(Self { file, metadata, header, content })
    }

    /// A note in the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// All notes in the file's metadata, by their keys.
    pub fn into_metadata(self) -> HashMap<String, String> {
        self.metadata
    }

    /// The bytes of the header behind its length: names, types, shapes, metadata.
    pub fn header(&self) -> &'a [u8] {
        self.header
    }

    /// The bytes of all tensors, as they lie in the file behind its header.
    pub fn content(&self) -> &'a [u8] {
        self.content
    }

    /// The names of all tensors, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.file.names().into_iter()
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_ok()
    }

    /// The numbers and the shape of a tensor in f16 or f32.
    ///
    /// # Errors
    /// If there is none, or it has another type.
    pub fn numbers(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>), ReadError> {
        let view = self.view(name)?;
        let numbers = match view.dtype() {
            Dtype::F16 => {
                view.data().as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            other => return Err(wrong_type(name, other, "F16 or F32")),
        };
        Ok((numbers, view.shape().to_vec()))
    }

    /// The bytes and the shape of a tensor of the given type.
    ///
    /// # Errors
    /// If there is none, or it has another type.
    pub fn raw(&self, name: &str, data_type: Dtype) -> Result<(&'a [u8], Vec<usize>), ReadError> {
        let view = self.view(name)?;
        if view.dtype() != data_type {
            return Err(wrong_type(name, view.dtype(), &format!("{data_type:?}")));
        }
        Ok((view.data(), view.shape().to_vec()))
    }

    /// A tensor in f16 or f32, as f32 on the CPU.
    ///
    /// # Errors
    /// As [`SafetensorsFile::numbers`]; if its shape is not `shape`.
    pub fn tensor(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor, ReadError> {
        let (numbers, found) = self.numbers(name)?;
        let shape = shape.into();
        if found[..] != shape[..] {
            return Err(ReadError::Shape { name: name.to_owned(), found, expected: shape.to_vec() });
        }
        Tensor::new(&numbers, shape).map_err(|error| ReadError::Damaged(error.to_string()))
    }

    fn view(&self, name: &str) -> Result<TensorView<'a>, ReadError> {
        self.file.tensor(name).map_err(|_| ReadError::Missing(name.to_owned()))
    }
}

fn wrong_type(name: &str, found: Dtype, expected: &str) -> ReadError {
    ReadError::DataType { name: name.to_owned(), found: format!("{found:?}"), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, data_type: Dtype, bytes: &[u8]) -> Vec<u8> {
        let shape = vec![8 * bytes.len() / data_type.bitsize()];
        let view = TensorView::new(data_type, shape, bytes).unwrap();
        ::safetensors::serialize([(name, view)], Some([("key".to_owned(), "text".to_owned())].into()))
            .unwrap()
    }

    #[test]
    fn halves_and_floats_are_read_and_others_refused() {
        let half = file("x", Dtype::F16, &f16::from_f32(0.5).to_le_bytes());
        let half = SafetensorsFile::open(&half).unwrap();
        assert_eq!(half.tensor("x", [1]).unwrap().data(), [0.5]);
        assert_eq!((half.metadata("key"), half.metadata("other")), (Some("text"), None));
        assert_eq!(
            (half.names().collect::<Vec<_>>(), half.has("x"), half.has("y")),
            (vec!["x"], true, false)
        );
        assert_eq!(half.content(), f16::from_f32(0.5).to_le_bytes());
        let integers = file("x", Dtype::I8, &[1, 2]);
        let integers = SafetensorsFile::open(&integers).unwrap();
        assert_eq!(integers.raw("x", Dtype::I8).unwrap(), (&[1, 2][..], vec![2]));
        let message = |result: Result<Tensor, ReadError>| result.err().unwrap().to_string();
        assert_eq!(message(integers.tensor("x", [2])), "x is I8, not F16 or F32");
        assert_eq!(message(half.tensor("y", [1])), "there is no tensor y");
        assert_eq!(message(half.tensor("x", [2])), "x has the shape [1], not [2]");
        assert_eq!(half.raw("x", Dtype::F32).unwrap_err().to_string(), "x is F16, not F32");
    }

    #[test]
    fn other_kinds_of_files_are_named() {
        let message = |bytes: &[u8]| SafetensorsFile::open(bytes).unwrap_err().to_string();
        let pytorch = message(b"PK\x03\x04\x14\0\0\0\0\0 archive/data.pkl");
        assert_eq!(pytorch, "it is a PyTorch checkpoint or another zip archive, not a safetensors file");
        assert!(message(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P").contains("a pickle"));
        let whole = file("x", Dtype::F32, &[0; 4]);
        for cut in [0, 7, 20, whole.len() - 1] {
            assert!(message(&whole[..cut]).ends_with("it may be cut off or of another kind"));
        }
    }
}
