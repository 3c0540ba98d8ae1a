//! The one reader of safetensors files (weights, checkpoints, reference tensors), and their one writer but for checkpoints,
//! which are written in pieces.
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

use std::collections::{BTreeMap, HashMap};

pub use ::safetensors::Dtype;
use ::safetensors::SafeTensors;
use ::safetensors::tensor::TensorView;
use half::f16;
use half::slice::HalfFloatSliceExt as _;

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

    /// The numbers and the shape of a tensor in f16, f32, or in integers of 8 bits ([`quantise`]).
    ///
    /// # Errors
    /// If there is none, it has another type, or integers lack their scales.
    pub fn numbers(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>), ReadError> {
        let view = self.view(name)?;
        let numbers = match view.dtype() {
            Dtype::F16 => {
                let halves = view.data().as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b));
                // All at once: by instructions of the processor that convert eight.
                halves.collect::<Vec<f16>>().to_f32_vec()
            }
            Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::I8 => self.scaled(name, &view)?,
            other => return Err(wrong_type(name, other, "F16, F32 or I8")),
        };
        Ok((numbers, view.shape().to_vec()))
    }

    /// Integers times the scale of their channel.
    fn scaled(&self, name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, ReadError> {
        let scales_name = format!("{name}{SCALES}");
        let scales = self.view(&scales_name)?;
        let channels = view.shape().first().copied().unwrap_or(1);
        if scales.dtype() != Dtype::F32 {
            return Err(wrong_type(&scales_name, scales.dtype(), "F32"));
        }
        if scales.shape() != [channels] {
            let (found, expected) = (scales.shape().to_vec(), vec![channels]);
            return Err(ReadError::Shape { name: scales_name, found, expected });
        }
        let scales = scales.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let of_channel = (view.data().len() / channels.max(1)).max(1);
        let mut numbers = Vec::with_capacity(view.data().len());
        // A loop for each channel, of a length that is known, which compilers vectorise.
        for (bytes, scale) in view.data().chunks(of_channel).zip(scales) {
            numbers.extend(bytes.iter().map(|byte| f32::from(i8::from_le_bytes([*byte])) * scale));
        }
        Ok(numbers)
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

    /// A tensor as f32 on the CPU.
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

/// What the name of a tensor of scales has behind the name of the integers that they scale.
const SCALES: &str = ".scale";

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name; distinct in a file.
    pub name: String,
    /// The type of its numbers.
    pub data_type: Dtype,
    /// Its extents.
    pub shape: Vec<usize>,
    /// Its numbers, little-endian.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// A tensor in f32.
    pub fn f32(name: impl Into<String>, shape: &[usize], numbers: &[f32]) -> Self {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Self { name: name.into(), data_type: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// A tensor in f16.
    pub fn f16(name: impl Into<String>, shape: &[usize], numbers: &[f32]) -> Self {
        let bytes = numbers.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes()).collect();
        Self { name: name.into(), data_type: Dtype::F16, shape: shape.to_vec(), bytes }
    }
}

/// A tensor in integers of 8 bits, and their scales: number = integer * scale of its channel, with the channels along the
/// first axis and the largest of a channel at 127. Numbers are off by at most half a scale.
/// [`SafetensorsFile::numbers`] reads them.
pub fn quantise(name: &str, shape: &[usize], numbers: &[f32]) -> [Entry; 2] {
    let channels = shape.first().copied().unwrap_or(1);
    let of_channel = (numbers.len() / channels.max(1)).max(1);
    let scale = |channel: &[f32]| channel.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 127.0;
    let scales: Vec<f32> = numbers.chunks(of_channel).map(scale).collect();
    let integers = numbers.chunks(of_channel).zip(&scales).flat_map(|(channel, &scale)| {
        // A channel of zeros has no scale.
        let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
        channel.iter().map(move |x| ((x * inverse).round().clamp(-127.0, 127.0) as i8).to_le_bytes()[0])
    });
    let bytes = integers.collect();
    [
        Entry { name: name.to_owned(), data_type: Dtype::I8, shape: shape.to_vec(), bytes },
        Entry::f32(format!("{name}{SCALES}"), &[channels], &scales),
    ]
}

/// A safetensors file of the tensors and notes. The same content gives the same bytes: the header is sorted by name.
///
/// # Errors
/// If two tensors have one name, or bytes do not fit a shape.
pub fn serialize<'a>(
    tensors: &'a [Entry],
    notes: HashMap<String, String>,
) -> Result<Vec<u8>, ::safetensors::SafeTensorError> {
    let view = |entry: &'a Entry| -> Result<_, ::safetensors::SafeTensorError> {
        Ok((&*entry.name, TensorView::new(entry.data_type, entry.shape.clone(), &entry.bytes)?))
    };
    let views = tensors.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let notes = (!notes.is_empty()).then_some(notes);
    let file = ::safetensors::serialize(views, notes)?;
    let (length, rest) = file.split_at(size_of::<u64>());
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
    let (header, content) = rest.split_at(length);
    // These maps are sorted, those of the crate are not. Offsets count from the end of the header, so they stay.
    type Header = BTreeMap<String, BTreeMap<String, serde_json::Value>>;
    let header: Header = serde_json::from_slice(header).expect("the crate writes JSON");
    let mut header = serde_json::to_vec(&header).expect("it was read from JSON");
    header.resize(header.len().next_multiple_of(size_of::<u64>()), b' ');
    Ok([&(header.len() as u64).to_le_bytes(), &header[..], content].concat())
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
        assert_eq!(message(integers.tensor("x", [2])), "there is no tensor x.scale");
        let doubles = file("x", Dtype::F64, &[0; 8]);
        let doubles = SafetensorsFile::open(&doubles).unwrap();
        assert_eq!(message(doubles.tensor("x", [1])), "x is F64, not F16, F32 or I8");
        assert_eq!(message(half.tensor("y", [1])), "there is no tensor y");
        assert_eq!(message(half.tensor("x", [2])), "x has the shape [1], not [2]");
        assert_eq!(half.raw("x", Dtype::F32).unwrap_err().to_string(), "x is F16, not F32");
    }

    #[test]
    fn quantised_numbers_are_off_by_half_a_step_of_their_channel() {
        let numbers = [1.0, -127.0, 0.4, 0.0, 0.0, 0.0, 1e-6, -2e-6, 3e-6];
        let file = serialize(&quantise("x", &[3, 3], &numbers), HashMap::new()).unwrap();
        let file = SafetensorsFile::open(&file).unwrap();
        let again = file.tensor("x", [3, 3]).unwrap();
        assert_eq!(again.data()[..6], [1.0, -127.0, 0.0, 0.0, 0.0, 0.0]);
        for (x, y) in numbers[6..].iter().zip(&again.data()[6..]) {
            assert!((x - y).abs() <= 0.5 * 3e-6 / 127.0 + 1e-12, "{x} {y}");
        }
        let [integers, mut scales] = quantise("x", &[3, 3], &numbers);
        scales.shape = vec![1, 3];
        let wrong = serialize(&[integers, scales], HashMap::new()).unwrap();
        let refusal = SafetensorsFile::open(&wrong).unwrap().numbers("x").unwrap_err();
        assert_eq!(refusal.to_string(), "x.scale has the shape [1, 3], not [3]");
        assert!(quantise("none", &[0, 4], &[])[0].bytes.is_empty());
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let notes = || ('a'..='z').map(|c| (c.to_string(), "text".to_owned())).collect();
        let tensors = ["b", "a", "c"].map(|name| Entry::f16(name, &[2], &[0.5, 1.0]));
        let file = serialize(&tensors, notes()).unwrap();
        // Maps of the standard library have another order each time.
        assert!((0..4).all(|_| serialize(&tensors, notes()).unwrap() == file));
        let read = SafetensorsFile::open(&file).unwrap();
        assert_eq!(
            (read.tensor("c", [2]).unwrap().data(), read.metadata("z")),
            (&[0.5, 1.0][..], Some("text"))
        );
        assert!(serialize(&[Entry { shape: vec![3], ..tensors[0].clone() }], notes()).is_err());
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
